# SPDX-License-Identifier: Apache-2.0
"""A healthy cluster: what one server is told, every other one says."""

import json
import re
import socket
import struct
import subprocess
import threading
import time

import consul
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from cluster import DNS_PORT, HTTP_PORT, RPC_PORT, eventually


def ask(server, name, kind="SRV", tcp=False, **more):
    query = dns.message.make_query(name, kind, **more)
    how = dns.query.tcp if tcp else dns.query.udp
    return how(query, server.address, timeout=3, port=DNS_PORT)


def targets(message):
    """(port, target) of the SRV records of an answer."""
    return sorted((r.port, r.target.to_text()) for rrset in message.answer
                  for r in rrset if r.rdtype == dns.rdatatype.SRV)


def dig(server, *words):
    done = subprocess.run(["dig", f"@{server.address}", "-p", str(DNS_PORT),
                           *words], capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_background(function, *args):
    """Runs the function in a thread; calling the result waits and returns."""
    box = []
    thread = threading.Thread(target=lambda: box.append(function(*args)),
                              daemon=True)
    thread.start()

    def result(timeout=20):
        thread.join(timeout)
        assert box, "no answer"
        return box[0]
    return result


# ---- success ----

def test_every_server_names_the_same_leader_and_peers(shared):
    leader = shared.wait_leader()
    expected = sorted(f"{s.address}:{RPC_PORT}" for s in shared)
    for server in shared:
        assert server.leader_address() == f"{leader.address}:{RPC_PORT}"
        assert sorted(server.get("/v1/status/peers")) == expected


def test_raft_configuration_lists_three_voters(shared):
    for server in shared:
        peers = server.get("/v1/operator/raft/configuration")["Servers"]
        assert sorted(p["Node"] for p in peers) == ["n1", "n2", "n3"]
        assert all(p["Voter"] for p in peers)
        assert sum(p["Leader"] for p in peers) == 1


def test_members_are_alive_everywhere(shared):
    def all_alive():
        for server in shared:
            members = server.get("/v1/agent/members")
            assert sorted(m["Name"] for m in members) == ["n1", "n2", "n3"]
            assert {m["Status"] for m in members} == {1}
        return True
    eventually(all_alive, "three members alive on each server")


def test_catalog_holds_the_servers_and_their_service(shared):
    def complete():
        for server in shared:
            nodes = server.get("/v1/catalog/nodes")
            assert sorted(n["Node"] for n in nodes) == ["n1", "n2", "n3"]
            assert "consul" in server.get("/v1/catalog/services")
            health = server.get("/v1/health/service/consul?passing")
            assert len(health) == 3
        return True
    eventually(complete, "the servers registered themselves")


@pytest.mark.parametrize("i", range(3))
def test_registered_on_one_is_seen_by_http_on_every_other(shared, i):
    name = f"seen{i}"
    shared[i].register(name, 8000 + i, Tags=["blue"], Meta={"v": "1"})
    for server in shared:
        (entry,) = server.get(f"/v1/catalog/service/{name}")
        assert entry["ServicePort"] == 8000 + i
        assert entry["ServiceTags"] == ["blue"]
        assert entry["Node"] == shared[i].name
        (entry,) = server.get(f"/v1/health/service/{name}?passing")
        assert entry["Service"]["Meta"] == {"v": "1"}
    shared[i].put(f"/v1/agent/service/deregister/{name}")
    for server in shared:
        assert server.get(f"/v1/catalog/service/{name}") == []


def test_registered_on_one_is_resolved_by_every_other(shared):
    shared[2].register("greeter", 8080)
    for server in shared:
        # A DNS answer may be a moment behind; nothing else may go wrong.
        answer = eventually(lambda s=server: targets(
            ask(s, "greeter.service.micro")), "greeter resolved")
        assert answer == [(8080, "n3.node.dc1.micro.")]
        message = ask(server, "greeter.service.consul")
        assert targets(message) == [(8080, "n3.node.dc1.consul.")]
        additional = {r.address for rrset in message.additional
                      for r in rrset if r.rdtype == dns.rdatatype.A}
        assert additional == {shared[2].address}
    shared[2].put("/v1/agent/service/deregister/greeter")


def test_dig_reads_services_tags_and_nodes_from_every_server(shared):
    shared[0].register("dug", 9090, Tags=["green"])
    eventually(lambda: all(targets(ask(s, "dug.service.micro")) for s in shared),
               "dug resolved")
    for server in shared:
        line = "1 1 9090 n1.node.dc1.micro."
        assert dig(server, "+short", "dug.service.micro", "srv").strip() == line
        assert dig(server, "+short", "+tcp", "dug.service.micro", "srv").strip() == line
        assert dig(server, "+short", "green.dug.service.micro", "srv").strip() == line
        assert dig(server, "+short", "_dug._green.service.micro", "srv").strip() == line
        assert dig(server, "+short", "_dug._tcp.service.micro", "srv").strip() == line
        for name in ("dug.service.micro", "dug.service.dc1.micro",
                     "n1.node.micro"):
            assert dig(server, "+short", name, "a").strip() == shared[0].address
        reverse = dig(server, "+short", "-x", shared[0].address).strip()
        # Nothing in the question tells which of the two domains is wanted.
        assert reverse in ("n1.node.dc1.micro.", "n1.node.dc1.consul.")
        text = dig(server, "+norecurse", "dug.service.micro", "srv")
        assert "status: NOERROR" in text and " aa" in text
        assert "WARNING" not in text, text
    shared[0].put("/v1/agent/service/deregister/dug")


def test_service_names_with_dots_resolve(shared):
    shared[1].register("go.micro.srv.greeter", 7070)
    for server in shared:
        eventually(lambda s=server: targets(ask(
            s, "go.micro.srv.greeter.service.micro")) == [
                (7070, "n2.node.dc1.micro.")], "dotted name resolved")
    shared[1].put("/v1/agent/service/deregister/go.micro.srv.greeter")


def test_absent_name_is_nxdomain_and_absent_type_is_nodata(shared):
    for server in shared:
        message = ask(server, "nothing.service.micro")
        assert message.rcode() == dns.rcode.NXDOMAIN
        assert message.authority[0].rdtype == dns.rdatatype.SOA
        message = ask(server, "n1.node.micro", "AAAA")
        assert message.rcode() == dns.rcode.NOERROR
        assert message.answer == []


def test_many_instances_are_truncated_over_udp_and_whole_over_tcp(shared):
    for i in range(60):
        shared[i % 3].register("crowd", 1000 + i, ID=f"crowd{i}")
    for server in shared:
        def whole(s=server):
            return len(targets(ask(s, "crowd.service.micro", tcp=True))) == 60
        eventually(whole, "60 instances over TCP")
        query = dns.message.make_query("crowd.service.micro", "SRV", use_edns=-1)
        message = dns.query.udp(query, server.address, timeout=3, port=DNS_PORT,
                                ignore_trailing=False)
        assert len(message.to_wire()) <= 512
    for i in range(60):
        shared[i % 3].put(f"/v1/agent/service/deregister/crowd{i}")


def test_only_passing_instances_are_resolved(shared):
    shared[0].register("sick", 1, ID="sick1", Check={"TTL": "1h", "Status": "passing"})
    shared[1].register("sick", 2, ID="sick2", Check={"TTL": "1h", "Status": "passing"})
    for server in shared:
        eventually(lambda s=server: len(targets(ask(s, "sick.service.micro"))) == 2,
                   "both resolved")
    shared[0].put("/v1/agent/check/fail/service:sick1")
    for server in shared:
        eventually(lambda s=server: targets(ask(s, "sick.service.micro")) == [
            (2, "n2.node.dc1.micro.")], "the failed one gone from DNS")
        assert len(server.get("/v1/health/service/sick?passing")) == 1
        assert len(server.get("/v1/health/service/sick")) == 2
    shared[0].put("/v1/agent/service/deregister/sick1")
    shared[1].put("/v1/agent/service/deregister/sick2")


def test_keys_written_on_one_are_read_on_every_other(shared):
    for i, writer in enumerate(shared):
        writer.kv_put(f"key{i}", f"value{i}")
        for reader in shared:
            assert reader.kv_get(f"key{i}") == f"value{i}".encode()
            assert reader.kv_get(f"key{i}", "&consistent") == f"value{i}".encode()
    for reader in shared:
        assert reader.get("/v1/kv/key?keys") == ["key0", "key1", "key2"]
    shared[0].request("DELETE", "/v1/kv/key?recurse")
    for reader in shared:
        assert reader.kv_get("key1") is None


def test_compare_and_set_has_one_winner_among_the_servers(shared):
    shared[0].kv_put("race", "start")
    index = shared[0].get("/v1/kv/race")[0]["ModifyIndex"]
    results = [in_background(s.request, "PUT", f"/v1/kv/race?cas={index}", s.name)
               for s in shared]
    bodies = [r().body for r in results]
    assert sorted(bodies) == [b"false", b"false", b"true"]
    winner = shared[bodies.index(b"true")].name.encode()
    for server in shared:
        assert server.kv_get("race") == winner
    shared[0].request("DELETE", "/v1/kv/race")


def test_revisions_are_equal_on_every_server(shared):
    shared[1].kv_put("rev", "x")
    entries = [s.get("/v1/kv/rev?consistent")[0] for s in shared]
    assert len({(e["CreateIndex"], e["ModifyIndex"]) for e in entries}) == 1
    shared[0].request("DELETE", "/v1/kv/rev")
    shared.wait_equal()


@pytest.mark.parametrize("mode", ["", "consistent", "stale"])
def test_each_consistency_mode_answers_on_each_server(shared, mode):
    for server in shared:
        answer = server.request("GET", f"/v1/catalog/nodes?{mode}")
        assert answer.status == 200
        assert answer.headers["X-Consul-KnownLeader"] == "true"
        assert answer.headers["X-Consul-Effective-Consistency"] == (mode or "leader")
        assert int(answer.headers["X-Consul-LastContact"]) < 1000


@pytest.mark.parametrize("path,change", [
    ("/v1/kv/wake", lambda s: s.kv_put("wake", "up")),
    ("/v1/kv/wak?recurse", lambda s: s.kv_put("wake", "again")),
    ("/v1/catalog/services", lambda s: s.register("waker")),
    ("/v1/health/service/waker2", lambda s: s.register("waker2")),
])
def test_blocking_query_is_woken_by_a_change_on_another_server(shared, path, change):
    more = "&" if "?" in path else "?"
    waits = []
    for server in shared:
        index = server.request("GET", path).index
        waits.append(in_background(
            server.request, "GET", f"{path}{more}index={index}&wait=30s", None, 40))
    began = time.monotonic()
    change(shared[1])
    for wait in waits:
        answer = wait()
        assert answer.status == 200
    assert time.monotonic() - began < 5
    shared[1].request("DELETE", "/v1/kv/wake")
    for name in ("waker", "waker2"):
        shared[1].put(f"/v1/agent/service/deregister/{name}")


def test_blocking_query_ends_after_its_wait(shared):
    index = shared[0].request("GET", "/v1/kv/quiet").index
    began = time.monotonic()
    answer = shared[0].request("GET", f"/v1/kv/quiet?index={index}&wait=500ms")
    assert answer.status == 404
    assert 0.45 < time.monotonic() - began < 3


def test_python_consul_works_against_every_server(shared):
    for i, server in enumerate(shared):
        client = consul.Consul(host=server.address, port=HTTP_PORT)
        assert client.kv.put(f"py{i}", "value") is True
        _, entry = client.kv.get(f"py{i}")
        assert entry["Value"] == b"value"
        assert client.kv.put(f"py{i}", "no", cas=1) is False
        assert client.agent.service.register(
            f"web{i}", service_id=f"web{i}-1", address="127.0.0.9", port=80,
            tags=["a"], check=consul.Check.ttl("1h")) is True
        assert f"web{i}-1" in client.agent.services()
        # Its ttl_pass() sends GET, which Consul refuses as well.
        server.put(f"/v1/agent/check/pass/service:web{i}-1")
        assert f"web{i}" in client.catalog.services()[1]
        _, nodes = client.health.service(f"web{i}", passing=True)
        assert [n["Service"]["Port"] for n in nodes] == [80]
        assert len(client.catalog.nodes()[1]) == 3
        assert client.catalog.datacenters() == ["dc1"]
        assert client.status.leader()
        assert client.agent.self()["Config"]["NodeName"] == server.name
        # Like ttl_pass().
        server.put(f"/v1/agent/service/deregister/web{i}-1")
        assert client.health.service(f"web{i}")[1] == []
        assert client.kv.delete(f"py{i}") is True
        assert client.kv.get(f"py{i}")[1] is None


def test_catalog_register_and_deregister_an_external_node(shared):
    shared[0].put("/v1/catalog/register", {
        "Node": "ext", "Address": "10.1.2.3", "NodeMeta": {"external": "yes"},
        "Service": {"Service": "db", "Port": 5432},
        "Check": {"Name": "up", "Status": "passing", "ServiceID": "db"}})
    for server in shared:
        (entry,) = server.get("/v1/health/service/db?passing")
        assert entry["Node"]["Address"] == "10.1.2.3"
        assert targets(ask(server, "db.service.micro")) == [
            (5432, "ext.node.dc1.micro.")]
    shared[1].put("/v1/catalog/deregister", {"Node": "ext"})
    for server in shared:
        assert server.get("/v1/catalog/node/ext") is None
        assert server.get("/v1/health/service/db") == []


def test_metrics_are_served_in_both_formats(shared):
    for server in shared:
        text = server.request("GET", "/v1/agent/metrics?format=prometheus")
        assert text.status == 200 and text.headers["Content-Type"].startswith("text/plain")
        lines = [l for l in text.text.splitlines() if l and not l.startswith("#")]
        assert lines and all(re.match(r"^[a-zA-Z_:][^ ]* [-+0-9.eEinfNa]+$", l)
                             for l in lines), lines[:3]
        assert "Gauges" in server.get("/v1/agent/metrics")


# ---- failure ----

def talk(address, port, data, kind=socket.SOCK_STREAM, timeout=3):
    """Send bytes; returns what came back until the other side closes."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(timeout)
        sock.connect((address, port))
        got = b""
        try:
            sock.sendall(data)
            while True:
                more = sock.recv(65536)
                if not more:
                    break
                got += more
                if kind == socket.SOCK_DGRAM:
                    break
        except OSError:
            pass
        return got


GARBAGE = [b"", b"\0", b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 50,
           struct.pack(">I", 0xffffffff) + b"x" * 100,
           struct.pack("<I", 0x7fffffff) + b"x" * 100, bytes(range(256)) * 40]


def test_garbage_on_the_rpc_port_changes_nothing(shared):
    leader = shared.wait_leader()
    term = leader.self()["Stats"]["raft"]["term"]
    for server in shared:
        for data in GARBAGE:
            talk(server.address, RPC_PORT, data, timeout=0.3)
    with socket.create_connection((leader.address, RPC_PORT)) as idle_stranger:
        assert shared.wait_leader() is leader
        assert leader.self()["Stats"]["raft"]["term"] == term
        leader.kv_put("after-garbage", "fine")
        del idle_stranger
    leader.request("DELETE", "/v1/kv/after-garbage")


def test_garbage_on_the_dns_port_changes_nothing(shared):
    for server in shared:
        for data in GARBAGE:
            talk(server.address, DNS_PORT, data, socket.SOCK_DGRAM, timeout=0.05)
            talk(server.address, DNS_PORT, data, timeout=0.3)
        message = ask(server, "n1.node.micro", "A")
        assert message.answer


def test_other_zones_are_refused_small(shared):
    for server in shared:
        query = dns.message.make_query("example.com", "ANY")
        message = dns.query.udp(query, server.address, timeout=3, port=DNS_PORT)
        assert message.rcode() == dns.rcode.REFUSED
        assert not message.answer and len(message.to_wire()) <= len(query.to_wire()) + 16


def test_half_requests_do_not_hold_others_up(shared):
    for server in shared:
        halves = []
        for data in (b"", b"GET /v1/kv/x HT", b"PUT /v1/kv/half HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length: 100\r\n\r\nonly a part"):
            sock = socket.create_connection((server.address, HTTP_PORT))
            sock.sendall(data)
            halves.append(sock)
        server.kv_put("whole", "yes", timeout=2)
        for sock in halves:
            sock.close()
        assert server.kv_get("half") is None
    shared[0].request("DELETE", "/v1/kv/whole")


@pytest.mark.parametrize("method,path,body,status,text", [
    ("PUT", "/v1/agent/service/register", "{", 400, ""),
    ("PUT", "/v1/agent/service/register", '{"Name":5}', 400, ""),
    ("PUT", "/v1/agent/service/register", '{"Name":"x","Bogus":1}', 400,
     'json: unknown field "Bogus"'),
    ("PUT", "/v1/agent/service/register", "{}", 400, "Missing service name"),
    ("PUT", "/v1/catalog/register", "{}", 500, "Must provide node"),
    ("PUT", "/v1/kv/big", "x" * 600000, 413, ""),
    ("PUT", "/v1/kv/", "x", 400, "Missing key name"),
    ("GET", "/v1/kv/x?index=bogus", None, 400, "Invalid index"),
    ("GET", "/v1/kv/x?wait=5", None, 400, "Invalid wait time"),
    ("GET", "/v1/catalog/nodes?dc=mars", None, 500, "No path to datacenter"),
    ("GET", "/v1/catalog/nodes?stale&consistent", None, 400,
     "Cannot specify ?stale with ?consistent"),
    ("PUT", "/v1/agent/check/update/none", '{"Status":"odd"}', 400,
     "Invalid check status: 'odd'"),
    ("POST", "/v1/status/leader", "", 405, "method POST not allowed"),
    ("GET", "/v1/nothing", None, 404, ""),
], ids=lambda value: str(value)[:30])
def test_bad_requests_are_refused_in_consuls_words(shared, method, path, body, status, text):
    before = shared[0].digest()
    for server in shared:
        answer = server.request(method, path, body)
        assert answer.status == status, repr(answer)
        assert text in answer.text
    assert shared[0].digest()[1] == before[1]


def test_ten_thousand_idle_bytes_of_json_depth_are_refused(shared):
    body = "[" * 10000 + "]" * 10000
    answer = shared[0].request("PUT", "/v1/agent/service/register", body)
    assert answer.status == 400, repr(answer)
    assert json.loads(shared[0].request("GET", "/v1/status/leader").text)
