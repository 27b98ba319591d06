#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long until thousands of waiting readers know, and what they cost.

Three servers, beside three of Consul, loaded in turn as in bench.py; readers and
writer are clients of the leader. A reader's time is from before the PUT until
its answer has arrived; a figure is the median over the rounds of their 99%.
Streams are microreg's only. Prints a markdown table.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from bench import commit, machine, number, wrk
from products import HTTP_PORT, Consul, Microreg

# How long the many connections and first answers may take.
START_LIMIT_S = 120
# After so long those who were let go have been forgotten.
REST_S = 1.5


class Plan:
    """How much of everything."""

    def __init__(self, quick):
        self.readers = (1_000, 10_000) if quick else (1_000, 5_000, 10_000)
        self.turns = 1 if quick else 3
        self.rounds = 3
        self.seconds = 2 if quick else 3

    def turns_of(self, n):
        """Fewer readers are there to compare; the most have a goal."""
        return self.turns if n == self.readers[-1] else 1


class Bench:
    """Runs the measurements and keeps every round."""

    def __init__(self, products, plan, program):
        self.products = products
        self.plan = plan
        self.program = program
        self.rounds = {}

    def keep(self, metric, product, *values):
        self.rounds.setdefault(metric, {}).setdefault(
            product.name, []).extend(values)
        print(f"    {metric} {product.name}: "
              + " ".join(f"{v:.4g}" for v in values), flush=True)

    @staticmethod
    def leader(product):
        """Its address; Consul has seconds without an answer after many writes."""
        end = time.monotonic() + START_LIMIT_S
        while True:
            try:
                return f"{product.leader().address}:{HTTP_PORT}"
            except OSError:
                assert time.monotonic() < end, f"{product.name} is silent"

    def command(self, product, n, rounds, kind, key):
        return [self.program, self.leader(product), str(n), str(rounds), kind,
                key]

    def wake(self, product, n, kind):
        """The 99% of each round."""
        done = subprocess.run(
            self.command(product, n, self.plan.rounds, kind, f"bench/{kind}"),
            stdout=subprocess.PIPE, text=True, check=True, timeout=600)
        time.sleep(REST_S)
        return [r["p99_ms"] for r in json.loads(done.stdout)["rounds"]]

    @contextlib.contextmanager
    def parked(self, product, n, kind):
        """Readers that wait, of a key that nobody writes."""
        with subprocess.Popen(
                self.command(product, n, 0, kind, f"parked/{kind}"), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            line = process.stdout.readline()
            assert line == "parked\n", line
            yield
            process.stdin.close()
            assert process.wait(START_LIMIT_S) == 0
        time.sleep(REST_S)

    def memory(self, product, n, kind):
        """Resident kilobytes for each reader."""
        before, _ = product.rss_kb()
        with self.parked(product, n, kind):
            return (product.rss_kb()[0] - before) / n

    def put(self, product):
        rate, errors = wrk(f"http://{self.leader(product)}", "put.lua", 64,
                           self.plan.seconds)
        assert errors == 0, f"{product.name}: {errors} errors"
        return rate

    def kinds(self, product):
        return ["blocking", "stream"] if product.has_streams else ["blocking"]

    def run(self):
        most = self.plan.readers[-1]
        for product in self.products:
            product.start()
        # First: what has been freed would be used again, and not be seen.
        for product in self.products:
            for kind in self.kinds(product):
                self.keep(f"memory {kind}", product,
                          self.memory(product, most, kind))
                product.restart()
        for n in self.plan.readers:
            for _ in range(self.plan.turns_of(n)):
                for product in self.products:
                    for kind in self.kinds(product):
                        self.keep(f"{kind} {n}", product,
                                  *self.wake(product, n, kind))
        for _ in range(self.plan.turns):
            for product in self.products:
                self.keep("put", product, self.put(product))
                with self.parked(product, most, "blocking"):
                    self.keep("put parked", product, self.put(product))

    def figure(self, metric, product):
        values = self.rounds.get(metric, {}).get(product.name)
        return statistics.median(values) if values else None


def rows(plan):
    """metric, text, upper limit or None."""
    most = plan.readers[-1]
    for kind, text in (("blocking", "blocking queries"), ("stream", "streams")):
        for n in plan.readers:
            yield (f"{kind} {n}", f"PUT until {n:,} {text} know, 99%, ms",
                   60 if n == most else None)
        yield f"memory {kind}", f"memory for each of {most:,} {text}, KB", 6
    yield "put", "PUT, 64 connections, per second", None
    yield ("put parked",
           f"the same while {most:,} blocking queries wait for others", None)


def table(bench):
    """The markdown table."""
    names = [p.name for p in bench.products]
    lines = ["| | " + " | ".join(names) + " | goal |",
             "|---|" + "---:|" * len(names) + "---|"]
    for metric, text, limit in rows(bench.plan):
        figures = [bench.figure(metric, p) for p in bench.products]
        wanted = "" if limit is None else f"at most {limit}"
        if limit is not None and figures[0] > limit:
            wanted += " (missed)"
        if metric == "put parked":
            share = figures[0] / bench.figure("put", bench.products[0])
            wanted = "80% of it" + (" (missed)" if share < 0.8 else "")
        lines.append(f"| {text} | " + " | ".join(number(f) for f in figures)
                     + f" | {wanted} |")
    return "\n".join(lines)


def products_of(args, folder):
    own = Microreg(folder, os.path.abspath(args.binary))
    own.has_streams = True
    if not args.peers:
        return [own]
    peer = Consul(folder, os.path.join(os.path.abspath(args.peers), "consul"))
    peer.has_streams = False
    return [own, peer]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--readers", required=True, help="the program bench_watch")
    parser.add_argument("--peers", help="folder with consul")
    parser.add_argument("--out", help="file for all rounds, as JSON")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if not shutil.which("wrk"):
        print("bench: wrk missing: scripts/deps.sh --bench", file=sys.stderr)
        return 1
    folder = tempfile.mkdtemp(prefix="microreg-watch-")
    products = []
    try:
        products = products_of(args, folder)
        bench = Bench(products, Plan(args.quick), os.path.abspath(args.readers))
        bench.run()
    finally:
        for product in products:
            product.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{table(bench)}\n")
    where = machine()
    print(f"{where['cores']} cores of {where['cpu']}, commit {commit()}, "
          f"{bench.plan.turns} turns of {bench.plan.rounds} rounds")
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump({"machine": where, "commit": commit(),
                       "parameters": vars(bench.plan), "rounds": bench.rounds},
                      file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
