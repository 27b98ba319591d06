/* SPDX-License-Identifier: Apache-2.0 */
/* api/decode: JSON bodies into structs, with Go's rules and Go's words. */
#include "api/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/body_tables.h"
#include "base/mem.h"

struct inner {
    int64_t depth;
};

struct outer {
    char *name;
    int64_t port;
    int is_on;
    int64_t ttl_ns;
    char **tags;
    size_t n_tags;
    struct inner *one;
    struct inner **many;
    size_t n_many;
    Mr__Pair **meta;
    size_t n_meta;
};

static const struct decode_field inner_fields[] = {
    DECODE_FIELD(struct inner, DECODE_INT, "Depth", depth),
};
static const struct decode_table inner_table = {
    .go_name = "",
    .fields = inner_fields,
    .n_fields = MR_ARRAY_LEN(inner_fields),
    .size = sizeof(struct inner),
};
static const struct decode_field outer_fields[] = {
    DECODE_FIELD(struct outer, DECODE_TEXT, "Name", name),
    DECODE_FIELD(struct outer, DECODE_INT, "Port", port),
    DECODE_FIELD(struct outer, DECODE_BOOL, "IsOn", is_on),
    DECODE_FIELD(struct outer, DECODE_DURATION, "TTL", ttl_ns),
    DECODE_MANY(struct outer, DECODE_TEXTS, "Tags", tags, NULL),
    {"One", DECODE_OBJECT, offsetof(struct outer, one), 0, &inner_table},
    DECODE_MANY(struct outer, DECODE_OBJECTS, "Many", many, &inner_table),
    DECODE_MANY(struct outer, DECODE_MAP, "Meta", meta, &body_pairs),
    {"Proxy", DECODE_EMPTY, 0, 0, NULL},
    DECODE_SKIP("Token"),
};
static const struct decode_table outer_table = {
    .go_name = "Outer",
    .fields = outer_fields,
    .n_fields = MR_ARRAY_LEN(outer_fields),
    .size = sizeof(struct outer),
};

struct fixture {
    struct decode d;
    struct outer out;
};

static int set_up(void **state)
{
    static struct fixture f;

    decode_setup();
    memset(&f, 0, sizeof f);
    f.out.name = (char *)"";
    decode_init(&f.d);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    mr_mem_fail_after(UINT64_MAX);
    decode_deinit(&((struct fixture *)*state)->d);
    return 0;
}

static enum mr_err decode(struct fixture *f, const char *body)
{
    return decode_body(&f->d, mr_slice_str(body), &outer_table, &f->out);
}

/* ------------------------------------------------------------- success */

/* Every kind of field arrives where its row says. */
static void fields_are_filled(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f,
                            "{\"Name\":\"web\",\"Port\":-80,\"IsOn\":true,"
                            "\"TTL\":\"1.5s\",\"Tags\":[\"a\",\"b\"],"
                            "\"One\":{\"Depth\":1},\"Many\":[{\"Depth\":2},{}],"
                            "\"Meta\":{\"z\":\"1\",\"a\":\"2\"},\"Proxy\":{},"
                            "\"Token\":[1]}"),
                     MR_OK);
    assert_string_equal(f->out.name, "web");
    assert_int_equal(f->out.port, -80);
    assert_true(f->out.is_on);
    assert_int_equal(f->out.ttl_ns, 1500000000);
    assert_int_equal(f->out.n_tags, 2);
    assert_string_equal(f->out.tags[1], "b");
    assert_int_equal(f->out.one->depth, 1);
    assert_int_equal(f->out.n_many, 2);
    assert_int_equal(f->out.many[0]->depth, 2);
    assert_int_equal(f->out.many[1]->depth, 0);
}

/* Maps come sorted by key, whatever their order in the text. */
static void maps_are_sorted(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f, "{\"Meta\":{\"z\":\"1\",\"B\":\"3\","
                               "\"a\":\"2\"}}"),
                     MR_OK);
    assert_int_equal(f->out.n_meta, 3);
    assert_string_equal(f->out.meta[0]->key, "B");
    assert_string_equal(f->out.meta[1]->key, "a");
    assert_string_equal(f->out.meta[2]->key, "z");
    assert_string_equal(f->out.meta[2]->value, "1");
}

/* Clients write names in lower case, and that is the same field. */
static void names_match_in_any_case(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f, "{\"NAME\":\"x\",\"port\":1,\"ison\":true}"),
                     MR_OK);
    assert_string_equal(f->out.name, "x");
    assert_int_equal(f->out.port, 1);
    assert_true(f->out.is_on);
}

/* null says nothing, everywhere; in a list of texts it is the empty one. */
static void null_is_the_same_as_absent(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f, "{\"Name\":null,\"Port\":null,\"TTL\":null,"
                               "\"Tags\":[null,\"\"],\"One\":null,"
                               "\"Many\":[null],\"Meta\":{\"k\":null}}"),
                     MR_OK);
    assert_string_equal(f->out.name, "");
    assert_int_equal(f->out.n_tags, 2);
    assert_string_equal(f->out.tags[0], "");
    assert_null(f->out.one);
    assert_int_equal(f->out.n_many, 0);
    assert_string_equal(f->out.meta[0]->value, "");
    decode_deinit(&f->d);
    assert_int_equal(decode(f, "null"), MR_OK);
}

/* A number is nanoseconds, also with a fraction or an exponent. */
static void durations_may_be_numbers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f, "{\"TTL\":60000000000}"), MR_OK);
    assert_int_equal(f->out.ttl_ns, 60000000000);
    decode_deinit(&f->d);
    assert_int_equal(decode(f, "{\"TTL\":1.5e9}"), MR_OK);
    assert_int_equal(f->out.ttl_ns, 1500000000);
}

/* What follows the first value is not read. */
static void trailing_text_is_ignored(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f, "{\"Name\":\"x\"} trailing"), MR_OK);
    assert_string_equal(f->out.name, "x");
}

/* Memory of the arena is aligned, zeroed and lives as long as the body. */
static void arena_gives_zeroed_memory(void **state)
{
    struct fixture *f = *state;
    char *large = decode_alloc(&f->d, 10000);
    uint64_t *small = decode_alloc(&f->d, 9);

    assert_non_null(large);
    assert_int_equal(large[9999], 0);
    assert_int_equal((uintptr_t)small % sizeof(void *), 0);
    assert_int_equal(*small, 0);
    assert_string_equal(decode_printf(&f->d, "%s:%d", "a", 7), "a:7");
}

/* ------------------------------------------------------------- failure */

/* Wrong input is refused with the sentence Consul sends. */
static void errors_have_gos_words(void **state)
{
    static const char *const cases[][2] = {
        {"", "EOF"},
        {" \n", "EOF"},
        {"{", "unexpected EOF"},
        {"{\"Name\":\"web\"", "unexpected EOF"},
        {"{\"Name\":\"we", "unexpected EOF"},
        {"[1,", "unexpected EOF"},
        {"tru", "unexpected EOF"},
        {"nonsense", "invalid character 'o' in literal null (expecting 'u')"},
        {"tRue", "invalid character 'R' in literal true (expecting 'r')"},
        {"falsy", "invalid character 'y' in literal false (expecting 'e')"},
        {"<", "invalid character '<' looking for beginning of value"},
        {"{a", "invalid character 'a' looking for beginning of object key "
               "string"},
        {"{\"a\" 1", "invalid character '1' after object key"},
        {"{\"a\":1 \"b\"",
         "invalid character '\"' after object key:value pair"},
        {"{\"a\":1,}", "invalid character '}' looking for beginning of object "
                       "key string"},
        {"[1 2]", "invalid character '2' after array element"},
        {"\"a\nb\"", "invalid character '\\x0a' in string literal"},
        {"\"\\q\"", "invalid character 'q' in string escape code"},
        {"\"\\u12x4\"",
         "invalid character 'x' in \\u hexadecimal character escape"},
        {"01", "invalid character '1' after top-level value"},
        {"[-]", "invalid character ']' in numeric literal"},
        {"[1.]",
         "invalid character ']' after decimal point in numeric literal"},
        {"[1e]", "invalid character ']' in exponent of numeric literal"},
        {"{\"Bogus\":1}", "json: unknown field \"Bogus\""},
        {"{\"One\":{\"X\":1}}", "json: unknown field \"X\""},
        {"{\"Name\":5}", "json: cannot unmarshal number into Go struct field "
                         "Outer.Name of type string"},
        {"{\"Port\":\"80\"}", "json: cannot unmarshal string into Go struct "
                              "field Outer.Port of type int"},
        {"{\"Port\":1.5}", "json: cannot unmarshal number 1.5 into Go struct "
                           "field Outer.Port of type int"},
        {"{\"IsOn\":\"true\"}", "json: cannot unmarshal string into Go struct "
                                "field Outer.IsOn of type bool"},
        {"{\"Tags\":\"a\"}", "json: cannot unmarshal string into Go struct "
                             "field Outer.Tags of type []string"},
        {"{\"Tags\":[1]}", "json: cannot unmarshal number into Go struct "
                           "field Outer.Tags of type string"},
        {"{\"Meta\":[]}", "json: cannot unmarshal array into Go struct field "
                          "Outer.Meta of type map[string]string"},
        {"{\"Meta\":{\"a\":1}}", "json: cannot unmarshal number into Go "
                                 "struct field Outer.Meta of type string"},
        {"[]", "json: cannot unmarshal array into Go value of type struct"},
        {"{\"TTL\":\"bogus\"}", "time: invalid duration \"bogus\""},
        {"{\"TTL\":\"10\"}", "time: missing unit in duration \"10\""},
        {"{\"Proxy\":{\"a\":1}}",
         "field \"Proxy\" is not supported by this server"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        assert_int_equal(decode(f, cases[i][0]), MR_E_INVALID);
        assert_string_equal(f->d.error, cases[i][1]);
        decode_deinit(&f->d);
    }
}

/* Consul parses an object's durations last, so an unknown field is told
 * first. */
static void durations_are_parsed_last(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f, "{\"TTL\":\"bogus\",\"Bogus\":1}"),
                     MR_E_INVALID);
    assert_string_equal(f->d.error, "json: unknown field \"Bogus\"");
}

/* Numbers beyond 64 bits, bytes that are no text and NUL in texts are refused,
 * not bent into something else. */
static void what_cannot_be_held_is_refused(void **state)
{
    static const char *const cases[] = {
        "{\"Port\":99999999999999999999}",
        "{\"TTL\":1e300}",
        "{\"Name\":\"\xff\"}",
        "{\"Name\":\"a\\u0000b\"}",
        "{\"Name\":\"\\ud800\"}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        assert_int_equal(decode(f, cases[i]), MR_E_INVALID);
        assert_string_not_equal(f->d.error, "");
        decode_deinit(&f->d);
    }
}

/* The parser recurses, so deep nesting is refused before it starts. */
static void deep_nesting_is_refused(void **state)
{
    struct fixture *f = *state;
    char body[4 * DECODE_DEPTH_MAX];

    memset(body, '[', sizeof body);
    body[sizeof body - 1] = '\0';
    assert_int_equal(decode(f, body), MR_E_INVALID);
    assert_string_equal(f->d.error, "exceeded max depth");
}

/* Brackets in a text are no nesting, whatever the text escapes. */
static void brackets_in_texts_do_not_nest(void **state)
{
    struct fixture *f = *state;
    char body[4 * DECODE_DEPTH_MAX];

    memset(body, '[', sizeof body);
    memcpy(body, "{\"x\":\"\\\"", 8);
    memcpy(body + sizeof body - 3, "\"}", 3);
    assert_int_equal(decode(f, body), MR_E_INVALID);
    assert_string_equal(f->d.error, "json: unknown field \"x\"");
}

/* An error that is longer than its place is cut, not written beyond it. */
static void long_errors_are_cut(void **state)
{
    static char body[4000];
    struct fixture *f = *state;

    (void)snprintf(body, sizeof body, "{\"%03000d\":1}", 1);
    assert_int_equal(decode(f, body), MR_E_INVALID);
    assert_int_equal(strlen(f->d.error), sizeof f->d.error - 1);
}

/* Whichever allocation fails, the answer is "out of memory" and nothing
 * leaks. */
static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    enum mr_err err = MR_E_NOMEM;
    uint64_t n;

    for (n = 0; err != MR_OK && n < 1000; n++) {
        memset(&f->out, 0, sizeof f->out);
        mr_mem_fail_after(n);
        err = decode(f, "{\"Name\":\"web\",\"Tags\":[\"a\"],\"Many\":[{}],"
                        "\"Meta\":{\"a\":\"b\"},\"One\":{\"Depth\":1}}");
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        decode_deinit(&f->d);
    }
    assert_int_equal(err, MR_OK);
    assert_true(n > 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fields_are_filled),         TEST(maps_are_sorted),
        TEST(names_match_in_any_case),   TEST(null_is_the_same_as_absent),
        TEST(durations_may_be_numbers),  TEST(trailing_text_is_ignored),
        TEST(arena_gives_zeroed_memory), TEST(errors_have_gos_words),
        TEST(durations_are_parsed_last), TEST(what_cannot_be_held_is_refused),
        TEST(deep_nesting_is_refused),   TEST(brackets_in_texts_do_not_nest),
        TEST(long_errors_are_cut),       TEST(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("api_decode", tests, NULL, NULL);
}
