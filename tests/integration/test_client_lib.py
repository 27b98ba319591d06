# SPDX-License-Identifier: Apache-2.0
"""libmicroreg against real servers, and against things that are no servers."""

import http.server
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

import clientlib
from clientlib import Client, Failed, service
from cluster import ROOT, eventually
import crowd


def addresses(cluster):
    return ",".join(s.address for s in cluster)


@pytest.fixture
def client(shared):
    with Client(addresses(shared)) as opened:
        yield opened


@pytest.fixture
def trap():
    """A port of this machine that somebody answers as told: a function gets each
    connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    state = {"answer": lambda connection: None, "held": []}

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            state["held"].append(connection)
            try:
                state["answer"](connection)
            except OSError:
                pass
    threading.Thread(target=serve, daemon=True).start()
    state["address"] = f"127.0.0.1:{listener.getsockname()[1]}"
    yield state
    listener.close()
    for connection in state["held"]:
        connection.close()


def answering(text):
    def answer(connection):
        connection.recv(65536)
        connection.sendall(text)
        connection.close()
    return answer


def timed(action):
    """(seconds, Failed or None) of an action."""
    begin = time.monotonic()
    try:
        action()
    except Failed as failed:
        return time.monotonic() - begin, failed
    return time.monotonic() - begin, None


# -- services


def test_register_get_list_deregister(client):
    client.register(service("lib-a", "a1", ("a2", {"k": "v"})))
    client.register(service("lib-a", "a3", version="2"))
    found = client.get("lib-a")
    assert [(s["version"], [n["id"] for n in s["nodes"]]) for s in found] == \
        [("1", ["a1", "a2"]), ("2", ["a3"])]
    assert found[0]["nodes"][1]["metadata"] == {"k": "v"}
    assert [s for s in client.list() if s["name"] == "lib-a"] == found
    client.deregister(service("lib-a", "a1", "a2", "a3"))
    with pytest.raises(Failed) as failed:
        client.get("lib-a")
    assert failed.value.code == clientlib.NOTFOUND
    assert "lib-a" in failed.value.text


def test_what_is_not_kept_alive_goes_and_what_is_stays(client):
    client.register(service("lib-ttl", "gone"), ttl=1)
    client.register(service("lib-ttl", "kept"), ttl=1,
                    flags=clientlib.KEEP_ALIVE)
    begin = time.monotonic()
    eventually(lambda: [n["id"] for s in client.get("lib-ttl")
                        for n in s["nodes"]] == ["kept"], "one is gone", 5)
    assert time.monotonic() - begin > 0.5
    eventually(lambda: client.stats().renewals > 4, "renewals", 10)
    assert client.get("lib-ttl")
    client.deregister(service("lib-ttl", "kept"))
    assert client.find("lib-ttl") == []


@pytest.mark.parametrize("body, words", [
    (service("lib-bad"), "no nodes"),
    ({"name": "lib-bad"}, "no nodes"),
    ({"nodes": [{"id": "x", "address": "127.0.0.1:1"}]}, "no name"),
    ({"name": "lib-bad", "nodes": [{"id": "x", "address": "127.0.0.1"}]}, "port"),
    ({"name": "lib-bad", "nodes": [{"address": "127.0.0.1:1"}]}, "id"),
    (service("lib-bad", "x", "x"), "twice"),
    (b'{"name":"lib-bad","nodes":[{"id":"x","address":"h:1",'
     b'"metadata":{"k":"\xff"}}]}', "UTF-8"),
    (service("lib-bad", ("x", {"k": "a\x00b"})), "\\u0000"),
    (b"[1,2", "not JSON"),
    (service("lib-bad", ("x", {"k": "v" * 5000})), "metadata"),
    (service("n" * 200, "x"), "name"),
], ids=str)
def test_a_bad_registration_is_refused_by_name(client, body, words):
    with pytest.raises(Failed) as failed:
        client.register(body)
    assert failed.value.code == clientlib.INVALID, failed.value
    assert words in failed.value.text, failed.value
    assert client.find("lib-bad") == []


@pytest.mark.parametrize("metadata", [
    {}, {"": "empty key"}, {"quotes": "\"'\\\"", "lines": "a\nb\r\t\x01"},
    {"unicode": "\u00e4\u20ac\U0001f600\u2028"},
    {f"k{i}": "v" * 4096 for i in range(100)}], ids=lambda m: str(m)[:20])
def test_odd_metadata_comes_back_as_it_was(client, metadata):
    watch = client.watch("lib-odd")
    client.register(service("lib-odd", ("o1", metadata)))
    assert (client.get("lib-odd")[0]["nodes"][0]["metadata"] or {}) == metadata
    action, node, seen = watch.take()
    assert (action, node, seen or {}) == ("create", "o1", metadata)
    client.deregister(service("lib-odd", "o1"))
    assert watch.take()[0] == "delete"


# -- watches


def test_a_watch_tells_each_change_once(client):
    client.register(service("lib-w", "w1"))
    watch = client.watch("lib-w")
    assert watch.take() == ("create", "w1", None)
    client.register(service("lib-w", ("w1", {"n": "1"}), "w2"))
    assert watch.take() == ("update", "w1", {"n": "1"})
    assert watch.take() == ("create", "w2", None)
    client.deregister(service("lib-w", "w1"))
    assert watch.take() == ("delete", "w1", {"n": "1"})
    client.deregister(service("lib-w", "w2"))
    assert watch.take() == ("delete", "w2", None)
    assert watch.next(0) is None


def test_a_new_version_of_a_node_deletes_the_old_one(client):
    watch = client.watch("lib-v")
    client.register(service("lib-v", "v1"))
    assert watch.take()[0] == "create"
    client.register(service("lib-v", "v1", version="2"))
    gone, come = watch.next(), watch.next()
    assert (gone["action"], gone["service"]["version"]) == ("delete", "1")
    assert (come["action"], come["service"]["version"]) == ("create", "2")
    client.deregister(service("lib-v", "v1"))


def test_a_watch_of_all_services_and_the_mark(client):
    client.register(service("lib-all", "x1"))
    watch = client.watch(None, clientlib.MARKS)
    names = []
    while (event := watch.next())["action"] != "synced":
        assert event["action"] == "create"
        names.append(event["service"]["name"])
    assert "lib-all" in names
    client.deregister(service("lib-all", "x1"))
    assert watch.take() == ("delete", "x1", None)


def test_the_descriptor_is_readable_while_something_waits(client):
    watch = client.watch("lib-fd")
    eventually(lambda: not watch.readable() or watch.next(0), "quiet")
    client.register(service("lib-fd", "f1"))
    assert watch.readable(5)
    assert watch.next(0)["action"] == "create"
    assert not watch.readable(0.05)
    client.deregister(service("lib-fd", "f1"))
    assert watch.readable(5) and watch.next(0)["action"] == "delete"
    watch.stop()
    assert watch.readable()
    with pytest.raises(Failed) as failed:
        watch.next(0)
    assert failed.value.code == clientlib.STOPPED


def test_stop_wakes_a_reader(client):
    watch = client.watch("lib-stop")
    seen = []

    def read():
        try:
            watch.next(30)
        except Failed as failed:
            seen.append(failed.code)
    reader = threading.Thread(target=read)
    reader.start()
    watch.stop()
    reader.join(5)
    assert seen == [clientlib.STOPPED]


def test_closing_the_client_stops_its_watches(shared):
    client = Client(addresses(shared))
    watch = client.watch("lib-close")
    clientlib.LIB.microreg_close(client.handle)
    client.handle = None
    with pytest.raises(Failed) as failed:
        watch.next(30)
    assert failed.value.code == clientlib.STOPPED
    watch.close()


def test_a_watched_service_is_answered_from_memory(client):
    watch = client.watch("lib-mem")
    client.register(service("lib-mem", "m1", ("m2", {"a": "b"})))
    client.register(service("lib-mem", "m0", version="0"))
    for _ in range(3):
        watch.take()
    asked = client.stats().requests
    assert client.get("lib-mem", clientlib.WATCHED) == client.get("lib-mem")
    assert client.stats().requests == asked + 1
    # What we wrote ourselves is there at once.
    for i in range(20):
        client.register(service("lib-mem", ("m1", {"i": str(i)})))
        (found,) = [s for s in client.get("lib-mem", clientlib.WATCHED)
                    if s["version"] == "1"]
        assert found["nodes"][0]["metadata"] == {"i": str(i)}
    client.deregister(service("lib-mem", "m0", "m1", "m2"))
    assert client.find("lib-mem", clientlib.WATCHED) == []


def test_more_services_than_one_stream_takes(client):
    watches = [client.watch(f"lib-many-{i}") for i in range(300)]
    client.register(service("lib-many-7", "s7"))
    client.register(service("lib-many-299", "s299"))
    assert watches[7].take()[1] == "s7"
    assert watches[299].take()[1] == "s299"
    assert watches[100].next(0) is None
    client.deregister(service("lib-many-7", "s7"))
    client.deregister(service("lib-many-299", "s299"))


def test_a_watch_that_is_not_read_is_told_the_difference(client):
    watch = client.watch("lib-slow")
    client.register(service("lib-slow", "s1"))
    assert watch.take()[0] == "create"
    for i in range(2500):
        client.register(service("lib-slow", ("s1", {"i": str(i)})))
    eventually(lambda: client.stats().collapses > 0, "a collapse")
    other = client.watch("lib-slow")
    eventually(lambda: other.take()[2] == {"i": "2499"}, "all is there")
    seen = []
    while (event := watch.next(0)) is not None:
        seen.append(event)
    assert seen[0]["action"] == "update" and len(seen) < 2500
    assert seen[-1]["service"]["nodes"][0]["metadata"] == {"i": "2499"}
    client.deregister(service("lib-slow", "s1"))


# -- keys and locks


def test_keys(client):
    client.put("lib/a", b"1\x002", flags=42)
    (key,) = client.keys("lib/a", recurse=False)
    assert (key["Value"], key["Flags"]) == ("MQAy", 42)
    client.cas("lib/a", b"3", key["ModifyIndex"])
    with pytest.raises(Failed) as failed:
        client.cas("lib/a", b"4", key["ModifyIndex"])
    assert failed.value.code == clientlib.REFUSED
    client.put("lib/b", b"")
    assert [k["Key"] for k in client.keys("lib/")] == ["lib/a", "lib/b"]
    client.delete_tree("lib/")
    with pytest.raises(Failed) as failed:
        client.keys("lib/")
    assert failed.value.code == clientlib.NOTFOUND


def test_a_watch_of_keys(client):
    client.put("libw/a", b"1")
    watch = client.watch("libw/", clientlib.PREFIX, keys=True)
    single = client.watch("libw/b", keys=True)
    assert watch.next()["key"]["Key"] == "libw/a"
    client.put("libw/b", b"2")
    event = watch.next()
    assert (event["action"], event["key"]["Key"]) == ("create", "libw/b")
    assert single.next()["key"]["Value"] == "Mg=="
    client.delete("libw/b")
    assert watch.next()["action"] == single.next()["action"] == "delete"
    client.delete_tree("libw/")


def test_a_lock_goes_from_one_to_the_next_with_a_greater_number(client):
    first, second = client.session(), client.session()
    fence = first.lock("lib-lock")
    assert first.lock("lib-lock") == fence
    with pytest.raises(Failed) as failed:
        second.lock("lib-lock")
    assert failed.value.code == clientlib.REFUSED
    client.put("lib-locked", b"1", fence=fence, fence_key=b"lib-lock")
    threading.Timer(0.3, lambda: first.unlock("lib-lock")).start()
    begin = time.monotonic()
    assert second.lock("lib-lock", timeout=10) > fence
    assert time.monotonic() - begin < 3
    with pytest.raises(Failed) as failed:
        client.put("lib-locked", b"2", fence=fence, fence_key=b"lib-lock")
    assert failed.value.code == clientlib.REFUSED
    with pytest.raises(Failed) as failed:
        first.unlock("lib-lock")
    assert failed.value.code == clientlib.REFUSED
    first.close()
    second.close()
    client.delete_tree("lib-lock")


def test_a_session_lives_beyond_its_ttl_and_ends_when_it_is_destroyed(
        client, shared):
    session = client.session(ttl=1000)
    eventually(lambda: client.stats().renewals >= 5, "renewals", 10)
    assert session.alive()
    shared[0].put(f"/v1/session/destroy/{session.id()}")
    eventually(lambda: not session.alive(), "it is lost", 5)
    with pytest.raises(Failed) as failed:
        session.lock("lib-lock2")
    assert failed.value.code == clientlib.NOTFOUND
    session.close()


# -- servers that fail


def test_a_killed_leader_costs_no_call_and_no_event(cluster):
    with Client(addresses(cluster)) as client:
        watch = client.watch("lib-kill")
        client.register(service("lib-kill", ("k1", {"n": "0"})), ttl=2,
                        flags=clientlib.KEEP_ALIVE)
        assert watch.take()[0] == "create"
        cluster.wait_leader().kill()
        took, failed = timed(
            lambda: client.register(service("lib-kill", ("k1", {"n": "1"})), ttl=2,
                                    flags=clientlib.KEEP_ALIVE))
        assert failed is None and took < 4
        assert watch.take() == ("update", "k1", {"n": "1"})
        assert client.get("lib-kill")
        # Kept alive through it, and told of nothing that did not happen.
        assert watch.next(3) is None
        assert client.get("lib-kill")


def test_a_server_that_hangs_is_passed_by_within_a_second(cluster):
    leader = cluster.wait_leader()
    hung = cluster.followers()[0]
    others = [s.address for s in cluster if s is not hung]
    with Client(",".join([hung.address] + others)) as client:
        client.register(service("lib-hang", "h1"))
        hung.pause()
        try:
            took, failed = timed(lambda: client.get("lib-hang"))
            assert failed is None and took < 1, took
            took, failed = timed(lambda: client.get("lib-hang"))
            assert failed is None and took < 0.2, took
        finally:
            hung.resume()
        # Its turn comes again.
        eventually(lambda: client.get("lib-hang") and
                   client.stats().failovers >= 1, "an answer")
    assert leader.running()


def test_a_stream_leaves_a_server_that_hangs(cluster):
    hung = cluster.followers()[0]
    others = [s.address for s in cluster if s is not hung]
    with Client(",".join([hung.address] + others), progress_ms=1000) as client:
        watch = client.watch("lib-hangs")
        client.register(service("lib-hangs", "h1"))
        assert watch.take()[0] == "create"
        hung.pause()
        try:
            client.register(service("lib-hangs", ("h1", {"n": "1"})))
            assert watch.take(8) == ("update", "h1", {"n": "1"})
        finally:
            hung.resume()
        client.deregister(service("lib-hangs", "h1"))
        assert watch.take()[0] == "delete"


def test_registrations_come_back_when_everything_was_lost(tmp_path, solo):
    with Client(solo[0].address) as client:
        watch = client.watch("lib-wipe")
        client.register(service("lib-wipe", "w1", "w2"), ttl=2,
                        flags=clientlib.KEEP_ALIVE)
        solo[0].kill()
        shutil.rmtree(solo[0].folder)
        solo[0].start()
        eventually(lambda: len(client.find("lib-wipe")) == 1 and
                   len(client.get("lib-wipe")[0]["nodes"]) == 2,
                   "both are registered again", 15)
        assert client.stats().reregistered >= 2
        client.register(service("lib-wipe", "w3"))
        view = {}
        def equal():
            event = watch.next(0.2)
            if event:
                node = event["service"]["nodes"][0]["id"]
                if event["action"] == "delete":
                    del view[node]
                else:
                    view[node] = event
            return sorted(view) == ["w1", "w2", "w3"]
        eventually(equal, "the watch has all of the new cluster", 15)


def test_an_address_may_come_late(shared):
    with Client("127.0.0.1:1") as client:
        took, failed = timed(lambda: client.get("lib-late"))
        assert failed.code == clientlib.CONNECT and took < 2
        assert "127.0.0.1:1" in failed.text
        watch = client.watch("consul-none")
        client.set_addresses(shared[0].address)
        client.register(service("consul-none", "c1"))
        assert watch.take()[0] == "create"
        client.deregister(service("consul-none", "c1"))
        with pytest.raises(Failed) as bad:
            client.set_addresses("a:b")
        assert bad.value.code == clientlib.INVALID
        assert client.list() is not None


# -- things that are no servers


def test_nobody_there_is_said_with_each_address():
    with Client("127.0.0.1:1,no-such-name.invalid,[::1]:1") as client:
        took, failed = timed(client.list)
        assert failed.code == clientlib.CONNECT and took < 5.5
        for name in ("127.0.0.1:1", "no-such-name.invalid:8500", "[::1]:1"):
            assert name in failed.text, failed.text


@pytest.mark.parametrize("answer", [
    answering(b"SSH-2.0-OpenSSH_9.2\r\n"), answering(b""),
    answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n[]"),
    answering(b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n"),
    answering(b"\x00\xff" * 5000),
], ids=["ssh", "nothing", "text", "object", "cut", "redirect", "bytes"])
def test_garbage_is_an_error_in_bounded_time_and_others_are_asked(
        trap, shared, answer):
    trap["answer"] = answer
    with Client(trap["address"], timeout_ms=1500) as client:
        took, failed = timed(lambda: client.get("x"))
        assert failed is not None and took < 2
        assert failed.code in (clientlib.PROTOCOL, clientlib.TIMEOUT), failed
        assert client.watch("x").next(0.3) is None
        assert trap["address"] in failed.text
        client.set_addresses(f"{trap['address']},{shared[0].address}")
        assert client.list() is not None


def test_a_server_that_says_nothing_is_left(trap, shared):
    with Client(f"{trap['address']},{shared[0].address}") as client:
        took, failed = timed(client.list)
        assert failed is None and took < 1
    with Client(trap["address"], timeout_ms=700) as client:
        took, failed = timed(client.list)
        assert failed.code == clientlib.TIMEOUT and 0.6 < took < 1.2
        assert trap["address"] in failed.text and "700 ms" in failed.text


def test_a_write_that_may_be_done_is_not_sent_twice(trap, shared):
    trap["answer"] = answering(b"")
    with Client(f"{trap['address']},{shared[0].address}") as client:
        took, failed = timed(lambda: client.put("lib/once", b"1"))
        assert failed.code == clientlib.TIMEOUT and took < 1
        assert "may or may not" in failed.text
        assert len(trap["held"]) == 1


@pytest.mark.parametrize("bad", [
    "", ",", "host:", "host:0", "host:65536", "ho st", "[::1", "ftp://host",
    "http://host/path", "host:80:"])
def test_a_bad_address_is_refused_when_it_is_given(bad):
    if bad == "":
        bad = " , "
    with pytest.raises(Failed) as failed:
        Client(bad)
    assert failed.value.code == clientlib.INVALID


def test_threads_of_one_client_keep_their_connections():
    n_threads, n_rounds = 12, 20
    connections = []
    together = threading.Barrier(n_threads)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            connections.append(self)
            super().setup()

        def do_GET(self):
            together.wait(10)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *args):
            pass

    class Quick(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Quick(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers = []

    def ask(client):
        for _ in range(n_rounds):
            answers.append(client.list())

    with Client(f"127.0.0.1:{server.server_port}") as client:
        threads = [threading.Thread(target=ask, args=(client,))
                   for _ in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    server.shutdown()
    assert len(answers) == n_threads * n_rounds
    assert len(connections) <= n_threads + 2, len(connections)


# -- what is installed


def test_the_header_is_good_for_cpp_and_the_library_shows_its_api_only():
    header = os.path.join(ROOT, "client-lib", "microreg.h")
    for standard in ("c++98", "c++17"):
        subprocess.run(["g++", f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic",
                        "-Werror", "-fsyntax-only", "-x", "c++", header], check=True)
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only",
         os.path.join(clientlib.folder(), "libmicroreg.so.0")],
        capture_output=True, text=True, check=True).stdout.split("\n")
    names = {line.split()[-1] for line in symbols if line}
    assert names and all(n.startswith("microreg_") for n in names), names
    with open(header, encoding="utf-8") as file:
        text = file.read()
    assert all(f"{n}(" in text for n in names)


@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is missing")
def test_the_example_is_clean_under_valgrind(shared):
    program = os.path.join(clientlib.folder(), "client-lib/example/example")
    done = subprocess.run(
        ["valgrind", "-q", "--leak-check=full", "--error-exitcode=99",
         "--errors-for-leak-kinds=definite,possible", program, addresses(shared)],
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == [
        "create example-1 at 127.0.0.1:9090",
        "found example 1.0: example-1 at 127.0.0.1:9090"]


def test_a_crowd_of_clients_through_kills_of_the_leader(tmp_path):
    crowd.run(str(tmp_path), clients=20, kills=2, seed=7)
