# SPDX-License-Identifier: Apache-2.0
"""Registrations heal themselves: the catalog is wiped under clients that renew."""

import http.client
import json
import threading
import time

from cluster import HTTP_PORT, eventually

CLIENTS = 5000
SERVICES = 50
THREADS = 8
TTL_S = 30
INTERVAL_S = 10  # As client libraries do: a third of the TTL.


class Clients(threading.Thread):
    """Many clients that each renew their own registration every INTERVAL_S, and
    register again when they are told that it is unknown. One connection."""

    def __init__(self, address, numbers):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection(address, HTTP_PORT,
                                                     timeout=10)
        self.numbers = numbers
        self.digests = {}
        self.renewed = 0
        self.again = 0
        self.ending = threading.Event()
        self.failure = None

    def ask(self, method, path, body):
        self.connection.request(method, path, json.dumps(body))
        answer = self.connection.getresponse()
        text = answer.read()
        # A renewal of what is not there is 404; its body says what.
        assert answer.status in (200, 404), (path, answer.status, text)
        return json.loads(text)

    def register(self, n):
        service = f"wiped-{n % SERVICES}"
        answer = self.ask("POST", f"/registry?ttl={TTL_S}s", {
            "name": service, "version": "1",
            "nodes": [{"id": f"{service}-{n}", "address": f"10.0.0.1:{n + 1}"}]})
        self.digests[n] = answer["nodes"][0]["digest"]

    def renew(self, n):
        service = f"wiped-{n % SERVICES}"
        answer = self.ask("PUT", "/registry/renew", {"nodes": [
            {"name": service, "id": f"{service}-{n}",
             "digest": self.digests[n]}]})
        if answer["unknown"]:
            self.again += 1
            self.register(n)
        else:
            self.renewed += 1

    def run(self):
        try:
            for n in self.numbers:
                self.register(n)
            start = time.monotonic()
            turn = 0
            while not self.ending.is_set():
                n = self.numbers[turn % len(self.numbers)]
                turn += 1
                due = start + turn * INTERVAL_S / len(self.numbers)
                if self.ending.wait(max(0, due - time.monotonic())):
                    return
                self.renew(n)
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.failure = error


def count(server):
    """Instances that the server shows as healthy."""
    return sum(len(server.get(f"/v1/health/service/wiped-{i}?passing"))
               for i in range(SERVICES))


def wipe(server):
    """Take everything out of the catalog that the clients put there."""
    for node in server.get("/v1/catalog/nodes"):
        if node["Node"].startswith("registry:wiped-"):
            server.put("/v1/catalog/deregister", {"Node": node["Node"]})


def test_a_wiped_catalog_is_back_within_one_interval(cluster):
    crowds = [Clients(cluster[i % 3].address, range(CLIENTS)[i::THREADS])
              for i in range(THREADS)]
    for crowd in crowds:
        crowd.start()
    try:
        eventually(lambda: any(c.failure for c in crowds) or
                   count(cluster[0]) == CLIENTS, "all are registered", 60)
        assert not [c.failure for c in crowds if c.failure]
        eventually(lambda: all(c.renewed > 20 for c in crowds), "all renew", 30)
        assert not any(c.again for c in crowds)
        wipe(cluster[0])
        wiped = time.monotonic()
        left = count(cluster[0])
        assert left < CLIENTS / 4, f"{left} were back at once"
        eventually(lambda: count(cluster[0]) == CLIENTS, "all are back",
                   INTERVAL_S + 5)
        took = time.monotonic() - wiped
        print(f"{CLIENTS} clients were back after {took:.1f} s")
        # The last ones are due one interval after the wipe began.
        assert took < INTERVAL_S + 1
        assert sum(c.again for c in crowds) == CLIENTS
        assert not [c.failure for c in crowds if c.failure]
    finally:
        for crowd in crowds:
            crowd.ending.set()
        for crowd in crowds:
            crowd.join(15)
