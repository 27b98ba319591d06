# SPDX-License-Identifier: Apache-2.0
"""Clusters of three servers of each product, driven alike."""

import base64
import http.client
import json
import os
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir, "integration"))

from cluster import DNS_PORT, HTTP_PORT, Net, Server, eventually, request  # noqa: E402

N_SERVERS = 3
# A write that is sent to a server without a leader may be held for seconds; a
# client that wants to know asks again.
RETRY_S = 0.25
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380


class Consulish(Server):
    """A server with Consul's flags: microreg, or Consul itself."""

    def __init__(self, program, more, name, address, folder, joins):
        super().__init__(name, address, folder, [
            "-server", f"-bootstrap-expect={N_SERVERS}", *joins, *more])
        self.program = program

    def command(self):
        return [self.program, *super().command()[1:]]


class EtcdServer(Server):
    """One etcd."""

    def __init__(self, program, name, address, folder, initial):
        super().__init__(name, address, folder, [])
        self.program = program
        self.initial = initial

    def command(self):
        client = f"http://{self.address}:{ETCD_PORT}"
        peer = f"http://{self.address}:{ETCD_PEER_PORT}"
        return [self.program, "--name", self.name, "--data-dir", self.folder,
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", self.initial, "--log-level", "error"]


class Product:
    """Three servers on a net of their own."""

    has_catalog = True

    def __init__(self, name, folder):
        self.name = name
        self.net = Net()
        self.folder = os.path.join(folder, name)
        os.makedirs(self.folder)
        self.servers = []

    def addresses(self):
        return [self.net.address(i) for i in range(1, N_SERVERS + 1)]

    def start(self):
        for server in self.servers:
            server.start()
        self.wait_ready()

    def wait_ready(self):
        eventually(self.leader, f"{self.name} has a leader", 60)
        eventually(lambda: self.put(self.servers[0], "ready", b"x", 5),
                   f"{self.name} accepts writes", 30)

    def restart(self):
        """All of them, with their data."""
        for server in self.servers:
            server.kill()
        self.start()

    def running(self):
        return [s for s in self.servers if s.running()]

    def stop(self):
        for server in self.servers:
            server.kill()
        self.net.close()

    def rss_kb(self):
        """Resident memory of the leader: (all of it, the anonymous part)."""
        with open(f"/proc/{self.leader().process.pid}/status",
                  encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return (int(fields["VmRSS"].split()[0]), int(fields["RssAnon"].split()[0]))

    def time_to_next_write(self, n):
        """Kill the leader; the seconds until one of the others accepts a write.
        Each of them is asked all the time, by a thread of its own."""
        leader = self.leader()
        others = [s for s in self.running() if s is not leader]
        accepted = []
        done = threading.Event()

        def ask(server, i):
            while not done.is_set():
                try:
                    if self.put(server, f"failover{n}-{i}", b"x", RETRY_S):
                        accepted.append(time.monotonic())
                        done.set()
                except (OSError, http.client.HTTPException, ValueError):
                    time.sleep(0.005)

        leader.process.kill()
        killed = time.monotonic()
        # What reached the old leader before it died is not the next write.
        threads = [threading.Thread(target=ask, args=(s, i), daemon=True)
                   for i, s in enumerate(others)]
        for thread in threads:
            thread.start()
        if not done.wait(60):
            raise AssertionError(f"{self.name}: no write for 60 s")
        leader.kill()
        leader.start()
        eventually(lambda: self.caught_up(leader), f"{self.name} is whole again", 60)
        for thread in threads:
            thread.join(15)
        return min(accepted) - killed


class ConsulLike(Product):
    """microreg or Consul."""

    def __init__(self, name, folder, program, more=()):
        super().__init__(name, folder)
        joins = [f"-retry-join={a}" for a in self.addresses()]
        self.servers = [
            Consulish(program, more, f"n{i}", address,
                      os.path.join(self.folder, f"n{i}"), joins)
            for i, address in enumerate(self.addresses(), 1)]

    def leader(self):
        """The server that all running ones name."""
        names = {s.leader_address().split(":")[0] for s in self.running()}
        if len(names) != 1:
            return None
        address = names.pop()
        return next((s for s in self.running() if s.address == address), None)

    def caught_up(self, server):
        return self.leader() and server.request(
            "GET", "/v1/kv/ready?stale", timeout=2).status == 200

    def put(self, server, key, value, timeout):
        answer = server.request("PUT", f"/v1/kv/{key}", value, timeout)
        return answer.status == 200 and answer.body == b"true"

    def url(self):
        return f"http://{self.leader().address}:{HTTP_PORT}"

    def dns(self):
        return self.leader().address, DNS_PORT


class Microreg(ConsulLike):
    def __init__(self, folder, program):
        super().__init__("microreg", folder, program, [])


class Consul(ConsulLike):
    def __init__(self, folder, program):
        super().__init__("consul", folder, program, [
            "-log-level=err", "-hcl=performance { raft_multiplier = 1 }",
            "-hcl=disable_update_check = true"])


class Etcd(Product):
    has_catalog = False

    def __init__(self, folder, program):
        super().__init__("etcd", folder)
        initial = ",".join(f"e{i}=http://{a}:{ETCD_PEER_PORT}"
                           for i, a in enumerate(self.addresses(), 1))
        self.servers = [
            EtcdServer(program, f"e{i}", address,
                       os.path.join(self.folder, f"e{i}"), initial)
            for i, address in enumerate(self.addresses(), 1)]

    def post(self, server, path, body, timeout=5):
        return request(f"{server.address}:{ETCD_PORT}", "POST", path,
                       json.dumps(body), timeout)

    def leader(self):
        for server in self.running():
            status = self.post(server, "/v3/maintenance/status", {}).json
            if status.get("leader") and \
                    status["leader"] == status["header"]["member_id"]:
                return server
        return None

    def caught_up(self, server):
        status = self.post(server, "/v3/maintenance/status", {}, 2).json
        return status.get("leader", "0") != "0"

    def put(self, server, key, value, timeout):
        def encode(raw):
            return base64.b64encode(raw).decode()
        answer = self.post(server, "/v3/kv/put", {
            "key": encode(key.encode()), "value": encode(value)}, timeout)
        return answer.status == 200

    def grpc_put(self, connections, seconds, folder):
        """Puts per second over gRPC itself: the JSON gateway would halve it.
        One request in flight a connection, as wrk does."""
        key, value = b"bench/key1", b"v" * 256
        message = (b"\x0a" + bytes([len(key)]) + key + b"\x12\x80\x02" + value)
        body = os.path.join(folder, "etcd-put.bin")
        with open(body, "wb") as file:
            file.write(b"\0" + struct.pack(">I", len(message)) + message)
        done = subprocess.run(
            ["h2load", f"-c{connections}", "-m1", "-t1", f"-D{seconds}", "-d", body,
             "-H", "content-type: application/grpc", "-H", "te: trailers",
             f"http://{self.leader().address}:{ETCD_PORT}/etcdserverpb.KV/Put"],
            capture_output=True, text=True, check=True,
            timeout=seconds + 30).stdout
        words = next(l for l in done.splitlines() if l.startswith("requests:")).split()
        succeeded, failed = int(words[7]), int(words[9]) + int(words[11])
        return succeeded / seconds, failed
