/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: writes, deletes, listings and their indexes. */
#include "tests/unit/kv_fixture.h"

static const Mr__Key *get(struct mr_kv_view *view, const char *key,
                          uint64_t *out_index)
{
    const Mr__Key *k = NULL;

    assert_int_equal(mr_kv_key_get(view, mr_slice_str(key), &k, out_index),
                     MR_OK);
    return k;
}

/* ------------------------------------------------------------ success */

/* A value that was put is read back with its revisions. */
static void put_then_get_returns_value(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    const Mr__Key *k;
    uint64_t index;

    assert_int_equal(fx_put(f, "a", "1").revision, 1);
    assert_int_equal(fx_put(f, "a", "22").revision, 2);
    view = fx_view(f);
    k = get(view, "a", &index);
    assert_non_null(k);
    assert_memory_equal(k->value.data, "22", 2);
    assert_int_equal(k->create_rev, 1);
    assert_int_equal(k->modify_rev, 2);
    assert_int_equal(index, 2);
    assert_int_equal(mr_kv_view_revision(view), 2);
    assert_int_equal(mr_kv_view_applied(view, NULL), 2);
    mr_kv_view_end(view);
    fx_check_digest(f);
}

/* A write of the same value gets no revision. */
static void same_value_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_result r;

    (void)fx_put(f, "a", "1");
    r = fx_put(f, "a", "1");
    assert_false(r.changed);
    assert_int_equal(r.revision, 1);
    assert_int_equal(r.verdict, MR_KV_DONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(put_then_get_returns_value, fx_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(same_value_changes_nothing, fx_setup,
                                        fx_teardown),
    };

    return cmocka_run_group_tests_name("kv_keys", tests, NULL, NULL);
}
