#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One contender for a lock, as a process that can be killed and paused.

It takes the lock by a session, counts in a key under the fencing number, renews,
and gives the lock back after a while, for ever. It never looks before it writes:
after a pause its next write carries the number of a lock it may have lost. What
it saw goes to its log as lines of JSON with times of the machine's monotonic
clock, written before it goes on, so that the log is whole whenever it is killed.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import time

TIMEOUT_S = 1.0
RETRY_S = 0.05
LOCK = "locks/lock"
COUNTER = "locks/counter"


class Unknown(Exception):
    """No answer, or one that says nothing: it may have happened."""


class Lost(Exception):
    """The session is gone, or the lock is another's."""


class GaveUp(Exception):
    """A write without an answer may still be on its way, and be done as long as
    we hold the lock: nothing else can be written under this number."""


class Holder:
    def __init__(self, args):
        self.name = args.name
        self.servers = args.servers.split(",")
        self.rng = random.Random(args.seed)
        self.log = os.open(args.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.rng.shuffle(self.servers)
        self.connection = None

    def say(self, event, **members):
        members.update(e=event, holder=self.name)
        os.write(self.log, (json.dumps(members) + "\n").encode())

    def ask(self, method, path, body=None):
        """(time before, time after, answer, its text); the next server after a
        failure."""
        before = time.monotonic()
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(
                    self.servers[0], 8500, timeout=TIMEOUT_S)
            self.connection.request(method, path, body)
            answer = self.connection.getresponse()
            text = answer.read().decode()
            if answer.status >= 500 and "invalid session" not in text:
                raise OSError(text)
        except (OSError, http.client.HTTPException) as error:
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            self.servers.append(self.servers.pop(0))
            time.sleep(RETRY_S)
            raise Unknown(f"{method} {path}: {error}") from error
        return before, time.monotonic(), answer, text

    def insist(self, method, path, body=None):
        """As ask(), until there is an answer."""
        while True:
            try:
                return self.ask(method, path, body)
            except Unknown:
                continue

    def create(self):
        """A session that stands on its TTL alone: (id, ttl, lock-delay)."""
        ttl = self.rng.choice((1.0, 1.5, 2.0))
        delay = self.rng.choice((0.0, 0.0, 0.5))
        before, _, answer, text = self.insist("PUT", "/v1/session/create", json.dumps({
            "Name": self.name, "TTL": f"{ttl}s", "LockDelay": f"{delay}s",
            "NodeChecks": []}))
        assert answer.status == 200, text
        self.session = json.loads(text)["ID"]
        self.ttl = ttl
        self.delay = delay
        self.renewed = before

    def renew(self):
        """Renew when it is time."""
        if time.monotonic() < self.renewed + self.ttl / 4:
            return
        before, after, answer, text = self.ask(
            "PUT", f"/v1/session/renew/{self.session}")
        if answer.status == 404:
            raise Lost()
        assert answer.status == 200, text
        self.renewed = before
        self.say("renewed", session=self.session, t0=before, t1=after)

    def acquire(self):
        """Ask for the lock, again and again; returns the fencing number."""
        value = json.dumps({"holder": self.name, "pid": os.getpid()})
        while True:
            try:
                before, after, answer, text = self.ask(
                    "PUT", f"/v1/kv/{LOCK}?acquire={self.session}", value)
            except Unknown:
                self.say("acquire-unknown", session=self.session)
                before, answer, text = time.monotonic(), None, ""
            if answer is not None and answer.status != 200:
                raise Lost()
            if text == "true":
                fence = int(answer.headers["X-Microreg-Fence"])
                self.say("acquired", session=self.session, fence=fence,
                         ttl=self.ttl, delay=self.delay, t0=before, t1=after,
                         alive=self.renewed)
                return fence
            with contextlib.suppress(Unknown):
                self.renew()
            time.sleep(RETRY_S)

    def read_counter(self):
        _, _, answer, text = self.insist("GET", f"/v1/kv/{COUNTER}?raw&consistent")
        return json.loads(text)["n"] if answer.status == 200 else 0

    def count(self, fence, n):
        """Write the next number; returns it."""
        value = json.dumps({"n": n + 1, "fence": fence, "holder": self.name})
        self.say("writing", n=n + 1, fence=fence)
        try:
            before, after, answer, text = self.ask(
                "PUT", f"/v1/kv/{COUNTER}?fence={fence}&fence-key={LOCK}", value)
        except Unknown as error:
            raise GaveUp() from error
        assert answer.status == 200, text
        self.say("written", n=n + 1, fence=fence, done=text == "true", t0=before,
                 t1=after)
        if text != "true":
            raise Lost()
        return n + 1

    def hold(self, fence):
        until = time.monotonic() + self.rng.uniform(0.3, 6.0)
        n = self.read_counter()
        try:
            while time.monotonic() < until:
                n = self.count(fence, n)
                with contextlib.suppress(Unknown):
                    self.renew()
                time.sleep(self.rng.uniform(0, 0.05))
        except GaveUp:
            pass
        self.say("releasing", fence=fence)
        self.insist("PUT", f"/v1/kv/{LOCK}?release={self.session}", "")
        self.insist("PUT", f"/v1/session/destroy/{self.session}")

    def run(self):
        while True:
            self.create()
            try:
                self.hold(self.acquire())
            except Lost:
                self.say("lost", session=self.session)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--seed", type=int, required=True)
    Holder(parser.parse_args()).run()


if __name__ == "__main__":
    main()
