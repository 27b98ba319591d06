# SPDX-License-Identifier: Apache-2.0
"""Servers as real processes on loopback addresses of their own.

A Cluster takes a net nobody uses (127.A.B.x), so that runs go side by side, and
the standard ports on each address. Nothing here sleeps to let something happen:
eventually() polls a condition until a deadline.
"""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
HTTP_PORT = 8500
DNS_PORT = 8600
RPC_PORT = 8300
POLL_S = 0.02


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In a child: be killed when the process that started it ends, so that an
    interrupted run leaves no server behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def binary():
    """The program under test."""
    return os.path.abspath(os.environ.get(
        "MICROREG", os.path.join(ROOT, "build", "microreg")))


def eventually(condition, what, timeout=15.0):
    """Poll until the condition returns something true, and return that. An
    exception of the network or an assertion counts as "not yet"."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, http.client.HTTPException, ValueError, KeyError,
                AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what} (last: {last!r})")
        time.sleep(POLL_S)


class Net:
    """A 127.A.B net that no other run uses. Held by an abstract socket, which
    the kernel frees when this process ends, however it ends."""

    def __init__(self):
        rng = random.SystemRandom()
        for _ in range(1000):
            prefix = f"127.{rng.randint(20, 219)}.{rng.randint(0, 255)}"
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                lock.bind(f"\0microreg-net-{prefix}")
            except OSError:
                lock.close()
                continue
            self.prefix = prefix
            self.lock = lock
            return
        raise RuntimeError("no loopback net is free")

    def address(self, i):
        return f"{self.prefix}.{i}"

    def close(self):
        self.lock.close()


class Answer:
    """Status, headers and body of one HTTP answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def index(self):
        return int(self.headers["X-Consul-Index"])

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


def request(address, method, path, body=None, timeout=10.0, headers=None):
    """One request on a connection of its own. Raises OSError or HTTPException
    when there is no answer."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port or HTTP_PORT),
                                            timeout=timeout)
    try:
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection.connect()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            # A server that refuses a body need not read it to its end.
            connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


class Server:
    """One server: its address, its folder and, when it runs, its process."""

    def __init__(self, name, address, folder, flags):
        self.name = name
        self.address = address
        self.folder = folder
        self.flags = list(flags)
        self.process = None
        self.log = folder + ".log"

    def command(self):
        return [binary(), "agent", f"-node={self.name}", f"-bind={self.address}",
                f"-client={self.address}", f"-advertise={self.address}",
                f"-data-dir={self.folder}", *self.flags]

    def start(self):
        assert self.process is None, f"{self.name} runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
                preexec_fn=die_with_parent)
        return self

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def terminate(self, number=signal.SIGTERM, timeout=15):
        """Ask it to end; returns its exit status."""
        self.send(number)
        return self.wait_exit(timeout)

    def wait_exit(self, timeout=15):
        """Wait until it ended by itself; returns its exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(
                f"{self.name} still runs after {timeout} s") from error
        self.process = None
        return status

    def pause(self):
        self.send(signal.SIGSTOP)

    def resume(self):
        self.send(signal.SIGCONT)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def log_text(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return log.read()
        return ""

    # -- HTTP

    def request(self, method, path, body=None, timeout=10.0, headers=None):
        return request(self.address, method, path, body, timeout, headers)

    def get(self, path, timeout=10.0):
        """The decoded JSON of an answer that must be 200."""
        answer = self.request("GET", path, timeout=timeout)
        assert answer.status == 200, f"GET {path}: {answer!r}"
        return answer.json

    def put(self, path, body=None, timeout=10.0):
        answer = self.request("PUT", path, body, timeout)
        assert answer.status == 200, f"PUT {path}: {answer!r}"
        return answer

    def kv_put(self, key, value, timeout=10.0):
        answer = self.put(f"/v1/kv/{key}", value, timeout)
        assert answer.body.strip() == b"true", repr(answer)

    def kv_get(self, key, query="", timeout=10.0):
        """The value as bytes, or None."""
        answer = self.request("GET", f"/v1/kv/{key}?raw{query}", timeout=timeout)
        if answer.status == 404:
            return None
        assert answer.status == 200, repr(answer)
        return answer.body

    def register(self, name, port=80, **members):
        self.put("/v1/agent/service/register",
                 {"Name": name, "Port": port, **members})

    def self(self):
        return self.get("/v1/agent/self", timeout=2)

    def is_leader(self):
        return self.self()["Stats"]["raft"]["state"] == "Leader"

    def digest(self):
        """(revision, digest) of its state."""
        value = self.get("/v1/operator/digest", timeout=5)
        return value["Revision"], value["Digest"]

    def leader_address(self, timeout=2):
        return self.get("/v1/status/leader", timeout=timeout)


class Cluster:
    """N servers that found each other."""

    def __init__(self, folder, n=3, flags=(), start=True, net=None):
        self.net = net or Net()
        self.folder = str(folder)
        self.flags = list(flags)
        self.servers = []
        for i in range(1, n + 1):
            self.add(i, [f"-bootstrap-expect={n}"], n)
        if start:
            for server in self.servers:
                server.start()
            try:
                self.wait_leader(timeout=30)
            except BaseException:
                self.close()
                raise

    def add(self, i, more=(), n=None):
        """A further server, not started, that joins the first ones."""
        joins = [f"-retry-join={self.net.address(k)}"
                 for k in range(1, (n or len(self.servers)) + 1)]
        server = Server(f"n{i}", self.net.address(i),
                        os.path.join(self.folder, f"n{i}"),
                        ["-server", "-retry-interval=1s", *joins, *more,
                         *self.flags])
        self.servers.append(server)
        return server

    def __getitem__(self, i):
        return self.servers[i]

    def __iter__(self):
        return iter(self.servers)

    def running(self):
        return [s for s in self.servers if s.running()]

    def find_leader(self, among=None):
        """The server that leads and that all others name, or None."""
        among = among or self.running()
        for server in among:
            if not server.is_leader():
                continue
            address = f"{server.address}:{RPC_PORT}"
            if all(s.leader_address() == address for s in among):
                return server
        return None

    def wait_leader(self, among=None, timeout=15):
        return eventually(lambda: self.find_leader(among), "one leader", timeout)

    def followers(self):
        leader = self.wait_leader()
        return [s for s in self.running() if s is not leader]

    def wait_equal(self, among=None, timeout=30):
        """Wait until all servers hold the same state; returns its revision."""
        def equal():
            digests = {s.digest() for s in among or self.running()}
            return digests if len(digests) == 1 else None
        ((revision, _),) = eventually(equal, "equal digests", timeout)
        return revision

    def close(self):
        for server in self.servers:
            server.kill()
        self.net.close()


class Writer(threading.Thread):
    """Writes one new key after the other through the servers in turn, and keeps
    what it was told: acknowledged, refused (the server says that nothing was
    done) or unknown (no answer, or one that promises nothing)."""

    REFUSALS = ("No cluster leader",)

    def __init__(self, servers, name="w", timeout=10.0):
        super().__init__(daemon=True)
        self.servers = list(servers)
        self.name_ = name
        self.timeout = timeout
        self.acked = {}
        self.refused = {}
        self.unknown = {}
        self.ack_times = []
        self.answers = {}
        self.ending = threading.Event()

    def run(self):
        n = 0
        while not self.ending.is_set():
            n += 1
            key, value = f"{self.name_}/{n}", f"{self.name_}-value-{n}"
            server = self.servers[n % len(self.servers)]
            try:
                answer = server.request("PUT", f"/v1/kv/{key}", value,
                                        self.timeout)
            except ConnectionRefusedError:
                # Nobody heard it.
                self.refused[key] = value
                self.ending.wait(POLL_S)
                continue
            except (OSError, http.client.HTTPException):
                self.unknown[key] = value
                continue
            said = (answer.status, answer.text[:80])
            if answer.status == 200:
                assert answer.body == b"true", repr(answer)
                self.acked[key] = value
                self.ack_times.append(time.monotonic())
            else:
                self.answers[said] = self.answers.get(said, 0) + 1
                if any(r in answer.text for r in self.REFUSALS):
                    self.refused[key] = value
                else:
                    self.unknown[key] = value
                self.ending.wait(POLL_S)

    def wait_acks(self, more, timeout=30):
        """Wait until so many more writes were acknowledged."""
        goal = len(self.acked) + more
        eventually(lambda: len(self.acked) >= goal,
                   f"{more} more writes (answers: {self.answers})", timeout)

    def finish(self):
        self.ending.set()
        self.join(self.timeout + 5)
        assert not self.is_alive()

    def check(self, server):
        """Everything acknowledged is there, nothing refused is."""
        answer = server.request("GET", f"/v1/kv/{self.name_}/?recurse&consistent",
                                timeout=30)
        assert answer.status == 200, repr(answer)
        found = {e["Key"]: base64.b64decode(e["Value"] or "").decode()
                 for e in answer.json}
        lost = {k for k, v in self.acked.items() if found.get(k) != v}
        assert not lost, f"{len(lost)} acknowledged writes lost: {sorted(lost)[:5]}"
        undead = {k for k in self.refused if k in found}
        assert not undead, f"{len(undead)} refused writes happened: {sorted(undead)[:5]}"
        strange = {k for k in found if k not in self.acked and k not in self.unknown}
        assert not strange, f"keys nobody wrote: {sorted(strange)[:5]}"
