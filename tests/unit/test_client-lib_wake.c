/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/wake: pipes, for systems without eventfd, do the same. */
#define MICROREG_USE_PIPES
#include "client-lib/wake.c"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool is_readable(const int fds[2])
{
    struct pollfd poller = {fds[0], POLLIN, 0};

    return poll(&poller, 1, 0) == 1;
}

static void it_is_readable_between_set_and_clear(void **state)
{
    int fds[2];

    (void)state;
    assert_true(mrg_wake_init(fds));
    assert_int_not_equal(fds[0], fds[1]);
    assert_false(is_readable(fds));
    mrg_wake_set(fds);
    mrg_wake_set(fds);
    assert_true(is_readable(fds));
    mrg_wake_clear(fds);
    assert_false(is_readable(fds));
    mrg_wake_deinit(fds);
    assert_int_equal(fds[0], -1);
    mrg_wake_deinit(fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_readable_between_set_and_clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
