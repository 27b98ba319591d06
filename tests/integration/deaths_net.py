# SPDX-License-Identifier: Apache-2.0
"""Several machines on one: network namespaces, each with a cable to ours that
can be pulled.

A paused process is not a cut: its kernel still answers for it. Here what a
machine sends goes nowhere, as behind a broken switch. Machine i has the address
10.77.i.2; we are 10.77.i.1 to it and forward between them.
"""

import os
import shutil
import subprocess

from cluster import Cluster, Server, die_with_parent

# A process started so has a network of its own.
UNSHARE = ["unshare", "--net"]


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


class Machine:
    """A namespace and its cable. @enter runs a command in it."""

    def __init__(self, i):
        self.near, self.far = f"near{i}", f"far{i}"
        self.address = f"10.77.{i}.2"
        # A process that does nothing keeps the namespace.
        self.holder = subprocess.Popen(
            [*UNSHARE, "sleep", "infinity"], stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent)
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.wait_apart()
        ip("link", "add", self.near, "type", "veth", "peer", "name", self.far)
        ip("link", "set", self.far, "netns", str(self.holder.pid))
        ip("addr", "add", f"10.77.{i}.1/24", "dev", self.near)
        ip("link", "set", self.near, "up")
        for words in (("link", "set", "lo", "up"),
                      ("addr", "add", f"{self.address}/24", "dev", self.far),
                      ("link", "set", self.far, "up"),
                      ("route", "add", "default", "via", f"10.77.{i}.1")):
            ip(*words, enter=self.enter)

    def wait_apart(self):
        """unshare runs after its process started."""
        ours = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == ours:
            pass

    def cut(self):
        """Pull the cable, on our side: the machine hears silence, no reset."""
        ip("link", "set", self.near, "down")

    def heal(self):
        ip("link", "set", self.near, "up")

    def close(self):
        self.holder.kill()
        self.holder.wait()


class MachineNet:
    """Machines that see each other through us. Stands for cluster.Net."""

    def __init__(self):
        ip("link", "set", "lo", "up")
        with open("/proc/sys/net/ipv4/ip_forward", "w",
                  encoding="utf-8") as forward:
            forward.write("1")
        self.machines = {}

    def machine(self, i):
        if i not in self.machines:
            self.machines[i] = Machine(i)
        return self.machines[i]

    def address(self, i):
        return self.machine(i).address

    def close(self):
        for machine in self.machines.values():
            machine.close()


class FarServer(Server):
    """A server or an agent on a machine of its own."""

    def __init__(self, machine, name, folder, flags):
        super().__init__(name, machine.address, folder, flags)
        self.machine = machine

    def command(self):
        return [*self.machine.enter, *super().command()]


class FarCluster(Cluster):
    """Servers on a machine each."""

    def add(self, i, more=(), n=None):
        server = super().add(i, more, n)
        self.servers[-1] = FarServer(self.net.machine(i), server.name,
                                     server.folder, server.flags)
        return self.servers[-1]
