# SPDX-License-Identifier: Apache-2.0
"""Members: alive, failed and left; taking the dead out; sessions of agents."""

from cluster import eventually
from test_agents import agents  # noqa: F401 (a fixture)

STATUS = {1: "alive", 3: "left", 4: "failed"}


def members(server):
    return {m["Name"]: STATUS[m["Status"]]
            for m in server.get("/v1/agent/members", timeout=3)}


def wait_member(servers, name, status, timeout=15):
    """All servers show the member so (None: not at all)."""
    def shown():
        return all(members(s).get(name) == status for s in servers)
    eventually(shown, f"{name} is {status}", timeout)


def test_a_dead_agent_is_failed_then_left_then_forgotten(shared, agents, cli):  # noqa: F811
    agent = agents(shared)
    everybody = [*shared, agent]
    wait_member(everybody, agent.name, "alive")
    agent.kill()
    wait_member(shared, agent.name, "failed")
    done = cli(shared[0], "members")
    row = next(l for l in done.stdout.splitlines() if l.startswith(agent.name))
    assert row.split()[2:4] == ["failed", "client"]
    done = cli(shared[1], "force-leave", agent.name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_member(shared, agent.name, "left")
    done = cli(shared[2], "force-leave", agent.name)
    assert done.returncode == 0, done.stderr
    assert members(shared[0])[agent.name] == "left"
    done = cli(shared[2], "force-leave", "-prune", agent.name)
    assert done.returncode == 0, done.stderr
    wait_member(shared, agent.name, None)


def test_a_failed_agent_can_be_forgotten_at_once(shared, agents, cli):  # noqa: F811
    agent = agents(shared)
    agent.kill()
    wait_member(shared, agent.name, "failed")
    assert cli(shared[0], "force-leave", "-prune", agent.name).returncode == 0
    wait_member(shared, agent.name, None)


def test_an_agent_that_left_is_alive_when_it_is_back(shared, agents, cli):  # noqa: F811
    agent = agents(shared)
    agent.put("/v1/agent/leave")
    assert agent.wait_exit() == 0
    wait_member(shared, agent.name, "left")
    agent.start()
    wait_member(shared, agent.name, "alive")
    assert cli(shared[0], "force-leave", agent.name).returncode == 0
    assert members(shared[0])[agent.name] == "alive"


def test_a_dead_server_leaves_the_set_of_peers(cluster, cli):
    dead = cluster.followers()[0]
    rest = [s for s in cluster if s is not dead]
    eventually(lambda: len(rest[0].get("/v1/catalog/nodes")) == 3, "all are there")
    dead.kill()
    wait_member(rest, dead.name, "failed")
    assert cli(rest[0], "force-leave", dead.name).returncode == 0
    wait_member(rest, dead.name, "left")
    assert f":{dead.address}" not in str(rest[0].get("/v1/status/peers"))
    assert len(rest[0].get("/v1/status/peers")) == 2
    assert dead.name not in {n["Node"] for n in rest[0].get("/v1/catalog/nodes")}


def test_sessions_of_an_agent_are_bound_to_it(shared, agents, cli):  # noqa: F811
    agent = agents(shared)
    made = agent.request("PUT", "/v1/session/create",
                         {"Name": "mine", "TTL": "10s", "LockDelay": "0s"})
    assert made.status == 200, made
    session = made.json["ID"]
    (info,) = shared[0].get(f"/v1/session/info/{session}")
    assert info["Node"] == agent.name
    assert agent.get(f"/v1/session/node/{agent.name}")[0]["ID"] == session
    assert agent.put(f"/v1/session/renew/{session}").json[0]["ID"] == session
    taken = agent.put(f"/v1/kv/members/lock?acquire={session}", "x")
    assert taken.text == "true" and int(taken.headers["X-Microreg-Fence"]) > 0
    done = cli(agent, "lock", "members/cli", "echo $MICROREG_LOCK_FENCE")
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr
    agent.kill()
    eventually(lambda: shared[1].get(f"/v1/session/info/{session}") == [],
               "its sessions end with the agent", 8)
    assert "Session" not in shared[1].get("/v1/kv/members/lock")[0]


# ---- failure ----

def test_nobody_of_that_name_can_leave(shared, cli):
    done = cli(shared[0], "force-leave", "nosuch")
    assert done.returncode == 1
    assert done.stderr == ("Error force leaving: Unexpected response code: 500 "
                           "(agent: No node found with name 'nosuch')\n")
    done = cli(shared[0], "force-leave")
    assert (done.returncode, done.stderr) == (
        1, "A single node name must be specified\n")
