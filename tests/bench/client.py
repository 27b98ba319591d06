#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""libmicroreg from C: what a call costs without a language around it.

Three servers and tests/bench/bench_client on this machine, with one thread and with
sixteen, each a client of its own; a figure is the median of the rounds. Prints a
markdown table. Takes half a minute. registry.py measures the same through go-micro.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from products import Microreg
from cluster import HTTP_PORT

RUN_LIMIT_S = 60
ROUNDS = 3
# Of one measurement; a round has four of them for each number of threads.
LENGTH_S = 1.0
QUICK_S = 0.3
THREADS = (1, 16)

# part of bench_client's answer, member, text.
ROWS = [
    ("register", "per_s", "register another node, per second"),
    ("register", "p50_us", "register, median, us"),
    ("renew", "per_s", "renew, per second"),
    ("renew", "p50_us", "renew, median, us"),
    ("get_service_cold", "per_s", "get_service of 10 nodes, per second"),
    ("get_service_cold", "p50_us", "get_service, median, us"),
    ("get_service_watched", "per_s", "get_service while it is watched, per second"),
    ("get_service_watched", "p50_us", "get_service while it is watched, median, us"),
]


def measure(program, product, seconds, threads):
    addresses = ",".join(f"{a}:{HTTP_PORT}" for a in product.addresses())
    done = subprocess.run([program, addresses, str(seconds), str(threads)],
                          capture_output=True, text=True, timeout=RUN_LIMIT_S,
                          check=False)
    if done.returncode != 0:
        raise AssertionError(f"{threads} threads: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rounds):
    lines = ["| libmicroreg | " + " | ".join(
        f"{n} thread{'s' if n > 1 else ''}" for n in rounds) + " |",
             "|---|" + "---:|" * len(rounds)]
    for part, member, text in ROWS:
        lines.append(f"| {text} | " + " | ".join(
            number(statistics.median(r[part][member] for r in rounds[n]))
            for n in rounds) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--client", required=True, help="bench_client")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="microreg-bench-")
    product = Microreg(folder, os.path.abspath(args.binary))
    rounds = {n: [] for n in THREADS}
    try:
        product.start()
        for n in range(1 if args.quick else ROUNDS):
            print(f"    round {n + 1}: libmicroreg", flush=True)
            for threads in THREADS:
                rounds[threads].append(measure(
                    args.client, product, QUICK_S if args.quick else LENGTH_S, threads))
    finally:
        product.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{table(rounds)}\n\nMedians of the rounds; TTL 60 s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
