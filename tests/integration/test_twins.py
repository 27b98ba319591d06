# SPDX-License-Identifier: Apache-2.0
"""A service that registers with another server when its own one died: its ID is
on two nodes of the catalog then, and still one service for those who watch."""

import http.client
import json
import socket
import threading

import pytest

from cluster import HTTP_PORT, eventually

TTL_S = 2


class View:
    """What a watcher of a service has, and what was wrong with its events."""

    def __init__(self, server, name):
        self.connection = http.client.HTTPConnection(
            server.address, HTTP_PORT, timeout=30)
        self.connection.request("GET", f"/registry/watch?service={name}")
        self.socket = self.connection.sock
        self.lines = self.connection.getresponse()
        self.known = {}
        self.wrong = []
        self.is_synced = threading.Event()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        try:
            for text in self.lines:
                self.apply(json.loads(text))
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # close()

    def apply(self, line):
        if line["action"] == "synced":
            self.is_synced.set()
        if "service" not in line:
            return
        (node,) = line["service"]["nodes"]
        if (node["id"] in self.known) == (line["action"] == "create"):
            self.wrong.append(line)
        if line["action"] == "delete":
            self.known.pop(node["id"], None)
        else:
            self.known[node["id"]] = node["address"]

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)  # Else close() waits for a line.
        self.connection.close()


@pytest.fixture
def watch():
    views = []

    def start(server, name):
        views.append(View(server, name))
        assert views[-1].is_synced.wait(15)
        return views[-1]
    yield start
    for view in views:
        view.close()


def register(server, name, port):
    server.put("/v1/agent/service/register", {
        "ID": f"{name}-1", "Name": name, "Address": "10.0.0.1", "Port": port,
        "Check": {"TTL": f"{TTL_S}s", "Status": "passing"}})


def renew(server, name):
    server.put(f"/v1/agent/check/pass/service:{name}-1")


def found(server, name):
    return {node["id"]: node["address"]
            for service in server.get(f"/registry?service={name}")
            for node in service["nodes"]}


def ids(server, name):
    return [node["id"] for service in server.get(f"/registry?service={name}")
            for node in service["nodes"]]


@pytest.mark.parametrize("port", [80, 81], ids=["same", "elsewhere"])
def test_who_moves_to_another_server_is_not_told_as_gone(shared, watch, port):
    name = f"mover-{port}"
    register(shared[0], name, 80)
    eventually(lambda: found(shared[2], name), "it is known")
    view = watch(shared[2], name)
    register(shared[1], name, port)

    def is_alone():
        renew(shared[1], name)
        nodes = shared[2].get(f"/v1/health/service/{name}")
        return [n["Checks"][-1]["Status"] for n in nodes
                if n["Node"]["Node"] == "n1"] in (["critical"], [])
    eventually(is_alone, "the old registration ends")
    late = watch(shared[2], name)
    for one in (view, late):
        eventually(lambda: one.known == found(shared[2], name) != {},
                   "the watcher has what is found")
        assert not one.wrong
    shared[1].put(f"/v1/agent/service/deregister/{name}-1")
    shared[0].put(f"/v1/agent/service/deregister/{name}-1")
    eventually(lambda: not view.known and not late.known, "it is gone")
    assert not view.wrong


def test_an_id_on_two_nodes_is_found_once(shared, watch):
    register(shared[0], "twin", 80)
    register(shared[1], "twin", 80)
    eventually(lambda: len(shared[2].get("/v1/health/service/twin")) == 2,
               "both are known")
    assert ids(shared[2], "twin") == ["twin-1"]
    view = watch(shared[2], "twin")
    assert view.known == found(shared[2], "twin") and not view.wrong
    shared[0].put("/v1/agent/service/deregister/twin-1")
    shared[1].put("/v1/agent/service/deregister/twin-1")
    eventually(lambda: not view.known, "it is gone")
    assert not view.wrong
