/* SPDX-License-Identifier: Apache-2.0 */
/* api/target: targets, paths and queries as Go's net/url reads them. */
#include "api/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/gzip.h"
#include "base/mem.h"

/* Parse @raw in memory of exactly the announced size, so that the sanitizers
 * see every byte too many. */
static enum mr_err parse(const char *raw, struct api_target *out, void **memory)
{
    *memory = mr_malloc(api_target_size(raw, strlen(raw)));
    assert_non_null(*memory);
    return api_target_parse(raw, strlen(raw), *memory, out);
}

/* The path is decoded, a plus sign is itself, the query stays apart. */
static void paths_are_decoded(void **state)
{
    static const char *const cases[][3] = {
        {"/", "/", ""},
        {"/v1/kv/a%2Fb?x=%zz", "/v1/kv/a/b", "x=%zz"},
        {"/a+b%20c%25", "/a+b c%", ""},
        {"/a?b?c", "/a", "b?c"},
        {"/caf%C3%A9", "/caf\xc3\xa9", ""},
        {"http://host:8500/v1/x?y", "/v1/x", "y"},
        {"http://host", "/", ""},
        {"http://host?q=1", "/", "q=1"},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct api_target t;
        void *memory;

        assert_int_equal(parse(cases[i][0], &t, &memory), MR_OK);
        assert_string_equal(t.path, cases[i][1]);
        assert_int_equal(t.path_len, strlen(cases[i][1]));
        assert_string_equal(t.raw_query, cases[i][2]);
        mr_free(memory);
    }
}

/* A target that is no path, or has half an escape, is refused. */
static void bad_targets_are_refused(void **state)
{
    static const char *const cases[] = {"",     "x",     "*",    "ftp://h/",
                                        "/%",   "/%2",   "/%zz", "/a%2",
                                        "/%2g", "/a%%20"};

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct api_target t;
        void *memory;

        assert_int_equal(parse(cases[i], &t, &memory), MR_E_INVALID);
        mr_free(memory);
    }
}

/* Parameters split at & and ;, names and values are decoded, empty ones are
 * skipped. */
static void queries_are_split_and_decoded(void **state)
{
    struct api_target t;
    void *memory;

    (void)state;
    assert_int_equal(parse("/?a=1&b;c=x+y%26&&d=%00z&=v", &t, &memory), MR_OK);
    assert_false(t.query_is_bad);
    assert_int_equal(t.n_params, 5);
    assert_string_equal(t.params[0].name, "a");
    assert_string_equal(t.params[0].value, "1");
    assert_string_equal(t.params[1].name, "b");
    assert_string_equal(t.params[1].value, "");
    assert_string_equal(t.params[2].value, "x y&");
    assert_int_equal(t.params[3].value_len, 2);
    assert_string_equal(t.params[4].name, "");
    mr_free(memory);
}

/* A bad escape drops its parameter only and is remembered. */
static void bad_parameter_is_dropped_and_told(void **state)
{
    struct api_target t;
    void *memory;

    (void)state;
    assert_int_equal(parse("/?a=1&%zz=2&b=%q&c=3", &t, &memory), MR_OK);
    assert_true(t.query_is_bad);
    assert_int_equal(t.n_params, 2);
    assert_string_equal(t.params[1].name, "c");
    mr_free(memory);
}

/* Control characters and invisible ones are not printable; spaces, other
 * scripts and bytes that are no UTF-8 are. */
static void invisible_characters_are_not_printable(void **state)
{
    static const char *const good[] = {"/a b",          "/caf\xc3\xa9",
                                       "/\xe4\xb8\x96", "/\xff",
                                       "/\xe2\x28\xa1", "/~"};
    static const char *const bad[] = {
        "/a\n",      "/\t",           "/\x7f",    "/\xe2\x80\x8b",
        "/\xc2\xa0", "/\xef\xbb\xbf", "/\xc2\x85"};

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(good); i++) {
        assert_true(api_path_printable(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(bad); i++) {
        assert_false(api_path_printable(bad[i], strlen(bad[i])));
    }
    assert_false(api_path_printable("/\0", 2));
}

/* Cleaning is Go's cleanPath, and a path is clean exactly when cleaning leaves
 * it alone. */
static void paths_are_cleaned_as_in_go(void **state)
{
    static const char *const cases[][2] = {
        {"/", "/"},           {"", "/"},
        {"//", "/"},          {"/a", "/a"},
        {"/a/", "/a/"},       {"/a//b", "/a/b"},
        {"/a/./b", "/a/b"},   {"/a/../b", "/b"},
        {"/..", "/"},         {"/../../x", "/x"},
        {"/a/b/..", "/a"},    {"/a/b/../", "/a/"},
        {"/a/.", "/a"},       {"/.a", "/.a"},
        {"/a..", "/a.."},     {"/...", "/..."},
        {"/a/...", "/a/..."}, {"//a///b//", "/a/b/"},
        {"/./", "/"},         {"/a/.b/..c", "/a/.b/..c"},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_buf out = MR_BUF_INIT;

        api_path_clean(cases[i][0], strlen(cases[i][0]), &out);
        assert_string_equal(mr_buf_cstr(&out), cases[i][1]);
        assert_int_equal(api_path_is_clean(cases[i][0], strlen(cases[i][0])),
                         strcmp(cases[i][0], cases[i][1]) == 0);
        mr_buf_deinit(&out);
    }
}

/* Escaping keeps what a path may hold and nothing else. */
static void paths_are_escaped_for_urls(void **state)
{
    struct mr_buf out = MR_BUF_INIT;

    (void)state;
    api_path_escape("/a b?c%\xc3;=", 9, &out);
    assert_string_equal(mr_buf_cstr(&out), "/a%20b%3Fc%25%C3;");
    mr_buf_deinit(&out);
}

/* A query is written back sorted by name, same names in their order. */
static void queries_are_encoded_sorted(void **state)
{
    struct api_target t;
    struct mr_buf out = MR_BUF_INIT;
    void *memory;

    (void)state;
    assert_int_equal(parse("/?cas=1&acquire=x+y&b=2&b=1&recurse", &t, &memory),
                     MR_OK);
    api_query_encode(t.params, t.n_params, &out);
    assert_string_equal(mr_buf_cstr(&out),
                        "acquire=x+y&b=2&b=1&cas=1&recurse=");
    mr_buf_deinit(&out);
    mr_free(memory);
}

/* gzip counts when it is named and not with q=0. */
static void gzip_is_negotiated(void **state)
{
    static const char *const yes[] = {"gzip", "gzip, deflate, br",
                                      "deflate,GZIP;q=0.5", " gzip ;q=1",
                                      "br;q=1.0, gzip;q=0.8, *;q=0.1"};
    static const char *const no[] = {"",           "deflate",
                                     "*",          "gzip;q=0",
                                     "gzip;q=0.0", "br, gzip; q=0.000, x",
                                     "gzipx"};

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(yes); i++) {
        assert_true(api_accepts_gzip(yes[i]));
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(no); i++) {
        assert_false(api_accepts_gzip(no[i]));
    }
    assert_false(api_accepts_gzip(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_decoded),
        cmocka_unit_test(bad_targets_are_refused),
        cmocka_unit_test(queries_are_split_and_decoded),
        cmocka_unit_test(bad_parameter_is_dropped_and_told),
        cmocka_unit_test(invisible_characters_are_not_printable),
        cmocka_unit_test(paths_are_cleaned_as_in_go),
        cmocka_unit_test(paths_are_escaped_for_urls),
        cmocka_unit_test(queries_are_encoded_sorted),
        cmocka_unit_test(gzip_is_negotiated),
    };

    return cmocka_run_group_tests_name("api_target", tests, NULL, NULL);
}
