# SPDX-License-Identifier: Apache-2.0
"""Two machines on one: the servers in this process's network namespace, an
agent and its service in another, and a cable between them that can be pulled.

A paused process is not a cut: its kernel still answers for it. Here what the
agent sends goes nowhere, as behind a broken switch.
"""

import os
import shutil
import subprocess

from cluster import Server, die_with_parent

# A process started so has a network of its own.
UNSHARE = ["unshare", "--net"]
NEAR, FAR = "10.77.1.1", "10.77.1.2"
SERVERS = "10.77.0"


def ip(*args, enter=()):
    subprocess.run([*enter, "ip", *args], check=True, capture_output=True)


def why_not_unshare():
    """Why there can be no network of our own; "" when there can."""
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "needs ip and unshare (iproute2, util-linux)"
    done = subprocess.run(
        [*UNSHARE, "ip", "link", "add", "near0", "type", "veth"],
        capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def why_not():
    """Why this process cannot make the net; "" when it can: it was started in
    a namespace of its own."""
    reason = why_not_unshare()
    if reason:
        return f"no network namespace: {reason}"
    with open("/proc/net/dev", encoding="utf-8") as devices:
        names = [line.split(":")[0].strip() for line in devices if ":" in line]
    return "" if names == ["lo"] else "not started in a network of its own"


class FarNet:
    """Addresses of the servers on our side, the cable, and the far side."""

    def __init__(self):
        ip("link", "set", "lo", "up")
        for i in range(1, 10):
            ip("addr", "add", f"{SERVERS}.{i}/32", "dev", "lo")
        # A process that does nothing keeps the far namespace.
        self.holder = subprocess.Popen(
            [*UNSHARE, "sleep", "infinity"], stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent)
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.wait_apart()
        ip("link", "add", "near0", "type", "veth", "peer", "name", "far0")
        ip("link", "set", "far0", "netns", str(self.holder.pid))
        ip("addr", "add", f"{NEAR}/24", "dev", "near0")
        ip("link", "set", "near0", "up")
        for words in (("link", "set", "lo", "up"),
                      ("addr", "add", f"{FAR}/24", "dev", "far0"),
                      ("link", "set", "far0", "up"),
                      ("route", "add", f"{SERVERS}.0/24", "via", NEAR)):
            ip(*words, enter=self.enter)

    def wait_apart(self):
        """unshare runs after its process started."""
        ours = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == ours:
            pass

    def address(self, i):
        return f"{SERVERS}.{i}"

    def cut(self):
        """Pull the cable, on our side: the agent hears silence, no reset."""
        ip("link", "set", "near0", "down")

    def heal(self):
        ip("link", "set", "near0", "up")

    def close(self):
        self.holder.kill()
        self.holder.wait()


class FarServer(Server):
    """An agent on the far side. Clients reach it there on 127.0.0.1."""

    def __init__(self, net, name, folder, flags):
        super().__init__(name, FAR, folder, flags)
        self.net = net

    def command(self):
        words = [word if not word.startswith("-client=")
                 else "-client=127.0.0.1" for word in super().command()]
        return [*self.net.enter, *words]
