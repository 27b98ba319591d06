/* SPDX-License-Identifier: Apache-2.0 */
/* base/buf, base/err, base/mem: growing, limits, sticky failure. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

/* What was appended comes back in order, across reallocations. */
static void appended_bytes_come_back(void **state)
{
    struct mr_buf b = MR_BUF_INIT;
    size_t len;
    uint8_t *data;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        mr_buf_byte(&b, (uint8_t)i);
    }
    mr_buf_be16(&b, 0x0102);
    mr_buf_be32(&b, 0x03040506);
    mr_buf_be64(&b, 0x0708090a0b0c0d0e);
    mr_buf_printf(&b, "%d-%s", 7, "x");
    mr_buf_u64(&b, 0);
    mr_buf_u64(&b, UINT64_MAX);
    assert_false(mr_buf_failed(&b));
    data = mr_buf_take(&b, &len);
    assert_int_equal(len, 1000 + 14 + 3 + 1 + 20);
    assert_int_equal(data[999], 999 & 255);
    for (unsigned i = 0; i < 14; i++) {
        assert_int_equal(data[1000 + i], i + 1);
    }
    assert_memory_equal(data + 1014, "7-x018446744073709551615", 24);
    assert_int_equal(b.len, 0);
    mr_free(data);
}

/* After the byte too many nothing is appended and the failure stays. */
static void the_limit_is_a_sticky_failure(void **state)
{
    struct mr_buf b;
    size_t len = 9;

    (void)state;
    mr_buf_init(&b, 4);
    mr_buf_str(&b, "abcd");
    assert_false(mr_buf_failed(&b));
    mr_buf_byte(&b, 'e');
    assert_true(mr_buf_failed(&b));
    assert_int_equal(b.len, 4);
    assert_null(mr_buf_grow(&b, 1));
    assert_string_equal(mr_buf_cstr(&b), "");
    assert_null(mr_buf_take(&b, &len));
    assert_int_equal(len, 0);
    mr_buf_str(&b, "new");
    assert_false(mr_buf_failed(&b));
    mr_buf_deinit(&b);
}

/* A failing allocation is a failure of the buffer, not of the process. */
static void a_failed_allocation_is_reported(void **state)
{
    struct mr_buf b = MR_BUF_INIT;

    (void)state;
    mr_mem_fail_after(0);
    mr_buf_str(&b, "x");
    assert_true(mr_buf_failed(&b));
    mr_buf_reset(&b);
    mr_buf_str(&b, "x");
    assert_false(mr_buf_failed(&b));
    mr_buf_deinit(&b);
}

/* The failing allocator counts down and fails once. */
static void the_nth_allocation_fails_once(void **state)
{
    void *kept;

    (void)state;
    mr_mem_fail_after(1);
    kept = mr_malloc(1);
    assert_non_null(kept);
    assert_null(mr_strdup("x"));
    mr_free(kept);
    kept = mr_memdup0("abc", 2);
    assert_string_equal(kept, "ab");
    mr_free(kept);
}

/* Every code has a text and a name; a detail is cut, never overrun. */
static void errors_have_names_and_details(void **state)
{
    struct mr_detail detail;

    (void)state;
    assert_string_equal(mr_strerror(MR_E_BUSY), "busy, try again later");
    assert_string_equal(mr_err_name(MR_E_BUSY), "MR_E_BUSY");
    assert_int_equal(mr_fail(NULL, MR_E_IO, "unused"), MR_E_IO);
    assert_int_equal(mr_fail(&detail, MR_E_IO, "%0600d", 1), MR_E_IO);
    assert_int_equal(strlen(detail.text), sizeof detail.text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(appended_bytes_come_back),
        cmocka_unit_test(errors_have_names_and_details),
        /* failure */
        cmocka_unit_test(the_limit_is_a_sticky_failure),
        cmocka_unit_test(a_failed_allocation_is_reported),
        cmocka_unit_test(the_nth_allocation_fails_once),
    };

    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
