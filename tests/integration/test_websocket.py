# SPDX-License-Identifier: Apache-2.0
"""WebSockets on /registry, by Debian's client, through servers and agents; and
streams through agents."""

import contextlib
import json
import socket
import time

import pytest
import websocket

from cluster import Cluster, eventually
from test_agents import make_agent


def body(name, ident, port=80):
    return {"name": name, "version": "1", "metadata": None, "endpoints": None,
            "nodes": [{"id": ident, "address": f"10.1.1.1:{port}",
                       "metadata": {"zone": "a"}}]}


def register(server, name, ident, port=80):
    answer = server.request("POST", "/registry", json.dumps(body(name, ident, port)))
    assert answer.status == 200, answer


def deregister(server, name, ident):
    answer = server.request("DELETE", "/registry", json.dumps(body(name, ident)))
    assert answer.status == 200, answer


@contextlib.contextmanager
def watcher(server, query="", timeout=20):
    ws = websocket.create_connection(f"ws://{server.address}:8500/registry{query}",
                                     timeout=timeout)
    try:
        yield ws
    finally:
        ws.close(timeout=1)


def result(ws):
    """(action, service, node) of the next message."""
    message = json.loads(ws.recv())
    assert set(message) == {"Action", "Service"}
    service = message["Service"]
    assert len(service["nodes"]) == 1
    return message["Action"], service["name"], service["nodes"][0]["id"]


@pytest.fixture(scope="module")
def agent(shared):
    made = make_agent(shared)
    made.start()
    eventually(lambda: made.request("GET", "/v1/status/leader").status == 200,
               "the agent has a server")
    yield made
    made.kill()


@pytest.fixture(params=["server", "agent"])
def door(request, shared):
    """Who is asked."""
    return shared[1] if request.param == "server" else \
        request.getfixturevalue("agent")


# ------------------------------------------------------------- watching

def test_a_watcher_hears_of_every_change(shared, door):
    name = f"ws-{door.name}"
    register(shared[0], name, "n1")
    with watcher(door, f"?service={name}") as ws:
        assert result(ws) == ("create", name, "n1")
        register(shared[0], name, "n2")
        assert result(ws) == ("create", name, "n2")
        register(shared[2], name, "n2", port=81)
        assert result(ws) == ("update", name, "n2")
        deregister(shared[1], name, "n1")
        assert result(ws) == ("delete", name, "n1")


def test_pings_of_both_sides_are_answered(door):
    with watcher(door, "?service=nobody") as ws:
        ws.ping("here?")
        opcode, frame = ws.recv_data_frame(control_frame=True)
        assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"here?")


def test_a_close_is_a_handshake(door):
    with watcher(door, "?service=nobody") as ws:
        ws.send_close(1000, b"enough")
        opcode, data = ws.recv_data(control_frame=True)
        assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe8")


def test_a_wrong_handshake_is_an_http_error(door):
    answer = door.request("GET", "/registry", headers={
        "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Version": "7"})
    assert answer.status == 426, answer


def test_many_watchers_hear_the_same(shared, door):
    name = f"many-{door.name}"
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(watcher(door, f"?service={name}"))
                       for _ in range(100)]
        for i in range(20):
            register(shared[i % 3], name, f"n{i}")
        for ws in all_of_them:
            assert [result(ws) for _ in range(20)] == \
                [("create", name, f"n{i}") for i in range(20)]


# ------------------------------------------------------------- faults

@pytest.fixture
def own(tmp_path):
    cluster = Cluster(str(tmp_path))
    cluster.wait_leader()
    yield cluster
    cluster.close()


def server_of(agent, cluster):
    """The server that the agent uses."""
    line = [x for x in agent.log_text().splitlines() if "using the server" in x][-1]
    address = line.rsplit(" ", 1)[1].rsplit(":", 1)[0]
    return next(s for s in cluster if s.address == address)


@pytest.fixture
def own_agent(own):
    made = make_agent(own)
    made.start()
    eventually(lambda: made.request("GET", "/v1/status/leader").status == 200,
               "the agent has a server")
    yield made
    made.kill()


def test_a_server_that_stops_says_goodbye(own):
    with watcher(own[0]) as ws:
        eventually(lambda: own[1].request("GET", "/registry").status == 200, "ready")
        own[0].terminate()
        opcode, data = ws.recv_data(control_frame=True)
        while opcode == websocket.ABNF.OPCODE_TEXT:
            opcode, data = ws.recv_data(control_frame=True)
        assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe9")


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_watcher_at_an_agent_does_not_notice_which_server_answers(own, own_agent, how):
    register(own[0], "stays", "n1")
    with watcher(own_agent, "?service=stays", timeout=40) as ws:
        assert result(ws) == ("create", "stays", "n1")
        gone = server_of(own_agent, own)
        getattr(gone, how)()
        rest = [s for s in own if s is not gone]
        own.wait_leader(among=rest)
        eventually(lambda: rest[0].request("POST", "/registry", json.dumps(
            body("stays", "n2"))).status == 200, "registered")
        assert result(ws) == ("create", "stays", "n2")
        if how == "pause":
            gone.resume()


def test_a_stream_through_an_agent_ends_with_its_server_and_is_resumed(own, own_agent):
    own[0].kv_put("s/1", "one")
    command = "/v1/watch/keyprefix/s/?progress=1s"
    with stream(own_agent, command) as first:
        lines = [next(first), next(first)]
        assert [x["action"] for x in lines] == ["create", "synced"]
        gone = server_of(own_agent, own)
        gone.kill()
        assert not [x for x in first if x["action"] != "progress"]
    rest = [s for s in own if s is not gone]
    own.wait_leader(among=rest)
    eventually(lambda: rest[0].request("PUT", "/v1/kv/s/2", "two").status == 200,
               "written")
    with stream(own_agent, f"{command}&index={lines[-1]['index']}") as second:
        line = next(x for x in second if x["action"] not in ("synced", "progress"))
        assert (line["action"], line["object"]["Key"]) == ("create", "s/2")


@contextlib.contextmanager
def stream(server, target):
    """The lines of a stream, until it ends in whatever way."""
    import http.client

    connection = http.client.HTTPConnection(server.address, 8500, timeout=30)
    connection.request("GET", target)
    answer = connection.getresponse()
    assert answer.status == 200

    def lines():
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            for line in answer:
                yield json.loads(line)
    try:
        yield lines()
    finally:
        connection.close()


# ------------------------------------------------------------- many

def test_watchers_that_stop_reading_neither_grow_anybody_nor_delay_others(shared, door):
    """Each would be owed 4 MB."""
    def resident():
        with open(f"/proc/{door.process.pid}/status", encoding="ascii") as f:
            return next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))

    name = f"slow-{door.name}"
    entry = body(name, "n1")
    entry["nodes"][0]["metadata"] = {"a": "p" * 4000, "b": "p" * 4000}
    small = ((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)
    url = f"ws://{door.address}:8500/registry?service={name}"
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            slow = websocket.create_connection(url, timeout=20, sockopt=small)
            stack.callback(slow.shutdown)
        for _ in range(60):
            slow = stack.enter_context(socket.socket())
            slow.setsockopt(*small[0])
            slow.connect((door.address, 8500))
            slow.sendall(f"GET /registry/watch?service={name} HTTP/1.1\r\n"
                         "Host: t\r\n\r\n".encode())
        with watcher(door, f"?service={name}") as good:
            before = resident()
            for i in range(500):
                entry["nodes"][0]["address"] = f"10.1.1.1:{1000 + i}"
                answer = shared[0].request("POST", "/registry", json.dumps(entry))
                assert answer.status == 200, answer
                service = json.loads(good.recv())["Service"]
                assert service["nodes"][0]["address"].endswith(f":{1000 + i}")
            # The agent keeps 64 KiB for each, a server what all of them share.
            assert resident() - before < 120 * 200


def test_hundreds_of_streams_through_an_agent_cost_little(shared, agent):
    def resident():
        with open(f"/proc/{agent.process.pid}/status", encoding="ascii") as f:
            return next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))

    before = resident()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(stream(agent, "/v1/watch/key/many?progress=60s"))
                   for _ in range(150)]
        for s in streams:
            assert next(s)["action"] == "synced"
        grown = resident() - before
        began = time.monotonic()
        shared[0].kv_put("many", "1")
        for s in streams:
            assert next(s)["action"] == "create"
        assert time.monotonic() - began < 5
        assert grown < 150 * 40, f"{grown} KiB for 150 streams"
