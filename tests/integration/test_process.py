# SPDX-License-Identifier: Apache-2.0
"""The process: signals, folders, ports, addresses, flags."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from cluster import HTTP_PORT, RPC_PORT, Cluster, Net, Server, binary, eventually


@pytest.fixture
def lone(tmp_path):
    """A server that is not started, with an address of its own."""
    net = Net()
    server = Server("n1", net.address(1), str(tmp_path / "n1"),
                    ["-server", "-bootstrap-expect=1"])
    yield server
    server.kill()
    net.close()


def run_to_end(server, *more, timeout=20):
    """Start it with further flags where it must refuse; (status, text)."""
    done = subprocess.run([*server.command(), *more], capture_output=True,
                          text=True, timeout=timeout, check=False,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def ready(server):
    return eventually(lambda: server.leader_address(), f"{server.name} leads", 20)


# ---- success ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_server_in_order(lone, number):
    lone.start()
    ready(lone)
    lone.kv_put("k", "v")
    assert lone.terminate(number) == 0
    lone.start()
    ready(lone)
    assert lone.kv_get("k") == b"v"


def test_signal_ends_a_server_that_has_parked_readers(lone):
    lone.start()
    ready(lone)
    index = lone.request("GET", "/v1/kv/x").index
    def park():
        try:
            lone.request("GET", f"/v1/kv/x?index={index}&wait=60s", None, 60)
        except OSError:
            pass
    threads = [threading.Thread(target=park, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert lone.terminate(timeout=10) == 0
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_sigterm_keeps_a_server_in_the_cluster(cluster):
    follower = cluster.followers()[0]
    assert follower.terminate() == 0
    leader = cluster.wait_leader()
    assert len(leader.get("/v1/operator/raft/configuration")["Servers"]) == 3
    follower.start()
    cluster.wait_equal()


def test_sighup_is_survived(lone):
    lone.start()
    ready(lone)
    lone.send(signal.SIGHUP)
    lone.kv_put("k", "v")
    lone.send(signal.SIGHUP)
    assert lone.kv_get("k") == b"v"
    assert lone.running()


def test_pid_file_holds_the_pid_and_goes_away(lone, tmp_path):
    path = tmp_path / "pid"
    lone.flags.append(f"-pid-file={path}")
    lone.start()
    ready(lone)
    assert int(path.read_text()) == lone.process.pid
    lone.terminate()
    assert not path.exists()


def test_log_goes_to_the_log_file(lone, tmp_path):
    path = tmp_path / "own.log"
    lone.flags.append(f"-log-file={path}")
    lone.start()
    ready(lone)
    lone.terminate()
    logs = [p for p in tmp_path.iterdir() if p.name.startswith("own")]
    assert logs and logs[0].read_text()


def test_configuration_comes_from_files_and_flags_win(lone, tmp_path):
    config = tmp_path / "conf.d"
    config.mkdir()
    (config / "a.json").write_text('{"datacenter": "east", "node_name": "file"}')
    (config / "b.json").write_text('{"domain": "example"}')
    lone.flags.append(f"-config-dir={config}")
    lone.start()
    ready(lone)
    own = lone.self()
    assert own["Config"]["NodeName"] == "n1"
    assert own["Config"]["Datacenter"] == "east"
    assert lone.get("/v1/catalog/datacenters") == ["east"]


def test_dev_mode_needs_nothing(tmp_path):
    net = Net()
    server = Server("dev", net.address(1), str(tmp_path / "dev"), [])
    with open(server.log, "wb") as log:
        server.process = subprocess.Popen(
            [binary(), "agent", "-dev", "-node=dev", f"-client={server.address}",
             f"-bind={server.address}"], stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, cwd=tmp_path)
    try:
        ready(server)
        server.kv_put("k", "v")
        # A dev agent pretty-prints every answer.
        assert server.request("GET", "/v1/kv/k").text.startswith("[\n")
    finally:
        server.kill()
        net.close()


def test_ports_can_be_chosen(lone):
    lone.flags += ["-http-port=18500", "-dns-port=18600", "-server-port=18300"]
    lone.start()
    address, lone.address = lone.address, f"{lone.address}:18500"
    assert ready(lone) == f"{address}:18300"


def test_join_names_are_resolved_late_and_again(tmp_path):
    """One good address among hopeless ones is enough."""
    cluster = Cluster(tmp_path, start=False)
    for server in cluster:
        server.flags.insert(0, "-retry-join=no-such-host.invalid")
        server.start()
    try:
        cluster.wait_leader(timeout=30)
    finally:
        cluster.close()


# ---- failure ----

@pytest.mark.parametrize("port,kind,name", [
    (HTTP_PORT, socket.SOCK_STREAM, "http"),
    (RPC_PORT, socket.SOCK_STREAM, "server"),
    (8600, socket.SOCK_DGRAM, "dns"),
    (8600, socket.SOCK_STREAM, "dns"),
])
def test_port_in_use_is_named(lone, port, kind, name):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((lone.address, port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        status, text = run_to_end(lone)
    assert status == 1, text
    assert str(port) in text and "in use" in text, (name, text)


def test_folder_in_use_by_a_running_server_is_refused(cluster):
    other = Server("n9", cluster.net.address(9), cluster[0].folder, [
        "-server", f"-retry-join={cluster[0].address}"])
    status, text = run_to_end(other)
    assert status == 1, text
    assert cluster[0].folder in text
    cluster[0].kv_put("fine", "x")


def test_copied_folder_of_another_server_changes_nothing(cluster):
    """Two servers with one identity: the second one is not let in."""
    leader = cluster.wait_leader()
    original = cluster.followers()[0]
    assert original.terminate() == 0
    copy = cluster.add(8)
    shutil.copytree(original.folder, copy.folder)
    original.start()
    cluster.wait_leader(cluster.servers[:3])
    copy.start()
    for i in range(30):
        leader.kv_put(f"c/{i}", "x")
    cluster.wait_equal(cluster.servers[:3])
    nodes = leader.get("/v1/operator/raft/configuration")["Servers"]
    assert len(nodes) == 3


def test_damaged_state_is_refused_or_rebuilt_never_shortened(solo):
    for i in range(100):
        solo[0].kv_put(f"k/{i}", "x" * 1000)
    solo[0].kill()
    spoiled = []
    for folder, _, names in os.walk(solo[0].folder):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".mdb") and "lock" not in name:
                with open(path, "r+b") as file:
                    # Both LMDB meta pages.
                    file.write(b"\xa5" * 8192)
                spoiled.append(path)
    assert spoiled
    solo[0].start()
    try:
        status = solo[0].wait_exit(15)
    except AssertionError:
        assert len(solo[0].get("/v1/kv/k/?keys")) == 100
    else:
        assert status == 1
        assert solo[0].folder in solo[0].log_text()


def test_folder_of_a_newer_version_is_refused(solo):
    """The log's identity row begins with its format; it is changed in place."""
    server = solo[0]
    server.kv_put("k", "v")
    identity = server.self()["Config"]["NodeID"].encode()
    assert server.terminate() == 0
    row = re.compile(re.escape(b"\1" + bytes(7)) + b".{8}" + identity, re.S)
    changed = 0
    for folder, _, names in os.walk(server.folder):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                data = file.read()
            newer = row.sub(lambda m: b"\x63" + m.group(0)[1:], data)
            if newer != data:
                changed += 1
                with open(path, "wb") as file:
                    file.write(newer)
    assert changed, "the identity row was not found"
    status, text = run_to_end(server)
    assert status == 1, text
    assert "newer version" in text and server.folder in text


def test_folder_of_another_identity_is_refused(solo):
    server = solo[0]
    server.kv_put("k", "v")
    assert server.terminate() == 0
    other = "-node-id=11111111-2222-3333-4444-555555555555"
    status, text = run_to_end(server, other)
    assert status == 1, text
    assert server.folder in text
    server.start()
    solo.wait_leader(timeout=20)
    assert server.kv_get("k") == b"v"


@pytest.mark.parametrize("flag", [
    "-bind=no-such-host.invalid", "-client=no-such-host.invalid",
    "-advertise=no-such-host.invalid", "-bind=203.0.113.7", "-bind=999.1.1.1",
])
def test_address_that_does_not_serve_is_named(lone, flag):
    status, text = run_to_end(lone, flag)
    assert status == 1, text
    assert flag.split("=")[1] in text, text


@pytest.mark.parametrize("flag,hint", [
    ("-data-dri=x", "data-dir"), ("-retry-jion=x", "retry-join"),
    ("-boostrap-expect=3", "bootstrap-expect"), ("--http-prt=1", "http-port"),
])
def test_unknown_flag_names_the_nearest_one(lone, flag, hint):
    status, text = run_to_end(lone, flag)
    assert status == 1, text
    assert flag.lstrip("-").split("=")[0] in text and hint in text, text


@pytest.mark.parametrize("flag", [
    "-http-port=99999", "-http-port=x", "-bootstrap-expect=-1",
    "-retry-interval=soon", "-node=", "-log-level=shouting",
    "-config-file=/no/such/file.json",
])
def test_bad_value_is_refused(lone, flag):
    status, text = run_to_end(lone, flag)
    assert status == 1, text
    assert text.strip()


@pytest.mark.parametrize("text,hint", [
    ('{"servre": true}', "servre"), ("{", "bad.json"), ('{"ports": {"http": "x"}}', "http"),
])
def test_bad_configuration_file_is_named(lone, tmp_path, text, hint):
    path = tmp_path / "bad.json"
    path.write_text(text)
    status, said = run_to_end(lone, f"-config-file={path}")
    assert status == 1, said
    assert hint in said, said


def test_missing_data_dir_is_an_error():
    done = subprocess.run([binary(), "agent", "-server"], capture_output=True,
                          text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "data" in (done.stdout + done.stderr)


def test_file_in_place_of_the_data_dir_is_an_error(lone):
    with open(lone.folder, "w", encoding="utf-8") as file:
        file.write("not a folder")
    status, text = run_to_end(lone)
    assert status == 1, text
    assert lone.folder in text
