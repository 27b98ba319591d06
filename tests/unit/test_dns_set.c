/* SPDX-License-Identifier: Apache-2.0 */
/* dns/set: sets of records written into messages of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "dns/responder.h"
#include "dns/set.h"
#include "tests/unit/dns_message.h"

#define SEED 0x5eed

/* One question, its options, and the message that came of it. */
struct fixture {
    struct dns_config config;
    struct dns_set set;
    struct dns_query query;
    struct dns_rng rng;
    struct dns_emit emit;
    uint8_t packet[512];
    uint8_t *out; /* Of exactly the limit, so that ASan sees what is beyond. */
    size_t len;
    struct msg msg;
};

static int set_up(void **state)
{
    static const char *const alt[] = {"consul", "alt"};
    struct mr_dns_options o = {.domain = "micro",
                               .alt_domains = alt,
                               .n_alt_domains = 2,
                               .datacenter = "dc1",
                               .node_name = "n1"};
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL || dns_config_init(&f->config, &o, NULL) != MR_OK) {
        return -1;
    }
    dns_set_init(&f->set);
    f->rng.state = SEED;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    dns_set_deinit(&f->set);
    dns_config_deinit(&f->config);
    free(f->out);
    free(f);
    return 0;
}

static void ask(struct fixture *f, const struct ask *a)
{
    enum dns_rcode rcode;

    assert_int_equal(
        dns_query_parse(mr_slice(f->packet, msg_query(a, f->packet)), &f->query,
                        &rcode),
        DNS_ANSWER);
}

/* Write the set for whoever takes @limit bytes, and take the message apart. */
static void write_for(struct fixture *f, size_t limit, bool is_tcp)
{
    f->emit.config = &f->config;
    f->emit.query = &f->query;
    f->emit.rng = &f->rng;
    f->emit.limit = limit;
    f->emit.is_tcp = is_tcp;
    free(f->out);
    f->out = malloc(limit);
    assert_non_null(f->out);
    f->len = dns_set_write(&f->set, &f->emit, f->out);
    assert_in_range(f->len, DNS_HEADER_LEN, limit);
    assert_true(msg_parse(f->out, f->len, &f->msg));
}

/* Add a service record for node @i with its address and @n_texts texts. */
static void add_srv(struct fixture *f, unsigned i, unsigned n_texts)
{
    struct dns_record r = {DNS_OWNER_QUESTION, mr_slice(NULL, 0), DNS_TYPE_SRV,
                           0};
    struct dns_name_builder b;
    uint8_t data[6 + DNS_NAME_MAX] = {0, 1, 0, 1};
    uint8_t address[4] = {10, 0, (uint8_t)(i >> 8), (uint8_t)i};
    char name[64];

    sprintf(name, "node-number-%u.node.dc1.micro", i);
    dns_name_begin(&b);
    dns_name_add(&b, name);
    dns_name_end(&b);
    memcpy(data + 6, b.wire, b.len);
    dns_put16(data + 4, i);
    dns_set_group(&f->set, false);
    dns_set_add_target(&f->set, &r, mr_slice(data, 6 + b.len), b.len);
    r.owner = DNS_OWNER_TARGET;
    r.type = DNS_TYPE_A;
    dns_set_add(&f->set, &r, mr_slice(address, 4));
    r.type = DNS_TYPE_TXT;
    for (unsigned k = 0; k < n_texts; k++) {
        sprintf(name, "key%u=a text that takes room", k);
        dns_set_add_text(&f->set, &r, mr_slice_str(name));
    }
}

static void add_srvs(struct fixture *f, unsigned n, unsigned n_texts)
{
    for (unsigned i = 0; i < n; i++) {
        add_srv(f, i, n_texts);
    }
    f->set.is_shuffled = true;
    f->set.zone = f->config.zones;
    assert_int_equal(dns_set_finish(&f->set), MR_OK);
}

/* Every answer has its own additional records, and nothing else is there. */
static void assert_pairs(const struct fixture *f, unsigned per_answer)
{
    const struct msg *m = &f->msg;
    size_t n = m->counts[1];

    assert_int_equal(m->counts[3] - m->has_opt, n * per_answer);
    for (size_t i = 0; i < n; i++) {
        const char *target = strrchr(m->lines[i], ' ') + 1;

        for (size_t k = 0; k < per_answer; k++) {
            const char *line = m->lines[n + i * per_answer + k];

            assert_int_equal(strncmp(line, target, strlen(target)), 0);
        }
    }
}

/* ------------------------------------------------------------- success */

/* ID, flags and question come from the query, with its case. */
static void the_header_and_the_question_are_the_askers(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "WEB.service.Micro", .type = 33, .flags = 0x0170};

    ask(f, &a);
    add_srvs(f, 1, 0);
    write_for(f, 512, false);
    assert_int_equal(f->msg.id, 0x1234);
    assert_int_equal(f->msg.flags, 0x8510); /* QR AA RD CD, neither AD nor Z. */
    assert_string_equal(f->msg.question, "WEB.service.Micro.");
    assert_true(msg_has(&f->msg, 1,
                        "WEB.service.Micro. 0 SRV 1 1 0 "
                        "node-number-0.node.dc1.micro."));
    assert_true(
        msg_has(&f->msg, 3, "node-number-0.node.dc1.micro. 0 A 10.0.0.0"));
}

/* NOTIFY is answered as a query, with its opcode and without RD. */
static void notify_keeps_its_opcode_and_loses_rd(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro", .type = 33, .flags = 0x2100};

    ask(f, &a);
    add_srvs(f, 1, 0);
    write_for(f, 512, false);
    assert_int_equal(f->msg.flags, 0xa400);
}

/* Without EDNS there are three answers, drawn by lot, and TC stays clear. */
static void plain_udp_gets_the_answer_limit(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro", .type = 33};

    ask(f, &a);
    add_srvs(f, 8, 0);
    write_for(f, 512, false);
    assert_int_equal(f->msg.counts[1], 3);
    assert_pairs(f, 1);
    assert_false(f->msg.flags & DNS_FLAG_TC);
    f->config.enable_truncate = true;
    write_for(f, 512, false);
    assert_true(f->msg.flags & DNS_FLAG_TC);
    write_for(f, 1232, false);
    assert_int_equal(f->msg.counts[1], 8);
    assert_false(f->msg.flags & DNS_FLAG_TC);
}

/* Within every limit: a whole message, whole pairs, nothing beyond, and full:
 * one more pair would not have fitted. */
static void answers_fill_what_the_asker_takes(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "huge.service.micro", .type = 33, .edns = 9000};

    ask(f, &a);
    add_srvs(f, 60, 1);
    for (unsigned compress = 0; compress < 2; compress++) {
        f->config.compress = compress == 1;
        for (size_t limit = 513; limit < 9000; limit += 13) {
            write_for(f, limit, false);
            assert_pairs(f, 2);
            if (f->msg.counts[1] < 60) {
                assert_true(f->len + (compress ? 120 : 200) > limit);
            }
        }
        assert_int_equal(f->msg.counts[1], compress ? 60 : f->msg.counts[1]);
    }
}

/* An answer that does not fit with its texts goes without some of them. */
static void the_first_answer_is_stripped_not_dropped(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro", .type = 33};

    ask(f, &a);
    add_srvs(f, 2, 20);
    write_for(f, 512, false);
    assert_int_equal(f->msg.counts[1], 1);
    assert_in_range(f->msg.counts[3], 2, 19);
}

/* Pointers cannot mean a place beyond 16 KiB: there names stand in full. */
static void five_thousand_instances_fill_tcp_without_error(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "huge.service.micro", .type = 33, .edns = 1232};

    ask(f, &a);
    add_srvs(f, 5000, 0);
    write_for(f, DNS_TCP_MAX, true);
    assert_true(f->len > 65000);
    assert_pairs(f, 1);
    assert_false(f->msg.flags & DNS_FLAG_TC);
}

/* Each of ten instances comes first equally often: chi-square over 10,000
 * questions, nine degrees of freedom, 27.9 is the 0.1% point. */
static void the_order_is_fair(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro", .type = 33};
    unsigned first[10] = {0};
    unsigned among[10] = {0};
    double chi_first = 0;
    double chi_among = 0;

    print_message("seed %#x\n", SEED);
    ask(f, &a);
    add_srvs(f, 10, 0);
    for (unsigned i = 0; i < 10000; i++) {
        write_for(f, 512, false);
        for (unsigned k = 0; k < 3; k++) {
            unsigned port = 0;

            sscanf(f->msg.lines[k], "%*s 0 SRV 1 1 %u", &port);
            first[port] += k == 0;
            among[port]++;
        }
    }
    for (unsigned i = 0; i < 10; i++) {
        chi_first += (first[i] - 1000.0) * (first[i] - 1000.0) / 1000.0;
        chi_among += (among[i] - 3000.0) * (among[i] - 3000.0) / 3000.0;
    }
    assert_true(chi_first < 27.9);
    assert_true(chi_among < 27.9);
}

/* Of instances with the same answer one is enough (RFC 2181 §5.2). */
static void equal_answers_are_given_once(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro"};
    struct dns_record r = {DNS_OWNER_QUESTION, mr_slice(NULL, 0), DNS_TYPE_A,
                           7};

    ask(f, &a);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t address[4] = {10, 0, 0, (uint8_t)(i % 7)};

        dns_set_group(&f->set, false);
        dns_set_add(&f->set, &r, mr_slice(address, 4));
    }
    assert_int_equal(dns_set_finish(&f->set), MR_OK);
    write_for(f, 512, true);
    assert_int_equal(f->msg.counts[1], 7);
    assert_string_equal(f->msg.lines[0], "web.service.micro. 7 A 10.0.0.0");
}

/* a_record_limit holds everywhere and is no truncation. */
static void the_address_limit_is_no_truncation(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro", .edns = 4096};

    f->config.a_record_limit = 2;
    f->config.enable_truncate = true;
    ask(f, &a);
    f->set.is_limited = true;
    add_srvs(f, 8, 0);
    write_for(f, 4096, false);
    assert_int_equal(f->msg.counts[1], 2);
    assert_false(f->msg.flags & DNS_FLAG_TC);
    write_for(f, DNS_TCP_MAX, true);
    assert_int_equal(f->msg.counts[1], 2);
}

/* The SOA of a negative answer is that of the zone, by pointer or in full. */
static void negative_answers_carry_the_soa(void **state)
{
    static const char *const names[] = {"x.service.consul", "x.service.CONSUL",
                                        "x.service.alt"};
    struct fixture *f = *state;

    f->set.rcode = DNS_NXDOMAIN;
    f->set.soa = DNS_SOA_AUTHORITY;
    f->set.zone = &f->config.zones[1];
    f->config.soa_min_ttl_s = 4;
    for (size_t i = 0; i < 6; i++) {
        struct ask a = {.name = names[i % 3], .edns = 1232};

        ask(f, &a);
        f->config.compress = i < 3;
        write_for(f, 1232, false);
        assert_int_equal(f->msg.flags & 15, DNS_NXDOMAIN);
        assert_int_equal(f->msg.counts[2], 1);
        assert_true(
            msg_has(&f->msg, 2, "consul. 4 SOA ns.consul. hostmaster.consul."));
    }
}

/* The OPT record echoes size and subnet; a stale answer says so. */
static void opt_echoes_and_tells_of_staleness(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro",
                    .type = 33,
                    .edns = 1400,
                    .options = "\0\10\0\7\0\1\30\30\12\1\2",
                    .options_len = 11};

    ask(f, &a);
    add_srvs(f, 1, 0);
    write_for(f, 1400, false);
    assert_true(f->msg.has_opt);
    assert_int_equal(f->msg.opt_size, 1400);
    assert_int_equal(f->msg.options_len, 11);
    assert_memory_equal(f->msg.options, "\0\10\0\7\0\1\30\0\12\1\2", 11);
    f->emit.is_stale = true;
    write_for(f, 1400, false);
    assert_int_equal(f->msg.options_len, 17);
    assert_memory_equal(f->msg.options + 11, "\0\17\0\2\0\3", 6);
    f->set.no_opt = true;
    write_for(f, 1400, false);
    assert_false(f->msg.has_opt);
}

/* A text longer than a character string is cut into several. */
static void long_texts_are_cut_in_strings(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "n1.node.micro", .type = 16};
    struct dns_record r = {DNS_OWNER_QUESTION, mr_slice(NULL, 0), DNS_TYPE_TXT,
                           0};
    char text[301];

    memset(text, 't', 300);
    text[300] = '\0';
    ask(f, &a);
    dns_set_group(&f->set, false);
    dns_set_add_text(&f->set, &r, mr_slice_str(text));
    dns_set_group(&f->set, false);
    dns_set_add_text(&f->set, &r, mr_slice_str(""));
    assert_int_equal(dns_set_finish(&f->set), MR_OK);
    write_for(f, 512, true);
    assert_int_equal(f->msg.counts[1], 2);
    assert_int_equal(strlen(f->msg.lines[0]),
                     strlen("n1.node.micro. 0 TXT \"\"") + 300);
    assert_string_equal(f->msg.lines[1], "n1.node.micro. 0 TXT \"\"");
}

/* The longest question there is still gets its negative answer. */
static void the_longest_question_fits(void **state)
{
    struct fixture *f = *state;
    char name[256];
    struct ask a = {.name = name, .edns = 512};

    memset(name, 'x', sizeof name);
    for (size_t i = 61; i < 248; i += 62) {
        name[i] = '.';
    }
    strcpy(name + 247, ".alt");
    ask(f, &a);
    f->set.rcode = DNS_NXDOMAIN;
    f->set.soa = DNS_SOA_AUTHORITY;
    f->set.zone = &f->config.zones[1];
    write_for(f, 512, false);
    assert_int_equal(f->msg.counts[2], 1);
}

/* ------------------------------------------------------------- failure */

/* Whichever allocation fails, the set says so and releases what it has. */
static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    enum mr_err err = MR_E_NOMEM;
    unsigned n = 0;

    for (; err != MR_OK; n++) {
        dns_set_deinit(&f->set);
        mr_mem_fail_after(n);
        for (unsigned i = 0; i < 3; i++) {
            add_srv(f, i, 1);
        }
        err = dns_set_finish(&f->set);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
    }
    assert_true(n > 5);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_header_and_the_question_are_the_askers),
        CASE(notify_keeps_its_opcode_and_loses_rd),
        CASE(plain_udp_gets_the_answer_limit),
        CASE(answers_fill_what_the_asker_takes),
        CASE(the_first_answer_is_stripped_not_dropped),
        CASE(five_thousand_instances_fill_tcp_without_error),
        CASE(the_order_is_fair),
        CASE(equal_answers_are_given_once),
        CASE(the_address_limit_is_no_truncation),
        CASE(negative_answers_carry_the_soa),
        CASE(opt_echoes_and_tells_of_staleness),
        CASE(long_texts_are_cut_in_strings),
        CASE(the_longest_question_fits),
        CASE(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("dns_set", tests, NULL, NULL);
}
