#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The table of deaths: who dies, and how long the dead stay visible.

Each row is a way to die, tried round after round on a cluster of its own with
real processes. A round registers a victim beside owners that live, lets it
renew for a while, kills what the row says, and measures the time from the
victim's last renewal (when its owner sent the last one that was answered) until
every living server has dropped it from health?passing, from DNS and from the catalog. A round fails
when the victim goes before the promised time or after it, when somebody who
lives vanishes from any answer, or when `microreg why` names another cause.

Rows run side by side, each in a process of its own. Prints a table in markdown.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from cluster import Cluster, Server, binary, eventually, request
from deaths_owner import Owner
from deaths_watch import FACES, Observers
from slowdisk import HungDisk
import deaths_net
import slowdisk

TTL_S = 2.0
AFTER_S = 2.0      # DeregisterCriticalServiceAfter
NODE_TTL_S = 4.0   # The default.
REAP_S = 3.0       # reconnect_timeout; its default is an hour.
SLACK_S = 1.0      # The promise: gone within [TTL, TTL + 1 s].
LIVING = 3         # Owners that must never be lost,
LIVING_TTL_S = 3.0 # who also have to outlive an election.
SEEN_S = 0.05      # How late we may see it: DNS polls, a busy machine.


class Failed(Exception):
    """A promise was broken."""


# ------------------------------------------------------------------ a round

class Round:
    """What one round knows."""

    def __init__(self, row, n):
        self.row = row
        self.n = n
        self.port = 10000 + n
        self.id = f"{row.service}-{n}"
        self.down = []        # servers that are dead or paused
        self.renewed = None   # last sign of life: (sent, answered, latest)
        self.cause = ""       # what microreg why said
        self.deaths = {}      # what died when, for the report


    def story(self):
        """What happened when, counted from the last renewal."""
        told = [("last answer", self.renewed[1]),
                ("last unanswered", self.renewed[2]), *self.deaths.items()]
        return ", ".join(f"{what} at {at - self.renewed[0]:+.3f} s"
                         for what, at in told)


class Row:
    """One way to die. Subclasses say who the victim is and how it dies."""

    name = "?"
    title = "?"
    kind = "native"     # of the victim
    owners = "native"   # of the living
    with_agent = False
    why = ("no renewal for",)  # in what `microreg why` says

    def __init__(self, folder, seed, quick):
        self.rng = random.Random(f"{seed}-{self.name}")
        self.quick = quick
        self.folder = folder
        self.service = f"dead-{self.name}"
        self.agent = None
        self.problems = []
        self.results = {face: [] for face in FACES}
        self.extra = {}

    @staticmethod
    def why_not(folder):
        """Why this row cannot be tried here; "" when it can."""
        del folder
        return ""

    # -- the promise: (earliest, latest), seconds after the last renewal

    def bounds(self):
        ends = (TTL_S, TTL_S + SLACK_S)
        return {face: ends for face in FACES}

    # -- stage

    def flags(self):
        return []

    def start(self):
        self.cluster = Cluster(self.folder, 3, self.flags())
        self.addresses = [server.address for server in self.cluster]
        if self.with_agent:
            self.agent = self.make_agent()
            self.agent.start()
            eventually(lambda: self.agent.get("/v1/agent/self"), "the agent")
        self.watch()

    def make_agent(self):
        joins = [f"-retry-join={address}" for address in self.addresses]
        return Server("agent", self.cluster.net.address(101),
                      os.path.join(self.folder, "agent"),
                      [*joins, *self.flags()])

    def watch(self):
        self.observers = Observers(self.addresses, self.service)
        self.living = Owner([
            {"kind": "native", "service": self.service,
             "id": f"{self.service}-living-{i}", "port": 9000 + i,
             "ttl_s": LIVING_TTL_S, "addresses": self.addresses, "first": i}
            for i in range(LIVING)])
        eventually(self.living.up, "the living register", 30)
        for i in range(LIVING):
            eventually(lambda p=9000 + i: self.observers.all_show(
                p, self.addresses), "the living are seen", 30)

    def stop(self):
        for part in ("observers", "cluster"):
            if hasattr(self, part):
                getattr(self, part).close()
        if hasattr(self, "living"):
            self.living.kill()
        if self.agent is not None:
            self.agent.kill()

    # -- a round

    def victim_addresses(self):
        if self.kind == "native":
            return self.addresses
        return [self.agent.address]

    def victim(self, r):
        return Owner([{
            "kind": self.kind, "service": self.service, "id": r.id,
            "port": r.port, "ttl_s": TTL_S, "after_s": AFTER_S,
            "addresses": self.victim_addresses(), "first": r.n}])

    def play(self, n):
        r = Round(self, n)
        owner = self.victim(r)
        try:
            eventually(owner.up, "the victim registers", 30)
            eventually(lambda: self.observers.all_show(r.port, self.addresses),
                       "the victim is seen everywhere", 30)
            time.sleep(self.rng.uniform(0.2, 1) * TTL_S)
            self.die(r, owner)
            self.measure(r)
            self.ask_why(r)
        finally:
            owner.kill()
            self.mend(r)
        self.check_living()
        return r

    def die(self, r, owner):
        """Kill what the row says and set r.renewed."""
        owner.kill()
        r.renewed = owner.renewed(r.port)

    def mend(self, r):
        """Make everything as it was."""
        for server in r.down:
            server.kill()
            server.start()
        if r.down:
            self.cluster.wait_leader(timeout=30)

    def alive(self, r):
        down = {server.address for server in r.down}
        return [a for a in self.addresses if a not in down]

    def measure(self, r):
        """Wait until it is gone everywhere, and judge when."""
        bounds = self.bounds()
        for face in FACES:
            earliest, latest = bounds[face]
            wait = r.renewed[2] + latest + 5 - time.monotonic()
            gone = eventually(
                lambda f=face: self.observers.gone(f, r.port, self.alive(r)),
                f"{r.id} is gone from {face}", max(wait, 1))
            first, last = gone[0] - r.renewed[0], gone[1] - r.renewed[2]
            # A renewal without an answer may have been heard: then it counts.
            self.results[face].append(
                last if last >= earliest else gone[1] - r.renewed[0])
            if first < earliest:
                self.problems.append(
                    f"round {r.n}: EARLY: gone from {face} after {first:.3f} s, "
                    f"promised not before {earliest:.3f} s")
            if last > latest + SEEN_S:
                self.problems.append(
                    f"round {r.n}: LATE: gone from {face} after {last:.3f} s, "
                    f"promised within {latest:.3f} s")

    def ask_why(self, r):
        """Every living server names the cause."""
        for address in self.alive(r):
            said = subprocess.run(
                [binary(), "why", "service", f"-http-addr={address}:8500",
                 r.id], capture_output=True, text=True, timeout=20, check=False)
            text = " ".join(said.stdout.split())
            r.cause = text.split(" As ")[0]
            if not all(any(words in r.cause for words in part.split("|"))
                       for part in self.why):
                self.problems.append(
                    f"round {r.n}: WHY on {address}: {r.cause or said.stderr}")

    def check_living(self):
        for i in range(LIVING):
            for face, address, at in self.observers.missing(9000 + i):
                if ("seen", face, address, at, i) in self.extra:
                    continue
                self.extra["seen", face, address, at, i] = True
                self.problems.append(
                    f"LOST: living owner {9000 + i} vanished from {face} on "
                    f"{address}; its longest time between two answered "
                    f"renewals was {self.living.longest.get(9000 + i, 0):.3f} s"
                    f" (TTL {LIVING_TTL_S} s)")
        for line in self.living.lost():
            if line not in self.extra:
                self.extra[line] = True
                self.problems.append(f"LOST: a living owner was told: {line}")

    def run(self, rounds, say):
        for n in range(1, rounds + 1):
            before = len(self.problems)
            r = self.play(n)
            for problem in self.problems[before:]:
                say(f"{self.name} {problem}")
            if len(self.problems) > before:
                say(f"{self.name} round {n}: {r.story()}; microreg why: "
                    f"{r.cause}")
            say(f"{self.name} {n}/{rounds}: " + ", ".join(
                f"{face} {self.results[face][-1]:.2f} s" for face in FACES))
        return {"name": self.name, "title": self.title, "rounds": rounds,
                "bounds": self.bounds(), "results": self.results,
                "problems": self.problems,
                "longest_living_s": max(self.living.longest.values()),
                "resolution_s": self.observers.resolution_s()}


# ------------------------------------------------------------------ the rows

class Native(Row):
    name = "native"
    title = "service killed (registered with a TTL, no agent)"


class Check(Row):
    name = "check"
    title = "service killed (TTL check at its agent)"
    kind = "check"
    with_agent = True
    # The agent and the leader notice in the same moment; either may be first.
    why = ("was not passed for|TTL expired",)

    def bounds(self):
        ends = (TTL_S, TTL_S + SLACK_S)
        return {"passing": ends, "dns": ends,
                "catalog": (TTL_S + AFTER_S, TTL_S + AFTER_S + SLACK_S)}


class AgentRow(Row):
    """The agent dies, which renews its node's lease every second."""

    kind = "plain"
    with_agent = True
    why = ("was dead for", "was silent for")

    def flags(self):
        path = os.path.join(self.folder, "reap.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump({"reconnect_timeout": f"{int(REAP_S)}s"}, out)
        return [f"-config-file={path}"]

    def bounds(self):
        ends = (NODE_TTL_S, NODE_TTL_S + SLACK_S)
        return {"passing": ends, "dns": ends,
                "catalog": (ends[0] + REAP_S, ends[1] + REAP_S)}

    def kill_agent(self):
        self.agent.kill()

    def heard(self, subject):
        """When the lease of @subject was renewed last. Only the leader can say
        when it heard an agent that is dead or cut off by now."""
        now = time.monotonic()
        leader = self.cluster.wait_leader()
        asked = time.monotonic()
        (row,) = leader.get(f"/v1/agent/why/{subject}")["State"]
        return asked - row["Lease"]["SilentMs"] / 1000, now, now

    def die(self, r, owner):
        self.kill_agent()
        r.renewed = self.heard("node/agent")

    def mend(self, r):
        super().mend(r)
        if not self.agent.running():
            self.agent.start()
            eventually(lambda: self.agent.get("/v1/agent/self"), "the agent")


class Agent(AgentRow):
    name = "agent"
    title = "agent killed (its service without a check)"


class Both(AgentRow):
    name = "both"
    title = "agent and service killed (TTL check)"
    kind = "check"
    why = Check.why

    def flags(self):
        return []

    def bounds(self):
        return Check.bounds(self)

    def die(self, r, owner):
        owner.signal()
        self.kill_agent()
        owner.kill()
        r.renewed = owner.renewed(r.port)


def kill_in_turn(rng, deaths, r):
    """Kill all within one second, in any order."""
    names = list(deaths)
    rng.shuffle(names)
    times = sorted([0] + [rng.uniform(0, 0.9) for _ in names[1:]])
    start = time.monotonic()
    for name, at in zip(names, times):
        time.sleep(max(0, start + at - time.monotonic()))
        deaths[name]()
        r.deaths[name] = time.monotonic()


class WithLeader(Both):
    name = "leader"
    title = "agent, service and leader killed in one second"

    def die(self, r, owner):
        leader = self.cluster.wait_leader()
        deaths = {"service": owner.signal, "agent": self.kill_agent,
                  "leader": leader.kill}
        kill_in_turn(self.rng, deaths, r)
        r.down.append(leader)
        owner.kill()
        r.renewed = owner.renewed(r.port)


class NativeWithLeader(Row):
    name = "native-leader"
    title = "service (registered with a TTL) and leader killed in one second"

    def die(self, r, owner):
        leader = self.cluster.wait_leader()
        deaths = {"service": owner.signal, "leader": leader.kill}
        kill_in_turn(self.rng, deaths, r)
        r.down.append(leader)
        owner.kill()
        r.renewed = owner.renewed(r.port)


class Paused(Row):
    name = "paused"
    title = "leader paused 30 s, a service killed meanwhile"

    def die(self, r, owner):
        leader = self.cluster.wait_leader()
        leader.pause()
        r.down.append(leader)
        r.paused_at = time.monotonic()
        time.sleep(self.rng.uniform(0, TTL_S))
        super().die(r, owner)

    def mend(self, r):
        for leader in r.down:
            pause = 10 if self.quick else 30
            time.sleep(max(0, r.paused_at + pause - time.monotonic()))
            leader.resume()
        # What it says when it wakes up is watched as well.
        time.sleep(TTL_S + SLACK_S)
        self.cluster.wait_leader(timeout=30)


class Cut(AgentRow):
    """The agent and its service live on behind a cut. The service's check is
    passed at the agent, which cannot tell the servers."""

    name = "cut"
    title = "agent cut off from the servers (TTL check)"
    kind = "check"

    @staticmethod
    def why_not(folder):
        return deaths_net.why_not()

    why = Check.why

    def flags(self):
        return []

    def start(self):
        self.cluster = deaths_net.FarCluster(self.folder, 3, self.flags(),
                                             net=deaths_net.MachineNet())
        self.addresses = [server.address for server in self.cluster]
        self.agent = self.make_agent()
        self.agent.start()
        eventually(lambda: any(
            n["Node"] == "agent"
            for n in self.cluster[0].get("/v1/catalog/nodes")),
            "the agent joins", 30)
        self.watch()

    def make_agent(self):
        self.machine = self.cluster.net.machine(9)
        return deaths_net.FarServer(
            self.machine, "agent", os.path.join(self.folder, "agent"),
            [f"-retry-join={address}" for address in self.addresses])

    def victim(self, r):
        return Owner([{
            "kind": self.kind, "service": self.service, "id": r.id,
            "port": r.port, "ttl_s": TTL_S, "after_s": AFTER_S,
            "addresses": [self.machine.address]}], self.machine.enter)

    def bounds(self):
        return Check.bounds(self)

    def die(self, r, owner):
        self.machine.cut()
        r.renewed = self.heard(f"check/service:{r.id}")

    def ask_why(self, r):
        super().ask_why(r)
        # The cut is over: it comes back by itself, as it never died.
        self.machine.heal()
        healed = time.monotonic()
        eventually(lambda: self.observers.all_show(r.port, self.addresses),
                   "it is back after the cut", 30)
        self.extra.setdefault("back", []).append(time.monotonic() - healed)

    def mend(self, r):
        self.machine.heal()


class LeaderCut(Row):
    """The leader goes on behind the cut, with nobody to lead."""

    name = "leader-cut"
    title = "leader cut off from the others, a service killed meanwhile"
    why_not = Cut.why_not

    def start(self):
        self.cluster = deaths_net.FarCluster(self.folder, 3, self.flags(),
                                             net=deaths_net.MachineNet())
        self.addresses = [server.address for server in self.cluster]
        self.watch()

    def die(self, r, owner):
        leader = self.cluster.wait_leader()
        leader.machine.cut()
        r.deaths["cut"] = time.monotonic()
        r.down.append(leader)
        time.sleep(self.rng.uniform(0, TTL_S))
        super().die(r, owner)

    def mend(self, r):
        for leader in r.down:
            leader.machine.heal()
        # What it says when it is back is watched as well.
        time.sleep(TTL_S + SLACK_S)
        self.cluster.wait_leader(timeout=30)


class Disk(Row):
    """The leader can neither write its log nor apply; nothing has told it."""

    name = "disk"
    title = "leader's disk hung, a service killed meanwhile"

    @staticmethod
    def why_not(folder):
        reason = slowdisk.why_not(folder)
        return f"no disk can hang here: {reason}" if reason else ""

    def start(self):
        self.cluster = Cluster(self.folder, 3, self.flags(), start=False)
        self.disks = []
        for server in self.cluster:
            server.disk = HungDisk(server.folder)
            self.disks.append(server.disk)
        for server in self.cluster:
            server.start()
        self.cluster.wait_leader(timeout=30)
        self.addresses = [server.address for server in self.cluster]
        self.watch()

    def die(self, r, owner):
        leader = self.cluster.wait_leader()
        leader.disk.freeze()
        r.deaths["disk"] = time.monotonic()
        r.down.append(leader)
        time.sleep(self.rng.uniform(0, TTL_S))
        super().die(r, owner)

    def mend(self, r):
        for leader in r.down:
            leader.disk.thaw()
        # What it says when it can write again is watched as well.
        time.sleep(TTL_S + SLACK_S)
        self.cluster.wait_leader(timeout=30)

    def stop(self):
        # Nobody can be killed who sleeps on a frozen disk.
        for disk in getattr(self, "disks", []):
            disk.thaw()
        super().stop()
        for disk in getattr(self, "disks", []):
            disk.close()


ROWS = {row.name: row for row in (
    Native, Check, Agent, Both, WithLeader, NativeWithLeader, Cut, LeaderCut,
    Paused, Disk)}


# ------------------------------------------------------------------ campaign

def run_row(name, rounds, seed, quick=False, say=print):
    """One row in this process; its figures, or {"skipped": reason}."""
    folder = tempfile.mkdtemp(prefix=f"microreg-deaths-{name}-")
    reason = ROWS[name].why_not(folder)
    if reason:
        shutil.rmtree(folder)
        return {"name": name, "title": ROWS[name].title, "skipped": reason}
    row = ROWS[name](folder, seed, quick)
    try:
        row.start()
        figures = row.run(rounds, say)
    except BaseException:
        print(f"The data of row {name} is in {folder}", file=sys.stderr)
        for problem in row.problems:
            print(problem, file=sys.stderr)
        raise
    finally:
        row.stop()
    if figures["problems"]:
        print(f"The data of row {name} is in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return figures


def run_apart(name, rounds, seed, quick=False):
    """One row in a process of its own; cuts are in a network of its own."""
    command = [sys.executable, os.path.abspath(__file__), "--row", name,
               "--rounds", str(rounds), "--seed", str(seed)]
    if quick:
        command.append("--quick")
    if "cut" in name and not deaths_net.why_not_unshare():
        command = [*deaths_net.UNSHARE, *command]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as out:
        done = subprocess.run([*command, "--out", out.name],
                              stdin=subprocess.DEVNULL, check=False)
        text = out.read()
    if not text:
        return {"name": name, "title": ROWS[name].title,
                "problems": [f"the row ended with status {done.returncode}"]}
    return json.loads(text)


def span(values):
    return (f"{min(values):.2f} / {statistics.median(values):.2f} / "
            f"{max(values):.2f}")


def table(rows):
    """The figures in markdown."""
    lines = ["| who dies | rounds | | promised, s | measured, s "
             "(min / median / max) |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        if "results" not in row:
            lines.append(f"| {row['title']} | - | | | "
                         f"{row.get('skipped', 'failed')} |")
            continue
        for i, face in enumerate(FACES):
            low, high = row["bounds"][face]
            head = f"| {row['title']} | {row['rounds']} " if i == 0 else "| | "
            lines.append(f"{head}| {face} | {low:.2f} to {high:.2f} | "
                         f"{span(row['results'][face])} |")
    return "\n".join(lines)


def campaign(names, rounds, seed, jobs, quick=False):
    """All rows, some at a time, the longest first. Returns their figures."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {name: pool.submit(run_apart, name, rounds, seed, quick)
                   for name in sorted(names, key=lambda n: n != Paused.name)}
        return [running[name].result() for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", default=",".join(ROWS),
                        help="some of: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--quick", action="store_true", help="shorter pauses")
    parser.add_argument("--row", help="one row, here; figures to --out")
    parser.add_argument("--out")
    args = parser.parse_args()
    if args.binary:
        os.environ["MICROREG"] = args.binary
    if args.row:
        figures = run_row(args.row, args.rounds, args.seed, args.quick,
                          lambda text: print(text, flush=True))
        with open(args.out or os.devnull, "w", encoding="utf-8") as out:
            json.dump(figures, out)
        return 0
    rows = campaign(args.rows.split(","), args.rounds, args.seed, args.jobs,
                    args.quick)
    print(f"\n{table(rows)}\n")
    ran = [row for row in rows if "results" in row]
    if ran:
        print("Health and catalog were followed by blocking queries on every "
              "server, DNS was polled; longest time between two DNS answers: "
              f"{max(row['resolution_s'] for row in ran) * 1000:.0f} ms. "
              f"{LIVING} owners lived beside each row; longest time between "
              "two answered renewals: "
              f"{max(row['longest_living_s'] for row in ran):.2f} s "
              f"(TTL {LIVING_TTL_S:.0f} s). Seed {args.seed}.")
    problems = [f"{row['name']}: {problem}" for row in rows
                for problem in row.get("problems", [])]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
