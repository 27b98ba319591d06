# SPDX-License-Identifier: Apache-2.0
"""microreg why: what became of a registration, on real processes."""

import json
import os

from cluster import Server, eventually


def why(cli, server, *args):
    """What the command says, on one line."""
    done = cli(server, "why", *args)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_every_server_tells_who_registered_and_who_removed(cluster, cli):
    cluster[0].register("web", 80, ID="web-1")
    cluster[0].put("/v1/agent/service/deregister/web-1")
    cluster.wait_equal()
    for server in cluster:
        said = why(cli, server, "service", "web-1")
        assert said.startswith("It is not registered: service web (ID web-1) "
                               "on node n1 was deregistered on request")
        assert f"As {server.name} knows it" in said
        assert "web-1) on node n1 was registered" in said


def test_a_dead_agent_is_why_its_service_is_hidden(cluster, cli):
    victim = cluster.followers()[0]
    victim.register("web", 80, ID="web-1")
    victim.kill()
    other = cluster.running()[0]
    eventually(lambda: not other.get("/v1/health/service/web?passing"),
               "the service of the dead node is hidden")
    said = why(cli, other, "service", "web-1")
    assert "but hidden from health and DNS answers" in said
    assert f"the agent of node {victim.name} was silent for 4." in said
    assert "was made critical by leader n" in said
    assert "its agent is dead" in why(cli, other, "node", victim.name)


def test_events_survive_kill_9_and_are_told_without_a_quorum(cluster, cli):
    cluster[0].register("web", 80, ID="web-1")
    cluster[0].put("/v1/agent/service/deregister/web-1")
    cluster.wait_equal()
    for server in cluster:
        server.kill()
    cluster[2].start()
    eventually(lambda: cluster[2].request("GET", "/v1/agent/self"), "HTTP")
    said = why(cli, cluster[2], "service", "web-1")
    assert "was deregistered on request" in said
    assert "it hears NO leader" in said
    assert said.count("(ID web-1) on node n1 was registered") == 1


def test_json_says_the_same(shared, cli):
    done = cli(shared[0], "why", "service", "-format=json", "consul")
    answer = json.loads(done.stdout)
    assert answer["Registered"]
    assert len(answer["State"]) == 3
    assert answer["Events"][0]["What"] == "registered"
    assert answer == {**shared[0].get("/v1/agent/why/service/consul"), **{
        key: answer[key] for key in ("Time", "TimeMs", "State", "Why")}}


def test_what_was_never_there_is_told_to_be_unknown(shared, cli):
    for subject in ("service", "node", "check", "session"):
        said = why(cli, shared[0], subject, "nobody")
        assert "never heard of it: the events that it keeps reach back" in said
    done = cli(shared[0], "why", "service")
    assert done.returncode == 1
    assert "needs the service as its one argument (got 0)" in done.stderr


def test_an_agent_asks_a_server_or_answers_for_itself(cluster, cli):
    joins = [f"-retry-join={server.address}" for server in cluster]
    agent = Server("agent", cluster.net.address(101),
                   os.path.join(cluster.folder, "agent"), joins).start()
    try:
        eventually(lambda: agent.register("web", 80, ID="web-1") or True,
                   "the agent takes registrations")
        eventually(lambda: cluster[0].get("/v1/catalog/service/web"), "sync")
        said = why(cli, agent, "service", "web-1")
        assert "As n" in said
        assert "its node's agent was heard" in said
        for server in cluster:
            server.kill()
        said = why(cli, agent, "service", "web-1")
        assert "As agent knows it" in said
        assert "(ID web-1) on node agent is registered" in said
    finally:
        agent.kill()
