/* SPDX-License-Identifier: Apache-2.0 */
/* The system's clock and random source: the only place that reads them. */
#include "base/clock.h"

#include <sys/random.h>
#include <time.h>

#include "base/err.h"

static uint64_t read_ms(clockid_t id)
{
    struct timespec ts;

    mr_assert(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t system_now_ms(const struct mr_clock *clock)
{
    (void)clock; /* One system clock: it has no state. */
    return read_ms(CLOCK_MONOTONIC);
}

static uint64_t system_wall_ms(const struct mr_clock *clock)
{
    (void)clock; /* As above. */
    return read_ms(CLOCK_REALTIME);
}

static void system_fill(const struct mr_random *random, void *out, size_t len)
{
    uint8_t *at = out;

    (void)random; /* One system source: it has no state. */
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);

        /* EINTR before the pool is ready is the only failure possible. */
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
}

const struct mr_clock *mr_clock_system(void)
{
    static const struct mr_clock clock = {system_now_ms, system_wall_ms};

    return &clock;
}

const struct mr_random *mr_random_system(void)
{
    static const struct mr_random random = {system_fill};

    return &random;
}
