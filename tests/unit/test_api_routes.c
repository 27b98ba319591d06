/* SPDX-License-Identifier: Apache-2.0 */
/* api/routes: which rows answer a path. */
#include "api/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static struct api_match find(const char *path)
{
    return api_route_find(path, strlen(path));
}

/* Each path is answered by the rows of the expected one, and its argument
 * begins where that path ends. */
static void longest_path_wins(void **state)
{
    static const char *const cases[][3] = {
        {"/", "/", ""},
        {"/v1/kv/", "/v1/kv/", ""},
        {"/v1/kv/a/b/c/d/e/f/g/h", "/v1/kv/", "a/b/c/d/e/f/g/h"},
        {"/v1/status/leader", "/v1/status/leader", ""},
        {"/v1/acl/token", "/v1/acl/token", ""},
        {"/v1/acl/token/self", "/v1/acl/token/self", ""},
        {"/v1/acl/token/selfish", "/v1/acl/token/", "selfish"},
        {"/v1/acl/policy/name/x", "/v1/acl/policy/name/", "x"},
        {"/v1/agent/health/service/name/web", "/v1/agent/health/service/name/",
         "web"},
        {"/v1/health/service/go.micro.srv", "/v1/health/service/",
         "go.micro.srv"},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct api_match m = find(cases[i][0]);

        assert_non_null(m.rows);
        assert_string_equal(m.rows->path, cases[i][1]);
        assert_string_equal(cases[i][0] + m.prefix_len, cases[i][2]);
        assert_false(m.add_slash);
    }
}

/* Paths are exact and case sensitive; there is no prefix of everything. */
static void unknown_paths_match_nothing(void **state)
{
    static const char *const paths[] = {"/v1",
                                        "/v1/",
                                        "/nosuch",
                                        "/v1/kvx",
                                        "/v2/kv/x",
                                        "/v1/agent/self/",
                                        "/v1/Status/Leader",
                                        "/v1/health/",
                                        "/v1/status/leader/x"};

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(paths); i++) {
        struct api_match m = find(paths[i]);

        assert_null(m.rows);
        assert_false(m.add_slash);
    }
}

/* A prefix without its slash asks for it, even below another prefix; a path
 * that is itself in the table does not. */
static void prefix_without_slash_asks_for_it(void **state)
{
    (void)state;
    assert_true(find("/v1/kv").add_slash);
    assert_true(find("/v1/health/service").add_slash);
    assert_true(find("/v1/acl/policy/name").add_slash);
    assert_false(find("/v1/acl/token").add_slash);
    assert_false(find("/v1/kvx").add_slash);
}

/* Paths longer than any row are arguments. */
static void long_paths_are_arguments(void **state)
{
    char path[4096] = "/v1/kv/";

    (void)state;
    memset(path + 7, 'k', sizeof path - 8);
    path[sizeof path - 1] = '\0';
    assert_string_equal(find(path).rows->path, "/v1/kv/");
    memset(path + 1, 'k', sizeof path - 2);
    assert_null(find(path).rows);
    memset(path + 1, '/', sizeof path - 2);
    assert_null(find(path).rows);
}

/* Methods are those of the path's rows, in their order, case sensitive. */
static void methods_are_told_in_order(void **state)
{
    struct api_match m = find("/v1/kv/x");
    char allow[64];

    (void)state;
    api_route_allow(&m, allow, sizeof allow);
    assert_string_equal(allow, "OPTIONS,GET,PUT,DELETE");
    assert_non_null(api_route_method(&m, "GET"));
    assert_string_equal(api_route_method(&m, "DELETE")->method, "DELETE");
    assert_null(api_route_method(&m, "get"));
    assert_null(api_route_method(&m, "POST"));
    assert_null(api_route_method(&m, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(longest_path_wins),
        cmocka_unit_test(unknown_paths_match_nothing),
        cmocka_unit_test(prefix_without_slash_asks_for_it),
        cmocka_unit_test(long_paths_are_arguments),
        cmocka_unit_test(methods_are_told_in_order),
    };

    return cmocka_run_group_tests_name("api_routes", tests, NULL, NULL);
}
