/* SPDX-License-Identifier: Apache-2.0 */
/* dns/wire: queries taken apart, whatever they are; names put together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dns/wire.h"
#include "tests/unit/dns_message.h"

/* Parse a copy of exactly @len bytes, so that ASan sees a read too far. */
static enum dns_verdict parse(const void *data, size_t len,
                              struct dns_query *out, enum dns_rcode *rcode)
{
    static uint8_t *copy;
    enum dns_verdict verdict;

    free(copy);
    copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, data, len);
    verdict = dns_query_parse(mr_slice(copy, len), out, rcode);
    return verdict;
}

/* ------------------------------------------------------------- success */

/* The name is lower-cased and cut in labels; the packet keeps its case. */
static void a_question_is_taken_apart(void **state)
{
    struct ask a = {.name = "WEB.Service.micro", .type = 33, .flags = 0x0110};
    struct dns_query q;
    enum dns_rcode rcode;
    uint8_t packet[512];
    size_t len = msg_query(&a, packet);

    (void)state;
    assert_int_equal(parse(packet, len, &q, &rcode), DNS_ANSWER);
    assert_int_equal(q.type, DNS_TYPE_SRV);
    assert_int_equal(q.flags, 0x0110);
    assert_int_equal(q.name.n_labels, 3);
    assert_int_equal(q.name.len, 19);
    assert_memory_equal(q.name.wire, "\3web\7service\5micro", 19);
    assert_int_equal(q.name.label_at[2], 12);
    assert_int_equal(q.question_len, 23);
    assert_memory_equal(q.packet + 12, "\3WEB\7Service", 12);
    assert_false(q.has_edns);
}

/* The OPT record gives the size; of its options the subnet stays, scope 0. */
static void edns_size_and_subnet_are_read(void **state)
{
    struct ask a = {.name = "x.micro",
                    .edns = 4096,
                    .options = "\0\12\0\10cookie!!\0\10\0\7\0\1\30\30\12\1\2",
                    .options_len = 23};
    struct dns_query q;
    enum dns_rcode rcode;
    uint8_t packet[512];

    (void)state;
    assert_int_equal(parse(packet, msg_query(&a, packet), &q, &rcode),
                     DNS_ANSWER);
    assert_true(q.has_edns);
    assert_int_equal(q.edns_size, 4096);
    assert_int_equal(q.subnet_len, 7);
    assert_memory_equal(q.subnet, "\0\1\30\0\12\1\2", 7);
}

/* A record that is cut behind the question is as good as absent. */
static void cut_records_are_ignored(void **state)
{
    struct ask a = {.name = "x.micro", .edns = 1232};
    struct dns_query q;
    enum dns_rcode rcode;
    uint8_t packet[512];
    size_t len = msg_query(&a, packet);

    (void)state;
    for (size_t n = len - 1; n >= len - 11; n--) {
        assert_int_equal(parse(packet, n, &q, &rcode), DNS_ANSWER);
        assert_false(q.has_edns);
    }
}

/* An option that claims more than there is ends the search for options. */
static void options_that_lie_are_ignored(void **state)
{
    struct ask a = {.name = "x.micro",
                    .edns = 1232,
                    .options = "\0\10\0\377\0\1\30\30",
                    .options_len = 8};
    struct dns_query q;
    enum dns_rcode rcode;
    uint8_t packet[512];

    (void)state;
    assert_int_equal(parse(packet, msg_query(&a, packet), &q, &rcode),
                     DNS_ANSWER);
    assert_true(q.has_edns);
    assert_int_equal(q.subnet_len, 0);
}

/* 255 bytes is the longest name, and 127 labels the most. */
static void the_longest_names_are_taken(void **state)
{
    struct dns_name name;
    uint8_t wire[260];
    size_t used;

    (void)state;
    memset(wire, 1, sizeof wire);
    wire[254] = 0;
    assert_int_equal(dns_name_parse(mr_slice(wire, 255), &name, &used), MR_OK);
    assert_int_equal(name.n_labels, 127);
    assert_int_equal(used, 255);
    memset(wire, 'a', sizeof wire);
    for (size_t i = 0; i < 192; i += 64) {
        wire[i] = 63;
    }
    wire[192] = 61;
    wire[254] = 0;
    assert_int_equal(dns_name_parse(mr_slice(wire, 255), &name, &used), MR_OK);
    wire[192] = 62;
    wire[255] = 0;
    assert_int_equal(dns_name_parse(mr_slice(wire, 256), &name, &used),
                     MR_E_INVALID);
}

/* Texts become labels; the zone closes the name. */
static void names_are_built_from_text(void **state)
{
    struct dns_name_builder b;

    (void)state;
    dns_name_begin(&b);
    dns_name_add(&b, "n.1");
    dns_name_add(&b, "node.");
    dns_name_add_wire(&b, (const uint8_t *)"\5micro", 7);
    assert_false(b.failed);
    assert_int_equal(b.len, 16);
    assert_memory_equal(b.wire, "\1n\0011\4node\5micro", 16);
}

/* A zone matches at the edge of a label only. */
static void a_zone_matches_whole_labels(void **state)
{
    struct dns_name name;

    (void)state;
    assert_int_equal(dns_name_parse(mr_slice("\1a\2bc", 6), &name, NULL),
                     MR_OK);
    assert_true(dns_name_within(&name, (const uint8_t *)"\2bc", 4));
    assert_true(dns_name_within(&name, (const uint8_t *)"\1a\2bc", 6));
    assert_true(dns_name_within(&name, (const uint8_t *)"", 1));
    assert_false(dns_name_within(&name, (const uint8_t *)"\1c", 3));
    assert_int_equal(dns_name_parse(mr_slice("\4a\2bc", 6), &name, NULL),
                     MR_OK);
    assert_false(dns_name_within(&name, (const uint8_t *)"\2bc", 4));
}

/* ------------------------------------------------------------- failure */

struct bad {
    const char *why;
    const char *bytes;
    size_t len;
    enum dns_verdict verdict;
    enum dns_rcode rcode;
};

#define HEAD "\x12\x34\1\0\0\1\0\0\0\0\0\0"
#define BAD(why, bytes, verdict, rcode)                                        \
    {                                                                          \
        why, bytes, sizeof(bytes) - 1, verdict, rcode                          \
    }

/* Consul's answers to what is no question (recorded). */
static void bad_packets_get_the_recorded_treatment(void **state)
{
    static const struct bad cases[] = {
        BAD("empty", "", DNS_IGNORE, 0),
        BAD("11 bytes", "xxxxxxxxxxx", DNS_IGNORE, 0),
        BAD("a response", "\x12\x34\x81\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1",
            DNS_IGNORE, 0),
        BAD("all ones", "\377\377\377\377\377\377\377\377\377\377\377\377",
            DNS_IGNORE, 0),
        BAD("status opcode", "\x12\x34\x11\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1",
            DNS_REJECT, DNS_NOTIMP),
        BAD("header only", HEAD, DNS_REJECT, DNS_REFUSED),
        BAD("no question", "\x12\x34\1\0\0\0\0\0\0\0\0\0", DNS_REJECT,
            DNS_FORMERR),
        BAD("two questions",
            "\x12\x34\1\0\0\2\0\0\0\0\0\0\1x\0\0\1\0\1\1x\0\0\1\0\1",
            DNS_REJECT, DNS_FORMERR),
        BAD("cut type", HEAD "\1x\0\0\1\0", DNS_REJECT, DNS_FORMERR),
        BAD("cut name", HEAD "\3xy", DNS_REJECT, DNS_FORMERR),
        BAD("no root", HEAD "\1x", DNS_REJECT, DNS_FORMERR),
        BAD("label of 64", HEAD "\100xxxxxxxxxxxx\0\0\1\0\1", DNS_REJECT,
            DNS_FORMERR),
        BAD("loop", HEAD "\300\14\0\1\0\1", DNS_REJECT, DNS_FORMERR),
        BAD("forward pointer", HEAD "\300\377\0\1\0\1", DNS_REJECT,
            DNS_FORMERR),
        BAD("pointer into the header", HEAD "\1x\300\4\0\1\0\1", DNS_REJECT,
            DNS_FORMERR),
        BAD("many records", "\x12\x34\1\0\0\1\0\2\0\0\0\0\1x\0\0\1\0\1",
            DNS_REJECT, DNS_FORMERR)};
    struct dns_query q;
    enum dns_rcode rcode;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rcode = DNS_NOERROR;
        print_message("%s\n", cases[i].why);
        assert_int_equal(parse(cases[i].bytes, cases[i].len, &q, &rcode),
                         cases[i].verdict);
        if (cases[i].verdict == DNS_REJECT) {
            assert_int_equal(rcode, cases[i].rcode);
        }
    }
}

/* A rejection is a bare header with the ID, the opcode and RD. */
static void a_rejection_is_a_bare_header(void **state)
{
    uint8_t out[DNS_HEADER_LEN];

    (void)state;
    assert_int_equal(dns_reject_write((const uint8_t *)"\x12\x34\x11\x70\0\1",
                                      DNS_NOTIMP, out),
                     DNS_HEADER_LEN);
    assert_memory_equal(out, "\x12\x34\x91\4\0\0\0\0\0\0\0\0", 12);
}

/* Labels that no name can have make the builder fail for good. */
static void impossible_names_fail(void **state)
{
    static const char *const bad[] = {
        "", "a..b", ".a",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct dns_name_builder b;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dns_name_begin(&b);
        dns_name_add(&b, bad[i]);
        dns_name_end(&b);
        assert_true(b.failed);
    }
    dns_name_begin(&b);
    for (size_t i = 0; i < 200; i++) {
        dns_name_add(&b, "x");
    }
    assert_true(b.failed);
    assert_true(b.len < DNS_NAME_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_is_taken_apart),
        cmocka_unit_test(edns_size_and_subnet_are_read),
        cmocka_unit_test(cut_records_are_ignored),
        cmocka_unit_test(options_that_lie_are_ignored),
        cmocka_unit_test(the_longest_names_are_taken),
        cmocka_unit_test(names_are_built_from_text),
        cmocka_unit_test(a_zone_matches_whole_labels),
        cmocka_unit_test(bad_packets_get_the_recorded_treatment),
        cmocka_unit_test(a_rejection_is_a_bare_header),
        cmocka_unit_test(impossible_names_fail),
    };

    return cmocka_run_group_tests_name("dns_wire", tests, NULL, NULL);
}
