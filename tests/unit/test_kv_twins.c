/* SPDX-License-Identifier: Apache-2.0 */
/* The filter of names and IDs: it may say too much, and never too little. */
#include "kv/twins.h"

#include "kv/catalog.h"
#include "tests/unit/kv_fixture.h"

static struct mr_slice key_of(struct kv_row_key *k, const char *name,
                              const char *node, const char *id)
{
    kv_service_key(k, name, node, id);
    return kv_key_slice(k);
}

static int setup(void **state)
{
    struct kv_twins *t = calloc(1, sizeof *t);

    *state = t;
    return kv_twins_init(t) == MR_OK ? 0 : 1;
}

static int teardown(void **state)
{
    kv_twins_deinit(*state);
    free(*state);
    return 0;
}

/* ------------------------------------------------------------ success */

static void one_on_two_nodes_may_have_a_twin(void **state)
{
    struct kv_twins *t = *state;
    struct kv_row_key k;

    kv_twins_add(t, key_of(&k, "web", "n1", "a"));
    kv_twins_add(t, key_of(&k, "web", "n1", "b"));
    kv_twins_add(t, key_of(&k, "db", "n2", "a"));
    assert_false(kv_twins_may_be(t, key_of(&k, "web", "n1", "a")));
    kv_twins_add(t, key_of(&k, "Web", "n2", "a"));
    assert_true(kv_twins_may_be(t, key_of(&k, "web", "n1", "a")));
    assert_false(kv_twins_may_be(t, key_of(&k, "web", "n1", "b")));
}

/* Before the commit the one that goes is still told with its twin. */
static void removal_counts_from_the_commit_on(void **state)
{
    struct kv_twins *t = *state;
    struct kv_row_key k;

    kv_twins_add(t, key_of(&k, "web", "n1", "a"));
    kv_twins_add(t, key_of(&k, "web", "n2", "a"));
    kv_twins_remove(t, key_of(&k, "web", "n1", "a"));
    assert_true(kv_twins_may_be(t, key_of(&k, "web", "n2", "a")));
    kv_twins_commit(t);
    assert_false(kv_twins_may_be(t, key_of(&k, "web", "n2", "a")));
}

/* A counter that was full does not know how many are left. */
static void more_than_it_can_count_are_never_too_few(void **state)
{
    struct kv_twins *t = *state;
    struct kv_row_key k;
    char node[16];

    for (int i = 0; i < 300; i++) {
        (void)snprintf(node, sizeof node, "n%d", i);
        kv_twins_add(t, key_of(&k, "web", node, "a"));
    }
    for (int i = 0; i < 298; i++) {
        (void)snprintf(node, sizeof node, "n%d", i);
        kv_twins_remove(t, key_of(&k, "web", node, "a"));
        kv_twins_commit(t);
    }
    assert_true(kv_twins_may_be(t, key_of(&k, "web", "n299", "a")));
}

/* ------------------------------------------------------------ failure */

static void lack_of_memory_counts_too_much(void **state)
{
    struct kv_twins *t = *state;
    struct kv_row_key k;
    struct kv_twins other;

    mr_mem_fail_after(0);
    assert_int_equal(kv_twins_init(&other), MR_E_NOMEM);
    kv_twins_deinit(&other);
    kv_twins_add(t, key_of(&k, "web", "n1", "a"));
    kv_twins_add(t, key_of(&k, "web", "n2", "a"));
    mr_mem_fail_after(0);
    kv_twins_remove(t, key_of(&k, "web", "n1", "a"));
    mr_mem_fail_after(UINT64_MAX);
    kv_twins_commit(t);
    assert_true(kv_twins_may_be(t, key_of(&k, "web", "n2", "a")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_on_two_nodes_may_have_a_twin),
        TEST(removal_counts_from_the_commit_on),
        TEST(more_than_it_can_count_are_never_too_few),
        TEST(lack_of_memory_counts_too_much),
    };

    return cmocka_run_group_tests_name("kv_twins", tests, NULL, NULL);
}
