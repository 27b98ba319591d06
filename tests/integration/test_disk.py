# SPDX-License-Identifier: Apache-2.0
"""A server whose disk hangs does not keep the cluster waiting."""

import time

import pytest

from cluster import Cluster, Writer, eventually
from slowdisk import HungDisk, why_not


@pytest.fixture
def cluster(tmp_path):
    """Three servers, each on a disk of its own that can hang."""
    reason = why_not(tmp_path)
    if reason:
        pytest.skip(f"no disk can hang here: {reason}")
    cluster = Cluster(tmp_path, start=False)
    disks = []
    try:
        for server in cluster:
            server.disk = HungDisk(server.folder)
            disks.append(server.disk)
        for server in cluster:
            server.start()
        cluster.wait_leader(timeout=30)
        yield cluster
    finally:
        # Nobody can be killed who sleeps on a frozen disk.
        for disk in disks:
            disk.thaw()
        cluster.close()
        for disk in disks:
            disk.close()


def test_hung_disk_of_the_leader_stops_no_writes(cluster):
    leader = cluster.wait_leader()
    others = [s for s in cluster if s is not leader]
    writer = Writer(others, timeout=5)
    writer.start()
    writer.wait_acks(20)
    leader.disk.freeze()
    frozen = time.monotonic()
    eventually(lambda: cluster.find_leader(others), "another leader", 10)
    led = time.monotonic() - frozen
    writer.wait_acks(20)
    leader.disk.thaw()
    writer.wait_acks(20)
    writer.finish()
    cluster.wait_leader()
    for server in cluster:
        writer.check(server)
    cluster.wait_equal()
    acks = [frozen, *(t for t in writer.ack_times if t > frozen)]
    gap = max(b - a for a, b in zip(acks, acks[1:]))
    print(f"the longest wait for a write was {gap:.2f} s, another leader after {led:.2f} s")
    assert gap < 3, f"no write was accepted for {gap:.1f} s"
    assert led < 3, f"it led for {led:.1f} s with a disk that hangs"


def test_hung_disk_of_a_follower_is_not_felt(cluster):
    leader = cluster.wait_leader()
    follower = cluster.followers()[0]
    others = [s for s in cluster if s is not follower]
    follower.disk.freeze()
    frozen = time.monotonic()
    for i in range(50):
        leader.kv_put(f"k{i}", "v")
    took = time.monotonic() - frozen
    assert cluster.find_leader(others) is leader
    follower.disk.thaw()
    cluster.wait_equal()
    assert took < 5, f"50 writes took {took:.1f} s"
