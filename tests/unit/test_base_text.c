/* SPDX-License-Identifier: Apache-2.0 */
/* base/text: durations as Go writes them, UUIDs, addresses, numbers. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

/* Each text is the number of nanoseconds that Go's ParseDuration gives. */
static void durations_parse_as_in_go(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        {"0", 0},
        {"0s", 0},
        {"1ns", 1},
        {"1.5s", 1500000000},
        {"+5s", 5000000000},
        {"-10ms", -10000000},
        {"1h2m3.5s", 3723500000000},
        {"100\xc2\xb5s", 100000},
        {"100us", 100000},
        {".5s", 500000000},
        {"1.s", 1000000000},
        {"2540400h10m10s", 9145440610000000000},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        int64_t ns = -1;

        assert_int_equal(mr_duration_parse(cases[i].text, &ns, NULL), MR_OK);
        assert_int_equal(ns, cases[i].ns);
    }
}

/* What Go refuses is refused, in Go's words. */
static void bad_durations_are_refused_in_gos_words(void **state)
{
    static const char *const cases[][2] = {
        {"", "time: invalid duration \"\""},
        {"bogus", "time: invalid duration \"bogus\""},
        {"-", "time: invalid duration \"-\""},
        {".s", "time: invalid duration \".s\""},
        {"10", "time: missing unit in duration \"10\""},
        {"1h2", "time: missing unit in duration \"1h2\""},
        {"5x", "time: unknown unit \"x\" in duration \"5x\""},
        {"99999999999h", "time: invalid duration \"99999999999h\""},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_detail detail;
        int64_t ns = 7;

        assert_int_equal(mr_duration_parse(cases[i][0], &ns, &detail),
                         MR_E_INVALID);
        assert_string_equal(detail.text, cases[i][1]);
        assert_int_equal(ns, 7);
    }
}

/* Formatting gives what Go's Duration.String gives. */
static void durations_format_as_in_go(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0s"},
        {1, "1ns"},
        {1500, "1.5\xc2\xb5s"},
        {10000000, "10ms"},
        {1500000000, "1.5s"},
        {90000000000, "1m30s"},
        {7200000000000, "2h0m0s"},
        {-60000000000, "-1m0s"},
        {3600000000001, "1h0m0.000000001s"},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_buf out = MR_BUF_INIT;

        mr_duration_format(&out, cases[i].ns);
        assert_string_equal(mr_buf_cstr(&out), cases[i].text);
        mr_buf_deinit(&out);
    }
}

/* Addresses come with and without a port, names and both IP families. */
static void addresses_take_the_default_port(void **state)
{
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } cases[] = {
        {"a.example", "a.example", 8300},
        {"a:1", "a", 1},
        {"127.0.0.1:65535", "127.0.0.1", 65535},
        {"[::1]:9", "::1", 9},
        {"[::1]", "::1", 8300},
        {"fe80::1", "fe80::1", 8300},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_hostport hp;

        assert_int_equal(mr_hostport_parse(cases[i].text, 8300, &hp, NULL),
                         MR_OK);
        assert_string_equal(hp.host, cases[i].host);
        assert_int_equal(hp.port, cases[i].port);
    }
}

/* A bad host or port is refused and the output is untouched. */
static void bad_addresses_are_refused(void **state)
{
    static const char *const cases[] = {
        "", ":80", "a:", "a:0", "a:x", "a:65536", "[::1", "[::1]x", "[]:1"};

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct mr_hostport hp = {"kept", 1};
        struct mr_detail detail;

        assert_int_equal(mr_hostport_parse(cases[i], 8300, &hp, &detail),
                         MR_E_INVALID);
        assert_string_equal(hp.host, "kept");
    }
}

/* A new UUID is valid, of version 4 and not the one before. */
static void uuids_are_valid_and_differ(void **state)
{
    char a[MR_UUID_LEN + 1];
    char b[MR_UUID_LEN + 1];

    (void)state;
    mr_uuid_new(mr_random_system(), a);
    mr_uuid_new(mr_random_system(), b);
    assert_true(mr_uuid_valid(a));
    assert_int_equal(a[14], '4');
    assert_string_not_equal(a, b);
    assert_false(mr_uuid_valid(""));
    assert_false(mr_uuid_valid("01234567-0123-0123-0123-0123456789a"));
    assert_false(mr_uuid_valid("01234567-0123-0123-0123-0123456789abc"));
    assert_false(mr_uuid_valid("01234567x0123-0123-0123-0123456789ab"));
}

/* Numbers fill the whole text and 64 bits at most. */
static void numbers_are_whole_and_bounded(void **state)
{
    static const char *const bad[] = {"", "-1", "1x", " 1",
                                      "18446744073709551616"};
    uint64_t n = 0;

    (void)state;
    assert_int_equal(mr_parse_u64("18446744073709551615", &n), MR_OK);
    assert_true(n == UINT64_MAX);
    for (size_t i = 0; i < MR_ARRAY_LEN(bad); i++) {
        assert_int_equal(mr_parse_u64(bad[i], &n), MR_E_INVALID);
    }
    assert_true(n == UINT64_MAX);
}

/* IP literals are told from names. */
static void ip_families_are_recognised(void **state)
{
    (void)state;
    assert_int_equal(mr_ip_family("10.0.0.1"), 4);
    assert_int_equal(mr_ip_family("::1"), 6);
    assert_int_equal(mr_ip_family("localhost"), 0);
    assert_int_equal(mr_ip_family("10.0.0"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(durations_parse_as_in_go),
        cmocka_unit_test(durations_format_as_in_go),
        cmocka_unit_test(addresses_take_the_default_port),
        cmocka_unit_test(uuids_are_valid_and_differ),
        cmocka_unit_test(ip_families_are_recognised),
        /* failure */
        cmocka_unit_test(bad_durations_are_refused_in_gos_words),
        cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test(numbers_are_whole_and_bounded),
    };

    return cmocka_run_group_tests_name("base/text", tests, NULL, NULL);
}
