# SPDX-License-Identifier: Apache-2.0
"""What is strange about services, registered by each plugin and seen by all."""

import json
import random
import zlib

import pytest

from cluster import eventually, request
from fleet import Native, Program, Refused, Wire
from test_fleet import addresses, comparable, programs, service  # noqa: F401

MAKERS = {"microreg": lambda all_: (Program, "micro5", "microreg", all_),
          "pure": lambda all_: (Program, "micro5", "microreg", all_, True),
          "consul5": lambda all_: (Program, "micro5", "consul", all_),
          "consul4": lambda all_: (Program, "micro4", "consul", all_),
          "consul2": lambda all_: (Program, "micro2", "consul", all_),
          "proxy": lambda all_: (Wire, all_),
          "http": lambda all_: (Native, all_[0])}

WATCHERS = ["microreg", "pure", "consul5", "consul2", "proxy"]
QUOTES = "\"'`\\\\\" </script>&amp; {{.}} %s $(x) \u2028 ü 漢 🙂"
CONTROL = "\t\r\n\x01\x1f\x7f\u0085"


def deep(levels):
    value = {"name": "leaf", "type": "string", "values": None}
    for i in range(levels):
        value = {"name": f"n{i}", "type": "T", "values": [value]}
    return value


def strange():
    """Name of a case: what it changes of a service that is not strange."""
    endpoint = {"name": "E", "request": None, "response": None,
                "metadata": None}
    return {
        "no metadata": {"nodes": {"metadata": None}},
        "empty metadata": {"nodes": {"metadata": {}}},
        "empty value": {"nodes": {"metadata": {"empty": ""}}},
        "quotes in a value": {"nodes": {"metadata": {"q": QUOTES + CONTROL}}},
        "quotes in a version": {"version": QUOTES},
        "no version": {"version": ""},
        "no endpoints": {"endpoints": None},
        "quotes in an endpoint": {"endpoints": [
            {**endpoint, "name": QUOTES,
             "metadata": {QUOTES: QUOTES + CONTROL}}]},
        "200 endpoints": {"endpoints": [
            {**endpoint, "name": f"Say.E{i}", "request": deep(8)}
            for i in range(200)]},
        "deep values": {"endpoints": [{**endpoint, "request": deep(10)}]},
        "64 pairs of 512 bytes": {"nodes": {"metadata": {
            f"key-{i}": f"{i % 10}" * 512 for i in range(64)}}},
        "long name of a node": {"nodes": {"id": "n" * 140}},
        "IPv6": {"nodes": {"address": "[2001:db8::7]:9090"}},
        "host name": {"nodes": {"address": "greeter.example.com:80"}},
    }


def changed(name, case):
    """The service of that name with the changes of a case."""
    made = service(name, f"{name}-1")
    for member, value in case.items():
        if member == "nodes":
            made["nodes"][0].update(value)
        else:
            made[member] = value
    return made


@pytest.fixture(scope="module")
def everybody(shared):
    """A program of each kind, each with all addresses."""
    made = {}
    for kind, how in MAKERS.items():
        maker, *arguments = how(addresses(shared))
        made[kind] = maker(*arguments)
    yield made
    for program in made.values():
        program.kill()


def cannot_tell(kind, made):
    """Whether the plugin's watcher has no way to tell all of the service: 16 KiB
    is the limit of proxy's, and v2's of consul forgets the brackets of IPv6."""
    return (kind == "proxy" and len(json.dumps(made)) > 10000) or (
        kind == "consul2" and "[" in made["nodes"][0]["address"])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("case", strange())
def test_what_is_strange_looks_the_same_from_every_side(
        everybody, maker, case):
    made = changed(f"{maker}.{case.replace(' ', '-')}", strange()[case])
    watched = [everybody[kind].watch(made["name"]) for kind in WATCHERS]
    everybody[maker].register(made, 30)
    for program in everybody.values():
        seen = program.get(made["name"])
        assert comparable(seen) == comparable([made]), program.name
    for kind, watcher in zip(WATCHERS, watched):
        event = watcher.node(made["nodes"][0]["id"])
        if not cannot_tell(kind, made):
            assert comparable([event["service"]]) == comparable([made]), kind
    everybody[maker].deregister(made)
    for kind, watcher in zip(WATCHERS, watched):
        event = watcher.node(made["nodes"][0]["id"], ["delete"])
        assert event["service"]["version"] == made["version"], kind
        watcher.stop()
    eventually(lambda: not any(
        s["nodes"] for s in everybody["http"].get(made["name"])), "it is gone")


@pytest.mark.parametrize("maker", MAKERS)
def test_what_cannot_be_registered_is_refused_in_words(everybody, maker):
    name = f"{maker}.refused"
    made = service(name, f"{name}-1")
    with pytest.raises(Refused, match="(?i)node"):
        everybody[maker].register({**made, "nodes": []}, 30)
    huge = changed(name, {"nodes": {"metadata": {
        f"k{i}": random.randbytes(2000).hex() for i in range(1000)}}})
    with pytest.raises(Refused):
        everybody[maker].register(huge, 30)
    assert not everybody["http"].get(name)
    everybody[maker].register(made, 30)
    assert comparable(everybody["consul5"].get(name)) == comparable([made])


@pytest.mark.parametrize("maker", ["microreg", "pure", "proxy", "http"])
@pytest.mark.parametrize("what, case", [
    ("port", {"nodes": {"address": "10.0.0.7"}}),
    ("control", {"version": CONTROL}),
    ("address", {"nodes": {"address": "0.0.0.0:80"}})])
def test_what_the_native_registry_refuses_it_names(
        everybody, maker, what, case):
    made = changed(f"{maker}.named", case)
    with pytest.raises(Refused, match=what):
        everybody[maker].register(made, 30)
    assert not everybody["http"].get(made["name"])


def test_bytes_that_are_no_text_are_refused(shared):
    body = json.dumps(service("no.text", "no.text-1")).encode()
    for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        answer = request(shared[0].address, "POST", "/registry?ttl=30s",
                         body.replace(b"mucp", bad))
        assert answer.status == 400, answer
        assert "invalid JSON" in answer.text, answer


def tag(kind, plain):
    """A tag of the consul plugin's that holds what it likes."""
    return f"{kind}-{zlib.compress(plain).hex()}"


TAGS = {
    "version that is no text": [tag("v", b"\xff\xfe1")],
    "version with an end in it": [tag("v", b"1\0002")],
    "metadata that is no text": [tag("t", b'{"a":"\xff\xfe"}')],
    "metadata that is no JSON": [tag("t", b'{"a":'), tag("e", b"[]")],
    "metadata of other types": [tag("t", b'{"a":{"b":[1]},"c":null}')],
    "endpoint that is no text": [tag("e", b'{"name":"\xff"}')],
    "endpoint that is deep": [tag("e", json.dumps(
        {"name": "deep", "request": deep(400)}).encode())],
    "stream that is cut": [tag("v", b"12345")[:-8], tag("e", b"{}")[:-6]],
    "digits that are none": ["v-xyz", "t-", "e-7", "v="],
    "tag that unpacks to a megabyte": [tag("t", json.dumps(
        {"a": "x" * 1000000}).encode())],
    "old form": ['t={"a":"b"}', 'e={"name":"E"}', "v=1.0"],
}


@pytest.mark.parametrize("case", TAGS)
def test_tags_of_any_content_hide_nobody(everybody, shared, case):
    """Whatever one instance's tags hold, it is listed with its address by
    everybody who can, and the instance beside it as it is."""
    name = f"tags.{case.replace(' ', '-')}"
    beside = service(name, f"{name}-1", version="beside")
    everybody["consul5"].register(beside, 30)
    shared[0].register(name, 4711, ID=f"{name}-2", Address="10.0.0.8",
                       Tags=TAGS[case])
    for kind, program in everybody.items():
        seen = eventually(lambda: program.get(name), f"{name} for {kind}")
        nodes = {n["id"]: n["address"] for s in seen for n in s["nodes"]}
        assert nodes == {f"{name}-1": "10.0.0.7:9090",
                         f"{name}-2": "10.0.0.8:4711"}, kind
        assert comparable([s for s in seen if s["version"] == "beside"]) == \
            comparable([beside]), kind
        assert name in program.list()
