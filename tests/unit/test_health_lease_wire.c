/* SPDX-License-Identifier: Apache-2.0 */
/* health/lease_wire: what goes in comes out, and nothing else is let in. */
#include "health/lease_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void put_items(struct mr_buf *out, const struct lease_item *items,
                      size_t n)
{
    uint64_t last = 0;

    for (size_t i = 0; i < n; i++) {
        lease_wire_put_item(out, &last, &items[i]);
    }
}

/* Every kind of message survives the way. */
static void messages_come_out_as_they_went_in(void **state)
{
    (void)state;
    for (int kind = LEASE_RENEW; kind <= LEASE_ANSWER; kind++) {
        const struct lease_msg in = {.kind = (enum lease_kind)kind,
                                     .term = UINT64_MAX,
                                     .instance = UINT64_MAX - 1,
                                     .reading = 1234567,
                                     .floor = 7654321,
                                     .seq = 1,
                                     .echo = 300,
                                     .nonce = UINT64_MAX,
                                     .cursor = UINT32_MAX,
                                     .flags = LEASE_FLAG_SYNCED,
                                     .since = 86400000,
                                     .contact = 127};
        struct mr_buf bytes = MR_BUF_INIT;
        struct lease_msg out;

        lease_wire_put(&bytes, &in);
        assert_int_equal(lease_wire_get(mr_buf_slice(&bytes), &out), MR_OK);
        assert_int_equal(out.kind, in.kind);
        assert_true(out.term == in.term && out.instance == in.instance);
        assert_true(out.reading == in.reading && out.floor == in.floor);
        assert_true(out.seq == in.seq || out.nonce == in.nonce);
        assert_true(kind != LEASE_ACK || out.echo == in.echo);
        assert_true(kind != LEASE_AGES ||
                    (out.cursor == in.cursor && out.flags == in.flags &&
                     out.since == in.since && out.contact == in.contact));
        assert_int_equal(out.items.len, 0);
        mr_buf_deinit(&bytes);
    }
}

/* Items may go up and down over the whole range. */
static void items_come_out_as_they_went_in(void **state)
{
    const struct lease_item in[] = {{1, 0, true},
                                    {UINT64_MAX, 1, false},
                                    {5, (UINT64_C(1) << 53) - 1, true},
                                    {6, 300, false}};
    const struct lease_msg msg = {.kind = LEASE_RENEW, .seq = 9};
    struct mr_buf bytes = MR_BUF_INIT;
    struct lease_msg out;
    struct lease_items items;
    struct lease_item item;

    (void)state;
    lease_wire_put(&bytes, &msg);
    put_items(&bytes, in, MR_ARRAY_LEN(in));
    assert_int_equal(lease_wire_get(mr_buf_slice(&bytes), &out), MR_OK);
    items = (struct lease_items){.rest = out.items};
    for (size_t i = 0; i < MR_ARRAY_LEN(in); i++) {
        assert_true(lease_wire_next(&items, &item));
        assert_true(item.id == in[i].id && item.age_ms == in[i].age_ms &&
                    item.is_real == in[i].is_real);
    }
    assert_false(lease_wire_next(&items, &item));
    mr_buf_deinit(&bytes);
}

/* A message that is cut anywhere is refused, or is a shorter good one. */
static void cut_messages_are_refused(void **state)
{
    const struct lease_item in[] = {{1000, 500, true}, {2000, 70000, false}};
    const struct lease_msg msg = {
        .kind = LEASE_AGES, .term = 300, .nonce = 1, .since = 5};
    struct mr_buf bytes = MR_BUF_INIT;
    struct lease_msg out;
    size_t n_good = 0;

    (void)state;
    lease_wire_put(&bytes, &msg);
    put_items(&bytes, in, MR_ARRAY_LEN(in));
    for (size_t len = 0; len <= bytes.len; len++) {
        n_good += lease_wire_get(mr_slice(bytes.data, len), &out) == MR_OK;
    }
    assert_int_equal(n_good, 3); /* With no item, with one, with both. */
    mr_buf_deinit(&bytes);
}

/* What no server of ours sends is refused. */
static void bad_messages_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum mr_err err;
    } bad[] = {
        {"", 0, MR_E_INVALID},
        {"\2\1\1\1\1\1\1", 7, MR_E_VERSION},
        {"\1\0\1\1\1\1\1", 7, MR_E_INVALID},
        {"\1\7\1\1\1\1\1", 7, MR_E_INVALID},
        {"\1\6\1\1\1\1\1\3", 8, MR_E_INVALID},   /* A word. */
        {"\1\1\1\1\1\1\1\0\1", 9, MR_E_INVALID}, /* ID 0. */
        {"\1\2\1\1\1\1\1\1\1", 9, MR_E_INVALID}, /* More than ACK. */
        {"\1\3\1\1\1\1\1\xff\xff\xff\xff\x7f", 12, MR_E_INVALID}, /* Slot. */
        {"\1\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\2\1\1\1\1", 16,
         MR_E_INVALID}, /* More than 64 bits. */
        {"\1\1\1\1\xff\xff\xff\xff\xff\xff\xff\x7f\1\1", 14,
         MR_E_INVALID}, /* Reading beyond all clocks. */
    };
    struct lease_msg out;

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(bad); i++) {
        assert_int_equal(
            lease_wire_get(mr_slice(bad[i].bytes, bad[i].len), &out),
            bad[i].err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(messages_come_out_as_they_went_in),
        cmocka_unit_test(items_come_out_as_they_went_in),
        /* failure */
        cmocka_unit_test(cut_messages_are_refused),
        cmocka_unit_test(bad_messages_are_refused),
    };

    return cmocka_run_group_tests_name("health/lease_wire", tests, NULL, NULL);
}
