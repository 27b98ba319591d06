# SPDX-License-Identifier: Apache-2.0
"""DNS on real servers: what needs several of them, or a real client."""

import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename

from cluster import DNS_PORT, eventually
from test_cluster import ask, dig, targets

STALE_ANSWER = b"\x00\x03"  # RFC 8914
EDE = 15


def says_stale(message):
    return any(o.otype == EDE and o.to_wire()[:2] == STALE_ANSWER
               for o in message.options)


def test_without_quorum_every_name_is_answered_and_marked_stale(cluster):
    cluster[0].register("still", 7)
    eventually(lambda: all(targets(ask(s, "still.service.micro", use_edns=0))
                           for s in cluster), "still resolved everywhere")
    survivor = cluster.followers()[0]
    for server in cluster:
        if server is not survivor:
            server.kill()
    eventually(lambda: says_stale(ask(survivor, "still.service.micro",
                                      use_edns=0)), "the answer says stale")
    for name, kind in (("still.service.micro", "SRV"), ("still.service.micro", "A"),
                       ("n1.node.micro", "A"), ("micro", "SOA"), ("micro", "NS"),
                       ("nosuch.service.micro", "A")):
        message = ask(survivor, name, kind, use_edns=0)
        assert message.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN), name
        assert says_stale(message), name
        assert not ask(survivor, name, kind).options, "EDNS was not asked for"
    for server in cluster:
        if server is not survivor:
            server.start()
    eventually(lambda: not says_stale(ask(survivor, "still.service.micro",
                                          use_edns=0)), "fresh again")


def test_names_in_the_answer_are_in_the_zone_of_the_question(shared):
    shared[0].register("zoned", 7)
    eventually(lambda: all(targets(ask(s, "zoned.service.micro")) for s in shared),
               "zoned resolved")
    for server in shared:
        assert targets(ask(server, "zoned.service.micro")) == [
            (7, "n1.node.dc1.micro.")]
        assert targets(ask(server, "zoned.service.consul")) == [
            (7, "n1.node.dc1.consul.")]
        name = dns.reversename.from_address(shared[0].address)
        message = ask(server, name, "PTR")
        assert message.answer[0][0].target.to_text() == "n1.node.dc1.consul."
    shared[0].put("/v1/agent/service/deregister/zoned")


def test_the_zone_names_all_servers(shared):
    for server in shared:
        message = ask(server, "micro", "NS")
        names = {r.target.to_text() for r in message.answer[0]}
        assert names == {f"n{i}.node.dc1.micro." for i in (1, 2, 3)}
        assert len(message.additional) == 3


def test_dig_understands_answers_to_all_it_can_ask(shared):
    shared[0].register("forms", 7)
    eventually(lambda: all(targets(ask(s, "forms.service.micro")) for s in shared),
               "forms resolved")
    for words in ((), ("+noedns",), ("+tcp",), ("+bufsize=512",), ("+bufsize=4096",),
                  ("+dnssec",), ("+nsid",), ("+cookie",), ("+subnet=10.0.0.0/24",),
                  ("+edns=1", "+noednsneg"), ("+norecurse",), ("+cdflag",),
                  ("+noadflag",), ("+keepalive", "+tcp"), ("+padding=128",)):
        out = dig(shared[1], *words, "forms.service.micro", "srv")
        assert "status: NOERROR" in out, words
        assert "1 1 7 n1.node.dc1.micro." in out, words
        assert "malformed" not in out.lower(), words
        assert "warning: extra" not in out.lower(), words
    shared[0].put("/v1/agent/service/deregister/forms")


def test_a_service_with_a_dotted_name_is_found(shared):
    shared[0].register("go.micro.srv.greeter", 7, Tags=["v1"])
    for name in ("go.micro.srv.greeter.service.micro",
                 "v1.go.micro.srv.greeter.service.consul",
                 "_go.micro.srv.greeter._tcp.service.micro"):
        for server in shared:
            eventually(lambda s=server, n=name: [p for p, _ in targets(ask(s, n))]
                       == [7], f"{name} resolved")
    shared[0].put("/v1/agent/service/deregister/go.micro.srv.greeter")
