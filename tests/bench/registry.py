#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""go-micro's registry: our backend beside go-micro's own plugins for Consul and etcd.

Three servers of each product run on this machine at the same time and are
measured in turn by tests/bench/go, which uses go-micro v5 and its consul and
etcd plugins as they are; a figure is the median of the rounds. Prints a markdown
table. Needs Go, and peers for the comparison.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from products import ETCD_PORT, Consul, Etcd, Microreg
from cluster import HTTP_PORT

HERE = os.path.dirname(os.path.abspath(__file__))
RUN_LIMIT_S = 300

# metric, text.
ROWS = [
    ("register", "register, per second"),
    ("renew", "renew, per second"),
    ("get_cold", "get_service of 10 nodes, per second"),
    ("get_cold_ms", "the same one after the other, ms each"),
    ("get_watched", "get_service while it is watched, per second"),
    ("get_cache", "get_service through go-micro's cache, per second"),
    ("told_ms", "register until a watcher is told, median, ms"),
]


def build(folder):
    """The program, or None and a sentence that says what is missing."""
    if shutil.which("go") is None:
        print("bench of the go-micro backends: not run, Go is missing (https://go.dev/dl)")
        return None
    program = os.path.join(folder, "bench")
    source = os.path.join(HERE, "go")
    done = subprocess.run(["go", "build", "-buildvcs=false", "-o", program, "."],
                          cwd=source, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print("bench of the go-micro backends: not run, it does not build:\n"
              + done.stderr[-2000:])
        return None
    return program


def measure(program, backend, product, seconds):
    port = ETCD_PORT if isinstance(product, Etcd) else HTTP_PORT
    addresses = ",".join(f"{a}:{port}" for a in product.addresses())
    done = subprocess.run(
        [program, "-backend", backend, "-addrs", addresses, "-time", f"{seconds}s"],
        capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{backend}: {done.stderr[-2000:]}")
    if "failed" in done.stderr:
        print(f"    {backend}: {done.stderr.strip().splitlines()[-1]}", flush=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(names, rounds):
    lines = ["| go-micro v5 | " + " | ".join(names) + " |",
             "|---|" + "---:|" * len(names)]
    for metric, text in ROWS:
        figures = [[r[metric] for r in rounds[n] if metric in r] for n in names]
        lines.append(f"| {text} | " + " | ".join(
            number(statistics.median(f) if f else None) for f in figures) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--peers", help="folder with consul and etcd")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="microreg-bench-")
    products = []
    try:
        program = build(folder)
        if program is None:
            return 0
        own = Microreg(folder, os.path.abspath(args.binary))
        products.append(own)
        runs = [("microreg", own), ("microreg-go", own)]
        if args.peers:
            peers = os.path.abspath(args.peers)
            products.append(Consul(folder, os.path.join(peers, "consul")))
            products.append(Etcd(folder, os.path.join(peers, "etcd")))
            runs += [("consul", products[1]), ("etcd", products[2])]
        for product in products:
            product.start()
        rounds = {}
        for n in range(1 if args.quick else 3):
            for backend, product in runs:
                print(f"    round {n + 1}: {backend}", flush=True)
                rounds.setdefault(backend, []).append(
                    measure(program, backend, product, 1 if args.quick else 3))
    finally:
        for product in products:
            product.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{table([b for b, _ in runs], rounds)}\n")
    print("microreg is the C transport, microreg-go the one on net/http. The consul plugin"
          "\nuses the first address only; the etcd plugin renews in the background, so its"
          "\nrenewals are a look into a map.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
