#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The lock campaign: holders and leaders die and pause under a lock.

Several processes (lock_holder.py) contend for one lock through different
servers, with sessions of 1 to 2 s, and count in a key guarded by the fencing
number. In every round the holder, the leader, or both are killed (SIGKILL) or
paused (SIGSTOP, longer than the session lives). Checked:

 - never two holders: whoever wrote under a fencing number wrote before all that
   was written under a greater one, and no number was counted twice;
 - a write with the number of a lock that was lost is refused, every time;
 - a lock is never lost early: not before TTL and lock-delay have passed since
   the last renewal that was answered;
 - a lock whose holder is gone is another's within TTL + 1 s + lock-delay, and
   what finding out takes.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from cluster import Cluster, die_with_parent, eventually, request
from lock_holder import COUNTER, LOCK, RETRY_S

HOLDERS = 4
SLACK_S = 1.0  # The promise: gone within [TTL, TTL + 1 s].
# Contenders look every RETRY_S, may wait for a dead server for their timeout
# before they try the next one, and for an election.
SEEN_S = 2.0
MAX_TTL_S = 2.0
ACTIONS = ("kill holder", "pause holder", "kill leader", "pause leader",
           "kill both", "pause holder, kill leader", "pause both")


class Contender:
    """A holder's process."""

    def __init__(self, campaign, i):
        self.campaign = campaign
        self.name = f"h{i}"
        self.log = os.path.join(campaign.folder, f"{self.name}.log")
        self.process = None
        self.start()

    def start(self):
        here = os.path.dirname(os.path.abspath(__file__))
        servers = ",".join(s.address for s in self.campaign.cluster)
        with open(self.log + ".err", "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, os.path.join(here, "lock_holder.py"),
                 f"--name={self.name}", f"--servers={servers}", f"--log={self.log}",
                 f"--seed={self.campaign.rng.randrange(1 << 30)}"],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                preexec_fn=die_with_parent)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def check_running(self):
        if self.process.poll() is not None:
            with open(self.log + ".err", encoding="utf-8") as errors:
                raise AssertionError(f"{self.name} ended: {errors.read()[-2000:]}")


class Campaign:
    def __init__(self, folder, seed):
        self.folder = str(folder)
        self.rng = random.Random(seed)
        self.cluster = Cluster(self.folder)
        self.contenders = []
        self.free_s = []          # Kill or pause until the next holder has it.
        self.unhurt = []          # Fences of holders whose leader was struck.
        self.old_writes = 0       # With numbers of the past; all refused.
        self.fences = set()

    def start(self):
        for i in range(HOLDERS):
            self.contenders.append(Contender(self, i))

    def close(self):
        for contender in self.contenders:
            with contextlib.suppress(ProcessLookupError):
                contender.process.send_signal(signal.SIGCONT)
            contender.kill()
        self.cluster.close()

    # -- looking

    def state(self, servers=None):
        """(fence, name of the holder, key) of the lock, or None when it is free."""
        for server in servers or self.cluster.running():
            try:
                answer = server.request("GET", f"/v1/kv/{LOCK}", timeout=1)
            except (OSError, http.client.HTTPException):
                continue
            if answer.status != 200:
                continue
            fence = answer.headers["X-Microreg-Fence"]
            entry = answer.json[0]
            if fence is None:
                assert "Session" not in entry, entry
                return None
            value = json.loads(base64.b64decode(entry["Value"]))
            self.fences.add(int(fence))
            return int(fence), value["holder"], entry
        return None

    def wait_holder(self, above=0, servers=None, timeout=30.0):
        """Wait for a holder with a number above the given one."""
        def held():
            state = self.state(servers)
            return state if state and state[0] > above else None
        return eventually(held, f"somebody holds the lock above {above}", timeout)

    def try_old(self, current):
        """Every number of the past, and one that never was, through any server."""
        old = self.rng.sample(sorted(f for f in self.fences if f < current),
                              min(3, sum(f < current for f in self.fences)))
        for fence in [*old, current + 1000000]:
            for method, key in (("PUT", COUNTER), ("PUT", "locks/other"),
                                ("DELETE", COUNTER)):
                path = f"/v1/kv/{key}?fence={fence}&fence-key={LOCK}"
                answer = eventually(lambda: self.answered(method, path),
                                    f"{method} {path} is answered", 30)
                assert answer.text == "false", \
                    f"{method} with the old number {fence} (now {current}): {answer!r}"
                self.old_writes += 1

    def answered(self, method, path):
        """The answer of a server that has one, or None."""
        server = self.rng.choice(self.cluster.running())
        answer = request(server.address, method, path,
                         "old" if method == "PUT" else None, timeout=2)
        return answer if answer.status == 200 else None

    # -- a round

    def contender(self, name):
        return next(c for c in self.contenders if c.name == name)

    def strike(self, action, holder, leader):
        """Do it; returns what heals it."""
        heal = []
        if "holder" in action or "both" in action:
            if "pause" in action:
                holder.process.send_signal(signal.SIGSTOP)
                heal.append(lambda: holder.process.send_signal(signal.SIGCONT))
            else:
                holder.kill()
                heal.append(holder.start)
        if "leader" in action or "both" in action:
            if action.startswith("pause") and "kill" not in action:
                leader.pause()
                heal.append(leader.resume)
            else:
                leader.kill()
                heal.append(leader.start)
        return heal

    def round(self, action):
        leader = self.cluster.wait_leader(timeout=30)
        fence, name, _ = self.wait_holder()
        holder = self.contender(name)
        struck = time.monotonic()
        heal = self.strike(action, holder, leader)
        others = [s for s in self.cluster.running() if s is not leader] \
            if "leader" in action or "both" in action else None
        if action in ("kill leader", "pause leader"):
            self.unhurt.append(fence)
            self.cluster.wait_leader(others, timeout=30)
            time.sleep(self.rng.uniform(0, 1.5))
            state = self.wait_holder(0, others)
        else:
            state = self.wait_holder(fence, others)
            self.free_s.append((time.monotonic() - struck, action))
            if "pause" in action:
                # Not before the session's end is sure, so that it has lost.
                time.sleep(self.rng.uniform(0, 0.5))
        for cure in heal:
            cure()
        self.try_old(state[0])
        for contender in self.contenders:
            contender.check_running()


# ------------------------------------------------------------------ the logs

def read_events(campaign):
    events = []
    for contender in campaign.contenders:
        with open(contender.log, encoding="utf-8") as log:
            for line in log:
                with contextlib.suppress(json.JSONDecodeError):
                    events.append(json.loads(line))
    return events


def check_counting(events, last):
    """No number twice, none lost, and in the order of the fencing numbers."""
    done = sorted((e["n"], e["fence"], e["holder"]) for e in events
                  if e["e"] == "written" and e["done"])
    tried = {e["n"] for e in events if e["e"] == "writing"}
    for one, two in zip(done, done[1:]):
        assert one[0] != two[0], f"counted twice: {one} and {two}"
        assert one[1] <= two[1], f"written under a number that was over: {one}, {two}"
    assert done and last >= done[-1][0], (last, done[-1:])
    missing = [n for n in range(1, last + 1) if n not in tried]
    assert not missing, f"numbers that nobody wrote: {missing[:5]}"
    return len(done)


def check_early(events, campaign):
    """Who did not give the lock back had it for TTL since its last renewal, and
    nobody else for the lock-delay after that. Returns how many held it, how many
    of them lost it, the least time that was left over then, and how many lost it
    who were alive."""
    renewed = {}
    for e in events:
        if e["e"] == "renewed":
            renewed[e["session"]] = max(e["t0"], renewed.get(e["session"], 0))
    given = {e["fence"] for e in events if e["e"] == "releasing"}
    taken = {}
    for e in events:
        if e["e"] == "acquired":
            known = taken.setdefault(e["fence"], e)
            assert known["session"] == e["session"], f"two holders: {known}, {e}"
    order = sorted(taken)
    spare = []
    for one, two in zip(order, order[1:]):
        if one in given:
            continue
        first, then = taken[one], taken[two]
        alive = max(first["alive"], renewed.get(first["session"], 0))
        left = then["t1"] - (alive + first["ttl"] + first["delay"])
        assert left >= 0, f"lost {-left:.3f} s early: {first} to {then}"
        spare.append(left)
    campaign.fences.update(order)
    lost = [f for f in campaign.unhurt if f in order[:-1] and f not in given]
    return len(order), len(spare), min(spare, default=0), len(lost)


def check_free(campaign):
    bound = MAX_TTL_S + 0.5 + SLACK_S + SEEN_S
    late = [f for f in campaign.free_s if f[0] > bound]
    assert not late, f"not free within {bound} s: {late}"


def check(campaign):
    """Judge the whole run; returns a line of figures."""
    for contender in campaign.contenders:
        contender.kill()
    state = eventually(lambda: campaign.cluster.wait_leader(), "a leader", 30)
    last = json.loads(state.kv_get(COUNTER, "&consistent"))["n"]
    events = read_events(campaign)
    counted = check_counting(events, last)
    holders, lost, spare, unhurt = check_early(events, campaign)
    refused = sum(e["e"] == "written" and not e["done"] for e in events)
    check_free(campaign)
    times = sorted(t for t, _ in campaign.free_s) or [0.0]
    return (f"{holders} holders, {lost} of them lost the lock, none early (least "
            f"spare {spare * 1000:.0f} ms); {counted} counted, {refused} writes of "
            f"holders and {campaign.old_writes} others with old numbers, all "
            f"refused; dead or paused to the next holder: median "
            f"{statistics.median(times):.2f} s, longest {times[-1]:.2f} s; of "
            f"{len(campaign.unhurt)} living holders whose leader was killed or "
            f"paused {unhurt} got no renewal through in time")


def run(folder, rounds, seed, say=print, actions=ACTIONS):
    campaign = Campaign(folder, seed)
    try:
        campaign.start()
        for n in range(1, rounds + 1):
            if (n - 1) % len(actions) == 0:
                plan = campaign.rng.sample(actions, len(actions))
            campaign.round(plan[(n - 1) % len(actions)])
            if n % 10 == 0:
                say(f"round {n}", flush=True)
        campaign.cluster.wait_equal(timeout=60)
        figures = check(campaign)
        say(figures, flush=True)
        return figures
    except BaseException:
        for server in campaign.cluster:
            print(f"---- end of {server.log}\n{server.log_text()[-2000:]}",
                  file=sys.stderr)
        raise
    finally:
        campaign.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.binary:
        os.environ["MICROREG"] = args.binary
    print(f"{args.rounds} rounds, seed {args.seed}", flush=True)
    folder = tempfile.mkdtemp(prefix="microreg-locks-")
    try:
        run(folder, args.rounds, args.seed)
    except AssertionError as error:
        print(f"FAILED: {error}\nThe data is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
