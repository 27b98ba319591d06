/* SPDX-License-Identifier: Apache-2.0 */
/* Looking a number up in a packed row, and rows that count. */
#include "kv/kv.h"
#include "tests/unit/kv_fixture.h"

/* ------------------------------------------------------------ members */

/* The body of a service with everything that the look-up has to pass. */
static struct mr_buf pack_service(uint64_t ttl_ms, uint64_t lease_id)
{
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Pair pair = MR__PAIR__INIT;
    Mr__Pair *pairs[] = {&pair};
    char *tags[] = {S("a"), S("")};
    struct mr_buf b = MR_BUF_INIT;

    service.name = S("Web");
    service.tags = tags;
    service.n_tags = 2;
    service.port = -1;
    pair.key = S("k");
    pair.value = S("\x80\x01\x88\x01"); /* Looks like members. */
    service.meta = pairs;
    service.n_meta = 1;
    service.ttl_ms = ttl_ms;
    service.lease_id = lease_id;
    kv_pack_service(&b, &service);
    return b;
}

/* A member is found behind any others, and is 0 when it is left out. */
static void member_is_found_without_decoding(void **state)
{
    struct mr_buf b = pack_service(30000, UINT64_MAX);

    (void)state;
    assert_int_equal(kv_body_u64(mr_buf_slice(&b), KV_SERVICE_TTL), 30000);
    assert_true(kv_body_u64(mr_buf_slice(&b), KV_SERVICE_LEASE) == UINT64_MAX);
    assert_int_equal(kv_body_u64(mr_buf_slice(&b), KV_SERVICE_DIGEST), 0);
    mr_buf_deinit(&b);
}

/* However the body is cut, nothing is read behind its end. */
static void cut_body_has_no_member(void **state)
{
    struct mr_buf b = pack_service(1, 2);
    size_t len;

    (void)state;
    for (len = 0; len < b.len; len++) {
        uint8_t *copy = malloc(len + 1); /* For the sanitizer. */
        uint8_t *exact = realloc(copy, len == 0 ? 1 : len);

        assert_non_null(exact);
        memcpy(exact, b.data, len);
        assert_int_equal(kv_body_u64(mr_slice(exact, len), KV_SERVICE_LEASE),
                         0);
        free(exact);
    }
    mr_buf_deinit(&b);
}

/* Wire types that no message of ours has end the look-up, or are passed. */
static void strange_members_are_no_harm(void **state)
{
    static const uint8_t fixed[] = {0x0d, 1, 2, 3, 4, 0x09, 1,    2,
                                    3,    4, 5, 6, 7, 8,    0x58, 9};
    static const uint8_t group[] = {0x0b, 0x58, 9};
    static const uint8_t long_text[] = {0x0a, 0xff, 0xff, 0xff, 0x7f};

    (void)state;
    assert_int_equal(kv_body_u64(mr_slice(fixed, sizeof fixed), KV_NODE_TTL),
                     9);
    assert_int_equal(kv_body_u64(mr_slice(group, sizeof group), KV_NODE_TTL),
                     0);
    assert_int_equal(
        kv_body_u64(mr_slice(long_text, sizeof long_text), KV_NODE_TTL), 0);
}

/* ------------------------------------------------------------ tallies */

struct tally_store {
    struct fixture f;
    struct kv_tx tx;
    struct kv_tallies tallies;
};

static int setup(void **state)
{
    struct tally_store *s = calloc(1, sizeof *s);

    assert_non_null(s);
    fx_init(&s->f);
    assert_int_equal(kv_tx_begin_write(kv_current_env(s->f.kv), &s->tx), MR_OK);
    kv_tallies_init(&s->tallies);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct tally_store *s = *state;

    kv_tallies_deinit(&s->tallies);
    kv_tx_abort(&s->tx);
    fx_deinit(&s->f);
    free(s);
    return 0;
}

static struct kv_tally *get(struct tally_store *s, int i)
{
    struct kv_row_key k;
    struct kv_tally *tally;

    kv_key_init(&k, KV_SERVICE_NAME);
    kv_key_u64(&k, (uint64_t)i);
    tally = kv_tally_get(&s->tallies, &s->tx, &k);
    assert_non_null(tally);
    return tally;
}

/* What was counted is there after the flush, with its text and index, also when
 * there are many more than buckets. */
static void tallies_are_written_back(void **state)
{
    struct tally_store *s = *state;
    int round;
    int i;

    for (round = 1; round <= 2; round++) {
        for (i = 0; i < 5000; i++) {
            struct kv_tally *tally = get(s, i);

            assert_int_equal(tally->count, round - 1);
            tally->count++;
            tally->index = (uint64_t)i;
            tally->is_dirty = true;
            kv_tally_set_text(&s->tallies, tally, mr_slice_str("Name"));
        }
        kv_tallies_flush(&s->tallies, &s->tx);
        assert_int_equal(s->tallies.n, 0);
    }
    assert_int_equal(get(s, 4999)->index, 4999);
    assert_true(mr_slice_eq(get(s, 0)->text, mr_slice_str("Name")));
}

/* A count of 0 is no row; one that did not change is not written. */
static void count_of_zero_is_no_row(void **state)
{
    struct tally_store *s = *state;
    struct mr_hash128 before = s->tx.digest;

    (void)get(s, 1);
    get(s, 2)->is_dirty = true;
    kv_tallies_flush(&s->tallies, &s->tx);
    assert_true(s->tx.digest.low == before.low);
    get(s, 1)->count = 1;
    get(s, 1)->is_dirty = true;
    kv_tallies_flush(&s->tallies, &s->tx);
    assert_true(s->tx.digest.low != before.low);
    assert_true(get(s, 1)->is_stored);
    get(s, 1)->count = 0;
    get(s, 1)->is_dirty = true;
    kv_tallies_flush(&s->tallies, &s->tx);
    assert_true(s->tx.digest.low == before.low);
    assert_false(get(s, 1)->is_stored);
}

/* A row that is no count fails the transaction. */
static void damaged_row_fails(void **state)
{
    struct tally_store *s = *state;
    struct kv_row_key k;

    kv_key_init(&k, KV_SERVICE_NAME);
    kv_tx_put(&s->tx, kv_key_slice(&k), mr_slice("\x80", 1));
    assert_null(kv_tally_get(&s->tallies, &s->tx, &k));
    assert_int_equal(s->tx.err, MR_E_CORRUPT);
}

/* Without memory the transaction fails, and nothing else. */
static void lack_of_memory_fails_the_transaction(void **state)
{
    struct tally_store *s = *state;
    struct kv_row_key k;

    kv_key_init(&k, KV_TAG);
    kv_key_text(&k, "web");
    mr_mem_fail_after(0);
    assert_null(kv_tally_get(&s->tallies, &s->tx, &k));
    mr_mem_fail_after(UINT64_MAX);
    assert_int_equal(s->tx.err, MR_E_NOMEM);
}

#define TALLY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void text_is_found_without_decoding(void **state)
{
    struct mr_buf b = pack_service(30000, 7);
    struct mr_slice body = mr_buf_slice(&b);
    struct mr_slice name = kv_body_bytes(body, KV_SERVICE_SPELLING);

    (void)state;
    assert_int_equal(name.len, 3);
    assert_memory_equal(name.data, "Web", 3);
    assert_int_equal(kv_body_bytes(body, KV_SERVICE_TTL).len, 0);
    assert_int_equal(kv_body_bytes(mr_slice(body.data, 3), 3).len, 0);
    mr_buf_deinit(&b);
}

/* Only members that are asked for count, however they are repeated. */
static void bodies_are_compared_by_members(void **state)
{
    struct mr_buf a_buf = pack_service(30000, 7);
    struct mr_buf b_buf = pack_service(40000, 8);
    struct mr_slice a = mr_buf_slice(&a_buf);
    struct mr_slice b = mr_buf_slice(&b_buf);
    uint64_t ttl = UINT64_C(1) << KV_SERVICE_TTL;
    uint64_t lease = UINT64_C(1) << KV_SERVICE_LEASE;

    (void)state;
    assert_false(kv_body_differs(a, a, UINT64_MAX));
    assert_true(kv_body_differs(a, b, UINT64_MAX));
    assert_true(kv_body_differs(a, b, ttl));
    assert_true(kv_body_differs(a, b, lease));
    assert_false(kv_body_differs(a, b, ~(ttl | lease)));
    assert_true(kv_body_differs(a, mr_slice(NULL, 0), ~(ttl | lease)));
    assert_true(kv_body_differs(mr_slice(NULL, 0), b, ~(ttl | lease)));
    mr_buf_deinit(&a_buf);
    mr_buf_deinit(&b_buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_found_without_decoding),
        cmocka_unit_test(bodies_are_compared_by_members),
        cmocka_unit_test(member_is_found_without_decoding),
        cmocka_unit_test(cut_body_has_no_member),
        cmocka_unit_test(strange_members_are_no_harm),
        TALLY(tallies_are_written_back),
        TALLY(count_of_zero_is_no_row),
        TALLY(damaged_row_fails),
        TALLY(lack_of_memory_fails_the_transaction),
    };

    return cmocka_run_group_tests_name("kv_row", tests, NULL, NULL);
}
