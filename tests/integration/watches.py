#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The watch campaign: many watchers, many changes, leaders that die.

Three servers; `microreg watch-verify` is the crowd and the judge: streams on
all kinds of topics that move to a random server now and then, blocking queries
and reads beside them, and changes of keys, registrations and checks. The leader
is killed (SIGKILL) every few seconds and started again. Some streams stop
reading now and then. Nothing may be lost, repeated, torn, out of order or other
than the store has it, and no query may wake without a change.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

from cluster import Cluster, binary, die_with_parent

# A crowd comes from one address.
CONFIGURATION = {"limits": {"http_max_conns_per_client": 20000}}
START_S = 3


def figures(line):
    """The figures of a line as a dict."""
    return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}


class Campaign:
    def __init__(self, folder, options):
        self.options = options
        self.rng = random.Random(options.seed)
        config = os.path.join(folder, "limits.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(CONFIGURATION, file)
        self.cluster = Cluster(folder, flags=[f"-config-file={config}"])
        self.kills = 0
        self.lines = []
        self.crowd = None

    def start(self):
        o = self.options
        addresses = ",".join(f"{s.address}:8500" for s in self.cluster)
        self.crowd = subprocess.Popen(
            [binary(), "watch-verify", f"-http-addr={addresses}", "-write",
             f"-duration={o.duration}s", f"-streams={o.watchers}",
             f"-queries={o.queries}", f"-slow={o.slow}", f"-rate={o.changes}",
             f"-move={o.move}", f"-seed={o.seed}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent)

    def kill_leader(self):
        """Kill it; it comes back after one to three seconds."""
        leader = self.cluster.wait_leader(timeout=30)
        leader.kill()
        self.kills += 1
        time.sleep(self.rng.uniform(1, 3))
        leader.start()

    def run(self):
        o = self.options
        end = time.monotonic() + o.duration
        time.sleep(min(START_S, o.kill_every))
        while time.monotonic() + 5 < end and self.crowd.poll() is None:
            begun = time.monotonic()
            self.kill_leader()
            rest = begun + o.kill_every - time.monotonic()
            time.sleep(max(0, min(rest, end - time.monotonic())))

    def finish(self):
        """The crowd's last words: (exit status, output)."""
        out, _ = self.crowd.communicate(timeout=180)
        return self.crowd.returncode, out

    def close(self):
        if self.crowd is not None and self.crowd.poll() is None:
            self.crowd.kill()
            self.crowd.wait()
        self.cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=int, default=600, help="seconds")
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--slow", type=int, default=20)
    parser.add_argument("--changes", type=int, default=100, help="a second")
    parser.add_argument("--kill-every", type=float, default=20, help="seconds")
    parser.add_argument("--move", default="30s")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="microreg-watches-")
    print(f"seed {options.seed}, {options.duration} s, in {folder}", flush=True)
    campaign = Campaign(folder, options)
    try:
        campaign.start()
        campaign.run()
        status, out = campaign.finish()
        campaign.cluster.wait_equal()
    finally:
        campaign.close()
    print(out, end="")
    last = figures([line for line in out.splitlines()
                    if line.startswith("index=")][-1])
    ok = status == 0 and last["breaches"] == 0
    print(f"{options.watchers} watchers, {last['written']} changes, "
          f"{campaign.kills} leaders killed: {last['breaches']} breaches, "
          f"{last['changes']} changes told, {last['wakes']} wakes, "
          f"{last['states']} states compared, {last['resets']} resets: "
          + ("OK" if ok else "FAILED"))
    if ok:
        shutil.rmtree(folder)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
