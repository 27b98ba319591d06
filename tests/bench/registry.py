#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""go-micro's registry: our backend beside go-micro's own plugins for Consul and etcd.

Three servers of each product run on this machine at the same time and are
measured in turn by tests/bench/go, which uses go-micro v5 and its consul and
etcd plugins as they are; a figure is the median of the rounds. Prints a markdown
table, and what is missing for it. Needs Go, and peers for the comparison; takes
two minutes.
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
from go_build import go_environment, missing_module

HERE = os.path.dirname(os.path.abspath(__file__))
RUN_LIMIT_S = 120
ROUNDS = 3
# Of one measurement; a round has five of them for each backend.
LENGTH_S = 1.2
QUICK_S = 0.5

# metric, text.
ROWS = [
    ("register", "register, per second"),
    ("renew", "renew, per second"),
    ("get_cold", "get_service of 10 nodes, per second"),
    ("get_cold_ms", "get_service, one after the other, ms each"),
    ("get_watched", "get_service while it is watched, per second"),
    ("get_cache", "get_service through go-micro's cache, per second"),
    ("told_ms", "register until a watcher is told, median, ms"),
]

LEGEND = """\
Medians of the rounds; 16 workers, TTL 30 s, three endpoints a service. microreg is the
C transport, microreg-go the one on net/http. Our lookups tell the leader's state, those
of the two plugins any server's own. The consul plugin uses the first address only; the
etcd plugin renews in the background, so its renewals are a look into a map."""


def build(folder):
    """The program, or None after a sentence that says what is missing."""
    what = "go-micro's registry: NOT MEASURED, "
    if shutil.which("go") is None:
        print(what + "Go is missing (https://go.dev/dl)")
        return None
    program = os.path.join(folder, "bench")
    source = os.path.join(HERE, "go")
    done = subprocess.run(["go", "build", "-buildvcs=false", "-o", program, "."],
                          cwd=source, capture_output=True, text=True, check=False,
                          env=go_environment())
    if done.returncode == 0:
        return program
    if not missing_module(done.stderr):
        raise AssertionError(f"{source} does not build:\n{done.stderr[-2000:]}")
    print(f"{what}Go modules of {source} are missing and cannot be downloaded:\n"
          + "\n".join(done.stderr.strip().splitlines()[:3]))
    return None


def peers(folder, binaries):
    """Consul and etcd, as far as there are binaries; says which are not there."""
    found = []
    for make, name in ((Consul, "consul"), (Etcd, "etcd")):
        path = os.path.join(os.path.abspath(binaries or ""), name)
        if binaries and os.access(path, os.X_OK):
            found.append(make(folder, path))
        else:
            print(f"    not compared with {name}: "
                  + (f"no {path}" if binaries else "PEERS=dir is not given"))
    return found


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
        products = [own, *peers(folder, args.peers)]
        runs = [("microreg", own), ("microreg-go", own),
                *((p.name, p) for p in products[1:])]
        for product in products:
            product.start()
        rounds = {backend: [] for backend, _ in runs}
        for n in range(1 if args.quick else ROUNDS):
            for backend, product in runs:
                print(f"    round {n + 1}: {backend}", flush=True)
                rounds[backend].append(measure(program, backend, product,
                                               QUICK_S if args.quick else LENGTH_S))
    finally:
        for product in products:
            product.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{table([b for b, _ in runs], rounds)}\n\n{LEGEND}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
