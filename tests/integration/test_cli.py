# SPDX-License-Identifier: Apache-2.0
"""The client commands: output, streams and exit codes as Consul's."""

import json
import re

import pytest


def columns(text):
    """The cells of a table, row by row."""
    return [re.split(r"\s{2,}", line.rstrip()) for line in text.splitlines()]


# ---- success ----

def test_members_lists_every_server(shared, cli):
    done = cli(shared[0], "members")
    assert done.returncode == 0, done.stderr
    rows = columns(done.stdout)
    assert rows[0] == ["Node", "Address", "Status", "Type", "Build", "Protocol",
                       "DC", "Segment"]
    assert [r[0] for r in rows[1:]] == ["n1", "n2", "n3"]
    for row, server in zip(rows[1:], shared):
        assert row[1].split(":")[0] == server.address
        assert row[2:4] == ["alive", "server"]
        assert row[6:] == ["dc1", "<all>"]


def test_list_peers_shows_one_leader(shared, cli):
    done = cli(shared[1], "operator", "raft", "list-peers")
    assert done.returncode == 0, done.stderr
    rows = columns(done.stdout)
    assert rows[0] == ["Node", "ID", "Address", "State", "Voter", "RaftProtocol"]
    assert sorted(r[0] for r in rows[1:]) == ["n1", "n2", "n3"]
    assert sorted(r[3] for r in rows[1:]) == ["follower", "follower", "leader"]
    assert {r[4] for r in rows[1:]} == {"true"}


def test_kv_put_get_delete(shared, cli):
    done = cli(shared[0], "kv", "put", "cli/a", "one")
    assert (done.returncode, done.stdout) == (0, "Success! Data written to: cli/a\n")
    done = cli(shared[1], "kv", "put", "cli/b", "-", stdin="two")
    assert done.returncode == 0, done.stderr
    done = cli(shared[2], "kv", "get", "cli/a")
    assert (done.returncode, done.stdout) == (0, "one\n")
    done = cli(shared[2], "kv", "get", "/cli/b")
    assert (done.returncode, done.stdout) == (0, "two\n")
    done = cli(shared[0], "kv", "get", "-recurse", "cli/")
    assert (done.returncode, done.stdout) == (0, "cli/a:one\ncli/b:two\n")
    done = cli(shared[0], "kv", "get", "-keys", "cli/")
    assert (done.returncode, done.stdout) == (0, "cli/a\ncli/b\n")
    done = cli(shared[0], "kv", "get", "-detailed", "cli/a")
    labels = [l.split()[0] for l in done.stdout.splitlines()]
    assert labels == ["CreateIndex", "Flags", "Key", "LockIndex", "ModifyIndex",
                      "Session", "Value"]
    assert done.stdout.splitlines()[-1] == "Value            one"
    done = cli(shared[1], "kv", "delete", "cli/a")
    assert (done.returncode, done.stdout) == (0, "Success! Deleted key: cli/a\n")
    done = cli(shared[1], "kv", "delete", "-recurse", "cli/")
    assert (done.returncode, done.stdout) == (
        0, "Success! Deleted keys with prefix: cli/\n")
    done = cli(shared[1], "kv", "get", "-keys", "cli/")
    assert (done.returncode, done.stdout) == (0, "")


def test_kv_keeps_flags_of_64_bits(shared, cli):
    flags = str(2**64 - 1)
    assert cli(shared[0], "kv", "put", f"-flags={flags}", "big/a", "v").returncode == 0
    done = cli(shared[0], "kv", "get", "-detailed", "big/a")
    assert re.search(rf"^Flags +{flags}$", done.stdout, re.M), done
    assert cli(shared[0], "kv", "get", "big/a").stdout == "v\n"
    exported = cli(shared[0], "kv", "export", "big/").stdout
    assert f'"flags": {flags},' in exported
    assert cli(shared[0], "kv", "delete", "big/a").returncode == 0
    assert cli(shared[1], "kv", "import", "-", stdin=exported).returncode == 0
    assert shared[2].get("/v1/kv/big/a")[0]["Flags"] == 2**64 - 1
    assert cli(shared[0], "kv", "delete", "big/a").returncode == 0


def test_catalog_commands(shared, cli):
    shared[0].register("clisvc", 80, Tags=["b", "a"])
    done = cli(shared[1], "catalog", "services")
    assert done.returncode == 0, done.stderr
    assert "clisvc" in done.stdout.splitlines()
    assert done.stdout.splitlines() == sorted(done.stdout.splitlines())
    done = cli(shared[1], "catalog", "services", "-tags")
    assert re.search(r"^clisvc\s+a,b$", done.stdout, re.M), done.stdout
    done = cli(shared[1], "catalog", "nodes")
    rows = columns(done.stdout)
    assert rows[0] == ["Node", "ID", "Address", "DC"]
    assert [r[0] for r in rows[1:]] == ["n1", "n2", "n3"]
    assert all(len(r[1]) == 8 for r in rows[1:])
    done = cli(shared[1], "catalog", "nodes", "-service=clisvc")
    assert [r[0] for r in columns(done.stdout)[1:]] == ["n1"]
    done = cli(shared[1], "catalog", "datacenters")
    assert (done.returncode, done.stdout) == (0, "dc1\n")
    shared[0].put("/v1/agent/service/deregister/clisvc")


def test_info_prints_groups(shared, cli):
    done = cli(shared[0], "info")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^raft:$", done.stdout, re.M)
    assert re.search(r"^\t(state|term) = ", done.stdout, re.M)


def test_version_needs_no_server(cli):
    done = cli(None, "version")
    assert done.returncode == 0
    assert re.match(r"microreg v?\d+\.\d+", done.stdout, re.I), done.stdout


@pytest.mark.parametrize("words", [
    ["members"], ["catalog", "nodes"], ["catalog", "services"],
    ["catalog", "datacenters"], ["operator", "raft", "list-peers"], ["info"],
    ["version"],
])
def test_format_json_is_json(shared, cli, words):
    done = cli(shared[0], *words, "-format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_http_addr_flag_and_consuls_variable_work(shared, cli):
    address = f"-http-addr={shared[2].address}:8500"
    done = cli(None, "kv", "put", address, "cli/flag", "x")
    assert done.returncode == 0, done.stderr
    done = cli(None, "kv", "get", f"-http-addr=http://{shared[1].address}:8500",
               "cli/flag")
    assert done.stdout == "x\n"
    cli(shared[0], "kv", "delete", "cli/flag")


def test_leave_ends_the_server(cluster, cli):
    follower = cluster.followers()[0]
    done = cli(follower, "leave")
    assert (done.returncode, done.stdout) == (0, "Graceful leave complete\n")
    assert follower.wait_exit(20) == 0


# ---- failure ----

@pytest.mark.parametrize("words,status,text", [
    (["kv", "get", "no/such"], 1, "Error! No key exists at: no/such"),
    (["kv", "get"], 1, "Error! Missing KEY argument"),
    (["kv", "put", "k", "v", "-bogus"], 1, ""),
    (["kv", "put", "-cas", "k", "v"], 1, "Must specify -modify-index with -cas!"),
    (["operator", "raft", "remove-peer", "-id=nobody"], 1, "nobody"),
    (["bogus"], 127, ""),
    (["kv"], 1, ""),
    ([], 127, ""),
])
def test_errors_go_to_stderr_with_an_exit_code(shared, cli, words, status, text):
    done = cli(shared[0], *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert text in done.stderr and done.stderr.strip()
    assert done.stdout == ""


def test_cas_failure_is_an_error(shared, cli):
    cli(shared[0], "kv", "put", "cli/cas", "x")
    done = cli(shared[0], "kv", "put", "-cas", "-modify-index=1", "cli/cas", "y")
    assert done.returncode == 1
    assert "Error! Did not write to cli/cas: CAS failed" in done.stderr
    cli(shared[0], "kv", "delete", "cli/cas")


def test_no_server_is_an_error(cli):
    done = cli(None, "members", "-http-addr=127.19.0.1:8500")
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_help_is_on_stdout(cli):
    for words in (["-h"], ["kv", "-h"], ["agent", "-h"], ["kv", "put", "-h"]):
        done = cli(None, *words)
        assert done.returncode == 0, (words, done.stderr)
        assert "sage:" in done.stdout, words
