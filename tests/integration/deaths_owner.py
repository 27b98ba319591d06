#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Services that keep themselves registered, in a process that can be killed.

Takes a JSON list of services and keeps each alive from a thread of its own, as
a client library would: it registers, renews every third of the TTL, goes to the
next server when one does not answer soon, and registers again when told that
it is unknown. Every event is one line on standard output, with readings of the
monotonic clock, which all processes of a machine share:

    <port> try <sent> <sent>          about to ask
    <port> up <sent> <answered>       registered
    <port> ok <sent> <answered>       renewed
    <port> lost <sent> <answered>     told that it is not registered
    <port> no <sent> <answered> why   no answer, or one that promises nothing
"""

import http.client
import json
import subprocess
import sys
import threading
import time

from cluster import die_with_parent, request

# A server that does not answer so soon is not waited for.
ANSWER_S = 0.4


class Keeper(threading.Thread):
    """Keeps one service alive. Its port is its identity everywhere."""

    def __init__(self, spec):
        super().__init__(daemon=True)
        self.spec = spec
        self.at = spec.get("first", 0)
        self.digest = None

    def say(self, what, sent, *more):
        line = (f"{self.spec['port']} {what} {sent:.6f} "
                f"{time.monotonic():.6f} {' '.join(map(str, more))}\n")
        sys.stdout.write(line)
        sys.stdout.flush()

    def ask(self, method, path, body=None):
        """One request to the server of choice; goes on to the next when it
        fails. Returns (time sent, answer or None)."""
        addresses = self.spec["addresses"]
        sent = time.monotonic()
        self.say("try", sent)
        try:
            answer = request(addresses[self.at % len(addresses)], method, path,
                             body, ANSWER_S)
            if answer.status == 200 or self.is_unknown(answer):
                return sent, answer
            why = repr(answer)
        except (OSError, http.client.HTTPException) as error:
            why = repr(error)
        self.at += 1
        self.say("no", sent, why)
        return sent, None

    @staticmethod
    def is_unknown(answer):
        """Whether it says that what was to be renewed is not registered."""
        if b'"unknown":[{' in answer.body:
            return True
        return "does not have associated TTL" in answer.text

    # A registration with a TTL of its own is renewed at any server. A TTL check
    # is passed at its agent. A plain service is left to its agent.

    def body(self):
        spec = self.spec
        if spec["kind"] == "native":
            return {"name": spec["service"], "version": "1", "metadata": {},
                    "endpoints": [],
                    "nodes": [{"id": spec["id"], "metadata": {},
                               "address": f"10.1.2.3:{spec['port']}"}]}
        body = {"Name": spec["service"], "ID": spec["id"],
                "Port": spec["port"], "Address": "10.1.2.3"}
        if spec["kind"] == "check":
            body["Check"] = {
                "TTL": f"{spec['ttl_s']}s", "Status": "passing",
                "DeregisterCriticalServiceAfter": f"{spec['after_s']}s"}
        return body

    def register(self):
        if self.spec["kind"] != "native":
            return self.ask("PUT", "/v1/agent/service/register", self.body())
        sent, answer = self.ask(
            "POST", f"/registry?ttl={self.spec['ttl_s']}s", self.body())
        if answer is not None:
            self.digest = answer.json["nodes"][0]["digest"]
        return sent, answer

    def renew(self):
        spec = self.spec
        if spec["kind"] != "native":
            return self.ask("PUT", f"/v1/agent/check/pass/service:{spec['id']}")
        return self.ask("PUT", "/registry/renew", {"nodes": [
            {"name": spec["service"], "id": spec["id"],
             "digest": self.digest}]})

    def run(self):
        interval = self.spec["ttl_s"] / 3
        is_up = False
        while True:
            sent, answer = self.renew() if is_up else self.register()
            if answer is None:
                time.sleep(0.02)
                continue
            if self.is_unknown(answer):
                self.say("lost", sent, repr(answer))
                is_up = False
                continue
            self.say("ok" if is_up else "up", sent)
            is_up = True
            if self.spec["kind"] == "plain":
                return
            time.sleep(max(0, sent + interval - time.monotonic()))


class Owner:
    """The process, as its parent sees it."""

    def __init__(self, specs, enter=()):
        """@enter: a command line that runs it somewhere else."""
        self.specs = specs
        self.process = subprocess.Popen(
            [*enter, sys.executable, __file__, json.dumps(specs)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            start_new_session=True, preexec_fn=die_with_parent)
        self.tried = {}    # port: when the last renewals were sent that may
                           # have been heard: the newest, and the one before
        self.last = {}     # port: (sent, answered) of the last answered one
        self.longest = {}  # port: longest time between two answers
        self.trouble = []  # lines "lost" and "no"
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            words = line.split(maxsplit=4)
            port, what = int(words[0]), words[1]
            sent, answered = float(words[2]), float(words[3])
            if what == "try":
                self.tried[port] = (sent, self.tried.get(port, (sent,))[0])
            elif what in ("up", "ok"):
                before = self.last.get(port)
                if before is not None:
                    self.longest[port] = max(self.longest.get(port, 0),
                                             answered - before[0])
                self.last[port] = (sent, answered)
            else:
                self.trouble.append(line.strip())
                if "ConnectionRefusedError" in line:
                    # Nobody heard this one; the one before may have been.
                    _, before = self.tried[port]
                    self.tried[port] = (before, before)

    def up(self):
        return all(spec["port"] in self.last for spec in self.specs)

    def renewed(self, port):
        """When its last answered renewal was sent, when that was answered, and
        the latest time at which a renewal may have been heard: one that was
        sent and not answered may."""
        sent, answered = self.last[port]
        tried, _ = self.tried.get(port, (sent, sent))
        return sent, answered, max(answered, tried)

    def lost(self):
        return [line for line in self.trouble if line.split()[1] == "lost"]

    def signal(self):
        """kill -9, without waiting for it."""
        self.process.kill()

    def kill(self):
        """kill -9; afterwards self.last holds the last answered renewals."""
        self.process.kill()
        self.process.wait()
        self.reader.join(5)


def main():
    keepers = [Keeper(spec) for spec in json.loads(sys.argv[1])]
    for keeper in keepers:
        keeper.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
