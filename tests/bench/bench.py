#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of three servers, beside three Consul and three etcd servers.

All products run on this machine at the same time and are loaded in turn, one
after the other in every round; a figure is the median of the rounds. wrk loads
HTTP with 64 connections (or one) and one thread, dnsperf loads DNS, h2load
speaks gRPC with etcd. Everything goes to the leader. Prints a markdown table
and writes all rounds as JSON.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from products import Consul, Etcd, Microreg, eventually

HERE = os.path.dirname(os.path.abspath(__file__))
LUA = os.path.join(HERE, "wrk")
# The slowest peer needs a minute for 50,000 instances.
FILL_LIMIT_S = 240


class Plan:
    """How much of everything."""

    def __init__(self, quick):
        self.rounds = 1 if quick else 3
        self.seconds = 2 if quick else 5
        self.services = 100 if quick else 1000
        self.instances = 50
        self.own_kills = 3 if quick else 30
        self.peer_kills = 2 if quick else 5


def wrk(url, script, connections, seconds, **environment):
    """Requests per second, and the number of failed ones."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10",
         "-s", os.path.join(LUA, script), url],
        capture_output=True, text=True, timeout=seconds + 60, check=True,
        env={**os.environ, "BENCH_LUA": LUA,
             **{k: str(v) for k, v in environment.items()}})
    line = next(l for l in done.stdout.splitlines() if l.startswith("RESULT "))
    result = json.loads(line[len("RESULT "):])
    return result["requests"] / result["seconds"], result["errors"]


def get(product, path, plan):
    return wrk(product.url(), "get.lua", 64, plan.seconds, BENCH_PATH=path)


def put(product, connections, plan, folder):
    if isinstance(product, Etcd):
        return product.grpc_put(connections, plan.seconds, folder)
    return wrk(product.url(), "put.lua", connections, plan.seconds)


def dnsperf(product, plan, folder):
    """Answers per second, and the number of questions that got none."""
    questions = os.path.join(folder, "questions")
    with open(questions, "w", encoding="ascii") as file:
        file.write("bench-web.service.consul SRV\n")
    address, port = product.dns()
    text = subprocess.run(
        ["dnsperf", "-s", address, "-p", str(port), "-d", questions, "-l",
         str(plan.seconds), "-q", "200"],
        capture_output=True, text=True, timeout=plan.seconds + 30,
        check=True).stdout
    fields = dict(l.strip().split(":", 1) for l in text.splitlines() if ":" in l)
    lost = int(fields["Queries lost"].split()[0])
    good = int(fields["Response codes"].split("NOERROR")[1].split()[0]) \
        if "NOERROR" in fields["Response codes"] else 0
    completed = int(fields["Queries completed"].split()[0])
    return float(fields["Queries per second"]), lost + completed - good


def fill(product, plan):
    """Register the large catalog."""
    total = plan.services * plan.instances
    began = time.monotonic()
    first = errors = 0
    while first < total:
        rate, more = wrk(product.url(), "register.lua", 64, 2,
                         BENCH_SERVICES=plan.services,
                         BENCH_INSTANCES=plan.instances, BENCH_FIRST=first)
        errors += more
        # The last of each connection may not have been answered.
        first += max(1, int(rate * 2) - 64)
        if time.monotonic() - began > FILL_LIMIT_S:
            raise AssertionError(f"{product.name}: {first} of {total} "
                                 f"registered in {FILL_LIMIT_S} s")
    print(f"    {product.name}: {total} instances in "
          f"{time.monotonic() - began:.0f} s, {errors} errors", flush=True)
    services = product.leader().get("/v1/catalog/services", timeout=60)
    assert len(services) >= plan.services, f"{len(services)} services"
    instances = product.leader().get("/v1/health/service/svc-17", timeout=60)
    assert len(instances) == plan.instances, f"{len(instances)} instances"


def register(product, plan, n):
    return wrk(product.url(), "register.lua", 64, plan.seconds,
               BENCH_SERVICES=plan.services, BENCH_INSTANCES=plan.instances,
               BENCH_PORT=3000 + 1000 * n)


class Bench:
    """Runs the measurements and keeps every round."""

    def __init__(self, products, plan, folder):
        self.products = products
        self.plan = plan
        self.folder = folder
        self.rounds = {}

    def keep(self, metric, product, value, errors=0):
        self.rounds.setdefault(metric, {}).setdefault(product.name, []).append(value)
        note = f", {errors} ERRORS" if errors else ""
        print(f"    {product.name}: {value:.4g}{note}", flush=True)
        if errors:
            self.rounds.setdefault("errors", {}).setdefault(
                product.name, []).append([metric, errors])

    def in_turn(self, metric, products, measure):
        """Measure each product once in each round."""
        print(metric, flush=True)
        for n in range(self.plan.rounds):
            for product in products:
                self.keep(metric, product, *measure(product, n))

    def run(self):
        plan = self.plan
        catalogs = [p for p in self.products if p.has_catalog]
        for product in self.products:
            product.start()
        for metric, part in (("idle_mb", 0), ("idle_anonymous_mb", 1)):
            print(metric, flush=True)
            for product in self.products:
                self.keep(metric, product, product.rss_kb()[part] / 1024)
        self.in_turn("put_64", self.products,
                     lambda p, n: put(p, 64, plan, self.folder))
        self.in_turn("put_1", self.products,
                     lambda p, n: put(p, 1, plan, self.folder))
        for product in catalogs:
            product.put(product.leader(), "bench/value", b"v" * 256, 10)
            product.leader().register("bench-web", 80)
            eventually(lambda p=product: p.leader().get(
                "/v1/health/service/bench-web?passing"), "it is registered")
        for metric, path in (
                ("get_default", "/v1/kv/bench/value"),
                ("get_consistent", "/v1/kv/bench/value?consistent"),
                ("health_1", "/v1/health/service/bench-web?passing")):
            self.in_turn(metric, catalogs, lambda p, n, path=path: get(p, path, plan))
        self.in_turn("dns_srv", catalogs,
                     lambda p, n: dnsperf(p, plan, self.folder))
        print("a large catalog", flush=True)
        for product in catalogs:
            fill(product, plan)
        self.in_turn("register_large", catalogs, lambda p, n: register(p, plan, n))
        self.in_turn("list_services", catalogs,
                     lambda p, n: get(p, "/v1/catalog/services", plan))
        self.in_turn("health_50", catalogs,
                     lambda p, n: get(p, "/v1/health/service/svc-17", plan))
        for metric, part in (("large_mb", 0), ("large_anonymous_mb", 1)):
            print(metric, flush=True)
            for product in catalogs:
                self.keep(metric, product, product.rss_kb()[part] / 1024)
        print("failover_s", flush=True)
        for product in self.products:
            kills = plan.own_kills if isinstance(product, Microreg) else plan.peer_kills
            for n in range(kills):
                self.keep("failover_s", product, product.time_to_next_write(n))

    def figure(self, metric, name, how=statistics.median):
        values = self.rounds.get(metric, {}).get(name)
        return how(values) if values else None


def percentile99(values):
    return sorted(values)[-(-99 * len(values) // 100) - 1]


# metric, text, how to sum up the rounds, goal: (times, peer) or an upper limit.
ROWS = [
    ("put_64", "PUT, 64 connections, per second", None, (2.5, "etcd")),
    ("put_1", "PUT, 1 connection, per second", None, (2, "etcd")),
    ("get_default", "GET default, per second", None, (2.5, "consul")),
    ("get_consistent", "GET consistent, per second", None, (2.5, "consul")),
    ("health_1", "health of one service, per second", None, (2.5, "consul")),
    ("dns_srv", "DNS SRV, per second", None, (4, "consul")),
    ("register_large", "registration, {total} instances, per second", None, (10, "consul")),
    ("list_services", "list of {services} services, per second", None, (10, "consul")),
    ("health_50", "health of a service with {instances} instances, per second", None,
     (10, "consul")),
    ("large_mb", "memory with {total} instances, MB", None, 120),
    ("large_anonymous_mb", "of it not backed by a file, MB", None, None),
    ("idle_mb", "memory idle, MB", None, 12),
    ("idle_anonymous_mb", "of it not backed by a file, MB", None, None),
    ("failover_s", "leader killed to next write, median, s", None, 0.6),
    ("failover_s", "the same, 99%, s", percentile99, 1.2),
]


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(bench):
    """The markdown table."""
    plan = bench.plan
    words = {"services": f"{plan.services:,}", "instances": plan.instances,
             "total": f"{plan.services * plan.instances:,}"}
    names = [p.name for p in bench.products]
    lines = ["| | " + " | ".join(names) + " | ratio | goal |",
             "|---|" + "---:|" * len(names) + "---:|---|"]
    for metric, text, how, goal in ROWS:
        how = how or statistics.median
        figures = {n: bench.figure(metric, n, how) for n in names}
        own = figures.get("microreg")
        ratio, wanted = "", ""
        if isinstance(goal, tuple):
            peer = figures.get(goal[1])
            wanted = f"{goal[0]} × {goal[1]}"
            if own and peer:
                met = own / peer >= goal[0]
                ratio = f"{own / peer:.1f} × {goal[1]}"
                wanted += "" if met else " (missed)"
        elif goal is not None:
            wanted = f"under {goal}"
            if own is not None and own >= goal:
                wanted += " (missed)"
            peers = [v for n, v in figures.items() if v and n != "microreg"]
            if own and peers:
                ratio = f"{own / min(peers):.2f} × best"
        lines.append(f"| {text.format(**words)} | "
                     + " | ".join(number(figures[n]) for n in names)
                     + f" | {ratio} | {wanted} |")
    return "\n".join(lines)


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        model = next((l.split(":", 1)[1].strip() for l in file
                      if l.startswith("model name")), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def commit():
    done = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty=+"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--peers", help="folder with consul and etcd")
    parser.add_argument("--out", help="file for all rounds, as JSON")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="microreg,consul,etcd",
                        help="products to run")
    args = parser.parse_args()
    tools = ["wrk", "dnsperf"] + (["h2load"] if args.peers else [])
    missing = [t for t in tools if shutil.which(t) is None]
    if missing:
        print(f"bench: {', '.join(missing)} missing: scripts/deps.sh --bench",
              file=sys.stderr)
        return 1
    plan = Plan(args.quick)
    folder = tempfile.mkdtemp(prefix="microreg-bench-")
    products = []
    began = time.time()
    try:
        makers = {"microreg": lambda: Microreg(folder, os.path.abspath(args.binary))}
        if args.peers:
            peers = os.path.abspath(args.peers)
            makers["consul"] = lambda: Consul(folder, os.path.join(peers, "consul"))
            makers["etcd"] = lambda: Etcd(folder, os.path.join(peers, "etcd"))
        for name, make in makers.items():
            if name in args.only.split(","):
                products.append(make())
        bench = Bench(products, plan, folder)
        bench.run()
    finally:
        for product in products:
            product.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{table(bench)}\n")
    where = machine()
    print(f"{where['cores']} cores of {where['cpu']}, commit {commit()}, "
          f"{plan.rounds} rounds of {plan.seconds} s, "
          f"{(time.time() - began) / 60:.0f} minutes in all")
    for name, errors in bench.rounds.get("errors", {}).items():
        print(f"errors of {name}: {errors}")
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump({"machine": where, "commit": commit(),
                       "parameters": vars(plan), "rounds": bench.rounds}, file,
                      indent=1)
    return 1 if bench.rounds.get("errors", {}).get("microreg") else 0


if __name__ == "__main__":
    sys.exit(main())
