/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time and randomness, passed in so that a test or a simulation can supply its
 * own. Nothing else in the project reads a clock or a random source.
 */
#ifndef MR_BASE_CLOCK_H
#define MR_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct mr_clock {
    /* Monotonic milliseconds since an arbitrary start; any thread. */
    uint64_t (*now_ms)(const struct mr_clock *clock);
    /* Milliseconds since 1970-01-01 UTC, for people only; any thread. */
    uint64_t (*wall_ms)(const struct mr_clock *clock);
};

struct mr_random {
    /* Fill @len bytes at @out; any thread. */
    void (*fill)(const struct mr_random *random, void *out, size_t len);
};

/* The system's monotonic clock (CLOCK_MONOTONIC). Static. */
const struct mr_clock *mr_clock_system(void);

/* The kernel's random source (getrandom). Static. */
const struct mr_random *mr_random_system(void);

/* Monotonic milliseconds of @clock. */
static inline uint64_t mr_now_ms(const struct mr_clock *clock)
{
    return clock->now_ms(clock);
}

/* A random 64-bit number of @random. */
static inline uint64_t mr_random_u64(const struct mr_random *random)
{
    uint64_t n;

    random->fill(random, &n, sizeof n);
    return n;
}

#endif /* MR_BASE_CLOCK_H */
