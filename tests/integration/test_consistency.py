# SPDX-License-Identifier: Apache-2.0
"""What a reader may see and what a compare-and-set promises, while servers are
killed and paused."""

import base64
import http.client
import random
import threading
import time

import pytest

from cluster import eventually

NO_ANSWER = (OSError, http.client.HTTPException)


def increment(server, key, timeout):
    """Add one by compare-and-set; returns the new value when acknowledged, None
    when refused. Raises one of NO_ANSWER when nobody knows."""
    answer = server.request("GET", f"/v1/kv/{key}?consistent", timeout=timeout)
    if answer.status != 200:
        return None
    entry = answer.json[0]
    value = int(base64.b64decode(entry["Value"])) + 1
    path = f"/v1/kv/{key}?cas={entry['ModifyIndex']}"
    try:
        answer = server.request("PUT", path, str(value), timeout=timeout)
    except ConnectionRefusedError:
        return None
    if answer.status != 200:
        raise Unknown(answer.text)
    return value if answer.body == b"true" else None


class Unknown(OSError):
    """An error answered to a write: it may or may not have happened."""


class Counter(threading.Thread):
    """Counts up in one key. `floor` is the last acknowledged value: a fresh read
    that begins afterwards may not show less. It goes by compare-and-set, because
    a plain write that lay in a paused server's socket could happen much later."""

    def __init__(self, servers):
        super().__init__(daemon=True)
        self.servers = servers
        self.floor = 0
        self.ending = threading.Event()

    def run(self):
        n = 0
        while not self.ending.is_set():
            n += 1
            try:
                value = increment(self.servers[n % len(self.servers)], "counter", 1)
            except NO_ANSWER:
                continue
            if value is not None:
                self.floor = value


class Reader(threading.Thread):
    """Reads the counter in one mode from servers in random order."""

    def __init__(self, servers, counter, mode, seed):
        super().__init__(daemon=True)
        self.servers = servers
        self.counter = counter
        self.mode = mode
        self.rng = random.Random(seed)
        self.n_read = 0
        self.wrong = []

    def run(self):
        while not self.counter.ending.is_set():
            server = self.rng.choice(self.servers)
            floor = self.counter.floor
            try:
                answer = server.request(
                    "GET", f"/v1/kv/counter?raw{self.mode}", timeout=5)
            except NO_ANSWER:
                continue
            if answer.status == 200:
                self.n_read += 1
                if int(answer.body) < floor:
                    self.wrong.append((server.name, int(answer.body), floor))


@pytest.mark.parametrize("trouble", ["kill", "pause"])
def test_fresh_reads_never_go_back(cluster, trouble):
    cluster[0].kv_put("counter", "0")
    counter = Counter(cluster.servers)
    readers = [Reader(cluster.servers, counter, mode, i)
               for i, mode in enumerate(["&consistent", "&consistent", ""])]
    for thread in [counter, *readers]:
        thread.start()
    for _ in range(3):
        leader = cluster.wait_leader()
        before = counter.floor
        if trouble == "kill":
            leader.kill()
        else:
            leader.pause()
        rest = [s for s in cluster if s is not leader]
        cluster.wait_leader(rest)
        eventually(lambda b=before: counter.floor > b + 10, "writes go on")
        if trouble == "kill":
            leader.start()
        else:
            leader.resume()
        before = counter.floor
        eventually(lambda b=before: counter.floor > b + 50, "writes go on")
    counter.ending.set()
    for thread in [counter, *readers]:
        thread.join(10)
    for reader in readers:
        assert not reader.wrong, (reader.mode, reader.wrong[:5])
        assert reader.n_read > 50, (reader.mode, reader.n_read)


def test_compare_and_set_counts_right_while_leaders_die(cluster):
    """Every 'true' is one increment, every 'false' none; only a request without
    an answer may be either."""
    cluster[0].kv_put("sum", "0")
    ending = threading.Event()
    done, unknown = [0] * 4, [0] * 4

    def work(i):
        rng = random.Random(i)
        while not ending.is_set():
            try:
                if increment(rng.choice(cluster.servers), "sum", 10) is not None:
                    done[i] += 1
            except NO_ANSWER:
                unknown[i] += 1

    threads = [threading.Thread(target=work, args=(i,), daemon=True)
               for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = sum(done)
        eventually(lambda b=before: sum(done) > b + 20, "increments go on")
        leader = cluster.wait_leader()
        leader.kill()
        before = sum(done)
        eventually(lambda b=before: sum(done) > b + 20, "increments go on")
        leader.start()
    ending.set()
    for thread in threads:
        thread.join(15)
    cluster.wait_leader()
    cluster.wait_equal()
    total = int(cluster[0].kv_get("sum", "&consistent"))
    assert sum(done) <= total <= sum(done) + sum(unknown), (done, unknown, total)


def test_a_blocked_reader_misses_nothing(cluster):
    """Long polling from the last index sees the final value of every burst."""
    seen = []
    ending = threading.Event()

    def follow():
        index = 0
        while not ending.is_set():
            try:
                answer = cluster[2].request(
                    "GET", f"/v1/kv/burst/?recurse&index={index}&wait=5s", timeout=20)
            except NO_ANSWER:
                continue
            if answer.status in (200, 404):
                assert answer.index >= index, "the index went back"
                index = answer.index
                seen.append({e["Key"] for e in answer.json} if answer.status == 200
                            else set())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for i in range(100):
        cluster[i % 2].kv_put(f"burst/{i}", "x")
    eventually(lambda: seen and len(seen[-1]) == 100, "the reader saw all keys")
    began = time.monotonic()
    cluster[0].kv_put("burst/last", "x")
    eventually(lambda: len(seen[-1]) == 101, "and the last one")
    assert time.monotonic() - began < 2
    ending.set()
    cluster[0].kv_put("burst/end", "x")
    thread.join(10)
