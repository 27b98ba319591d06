# SPDX-License-Identifier: Apache-2.0
"""Agents without -server: what is registered through them is seen everywhere
while they live, and their clients do not notice which server answers."""

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time

import dns.rcode
import pytest

from cluster import Server, binary, eventually
from test_cluster import ask, targets

NUMBERS = itertools.count(101)  # Of agents: the ends of their addresses.
NODE_DEAD_S = 5.0  # The default of node_ttl and a second.
TTL = {"Check": {"TTL": "3s", "Status": "passing"}}


def make_agent(cluster, *flags, joins=3, name=None):
    """An agent with a name of its own, not started."""
    k = next(NUMBERS)
    join = [f"-retry-join={cluster.net.address(i)}" for i in range(1, joins + 1)]
    return Server(name or f"a{k}", cluster.net.address(k),
                  os.path.join(cluster.folder, f"agent{k}"),
                  ["-retry-interval=200ms", *join, *flags])


@pytest.fixture
def agents(request):
    """Makes agents of a cluster; they end with the test."""
    made = []

    def make(cluster, n=1, *flags, **more):
        fresh = [make_agent(cluster, *flags, **more) for _ in range(n)]
        made.extend(fresh)
        for agent in fresh:
            agent.start()
        for agent in fresh:
            eventually(lambda: serf(cluster.running()[0], agent.name) ==
                       "passing", f"{agent.name} is alive")
        return fresh if n > 1 else fresh[0]

    yield make
    for agent in made:
        agent.kill()


def serf(server, node):
    """The status of the node's serfHealth, or None."""
    for check in server.get(f"/v1/health/node/{node}", timeout=3):
        if check["CheckID"] == "serfHealth":
            return check["Status"]
    return None


def nodes_of(server, service, query=""):
    """Names of the nodes that have the service."""
    found = server.get(f"/v1/health/service/{service}?{query}", timeout=3)
    return sorted(e["Node"]["Node"] for e in found)


def status_of(server, node, check):
    for row in server.get(f"/v1/health/node/{node}", timeout=3):
        if row["CheckID"] == check:
            return row["Status"]
    return None


def seen_by(server, service, node):
    return nodes_of(server, service, "passing") == [node] and \
        [t for _, t in targets(ask(server, f"{service}.service.micro"))] == [
            f"{node}.node.dc1.micro."]


# ------------------------------------------------------------- being seen

def test_what_an_agent_registers_is_seen_everywhere(shared, agents):
    one, two = agents(shared, 2)
    one.register("seen", 80, Tags=["x"], Meta={"k": "v"}, **TTL)
    for who in (*shared, one, two):
        eventually(lambda: seen_by(who, "seen", one.name), f"{who.name} sees it")
    assert list(one.get("/v1/agent/services")) == ["seen"]
    assert two.get("/v1/agent/services") == {}
    assert shared[0].get("/v1/agent/services") == {}
    assert one.get("/v1/agent/self")["Config"]["NodeName"] == one.name
    assert one.get("/v1/agent/self")["Config"]["Server"] is False
    one.put("/v1/agent/service/deregister/seen")
    for who in (*shared, one, two):
        eventually(lambda: nodes_of(who, "seen") == [], f"{who.name} forgets it")


def test_a_write_that_was_answered_is_in_the_cluster(shared, agents):
    agent = agents(shared)
    for n in range(20):
        agent.register(f"quick{n}", 80)
        assert nodes_of(shared[n % 3], f"quick{n}") == [agent.name]
    for n in range(20):
        agent.put(f"/v1/agent/service/deregister/quick{n}")
        assert nodes_of(shared[n % 3], f"quick{n}") == []


def test_everything_else_is_passed_on(shared, agents):
    agent = agents(shared)
    agent.kv_put("through", b"\x00 bytes \xff")
    assert shared[1].kv_get("through") == b"\x00 bytes \xff"
    assert agent.kv_get("through") == b"\x00 bytes \xff"
    answer = agent.request("GET", "/v1/kv/through")
    direct = shared[0].request("GET", "/v1/kv/through")
    assert answer.body == direct.body and answer.index == direct.index
    for name in ("X-Consul-Knownleader", "X-Consul-Lastcontact", "Content-Type",
                 "Vary"):
        assert answer.headers.get_all(name) == direct.headers.get_all(name), name
    assert agent.request("GET", "/v1/kv/none").status == 404
    assert agent.request("DELETE", "/v1/kv/through?cas=1").body == b"false"
    assert agent.request("GET", "/v1/catalog/services?dc=other").status == 500
    assert agent.request("GET", "/v1/nonsense").status == 404
    assert agent.request("PATCH", "/v1/kv/x").status == 405
    packed = agent.request("GET", "/v1/catalog/nodes",
                           headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert agent.get("/v1/status/leader") == shared[0].get("/v1/status/leader")
    big = os.urandom(400_000)
    agent.kv_put("big", big)
    assert agent.kv_get("big") == big


def test_internal_routes_are_for_agents_only(shared, agents):
    agent = agents(shared)
    for who in (shared[0], agent):
        for method, path in (("GET", "/v1/internal/rows?node=a1&id=x"),
                             ("PUT", "/v1/internal/renew"),
                             ("PUT", "/v1/internal/propose?node=a1&id=x")):
            assert who.request(method, path, "{}").status == 403, path


def test_an_agent_answers_dns(shared, agents):
    agent = agents(shared)
    shared[0].register("named", 7)
    eventually(lambda: targets(ask(agent, "named.service.micro")), "over UDP")
    message = ask(agent, "named.service.micro")
    assert targets(message) == [(7, "n1.node.dc1.micro.")]
    message = ask(agent, "named.service.micro", tcp=True)
    assert targets(message) == [(7, "n1.node.dc1.micro.")]
    assert ask(agent, "nosuch.service.micro").rcode() == dns.rcode.NXDOMAIN
    assert ask(agent, "example.com", "A").rcode() == dns.rcode.REFUSED
    shared[0].put("/v1/agent/service/deregister/named")


# ------------------------------------------------------------- blocking

def test_a_blocking_query_through_an_agent_wakes_at_once(shared, agents):
    agent = agents(shared)
    agent.kv_put("watched", "1")
    index = agent.request("GET", "/v1/kv/watched").index
    got = []

    def wait():
        got.append((agent.request("GET", f"/v1/kv/watched?index={index}&wait=60s",
                                  timeout=70), time.monotonic()))
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    eventually(lambda: agent.self()["Stats"]["link"]["in_flight"] != "0",
               "the query is waiting")
    written = time.monotonic()
    shared[2].kv_put("watched", "2")
    thread.join(10)
    answer, when = got[0]
    assert answer.status == 200 and answer.index > index
    assert when - written < 1.0
    short = agent.request("GET", f"/v1/kv/watched?index={answer.index}&wait=100ms")
    assert short.index == answer.index


def test_a_client_that_goes_away_frees_its_place(shared, agents):
    agent = agents(shared)
    agent.kv_put("left", "1")
    index = agent.request("GET", "/v1/kv/left").index
    for _ in range(3):
        with pytest.raises(OSError):
            agent.request("GET", f"/v1/kv/left?index={index}&wait=300s",
                          timeout=0.3)
    eventually(lambda: agent.self()["Stats"]["link"]["in_flight"] in ("0", "1"),
               "the queries ended")


def test_a_blocking_query_survives_its_server(cluster, agents):
    agent = agents(cluster)
    agent.kv_put("long", "1")
    index = agent.request("GET", "/v1/kv/long").index
    got = []
    thread = threading.Thread(target=lambda: got.append(agent.request(
        "GET", f"/v1/kv/long?index={index}&wait=60s", timeout=70)), daemon=True)
    thread.start()
    eventually(lambda: agent.self()["Stats"]["link"]["in_flight"] != "0",
               "the query is waiting")
    used = server_of(agent, cluster)
    used.kill()
    others = [s for s in cluster if s is not used]
    eventually(lambda: server_of(agent, cluster) in others, "another server")
    eventually(lambda: others[0].request("PUT", "/v1/kv/long", "2").status == 200,
               "a write")
    thread.join(15)
    assert got and got[0].status == 200 and got[0].index > index


# ------------------------------------------------------------- deaths

def server_of(agent, cluster):
    """The server that the agent uses."""
    address = agent.self()["Stats"]["link"]["server"].partition(":")[0]
    for server in cluster:
        if server.address == address:
            return server
    return None


def test_a_dead_agent_is_seen_dead_and_comes_back_with_all_it_had(shared, agents):
    agent = agents(shared)
    agent.register("kept", 80, Tags=["t"])
    agent.register("checked", 81, Check={"TTL": "60s", "Status": "passing"})
    for server in shared:
        eventually(lambda: seen_by(server, "kept", agent.name), "registered")
    agent.kill()
    killed = time.monotonic()
    eventually(lambda: serf(shared[0], agent.name) == "critical", "seen dead",
               NODE_DEAD_S + 1)
    assert time.monotonic() - killed < NODE_DEAD_S + 0.5
    for server in shared:
        eventually(lambda: nodes_of(server, "kept", "passing") == [], "hidden")
        eventually(lambda: not targets(ask(server, "kept.service.micro")),
                   "hidden from DNS")
    assert nodes_of(shared[0], "kept") == [agent.name]
    agent.start()
    for server in shared:
        eventually(lambda: seen_by(server, "kept", agent.name), "back")
        eventually(lambda: seen_by(server, "checked", agent.name), "back with its check")
    assert sorted(agent.get("/v1/agent/services")) == ["checked", "kept"]
    for service in ("kept", "checked"):
        agent.put(f"/v1/agent/service/deregister/{service}")


def test_another_server_takes_over_in_about_a_second(cluster, agents):
    agent = agents(cluster)
    agent.register("steady", 80, Check={"TTL": "4s", "Status": "passing"})
    used = eventually(lambda: server_of(agent, cluster), "a server")
    if used.is_leader():
        # A new leader takes its time: that is another test's.
        for _ in range(10):
            used.pause()
            with contextlib.suppress(AssertionError):
                eventually(lambda: server_of(agent, cluster) not in (used, None),
                           "another server", 5)
            used.resume()
            cluster.wait_leader()
            used = server_of(agent, cluster)
            if not used.is_leader():
                break
    used.kill()
    killed = time.monotonic()
    answer = agent.request("GET", "/v1/catalog/services", timeout=5)
    assert answer.status == 200
    assert time.monotonic() - killed < 1.5
    for _ in range(5):
        agent.put("/v1/agent/check/pass/service:steady")
        time.sleep(1)  # The check's own time.
    other = next(s for s in cluster if s is not used)
    assert status_of(other, agent.name, "service:steady") == "passing"
    assert serf(other, agent.name) == "passing"


def test_a_paused_server_is_left(cluster, agents):
    agent = agents(cluster)
    used = eventually(lambda: server_of(agent, cluster), "a server")
    used.pause()
    eventually(lambda: server_of(agent, cluster) not in (used, None),
               "another server", 5)
    others = [s for s in cluster if s is not used]
    cluster.wait_leader(others)
    assert serf(others[0], agent.name) == "passing"
    used.resume()


def test_servers_that_all_died_have_everything_again(cluster, agents):
    agent = agents(cluster)
    agent.register("before", 80, **TTL)
    for server in cluster:
        server.kill()
    eventually(lambda: agent.request("GET", "/v1/catalog/nodes").status == 500,
               "no server")
    answer = agent.request("GET", "/v1/catalog/nodes")
    assert answer.text == "No known Consul servers"
    assert ask(agent, "before.service.micro").rcode() == dns.rcode.SERVFAIL
    assert list(agent.get("/v1/agent/services")) == ["before"]
    agent.register("meanwhile", 81)
    agent.put("/v1/agent/check/pass/service:before")
    for server in cluster:
        server.start()
    cluster.wait_leader(timeout=30)

    def both():
        agent.put("/v1/agent/check/pass/service:before")
        return seen_by(cluster[0], "before", agent.name) and \
            seen_by(cluster[0], "meanwhile", agent.name)
    eventually(both, "both are there")


def test_what_was_deregistered_while_alone_goes(cluster, agents):
    agent = agents(cluster)
    agent.register("stays", 80)
    agent.register("goes", 81, **TTL)
    eventually(lambda: nodes_of(cluster[0], "goes") == [agent.name], "registered")
    for server in cluster:
        server.kill()
    agent.put("/v1/agent/service/deregister/goes")
    for server in cluster:
        server.start()
    cluster.wait_leader(timeout=30)
    eventually(lambda: nodes_of(cluster[0], "goes") == [], "gone")
    assert nodes_of(cluster[0], "stays") == [agent.name]
    assert status_of(cluster[0], agent.name, "service:goes") is None


def test_a_node_that_is_wiped_comes_back(shared, agents):
    agent = agents(shared)
    agent.register("wiped", 80, **TTL)
    eventually(lambda: nodes_of(shared[0], "wiped") == [agent.name], "registered")
    agent.put("/v1/agent/check/pass/service:wiped")
    shared[1].put("/v1/catalog/deregister", {"Node": agent.name})
    eventually(lambda: nodes_of(shared[0], "wiped") == [agent.name], "back", 5)
    eventually(lambda: serf(shared[0], agent.name) == "passing", "alive", 5)
    agent.put("/v1/agent/service/deregister/wiped")


def test_a_check_that_only_the_cluster_ended_is_passing_again(cluster, agents):
    agent = agents(cluster)
    agent.register("cut", 80, **TTL)
    pass_ = "/v1/agent/check/pass/service:cut"
    agent.put(pass_)
    agent.pause()
    eventually(lambda: status_of(cluster[0], agent.name, "service:cut") == "critical",
               "ended by the cluster", 10)
    agent.resume()

    def renewed():
        agent.put(pass_)
        return status_of(cluster[0], agent.name, "service:cut") == "passing"
    eventually(renewed, "passing again", 5)


def test_a_check_nobody_renewed_stays_dead_after_a_restart(cluster, agents):
    agent = agents(cluster)
    agent.register("old", 80, **TTL)
    agent.put("/v1/agent/check/pass/service:old")
    agent.kill()
    eventually(lambda: status_of(cluster[0], agent.name, "service:old") == "critical",
               "ended", 10)
    agent.start()
    eventually(lambda: serf(cluster[0], agent.name) == "passing", "back")
    for _ in range(20):
        assert status_of(cluster[0], agent.name, "service:old") == "critical"
        time.sleep(0.1)  # It must not come back even for a moment.
    assert agent.get("/v1/agent/checks")["service:old"]["Status"] == "critical"


def test_a_service_the_cluster_gave_up_stays_gone_after_a_restart(cluster, agents):
    agent = agents(cluster)
    agent.register("gone", 80, Check={"TTL": "1s", "Status": "passing",
                                      "DeregisterCriticalServiceAfter": "3s"})
    agent.register("kept", 81)
    eventually(lambda: agent.get("/v1/agent/checks")["service:gone"]["Status"] ==
               "critical", "critical")
    agent.kill()
    eventually(lambda: nodes_of(cluster[0], "gone") == [], "removed", 10)
    agent.start()
    eventually(lambda: serf(cluster[0], agent.name) == "passing", "back")
    for _ in range(20):
        assert nodes_of(cluster[0], "gone") == []
        time.sleep(0.1)  # It must not come back even for a moment.
    assert list(agent.get("/v1/agent/services")) == ["kept"]


def test_a_critical_service_of_a_wiped_node_comes_back(shared, agents):
    agent = agents(shared)
    agent.register("early", 80, Check={
        "TTL": "60s", "DeregisterCriticalServiceAfter": "60s"})
    eventually(lambda: nodes_of(shared[0], "early") == [agent.name], "registered")
    shared[1].put("/v1/catalog/deregister", {"Node": agent.name})
    eventually(lambda: nodes_of(shared[0], "early") == [agent.name], "back", 5)
    agent.put("/v1/agent/service/deregister/early")


def test_ttl_checks_end_at_an_agent_that_is_alone(cluster, agents):
    agent = agents(cluster)
    agent.register("alone", 80, Check={
        "TTL": "1s", "Status": "passing",
        "DeregisterCriticalServiceAfter": "1s"})
    for server in cluster:
        server.kill()
    eventually(lambda: agent.get("/v1/agent/services") == {}, "removed", 6)


# ------------------------------------------------------------- leaving

def member(server, name):
    for m in server.get("/v1/agent/members", timeout=3):
        if m["Name"] == name:
            return m["Status"]
    return None


ALIVE, LEFT, FAILED = 1, 3, 4


@pytest.mark.parametrize("how", ["api", "sigterm", "sigint"])
def test_an_agent_leaves_in_order(shared, agents, how):
    agent = agents(shared)
    agent.register("leaving", 80)
    eventually(lambda: nodes_of(shared[0], "leaving") == [agent.name], "registered")
    assert member(shared[0], agent.name) == ALIVE
    if how == "api":
        agent.put("/v1/agent/leave")
    else:
        agent.send(signal.SIGTERM if how == "sigterm" else signal.SIGINT)
    assert agent.wait_exit() == 0
    eventually(lambda: nodes_of(shared[0], "leaving") == [], "gone")
    assert member(shared[0], agent.name) == LEFT
    agent.start()
    eventually(lambda: nodes_of(shared[0], "leaving") == [agent.name], "back")
    eventually(lambda: member(shared[0], agent.name) == ALIVE, "alive again")
    agent.put("/v1/agent/service/deregister/leaving")


def test_an_agent_told_not_to_leave_is_dead_after_sigterm(cluster, agents, tmp_path):
    conf = tmp_path / "stay.json"
    conf.write_text('{"leave_on_terminate": false, "node_ttl": "1s"}')
    agent = agents(cluster, 1, f"-config-file={conf}")
    agent.register("staying", 80)
    assert agent.terminate() == 0
    eventually(lambda: serf(cluster[0], agent.name) == "critical", "dead", 5)
    assert nodes_of(cluster[0], "staying") == [agent.name]
    assert member(cluster[0], agent.name) == FAILED


# ------------------------------------------------------------- starting

def test_a_second_agent_of_a_name_is_refused_while_the_first_lives(cluster, agents):
    first = agents(cluster)
    first.register("mine", 80)
    second = make_agent(cluster, name=first.name)
    second.start()
    try:
        eventually(lambda: f"the name {first.name} is in use by node" in
                   second.log_text(), "it is told")
        second.register("theirs", 81)
        assert nodes_of(cluster[0], "theirs") == []
        assert nodes_of(cluster[0], "mine") == [first.name]
        first.kill()
        eventually(lambda: nodes_of(cluster[0], "theirs", "passing") == [first.name],
                   "the second has the name", 15)
    finally:
        second.kill()


def test_an_agent_waits_for_servers_and_for_join(idle, cli):
    agent = make_agent(idle, joins=0)
    agent.start()
    try:
        eventually(lambda: "no address to join" in agent.log_text(), "it says so")
        assert agent.request("GET", "/v1/catalog/nodes").status == 500
        assert agent.get("/v1/agent/services") == {}
        for server in idle:
            server.start()
        idle.wait_leader(timeout=30)
        done = cli(agent, "join", idle[0].address)
        assert done.returncode == 0, done.stderr
        eventually(lambda: serf(idle[0], agent.name) == "passing", "joined")
        done = cli(agent, "members")
        assert agent.name in done.stdout and "n3" in done.stdout
        done = cli(agent, "info")
        assert "connected = true" in done.stdout
        assert cli(agent, "join", "127.0.0.254").returncode == 1
    finally:
        agent.kill()


def test_join_that_must_succeed_ends_the_start(idle):
    agent = make_agent(idle, f"-join={idle.net.address(1)}", joins=0)
    agent.start()
    assert agent.wait_exit() == 1


def test_a_data_folder_of_the_other_role_is_refused(solo, agents):
    agent = agents(solo, joins=1)
    agent.register("x", 80)
    agent.kill()
    solo[0].kill()
    for folder, flags, text in ((agent.folder, ["-server"], "is no server"),
                                (solo[0].folder, [], "belongs to a server")):
        done = subprocess.run(
            [binary(), "agent", f"-data-dir={folder}", "-bind=127.0.0.1", *flags],
            capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1
        assert text in done.stderr, done.stderr


def test_an_agent_is_small(shared, agents):
    agent = agents(shared)
    with open(f"/proc/{agent.process.pid}/maps", encoding="ascii") as maps:
        if "asan" in (text := maps.read()) or "tsan" in text:
            pytest.skip("a sanitizer's memory is not ours")
    agent.register("small", 80, **TTL)
    with open(f"/proc/{agent.process.pid}/status", encoding="ascii") as status:
        rss = next(int(line.split()[1]) for line in status
                   if line.startswith("VmRSS"))
    agent.put("/v1/agent/service/deregister/small")
    assert rss < 12 * 1024, f"{rss} kB"
