/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns/answer, dns/responder and dns/cache: packets in, packets out, over a real
 * store. What is expected is what Consul 1.8 was recorded to answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "dns/responder.h"
#include "tests/unit/dns_message.h"
#include "tests/unit/dns_store.h"

#define NOW_S 1795224011

struct fixture {
    struct store store;
    struct dns_shared shared;
    struct dns_responder responder;
    bool has_leader;
    uint8_t out[DNS_TCP_MAX];
    size_t len;
    struct msg msg;
};

static uint64_t clock_ms(const struct mr_clock *clock)
{
    (void)clock;
    return (uint64_t)NOW_S * 1000;
}

static void fill_random(const struct mr_random *random, void *out, size_t len)
{
    (void)random;
    memset(out, 7, len);
}

static const struct mr_clock fake_clock = {clock_ms, clock_ms};
static const struct mr_random fake_random = {fill_random};

static bool has_leader(void *arg)
{
    return ((struct fixture *)arg)->has_leader;
}

static int set_up(void **state)
{
    static const char *const alt[] = {"consul"};
    struct mr_dns_options o = {.domain = "micro",
                               .alt_domains = alt,
                               .n_alt_domains = 1,
                               .datacenter = "dc1",
                               .node_name = "n1"};
    struct fixture *f = calloc(1, sizeof *f);
    struct reg n1 = {.node = "n1",
                     .address = "127.0.0.1",
                     .service = "web",
                     .port = 8080,
                     .tag = "v1",
                     .meta_key = "consul-network-segment",
                     .meta_value = "",
                     .weight_passing = 10,
                     .weight_warning = 2};

    if (f == NULL || !store_open(&f->store) ||
        dns_config_init(&f->shared.config, &o, NULL) != MR_OK) {
        return -1;
    }
    f->has_leader = true;
    f->shared.kv = f->store.kv;
    f->shared.clock = &fake_clock;
    f->shared.random = &fake_random;
    f->shared.has_leader = has_leader;
    f->shared.arg = f;
    *state = f;
    return dns_responder_init(&f->responder, &f->shared) == MR_OK &&
                   store_register(&f->store, &n1)
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    dns_responder_deinit(&f->responder);
    dns_config_deinit(&f->shared.config);
    store_close(&f->store);
    free(f);
    return 0;
}

static void reg(struct fixture *f, struct reg r)
{
    assert_true(store_register(&f->store, &r));
}

/* Ask and take the answer apart; the flags of what came back. */
static unsigned ask_with(struct fixture *f, const struct ask *a, bool is_tcp)
{
    uint8_t packet[512];
    size_t len = msg_query(a, packet);

    f->len = dns_respond(&f->responder, mr_slice(packet, len), is_tcp, f->out);
    assert_true(f->len >= DNS_HEADER_LEN);
    assert_true(msg_parse(f->out, f->len, &f->msg));
    assert_int_equal(f->msg.id, 0x1234);
    return f->msg.flags;
}

static unsigned ask(struct fixture *f, const char *name, uint16_t type)
{
    struct ask a = {.name = name, .type = type, .edns = 1232};

    return ask_with(f, &a, false);
}

#define OK 0x8400u       /* QR, AA, NOERROR. */
#define NXDOMAIN 0x8403u /* QR, AA. */

static void assert_line(const struct fixture *f, unsigned section,
                        const char *line)
{
    if (!msg_has(&f->msg, section, line)) {
        for (size_t i = 0; i < f->msg.n_lines; i++) {
            print_message("%u: %s\n", f->msg.section[i], f->msg.lines[i]);
        }
        fail_msg("missing in section %u: %s", section, line);
    }
}

static void assert_counts(const struct fixture *f, unsigned answers,
                          unsigned authority, unsigned additional)
{
    assert_int_equal(f->msg.counts[1], answers);
    assert_int_equal(f->msg.counts[2], authority);
    assert_int_equal(f->msg.counts[3] - f->msg.has_opt, additional);
}

/* ------------------------------------------------------------- services */

/* SRV names the node, with its address and metadata in the additionals. */
static void srv_names_the_node(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    assert_counts(f, 1, 0, 2);
    assert_line(f, 1, "web.service.micro. 0 SRV 1 10 8080 n1.node.dc1.micro.");
    assert_line(f, 3, "n1.node.dc1.micro. 0 A 127.0.0.1");
    assert_line(f, 3, "n1.node.dc1.micro. 0 TXT \"consul-network-segment=\"");
}

/* A question in `consul` is answered with names in `consul`. */
static void names_are_in_the_zone_that_was_asked(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "web.service.consul", 33), OK);
    assert_line(f, 1,
                "web.service.consul. 0 SRV 1 10 8080 n1.node.dc1.consul.");
    assert_line(f, 3, "n1.node.dc1.consul. 0 A 127.0.0.1");
}

/* Tags, RFC 2782 and the datacenter lead to the same service. */
static void every_form_of_the_name_leads_there(void **state)
{
    static const char *const names[] = {
        "v1.web.service.micro",   "V1.WEB.service.micro",
        "web.service.dc1.micro",  "_web._tcp.service.micro",
        "_web._v1.service.micro", "_WEB._TCP.service.dc1.micro",
        "_web._tcp.micro",        "v1.web.service.dc1.micro"};
    static const char *const others[] = {
        "v2.web.service.micro",      "_web._udp.service.micro",
        "_web._tcp.x.service.micro", "web._tcp.service.micro",
        "_web.service.micro",        "web.service.dc9.micro",
        "a.b.web.service.micro",     "nosuch.service.micro"};
    struct fixture *f = *state;

    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(ask(f, names[i], 33), OK);
        assert_counts(f, 1, 0, 2);
        assert_int_equal(ask(f, others[i], 33), NXDOMAIN);
        assert_counts(f, 0, 1, 0);
    }
}

/* A, ANY and TXT give the address; the rest is NODATA with the SOA. */
static void other_types_of_a_service(void **state)
{
    static const uint16_t nodata[] = {28, 15, 5, 12, 65, 65280, 251};
    struct fixture *f = *state;

    for (uint16_t type = 1; type < 256; type = type == 1 ? 16 : 255) {
        assert_int_equal(ask(f, "web.service.micro", type), OK);
        assert_counts(f, 1, 0, 0);
        assert_line(f, 1, "web.service.micro. 0 A 127.0.0.1");
        if (type == 255) {
            break;
        }
    }
    for (size_t i = 0; i < sizeof nodata / sizeof nodata[0]; i++) {
        assert_int_equal(ask(f, "web.service.micro", nodata[i]), OK);
        assert_counts(f, 0, 1, 0);
        assert_line(f, 2, "micro. 0 SOA ns.micro. hostmaster.micro.");
    }
}

/* A service with an address of its own has a target that spells it. */
static void own_addresses_become_addr_targets(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "e2",
                        .address = "10.1.1.2",
                        .service = "db",
                        .service_address = "10.9.9.2",
                        .port = 5433,
                        .meta_key = "k",
                        .meta_value = "v"});
    reg(f, (struct reg){.node = "e3",
                        .address = "10.1.1.3",
                        .service = "six",
                        .service_address = "fd00::1",
                        .port = 6});
    assert_int_equal(ask(f, "db.service.micro", 33), OK);
    assert_counts(f, 1, 0, 1);
    assert_line(f, 1,
                "db.service.micro. 0 SRV 1 1 5433 0a090902.addr.dc1.micro.");
    assert_line(f, 3, "0a090902.addr.dc1.micro. 0 A 10.9.9.2");
    assert_int_equal(ask(f, "six.service.micro", 33), OK);
    assert_line(f, 3,
                "fd000000000000000000000000000001.addr.dc1.micro. 0 AAAA "
                "fd00::1");
    assert_int_equal(ask(f, "six.service.micro", 28), OK);
    assert_line(f, 1, "six.service.micro. 0 AAAA fd00::1");
}

/* Critical instances are left out, warning ones carry their weight. */
static void health_decides_who_is_named(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "c1",
                        .address = "10.0.0.1",
                        .service = "bad",
                        .status = "critical"});
    reg(f, (struct reg){.node = "c2",
                        .address = "10.0.0.2",
                        .service = "sick",
                        .node_status = "critical"});
    reg(f, (struct reg){.node = "w1",
                        .address = "10.0.0.3",
                        .service = "warn",
                        .port = 2,
                        .status = "warning",
                        .weight_passing = 7,
                        .weight_warning = 3});
    assert_int_equal(ask(f, "bad.service.micro", 1), NXDOMAIN);
    assert_int_equal(ask(f, "bad.service.micro", 33), NXDOMAIN);
    assert_int_equal(ask(f, "sick.service.micro", 33), NXDOMAIN);
    assert_int_equal(ask(f, "c1.node.micro", 1), OK);
    assert_int_equal(ask(f, "warn.service.micro", 33), OK);
    assert_line(f, 1, "warn.service.micro. 0 SRV 1 3 2 w1.node.dc1.micro.");
    f->shared.config.only_passing = true;
    reg(f, (struct reg){.node = "w1", .address = "10.0.0.4"});
    assert_int_equal(ask(f, "warn.service.micro", 33), NXDOMAIN);
}

/* Ports and weights are cut to what DNS can say. */
static void numbers_are_cut_to_sixteen_bits(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "n2",
                        .address = "10.0.0.2",
                        .service = "neg",
                        .port = 65616,
                        .weight_passing = 100000,
                        .weight_warning = 1});
    assert_int_equal(ask(f, "neg.service.micro", 33), OK);
    assert_line(f, 1, "neg.service.micro. 0 SRV 1 65535 80 n2.node.dc1.micro.");
}

/* One record per address, but one service record per instance. */
static void addresses_are_given_once(void **state)
{
    struct fixture *f = *state;

    for (int i = 1; i < 3; i++) {
        reg(f, (struct reg){.node = "e1",
                            .address = "10.1.1.1",
                            .service = "dup",
                            .id = i == 1 ? "dup1" : "dup2",
                            .port = i});
    }
    assert_int_equal(ask(f, "dup.service.micro", 1), OK);
    assert_counts(f, 1, 0, 0);
    assert_int_equal(ask(f, "dup.service.micro", 33), OK);
    assert_counts(f, 2, 0, 2);
}

/* An address that is a name: CNAME for addresses, target for SRV. */
static void host_names_become_cnames(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "e3",
                        .address = "db3.example.com",
                        .service = "ext",
                        .port = 443});
    assert_int_equal(ask(f, "ext.service.micro", 28), OK);
    assert_counts(f, 1, 0, 0);
    assert_line(f, 1, "ext.service.micro. 0 CNAME db3.example.com.");
    assert_int_equal(ask(f, "ext.service.micro", 33), OK);
    assert_counts(f, 1, 0, 0);
    assert_line(f, 1, "ext.service.micro. 0 SRV 1 1 443 db3.example.com.");
    assert_int_equal(ask(f, "e3.node.micro", 1), OK);
    assert_line(f, 1, "e3.node.micro. 0 CNAME db3.example.com.");
}

/* An address that is neither an address nor a name gives no record. */
static void an_address_that_dns_cannot_say_is_nodata(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "c1",
                        .address = "10.0.0.1",
                        .service = "odd",
                        .service_address = "a..b"});
    assert_int_equal(ask(f, "odd.service.micro", 1), OK);
    assert_counts(f, 0, 1, 0);
    assert_int_equal(ask(f, "odd.service.micro", 33), OK);
    assert_counts(f, 0, 1, 0);
}

/* A CNAME into our own zones is followed, round and round only so far. */
static void cnames_of_ours_are_followed(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "c1",
                        .address = "10.0.0.1",
                        .service = "alias",
                        .service_address = "web.service.consul"});
    reg(f, (struct reg){.node = "c2",
                        .address = "10.0.0.2",
                        .service = "loop",
                        .service_address = "loop.service.micro"});
    assert_int_equal(ask(f, "alias.service.micro", 1), OK);
    assert_counts(f, 2, 0, 0);
    assert_string_equal(f->msg.lines[0],
                        "alias.service.micro. 0 CNAME web.service.consul.");
    assert_string_equal(f->msg.lines[1], "web.service.consul. 0 A 127.0.0.1");
    assert_int_equal(ask(f, "loop.service.micro", 1), OK);
    assert_in_range(f->msg.counts[1], 1, 4);
}

/* The longest registered name wins over a tag; without it, the tag counts. */
static void dotted_service_names_are_found(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "g1",
                        .address = "10.0.0.1",
                        .service = "greeter",
                        .tag = "go.micro.srv",
                        .port = 1});
    assert_int_equal(ask(f, "go.micro.srv.greeter.service.micro", 33), OK);
    assert_line(f, 3, "g1.node.dc1.micro. 0 A 10.0.0.1");
    reg(f, (struct reg){.node = "g2",
                        .address = "10.0.0.2",
                        .service = "go.micro.srv.greeter",
                        .tag = "v2",
                        .port = 2});
    assert_int_equal(ask(f, "go.micro.srv.greeter.service.micro", 33), OK);
    assert_counts(f, 1, 0, 1);
    assert_line(f, 3, "g2.node.dc1.micro. 0 A 10.0.0.2");
    assert_int_equal(ask(f, "v2.go.micro.srv.greeter.service.micro", 33), OK);
    assert_int_equal(ask(f, "_go.micro.srv.greeter._v2.service.micro", 33), OK);
    assert_true(store_deregister(&f->store, "g2"));
    assert_int_equal(ask(f, "go.micro.srv.greeter.service.micro", 33), OK);
    assert_line(f, 3, "g1.node.dc1.micro. 0 A 10.0.0.1");
}

/* A node whose name is no DNS name is named by its address. */
static void a_node_that_dns_cannot_name_is_named_by_address(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "bad..name",
                        .address = "10.0.0.9",
                        .service = "odd",
                        .port = 9});
    assert_int_equal(ask(f, "odd.service.micro", 33), OK);
    assert_line(f, 1,
                "odd.service.micro. 0 SRV 1 1 9 0a000009.addr.dc1.micro.");
    assert_line(f, 3, "0a000009.addr.dc1.micro. 0 A 10.0.0.9");
}

/* ------------------------------------------------------------- the rest */

/* Nodes: the address, metadata beside it, NODATA without a SOA. */
static void nodes_answer_as_recorded(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "N1.node.micro", 1), OK);
    assert_counts(f, 1, 0, 1);
    assert_line(f, 1, "N1.node.micro. 0 A 127.0.0.1");
    assert_line(f, 3, "N1.node.micro. 0 TXT \"consul-network-segment=\"");
    assert_int_equal(ask(f, "n1.node.micro", 28), OK);
    assert_counts(f, 0, 0, 1);
    assert_int_equal(ask(f, "n1.node.micro", 16), OK);
    assert_counts(f, 1, 0, 0);
    assert_int_equal(ask(f, "n1.node.micro", 255), OK);
    assert_counts(f, 2, 0, 0);
    assert_int_equal(ask(f, "n1.node.micro", 33), OK);
    assert_counts(f, 0, 0, 0);
    assert_int_equal(ask(f, "nosuch.node.micro", 1), NXDOMAIN);
    assert_counts(f, 0, 1, 0);
    f->shared.config.node_meta_txt = false;
    f->shared.config.node_ttl_s = 12;
    reg(f, (struct reg){.node = "n1",
                        .address = "127.0.0.1",
                        .meta_key = "RFC1035-x",
                        .meta_value = "y z"});
    assert_int_equal(ask(f, "n1.node.micro", 1), OK);
    assert_counts(f, 1, 0, 0);
    assert_int_equal(ask(f, "n1.node.micro", 16), OK);
    assert_line(f, 1, "n1.node.micro. 12 TXT \"y z\"");
}

/* Names that spell addresses are answered in lower case, whatever is asked. */
static void spelled_addresses_are_answered(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "0A010101.addr.dc9.micro", 33), OK);
    assert_line(f, 1, "0a010101.addr.dc9.micro. 0 A 10.1.1.1");
    assert_int_equal(ask(f, "0a0101.addr.micro", 1), OK);
    assert_counts(f, 0, 0, 0);
    assert_int_equal(ask(f, "zz010101.addr.micro", 1), NXDOMAIN);
}

/* SOA and NS name the servers, or at least this one, for any name. */
static void soa_and_ns_name_the_servers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "nosuch.service.micro", 6), OK);
    assert_counts(f, 1, 1, 1);
    assert_line(f, 1, "micro. 0 SOA ns.micro. hostmaster.micro.");
    assert_line(f, 2, "micro. 0 NS n1.node.dc1.micro.");
    assert_line(f, 3, "n1.node.dc1.micro. 0 A 127.0.0.1");
    for (int i = 0; i < 5; i++) {
        char node[] = {'s', (char)('0' + i), '\0'};

        reg(f, (struct reg){.node = node,
                            .address = "127.0.0.9",
                            .service = "consul",
                            .node_status = i == 0 ? "critical" : NULL});
    }
    assert_int_equal(ask(f, "consul", 2), OK);
    assert_counts(f, 3, 0, 3);
    assert_line(f, 1, "consul. 0 NS s1.node.dc1.consul.");
}

/* PTR names the node, else the service; others' addresses are not ours. */
static void reverse_names_are_answered(void **state)
{
    struct fixture *f = *state;

    reg(f, (struct reg){.node = "e2",
                        .address = "10.1.1.2",
                        .service = "db",
                        .service_address = "10.9.9.2"});
    assert_int_equal(ask(f, "1.0.0.127.in-addr.arpa", 1), OK);
    assert_line(f, 1, "1.0.0.127.in-addr.arpa. 0 PTR n1.node.dc1.consul.");
    assert_int_equal(ask(f, "2.9.9.10.in-addr.arpa", 12), OK);
    assert_line(f, 1, "2.9.9.10.in-addr.arpa. 0 PTR db.service.dc1.consul.");
    assert_int_equal(ask(f, "9.9.9.10.in-addr.arpa", 12), 0x8082);
    assert_int_equal(ask(f, "foo.in-addr.arpa", 12), 0x8082);
    assert_counts(f, 0, 0, 0);
    assert_true(f->msg.has_opt);
}

/* Not our zones, and transfers: refused without records. */
static void what_is_not_ours_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "example.com", 1), 0x8005);
    assert_false(f->msg.has_opt);
    assert_int_equal(ask(f, "version.bind", 16), 0x8005);
    assert_int_equal(ask(f, ".", 2), 0x8005);
    assert_int_equal(ask(f, "xmicro", 1), 0x8005);
    assert_int_equal(ask(f, "web.service.micro", 252), 0x8404);
    assert_counts(f, 0, 0, 0);
    assert_int_equal(f->responder.counters.refused, 4);
}

/* Without a leader answers go on and say so to who can hear it. */
static void answers_without_a_leader_say_so(void **state)
{
    struct fixture *f = *state;
    struct ask plain = {.name = "web.service.micro", .type = 33};

    f->has_leader = false;
    dns_responder_look(&f->responder);
    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    assert_int_equal(f->msg.options_len, 6);
    assert_memory_equal(f->msg.options, "\0\17\0\2\0\3", 6);
    assert_int_equal(ask_with(f, &plain, false), OK);
    assert_counts(f, 1, 0, 2);
    f->has_leader = true;
    dns_responder_look(&f->responder);
    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    assert_int_equal(f->msg.options_len, 0);
}

/* ------------------------------------------------------------- the cache */

/* The second answer comes from the cache, the first after a change does not,
 * and what else changes does not matter. */
static void an_answer_is_kept_until_its_service_changes(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    assert_int_equal(ask(f, "WEB.service.micro", 33), OK);
    assert_int_equal(f->responder.counters.cache_hits, 1);
    assert_line(f, 1, "WEB.service.micro. 0 SRV 1 10 8080 n1.node.dc1.micro.");
    reg(f, (struct reg){.node = "n2", .address = "10.0.0.2", .service = "x"});
    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    assert_int_equal(f->responder.counters.cache_hits, 2);
    reg(f,
        (struct reg){
            .node = "n2", .address = "10.0.0.2", .service = "web", .port = 7});
    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    assert_int_equal(f->responder.counters.cache_hits, 2);
    assert_counts(f, 2, 0, 3);
    assert_true(store_deregister(&f->store, "n2"));
    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    assert_counts(f, 1, 0, 2);
}

/* A node's new address and metadata show at once. */
static void an_answer_is_kept_until_its_node_changes(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "n1.node.micro", 1), OK);
    assert_int_equal(ask(f, "web.service.micro", 1), OK);
    reg(f, (struct reg){.node = "n1", .address = "127.0.0.2"});
    assert_int_equal(ask(f, "n1.node.micro", 1), OK);
    assert_line(f, 1, "n1.node.micro. 0 A 127.0.0.2");
    assert_int_equal(ask(f, "web.service.micro", 1), OK);
    assert_line(f, 1, "web.service.micro. 0 A 127.0.0.2");
    reg(f, (struct reg){.node = "n1",
                        .address = "127.0.0.2",
                        .node_status = "critical"});
    assert_int_equal(ask(f, "web.service.micro", 1), NXDOMAIN);
    assert_int_equal(f->responder.counters.cache_hits, 0);
}

/* Names that do not exist are not kept, so they cannot push others out. */
static void made_up_names_do_not_fill_the_cache(void **state)
{
    struct fixture *f = *state;
    char name[64];

    assert_int_equal(ask(f, "web.service.micro", 33), OK);
    for (unsigned i = 0; i < 5000; i++) {
        sprintf(name, "made-up-%u.service.micro", i);
        assert_int_equal(ask(f, name, 33), NXDOMAIN);
    }
    assert_int_equal(dns_cache_entries(f->responder.cache), 1);
}

/* Types that have no answer of their own share a place in the cache. */
static void made_up_types_do_not_fill_the_cache(void **state)
{
    struct fixture *f = *state;

    for (unsigned type = 1; type < 20000; type++) {
        (void)ask(f, "web.service.micro", (uint16_t)type);
    }
    /* A, AAAA, SRV, TXT, ANY and all others; NS, SOA, AXFR are not kept. */
    assert_int_equal(dns_cache_entries(f->responder.cache), 6);
    assert_int_equal(ask(f, "web.service.micro", 2), OK);
    assert_line(f, 1, "micro. 0 NS n1.node.dc1.micro.");
}

/* The cache is bounded in entries and bytes, and still works when full. */
static void the_cache_is_bounded(void **state)
{
    struct fixture *f = *state;
    char texts[4500];
    char name[64];

    memset(texts, 't', sizeof texts);
    texts[sizeof texts - 1] = '\0';
    for (unsigned i = 0; i < 1500; i++) {
        sprintf(name, "x%u", i);
        reg(f, (struct reg){.node = name,
                            .address = "10.0.0.1",
                            .meta_key = "k",
                            .meta_value = i < 750 ? texts : "v"});
    }
    for (unsigned i = 0; i < 6000; i++) {
        sprintf(name, "x%u.node.%s", i % 1500, i < 3000 ? "micro" : "consul");
        assert_int_equal(ask(f, name, i % 3000 < 1500 ? 1 : 28), OK);
    }
    assert_in_range(dns_cache_entries(f->responder.cache), 700, 4096);
    assert_in_range(dns_cache_bytes(f->responder.cache), 1 << 20, 4 << 20);
    (void)ask(f, "web.service.micro", 33);
    (void)ask(f, "web.service.micro", 33);
    assert_int_equal(f->responder.counters.cache_hits, 1);
    assert_counts(f, 1, 0, 2);
}

/* ------------------------------------------------------------- failure */

/* Whichever allocation fails, there is an answer: the right one or SERVFAIL. */
static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    unsigned n_failed = 0;
    unsigned flags;

    for (unsigned n = 0; n < 60; n++) {
        dns_responder_deinit(&f->responder);
        assert_int_equal(dns_responder_init(&f->responder, &f->shared), MR_OK);
        mr_mem_fail_after(n);
        flags = ask(f, "web.service.micro", 33);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(flags == OK || flags == (OK | DNS_SERVFAIL));
        assert_int_equal(f->msg.counts[1], flags == OK ? 1 : 0);
        n_failed += flags != OK;
    }
    assert_true(n_failed > 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(srv_names_the_node),
        CASE(names_are_in_the_zone_that_was_asked),
        CASE(every_form_of_the_name_leads_there),
        CASE(other_types_of_a_service),
        CASE(own_addresses_become_addr_targets),
        CASE(health_decides_who_is_named),
        CASE(numbers_are_cut_to_sixteen_bits),
        CASE(addresses_are_given_once),
        CASE(host_names_become_cnames),
        CASE(an_address_that_dns_cannot_say_is_nodata),
        CASE(cnames_of_ours_are_followed),
        CASE(dotted_service_names_are_found),
        CASE(a_node_that_dns_cannot_name_is_named_by_address),
        CASE(nodes_answer_as_recorded),
        CASE(spelled_addresses_are_answered),
        CASE(soa_and_ns_name_the_servers),
        CASE(reverse_names_are_answered),
        CASE(what_is_not_ours_is_refused),
        CASE(answers_without_a_leader_say_so),
        CASE(an_answer_is_kept_until_its_service_changes),
        CASE(an_answer_is_kept_until_its_node_changes),
        CASE(made_up_names_do_not_fill_the_cache),
        CASE(made_up_types_do_not_fill_the_cache),
        CASE(the_cache_is_bounded),
        CASE(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("dns_answer", tests, NULL, NULL);
}
