/* SPDX-License-Identifier: Apache-2.0 */
/* dns/name and dns/config: what a name asks for, and in which zone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "dns/name.h"
#include "tests/unit/dns_message.h"

static struct dns_config config;

static int set_up(void **state)
{
    static const char *const alt[] = {"consul", "alt.micro"};
    struct mr_dns_options o = {.domain = "micro",
                               .alt_domains = alt,
                               .n_alt_domains = 2,
                               .datacenter = "dc1",
                               .node_name = "n1"};

    (void)state;
    return dns_config_init(&config, &o, NULL) == MR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    dns_config_deinit(&config);
    return 0;
}

static struct dns_name name_of(const char *text)
{
    uint8_t wire[300];
    struct dns_name name;
    size_t len = (size_t)(msg_put_name(wire, text) - wire);

    assert_int_equal(dns_name_parse(mr_slice(wire, len), &name, NULL), MR_OK);
    return name;
}

static struct dns_ask ask(const char *text, uint16_t type)
{
    struct dns_name name = name_of(text);
    struct dns_ask a;

    dns_ask_parse(&name, dns_config_zone(&config, &name), "dc1", type, &a);
    return a;
}

/* ------------------------------------------------------------- success */

/* The labels in front of `service` are candidates, the longest name first. */
static void a_service_has_candidates(void **state)
{
    struct dns_ask a = ask("Go.Micro.Srv.greeter.service.micro", 33);

    (void)state;
    assert_int_equal(a.kind, DNS_KIND_SERVICE);
    assert_int_equal(a.n_candidates, 4);
    assert_string_equal(a.text, "go.micro.srv.greeter");
    assert_string_equal(a.text + a.candidate_at[0], "go.micro.srv.greeter");
    assert_string_equal(a.text + a.candidate_at[1], "micro.srv.greeter");
    assert_string_equal(a.text + a.candidate_at[3], "greeter");
}

/* One datacenter label may follow, and only ours. */
static void the_datacenter_is_ours_or_none(void **state)
{
    (void)state;
    assert_int_equal(ask("web.service.dc1.micro", 1).kind, DNS_KIND_SERVICE);
    assert_int_equal(ask("web.service.DC1.micro", 1).kind, DNS_KIND_SERVICE);
    assert_int_equal(ask("web.service.dc9.micro", 1).kind, DNS_KIND_NONE);
    assert_int_equal(ask("web.service.dc1.dc1.micro", 1).kind, DNS_KIND_NONE);
    assert_int_equal(ask("n1.node.dc9.micro", 1).kind, DNS_KIND_NONE);
    assert_int_equal(ask("0a010101.addr.dc9.micro", 1).kind, DNS_KIND_ADDRESS);
}

/* _NAME._TAG names both; _tcp is no tag, and NAME may have dots. */
static void rfc2782_names_are_understood(void **state)
{
    struct dns_ask a = ask("_web._v1.service.micro", 33);

    (void)state;
    assert_true(a.is_rfc2782);
    assert_string_equal(a.text + a.candidate_at[0], "web");
    assert_string_equal(a.rfc2782_tag, "v1");
    a = ask("_WEB._TCP.service.micro", 1);
    assert_string_equal(a.text + a.candidate_at[0], "web");
    assert_string_equal(a.rfc2782_tag, "");
    a = ask("_go.micro.greeter._tcp.service.micro", 33);
    assert_string_equal(a.text + a.candidate_at[0], "go.micro.greeter");
    assert_int_equal(a.n_candidates, 1);
}

/* For SRV the label `service` may be missing behind the RFC 2782 form. */
static void srv_needs_no_service_label(void **state)
{
    struct dns_ask a = ask("_web._tcp.micro", 33);

    (void)state;
    assert_int_equal(a.kind, DNS_KIND_SERVICE);
    assert_string_equal(a.text + a.candidate_at[0], "web");
    assert_int_equal(ask("_web._tcp.dc1.micro", 33).kind, DNS_KIND_SERVICE);
    assert_int_equal(ask("_web._tcp.micro", 1).kind, DNS_KIND_NONE);
    assert_int_equal(ask("web._tcp.micro", 33).kind, DNS_KIND_NONE);
}

/* Node names may have dots. */
static void nodes_are_named_whole(void **state)
{
    struct dns_ask a = ask("N.dot.node.dc1.micro", 1);

    (void)state;
    assert_int_equal(a.kind, DNS_KIND_NODE);
    assert_string_equal(a.text, "n.dot");
}

/* Eight or thirty-two digits are an address; other lengths are nothing. */
static void addresses_are_spelled_in_hex(void **state)
{
    struct dns_ask a = ask("0A0101ff.addr.micro", 1);

    (void)state;
    assert_int_equal(a.address_len, 4);
    assert_memory_equal(a.address, "\12\1\1\377", 4);
    a = ask("fd000000000000000000000000000001.addr.micro", 1);
    assert_int_equal(a.address_len, 16);
    assert_int_equal(a.address[15], 1);
    a = ask("0a0101.addr.micro", 1);
    assert_int_equal(a.kind, DNS_KIND_ADDRESS);
    assert_int_equal(a.address_len, 0);
}

/* Reverse names mean addresses in both families. */
static void reverse_names_are_addresses(void **state)
{
    struct dns_name v4 = name_of("4.3.2.1.in-addr.arpa");
    struct dns_name v6 =
        name_of("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
                "d.f.ip6.arpa");
    char text[INET6_ADDRSTRLEN];

    (void)state;
    assert_true(dns_name_is_reverse(&v4));
    assert_int_equal(dns_reverse_parse(&v4, text), MR_OK);
    assert_string_equal(text, "1.2.3.4");
    assert_int_equal(dns_reverse_parse(&v6, text), MR_OK);
    assert_string_equal(text, "fd00::1");
}

/* The longest zone wins; targets stay in the main zone but for consul. */
static void zones_are_found_and_answered_in_their_own_names(void **state)
{
    struct dns_name in_micro = name_of("x.micro");
    struct dns_name in_alt = name_of("x.alt.micro");
    struct dns_name in_consul = name_of("consul");
    struct dns_name outside = name_of("micro.example");

    (void)state;
    assert_ptr_equal(dns_config_zone(&config, &in_micro), &config.zones[0]);
    assert_ptr_equal(dns_config_zone(&config, &in_alt), &config.zones[2]);
    assert_ptr_equal(config.zones[2].names, &config.zones[0]);
    assert_ptr_equal(dns_config_zone(&config, &in_consul), &config.zones[1]);
    assert_ptr_equal(config.zones[1].names, &config.zones[1]);
    assert_ptr_equal(config.reverse, &config.zones[1]);
    assert_null(dns_config_zone(&config, &outside));
}

/* The exact name first, then the longest prefix, then the default. */
static void service_ttls_go_by_the_longest_match(void **state)
{
    static const struct mr_dns_service_ttl ttls[] = {
        {"*", 5}, {"web", 30}, {"db*", 7}, {"dbx*", 8}};
    struct mr_dns_options o = {.domain = "micro",
                               .datacenter = "dc1",
                               .node_name = "n1",
                               .service_ttls = ttls,
                               .n_service_ttls = 4};
    struct dns_config c;

    (void)state;
    assert_int_equal(dns_config_init(&c, &o, NULL), MR_OK);
    assert_int_equal(dns_config_service_ttl(&c, "web"), 30);
    assert_int_equal(dns_config_service_ttl(&c, "webs"), 5);
    assert_int_equal(dns_config_service_ttl(&c, "db"), 7);
    assert_int_equal(dns_config_service_ttl(&c, "dbx1"), 8);
    assert_int_equal(dns_config_service_ttl(&config, "web"), 0);
    assert_ptr_equal(c.reverse, &c.zones[0]);
    dns_config_deinit(&c);
}

/* ------------------------------------------------------------- failure */

/* What has none of the forms asks for nothing. */
static void other_names_ask_for_nothing(void **state)
{
    static const char *const names[] = {"micro",
                                        "service.micro",
                                        "node.micro",
                                        "addr.micro",
                                        "ns.micro",
                                        "dc1.micro",
                                        "x.connect.micro",
                                        "x.query.micro",
                                        "x.ingress.micro",
                                        "zz010101.addr.micro",
                                        "a.0a010101.addr.micro",
                                        "0a0101010.addr.micro"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        print_message("%s\n", names[i]);
        assert_int_equal(ask(names[i], 1).kind, DNS_KIND_NONE);
    }
}

/* A label with a dot or a NUL byte inside is no part of a joined name. */
static void labels_that_would_be_misread_ask_for_nothing(void **state)
{
    static const uint8_t dot[] = "\3a.b\7service\5micro";
    static const uint8_t nul[] = "\3a\0b\7service\5micro";
    struct dns_name name;
    struct dns_ask a;

    (void)state;
    assert_int_equal(dns_name_parse(mr_slice(dot, sizeof dot), &name, NULL),
                     MR_OK);
    dns_ask_parse(&name, &config.zones[0], "dc1", 1, &a);
    assert_int_equal(a.kind, DNS_KIND_NONE);
    assert_int_equal(dns_name_parse(mr_slice(nul, sizeof nul), &name, NULL),
                     MR_OK);
    dns_ask_parse(&name, &config.zones[0], "dc1", 1, &a);
    assert_int_equal(a.kind, DNS_KIND_NONE);
}

/* However many labels there are, the look-ups are bounded. */
static void candidates_are_bounded(void **state)
{
    struct dns_ask a = ask("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.service."
                           "micro",
                           33);

    (void)state;
    assert_int_equal(a.n_candidates, DNS_CANDIDATES_MAX);
    assert_string_equal(a.text + a.candidate_at[DNS_CANDIDATES_MAX - 1], "t");
}

/* Reverse names that spell no address are told apart. */
static void broken_reverse_names_are_refused(void **state)
{
    static const char *const names[] = {
        "foo.in-addr.arpa",        "1.2.3.in-addr.arpa",
        "1.2.3.256.in-addr.arpa",  "1.2.3.0x4.in-addr.arpa",
        "1.2.3.1234.in-addr.arpa", "5.4.3.2.1.in-addr.arpa",
        "1.2.3.4.ip6.arpa",        "arpa"};
    char text[INET6_ADDRSTRLEN];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct dns_name name = name_of(names[i]);

        assert_int_equal(dns_reverse_parse(&name, text), MR_E_NOTFOUND);
    }
}

/* A domain that is no DNS name is refused with its text. */
static void a_bad_domain_is_refused(void **state)
{
    struct mr_dns_options o = {
        .domain = "a..b", .datacenter = "dc1", .node_name = "n1"};
    struct mr_detail detail;
    struct dns_config c;

    (void)state;
    assert_int_equal(dns_config_init(&c, &o, &detail), MR_E_INVALID);
    assert_string_equal(detail.text, "\"a..b\" is not a DNS domain");
}

/* Whichever allocation fails, nothing leaks and the error says so. */
static void every_allocation_may_fail(void **state)
{
    static const struct mr_dns_service_ttl ttls[] = {{"web", 30}};
    struct mr_dns_options o = {.domain = "micro",
                               .datacenter = "dc1",
                               .node_name = "n1",
                               .service_ttls = ttls,
                               .n_service_ttls = 1};
    struct dns_config c;
    enum mr_err err = MR_E_NOMEM;
    unsigned n = 0;

    (void)state;
    for (; err != MR_OK; n++) {
        mr_mem_fail_after(n);
        err = dns_config_init(&c, &o, NULL);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
    }
    assert_int_equal(n, 6);
    dns_config_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_has_candidates),
        cmocka_unit_test(the_datacenter_is_ours_or_none),
        cmocka_unit_test(rfc2782_names_are_understood),
        cmocka_unit_test(srv_needs_no_service_label),
        cmocka_unit_test(nodes_are_named_whole),
        cmocka_unit_test(addresses_are_spelled_in_hex),
        cmocka_unit_test(reverse_names_are_addresses),
        cmocka_unit_test(zones_are_found_and_answered_in_their_own_names),
        cmocka_unit_test(service_ttls_go_by_the_longest_match),
        cmocka_unit_test(other_names_ask_for_nothing),
        cmocka_unit_test(labels_that_would_be_misread_ask_for_nothing),
        cmocka_unit_test(candidates_are_bounded),
        cmocka_unit_test(broken_reverse_names_are_refused),
        cmocka_unit_test(a_bad_domain_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("dns_name", tests, set_up, tear_down);
}
