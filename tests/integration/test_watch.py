# SPDX-License-Identifier: Apache-2.0
"""The commands watch and watch-verify, and a short watch campaign."""

import contextlib
import http.client
import http.server
import json
import os
import queue
import signal
import subprocess
import threading
import types

import pytest

from cluster import binary, eventually
from watches import Campaign, figures


class Follower:
    """`microreg watch` in the background; its lines can be waited for."""

    def __init__(self, servers, *words):
        addresses = ",".join(f"{s.address}:8500" for s in servers)
        self.process = subprocess.Popen(
            [binary(), "watch", f"-http-addr={addresses}", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def next(self):
        """The next line, but for progress."""
        while True:
            line = self.lines.get(timeout=15)
            if " progress" not in line and '"progress"' not in line:
                return line

    def until(self, word):
        """The lines up to one with the word."""
        lines = []
        while not lines or word not in lines[-1]:
            lines.append(self.next())
        return lines

    def end(self):
        """(exit status, what it said on standard error)."""
        self.process.send_signal(signal.SIGTERM)
        err = self.process.stderr.read()
        return self.process.wait(timeout=10), err


@pytest.fixture
def follow():
    followers = []

    def start(servers, *words):
        followers.append(Follower(servers, *words))
        return followers[-1]
    yield start
    for follower in followers:
        follower.process.kill()
        follower.process.wait()


# ---- watch ----

def test_a_stream_is_printed_for_people(shared, follow):
    shared[0].kv_put("w/a", "one")
    follower = follow(shared, "prefix", "w/")
    first = follower.until("synced")
    assert [line.split(None, 1)[1] for line in first] == \
        ["create   w/a = one", "synced  "]
    shared[1].kv_put("w/b", "a\x1b[31mb")
    assert follower.next().endswith("create   w/b = a.[31mb")
    shared[2].request("DELETE", "/v1/kv/w/?recurse")
    assert [line.split()[1:3] for line in (follower.next(), follower.next())] \
        == [["delete", "w/a"], ["delete", "w/b"]]
    status, err = follower.end()
    assert (status, err) == (0, "")


def test_every_kind_can_be_watched_as_json(shared, follow):
    shared[0].put("/v1/catalog/register", {
        "Node": "wn", "Address": "192.0.2.1",
        "Service": {"Service": "wanted", "Tags": ["t"], "Port": 80},
        "Check": {"CheckID": "wc", "Name": "c", "Status": "critical",
                  "ServiceID": "wanted"}})
    for words, member in ((["services"], {"Name": "wanted", "Tags": ["t"]}),
                          (["nodes"], {"Node": "wn"}),
                          (["-service=wanted", "checks"], {"CheckID": "wc"}),
                          (["-state=critical", "checks"], {"CheckID": "wc"}),
                          (["registry"], {"name": "consul"})):
        follower = follow(shared, "-format=json", *words)
        objects = [json.loads(line) for line in follower.until("synced")][:-1]
        found = [o for o in objects
                 if member.items() <= (o.get("object") or o["service"]).items()]
        assert bool(found) == (words != ["registry"]), (words, objects)
        assert all(o["more"] for o in objects)
    for words, n in ((["service", "wanted"], 2),
                     (["-passingonly=true", "service", "wanted"], 1),
                     (["registry", "wanted", "other"], 1)):
        follower = follow(shared, "-format=json", *words)
        assert len(follower.until("synced")) == n, words


def test_a_stream_goes_on_at_another_server(cluster, follow):
    follower = follow(list(cluster), "prefix", "m/")
    follower.until("synced")
    cluster[1].kv_put("m/1", "x")
    assert "create   m/1" in follower.next()
    cluster[0].kill()
    cluster.wait_leader(cluster.running())
    cluster[1].kv_put("m/2", "y")
    lines = [line for line in follower.until("m/2") if "synced" not in line]
    assert len(lines) == 1, lines
    status, err = follower.end()
    assert status == 0
    assert f"Lost {cluster[0].address}:8500" in err
    assert "going on after index" in err


def test_wrong_arguments_are_refused(shared, cli):
    for words, said in ((["what"], 'Unknown stream "what"'),
                        (["key"], "watch key needs one KEY"),
                        (["service", "a", "b"], "watch service needs one NAME"),
                        (["nodes", "a"], "watch nodes needs no names"),
                        (["-index=x", "nodes"], 'invalid value "x"')):
        done = cli(shared[0], "watch", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr, words


# ---- watch -type, Consul's form ----

def test_without_a_handler_the_answer_is_printed_once(shared, cli):
    shared[0].kv_put("t/flags?flags=18446744073709551615", "<")
    done = cli(shared[0], "watch", "-type=key", "-key=t/flags")
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)
    assert list(entry) == ["Key", "CreateIndex", "ModifyIndex", "LockIndex",
                           "Flags", "Value", "Session"]
    assert (entry["Flags"], entry["Value"], entry["Session"]) == \
        (18446744073709551615, "PA==", "")
    assert done.stdout.startswith('{\n    "Key": "t/flags",\n')
    for words, out in ((["-type=key", "-key=none"], "null\n"),
                       (["-type=keyprefix", "-prefix=none/"], "null\n"),
                       (["-type=service", "-service=none"], "[]\n"),
                       (["-type=checks", "-service=none"], "[]\n")):
        done = cli(shared[0], "watch", *words)
        assert (done.returncode, done.stdout) == (0, out), words
    checks = json.loads(cli(shared[0], "watch", "-type=checks",
                            "-state=passing").stdout)
    assert checks[0]["Definition"]["Interval"] == "0s"


def test_consuls_errors(shared, cli):
    for words, said in (
            ([], "Watch type must be specified"),
            (["-type=foo"], "Unsupported watch type: foo"),
            (["-type=key"], "Must specify a single key to watch"),
            (["-type=keyprefix"], "Must specify a single prefix to watch"),
            (["-type=service"], "Must specify a single service to watch"),
            (["-type=key", "-key=a", "-service=b"],
             "Invalid parameters: [service]"),
            (["-type=checks", "-state=any", "-service=x"],
             "Cannot specify service and state"),
            (["-type=service", "-service=x", "-passingonly=x"],
             "Failed to parse passingonly flag: strconv.ParseBool: "
             'parsing "x": invalid syntax'),
            (["-type=key", "-key=a", "exit 3"],
             "Error executing handler: exit status 3"),
            (["-type=key", "-key=a", "kill -9 $$"],
             "Error executing handler: signal: killed"),
            (["-type=key", "-key=a", "-shell=false", "./none"],
             "Error starting handler: fork/exec ./none: "
             "no such file or directory")):
        done = cli(shared[0], "watch", *words)
        assert done.returncode == 1, words
        assert done.stderr.startswith(said), (words, done.stderr)
    nobody = types.SimpleNamespace(address=shared.net.address(99))
    done = cli(nobody, "watch", "-type=nodes")
    assert done.returncode == 1
    assert done.stderr.startswith("Error querying Consul agent: Get \"http://")


def test_the_handler_runs_for_each_new_answer(shared, follow, tmp_path):
    """Once for the first answer, and not when the index moves for others."""
    follower = follow([shared[0]], "-type=keyprefix", "-prefix=h/",
                      'echo "$CONSUL_INDEX $(cat)"')
    assert follower.next().endswith(" null")
    shared[1].kv_put("other", "x")
    shared[1].kv_put("h/1", "a")
    index, _, text = follower.next().partition(" ")
    (entry,) = json.loads(text)
    assert (entry["Key"], entry["ModifyIndex"]) == ("h/1", int(index))
    shared[1].request("DELETE", "/v1/kv/h/1")
    assert follower.next().endswith(" null")
    assert follower.end()[0] == 0
    words = follow([shared[0]], "-type=key", "-key=none", "-shell=false",
                   "printf", "%s.\n", "a b", "$HOME")
    assert [words.next(), words.next()] == ["a b.", "$HOME."]


# ---- watch-verify ----

def verify(servers, *words):
    addresses = ",".join(f"{s.address}:8500" for s in servers)
    return subprocess.run(
        [binary(), "watch-verify", f"-http-addr={addresses}", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
        check=False)


def test_a_quiet_cluster_keeps_its_promises(shared):
    done = verify(shared, "-duration=3s", "-move=1s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All promises were kept\n")
    last = figures(done.stdout.splitlines()[-2])
    assert last["breaches"] == 0 and last["snapshots"] >= 18


def test_a_query_whose_time_is_over_was_not_woken(shared):
    """The index of a key that is not there moves with others'."""
    watching = subprocess.Popen(
        [binary(), "watch-verify", f"-http-addr={shared[0].address}:8500",
         "-topic=key:nobody", "-streams=1", "-queries=1", "-duration=15s"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        out = None
        for n in range(500):
            shared[1].kv_put("somebody", str(n))
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, _ = watching.communicate(timeout=0.1)
                break
    finally:
        watching.kill()
    assert watching.returncode == 0, out
    assert figures(out.splitlines()[-2])["quiet"] > 0, out


def test_wrong_options_of_watch_verify(shared, cli):
    for words, said in ((["-topic=what"], 'Invalid topic "what"'),
                        (["-topic=service"], 'Invalid topic "service"'),
                        (["-duration=x"], "Invalid -duration"),
                        (["more"], "takes no arguments")):
        done = cli(shared[0], "watch-verify", *words)
        assert done.returncode == 1 and said in done.stderr, words


class Liar(http.server.BaseHTTPRequestHandler):
    """Passes everything on to a server, but lies in one stream of each topic
    at the fifth event."""

    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass

    def lie(self, line):
        if b'"object"' not in line or b"more" in line:
            return [line]
        self.server.told += 1
        if self.server.told != 5:
            return [line]
        return {"drop": [], "twice": [line, line],
                "alter": [line.replace(b'"Flags":0', b'"Flags":1')],
                "goes back": [line, b'{"index":1,"action":"progress"}\n'],
                "garbage": [b"{\n"],
                "other action": [line.replace(b"create", b"update")],
                }[self.server.how]

    def do_GET(self):
        host = self.server.upstream.address
        connection = http.client.HTTPConnection(host, 8500, timeout=20)
        with contextlib.closing(connection), \
                contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", self.path)
            answer = connection.getresponse()
            self.send_response(answer.status)
            if answer.headers["X-Consul-Index"]:
                self.send_header("X-Consul-Index",
                                 answer.headers["X-Consul-Index"])
            self.end_headers()
            for line in answer:
                for told in self.lie(line):
                    self.wfile.write(told)


@pytest.mark.parametrize("how,said", [
    ("drop", "left out"), ("twice", "an event of an index that was complete"),
    ("alter", ""), ("goes back", "the index goes backwards"),
    ("garbage", "no JSON"), ("other action", "")])
def test_a_server_that_lies_is_caught(shared, how, said):
    liar = http.server.ThreadingHTTPServer(
        (shared.net.address(77), 8500), Liar)
    liar.upstream, liar.how, liar.told = shared[0], how, 0
    thread = threading.Thread(target=liar.serve_forever, daemon=True)
    thread.start()
    addresses = f"{shared[1].address}:8500,{shared.net.address(77)}:8500"
    prefix = f"lie/{how.replace(' ', '-')}/"
    crowd = subprocess.Popen(
        [binary(), "watch-verify", f"-http-addr={addresses}", "-streams=6",
         "-queries=1", "-duration=2s", "-move=0", "-seed=1",
         f"-topic=keyprefix:{prefix}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert crowd.stdout.readline().startswith("Following")
        n = 0
        while crowd.poll() is None:
            shared[2].kv_put(f"{prefix}{n % 100}", str(n))
            n += 1
        out, _ = crowd.communicate(timeout=60)
    finally:
        crowd.kill()
        liar.shutdown()
        liar.server_close()
    assert crowd.returncode == 1, out
    assert "BREACH: stream" in out and said in out, out
    assert out.endswith("A promise was broken\n")


def test_promises_hold_while_leaders_die(tmp_path):
    """The campaign in small: 200 watchers, 20 s."""
    options = types.SimpleNamespace(
        seed=int(os.environ.get("SEED", "1")), duration=20, watchers=200,
        queries=20, slow=5, changes=60, kill_every=7, move="5s")
    campaign = Campaign(str(tmp_path), options)
    try:
        campaign.start()
        campaign.run()
        status, out = campaign.finish()
        eventually(campaign.cluster.wait_equal, "equal states", 30)
    finally:
        campaign.close()
    assert status == 0, out
    last = figures(out.splitlines()[-2])
    assert campaign.kills >= 2 and last["written"] > 100, out
    assert last["changes"] > 1000 and last["wakes"] > 20, out
