# SPDX-License-Identifier: Apache-2.0
"""The command lock: who runs when, what the child knows, how it ends."""

import signal
import subprocess
import time

from cluster import binary, eventually


def start(server, *words):
    """The command lock in the background."""
    return subprocess.Popen(
        [binary(), "lock", f"-http-addr={server.address}:8500", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def finish(process, timeout=15):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def holder(server, key):
    """The session that holds the key, or None."""
    answer = server.request("GET", f"/v1/kv/{key}?consistent")
    return answer.json[0].get("Session") if answer.status == 200 else None


# ---- success ----

def test_the_child_runs_under_the_lock_and_knows_its_number(shared, cli):
    done = cli(shared[0], "lock", "-verbose", "lk/a",
               "echo $CONSUL_LOCK_HELD $MICROREG_LOCK_KEY $MICROREG_LOCK_FENCE")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["Setting up lock at path: lk/a/.lock",
                         "Attempting lock acquisition", "Starting handler"]
    held, key, fence = lines[3].split()
    assert (held, key) == ("true", "lk/a/.lock") and int(fence) > 0
    assert lines[4:] == ["Child terminated, releasing lock", "Cleanup succeeded"]
    assert shared[0].request("GET", "/v1/kv/lk/a?recurse").status == 404


def test_two_never_run_at_a_time(shared, tmp_path):
    """Each child makes a folder that must not be there, and takes it away."""
    child = f"mkdir {tmp_path}/one && sleep 0.05 && rmdir {tmp_path}/one"
    all_ = [start(server, "-child-exit-code", "lk/b", child)
            for server in shared for _ in range(2)]
    for process in all_:
        status, _, err = finish(process, 30)
        assert status == 0, err
    assert shared[0].request("GET", "/v1/kv/lk/b?recurse").status == 404


def test_a_semaphore_lets_so_many_run(shared, cli):
    first = [start(server, "-n=2", "lk/s", "echo on; exec sleep 30")
             for server in list(shared)[:2]]
    for process in first:
        assert process.stdout.readline() == "on\n"
    late = cli(shared[2], "lock", "-n=2", "-timeout=300ms", "lk/s", "echo no")
    assert (late.returncode, late.stdout) == (1, "")
    assert "timeout during lock acquisition" in late.stderr
    other = cli(shared[2], "lock", "-n=3", "lk/s", "echo no")
    assert other.returncode == 1
    assert "Semaphore limit conflict (lock: 2, local: 3)" in other.stderr
    third = start(shared[2], "-n=2", "lk/s", "echo on")
    first[0].terminate()
    assert finish(third)[:2] == (0, "on\n")
    first[1].terminate()
    for process in first:
        assert finish(process)[0] == 0
    assert shared[0].request("GET", "/v1/kv/lk/s?recurse").status == 404
    assert "Name\":\"Lock for" not in shared[0].request(
        "GET", "/v1/session/list").text


def test_exit_codes_and_arguments(shared, cli):
    for words, status, out, err in (
            (["lk/e", "exit 7"], 0, "", "Error running handler: exit status 7"),
            (["-child-exit-code", "lk/e", "exit 7"], 2, "", "exit status 7"),
            (["-shell=false", "lk/e", "echo", "a  b"], 0, "a  b\n", ""),
            (["lk/e"], 1, "", "Key prefix and child command must be specified"),
            (["-n=0", "lk/e", "true"], 1, "", "limit must be positive"),
            (["-timeout=x", "lk/e", "true"], 1, "", "Error parsing -timeout"),
            (["-shell=false", "lk/e", "/no/such"], 0, "", "No such file")):
        done = cli(shared[0], "lock", *words)
        assert (done.returncode, done.stdout) == (status, out), (words, done.stderr)
        assert err in done.stderr
    done = cli(shared[0], "lock", "-pass-stdin", "lk/e", "cat", stdin="text")
    assert (done.returncode, done.stdout) == (0, "text")


# ---- failure ----

def test_a_lost_lock_ends_the_child(shared):
    process = start(shared[1], "-verbose", "lk/l",
                    "trap 'echo ended; exit' TERM; echo on; while :; do sleep 0.1; done")
    for _ in range(3):
        process.stdout.readline()
    assert process.stdout.readline() == "on\n"
    session = eventually(lambda: holder(shared[0], "lk/l/.lock"), "it is held")
    shared[0].put(f"/v1/session/destroy/{session}")
    status, out, err = finish(process, 5)
    assert (status, out) == (1, "Lock lost, killing child\nended\n"), (out, err)
    assert "Lock not held" in err


def test_a_killed_command_takes_its_child_along(shared):
    process = start(shared[0], "lk/k", "echo $$; exec sleep 60")
    child = int(process.stdout.readline())
    process.kill()
    process.communicate()

    def is_gone():
        try:
            with open(f"/proc/{child}/stat", encoding="ascii") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True
    eventually(is_gone, "the child has ended", 5)
    session = holder(shared[0], "lk/k/.lock")
    shared[0].put(f"/v1/session/destroy/{session}")


def test_a_dead_server_ends_the_child_in_time(solo):
    """Nobody can tell whether the lock is held: it counts as lost."""
    eventually(lambda: solo[0].get("/v1/health/service/consul?passing"),
               "the server registered itself")
    process = start(solo[0], "-monitor-retry=0", "lk/d",
                    "echo on; exec sleep 60")
    assert process.stdout.readline() == "on\n"
    before = time.monotonic()
    solo[0].kill()
    status, _, err = finish(process)
    assert status == 1 and "Lock release failed" in err
    assert time.monotonic() - before < 5


def test_a_stopped_command_gives_the_lock_back(shared):
    process = start(shared[0], "lk/t", "echo on; exec sleep 60")
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process, 5)[0] == 0
    assert holder(shared[1], "lk/t/.lock") is None


def test_a_key_that_is_no_lock_is_left_alone(shared, cli):
    shared[0].kv_put("lk/x/.lock", "mine")
    done = cli(shared[0], "lock", "lk/x", "echo no")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Existing key does not match lock use" in done.stderr
    assert shared[0].kv_get("lk/x/.lock") == b"mine"
