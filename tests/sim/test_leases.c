/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many clusters of lease engines, each in its own bad luck: no lease ends early,
 * none late, no live one is lost. SIM_SEED is the first seed, SIM_SEEDS how
 * many, shared by the moods; a failure prints the seed, and SIM_SEED=that SIM_SEEDS=1 plays it again
 * exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/lease_world.h"

#define MOODS 6 /* They share the number of seeds. */
#define CHAOS_MS 40000
#define SETTLE_MS 12000

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 10);
}

static void add(struct world_counts *sum, const struct world_counts *c)
{
    sum->asked += c->asked;
    sum->renewed += c->renewed;
    sum->unknown += c->unknown;
    sum->unanswered += c->unanswered;
    sum->ended += c->ended;
    sum->left += c->left;
    sum->elections += c->elections;
    sum->kills += c->kills;
    sum->pauses += c->pauses;
    sum->cuts += c->cuts;
    sum->resets += c->resets;
    sum->confirms += c->confirms;
    sum->latest_ms =
        c->latest_ms > sum->latest_ms ? c->latest_ms : sum->latest_ms;
}

static bool run_seed(uint64_t seed, const struct world_mood *mood,
                     struct world_counts *sum)
{
    struct world *w = calloc(1, sizeof *w);
    bool ok;

    assert_non_null(w);
    world_init(w, seed, mood);
    world_run(w, w->now + number("SIM_MS", CHAOS_MS));
    world_heal(w);
    world_run(w, w->now + SETTLE_MS);
    ok = !w->failed;
    if (!ok) {
        print_message("%s\nagain: SIM_SEED=%llu SIM_SEEDS=1\n", w->why,
                      (unsigned long long)seed);
    }
    add(sum, &w->counts);
    world_deinit(w);
    free(w);
    return ok;
}

static void run_seeds(const struct world_mood *mood)
{
    uint64_t first = number("SIM_SEED", 1);
    uint64_t n = (number("SIM_SEEDS", 40) + MOODS - 1) / MOODS;
    struct world_counts sum = {0};
    size_t n_failed = 0;

    for (uint64_t seed = first; seed < first + n; seed++) {
        struct world_mood m = *mood;

        m.servers = m.servers == 0 ? (seed % 3 == 0 ? 5 : 3) : m.servers;
        n_failed += !run_seed(seed, &m, &sum);
    }
    print_message(
        "%llu seeds from %llu: %llu renewals, %llu answered, %llu unknown, "
        "%llu without answer; %llu leases ended, %llu ms late at most, %llu "
        "left; %llu elections, %llu kills, %llu pauses, %llu cuts, %llu "
        "snapshots, %llu confirmations\n",
        (unsigned long long)n, (unsigned long long)first,
        (unsigned long long)sum.asked, (unsigned long long)sum.renewed,
        (unsigned long long)sum.unknown, (unsigned long long)sum.unanswered,
        (unsigned long long)sum.ended, (unsigned long long)sum.latest_ms,
        (unsigned long long)sum.left, (unsigned long long)sum.elections,
        (unsigned long long)sum.kills, (unsigned long long)sum.pauses,
        (unsigned long long)sum.cuts, (unsigned long long)sum.resets,
        (unsigned long long)sum.confirms);
    assert_int_equal(n_failed, 0);
}

/* Without faults every end comes within a few milliseconds. */
static void a_quiet_cluster_is_exact(void **state)
{
    const struct world_mood mood = {.late_permille = 10, .late_ms = 50};

    (void)state;
    run_seeds(&mood);
}

/* A server is killed, paused, cut off, overruled or slow, one at a time. */
static void one_fault_at_a_time_costs_no_live_lease(void **state)
{
    const struct world_mood mood = {.drop_permille = 5,
                                    .double_permille = 10,
                                    .late_permille = 10,
                                    .late_ms = 100,
                                    .fault_every_ms = 2500,
                                    .one_at_a_time = true};

    (void)state;
    run_seeds(&mood);
}

/* Time without a majority does not count. It is measured from when the leader
 * was heard last, so several such times within a TTL add some. */
static void a_blackout_costs_no_live_lease(void **state)
{
    const struct world_mood mood = {.late_permille = 10,
                                    .late_ms = 100,
                                    .fault_every_ms = 8000,
                                    .one_at_a_time = true,
                                    .blackouts = true,
                                    .patience_ms = 1500};

    (void)state;
    run_seeds(&mood);
}

/* Servers that restart all the time, and lose every fifth message, do not forget
 * what they acknowledged. */
static void amnesia_ends_nothing_early(void **state)
{
    const struct world_mood mood = {.drop_permille = 200,
                                    .late_permille = 20,
                                    .late_ms = 100,
                                    .fault_every_ms = 600,
                                    .amnesia = true,
                                    .patience_ms = 4000};

    (void)state;
    run_seeds(&mood);
}

/* Whatever breaks, nothing ends early and nothing is said that is not so. */
static void no_lease_ends_early_in_any_bad_luck(void **state)
{
    const struct world_mood mood = {.drop_permille = 30,
                                    .double_permille = 30,
                                    .late_permille = 50,
                                    .late_ms = 1500,
                                    .fault_every_ms = 700,
                                    .patience_ms = 4000};

    (void)state;
    run_seeds(&mood);
}

/* One server alone needs nobody. */
static void a_server_alone_is_exact(void **state)
{
    const struct world_mood mood = {
        .servers = 1, .fault_every_ms = 3000, .one_at_a_time = true};

    (void)state;
    run_seeds(&mood);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_cluster_is_exact),
        cmocka_unit_test(one_fault_at_a_time_costs_no_live_lease),
        cmocka_unit_test(a_blackout_costs_no_live_lease),
        cmocka_unit_test(amnesia_ends_nothing_early),
        cmocka_unit_test(no_lease_ends_early_in_any_bad_luck),
        cmocka_unit_test(a_server_alone_is_exact),
    };

    return cmocka_run_group_tests_name("sim/leases", tests, NULL, NULL);
}
