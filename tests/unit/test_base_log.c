/* SPDX-License-Identifier: Apache-2.0 */
/* base/log and base/clock: levels, lines, files. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

static char last_line[4096];
static unsigned n_lines;

static void tap(void *arg, enum mr_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)snprintf(last_line, sizeof last_line, "%s", line);
    n_lines++;
}

/* Names of levels are Consul's, in any case. */
static void level_names_parse(void **state)
{
    enum mr_log_level level = MR_LOG_TRACE;

    (void)state;
    assert_int_equal(mr_log_parse_level("WARN", &level), MR_OK);
    assert_int_equal(level, MR_LOG_WARN);
    assert_int_equal(mr_log_parse_level("err", &level), MR_OK);
    assert_int_equal(level, MR_LOG_ERROR);
    assert_int_equal(mr_log_parse_level("loud", &level), MR_E_INVALID);
    assert_int_equal(level, MR_LOG_ERROR);
}

/* A line carries level, module and text; lines below the level are not made. */
static void lines_below_the_level_are_dropped(void **state)
{
    (void)state;
    n_lines = 0;
    mr_log_set_tap(tap, NULL);
    mr_log_set_level(MR_LOG_WARN);
    mr_log_info("kv", "not this one");
    assert_int_equal(n_lines, 0);
    mr_log_warn("kv", "peer=%s", "a");
    mr_log_set_tap(NULL, NULL);
    mr_log_set_level(MR_LOG_INFO);
    assert_int_equal(n_lines, 1);
    assert_non_null(strstr(last_line, " [WARN] kv: peer=a"));
}

/* A line that is too long is cut and still ends. */
static void long_lines_are_cut(void **state)
{
    (void)state;
    mr_log_set_tap(tap, NULL);
    mr_log_error("base", "%05000d", 1);
    mr_log_set_tap(NULL, NULL);
    assert_in_range(strlen(last_line), 1000, 2047);
}

/* A file that cannot be opened is an error that names it. */
static void an_unusable_file_is_refused(void **state)
{
    struct mr_detail detail;

    (void)state;
    assert_int_equal(mr_log_set_file("/nonexistent/x.log", &detail), MR_E_IO);
    assert_non_null(strstr(detail.text, "/nonexistent/x.log"));
}

/* Monotonic time does not go back; two random numbers differ. */
static void the_system_sources_work(void **state)
{
    const struct mr_clock *clock = mr_clock_system();
    uint64_t t = mr_now_ms(clock);

    (void)state;
    assert_true(mr_now_ms(clock) >= t);
    assert_true(clock->wall_ms(clock) > UINT64_C(1600000000000));
    assert_true(mr_random_u64(mr_random_system()) !=
                mr_random_u64(mr_random_system()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(level_names_parse),
        cmocka_unit_test(lines_below_the_level_are_dropped),
        cmocka_unit_test(the_system_sources_work),
        /* failure */
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(an_unusable_file_is_refused),
    };

    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
