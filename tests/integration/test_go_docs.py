# SPDX-License-Identifier: Apache-2.0
"""docs/go-micro.md, followed by who has never seen it: in an empty folder."""

import os
import re
import shlex
import shutil
import subprocess

import pytest

from cluster import ROOT, die_with_parent, eventually
from go_build import go_environment, missing_module

PROGRAM = """package main

import (
	"log"

%s
	"go-micro.dev/v5"
)

func main() {
	service := micro.NewService(micro.Name("greeter"))
	service.Init()
	if err := service.Run(); err != nil {
		log.Fatal(err)
	}
}
"""
BUILD_LIMIT_S = 600


def commands():
    """The indented lines of the document."""
    with open(os.path.join(ROOT, "docs", "go-micro.md"), encoding="utf-8") as file:
        return re.findall(r"^    (.+)$", file.read(), re.M)


def go(words, folder, is_pure=False):
    done = subprocess.run(["go", *words], cwd=folder, text=True, check=False,
                          capture_output=True, timeout=BUILD_LIMIT_S,
                          env=go_environment(is_pure))
    if done.returncode != 0 and missing_module(done.stderr):
        pytest.skip(f"modules cannot be downloaded: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The folder, when the lines before the last one have been followed."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go here (https://go.dev/dl)")
    folder = tmp_path_factory.mktemp("greeter")
    lines = commands()
    get, line = (next(l for l in lines if l.startswith(w))
                 for w in ("go get ", "import _ "))
    (folder / "main.go").write_text(PROGRAM % f"\t{line[7:]}")
    go(["mod", "init", "greeter"], folder)
    replaced = [l for l in lines if l.startswith("go mod edit ")]
    assert len(replaced) == 2
    for edit in replaced:
        go(shlex.split(edit.replace("../microreg", ROOT))[1:], folder)
    go([*shlex.split(get)[1:-1], shlex.split(get)[-1] + "@v0.4.0"], folder)
    go(["mod", "tidy"], folder)
    return folder


def greeters(server):
    return {node["id"] for service in server.get("/registry?service=greeter")
            for node in service["nodes"]}


@pytest.mark.parametrize("is_pure", [False, True], ids=["cgo", "pure"])
@pytest.mark.parametrize("by_environment", [False, True], ids=["flags", "env"])
def test_three_lines_are_enough(program, shared, is_pure, by_environment):
    go(["build", "-o", "greeter", "."], program, is_pure)
    run = next(l for l in commands() if l.startswith("./greeter "))
    addresses = re.search(r"registry_address=(\S+)", run)[1]
    own = ",".join(s.address for s in shared)
    words, more = shlex.split(run.replace(addresses, own)), {}
    if by_environment:
        words, more = words[:1], {"MICRO_REGISTRY": "microreg",
                                  "MICRO_REGISTRY_ADDRESS": own}
    before = greeters(shared[1])
    with open(program / "log", "wb") as log, \
            subprocess.Popen(words, cwd=program, stdout=log, stderr=log,
                             env={**os.environ, **more},
                             preexec_fn=die_with_parent) as process:
        try:
            eventually(lambda: greeters(shared[1]) - before,
                       "the program is registered")
        finally:
            process.kill()
