/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/json, text: what is read and written is JSON, and nothing else. */
#include "client-lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client-lib/microreg.h"

static int parse(struct mrg_arena *arena, const char *text,
                 const struct mrg_json **out)
{
    return mrg_json_parse(arena, text, strlen(text), out, NULL);
}

/* ------------------------------------------------------------- success */

static void members_are_found_by_name(void **state)
{
    struct mrg_arena arena = {NULL, 0};
    const struct mrg_json *json;

    (void)state;
    assert_int_equal(parse(&arena,
                           " {\"a\" : [1, -2.5e+3, true,false,null],"
                           "\"b\":{\"c\":\"x\"},\"n\":18446744073709551615,"
                           "\"over\":18446744073709551616,"
                           "\"b2\":1,\"b2\":2} ",
                           &json),
                     MICROREG_OK);
    assert_int_equal(mrg_json_get(json, "a")->n, 5);
    assert_string_equal(
        mrg_json_str(mrg_json_get(mrg_json_get(json, "b"), "c")), "x");
    assert_true(mrg_json_u64(mrg_json_get(json, "n")) == UINT64_MAX);
    assert_int_equal(mrg_json_u64(mrg_json_get(json, "over")), 0);
    assert_int_equal(mrg_json_u64(mrg_json_get(json, "a")->child->next), 0);
    assert_int_equal(mrg_json_u64(mrg_json_get(json, "b2")), 2);
    assert_null(mrg_json_get(json, "none"));
    assert_string_equal(mrg_json_str(mrg_json_get(json, "a")), "");
    assert_int_equal(mrg_json_u64(mrg_json_get(json, "b")), 0);
    assert_int_equal(mrg_json_get(json, "b")->raw_len, 9);
    mrg_arena_deinit(&arena);
}

static void escapes_become_characters(void **state)
{
    static const struct {
        const char *json;
        const char *want;
        size_t len;
    } cases[] = {
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u00e4\\u20AC\\ud83d\\uDE00\"",
         "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9},
        {"\"\\ud800x\"", "\xef\xbf\xbdx", 4},
        {"\"\\ud800\\u0041\"",
         "\xef\xbf\xbd"
         "A",
         4},
        {"\"\\udc00\"", "\xef\xbf\xbd", 3},
        {"\"a\\u0000b\"", "a\0b", 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mrg_arena arena = {NULL, 0};
        const struct mrg_json *json;

        assert_int_equal(parse(&arena, cases[i].json, &json), MICROREG_OK);
        assert_int_equal(json->text_len, cases[i].len);
        assert_memory_equal(json->text, cases[i].want, cases[i].len);
        mrg_arena_deinit(&arena);
    }
}

static void what_is_written_reads_back(void **state)
{
    static const char bytes[] = "q\"b\\ \n\r\t\x01\x1f \xc3\xa4 \x7f";
    struct mrg_arena arena = {NULL, 0};
    struct mrg_text text = MRG_TEXT_INIT;
    const struct mrg_json *json;

    (void)state;
    mrg_text_json(&text, bytes, sizeof bytes - 1);
    assert_int_equal(parse(&arena, text.data, &json), MICROREG_OK);
    assert_string_equal(json->text, bytes);
    mrg_text_deinit(&text);
    mrg_arena_deinit(&arena);
}

static void urls_keep_what_is_plain(void **state)
{
    struct mrg_text text = MRG_TEXT_INIT;

    (void)state;
    mrg_text_url(&text, "a/b c?&=%\xc3\xa4~", false);
    mrg_text_url(&text, "/a b", true);
    assert_string_equal(text.data, "a%2Fb%20c%3F%26%3D%25%C3%A4~/a%20b");
    mrg_text_deinit(&text);
}

/* ------------------------------------------------------------- failure */

static void what_is_no_json_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "{",
        "[",
        "]",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "01",
        "-",
        "1.",
        "1e",
        ".5",
        "nul",
        "True",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\n\"",
        "\"\xff\"",
        "1 2",
        "[1 2]",
        "\"\\",
        "\"\\u12g4\"",
        "{\"a\":1]",
        "[}",
        "\"\xed\xa0\x80\"",
        "\"\xc0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xe2\x82\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mrg_arena arena = {NULL, 0};
        const struct mrg_json *json = NULL;

        if (parse(&arena, cases[i], &json) != MICROREG_E_PROTOCOL) {
            fail_msg("case %zu was taken: %s", i, cases[i]);
        }
        assert_null(json);
        mrg_arena_deinit(&arena);
    }
}

/* Nesting costs stack, so it ends. */
static void deep_nesting_is_refused(void **state)
{
    struct mrg_arena arena = {NULL, 0};
    const struct mrg_json *json;
    char text[2 * MRG_JSON_DEPTH + 3] = "";

    (void)state;
    memset(text, '[', MRG_JSON_DEPTH);
    memset(text + MRG_JSON_DEPTH, ']', MRG_JSON_DEPTH);
    assert_int_equal(parse(&arena, text, &json), MICROREG_OK);
    memset(text, '[', MRG_JSON_DEPTH + 1);
    memset(text + MRG_JSON_DEPTH + 1, ']', MRG_JSON_DEPTH + 1);
    assert_int_equal(parse(&arena, text, &json), MICROREG_E_PROTOCOL);
    mrg_arena_deinit(&arena);
}

static void a_lack_of_memory_is_told(void **state)
{
    static const char text[] = "{\"a\":[\"b\",{\"c\":\"d\"}]}";
    struct mrg_arena arena = {NULL, 0};
    struct mrg_text out = MRG_TEXT_INIT;
    const struct mrg_json *json;

    (void)state;
    mrg_mem_fail_at(1);
    assert_int_equal(parse(&arena, text, &json), MICROREG_E_NOMEM);
    mrg_text_str(&out, "x");
    assert_true(out.failed);
    mrg_mem_fail_at(0);
    mrg_text_str(&out, "x");
    assert_true(out.failed); /* It sticks. */
    assert_null(mrg_text_take(&out, NULL));
    mrg_text_deinit(&out);
    mrg_arena_deinit(&arena);
}

static void a_text_ends_at_its_limit(void **state)
{
    struct mrg_text out = MRG_TEXT_INIT;

    (void)state;
    out.limit = 4;
    mrg_text_str(&out, "1234");
    assert_false(out.failed);
    mrg_text_byte(&out, '5');
    assert_true(out.failed);
    assert_string_equal(out.data, "1234");
    mrg_text_cut(&out, 3);
    assert_string_equal(out.data, "4");
    mrg_text_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_found_by_name),
        cmocka_unit_test(escapes_become_characters),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(urls_keep_what_is_plain),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(a_lack_of_memory_is_told),
        cmocka_unit_test(a_text_ends_at_its_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
