/* SPDX-License-Identifier: Apache-2.0 */
/* api/registry_tags: tags of go-micro's consul plugin. */
#include "api/registry_tags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include <cmocka.h>

#include "base/mem.h"

/* As Go's compress/zlib writes {"transport":"http"}, "" and "latest". */
#define GO_PAIR                                                                \
    "t-789caa562a294acc2b2ec82f2a51b252ca28292950aa05040000ffff4f930768"
#define GO_EMPTY "v-789c010000ffff00000001"
#define GO_LATEST "v-789cca492c492d2e01040000ffff08cc028e"

#define MIB ((size_t)1024 * 1024)

static struct mr_buf out = MR_BUF_INIT;

static int tear_down(void **state)
{
    (void)state;
    mr_mem_fail_after(UINT64_MAX);
    mr_buf_deinit(&out);
    return 0;
}

static void expect(const char *tag, const char *plain)
{
    assert_true(registry_tag_get(tag, &out));
    assert_string_equal(mr_buf_cstr(&out), plain);
}

static void expect_nothing(const char *tag)
{
    assert_false(registry_tag_get(tag, &out));
    assert_int_equal(out.len, 0);
    assert_false(mr_buf_failed(&out));
}

/* ------------------------------------------------------------- success */

/* What was put into a tag comes out of it. */
static void a_tag_round_trips(void **state)
{
    static const char *const texts[] = {"", "latest", "{\"a\":\"b\"}"};
    struct mr_buf tag = MR_BUF_INIT;

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        mr_buf_reset(&tag);
        registry_tag_put(&tag, REGISTRY_TAG_VERSION, mr_slice_str(texts[i]));
        assert_memory_equal(mr_buf_cstr(&tag), "v-789c", 6);
        expect(mr_buf_cstr(&tag), texts[i]);
    }
    mr_buf_deinit(&tag);
}

/* The largest that a tag may hold, of bytes that do not compress. */
static void a_large_tag_round_trips(void **state)
{
    static char plain[REGISTRY_TAG_MAX + 1];
    struct mr_buf tag = MR_BUF_INIT;
    uint32_t x = 1;

    (void)state;
    for (size_t i = 0; i < REGISTRY_TAG_MAX; i++) {
        x = x * 1664525u + 1013904223u;
        plain[i] = (char)('!' + (x >> 24) % 90);
    }
    registry_tag_put(&tag, REGISTRY_TAG_ENDPOINT,
                     mr_slice(plain, REGISTRY_TAG_MAX));
    expect(mr_buf_cstr(&tag), plain);
    mr_buf_deinit(&tag);
}

/* Tags are appended, and the digits fill exactly what they need. */
static void tags_are_appended(void **state)
{
    struct mr_buf tag = MR_BUF_INIT;

    (void)state;
    mr_buf_str(&tag, "x,");
    registry_tag_put(&tag, REGISTRY_TAG_VERSION, mr_slice_str("latest"));
    assert_string_equal(mr_buf_cstr(&tag), "x,v-789ccb492c492d2e010008cc028e");
    mr_buf_deinit(&tag);
}

/* Go's streams, and the plain texts of old plugins. */
static void foreign_tags_are_read(void **state)
{
    (void)state;
    expect(GO_PAIR, "{\"transport\":\"http\"}");
    expect(GO_EMPTY, "");
    expect(GO_LATEST, "latest");
    expect("v=1.0", "1.0");
    expect("t={\"a\":\"b\"}", "{\"a\":\"b\"}");
    expect("v-789CCB492C492D2E010008CC028E", "latest");
}

/* Only the first two characters make a form. */
static void forms_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(registry_tag_form("t-00", REGISTRY_TAG_METADATA), '-');
    assert_int_equal(registry_tag_form("e={}", REGISTRY_TAG_ENDPOINT), '=');
    assert_int_equal(registry_tag_form("v-", REGISTRY_TAG_VERSION), '-');
    assert_int_equal(registry_tag_form("v", REGISTRY_TAG_VERSION), 0);
    assert_int_equal(registry_tag_form("", REGISTRY_TAG_VERSION), 0);
    assert_int_equal(registry_tag_form("version", REGISTRY_TAG_VERSION), 0);
    assert_int_equal(registry_tag_form("t-00", REGISTRY_TAG_VERSION), 0);
}

/* ------------------------------------------------------------- failure */

static void damaged_tags_hold_nothing(void **state)
{
    static const char *const tags[] = {
        "e-commerce",
        "v-",
        "v-7",
        "v-789",
        "v-789c",
        "v-00",
        "v-789ccb492c492d2e01",
        "v-789ccb492c492d2e010008cc028f",
        "v-789ccb492c492d2e010008cc028 ",
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(tags); i++) {
        expect_nothing(tags[i]);
    }
}

/* Two kilobytes of digits cannot become a megabyte. */
static void bombs_are_refused(void **state)
{
    uint8_t packed[4096];
    uLongf len = sizeof packed;
    struct mr_buf tag = MR_BUF_INIT;
    void *zeroes = mr_calloc(1, MIB);

    (void)state;
    assert_non_null(zeroes);
    assert_int_equal(compress2(packed, &len, zeroes, MIB, 9), Z_OK);
    mr_buf_str(&tag, "v-");
    for (size_t i = 0; i < len; i++) {
        mr_buf_printf(&tag, "%02x", packed[i]);
    }
    assert_true(tag.len < 4096);
    expect_nothing(mr_buf_cstr(&tag));
    mr_buf_deinit(&tag);
    mr_free(zeroes);
}

/* Neither written nor read. */
static void what_is_too_long_for_a_tag_is_refused(void **state)
{
    struct mr_buf tag = MR_BUF_INIT;
    char *plain = mr_calloc(1, REGISTRY_TAG_MAX + 2);

    (void)state;
    assert_non_null(plain);
    memset(plain, 'a', REGISTRY_TAG_MAX + 1);
    registry_tag_put(&tag, REGISTRY_TAG_VERSION, mr_slice_str(plain));
    assert_true(mr_buf_failed(&tag));
    mr_buf_reset(&tag);
    mr_buf_str(&tag, "v=");
    mr_buf_str(&tag, plain);
    expect_nothing(mr_buf_cstr(&tag));
    mr_buf_deinit(&tag);
    mr_free(plain);
}

static void missing_memory_is_reported(void **state)
{
    struct mr_buf tag = MR_BUF_INIT;

    (void)state;
    mr_mem_fail_after(0);
    registry_tag_put(&tag, REGISTRY_TAG_VERSION, mr_slice_str("latest"));
    assert_true(mr_buf_failed(&tag));
    mr_mem_fail_after(0);
    expect_nothing("v-789ccb492c492d2e010008cc028e");
    mr_buf_deinit(&tag);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_tag_round_trips),
        TEST(a_large_tag_round_trips),
        TEST(tags_are_appended),
        TEST(foreign_tags_are_read),
        TEST(forms_are_told_apart),
        TEST(damaged_tags_hold_nothing),
        TEST(bombs_are_refused),
        TEST(what_is_too_long_for_a_tag_is_refused),
        TEST(missing_memory_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
