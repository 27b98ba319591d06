# SPDX-License-Identifier: Apache-2.0
"""How the Go programs of the tests are built."""

import os
import subprocess

from cluster import ROOT


def go_environment(is_pure=False):
    """For `go build`. Its cache does not see the C sources of the library, which
    lie beside the Go package: their checksum tells it that they changed."""
    checksum = subprocess.run(
        "cat client-lib/*.[ch] | cksum | cut -d' ' -f1", shell=True, cwd=ROOT,
        capture_output=True, text=True, check=True).stdout.strip()
    return {**os.environ, "CGO_ENABLED": "0" if is_pure else "1",
            "CGO_CFLAGS": f"-g -O2 -DMICROREG_SOURCES={checksum}"}


def missing_module(text):
    """Whether Go says that a module could not be downloaded."""
    return any(sign in text for sign in (
        "proxy.golang.org", "dial tcp", "403 Forbidden", "404 Not Found",
        "410 Gone", "GOPROXY=off", "requires go >=",
        "toolchain not available"))
