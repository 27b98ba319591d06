# SPDX-License-Identifier: Apache-2.0
"""examples/greeter, run as its README says."""

import contextlib
import os
import re
import shutil
import subprocess

import pytest

from cluster import ROOT, Net, binary
from fleet import built

EXAMPLE = os.path.join(ROOT, "examples", "greeter")
RUN_LIMIT_S = 300


def sections(text):
    """What was printed under each "# title"."""
    parts = re.split(r"^# (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def left_behind(net):
    """The command lines that name the net, but for this test's."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", encoding="utf-8",
                      errors="replace") as file:
                found.append(file.read().replace("\0", " "))
    return [line for line in found if f"{net}." in line]


def test_each_greeter_is_found_by_each_means_and_a_dead_one_by_none():
    for tool in ("dig", "curl", "cc", "perl"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here")
    for program in ("service", "client"):
        built(program, os.path.join(EXAMPLE, "go"))
    # The make that runs this test is not the one that the script calls.
    environment = {k: v for k, v in os.environ.items()
                   if not k.startswith(("MAKE", "MFLAGS", "VARIANT"))}
    net = Net()
    try:
        done = subprocess.run(
            [os.path.join(EXAMPLE, "run.sh"), "--net", net.prefix],
            env={**environment, "MICROREG": binary()}, check=False,
            capture_output=True, text=True, timeout=RUN_LIMIT_S)
    finally:
        net.close()
    assert not left_behind(net.prefix)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = sections(done.stdout)
    for title in ("found by go-micro, and called", "found by C, and called"):
        for who in ("Go", "C", "the shell"):
            assert f"Hello John, from {who}" in told[title], told[title]
    for version in ("", "c", "go"):
        assert f'"version":"{version}"' in told["found by HTTP"]
    assert len(re.findall(r"^1 1 \d+ ", told["found by DNS"], re.M)) == 3
    last = next(text for title, text in told.items()
                if title.startswith("the leader"))
    assert "from Go" not in last and "from C" in last, last
    assert "all of it works" in told
