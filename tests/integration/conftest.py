# SPDX-License-Identifier: Apache-2.0
"""Fixtures: clusters that end with the test, and their logs when it failed."""

import os
import subprocess

import pytest

from cluster import Cluster, binary, eventually


def pytest_sessionstart(session):
    if not os.access(binary(), os.X_OK):
        pytest.exit(f"{binary()} is missing: run make", 3)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Attach the ends of the servers' logs to the report of a failed test."""
    report = (yield).get_result()
    if report.when != "call" or not report.failed:
        return
    for value in item.funcargs.values():
        if isinstance(value, Cluster):
            for server in value:
                report.sections.append(
                    (f"end of {server.log}", server.log_text()[-3000:]))


def closing(cluster):
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(tmp_path):
    """Three servers that the test may do to what it likes."""
    yield from closing(Cluster(tmp_path))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Three servers for tests that leave them as they found them."""
    cluster = Cluster(tmp_path_factory.mktemp("shared"))

    def registered():
        return all(len(s.get("/v1/health/service/consul?passing&stale")) == 3
                   for s in cluster)
    eventually(registered, "the servers registered themselves")
    yield from closing(cluster)


@pytest.fixture
def solo(tmp_path):
    """One server."""
    yield from closing(Cluster(tmp_path, n=1))


@pytest.fixture
def idle(tmp_path):
    """Three servers that were not started."""
    yield from closing(Cluster(tmp_path, start=False))


@pytest.fixture
def cli():
    """Runs a client command; returns the finished process with its texts."""
    def run(server, *args, stdin=None):
        environment = {k: v for k, v in os.environ.items()
                       if not k.startswith(("CONSUL_", "MICROREG_"))}
        if server is not None:
            environment["MICROREG_HTTP_ADDR"] = f"{server.address}:8500"
        return subprocess.run(
            [binary(), *args], input=stdin, capture_output=True, text=True,
            timeout=30, env=environment, check=False)
    return run
