# SPDX-License-Identifier: Apache-2.0
"""Fleets: go-micro's own registry plugins, as they are, pointed at microreg, beside
programs with --registry=microreg."""

import os
import signal
import subprocess
import threading
import time

import pytest

from cluster import POLL_S, die_with_parent, eventually
from fleet import Native, Program, Wire, built, gone
from test_agents import agents  # noqa: F401 (a fixture)

CONSUL = ["micro5", "micro4", "micro2"]  # Their go-micro has the plugin.
TTL_S = 2.0
SLACK_S = 0.5  # Of this machine, beside the second that is promised.


def service(name, node, address="10.0.0.7:9090", version="1.0"):
    """A service as go-micro's servers register it."""
    value = {"name": "Request", "type": "Request",
             "values": [{"name": "name", "type": "string", "values": None}]}
    return {"name": name, "version": version, "metadata": None,
            "endpoints": [
                {"name": "Say.Hello", "request": value, "response": value,
                 "metadata": {"stream": "false"}},
                {"name": "Say.Bye", "request": value, "response": None,
                 "metadata": {}}],
            "nodes": [{"id": node, "address": address,
                       "metadata": {"protocol": "mucp", "transport": "http",
                                    "server": "mucp", "who": name}}]}


def comparable(services):
    """Services as they must look from every side. Go's plugins keep no order of
    endpoints and no metadata of services."""
    return sorted(
        (s["name"], s["version"],
         sorted((e["name"], str(e["request"]), str(e["response"]),
                 str(sorted((e["metadata"] or {}).items())))
                for e in s["endpoints"] or []),
         sorted((n["id"], n["address"], sorted((n["metadata"] or {}).items()))
                for n in s["nodes"] or []))
        for s in services if s["nodes"])


def nodes_of(services):
    return [node for s in services for node in s["nodes"] or []]


def throughout(seconds, condition):
    """The condition holds, and goes on to hold for so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert condition()
        time.sleep(10 * POLL_S)


@pytest.fixture
def programs():
    """Makes programs, and ends them with the test."""
    made = []

    def make(kind, *arguments, **members):
        made.append(kind(*arguments, **members))
        return made[-1]
    yield make
    for program in made:
        program.kill()


def addresses(cluster):
    return [f"{s.address}:8500" for s in cluster]


# ---- go-micro's consul plugin

@pytest.mark.parametrize("module", CONSUL)
def test_what_the_consul_plugin_registers_it_gets_and_lists(
        shared, programs, module):
    one, other = (programs(Program, module, "consul", addresses(shared))
                  for _ in range(2))
    name = f"{module}.registers"
    made = service(name, f"{name}-1")
    one.register(made, 30)
    assert comparable(other.get(name)) == comparable([made])
    assert name in other.list()
    assert comparable(Native(shared[1].address).get(name)) == \
        comparable([made])

    changed = service(name, f"{name}-1", "10.0.0.7:9091", "2.0")
    one.register(changed, 30)
    assert comparable(other.get(name)) == comparable([changed])

    one.deregister(changed)
    eventually(lambda: not other.get(name), "it is gone")
    assert name not in other.list()


@pytest.mark.parametrize("module", CONSUL)
def test_who_renews_by_the_consul_plugin_stays_and_who_is_killed_goes(
        shared, programs, module):
    one, other = (programs(Program, module, "consul", addresses(shared))
                  for _ in range(2))
    name = f"{module}.renews"
    made = service(name, f"{name}-1")
    one.keep(made, TTL_S, TTL_S / 4)
    watched = other.watch(name)
    watched.node(f"{name}-1")
    throughout(2 * TTL_S, lambda: comparable(other.get(name)) ==
               comparable([made]))
    one.kill()
    died = time.monotonic()
    event = watched.node(f"{name}-1", ["delete"], 2 * TTL_S + 5)
    assert event["at"] - died <= TTL_S + 1 + SLACK_S
    gone(other, name, f"{name}-1")
    assert time.monotonic() - died <= TTL_S + 1 + SLACK_S


@pytest.mark.parametrize("module", CONSUL)
def test_a_watcher_of_the_consul_plugin_sees_every_change(
        shared, programs, module):
    one, other = (programs(Program, module, "consul", addresses(shared))
                  for _ in range(2))
    name = f"{module}.watched"
    watched = other.watch(name)
    first, second = (service(name, f"{name}-{i}", f"10.0.0.{i}:80")
                     for i in (1, 2))
    one.register(first, 30)
    event = watched.node(f"{name}-1")
    assert comparable([event["service"]]) == comparable([first])
    Native(shared[2].address).register(second, 30)
    watched.node(f"{name}-2")
    one.deregister(first)
    event = watched.node(f"{name}-1", ["delete"])
    assert [n["id"] for n in event["service"]["nodes"]] == [f"{name}-1"]
    Native(shared[2].address).deregister(second)
    watched.node(f"{name}-2", ["delete"])


@pytest.mark.parametrize("module", CONSUL)
def test_the_consul_plugin_passes_over_addresses_that_are_dead(
        shared, programs, module):
    """It tries them when it begins; one without a port means 8500."""
    dead = [f"{shared.net.address(77)}:8500", f"{shared[0].address}:1"]
    one = programs(Program, module, "consul", [*dead, shared[2].address])
    made = service(f"{module}.passes", f"{module}.passes-1")
    one.register(made, 30)
    assert comparable(one.get(made["name"])) == comparable([made])
    one.deregister(made)


def test_the_consul_plugin_of_version_2_watches_all_services(shared, programs):
    watched = programs(Program, "micro2", "consul", addresses(shared)).watch("")
    native = Native(shared[0].address)
    made = [service(f"all.{i}", f"all.{i}-1") for i in range(50)]
    for one in made:
        native.register(one, 30)
    left = {one["name"] for one in made}
    while left:
        event = watched.until(lambda e: e["service"]["nodes"], f"all of {left}")
        left.discard(event["service"]["name"])
    native.deregister(made[7])
    watched.node("all.7-1", ["delete"])
    for one in made:
        native.deregister(one)


def test_watchers_of_the_consul_plugin_live_through_a_new_leader(
        cluster, programs):
    leader = cluster.wait_leader()
    others = [s for s in cluster if s is not leader]
    watchers = {m: programs(Program, m, "consul", addresses(others))
                for m in CONSUL}
    watched = {m: p.watch("moved") for m, p in watchers.items()}
    writer = programs(Program, "micro5", "consul", addresses(others))
    writer.keep(service("moved", "moved-1"), 10, 1)
    for w in watched.values():
        w.node("moved-1")
    leader.kill()
    cluster.wait_leader(others)
    Native(others[0].address).register(
        service("moved", "moved-2", "10.0.0.8:1"), 30)
    asked = time.monotonic()
    for w in watched.values():
        w.node("moved-2", timeout=5)
    assert time.monotonic() - asked < 2
    for w in watched.values():
        assert not [e for e in w.seen if e.get("action") == "delete"], w.seen


# ---- mixed fleets

def sides_of(cluster, programs, module):
    """One program a registry, each with all servers' addresses."""
    all_of_them = addresses(cluster)
    return {"microreg": programs(Program, module, "microreg", all_of_them),
            "consul": programs(Program, module, "consul", all_of_them),
            "proxy": programs(Wire, all_of_them)}


def complete(sides, made):
    """Wait until every side has every service, as it was registered."""
    for side in sides.values():
        for service_ in made.values():
            eventually(lambda: comparable(side.get(service_["name"])) ==
                       comparable([service_]),
                       f"{service_['name']} for {side.name}")
        names = side.list()
        assert all(s["name"] in names for s in made.values()), names


@pytest.mark.parametrize("module", CONSUL)
def test_a_mixed_fleet_sees_itself_from_every_side(shared, programs, module):
    live_and_die(sides_of(shared, programs, module), module, shared[0].address)


def test_a_mixed_fleet_at_agents_sees_itself_from_every_side(
        cluster, programs, agents):
    """Each program has the agent of its own machine."""
    each = agents(cluster, 3)
    sides = {kind: side for agent, kind in zip(each, ["microreg", "consul",
                                                      "proxy"])
             for k, side in sides_of([agent], programs, "micro5").items()
             if k == kind}
    live_and_die(sides, "agents", cluster[0].address)


def live_and_die(sides, module, address):
    """The life of a fleet, all in all."""
    made = {kind: service(f"{module}.on.{kind}", f"{module}-{kind}-1",
                          f"10.0.0.{i}:90{i}", f"{i}.0")
            for i, kind in enumerate(sides, 1)}
    watched = {(kind, of): side.watch(made[of]["name"])
               for kind, side in sides.items() for of in sides}
    for kind, side in sides.items():
        side.keep(made[kind], TTL_S, TTL_S / 4)
    complete(sides, made)
    for (_, of), watcher in watched.items():
        event = watcher.node(f"{module}-{of}-1")
        assert comparable([event["service"]]) == comparable([made[of]])

    sides["consul"].kill()
    dies_everywhere(sides, watched, made, "consul")
    sides["microreg"].kill()
    dies_everywhere(sides, watched, made, "microreg")

    # The proxy plugin sends no TTL, so what it registered stays.
    sides["proxy"].kill()
    last = Native(address)
    assert comparable(last.get(made["proxy"]["name"])) == \
        comparable([made["proxy"]])
    last.deregister(made["proxy"])
    gone(last, made["proxy"]["name"], f"{module}-proxy-1")


def dies_everywhere(sides, watched, made, dead):
    """The side was killed just now: the others see it go within TTL + 1 s, and
    nothing else change."""
    died = time.monotonic()
    node = made[dead]["nodes"][0]["id"]
    alive = {k: s for k, s in sides.items()
             if isinstance(s, Wire) or s.process.poll() is None}
    for side in alive.values():
        gone(side, made[dead]["name"], node)
        assert time.monotonic() - died <= TTL_S + 1 + SLACK_S, side.name
    for kind in alive:
        event = watched[kind, dead].node(node, ["delete"])
        assert event["at"] - died <= TTL_S + 1 + SLACK_S, kind
    complete(alive, {k: made[k] for k in alive})


def test_one_service_of_three_registries_has_all_versions_and_nodes(
        shared, programs):
    sides = sides_of(shared, programs, "micro5")
    made = [service("shared.name", f"shared-{kind}-{i}", f"10.1.{n}.{i}:80",
                    version)
            for n, kind in enumerate(sides)
            for i, version in enumerate(["1.0", kind], 1)]
    everything = [
        {**made[0], "version": version, "nodes": [
            s["nodes"][0] for s in made if s["version"] == version]}
        for version in ["1.0", *sides]]
    # A plugin remembers one registration for each name.
    for kind, one in zip([k for k in sides for _ in "12"], made):
        maker = sides[kind] if one["version"] == "1.0" else programs(
            Native, shared[0].address)
        maker.register(one, 30)
    for side in sides.values():
        eventually(lambda: comparable(side.get("shared.name")) ==
                   comparable(everything), f"all of it for {side.name}")


def test_a_mixed_fleet_whose_leader_dies_with_one_of_them(cluster, programs):
    leader = cluster.wait_leader()
    others = [s for s in cluster if s is not leader]
    sides = sides_of(others, programs, "micro5")
    made = {kind: service(f"on.{kind}", f"{kind}-1", f"10.0.0.{i}:80")
            for i, kind in enumerate(sides, 1)}
    watched = {(kind, of): side.watch(made[of]["name"])
               for kind, side in sides.items() for of in sides}
    for kind, side in sides.items():
        side.keep(made[kind], TTL_S, TTL_S / 4)
    complete(sides, made)
    leader.kill()
    sides["consul"].kill()
    dies_everywhere(sides, watched, made, "consul")
    for (kind, of), watcher in watched.items():
        if "consul" not in (kind, of):
            assert not [e for e in watcher.seen
                        if e.get("action") == "delete"], (kind, of)


@pytest.mark.parametrize("kind", ["microreg", "proxy"])
def test_all_nodes_of_a_registration_are_seen_from_every_side(
        shared, programs, kind):
    """The consul plugin registers the first one only."""
    sides = sides_of(shared, programs, "micro5")
    made = service(f"{kind}.many", "many-0")
    made["nodes"] = [{"id": f"many-{i}", "address": f"10.0.1.{i}:80",
                      "metadata": {"i": str(i)}} for i in range(20)]
    sides[kind].register(made, 30)
    for side in sides.values():
        assert comparable(side.get(made["name"])) == comparable([made])
    sides[kind].deregister(made)
    for side in sides.values():
        gone(side, made["name"], "many-19")


@pytest.mark.parametrize("kind", ["microreg", "consul", "proxy"])
def test_a_node_with_another_version_leaves_the_old_one_for_all_watchers(
        shared, programs, kind):
    """go-micro's cache keeps nodes by version: an update alone would leave the
    old version's node in it."""
    sides = sides_of(shared, programs, "micro5")
    name = f"{kind}.moves"
    watched = {k: side.watch(name) for k, side in sides.items()}
    sides[kind].register(service(name, f"{name}-1", version="1.0"), 30)
    for watcher in watched.values():
        assert watcher.node(f"{name}-1")["service"]["version"] == "1.0"
    sides[kind].register(service(name, f"{name}-1", version="2.0"), 30)
    for watcher in watched.values():
        told = [watcher.until(lambda e: e.get("action") == "delete" or
                              e["service"]["version"] == "2.0", "the move")]
        told.append(watcher.until(lambda e: e["action"] != told[0]["action"],
                                  "its other half"))
        assert {(e["action"] == "delete", e["service"]["version"])
                for e in told} == {(True, "1.0"), (False, "2.0")}
    sides[kind].deregister(service(name, f"{name}-1"))


# ---- watchers of the proxy plugin

def test_a_server_that_stops_tells_watchers_of_the_proxy_plugin(
        cluster, programs):
    """The plugin's watcher ends at a close frame only, and go-micro then
    watches again; at a broken connection it would wait for ever."""
    watched = programs(Wire, addresses(cluster)).watch("stopped")
    Native(cluster[1].address).register(service("stopped", "stopped-1"), 30)
    watched.node("stopped-1")
    assert cluster[0].terminate() == 0
    event = watched.until(lambda e: "error" in e, "the end", 5)
    assert event["error"] == "the server closed"


def test_what_is_too_large_for_the_proxy_plugin_ends_no_watcher(
        shared, programs):
    """It takes 16 KiB a message: what is larger cannot be told, and what comes
    after it is."""
    watched = programs(Wire, addresses(shared)).watch("large")
    native = Native(shared[1].address)
    large = service("large", "large-1")
    large["nodes"][0]["metadata"] = {f"k{i}": "x" * 4000 for i in range(10)}
    native.register(large, 30)
    native.register(service("large", "large-2"), 30)
    event = watched.node("large-2")
    assert not [e for e in watched.seen if "error" in e], event
    native.deregister(large)
    native.deregister(service("large", "large-2"))


# ---- whole services of go-micro, by their command lines

class Served:
    """A go-micro service with all of its command line."""

    def __init__(self, module, registry, all_of_them, ttl_s):
        self.process = subprocess.Popen(
            [built(module), "serve", f"--registry={registry}",
             f"--registry_address={','.join(all_of_them)}",
             f"--server_name={module}.{registry}.served",
             "--server_address=127.0.0.1:0",
             f"--register_ttl={ttl_s}", "--register_interval=1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("registry", ["consul", "microreg"])
@pytest.mark.parametrize("module", CONSUL)
def test_a_service_of_go_micro_comes_by_its_flags_and_goes(
        shared, programs, module, registry):
    name, ttl_s = f"{module}.{registry}.served", 2
    served = programs(Served, module, registry, addresses(shared), ttl_s)
    native = Native(shared[0].address)
    (found,) = eventually(lambda: native.get(name), f"{name} is there")
    assert found["version"] == "1.0"
    assert [e["name"] for e in found["endpoints"]] == ["Say.Hello"]
    (node,) = found["nodes"]
    assert node["metadata"]["registry"] == registry
    throughout(2 * ttl_s, lambda: native.get(name) == [found])
    # Another one of the same name; the first one ends as it should.
    other = programs(Served, module, registry, addresses(shared), ttl_s)
    eventually(lambda: len(nodes_of(native.get(name))) == 2, "both")
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: node not in nodes_of(native.get(name)),
               "the first signed off", ttl_s / 2)
    other.kill()
    died = time.monotonic()
    eventually(lambda: native.get(name) == [], "the other went")
    assert time.monotonic() - died <= ttl_s + 1 + SLACK_S


class Caller:
    """A go-micro client that calls a service all the time."""

    def __init__(self, module, registry, all_of_them, callee):
        self.answers = []  # (when, who answered or "error ...")
        self.process = subprocess.Popen(
            [built(module), "call", f"--registry={registry}",
             f"--registry_address={','.join(all_of_them)}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "CALLEE": callee}, preexec_fn=die_with_parent)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.answers.append((time.monotonic(), line.strip()))

    def answered(self, since):
        return {who for when, who in self.answers if when > since}

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("module, server, client", [
    ("micro5", "microreg", "consul"), ("micro5", "consul", "microreg"),
    ("micro4", "microreg", "consul"), ("micro4", "consul", "microreg"),
    ("micro2", "microreg", "consul"), ("micro2", "consul", "microreg")])
def test_clients_stop_calling_a_dead_server_of_the_other_registry(
        shared, programs, module, server, client):
    ttl_s = 2
    one, two = (programs(Served, module, server, addresses(shared), ttl_s)
                for _ in range(2))
    name = f"{module}.{server}.served"
    native = Native(shared[0].address)
    eventually(lambda: len(nodes_of(native.get(name))) == 2, "both serve")
    caller = programs(Caller, module, client, addresses(shared), name)
    pids = {str(p.process.pid) for p in (one, two)}
    eventually(lambda: pids <= caller.answered(0), f"both answer ({pids})")

    one.kill()
    left = str(two.process.pid)
    since = time.monotonic() + ttl_s + 1 + SLACK_S
    eventually(lambda: len([a for a in caller.answers if a[0] > since]) > 20,
               "calls after the TTL and a second")
    assert caller.answered(since) == {left}
    three = programs(Served, module, server, addresses(shared), ttl_s)
    new = {left, str(three.process.pid)}
    eventually(lambda: new <= caller.answered(since), f"the new one ({new})")
    assert caller.answered(since) == new
