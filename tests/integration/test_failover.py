# SPDX-License-Identifier: Apache-2.0
"""Servers die, hang, lose their disks and move: nothing acknowledged is lost."""

import http.client
import shutil
import time

import pytest

from cluster import Writer, eventually
from test_cluster import ask, in_background, targets


def writers(cluster, n=3):
    started = [Writer(cluster, f"w{i}") for i in range(n)]
    for writer in started:
        writer.start()
    return started


def check_all(started, cluster):
    for writer in started:
        writer.finish()
    cluster.wait_leader()
    for writer in started:
        for server in cluster.running():
            writer.check(server)
    cluster.wait_equal()


def test_leader_killed_while_writers_run_loses_nothing(cluster):
    started = writers(cluster)
    for writer in started:
        writer.wait_acks(20)
    leader = cluster.wait_leader()
    leader.kill()
    killed = time.monotonic()
    for writer in started:
        writer.wait_acks(20)
    first = min(t for w in started for t in w.ack_times if t > killed + 0.05)
    leader.start()
    for writer in started:
        writer.wait_acks(20)
    check_all(started, cluster)
    assert first - killed < 5, "no write was accepted for 5 s"


def test_writes_during_leader_changes_are_answered_truthfully(cluster):
    started = writers(cluster, 4)
    for _ in range(4):
        for writer in started:
            writer.wait_acks(10)
        leader = cluster.wait_leader()
        leader.kill()
        for writer in started:
            writer.wait_acks(5)
        leader.start()
        cluster.wait_leader()
    check_all(started, cluster)


def test_follower_is_wiped_and_catches_up(cluster):
    leader = cluster.wait_leader()
    leader.register("kept", 1)
    for i in range(200):
        leader.kv_put(f"before/{i}", "x" * 100)
    follower = cluster.followers()[0]
    follower.kill()
    shutil.rmtree(follower.folder)
    for i in range(50):
        leader.kv_put(f"between/{i}", "y")
    follower.start()
    cluster.wait_equal()
    assert len(follower.get("/v1/kv/before/?keys&stale")) == 200
    assert len(follower.get("/v1/kv/between/?keys&stale")) == 50
    assert follower.get("/v1/catalog/service/kept?stale")
    # And it is a full member again: the two old ones cannot decide alone.
    other = next(s for s in cluster if s not in (leader, follower))
    def votes():
        peers = leader.get("/v1/operator/raft/configuration")["Servers"]
        return sum(p["Voter"] for p in peers) >= 3
    eventually(votes, "the wiped server votes again", 60)
    other.kill()
    leader.kv_put("with-the-wiped-one", "z")


def test_all_three_are_killed_at_once_and_restarted(cluster):
    started = writers(cluster)
    cluster[0].register("survivor", 4242)
    for writer in started:
        writer.wait_acks(30)
    for server in cluster:
        server.process.kill()
    for server in cluster:
        server.kill()
    for server in cluster:
        server.start()
    cluster.wait_leader(timeout=30)
    for writer in started:
        writer.wait_acks(10)
    check_all(started, cluster)
    for server in cluster:
        assert server.get("/v1/catalog/service/survivor")
        assert targets(ask(server, "survivor.service.micro"))


def test_a_restarted_cluster_keeps_revisions(cluster):
    cluster[0].kv_put("stable", "1")
    before = cluster[0].get("/v1/kv/stable?consistent")
    for server in cluster:
        server.kill()
    for server in cluster:
        server.start()
    cluster.wait_leader(timeout=30)
    for server in cluster:
        assert server.get("/v1/kv/stable?consistent") == before


def test_server_restarts_under_another_address(cluster):
    leader = cluster.wait_leader()
    mover = cluster.followers()[0]
    mover.kill()
    old, mover.address = mover.address, cluster.net.address(77)
    leader.kv_put("moved", "no")
    mover.start()
    eventually(lambda: mover.kv_get("moved") == b"no", "the mover serves again", 30)
    def known():
        peers = leader.get("/v1/operator/raft/configuration")["Servers"]
        addresses = [p["Address"] for p in peers]
        return len(peers) == 3 and f"{mover.address}:8300" in addresses \
            and f"{old}:8300" not in addresses
    eventually(known, "the new address is in the configuration", 30)
    cluster.wait_equal()
    # It counts: with the third server gone, the moved one makes the quorum.
    third = next(s for s in cluster if s not in (leader, mover))
    third.kill()
    leader.kv_put("moved", "yes")
    assert mover.kv_get("moved") == b"yes"


def test_paused_leader_is_replaced_and_never_reads_stale(cluster):
    old = cluster.wait_leader()
    old.kv_put("truth", "old")
    old.pause()
    rest = [s for s in cluster if s is not old]
    try:
        new = cluster.wait_leader(rest)
        new.kv_put("truth", "new")
    finally:
        old.resume()
    # The very first answers after the pause are the dangerous ones.
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for query in ("&consistent", ""):
            try:
                answer = old.request("GET", f"/v1/kv/truth?raw{query}", timeout=10)
            except (OSError, http.client.HTTPException):
                continue
            if answer.status == 200:
                assert answer.body == b"new", f"stale read: {query!r}"
            else:
                assert answer.status in (429, 500, 503), repr(answer)
    cluster.wait_leader()
    cluster.wait_equal()


def test_paused_follower_does_not_stop_writes(cluster):
    leader = cluster.wait_leader()
    follower = cluster.followers()[0]
    follower.pause()
    try:
        for i in range(50):
            leader.kv_put(f"p/{i}", "x", timeout=2)
    finally:
        follower.resume()
    cluster.wait_equal()
    assert len(follower.get("/v1/kv/p/?keys&stale")) == 50


def test_without_quorum_writes_are_refused_and_stale_reads_and_dns_go_on(cluster):
    cluster[0].register("still", 1)
    cluster[0].kv_put("k", "v")
    leader = cluster.wait_leader()
    cluster.wait_equal()
    survivor = cluster.followers()[0]
    killed = [s for s in cluster if s is not survivor]
    for server in killed:
        server.kill()
    answer = survivor.request("PUT", "/v1/kv/k", "lost?", timeout=20)
    assert answer.status in (500, 503) and answer.text, repr(answer)
    answer = survivor.request("GET", "/v1/kv/k?consistent", timeout=20)
    assert answer.status in (500, 503), repr(answer)
    assert survivor.kv_get("k", "&stale") == b"v"
    eventually(lambda: survivor.request("GET", "/v1/kv/k?stale").headers[
        "X-Consul-KnownLeader"] == "false", "stale answers say so")
    assert targets(ask(survivor, "still.service.micro")), "DNS went away"
    for server in killed:
        server.start()
    cluster.wait_leader(timeout=30)
    cluster.wait_equal()
    assert leader.kv_get("k") == b"v"


def test_parked_readers_survive_the_leader(cluster):
    leader = cluster.wait_leader()
    follower = cluster.followers()[0]
    index = follower.request("GET", "/v1/kv/parked").index
    wait = in_background(follower.request, "GET",
                         f"/v1/kv/parked?index={index}&wait=60s", None, 70)
    leader.kill()
    rest = [s for s in cluster if s is not leader]
    cluster.wait_leader(rest)
    rest[1].kv_put("parked", "woken")
    answer = wait(30)
    assert answer.status == 200, repr(answer)


def test_registrations_survive_the_agent_they_were_made_on(cluster):
    """Through DNS and HTTP of the others, right after the leader died."""
    leader = cluster.wait_leader()
    other = cluster.followers()[0]
    other.register("robust", 555)
    leader.kill()
    rest = [s for s in cluster if s is not leader]
    cluster.wait_leader(rest)
    for server in rest:
        assert server.get("/v1/catalog/service/robust")
        assert targets(ask(server, "robust.service.micro")) == [
            (555, f"{other.name}.node.dc1.micro.")]


@pytest.mark.parametrize("n", [1, 5])
def test_clusters_of_other_sizes_elect_and_write(tmp_path, n):
    from cluster import Cluster
    cluster = Cluster(tmp_path, n=n)
    try:
        for server in cluster:
            server.kv_put(server.name, "x")
        assert len(cluster[0].get("/v1/kv/?keys")) == n
        if n == 5:
            leader = cluster.wait_leader()
            leader.kill()
            cluster.followers()[0].kill()
            rest = cluster.running()
            cluster.wait_leader(rest)
            rest[0].kv_put("two-are-gone", "fine")
    finally:
        cluster.close()
