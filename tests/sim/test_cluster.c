/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many clusters, each in its own bad luck. SIM_SEED is the first seed,
 * SIM_SEEDS how many; a failure prints the seed, and SIM_SEED=that SIM_SEEDS=1
 * plays it again exactly. SIM_MS is the length of the chaos.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/sim.h"

#define CHAOS_MS 12000
#define SETTLE_MS 9000 /* All must be well again after that. */
#define QUIET_MS 12000

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 10);
}

static bool run_seed(uint64_t seed, struct sim_counts *sum)
{
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_counts counts;
    bool ok;

    assert_non_null(sim);
    sim_init(sim, seed);
    sim->chaos_end = sim->now + number("SIM_MS", CHAOS_MS);
    sim_clients_start(sim);
    sim_chaos_start(sim);
    sim_run(sim, sim->chaos_end + SETTLE_MS);
    sim->is_settled = true;
    sim_run(sim, sim->chaos_end + QUIET_MS);
    sim_clients_stop(sim);
    sim_run(sim, sim->chaos_end + QUIET_MS + 4500);
    sim_oracle_end(sim);
    sim_oracle_counts(sim, &counts);
    ok = !sim->failed;
    if (!ok) {
        print_message("%s\nagain: SIM_SEED=%llu SIM_SEEDS=1\n", sim->why,
                      (unsigned long long)seed);
    }
    sum->acked += counts.acked;
    sum->refused += counts.refused;
    sum->unknown += counts.unknown;
    sum->commands += counts.commands;
    sum->terms += counts.terms;
    sum->crashes += counts.crashes;
    sum->elections += counts.elections;
    sum->installs += counts.installs;
    sum->wipes += counts.wipes;
    sum->stale_defaults += counts.stale_defaults;
    for (int i = 0; i < 3; i++) {
        sum->reads[i] += counts.reads[i];
    }
    sim_deinit(sim);
    free(sim);
    return ok;
}

/* Whatever breaks, nothing acknowledged is lost, nothing happens twice, no
 * consistent read is stale, and the cluster recovers. */
static void cluster_survives_its_bad_luck(void **state)
{
    uint64_t first = number("SIM_SEED", 1);
    uint64_t n = number("SIM_SEEDS", 200);
    struct sim_counts sum = {0};
    size_t n_failed = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + n; seed++) {
        n_failed += !run_seed(seed, &sum);
    }
    print_message(
        "%llu seeds from %llu: %llu writes done, %llu refused, %llu "
        "unknown; reads %llu default (%llu behind), %llu consistent, "
        "%llu failed; %llu terms, %llu crashes, %llu elections, "
        "%llu snapshots installed, %llu disks wiped\n",
        (unsigned long long)n, (unsigned long long)first,
        (unsigned long long)sum.acked, (unsigned long long)sum.refused,
        (unsigned long long)sum.unknown, (unsigned long long)sum.reads[0],
        (unsigned long long)sum.stale_defaults,
        (unsigned long long)sum.reads[1], (unsigned long long)sum.reads[2],
        (unsigned long long)sum.terms, (unsigned long long)sum.crashes,
        (unsigned long long)sum.elections, (unsigned long long)sum.installs,
        (unsigned long long)sum.wipes);
    assert_int_equal(n_failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_survives_its_bad_luck),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
