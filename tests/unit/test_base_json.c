/* SPDX-License-Identifier: Apache-2.0 */
/* base/json: the bytes Go's encoder would write. */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void assert_written(struct mr_buf *out, const char *want)
{
    assert_string_equal(mr_buf_cstr(out), want);
    mr_buf_deinit(out);
}

/* Commas stand between values and nowhere else. */
static void commas_are_put_by_the_writer(void **state)
{
    struct mr_buf out = MR_BUF_INIT;
    struct mr_json j;

    (void)state;
    mr_json_init(&j, &out);
    mr_json_object(&j);
    mr_json_kstr(&j, "a", "x");
    mr_json_key(&j, "list");
    mr_json_array(&j);
    mr_json_u64(&j, UINT64_MAX);
    mr_json_i64(&j, INT64_MIN);
    mr_json_null(&j);
    mr_json_object(&j);
    mr_json_object_end(&j);
    mr_json_array_end(&j);
    mr_json_kbool(&j, "b", false);
    mr_json_ki64(&j, "n", -1);
    mr_json_key(&j, "raw");
    mr_json_raw(&j, mr_slice_str("{}"));
    mr_json_object_end(&j);
    assert_written(&out, "{\"a\":\"x\",\"list\":[18446744073709551615,"
                         "-9223372036854775808,null,{}],\"b\":false,\"n\":-1,"
                         "\"raw\":{}}");
}

/* Escapes are Go's: HTML characters, control characters, line separators. */
static void strings_are_escaped_as_in_go(void **state)
{
    static const char *const cases[][2] = {
        {"<a&b>", "\"\\u003ca\\u0026b\\u003e\""},
        {"q\"b\\", "\"q\\\"b\\\\\""},
        {"\n\r\t\x01\x1f", "\"\\n\\r\\t\\u0001\\u001f\""},
        {"\xe2\x80\xa8\xe2\x80\xa9", "\"\\u2028\\u2029\""},
        {"\xc3\xa4\xf0\x9f\x98\x80", "\"\xc3\xa4\xf0\x9f\x98\x80\""},
        {"\x7f", "\"\x7f\""},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_buf out = MR_BUF_INIT;
        struct mr_json j;

        mr_json_init(&j, &out);
        mr_json_str(&j, cases[i][0]);
        assert_written(&out, cases[i][1]);
    }
}

/* Each byte that is not UTF-8 becomes the replacement character. */
static void invalid_utf8_is_replaced(void **state)
{
    static const char *const cases[][2] = {
        {"\xff", "\"\\ufffd\""},
        {"a\xc3", "\"a\\ufffd\""},
        {"\xc0\x80", "\"\\ufffd\\ufffd\""},
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\xe2\x82z", "\"\\ufffd\\ufffdz\""},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_buf out = MR_BUF_INIT;
        struct mr_json j;

        mr_json_init(&j, &out);
        mr_json_str(&j, cases[i][0]);
        assert_written(&out, cases[i][1]);
    }
}

/* RFC 4648 §10's test vectors. */
static void base64_follows_the_rfc(void **state)
{
    static const char *const cases[][2] = {
        {"", "\"\""},
        {"f", "\"Zg==\""},
        {"fo", "\"Zm8=\""},
        {"foo", "\"Zm9v\""},
        {"foob", "\"Zm9vYg==\""},
        {"fooba", "\"Zm9vYmE=\""},
        {"foobar", "\"Zm9vYmFy\""},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_buf out = MR_BUF_INIT;
        struct mr_json j;

        mr_json_init(&j, &out);
        mr_json_base64(&j, mr_slice_str(cases[i][0]));
        assert_written(&out, cases[i][1]);
    }
}

/* Indenting leaves strings and empty levels alone. */
static void indenting_matches_marshal_indent(void **state)
{
    struct mr_buf out = MR_BUF_INIT;

    (void)state;
    mr_json_indent(&out,
                   mr_slice_str("{\"a\":[1,{\"b\":\"x,{\\\"\"}],\"c\":{}}"), 4);
    assert_written(&out, "{\n    \"a\": [\n        1,\n        {\n"
                         "            \"b\": \"x,{\\\"\"\n        }\n    ],\n"
                         "    \"c\": {}\n}\n");
    mr_json_indent(&out, mr_slice_str("[]"), 4);
    assert_written(&out, "[]\n");
}

/* A buffer that may not grow makes the whole text fail, not a part of it. */
static void a_full_buffer_fails_for_good(void **state)
{
    struct mr_buf out;
    struct mr_json j;

    (void)state;
    mr_buf_init(&out, 8);
    mr_json_init(&j, &out);
    mr_json_str(&j, "longer than eight");
    assert_true(mr_buf_failed(&out));
    mr_json_base64(&j, mr_slice_str("abc"));
    assert_true(mr_buf_failed(&out));
    mr_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(commas_are_put_by_the_writer),
        cmocka_unit_test(strings_are_escaped_as_in_go),
        cmocka_unit_test(base64_follows_the_rfc),
        cmocka_unit_test(indenting_matches_marshal_indent),
        /* failure */
        cmocka_unit_test(invalid_utf8_is_replaced),
        cmocka_unit_test(a_full_buffer_fails_for_good),
    };

    return cmocka_run_group_tests_name("base/json", tests, NULL, NULL);
}
