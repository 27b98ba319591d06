# SPDX-License-Identifier: Apache-2.0
"""What the servers show of a service, as a history of who was in each answer.

Health and catalog are followed by blocking queries on every server, each
answered from its own state (?stale), so that a change is seen when that server
makes it known. DNS has nothing to wait on and is polled. Instances are known by
their port.
"""

import http.client
import json
import socket
import threading
import time

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from cluster import DNS_PORT, HTTP_PORT

DNS_POLL_S = 0.02


class Watch(threading.Thread):
    """Follows one answer of one server until stop()."""

    def __init__(self, address, service):
        super().__init__(daemon=True)
        self.address = address
        self.service = service
        self.history = []  # (time, ports), one entry a change
        self.ending = threading.Event()

    def note(self, ports):
        if not self.history or self.history[-1][1] != ports:
            self.history.append((time.monotonic(), ports))

    def stop(self):
        self.ending.set()

    # -- what it saw

    def shows(self, port):
        return bool(self.history) and port in self.history[-1][1]

    def gone_at(self, port):
        """When it was seen to be gone for good, or None while it is there or
        was never seen."""
        gone, was_seen = None, False
        for at, ports in list(self.history):
            if port in ports:
                gone, was_seen = None, True
            elif was_seen and gone is None:
                gone = at
        return gone

    def missing(self, port):
        """The times at which it vanished after it had been there."""
        times, was_there = [], False
        for at, ports in list(self.history):
            if was_there and port not in ports:
                times.append(at)
            was_there = port in ports
        return times


class Http(Watch):
    """A blocking query, asked again and again."""

    def run(self):
        connection, index = None, 0
        while not self.ending.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(
                        self.address, HTTP_PORT, timeout=4)
                    index = 0
                connection.request("GET", f"{self.path()}stale&wait=2s"
                                          f"&index={index}")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise ValueError(answer.status)
                index = int(answer.headers["X-Consul-Index"])
                self.note(frozenset(map(self.port_of, json.loads(body))))
            except (OSError, http.client.HTTPException, ValueError):
                if connection is not None:
                    connection.close()
                connection = None
                self.ending.wait(0.05)


class Health(Http):
    """In health/service?passing."""

    def path(self):
        return f"/v1/health/service/{self.service}?passing&"

    @staticmethod
    def port_of(entry):
        return entry["Service"]["Port"]


class Catalog(Http):
    """In catalog/service."""

    def path(self):
        return f"/v1/catalog/service/{self.service}?"

    @staticmethod
    def port_of(entry):
        return entry["ServicePort"]


class Dns(Watch):
    """In the SRV answer."""

    def __init__(self, address, service):
        super().__init__(address, service)
        self.longest_s = 0  # Between two answers, while it answered.
        self.question = dns.message.make_query(
            f"{service}.service.micro", dns.rdatatype.SRV, payload=4096)

    def ask(self, sock):
        wire = self.question.to_wire()
        sock.sendto(wire, (self.address, DNS_PORT))
        while True:
            answer = dns.message.from_wire(sock.recv(65535))
            if answer.id == self.question.id:
                break
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) \
                or answer.flags & dns.flags.TC:
            raise ValueError(answer.rcode())
        return frozenset(record.port for rrset in answer.answer
                         for record in rrset
                         if record.rdtype == dns.rdatatype.SRV)

    def run(self):
        sock, last = None, None
        while not self.ending.wait(DNS_POLL_S):
            try:
                if sock is None:
                    # A late answer must not be taken for the next one's.
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    sock.settimeout(0.5)
                ports = self.ask(sock)
            except (OSError, ValueError, dns.exception.DNSException):
                if sock is not None:
                    sock.close()
                sock, last = None, None
                continue
            now = time.monotonic()
            if last is not None:
                self.longest_s = max(self.longest_s, now - last)
            last = now
            self.note(ports)


FACES = {"passing": Health, "dns": Dns, "catalog": Catalog}


class Observers:
    """All three faces of one service on all servers."""

    def __init__(self, addresses, service):
        self.watches = {(face, address): kind(address, service)
                        for face, kind in FACES.items()
                        for address in addresses}
        for watch in self.watches.values():
            watch.start()

    def on(self, face, addresses):
        return [self.watches[face, address] for address in addresses]

    def all_show(self, port, addresses):
        return all(watch.shows(port) for face in FACES
                   for watch in self.on(face, addresses))

    def gone(self, face, port, addresses):
        """(first, last) time at which it was gone from these servers; None
        while one of them still shows it."""
        times = [watch.gone_at(port) for watch in self.on(face, addresses)]
        return None if None in times else (min(times), max(times))

    def missing(self, port):
        """(face, address, time) of every vanishing."""
        return [(face, address, at)
                for (face, address), watch in self.watches.items()
                for at in watch.missing(port)]

    def resolution_s(self):
        return max(watch.longest_s for (face, _), watch in self.watches.items()
                   if face == "dns")

    def close(self):
        for watch in self.watches.values():
            watch.stop()
