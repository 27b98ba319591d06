/* SPDX-License-Identifier: Apache-2.0 */
/* Time, events and randomness of a simulation, and its verdict. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct event {
    struct mr_heap_node node;
    sim_fn fn;
    void *arg;
};

static uint64_t mix(uint64_t z) /* SplitMix64's */
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

void sim_init(struct sim *sim, uint64_t seed)
{
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    /* Mixed, or each seed would be the next one's sequence, one draw later. */
    sim->rng = mix(mix(seed + 0x632BE59BD9B4E019ull) + 1);
    sim->now = 1000;
    sim->next_id = 1;
    mr_heap_init(&sim->events);
}

void sim_deinit(struct sim *sim)
{
    struct mr_heap_node *node;

    sim->is_stopped = true;
    for (size_t i = 0; i < SIM_SERVERS; i++) {
        sim_server_free(sim->servers[i]);
    }
    while ((node = mr_heap_first(&sim->events)) != NULL) {
        struct event *e = mr_container_of(node, struct event, node);
        mr_heap_remove(&sim->events, node);
        e->fn(sim, e->arg); /* Frees its argument: every server is gone. */
        free(e);
    }
    mr_heap_deinit(&sim->events);
    sim_clients_free(sim);
    sim_chaos_free(sim);
    for (size_t i = 0; i < sim->n_graves; i++) {
        free(sim->graves[i]);
    }
}

uint64_t sim_random(struct sim *sim, uint64_t n)
{
    uint64_t z = mix(sim->rng += 0x9E3779B97F4A7C15ull);

    return n == 0 ? 0 : z % n;
}

bool sim_chance(struct sim *sim, unsigned pm)
{
    return sim_random(sim, 1000) < pm;
}

void sim_at(struct sim *sim, uint64_t when, sim_fn fn, void *arg)
{
    struct event *e = calloc(1, sizeof *e);

    mr_assert(e != NULL);
    e->fn = fn;
    e->arg = arg;
    mr_assert(mr_heap_push(&sim->events, &e->node,
                           when < sim->now ? sim->now : when) == MR_OK);
}

void sim_run(struct sim *sim, uint64_t until)
{
    struct mr_heap_node *node;

    while (!sim->failed && (node = mr_heap_first(&sim->events)) != NULL &&
           node->key <= until) {
        struct event *e = mr_container_of(node, struct event, node);
        sim->now = node->key;
        mr_heap_remove(&sim->events, node);
        e->fn(sim, e->arg);
        free(e);
    }
    if (!sim->failed) {
        sim->now = until;
    }
}

void sim_fail(struct sim *sim, const char *fmt, ...)
{
    va_list args;
    int n;

    if (sim->failed) {
        return;
    }
    sim->failed = true;
    n = snprintf(sim->why, sizeof sim->why,
                 "seed %llu, %llu ms: ", (unsigned long long)sim->seed,
                 (unsigned long long)sim->now);
    va_start(args, fmt);
    (void)vsnprintf(sim->why + n, sizeof sim->why - (size_t)n, fmt, args);
    va_end(args);
}
