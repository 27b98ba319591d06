# SPDX-License-Identifier: Apache-2.0
"""Checks that an agent runs, the definitions of its files, maintenance."""

import json
import os
import signal
import socket
import threading

import pytest

from cluster import Cluster, Net, Server, eventually
from targets import GrpcTarget, HttpTarget


@pytest.fixture
def http_target(solo):
    target = HttpTarget(solo.net.address(200))
    yield target
    target.close()


@pytest.fixture
def grpc_target(solo):
    target = GrpcTarget(solo.net.address(200))
    yield target
    target.close()


@pytest.fixture
def lone(tmp_path):
    """A server with configuration files, not started, and its folder of them."""
    net = Net()
    folder = tmp_path / "conf"
    folder.mkdir()
    server = Server("n1", net.address(1), str(tmp_path / "n1"),
                    ["-server", "-bootstrap-expect=1",
                     f"-config-dir={folder}"])
    server.net = net
    server.conf = folder
    yield server
    server.kill()
    net.close()


def define(server, name="a.json", **members):
    (server.conf / name).write_text(json.dumps(members, indent=1))


def check(server, check_id):
    return server.get("/v1/agent/checks").get(check_id, {})


def status(server, check_id):
    found = check(server, check_id)
    return found.get("Status"), found.get("Output")


def becomes(server, check_id, wanted, text=""):
    """Wait for a status whose output holds the text; returns the output."""
    def there():
        is_now, output = status(server, check_id)
        assert is_now == wanted and text in output, (is_now, output)
        return True
    eventually(there, f"{check_id} is {wanted} ({text})")
    return status(server, check_id)[1]


def register_check(server, **members):
    server.put("/v1/agent/check/register",
               {"ID": "c", "Name": "c", "Interval": "1s", **members})


def log_position(server):
    """(revision, last entry of raft's log)."""
    raft = server.self()["Stats"]["raft"]
    return server.digest()[0], int(raft["last_log_index"])


# ---- success: what each kind of check finds ----

def test_http_check_follows_its_target(solo, http_target):
    server = solo[0]
    register_check(server, HTTP=http_target.url)
    output = becomes(server, "c", "passing")
    assert output == f"HTTP GET {http_target.url}: 200 OK Output: ok"
    http_target.action = (429, b"busy")
    becomes(server, "c", "warning", "429 Too Many Requests Output: busy")
    http_target.action = (500, b"")
    becomes(server, "c", "critical", "500 Internal Server Error")
    http_target.action = (200, b"x" * 1_000_000)
    output = becomes(server, "c", "passing", "Output: xxx")
    assert 4096 <= len(output) < 4096 + 100
    http_target.close()
    becomes(server, "c", "critical", "connection refused")


def test_http_redirect_is_not_followed(solo, http_target):
    def redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", http_target.url + "elsewhere")
        handler.end_headers()
    http_target.action = redirect
    register_check(solo[0], HTTP=http_target.url)
    becomes(solo[0], "c", "critical", "302 Found (to ")
    assert http_target.requests < 5


def test_http_answer_that_never_ends_is_cut_at_its_time(solo, http_target):
    done = threading.Event()

    def dribble(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"begin")
        done.wait(60)
    http_target.action = dribble
    register_check(solo[0], HTTP=http_target.url, Timeout="300ms")
    becomes(solo[0], "c", "passing", "Output: begin")
    http_target.action = lambda handler: done.wait(60)
    becomes(solo[0], "c", "critical", "context deadline exceeded")
    done.set()


def test_tcp_check_connects(solo):
    address = solo.net.address(200)
    listener = socket.create_server((address, 0))
    port = listener.getsockname()[1]
    register_check(solo[0], TCP=f"{address}:{port}")
    becomes(solo[0], "c", "passing", f"TCP connect {address}:{port}: Success")
    listener.close()
    becomes(solo[0], "c", "critical",
            f"dial tcp {address}:{port}: connect: connection refused")


def test_grpc_check_asks_the_health_service(solo, grpc_target):
    server = solo[0]
    register_check(server, GRPC=f"{grpc_target.address}/greeter")
    becomes(server, "c", "critical", "code = NotFound desc = unknown service")
    grpc_target.statuses = {"greeter": 1}
    becomes(server, "c", "passing", f"{grpc_target.address}/greeter: success")
    assert set(grpc_target.asked) == {"greeter"}
    grpc_target.statuses = {"greeter": 2}
    becomes(server, "c", "critical", "didn't report service healthy")
    grpc_target.statuses = None
    register_check(server, GRPC=grpc_target.address)
    # Output alone is no news, so the status has to change in between.
    grpc_target.statuses = {"": 1}
    becomes(server, "c", "passing", "success")
    grpc_target.statuses = None
    becomes(server, "c", "critical", "code = Unimplemented")
    grpc_target.close()


def test_grpc_check_of_something_else_is_critical(solo, http_target):
    register_check(solo[0], GRPC=http_target.url[7:-1])
    becomes(solo[0], "c", "critical", "rpc error: code = Unavailable")


def test_alias_check_follows_what_it_names(solo):
    server = solo[0]
    server.register("db", Check={"TTL": "1h", "CheckID": "dbc",
                                 "Status": "passing"})
    server.register("front", Check={"AliasService": "db", "CheckID": "al"})
    becomes(server, "al", "passing", "All checks passing.")
    server.put("/v1/agent/check/warn/dbc?note=hm")
    becomes(server, "al", "warning", "failing: hm")
    server.put("/v1/agent/check/pass/dbc")
    becomes(server, "al", "passing")
    server.put("/v1/agent/service/deregister/db")
    becomes(server, "al", "critical", "Service db could not be found")


def test_thresholds_count_results_in_a_row(solo, http_target):
    register_check(solo[0], HTTP=http_target.url, FailuresBeforeCritical=3,
                   Status="passing")
    becomes(solo[0], "c", "passing", "200 OK")
    asked = http_target.requests
    http_target.action = (500, b"")
    becomes(solo[0], "c", "critical", "500")
    assert http_target.requests - asked >= 3


def test_unchanged_results_write_nothing(solo, http_target):
    server = solo[0]
    for i in range(20):
        server.put("/v1/agent/check/register",
                   {"ID": f"c{i}", "Name": f"c{i}", "Interval": "1s",
                    "HTTP": http_target.url})
    for i in range(20):
        becomes(server, f"c{i}", "passing")
    before = log_position(server)
    asked = http_target.requests
    count = [0]

    def changing(handler):
        count[0] += 1
        body = b"%d" % count[0]
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)
    http_target.action = changing  # Output alone is no news either.
    eventually(lambda: http_target.requests > asked + 60, "three rounds")
    assert log_position(server) == before


def test_pause_of_the_agent_is_not_its_targets_death(solo, http_target):
    """Paused in the middle of a probe, the agent wakes up when its time is over
    and the answer has been waiting for it."""
    server = solo[0]
    begun = threading.Event()

    def slow(handler):
        begun.set()
        threading.Event().wait(0.5)
        handler.send_response(200)
        handler.end_headers()
    http_target.action = slow
    register_check(server, HTTP=http_target.url, Timeout="1200ms")
    becomes(server, "c", "passing")
    before = log_position(server)
    for _ in range(2):
        begun.clear()
        assert begun.wait(10)
        server.pause()
        threading.Event().wait(2)
        server.resume()
    asked = http_target.requests
    eventually(lambda: http_target.requests > asked + 2, "it goes on")
    assert log_position(server)[0] == before[0]
    becomes(server, "c", "passing")


def test_hanging_targets_do_not_delay_others(solo, http_target):
    """A target that accepts and says nothing, many times, beside a good one."""
    server = solo[0]
    hanging = socket.create_server((solo.net.address(201), 0), backlog=512)
    url = "http://%s:%d/" % hanging.getsockname()
    for i in range(100):
        server.put("/v1/agent/check/register",
                   {"ID": f"h{i}", "Name": "h", "Interval": "1s",
                    "Timeout": "30s", "HTTP": url})
    eventually(lambda: len(server.get("/v1/agent/checks")) == 100, "registered")
    register_check(server, HTTP=http_target.url)
    becomes(server, "c", "passing")
    http_target.action = (500, b"")
    becomes(server, "c", "critical")
    assert server.terminate() == 0
    hanging.close()


def test_service_of_a_follower_is_checked_there_and_seen_everywhere(cluster):
    target = HttpTarget(cluster.net.address(200))
    owner = cluster.followers()[0]
    owner.register("web", Check={"HTTP": target.url, "Interval": "1s"})

    def passing(n):
        return all(len(s.get("/v1/health/service/web?passing&stale")) == n
                   for s in cluster.running())
    eventually(lambda: passing(1), "passing everywhere")
    cluster.wait_leader().kill()
    target.action = (500, b"")
    eventually(lambda: passing(0), "critical everywhere without the leader")
    target.close()


@pytest.fixture
def agent(solo, tmp_path):
    """An agent that is no server, beside one; with a folder of files."""
    folder = tmp_path / "conf"
    folder.mkdir()
    one = Server("a1", solo.net.address(101), str(tmp_path / "a1"),
                 [f"-retry-join={solo[0].address}", "-retry-interval=1s",
                  f"-config-dir={folder}"])
    one.conf = folder
    yield one
    one.kill()


def test_agent_runs_its_checks_and_the_cluster_sees_them(solo, agent):
    target = HttpTarget(solo.net.address(200))
    define(agent, service={"name": "web", "check": {
        "http": target.url, "interval": "1s"}})
    agent.start()

    def seen(wanted):
        found = solo[0].get("/v1/health/service/web")
        return [i["Checks"][-1]["Status"] for i in found] == [wanted]
    eventually(lambda: seen("passing"), "passing in the cluster", 30)
    target.action = (500, b"")
    eventually(lambda: seen("critical"), "critical in the cluster")
    assert solo[0].get("/v1/health/service/web?passing") == []
    agent.kill()
    target.action = (200, b"")
    define(agent, service={"name": "other"})
    agent.start()
    eventually(lambda: solo[0].get("/v1/health/service/web") == []
               and solo[0].get("/v1/health/service/other?passing"),
               "what left its files while it was down is gone", 30)
    target.close()


def test_agent_follows_an_alias_of_another_node(solo, agent):
    server = solo[0]
    agent.start()
    server.register("db", Check={"TTL": "1h", "CheckID": "dbc",
                                 "Status": "passing"})
    eventually(lambda: agent.leader_address(), "the agent has a server", 30)
    agent.register("front", Check={"AliasNode": server.name,
                                   "AliasService": "db", "CheckID": "al"})
    eventually(lambda: server.get("/v1/health/service/front?passing"),
               "passing", 20)
    server.put("/v1/agent/check/fail/dbc?note=broken")
    eventually(lambda: server.get("/v1/health/service/front?passing") == [],
               "critical", 20)
    assert "failing: broken" in status(agent, "al")[1]


# ---- scripts ----

def test_scripts_from_the_api_need_the_switch(solo):
    answer = solo[0].request("PUT", "/v1/agent/check/register",
                             {"Name": "c", "Args": ["true"], "Interval": "1s"})
    assert answer.status == 500
    assert "Scripts are disabled on this agent from remote calls" in answer.text
    assert solo[0].get("/v1/agent/checks") == {}


def test_scripts_are_run_and_killed_with_the_agent(tmp_path):
    cluster = Cluster(tmp_path, n=1, flags=["-enable-script-checks"])
    try:
        server = cluster[0]
        register_check(server, Args=["sh", "-c", "echo hi; exit 1"])
        becomes(server, "c", "warning", "hi\n")
        pid = tmp_path / "pid"
        server.put("/v1/agent/check/register",
                   {"ID": "slow", "Name": "slow", "Interval": "1s",
                    "Args": ["sh", "-c", f"sleep 600 & echo $! >{pid}; wait"]})
        child = eventually(lambda: int(pid.read_text()), "the script runs")
        assert server.terminate() == 0

        def gone():
            with open(f"/proc/{child}/stat", encoding="ascii") as stat:
                return ") Z " in stat.read()
        try:
            eventually(gone, "its child is killed")
        except AssertionError:
            assert not os.path.exists(f"/proc/{child}")
    finally:
        cluster.close()


def test_local_scripts_are_only_those_of_files(lone):
    define(lone, enable_local_script_checks=True,
           check={"name": "mine", "args": ["echo", "local"], "interval": "1s"})
    lone.start()
    becomes_ready(lone)
    becomes(lone, "mine", "passing", "local")
    answer = lone.request("PUT", "/v1/agent/check/register",
                          {"ID": "mine", "Name": "mine", "Interval": "1s",
                           "Args": ["echo", "other"]})
    assert answer.status == 500


# ---- definitions in files ----

def becomes_ready(server):
    eventually(lambda: server.leader_address(), f"{server.name} leads", 20)


def services(server):
    return sorted(server.get("/v1/agent/services"))


def test_files_define_services_and_checks(lone):
    define(lone, "a.json", service={
        "name": "web", "port": 80, "tags": ["v1"], "meta": {"a": "b"},
        "enable_tag_override": True, "weights": {"passing": 5, "warning": 2},
        "tagged_addresses": {"lan": {"address": "10.0.0.1", "port": 8}},
        "check": {"ttl": "1h", "status": "passing", "notes": "n",
                  "deregister_critical_service_after": "2h"}})
    define(lone, "b.json",
           services=[{"ID": "api1", "Name": "api", "EnableTagOverride": True},
                     {"id": "api2", "name": "api", "checks": [
                         {"id": "x", "ttl": "1h"}, {"TTL": "1h"}]}],
           checks=[{"id": "mem", "name": "memory", "ttl": "1h",
                    "service_id": "api1"}, {"name": "disk", "ttl": "1h"}])
    lone.start()
    becomes_ready(lone)
    eventually(lambda: services(lone) == ["api1", "api2", "web"], "registered")
    web = lone.get("/v1/agent/services")["web"]
    assert web["Port"] == 80 and web["Tags"] == ["v1"]
    assert web["EnableTagOverride"] and web["Meta"] == {"a": "b"}
    assert web["Weights"] == {"Passing": 5, "Warning": 2}
    assert web["TaggedAddresses"]["lan"] == {"Address": "10.0.0.1", "Port": 8}
    eventually(lambda: sorted(lone.get("/v1/agent/checks")) == [
        "disk", "mem", "service:api2:2", "service:web", "x"], "the checks")
    assert check(lone, "mem")["ServiceID"] == "api1"
    assert status(lone, "service:web")[0] == "passing"


@pytest.mark.parametrize("how", ["api", "hup", "cli"])
def test_reload_adds_changes_and_removes(lone, cli, how):
    def reload():
        if how == "api":
            lone.put("/v1/agent/reload")
        elif how == "cli":
            done = cli(lone, "reload")
            assert done.stdout == "Configuration reload triggered\n", done
        else:
            lone.send(signal.SIGHUP)
    define(lone, services=[{"name": "keep", "port": 1,
                            "check": {"ttl": "1h", "id": "k"}},
                           {"name": "gone", "check": {"ttl": "1h"}}],
           check={"name": "old", "ttl": "1h"})
    lone.start()
    becomes_ready(lone)
    eventually(lambda: services(lone) == ["gone", "keep"], "registered")
    lone.register("byapi")
    lone.put("/v1/agent/check/pass/k?note=fine")
    define(lone, services=[{"name": "keep", "port": 2,
                            "check": {"ttl": "1h", "id": "k"}},
                           {"name": "new"}])
    reload()
    eventually(lambda: services(lone) == ["byapi", "keep", "new"], "reloaded")
    eventually(lambda: lone.get("/v1/agent/services")["keep"]["Port"] == 2,
               "changed")
    eventually(lambda: sorted(lone.get("/v1/agent/checks")) == ["k"],
               "the other checks are gone")
    assert status(lone, "k") == ("passing", "fine")


def test_what_left_the_files_while_the_agent_was_down_is_taken_out(lone):
    define(lone, services=[{"name": "a"}, {"name": "b"}],
           check={"name": "c", "ttl": "1h"})
    lone.start()
    becomes_ready(lone)
    eventually(lambda: services(lone) == ["a", "b"]
               and check(lone, "c"), "registered")
    lone.register("byapi")
    lone.kill()
    define(lone, services=[{"name": "b"}])
    lone.start()
    becomes_ready(lone)
    eventually(lambda: services(lone) == ["b", "byapi"], "taken out")
    assert lone.get("/v1/agent/checks") == {}


def test_node_that_was_wiped_gets_its_files_back(lone):
    define(lone, service={"name": "web", "check": {"ttl": "1h"}})
    lone.start()
    becomes_ready(lone)
    eventually(lambda: services(lone) == ["web"], "registered")
    lone.put("/v1/catalog/deregister", {"Node": "n1"})
    eventually(lambda: services(lone) == ["web"], "registered again")
    assert list(lone.get("/v1/agent/checks")) == ["service:web"]


def test_unchanged_files_write_nothing(lone):
    define(lone, service={"name": "web", "check": {"ttl": "1h"}})
    lone.start()
    becomes_ready(lone)
    eventually(lambda: services(lone) == ["web"], "registered")
    before = lone.digest()
    lone.put("/v1/agent/reload")
    assert lone.digest() == before


# ---- maintenance ----

def test_maintenance_survives_a_restart(lone, cli):
    lone.start()
    becomes_ready(lone)
    lone.register("web")
    assert cli(lone, "maint").stdout == ""
    done = cli(lone, "maint", "-enable", "-service=web", "-reason=new disk")
    assert done.stdout == 'Service maintenance is now enabled for "web"\n'
    assert cli(lone, "maint", "-enable").stdout == \
        "Node maintenance is now enabled\n"
    lone.kill()
    lone.start()
    becomes_ready(lone)
    text = cli(lone, "maint").stdout
    assert "Node:\n  Name:   n1\n  Reason: Maintenance mode is enabled" in text
    assert "Service:\n  ID:     web\n  Reason: new disk\n\n" in text
    assert lone.get("/v1/health/service/web?passing") == []
    cli(lone, "maint", "-disable")
    cli(lone, "maint", "-disable", "-service=web")
    assert cli(lone, "maint").stdout == ""
    assert len(lone.get("/v1/health/service/web?passing")) == 1


# ---- failure ----

@pytest.mark.parametrize("text, wanted", [
    ('{\n"service": {"naem": "x"}}',
     "a.json: line 2: invalid config key service.naem (did you mean name?)"),
    ('{"services": [{"name": "x"},\n {"name": "y", "port": "80"}]}',
     "a.json: line 2: services[1].port: expected type 'int', got "
     "unconvertible type 'string'"),
    ('{"service": {"name": "x",\n "check": {\n"ttl": "bogus"}}}',
     'a.json: line 3: service.check.ttl: invalid duration: "bogus": time: '
     'invalid duration "bogus"'),
    ('{"service": {"port": 1}}', "Missing service name"),
    ('{"service": {"name": "s", "check": {"http": "http://x"}}}',
     "Interval must be > 0 for Script, HTTP, or TCP checks"),
    ('{"check": {"name": "c", "http": "http://x", "tcp": "x:1", '
     '"interval": "1s"}}', "only one of HTTP, TCP"),
    ('{"check": {"name": "c", "args": ["true"], "interval": "1s"}}',
     "Scripts are disabled on this agent"),
    ('{"check": {"name": "c", "ttl": "1h", "service_id": "nope"}}',
     'ServiceID "nope" does not exist'),
    ('{"service": {"name": "s"', "line 1"),
])
def test_wrong_file_changes_nothing(lone, cli, text, wanted):
    define(lone, service={"name": "web", "port": 1})
    lone.start()
    becomes_ready(lone)
    eventually(lambda: services(lone) == ["web"], "registered")
    define(lone, "0.json", service={"name": "web", "port": 2},
           services=[{"name": "more"}])
    (lone.conf / "a.json").write_text(text)
    before = lone.digest()
    answer = lone.request("PUT", "/v1/agent/reload")
    assert answer.status == 500
    assert wanted in answer.text
    assert wanted in cli(lone, "reload").stderr
    assert lone.digest() == before
    assert lone.get("/v1/agent/services")["web"]["Port"] == 1


def test_wrong_file_at_the_start_ends_the_agent(lone):
    (lone.conf / "a.json").write_text('{"service": {"name": "x", "prot": 1}}')
    lone.start()
    assert lone.wait_exit() == 1
    assert "invalid config key service.prot (did you mean port?)" in \
        lone.log_text()


def test_reload_that_cannot_be_applied_says_so(idle, tmp_path):
    """Without a quorum the files are read, and registered later."""
    folder = tmp_path / "conf"
    folder.mkdir()
    server = idle[0]
    server.flags.append(f"-config-dir={folder}")
    for one in idle:
        one.start()
    idle.wait_leader(timeout=30)
    for other in idle.servers[1:]:
        other.kill()
    (folder / "a.json").write_text('{"service": {"name": "late"}}')
    answer = server.request("PUT", "/v1/agent/reload", timeout=30)
    assert answer.status >= 500 and "not registered yet" in answer.text
    for other in idle.servers[1:]:
        other.start()
    idle.wait_leader(timeout=30)
    eventually(lambda: "late" in server.get("/v1/agent/services"),
               "registered when there is a leader")
