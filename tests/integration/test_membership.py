# SPDX-License-Identifier: Apache-2.0
"""Servers join, leave and are removed."""

from cluster import RPC_PORT, Cluster, eventually


def peers(server):
    """name -> entry of the raft configuration."""
    found = server.get("/v1/operator/raft/configuration")["Servers"]
    return {p["Node"]: p for p in found}


def test_fourth_server_joins_and_is_promoted(cluster):
    leader = cluster.wait_leader()
    for i in range(100):
        leader.kv_put(f"k/{i}", "v")
    fourth = cluster.add(4)
    fourth.start()
    eventually(lambda: peers(leader).get("n4", {}).get("Voter"),
               "the fourth server votes", 60)
    cluster.wait_equal()
    assert len(fourth.get("/v1/kv/k/?keys&stale")) == 100
    fourth.kv_put("through-the-fourth", "x")
    # Four voters need three: with one gone it goes on, and counts n4.
    cluster.followers()[0].kill()
    cluster.wait_leader()
    fourth.kv_put("still", "x")


def test_servers_start_one_after_the_other(idle):
    idle[0].start()
    eventually(lambda: idle[0].request("GET", "/v1/status/leader").status == 200,
               "the first one answers")
    assert idle[0].leader_address() == ""
    answer = idle[0].request("PUT", "/v1/kv/early", "x", timeout=20)
    assert answer.status in (500, 503), repr(answer)
    idle[1].start()
    idle[2].start()
    idle.wait_leader(timeout=30)
    idle[2].kv_put("late", "x")
    assert idle[0].kv_get("early") is None


def test_a_bootstrapped_cluster_does_not_bootstrap_again(cluster):
    """A wiped server with -bootstrap-expect=1 joins; it does not found a second
    cluster, and one that was expected twice is one cluster still."""
    cluster[0].kv_put("first", "cluster")
    victim = cluster.followers()[0]
    victim.kill()
    victim.start()
    cluster.wait_leader()
    cluster.wait_equal()
    assert victim.kv_get("first") == b"cluster"


def test_leave_removes_a_server_in_order(cluster):
    leader = cluster.wait_leader()
    leaver = cluster.followers()[0]
    leaver.put("/v1/agent/leave")
    assert leaver.wait_exit(20) == 0
    eventually(lambda: leaver.name not in peers(leader), "it is no peer any more")
    rest = cluster.running()
    for server in rest:
        assert sorted(server.get("/v1/status/peers")) == sorted(
            f"{s.address}:{RPC_PORT}" for s in rest)
    eventually(lambda: leaver.name not in {
        n["Node"] for n in leader.get("/v1/catalog/nodes")}, "its node is gone")
    leader.kv_put("two", "x")


def test_leader_leaves_and_the_others_go_on(cluster):
    leader = cluster.wait_leader()
    leader.kv_put("before", "x")
    leader.put("/v1/agent/leave", timeout=20)
    assert leader.wait_exit(20) == 0
    rest = cluster.running()
    cluster.wait_leader(rest)
    rest[0].kv_put("after", "x", timeout=20)
    assert rest[1].kv_get("before") == b"x"
    eventually(lambda: leader.name not in peers(rest[0]), "it is no peer any more")


def test_dead_server_is_removed_by_hand(cluster, cli):
    leader = cluster.wait_leader()
    dead = cluster.followers()[0]
    identity = peers(leader)[dead.name]["ID"]
    dead.kill()
    done = cli(leader, "operator", "raft", "remove-peer", f"-id={identity}")
    assert done.returncode == 0, done.stderr
    eventually(lambda: dead.name not in peers(leader), "it is no peer any more")
    leader.kv_put("one-of-two", "x")


def test_removing_an_unknown_peer_says_so(cluster):
    answer = cluster[0].request("DELETE", "/v1/operator/raft/peer?id=nobody")
    assert answer.status == 500
    assert 'id "nobody" was not found in the Raft configuration' in answer.text
    answer = cluster[0].request("DELETE", "/v1/operator/raft/peer")
    assert answer.status == 400


def test_a_stranger_of_another_cluster_is_refused(tmp_path):
    """A server of one cluster is pointed at another: neither changes."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = Cluster(tmp_path / "one")
    try:
        two = Cluster(tmp_path / "two", n=1)
        try:
            one[0].kv_put("mine", "one")
            two[0].kv_put("mine", "two")
            two[0].terminate()
            two[0].flags.append(f"-retry-join={one[0].address}")
            two[0].start()
            two.wait_leader(timeout=20)
            eventually(lambda: "cluster" in two[0].log_text()
                       or "cluster" in one[0].log_text(), "a logged reason")
            assert two[0].kv_get("mine") == b"two"
            assert one[0].kv_get("mine") == b"one"
            assert len(peers(one[0])) == 3
        finally:
            two.close()
    finally:
        one.close()
