/* SPDX-License-Identifier: Apache-2.0 */
/* health/lease_table: leases by ID, by key and by slot. */
#include "health/lease_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

#define N 20000

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Whatever is added and removed, what is left is found and nothing else. */
static void what_was_added_is_found(void **state)
{
    static bool is_there[N + 1];
    struct lease_table t;
    uint64_t seed = 1;

    (void)state;
    lease_table_init(&t);
    for (size_t i = 0; i < 4 * N; i++) {
        uint64_t id = 1 + next_random(&seed) % N;
        struct lease *lease = lease_table_find(&t, id);

        assert_int_equal(lease != NULL, is_there[id]);
        if (lease != NULL) {
            assert_int_equal(lease->id, id);
            lease_table_remove(&t, lease);
        } else {
            assert_non_null(lease_table_add(&t, id));
        }
        is_there[id] = !is_there[id];
    }
    for (uint64_t id = 1; id <= N; id++) {
        assert_int_equal(lease_table_find(&t, id) != NULL, is_there[id]);
    }
    lease_table_deinit(&t);
}

/* The heap gives the smallest key first, whatever moved. */
static void the_smallest_key_comes_first(void **state)
{
    struct lease_table t;
    uint64_t seed = 2;
    int64_t key, last = 0;
    struct lease *lease;

    (void)state;
    lease_table_init(&t);
    for (uint64_t id = 1; id <= N; id++) {
        lease = lease_table_add(&t, id);
        assert_non_null(lease);
        lease_table_set_due(&t, lease, (int64_t)(next_random(&seed) % 1000));
    }
    for (uint64_t id = 1; id <= N; id += 2) {
        lease_table_set_due(&t, lease_table_find(&t, id),
                            (int64_t)(next_random(&seed) % 1000));
    }
    for (uint64_t id = 1; id <= N; id += 3) {
        lease_table_remove(&t, lease_table_find(&t, id));
    }
    while ((lease = lease_table_first(&t, &key)) != NULL) {
        assert_true(key >= last);
        assert_int_equal(lease_table_key(&t, lease), key);
        last = key;
        lease_table_drop(&t, lease);
        lease_table_drop(&t, lease); /* Not there: left alone. */
    }
    lease_table_deinit(&t);
}

/* A lease keeps its slot while others come and go, and a slot is used again. */
static void slots_stay(void **state)
{
    struct lease_table t;
    struct lease *seventh;

    (void)state;
    lease_table_init(&t);
    for (uint64_t id = 1; id <= N; id++) {
        assert_non_null(lease_table_add(&t, id));
    }
    seventh = lease_table_at(&t, 6);
    assert_int_equal(seventh->id, 7);
    for (uint64_t id = 8; id <= N; id++) {
        lease_table_remove(&t, lease_table_find(&t, id));
    }
    assert_ptr_equal(lease_table_at(&t, 6), seventh);
    assert_null(lease_table_at(&t, 7));
    assert_non_null(lease_table_add(&t, N + 1));
    assert_int_equal(t.n_slots, N);
    assert_int_equal(t.n, 8);
    lease_table_deinit(&t);
}

/* A lease costs what the header says. */
static void a_lease_is_small(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct lease), 56);
    assert_int_equal(sizeof(struct lease_due), 16);
}

/* Without memory nothing is added and nothing is lost. */
static void no_memory_changes_nothing(void **state)
{
    struct lease_table t;

    (void)state;
    lease_table_init(&t);
    for (uint64_t fail = 0; fail < 4; fail++) {
        mr_mem_fail_after(fail);
        (void)lease_table_add(&t, fail + 1);
        mr_mem_fail_after(UINT64_MAX);
    }
    assert_null(lease_table_find(&t, 1));
    for (uint64_t id = 10; id < 2000; id++) {
        mr_mem_fail_after(0);
        if (lease_table_add(&t, id) == NULL) {
            mr_mem_fail_after(UINT64_MAX);
            assert_null(lease_table_find(&t, id));
            assert_non_null(lease_table_add(&t, id));
        }
        mr_mem_fail_after(UINT64_MAX);
        assert_non_null(lease_table_find(&t, 10));
    }
    lease_table_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(what_was_added_is_found),
        cmocka_unit_test(the_smallest_key_comes_first),
        cmocka_unit_test(slots_stay),
        cmocka_unit_test(a_lease_is_small),
        /* failure */
        cmocka_unit_test(no_memory_changes_nothing),
    };

    return cmocka_run_group_tests_name("health/lease_table", tests, NULL, NULL);
}
