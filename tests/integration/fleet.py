# SPDX-License-Identifier: Apache-2.0
"""Programs built on go-micro, driven from tests.

A Program is a process of tests/fleet, or stands for one: it has one registry of
go-micro's, registers, renews, lists, gets and watches with it, and dies when told
so. Wire does what go-micro's proxy plugin does, request by request.
"""

import base64
import contextlib
import fcntl
import functools
import itertools
import json
import os
import queue
import shutil
import socket
import subprocess
import threading
import time

import pytest

from cluster import HTTP_PORT, ROOT, die_with_parent, eventually, request
from go_build import go_environment, missing_module

FLEET = os.path.join(ROOT, "tests", "fleet")
BUILT = os.path.join(ROOT, "build", "fleet")
BUILD_LIMIT_S = 600
ANSWER_LIMIT_S = 15
PING_S = 54  # As often as the proxy plugin does.
READ_LIMIT = 16384  # The proxy plugin takes no longer message.


@functools.lru_cache(maxsize=None)
def built(module, folder=FLEET, is_pure=False):
    """The program of a Go module, built once a run, with libmicroreg or in pure
    Go; a reason to skip when there is no Go, or its modules cannot be had."""
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"{module}: there is no Go here (https://go.dev/dl)")
    os.makedirs(BUILT, exist_ok=True)
    program = os.path.join(BUILT, module + ("-pure" if is_pure else ""))
    with open(program + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [go, "build", "-o", program, "."], text=True, check=False,
            cwd=os.path.join(folder, module), capture_output=True,
            timeout=BUILD_LIMIT_S, env=go_environment(is_pure))
    if done.returncode == 0:
        return program
    if missing_module(done.stderr):
        pytest.skip(f"{module}: the module proxy does not give all that it "
                    f"needs: {done.stderr.strip()[-300:]}")
    raise AssertionError(f"{module} does not build:\n{done.stderr}")


class Refused(Exception):
    """The registry plugin returned an error."""


class Watched:
    """The events of one watcher, in the order they came."""

    def __init__(self, stop):
        self.events = queue.Queue()
        self.seen = []
        self.stop = stop  # Called, it ends the watcher.

    def tell(self, event):
        event["at"] = time.monotonic()
        self.events.put(event)

    def next(self, timeout=10.0):
        event = self.events.get(timeout=timeout)
        self.seen.append(event)
        return event

    def until(self, condition, what, timeout=10.0):
        """The first event from here on that the condition holds for."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                event = self.next(max(left, 0.001))
            except queue.Empty:
                raise AssertionError(f"not within {timeout} s: {what}; the "
                                     f"events were {self.seen}") from None
            if condition(event):
                return event

    def node(self, node_id, actions=("create", "update"), timeout=10.0):
        """The first event of these actions that has the node."""
        def has(event):
            nodes = (event.get("service") or {}).get("nodes") or []
            return event.get("action") in actions and node_id in [
                n["id"] for n in nodes]
        return self.until(has, f"{'/'.join(actions)} of {node_id}", timeout)


class Program:
    """A driven process. One thread asks at a time."""

    def __init__(self, module, registry, addresses, is_pure=False):
        self.name = f"{registry} on {module}{' in pure Go' * is_pure}"
        self.ids = itertools.count(1)
        self.answers = queue.Queue()
        self.watches = {}
        self.process = subprocess.Popen(
            [built(module, is_pure=is_pure)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=die_with_parent)
        threading.Thread(target=self._read, daemon=True).start()
        self.ask("open", registry=registry, addresses=list(addresses))

    def _read(self):
        for line in self.process.stdout:
            said = json.loads(line)
            if "watch" in said:
                self.watches[said["watch"]].tell(said)
            else:
                self.answers.put(said)

    def ask(self, what, number=None, **members):
        number = number or next(self.ids)
        self.process.stdin.write(
            json.dumps({"id": number, "do": what, **members}) + "\n")
        self.process.stdin.flush()
        try:
            said = self.answers.get(timeout=ANSWER_LIMIT_S)
        except queue.Empty:
            raise AssertionError(f"{self.name}: no answer to {what}") from None
        assert said["id"] == number, said
        if said.get("error"):
            raise Refused(said["error"])
        return said["result"]

    def register(self, service, ttl_s):
        self.ask("register", service=service, ttl_ms=int(ttl_s * 1000))

    def keep(self, service, ttl_s, interval_s):
        """Register, and again after each interval, for as long as it lives."""
        self.ask("keep", service=service, ttl_ms=int(ttl_s * 1000),
                 interval_ms=int(interval_s * 1000))

    def deregister(self, service):
        self.ask("deregister", service=service)

    def get(self, name):
        try:
            return self.ask("get", name=name) or []
        except Refused as error:
            if "not found" in str(error):
                return []
            raise

    def list(self):
        return sorted({s["name"] for s in self.ask("list") or []})

    def watch(self, name):
        number = next(self.ids)
        watched = self.watches[number] = Watched(
            lambda: self.ask("stop", watch=number))
        self.ask("watch", number=number, name=name)
        return watched

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()


class Wire:
    """What go-micro's proxy plugin sends and reads: no TTL, one connection a
    request, watches by WebSocket."""

    def __init__(self, addresses):
        self.name = "proxy by hand"
        self.addresses = list(addresses)
        self.sockets = []

    def _ask(self, method, path, body=None):
        for address in self.addresses:
            answer = request(address, method, path,
                             None if body is None else json.dumps(body),
                             headers={"Content-Type": "application/json"})
            if answer.status == 200:
                return json.loads(answer.body or b"null")
        raise Refused(answer.text)

    def register(self, service, _ttl_s):
        self._ask("POST", "/registry", service)

    def keep(self, service, ttl_s, _interval_s):
        self.register(service, ttl_s)

    def deregister(self, service):
        self._ask("DELETE", "/registry", service)

    def get(self, name):
        return self._ask("GET", f"/registry?service={name}") or []

    def list(self):
        return sorted({s["name"] for s in self._ask("GET", "/registry")})

    def watch(self, name):
        ws = WebSocket(self.addresses[0],
                       "/registry" + (f"?service={name}" if name else ""))
        self.sockets.append(ws)
        watched = Watched(ws.close)

        def read():
            with contextlib.suppress(OSError):
                for text in ws.messages():
                    said = json.loads(text)
                    watched.tell({"action": said["Action"],
                                  "service": said["Service"]})
            watched.tell({"error": ws.why_ended})
        threading.Thread(target=read, daemon=True).start()
        return watched

    def kill(self):
        for ws in self.sockets:
            ws.close()


class WebSocket:
    """A client's end, as far as the proxy plugin needs one (RFC 6455)."""

    TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

    def __init__(self, address, path):
        self.why_ended = "the connection broke"
        host, _, port = address.partition(":")
        self.socket = socket.create_connection((host, int(port or HTTP_PORT)),
                                               ANSWER_LIMIT_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        status = self.file.readline()
        if b" 101 " not in status:
            raise Refused(f"no WebSocket: {status!r}")
        while self.file.readline() not in (b"\r\n", b""):
            pass
        self.socket.settimeout(60)

    def send(self, opcode, payload=b""):
        """One masked frame of at most 125 bytes."""
        mask = os.urandom(4)
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask
                            + masked)

    def frame(self):
        head = self.file.read(2)
        if len(head) < 2:
            raise OSError(self.why_ended)
        length = head[1] & 0x7F
        if length > 125:
            length = int.from_bytes(
                self.file.read(2 if length == 126 else 8), "big")
        return head[0] & 0x0F, bool(head[0] & 0x80), self.file.read(length)

    def messages(self):
        """The texts that come, until the server closes or the connection
        breaks."""
        text = b""
        while True:
            opcode, is_final, payload = self.frame()
            if opcode == self.PING:
                self.send(self.PONG, payload)
            elif opcode == self.CLOSE:
                self.why_ended = "the server closed"
                return
            elif opcode != self.PONG:
                text += payload
                assert len(text) <= READ_LIMIT, "the plugin would refuse it"
                if is_final:
                    yield text
                    text = b""

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Native:
    """The registry's own HTTP API, as any program with an HTTP client uses it."""

    def __init__(self, address):
        self.name = "HTTP"
        self.address = address
        self.ending = threading.Event()

    def register(self, service, ttl_s):
        answer = request(self.address, "POST", f"/registry?ttl={ttl_s}s",
                         service)
        if answer.status != 200:
            raise Refused(answer.text)

    def keep(self, service, ttl_s, interval_s):
        self.register(service, ttl_s)

        def again():
            while not self.ending.wait(interval_s):
                with contextlib.suppress(OSError):
                    self.register(service, ttl_s)
        threading.Thread(target=again, daemon=True).start()

    def deregister(self, service):
        request(self.address, "DELETE", "/registry", service)

    def get(self, name):
        return request(self.address, "GET", f"/registry?service={name}").json

    def list(self):
        return sorted({s["name"] for s in
                       request(self.address, "GET", "/registry").json})

    def kill(self):
        self.ending.set()


def gone(program, name, node_id):
    """Wait until the program does not get the node any more; how long it took
    is for the caller to measure."""
    def absent():
        return all(node_id != n["id"] for s in program.get(name)
                   for n in s["nodes"] or [])
    eventually(absent, f"{node_id} is gone for {program.name}", 30)
