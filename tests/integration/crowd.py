#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The crowd: many clients of libmicroreg in one process, each watching twenty
services, while services change and leaders are killed.

client_crowd checks each event: nothing is lost, nothing comes twice. At the end
the views of all watches must be equal to what the servers have.
"""

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

from cluster import Cluster, binary, die_with_parent, eventually

WATCHES = 20
NODES = 3
CHANGES_PER_S = 50
SETTLE_MS = 60000


class Owners(threading.Thread):
    """Owns nodes of services: registers, changes and removes them. A change counts
    a number up by one, and is repeated until it is answered."""

    def __init__(self, servers, n_services, seed):
        super().__init__(daemon=True)
        self.servers = list(servers)
        self.rng = random.Random(seed)
        self.services = [f"crowd-{i}" for i in range(n_services)]
        self.nodes = {name: {} for name in self.services}
        self.ids = 0
        self.changes = 0
        self.ending = threading.Event()

    def send(self, method, path, body):
        """Repeat a request until a server says that it is done."""
        while True:
            server = self.rng.choice(self.servers)
            try:
                if server.request(method, path, body, timeout=5).status == 200:
                    self.changes += 1
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.02)

    def put(self, name, node, n):
        self.nodes[name][node] = n
        self.send("POST", "/registry", {
            "name": name, "version": "1", "nodes": [
                {"id": node, "address": "127.0.0.1:80", "metadata": {"n": str(n)}}]})

    def add(self, name):
        self.ids += 1
        self.put(name, f"{name}-{self.ids}", 0)

    def change_one(self):
        name = self.rng.choice(self.services)
        nodes = self.nodes[name]
        draw = self.rng.random()
        if not nodes or (draw < 0.1 and len(nodes) < 2 * NODES):
            self.add(name)
        elif draw < 0.2:
            node = self.rng.choice(sorted(nodes))
            self.send("DELETE", "/registry", {"name": name, "nodes": [{"id": node}]})
            del nodes[node]
        else:
            node = self.rng.choice(sorted(nodes))
            self.put(name, node, nodes[node] + 1)

    def run(self):
        while not self.ending.is_set():
            self.change_one()
            self.ending.wait(1 / CHANGES_PER_S)


class Crowd:
    """The process of clients."""

    def __init__(self, addresses, clients, n_services, seed):
        program = os.path.join(os.path.dirname(binary()),
                               "tests/integration/client_crowd")
        if not os.path.exists(program):
            program = os.path.join(os.path.dirname(binary()), "release",
                                   "tests/integration/client_crowd")
        self.process = subprocess.Popen(
            [program, ",".join(addresses), str(clients), str(WATCHES),
             str(n_services), str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent)

    def compare(self, services, timeout_ms):
        """What the views say beside what /registry answers."""
        lines = [f"E {s['name']} {node['id']} {node['metadata']['n']}\n"
                 for s in services for node in s["nodes"]]
        self.process.stdin.write("".join(lines) + f"C {timeout_ms}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "client_crowd has ended"
        return json.loads(answer)

    def finish(self):
        self.process.stdin.close()
        return self.process.wait(60)


def stored(server):
    """The services as the servers have them now."""
    answer = server.request("GET", "/registry?consistent", timeout=10)
    assert answer.status == 200, repr(answer)
    return [s for s in answer.json if s["name"].startswith("crowd-")]


def run(folder, clients, kills, seed, say=print):
    """Returns what the crowd said at the end."""
    n_services = max(WATCHES * 2, 60)
    # They all come from one address.
    config = os.path.join(folder, "limits.json")
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"limits": {"http_max_conns_per_client": 20000}}, file)
    cluster = Cluster(folder, flags=[f"-config-file={config}"])
    try:
        owners = Owners(cluster, n_services, seed)
        for name in owners.services:
            for _ in range(NODES):
                owners.add(name)
        crowd = Crowd([s.address for s in cluster], clients, n_services, seed)
        result = crowd.compare(stored(cluster[0]), SETTLE_MS)
        say(f"begin: {result}")
        assert result["different"] == 0, result
        owners.start()
        for n in range(kills):
            leader = cluster.wait_leader(timeout=30)
            time.sleep(1)
            leader.kill()
            goal = owners.changes + CHANGES_PER_S
            eventually(lambda g=goal: owners.changes > g, "changes go on", 60)
            leader.start()
            say(f"kill {n + 1}: {leader.name}, {owners.changes} changes")
        cluster.wait_leader(timeout=30)
        owners.ending.set()
        owners.join(30)
        result = crowd.compare(
            eventually(lambda: stored(cluster[0]), "an answer", 30), SETTLE_MS)
        say(f"end: {result}, {owners.changes} changes")
        assert result["different"] == 0, result
        assert result["breaches"] == 0, result
        assert crowd.finish() == 0
        return result
    finally:
        cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.environ["MICROREG"] = args.binary
    with tempfile.TemporaryDirectory() as folder:
        run(folder, args.clients, args.kills, args.seed)
    print(f"crowd: {args.clients} clients, {args.kills} kills, seed {args.seed}: "
          "every view is equal to the store, no event lost, none twice")
    return 0


if __name__ == "__main__":
    sys.exit(main())
