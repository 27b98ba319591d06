/* SPDX-License-Identifier: Apache-2.0 */
/* raft/batch: what goes into an entry comes out of it, and nothing else is
 * taken for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "raft/batch.h"

static struct mr_slice text(const char *s)
{
    return mr_slice_str(s);
}

static void add(struct batch_builder *b, uint64_t origin, uint64_t seq,
                const char *cmd)
{
    struct batch_id id = {origin, 1, seq};

    assert_int_equal(batch_add(b, id, text(cmd)), MR_OK);
}

static struct mr_slice built(const struct batch_builder *b)
{
    return mr_slice(b->blob->data, b->len);
}

static void expect_next(struct batch_iter *it, uint64_t origin, uint64_t seq,
                        const char *cmd)
{
    assert_true(batch_next(it));
    assert_int_equal(it->id.origin, origin);
    assert_int_equal(it->id.seq, seq);
    assert_int_equal(it->cmd.len, strlen(cmd));
    assert_memory_equal(it->cmd.data, cmd, it->cmd.len);
}

/* ------------------------------------------------------------- success */

/* Commands come out in order with their names, whatever the runs are. */
static void commands_come_out_as_they_went_in(void **state)
{
    struct batch_builder b;
    struct batch_iter it;
    size_t n = 0;

    (void)state;
    batch_init(&b);
    add(&b, 7, 1, "one");
    add(&b, 7, 2, "");
    add(&b, 7, 9, "nine");
    add(&b, 8, 10, "ten");
    assert_int_equal(batch_open(built(&b), &it, &n), MR_OK);
    assert_int_equal(n, 4);
    expect_next(&it, 7, 1, "one");
    expect_next(&it, 7, 2, "");
    expect_next(&it, 7, 9, "nine");
    expect_next(&it, 8, 10, "ten");
    assert_false(batch_next(&it));
    batch_deinit(&b);
}

/* Consecutive commands of one process share a header. */
static void consecutive_commands_cost_four_bytes_each(void **state)
{
    struct batch_builder b;
    size_t first;

    (void)state;
    batch_init(&b);
    add(&b, 7, 1, "x");
    first = b.len;
    add(&b, 7, 2, "x");
    assert_int_equal(b.len - first, 5);
    batch_deinit(&b);
}

/* The bytes are fixed: they are stored. */
static void bytes_are_these(void **state)
{
    static const uint8_t golden[] = {1, 0, 0, 0, 0, 0, 0, 0, 7, 0,   0,  0,
                                     0, 0, 0, 0, 1, 0, 0, 0, 0, 0,   0,  0,
                                     5, 0, 0, 0, 1, 0, 0, 0, 2, 'h', 'i'};
    struct batch_builder b;

    (void)state;
    batch_init(&b);
    add(&b, 7, 5, "hi");
    assert_int_equal(b.len, sizeof golden);
    assert_memory_equal(b.blob->data, golden, sizeof golden);
    batch_deinit(&b);
}

/* A batch is full after so many commands; a first command always fits. */
static void batch_has_limits(void **state)
{
    struct batch_builder b;

    (void)state;
    batch_init(&b);
    assert_true(batch_has_room(&b, MR_RAFT_COMMAND_MAX));
    for (uint64_t i = 1; i <= BATCH_MAX_COMMANDS; i++) {
        assert_true(batch_has_room(&b, 1));
        add(&b, 7, i, "x");
    }
    assert_false(batch_has_room(&b, 1));
    batch_deinit(&b);
    add(&b, 7, 1, "x");
    assert_false(batch_has_room(&b, BATCH_MAX_BYTES));
    batch_deinit(&b);
}

/* ------------------------------------------------------------- failure */

/* A batch that is cut anywhere is no batch. */
static void cut_batch_is_refused(void **state)
{
    struct batch_builder b;
    struct batch_iter it;

    (void)state;
    batch_init(&b);
    add(&b, 7, 1, "one");
    add(&b, 8, 1, "two");
    for (size_t len = 0; len < b.len; len++) {
        /* The first run alone is a batch. */
        if (len != 1 + 28 + 4 + 3) {
            assert_int_equal(batch_open(mr_slice(b.blob->data, len), &it, NULL),
                             MR_E_CORRUPT);
        }
    }
    batch_deinit(&b);
}

/* What a newer version wrote is told apart from damage. */
static void newer_version_is_named(void **state)
{
    struct batch_iter it;

    (void)state;
    assert_int_equal(batch_open(mr_slice("\2xx", 3), &it, NULL), MR_E_VERSION);
    assert_int_equal(batch_open(mr_slice("\0xx", 3), &it, NULL), MR_E_CORRUPT);
}

/* Without memory the batch stays as it was. */
static void lack_of_memory_changes_nothing(void **state)
{
    static char large[4096];
    struct batch_id id = {7, 1, 2};
    struct batch_builder b;
    struct batch_iter it;
    size_t n = 0;

    (void)state;
    batch_init(&b);
    add(&b, 7, 1, "one");
    mr_mem_fail_after(0);
    assert_int_equal(batch_add(&b, id, mr_slice(large, sizeof large)),
                     MR_E_NOMEM);
    mr_mem_fail_after(UINT64_MAX);
    assert_int_equal(batch_open(built(&b), &it, &n), MR_OK);
    assert_int_equal(n, 1);
    batch_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_come_out_as_they_went_in),
        cmocka_unit_test(consecutive_commands_cost_four_bytes_each),
        cmocka_unit_test(bytes_are_these),
        cmocka_unit_test(batch_has_limits),
        cmocka_unit_test(cut_batch_is_refused),
        cmocka_unit_test(newer_version_is_named),
        cmocka_unit_test(lack_of_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
