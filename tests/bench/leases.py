#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What leases cost: three servers and the load on one machine.

 renew    100,000 leases, and renewals of one lease a request as fast as they go,
          with what they make the servers write to their disks
 end      all 100,000 end at once; the living renew meanwhile
 clients  4,000 clients that renew every 30 s for 10 minutes, while the leader is
          killed each minute
"""

import argparse
import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time

from bench import wrk
from products import HTTP_PORT, Microreg, eventually

NODES = 100  # Of one service, registered by one request.
LIVING = 200
TTL_S = 10


class Size:
    def __init__(self, quick):
        self.leases = 10_000 if quick else 100_000
        self.seconds = 3 if quick else 10
        self.clients = 400 if quick else 4_000
        self.every_s = 5 if quick else 30
        self.minutes = 0.5 if quick else 10
        self.kill_every_s = 12 if quick else 60


class Client:
    """A connection to one of the servers after the other."""

    def __init__(self, servers, first=0):
        self.addresses = [s.address for s in servers]
        self.at = first
        self.connection = None

    def once(self, method, path, body):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(
                self.addresses[self.at % len(self.addresses)], HTTP_PORT, timeout=5)
        try:
            self.connection.request(method, path, body)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            self.at += 1
            return None

    def ask(self, method, path, value=None, within=30):
        """The status and the JSON of an answer that is no failure of a server."""
        body = None if value is None else json.dumps(value)
        end = time.monotonic() + within
        while True:
            answer = self.once(method, path, body)
            if answer and answer[0] < 500:
                return answer[0], json.loads(answer[1] or b"null")
            if time.monotonic() > end:
                raise AssertionError(f"{method} {path}: {answer}")
            time.sleep(0.02)


def service(name, n):
    return {"name": name, "version": "1", "metadata": {}, "endpoints": [],
            "nodes": [{"id": f"{name}-{i}", "address": f"10.0.0.1:{1000 + i}",
                       "metadata": {}} for i in range(n)]}


def register(client, name, n, ttl_s):
    """Register n nodes; returns what renews them."""
    status, answer = client.ask("POST", f"/registry?ttl={ttl_s}s", service(name, n))
    assert status == 200, answer
    return [{"name": name, "id": node["id"], "digest": node["digest"]}
            for node in answer["nodes"]]


def renew(client, nodes):
    status, answer = client.ask("PUT", "/registry/renew", {"nodes": nodes})
    assert status == 200, answer


def fill(cluster, size, ttl_s, prefix):
    client = Client(cluster.servers)
    return [register(client, f"{prefix}-{i}", NODES, ttl_s)
            for i in range(size.leases // NODES)]


def written_bytes(cluster):
    """What the servers made the kernel write."""
    total = 0
    for server in cluster.running():
        with open(f"/proc/{server.process.pid}/io", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        total += int(fields["write_bytes"])
    return total


def log_entries(cluster):
    return cluster.leader().self()["Stats"]["raft"]["last_log_index"]


def bench_renew(cluster, size, folder):
    nodes = [n for s in fill(cluster, size, 3600, "renew") for n in s]
    lines = os.path.join(folder, "renewals")
    with open(lines, "w", encoding="utf-8") as file:
        for node in nodes:
            file.write("/registry/renew\t" + json.dumps({"nodes": [node]}) + "\n")
    eventually(lambda: still(lambda: written_bytes(cluster)), "quiet disks", 30)
    before = written_bytes(cluster), int(log_entries(cluster))
    rate, errors = wrk(cluster.url(), "renew.lua", 128, size.seconds, BENCH_FILE=lines)
    after = written_bytes(cluster), int(log_entries(cluster))
    client = Client(cluster.servers)
    for i in range(size.leases // NODES):
        client.ask("DELETE", "/registry", service(f"renew-{i}", NODES))
    return {"leases": len(nodes), "renewals_per_s": round(rate), "errors": errors,
            "bytes_written_by_3_servers": after[0] - before[0],
            "log_entries": after[1] - before[1]}


def still(figure):
    first = figure()
    time.sleep(0.5)
    return figure() == first


class Living(threading.Thread):
    """Renews its own nodes, one a request, and notes how long each took."""

    def __init__(self, cluster, ttl_s):
        super().__init__(daemon=True)
        self.client = Client(cluster.servers)
        self.nodes = register(self.client, "living", LIVING, ttl_s)
        self.took = []
        self.lost = None
        self.ending = threading.Event()

    def run(self):
        try:
            while not self.ending.is_set():
                for node in self.nodes:
                    began = time.monotonic()
                    renew(self.client, [node])
                    self.took.append((began, time.monotonic() - began))
        except AssertionError as error:
            self.lost = error

    def finish(self):
        self.ending.set()
        self.join()
        if self.lost:
            raise self.lost

    def percentile99(self, since, until):
        took = sorted(t for at, t in self.took if since <= at <= until)
        return took[len(took) * 99 // 100] if took else float("nan")


def count(server, prefix):
    """Services of ours that a server still lists."""
    names = server.get("/v1/catalog/services?stale", timeout=30)
    return sum(name.startswith(prefix) for name in names)


def bench_end(cluster, size, _folder):
    client = Client(cluster.servers)
    # The first must still be renewed when the last is registered.
    filled = fill(cluster, size, 3600, "end")
    for i in range(len(filled)):
        filled[i] = register(client, f"end-{i}", NODES, TTL_S)
        if i % 100 == 99:
            for earlier in range(0, i, 10):
                renew(client, [n for s in filled[earlier:earlier + 10] for n in s])
    living = Living(cluster, TTL_S)
    living.start()
    began = time.monotonic()
    for i in range(0, len(filled), 10):
        renew(client, [n for s in filled[i:i + 10] for n in s])
    last = time.monotonic()
    gone = []
    for server in cluster.running():
        eventually(lambda: count(server, "end-") == 0, "all are gone", 120)
        gone.append(time.monotonic() - last)
    p99 = living.percentile99(last + TTL_S - 1, last + max(gone))
    living.finish()
    return {"leases": size.leases, "ttl_s": TTL_S,
            "last_renewals_took_s": round(last - began, 2),
            "gone_after_s": round(max(gone), 2),
            "living_p99_ms": round(p99 * 1000, 1)}


class Owners(threading.Thread):
    """Some of the clients: each renews its own registration when it is due."""

    def __init__(self, cluster, size, names):
        super().__init__(daemon=True)
        self.client = Client(cluster.servers, len(names))
        self.every_s = size.every_s
        self.due = []
        for name in names:
            node, = register(self.client, name, 1, size.every_s * 4 // 3)
            self.due.append([time.monotonic() + size.every_s, node])
        self.renewed = 0
        self.lost = []
        self.failure = None
        self.ending = threading.Event()

    def turn(self):
        """Renew the one that is due first."""
        due, node = self.due.pop(0)
        if self.ending.wait(max(0, due - time.monotonic())):
            return
        status, _ = self.client.ask("PUT", "/registry/renew", {"nodes": [node]})
        if status == 200:
            self.renewed += 1
        else:
            self.lost.append(node["id"])
        self.due.append([due + self.every_s, node])

    def run(self):
        try:
            while not self.ending.is_set() and self.due:
                self.turn()
        except AssertionError as error:
            self.failure = error


def bench_clients(cluster, size, _folder):
    per = size.clients // 8
    owners = [Owners(cluster, size, [f"client-{t}-{i}" for i in range(per)])
              for t in range(8)]
    for owner in owners:
        owner.start()
    began = time.monotonic()
    kills = 0
    fewest = size.clients
    while time.monotonic() - began < size.minutes * 60:
        until = time.monotonic() + size.kill_every_s
        leader = eventually(cluster.leader, "a leader", 30)
        leader.kill()
        kills += 1
        leader.start()
        while time.monotonic() < until:
            listed = eventually(
                lambda: count(cluster.servers[kills % 3], "client-"), "a list", 30)
            fewest = min(fewest, listed)
            time.sleep(0.2)
    for owner in owners:
        owner.ending.set()
    for owner in owners:
        owner.join()
        if owner.failure:
            raise owner.failure
    return {"clients": size.clients, "every_s": size.every_s,
            "minutes": size.minutes, "leaders_killed": kills,
            "renewals": sum(o.renewed for o in owners),
            "lost": sum(len(o.lost) for o in owners), "fewest_listed": fewest}


PARTS = {"renew": bench_renew, "end": bench_end, "clients": bench_clients}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    args = parser.parse_args()
    if not shutil.which("wrk"):
        print("bench: wrk missing: scripts/deps.sh --bench", file=sys.stderr)
        return 1
    size = Size(args.quick)
    folder = tempfile.mkdtemp(prefix="microreg-leases-")
    try:
        for part in args.only.split(","):
            cluster = Microreg(os.path.join(folder, part), os.path.abspath(args.binary))
            try:
                cluster.start()
                print(part, json.dumps(PARTS[part](cluster, size, folder)), flush=True)
            finally:
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
