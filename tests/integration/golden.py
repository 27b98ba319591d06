#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Replay recorded answers of Consul against one fresh server.

The folder holds a replayer (replay.py) and its recordings. Each area gets a
fresh server, because a replay assumes that nothing was registered before.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile

from cluster import Server, eventually

AREAS = "status,kv,catalog,agent,health,session,blocking,errors,dns"
ADDRESS = "127.0.0.1"


def free_port():
    """A port that is free for TCP and UDP alike."""
    while True:
        with socket.socket() as tcp, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind((ADDRESS, 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind((ADDRESS, port))
            except OSError:
                continue
            return port


def replay(args, area, folder):
    """Replay one area; returns (passed, failed)."""
    http, dns, rpc = free_port(), free_port(), free_port()
    server = Server("n1", ADDRESS, os.path.join(folder, area), [
        "-server", "-bootstrap-expect=1", "-datacenter=dc1",
        f"-http-port={http}", f"-dns-port={dns}", f"-server-port={rpc}",
        *args.flags.split()])
    server.start()
    server.address = f"{ADDRESS}:{http}"
    try:
        eventually(lambda: server.leader_address()
                   and server.get("/v1/catalog/service/consul"),
                   "the server leads and registered itself", 20)
        command = ["/usr/bin/python3", os.path.join(args.golden, "replay.py"),
                   "--http", f"{ADDRESS}:{http}", "--dns", f"{ADDRESS}:{dns}",
                   "--areas", area]
        if args.verbose:
            command.append("-v")
        if args.only:
            command += ["--only", args.only]
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=600, check=False)
        found = re.search(rf"^{area}:\s+(\d+) passed, (\d+) failed", done.stdout, re.M)
        if not found or not server.running():
            print(done.stdout[-3000:], done.stderr[-3000:], server.log_text()[-3000:])
            raise SystemExit(f"{area}: the replay broke off")
        if args.verbose or args.diffs:
            print(done.stdout)
        return int(found[1]), int(found[2])
    finally:
        server.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary")
    parser.add_argument("--golden", required=True)
    parser.add_argument("--areas", default=AREAS)
    parser.add_argument("--only", help="cases whose id starts so")
    parser.add_argument("--flags", default="", help="further flags of the agent")
    parser.add_argument("--diffs", action="store_true",
                        help="print the differing cases")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    if not os.path.isfile(os.path.join(args.golden, "replay.py")):
        parser.error("make golden GOLDEN=dir: the folder with replay.py")
    if args.binary:
        os.environ["MICROREG"] = args.binary
    total = [0, 0]
    with tempfile.TemporaryDirectory(prefix="microreg-golden-") as folder:
        for area in args.areas.split(","):
            passed, failed = replay(args, area, folder)
            total[0] += passed
            total[1] += failed
            print(f"{area + ':':<12}{passed:4} of {passed + failed:4} agree"
                  f"  {100 * passed / max(1, passed + failed):5.1f}%", flush=True)
    print(f"{total[0]} passed, {total[1]} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
