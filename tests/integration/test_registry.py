# SPDX-License-Identifier: Apache-2.0
"""The native registry: its TTLs, its renewals, and the other views of it."""

import time
import zlib

import dns.rdatatype

from cluster import eventually
from test_cluster import ask, targets

NAME = "go.micro.srv.greeter"
SLACK_S = 0.5  # Of this machine, beside the second that is promised.


def service(name=NAME, node="greeter-1", address="10.0.0.7:9090", **members):
    """A service in go-micro's JSON."""
    return {"name": name, "version": "1.0", "metadata": {"type": "api"},
            "endpoints": [{"name": "Say.Hello", "request": None,
                           "response": None, "metadata": {"stream": "false"}}],
            "nodes": [{"id": node, "address": address,
                       "metadata": {"protocol": "http"}}], **members}


def post(server, body, ttl="30s", status=200, more=""):
    answer = server.request("POST", f"/registry?ttl={ttl}{more}", body)
    assert answer.status == status, answer
    return answer.json if status == 200 else answer.text


def renewal(body, made, **members):
    """The renewal of what the POST of the body answered."""
    return {"nodes": [{"name": body["name"], "id": node["id"],
                       "digest": node["digest"], **members}
                      for node in made["nodes"]]}


def renew(server, body):
    return server.request("PUT", "/registry/renew", body)


def listed(server, name=NAME, query=""):
    return server.get(f"/registry?service={name}{query}")


def tag(kind, text):
    return f"{kind}-{zlib.compress(text.encode()).hex()}"


def test_what_is_registered_natively_is_seen_in_every_view(cluster):
    body = service()
    post(cluster.followers()[0], body)
    for server in cluster:
        assert listed(server) == [body]
        instance, = server.get(f"/v1/health/service/{NAME}?passing")
        assert instance["Node"]["Node"] == f"registry:{NAME}"
        assert instance["Service"]["Address"] == "10.0.0.7"
        assert instance["Service"]["Port"] == 9090
        assert instance["Service"]["Meta"] == {"protocol": "http"}
        assert instance["Service"]["Tags"] == [
            tag("t", '{"protocol":"http"}'),
            tag("e", '{"name":"Say.Hello","request":null,"response":null,'
                '"metadata":{"stream":"false"}}'), tag("v", "1.0")]
        assert NAME in server.get("/v1/catalog/services")
        message = ask(server, f"{NAME}.service.micro")
        assert [port for port, _ in targets(message)] == [9090]
        assert ["10.0.0.7"] == [r.address for rrset in message.additional
                                for r in rrset if r.rdtype == dns.rdatatype.A]
    cluster[0].request("DELETE", "/registry", body)
    for server in cluster:
        assert listed(server) == []
        assert f"registry:{NAME}" not in str(server.get("/v1/catalog/nodes"))


def test_what_the_consul_plugin_registers_is_seen_natively(solo):
    server = solo[0]
    server.put("/v1/agent/service/register", {
        "ID": "greeter-2", "Name": NAME, "Address": "10.0.0.8", "Port": 80,
        "Meta": {"protocol": "grpc"},
        "Tags": [tag("t", '{"protocol":"grpc"}'), tag("e", '{"name":"A.B"}'),
                 tag("v", "latest")],
        "Check": {"TTL": "1m0s", "DeregisterCriticalServiceAfter": "1m5s"}})
    assert listed(server) == [], "its check is critical"
    server.put("/v1/agent/check/pass/service:greeter-2?note=")
    assert listed(server) == [{
        "name": NAME, "version": "latest", "metadata": None,
        "endpoints": [{"name": "A.B", "request": None, "response": None,
                       "metadata": None}],
        "nodes": [{"id": "greeter-2", "address": "10.0.0.8:80",
                   "metadata": {"protocol": "grpc"}}]}]


def test_an_instance_dies_within_a_second_after_its_ttl(cluster):
    reader, writer = cluster.followers()[0], cluster.find_leader()
    body = service()
    made = post(writer, body, ttl="2s")
    for _ in range(6):
        time.sleep(0.5)
        assert renew(reader, renewal(body, made)).status == 200
    last = time.monotonic()
    renewed = renew(reader, renewal(body, made))
    assert renewed.status == 200 and renewed.json["renewed"] == 1
    answered = time.monotonic()
    while listed(reader):
        assert time.monotonic() - answered < 3 + SLACK_S, "a zombie"
        time.sleep(0.01)
    assert time.monotonic() - last >= 2, "it died early"
    assert renew(reader, renewal(body, made)).status == 404
    assert not cluster[0].get(f"/v1/catalog/service/{NAME}")


def test_renewals_leave_no_trace_in_the_log(solo):
    server = solo[0]
    body = service()
    made = post(server, body)
    before = server.self()["Stats"]["raft"]["last_log_index"]
    for _ in range(20):
        assert post(server, body) == made
        assert renew(server, renewal(body, made)).status == 200
    assert server.self()["Stats"]["raft"]["last_log_index"] == before


def test_a_ttl_check_is_renewed_without_the_log(solo):
    server = solo[0]
    server.put("/v1/agent/service/register",
               {"Name": "web", "Check": {"TTL": "2s"}})
    server.put("/v1/agent/check/pass/service:web?note=well")
    before = server.self()["Stats"]["raft"]["last_log_index"]
    for _ in range(10):
        time.sleep(0.4)
        server.put("/v1/agent/check/pass/service:web?note=well")
    assert server.self()["Stats"]["raft"]["last_log_index"] == before
    assert server.get("/v1/health/service/web?passing")
    last = time.monotonic()

    def expired():
        return server.get("/v1/agent/checks")["service:web"]["Output"] == \
            "TTL expired (last output before timeout follows): well"
    eventually(expired, "the check expires", 4)
    assert 1.9 < time.monotonic() - last < 3 + SLACK_S
    server.put("/v1/agent/check/pass/service:web?note=again")
    assert server.get("/v1/health/service/web?passing")


def test_who_is_wiped_registers_again(solo):
    server = solo[0]
    body = service()
    made = post(server, body)
    server.put("/v1/catalog/deregister", {"Node": f"registry:{NAME}"})
    answer = renew(server, renewal(body, made))
    assert answer.status == 404
    assert answer.json["unknown"] == [{"name": NAME, "id": "greeter-1"}]
    again = post(server, body)
    assert again["nodes"][0]["digest"] == made["nodes"][0]["digest"]
    assert renew(server, renewal(body, again)).status == 200
    assert listed(server) == [body]


def test_an_older_incarnation_is_fenced(solo):
    server = solo[0]
    new = service(address="10.0.0.9:1")
    made = post(server, new, more="&incarnation=2")
    assert "fenced" in post(server, service(), status=409, more="&incarnation=1")
    answer = renew(server, renewal(new, made, incarnation=1))
    assert answer.status == 409
    assert answer.json["fenced"] == [{"name": NAME, "id": "greeter-1"}]
    gone = server.request("DELETE", "/registry?incarnation=1", service())
    assert gone.status == 409
    assert listed(server) == [new]
    assert renew(server, renewal(new, made, incarnation=2)).status == 200


def test_no_live_one_is_lost_with_the_leader(cluster):
    leader = cluster.find_leader()
    owner = cluster.followers()[0]
    body = service()
    dead = service("dead", "dead-1")
    made = post(owner, body, ttl="3s")
    post(owner, dead, ttl="3s")
    died = time.monotonic()
    leader.kill()
    renewed = time.monotonic()
    while time.monotonic() - died < 8:
        if renew(owner, renewal(body, made)).status == 200:
            renewed = time.monotonic()
        assert time.monotonic() - renewed < 3, "nobody renews"
        assert listed(owner, query="&stale") == [body], "a live one was lost"
        gone = listed(owner, "dead", "&stale") == []
        assert gone or time.monotonic() - died < 4 + SLACK_S, "a zombie"
        assert not gone or time.monotonic() - died > 2.9, "it died early"
        time.sleep(0.1)


def test_a_parked_list_wakes(cluster):
    leader, follower = cluster.find_leader(), cluster.followers()[0]
    index = leader.request("GET", "/registry").headers["X-Microreg-Index"]
    post(leader, service())
    woken = follower.request("GET", f"/registry?index={index}&wait=10s")
    assert [s["name"] for s in woken.json] == [NAME]
    assert int(woken.headers["X-Microreg-Index"]) > int(index)
