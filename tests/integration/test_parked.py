# SPDX-License-Identifier: Apache-2.0
"""Thousands that wait: answered by changes of their own answer and by nothing
else, bounded, and no burden to others."""

import contextlib
import itertools
import json
import os
import resource
import socket
import threading
import time

import pytest

from cluster import HTTP_PORT, Cluster, eventually

NOISE_S = 2.5
NOISE_PER_S = 100


class Waiting(threading.Thread):
    """One blocking query that begins at the present index of its answer."""

    def __init__(self, server, path):
        super().__init__(daemon=True)
        self.server = server
        self.path = path
        self.mark = "&" if "?" in path else "?"
        self.before = server.request("GET", path)
        self.answer = None
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            self.answer = self.server.request(
                "GET", f"{self.path}{self.mark}index={self.before.index}&wait=60s",
                timeout=70)


def gauge(server, name):
    gauges = server.get("/v1/agent/metrics")["Gauges"]
    return next(g["Value"] for g in gauges if g["Name"] == f"microreg.http_{name}")


def catalog(node, **more):
    return {"Node": node, "Address": "10.0.0.1", **more}


def instance(name, port):
    return {"Service": name, "ID": name, "Port": port}


def check(check_id, status, output="", service=""):
    return {"CheckID": check_id, "Name": check_id, "Status": status,
            "Output": output, "ServiceID": service}


def fill(server):
    """What is waited for, and its neighbours that change all the time."""
    for key in ("own/a", "own/dir/b", "other/a"):
        server.kv_put(key, "1")
    for node, service in (("own-node", "own"), ("other-node", "other")):
        server.put("/v1/catalog/register",
                   catalog(node, Service=instance(service, 1),
                           Check=check(f"c-{service}", "passing", "", service)))
    server.register("renewed", 80, Check={"TTL": "60s"})
    server.put("/v1/agent/check/pass/service:renewed")
    answer = server.put("/v1/session/create", {"Node": "own-node", "TTL": "3600s",
                                               "Checks": []})
    return answer.json["ID"]


def noise(server, ending):
    """Changes that concern nobody who waits here, one after the other."""
    same = catalog("own-node", Service=instance("own", 1),
                   Check=check("c-own", "passing", "", "own"))
    kinds = itertools.cycle((
        lambda n: server.kv_put(f"other/{n}", str(n)),
        lambda n: server.kv_put("own", str(n)),  # Before the prefix own/.
        lambda n: server.put("/v1/catalog/register", same),
        lambda n: server.put("/v1/catalog/register", catalog(
            "other-node", Service=instance("other", n))),
        lambda n: server.put("/v1/catalog/register", catalog(
            "other-node", Check=check("c-node", "passing", str(n)))),
        lambda n: server.put("/v1/agent/check/pass/service:renewed"),
        lambda n: server.request("DELETE", f"/v1/kv/other/{n - 6}"),
    ))
    n = 1
    while not ending.is_set():
        next(kinds)(n)
        n += 1
        ending.wait(1 / NOISE_PER_S)
    return n


# What is asked, and what changes its answer.
QUERIES = {
    "/v1/kv/own/a": lambda s: s.kv_put("own/a", "2"),
    "/v1/kv/own/none": lambda s: s.kv_put("own/none", "1"),
    "/v1/kv/own/?recurse": lambda s: s.kv_put("own/dir/b", "2"),
    "/v1/kv/own/none/?recurse": lambda s: s.kv_put("own/none/x", "1"),
    "/v1/kv/own-list/?keys": lambda s: s.kv_put("own-list/a", "1"),
    "/v1/catalog/nodes": lambda s: s.put(
        "/v1/catalog/register", catalog("third-node")),
    "/v1/catalog/services": lambda s: s.put(
        "/v1/catalog/register", catalog("third-node", Service=instance("third", 1))),
    "/v1/catalog/service/own": lambda s: s.put(
        "/v1/catalog/register", catalog("own-node", Service=instance("own", 2))),
    "/v1/catalog/node/own-node": lambda s: s.put(
        "/v1/catalog/register", catalog("own-node", Service=instance("more", 1))),
    "/v1/health/service/own": lambda s: s.put(
        "/v1/catalog/register",
        catalog("own-node", Check=check("c-own", "warning", "", "own"))),
    "/v1/health/service/own?passing": lambda s: s.put(
        "/v1/catalog/register",
        catalog("own-node", Check=check("c-own", "critical", "", "own"))),
    "/v1/health/node/own-node": lambda s: s.put(
        "/v1/catalog/register", catalog("own-node", Check=check("more", "passing"))),
    "/v1/health/checks/own": lambda s: s.put(
        "/v1/catalog/register",
        catalog("own-node", Check=check("c-own", "passing", "new", "own"))),
    "/v1/health/state/critical": lambda s: s.put(
        "/v1/catalog/register", catalog("other-node", Check=check("c", "critical"))),
    "/registry?service=own": lambda s: s.put(
        "/v1/catalog/register", catalog("own-node", Service=instance("own", 3))),
}


def test_a_blocking_query_is_answered_by_changes_of_its_answer_only(shared):
    server = shared.followers()[0]
    session = fill(server)
    queries = {**QUERIES, **dict.fromkeys(
        ("/v1/session/list", "/v1/session/node/own-node",
         f"/v1/session/info/{session}"),
        lambda s: s.put(f"/v1/session/destroy/{session}"))}
    ending = threading.Event()
    maker = threading.Thread(target=noise, args=(server, ending), daemon=True)
    waiting = {path: Waiting(server, path) for path in queries}
    maker.start()
    time.sleep(NOISE_S)  # As long as nothing may happen.
    early = {path: (w.before, w.answer) for path, w in waiting.items()
             if not w.is_alive()}
    assert not early, early
    for path, change in queries.items():
        change(server)
        waiting[path].join(10)
        answer = waiting[path].answer
        assert answer is not None, f"{path} was not told"
        assert answer.body != waiting[path].before.body, path
        assert answer.index > waiting[path].before.index, path
    ending.set()
    maker.join(10)
    assert not maker.is_alive()


def test_an_index_of_the_past_is_answered_and_one_of_the_future_waits(shared):
    server = shared[1]
    server.kv_put("index/a", "1")
    index = server.request("GET", "/v1/kv/index/a").index
    for past in ("0", "1", str(index - 1), ""):
        began = time.monotonic()
        answer = server.request("GET", f"/v1/kv/index/a?index={past}&wait=20s")
        assert answer.status == 200 and answer.index == index
        assert time.monotonic() - began < 5
    began = time.monotonic()
    answer = server.request("GET",
                            f"/v1/kv/index/a?index={index + 1_000_000}&wait=300ms")
    assert answer.status == 200 and answer.index == index
    assert time.monotonic() - began >= 0.3
    for wrong in ("-1", "x", "99999999999999999999999"):
        answer = server.request("GET", f"/v1/kv/index/a?index={wrong}&wait=1s")
        assert answer.status == 400, wrong


@contextlib.contextmanager
def more_files(wanted):
    """A higher limit of open files, for this process and the servers it starts;
    what there is when it may not be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, PermissionError):
        wanted = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield wanted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(wanted, hard)))


def resident_kb(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return int(next(l for l in status if l.startswith("VmRSS")).split()[1])


def connect(server, n):
    """From one of 200 addresses: servers bound the connections of one client."""
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    s.bind((f"127.219.255.{1 + n % 200}", 0))
    s.settimeout(10)
    s.connect((server.address, HTTP_PORT))
    return s


def test_twenty_thousand_idle_connections_are_no_burden(tmp_path):
    with more_files(25_000) as n_files, contextlib.ExitStack() as stack:
        cluster = Cluster(tmp_path, 1)
        stack.callback(cluster.close)
        server = cluster[0]
        n = min(20_000, n_files - 2_000)
        before = resident_kb(server)
        for i in range(n):
            stack.enter_context(connect(server, i))
        eventually(lambda: gauge(server, "connections") >= n,
                   "all are connected", 30)
        assert (resident_kb(server) - before) / n < 6
        began = time.monotonic()
        for i in range(50):
            server.kv_put("idle", str(i))
        assert time.monotonic() - began < 5


def test_readers_that_stop_reading_neither_grow_the_server_nor_delay_others(
        solo):
    server = solo[0]
    value = "v" * 20_000
    n_changes = 1_500
    with contextlib.ExitStack() as stack:
        for i in range(100):
            s = stack.enter_context(connect(server, i))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            accept = b"Accept: text/event-stream\r\n" if i % 2 else b""
            s.sendall(b"GET /v1/watch/keyprefix/slow/ HTTP/1.1\r\nHost: t\r\n"
                      + accept + b"\r\n")
        good = stack.enter_context(connect(server, 0))
        good.sendall(b"GET /v1/watch/keyprefix/slow/ HTTP/1.0\r\nHost: t\r\n\r\n")
        lines = stack.enter_context(good.makefile("rb"))
        while lines.readline().strip():
            pass
        before = resident_kb(server)
        seen = []
        reader = threading.Thread(
            target=lambda: [seen.append(json.loads(lines.readline()))
                            for _ in range(n_changes + 1)], daemon=True)
        reader.start()
        for i in range(n_changes):
            server.kv_put(f"slow/{i % 3}", f"{i}{value}")
        reader.join(10)
        assert not reader.is_alive(), f"{len(seen)} seen"
        assert [e["action"] for e in seen].count("reset") == 0
        # 30 MB were written; what a hundred have not read is held once.
        assert resident_kb(server) - before < 64 * 1024
    eventually(lambda: gauge(server, "streams") == 0,
               "the streams end with their clients")


def test_a_client_that_hangs_up_gives_its_place_back_at_once(shared):
    """On the same connection before and after other requests."""
    server = shared[1]
    before = gauge(server, "parked")
    for reset in (False, True):
        s = connect(server, 7)
        for _ in range(3):
            s.sendall(b"GET /v1/kv/gone?index=1&wait=1ms HTTP/1.1\r\n"
                      b"Host: t\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 404")
        s.sendall(b"GET /v1/kv/gone?index=999999999&wait=10m HTTP/1.1\r\n"
                  b"Host: t\r\n\r\n")
        eventually(lambda: gauge(server, "parked") == before + 1, "it waits")
        if reset:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
        eventually(lambda: gauge(server, "parked") == before, "its place is free", 5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([os.path.abspath(__file__)]))
