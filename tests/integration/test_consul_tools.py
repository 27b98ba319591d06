# SPDX-License-Identifier: Apache-2.0
"""Consul's own programs, as they are, pointed at microreg: `consul watch` and
consul-template, through changes of the leader.

The consul binary is that of PEERS=dir or of the PATH; consul-template is built
by Go. What is not there is skipped.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess

import pytest

from cluster import die_with_parent, eventually
from fleet import BUILD_LIMIT_S, BUILT, missing_module

CONSUL_TEMPLATE = "github.com/hashicorp/consul-template@v0.41.1"
TOLD_S = 3.0  # Far less than the 5 s that a watch rests after an error.


def consul():
    """The real consul, or a reason to skip."""
    peers = os.environ.get("PEERS")
    path = os.path.join(peers, "consul") if peers else shutil.which("consul")
    if not path or not os.access(path, os.X_OK):
        pytest.skip("no consul binary: set PEERS to the folder that has one")
    return path


def consul_template():
    """consul-template, built once, or a reason to skip."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("consul-template: there is no Go here (https://go.dev/dl)")
    os.makedirs(BUILT, exist_ok=True)
    program = os.path.join(BUILT, "consul-template")
    with open(program + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.access(program, os.X_OK):
            return program
        done = subprocess.run(
            [go, "install", CONSUL_TEMPLATE], text=True, check=False,
            capture_output=True, timeout=BUILD_LIMIT_S,
            env={**os.environ, "GOBIN": BUILT, "CGO_ENABLED": "0"})
    if done.returncode == 0:
        return program
    assert missing_module(done.stderr), done.stderr
    pytest.skip(f"consul-template cannot be had: {done.stderr.strip()[-300:]}")


class Watch:
    """`consul watch` whose handler writes what it is told to a file."""

    def __init__(self, address, folder, *arguments):
        self.file = os.path.join(folder, f"watch-{id(self)}")
        # A line that cat has not ended is not told yet.
        self.process = subprocess.Popen(
            [consul(), "watch", f"-http-addr={address}:8500", *arguments,
             f"cat >>{self.file}"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent)

    def told(self):
        """All that the handler was told, in order."""
        if not os.path.exists(self.file):
            return []
        with open(self.file, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    def until(self, condition, what, timeout=TOLD_S):
        def is_told():
            told = self.told()
            return told and condition(told[-1])
        eventually(is_told, f"{what} (told: {self.told()[-2:]})", timeout)

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def watch(tmp_path):
    """Starts watches, and ends them with the test."""
    started = []

    def start(address, *arguments):
        started.append(Watch(address, str(tmp_path), *arguments))
        return started[-1]
    yield start
    for one in started:
        one.end()


def value_is(expected):
    return lambda entry: entry and base64.b64decode(
        entry["Value"]).decode() == expected


def statuses(check_id):
    return lambda checks: [c["Status"] for c in checks
                           if c["CheckID"] == check_id]


def through_leaders(cluster, change, see):
    """Change and see; then again with the leader dead, and when it is back."""
    leader = cluster.wait_leader()
    others = [s for s in cluster if s is not leader]
    change(others[1], 1)
    see(1)
    leader.kill()
    cluster.wait_leader(others)
    change(others[1], 2)
    see(2)
    leader.start()
    cluster.wait_leader()
    change(leader, 3)
    see(3)


def check_told_once(one, n):
    """The handler was told each state once: no wake-up without a change."""
    told = one.told()
    assert all(a != b for a, b in zip(told, told[1:])), told
    assert len(told) <= n, told


def watched_address(cluster):
    leader = cluster.wait_leader()
    return [s for s in cluster if s is not leader][0].address


def test_watches_of_keys_go_on_at_a_new_leader(cluster, watch):
    at = watched_address(cluster)
    key = watch(at, "-type=key", "-key=app/one")
    prefix = watch(at, "-type=keyprefix", "-prefix=app/")

    def change(server, i):
        server.kv_put("app/one", f"value {i}")
        server.kv_put("other", f"value {i}")

    def see(i):
        key.until(value_is(f"value {i}"), f"value {i} by key")
        prefix.until(lambda entries: len(entries) == 1 and value_is(
            f"value {i}")(entries[0]), f"value {i} by prefix")
    through_leaders(cluster, change, see)
    check_told_once(key, 4)
    check_told_once(prefix, 4)


def test_watches_of_services_go_on_at_a_new_leader(cluster, watch):
    at = watched_address(cluster)
    services = watch(at, "-type=services")
    web = watch(at, "-type=service", "-service=web", "-passingonly=true")
    checks = watch(at, "-type=checks", "-service=web")

    def change(server, i):
        server.register("web", 8000 + i, ID=f"web-{i}", Tags=[f"t{i}"],
                        Check={"TTL": "60s", "Status": "passing",
                               "CheckID": f"alive-{i}"})

    def see(i):
        services.until(lambda all_: f"t{i}" in all_.get("web", []),
                       f"web-{i} by services")
        web.until(lambda entries: f"web-{i}" in [
            e["Service"]["ID"] for e in entries], f"web-{i} by service")
        checks.until(lambda entries: statuses(f"alive-{i}")(entries) ==
                     ["passing"], f"alive-{i} by checks")
    through_leaders(cluster, change, see)

    one = next(s for s in cluster if [
        c for c in s.get("/v1/agent/checks").values()
        if c["CheckID"] == "alive-2"])
    one.put("/v1/agent/check/fail/alive-2")
    web.until(lambda entries: "web-2" not in [
        e["Service"]["ID"] for e in entries], "web-2 fails")
    checks.until(lambda entries: statuses("alive-2")(entries) == ["critical"],
                 "alive-2 is critical")
    check_told_once(services, 5)


def test_watches_of_nodes_and_of_a_state_go_on_at_a_new_leader(cluster, watch):
    at = watched_address(cluster)
    nodes = watch(at, "-type=nodes")
    critical = watch(at, "-type=checks", "-state=critical")

    def change(server, i):
        server.put("/v1/catalog/register", {
            "Node": f"printer-{i}", "Address": f"10.9.0.{i}",
            "Check": {"CheckID": f"paper-{i}", "Name": "paper",
                      "Status": "critical"}})

    def see(i):
        nodes.until(lambda all_: f"printer-{i}" in [n["Node"] for n in all_],
                    f"printer-{i} by nodes")
        critical.until(lambda all_: f"paper-{i}" in [
            c["CheckID"] for c in all_], f"paper-{i} by state")
    through_leaders(cluster, change, see)


TEMPLATE = """\
{{ range service "web" }}{{ .ID }} {{ .Address }}:{{ .Port }}
{{ end }}title={{ keyOrDefault "app/title" "none" }}
{{ range ls "app/flags" }}{{ .Key }}={{ .Value }}
{{ end }}{{ range services }}{{ .Name }} {{ end }}
"""


def test_consul_template_renders_through_a_new_leader(cluster, tmp_path):
    at = watched_address(cluster)
    template, out = tmp_path / "in.ctmpl", tmp_path / "out"
    template.write_text(TEMPLATE)
    process = subprocess.Popen(
        [consul_template(), f"-consul-addr={at}:8500",
         f"-template={template}:{out}"], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent)

    def change(server, i):
        server.register("web", 8000 + i, ID=f"web-{i}", Address="10.0.0.1")
        server.kv_put("app/title", f"title {i}")
        server.kv_put(f"app/flags/f{i}", f"{i}")

    def see(i):
        eventually(lambda: all(s in out.read_text() for s in (
            f"web-{i} 10.0.0.1:{8000 + i}\n", f"title=title {i}\n",
            f"f{i}={i}\n", "consul web")), f"rendering {i}", TOLD_S + 5)
    try:
        through_leaders(cluster, change, see)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
