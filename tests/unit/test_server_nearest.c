/* SPDX-License-Identifier: Apache-2.0 */
/* server/nearest: which known name a mistyped one means. */
#include "server/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

static const char *nearest(const char *wanted)
{
    static const char *const names[] = {"data-dir", "datacenter", "node",
                                        "server", "retry-join"};
    struct server_nearest n;

    server_nearest_init(&n, wanted);
    for (size_t i = 0; i < MR_ARRAY_LEN(names); i++) {
        server_nearest_try(&n, names[i]);
    }
    return n.name;
}

/* ---- success ---- */

/* An edit is a letter more, less, other, or two swapped; case is free. */
static void distance_counts_edits(void **state)
{
    (void)state;
    assert_int_equal(server_edit_distance("", ""), 0);
    assert_int_equal(server_edit_distance("server", "SERVER"), 0);
    assert_int_equal(server_edit_distance("servre", "server"), 1);
    assert_int_equal(server_edit_distance("serve", "server"), 1);
    assert_int_equal(server_edit_distance("sserver", "server"), 1);
    assert_int_equal(server_edit_distance("sarver", "server"), 1);
    assert_int_equal(server_edit_distance("", "node"), 4);
    assert_int_equal(server_edit_distance("kitten", "sitting"), 3);
}

/* The name with the fewest edits is meant. */
static void nearest_is_the_one_with_fewest_edits(void **state)
{
    (void)state;
    assert_string_equal(nearest("data-dri"), "data-dir");
    assert_string_equal(nearest("datacentre"), "datacenter");
    assert_string_equal(nearest("retry_join"), "retry-join");
}

/* ---- failure ---- */

/* What is like nothing means nothing. */
static void far_names_are_not_suggested(void **state)
{
    char wide[200];

    (void)state;
    assert_null(nearest("xyzzy"));
    assert_null(nearest(""));
    for (size_t i = 0; i < sizeof wide; i++) {
        wide[i] = 'a';
    }
    wide[sizeof wide - 1] = '\0';
    assert_true(server_edit_distance(wide, "a") == SIZE_MAX);
    assert_null(nearest(wide));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distance_counts_edits),
        cmocka_unit_test(nearest_is_the_one_with_fewest_edits),
        cmocka_unit_test(far_names_are_not_suggested),
    };

    return cmocka_run_group_tests_name("server_nearest", tests, NULL, NULL);
}
