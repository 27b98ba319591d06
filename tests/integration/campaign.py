#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The kill campaign: a running writer, and in every round one server dies.

A round kills a random server with SIGKILL (the leader in four rounds of ten at
least), waits until writes are accepted again, and restarts it. At the end no
acknowledged write may be missing on any server, no refused one may be there,
and the three digests must be equal.
"""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time

from cluster import Cluster, Writer, eventually

# Of ten kills so many are the leader's; the rest is drawn among all servers.
LEADER_SHARE = 0.4
WRITERS = 3


def round_plan(rounds, rng):
    """True for every round that kills the leader: the share is exact."""
    leaders = -(-rounds * 4 // 10)
    plan = [True] * leaders + [False] * (rounds - leaders)
    rng.shuffle(plan)
    return plan


def wait_progress(writers, after):
    """The time from @after to the first write acknowledged later."""
    def first():
        times = [t for w in writers for t in w.ack_times[-50:] if t > after]
        return min(times) if times else None
    return eventually(first, "a write is accepted again", 30) - after


def run(folder, rounds, seed, say=print):
    """Returns the number of rounds that killed the leader, and the seconds
    from each of those kills to the next accepted write."""
    rng = random.Random(seed)
    cluster = Cluster(folder)
    gaps = []
    leader_kills = 0
    try:
        writers = [Writer(cluster, f"w{i}") for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        for n, wants_leader in enumerate(round_plan(rounds, rng), 1):
            leader = cluster.wait_leader(timeout=30)
            victim = leader if wants_leader else rng.choice(cluster.servers)
            for writer in writers:
                writer.wait_acks(rng.randint(1, 20))
            killed = time.monotonic()
            victim.kill()
            # Writes that were on their way are answered within this.
            gap = wait_progress(writers, killed + 0.02) + 0.02
            if victim is leader:
                leader_kills += 1
                gaps.append(gap)
            # Sometimes at once, sometimes when the others went on for a while.
            for writer in writers:
                writer.wait_acks(rng.choice((0, 5, 50)))
            victim.start()
            if n % 10 == 0 or n == rounds:
                acked = sum(len(w.acked) for w in writers)
                say(f"round {n}: {acked} writes acknowledged, "
                    f"{leader_kills} leaders killed", flush=True)
        for writer in writers:
            writer.finish()
        cluster.wait_leader(timeout=30)
        revision = cluster.wait_equal(timeout=60)
        for writer in writers:
            for server in cluster:
                writer.check(server)
        say(f"{sum(len(w.acked) for w in writers)} acknowledged, "
            f"{sum(len(w.refused) for w in writers)} refused, "
            f"{sum(len(w.unknown) for w in writers)} unknown; "
            f"three equal digests at revision {revision}")
        return leader_kills, gaps
    except BaseException:
        for server in cluster:
            print(f"---- end of {server.log}\n{server.log_text()[-3000:]}",
                  file=sys.stderr)
        raise
    finally:
        cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.binary:
        import os
        os.environ["MICROREG"] = args.binary
    print(f"{args.rounds} rounds, seed {args.seed}", flush=True)
    folder = tempfile.mkdtemp(prefix="microreg-campaign-")
    try:
        leader_kills, gaps = run(folder, args.rounds, args.seed)
    except AssertionError as error:
        print(f"FAILED: {error}\nThe data is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    gaps.sort()
    print(f"{leader_kills} of {args.rounds} rounds killed the leader; then to "
          f"the next accepted write: median {statistics.median(gaps):.3f} s, "
          f"99% {gaps[int(0.99 * (len(gaps) - 1))]:.3f} s, "
          f"longest {gaps[-1]:.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
