/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raft, figure 8, played with five servers:
 *
 *   a  A leads and gets a command to B only, then dies.
 *   b  E is elected by C and D and gets its own entry, at the same place, to
 *      nobody, then dies.
 *   c  A is back, is elected, and brings the old command to C: it lies on a
 *      majority, but nothing of A's new term does.
 *   d  A dies; E is elected and overwrites the command.
 *
 * A server that counted replicas in c would have applied the command, and would
 * differ from E's cluster in d.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/sim.h"

#define N 5

struct play {
    struct sim *sim;
    struct sim_server *a, *b, *c, *d, *e;
    uint64_t seq;
    struct mr_raft_proposal proposal;
    int n_done;
    enum mr_err err;
    uint64_t words[2];
};

/* ------------------------------------------------------------- the stage */

static void cut_all(struct sim *sim)
{
    memset(sim->cut, 1, sizeof sim->cut);
}

static void join_link(struct sim *sim, const struct sim_server *x,
                      const struct sim_server *y)
{
    sim->cut[x->slot][y->slot] = false;
    sim->cut[y->slot][x->slot] = false;
}

static void heal_all(struct sim *sim)
{
    memset(sim->cut, 0, sizeof sim->cut);
}

static struct driver_status status_of(const struct sim_server *s)
{
    struct driver_status status;

    driver_status(s->driver, &status);
    return status;
}

/* Run until @s leads, at most ten seconds. */
static void await_leader(struct play *p, const struct sim_server *s)
{
    uint64_t end = p->sim->now + 10000;

    while (p->sim->now < end && !p->sim->failed && !status_of(s).is_leader) {
        sim_run(p->sim, p->sim->now + 10);
    }
    assert_false(p->sim->failed);
    assert_true(status_of(s).is_leader);
}

static void done(struct mr_raft_proposal *proposal, enum mr_err err)
{
    struct play *p = mr_container_of(proposal, struct play, proposal);

    p->n_done++;
    p->err = err;
}

static void propose(struct sim_server *s, void *arg)
{
    struct play *p = arg;

    assert_int_equal(driver_propose(s->driver, &p->proposal), MR_OK);
}

/* A network that brings a new leader's old entries and nothing of its term. */
static bool old_entries_only(struct sim *sim, struct driver_message *msg)
{
    (void)sim;
    if (msg->type == DRIVER_MSG_APPEND) {
        while (msg->append.n_entries > 0 &&
               msg->append.entries[msg->append.n_entries - 1].term ==
                   msg->term) {
            msg->append.n_entries--;
        }
    }
    return true;
}

static bool no_entries(struct sim *sim, struct driver_message *msg)
{
    (void)sim;
    return msg->type != DRIVER_MSG_APPEND || msg->append.n_entries == 0;
}

/* Five servers, a leader, and names for all. */
static void raise_curtain(struct play *p)
{
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_server **others[] = {&p->b, &p->c, &p->d, &p->e};
    size_t n = 0;

    assert_non_null(sim);
    memset(p, 0, sizeof *p);
    p->sim = sim;
    sim_init(sim, 8);
    sim->n_first = N;
    sim->disk_ms = 2;
    sim->max_wait_ms = 60000;
    sim_oracle_new(sim);
    for (size_t i = 0; i < N; i++) {
        (void)sim_server_new(sim, i);
    }
    for (size_t i = 0; i < N; i++) {
        sim_server_start(sim->servers[i]);
        sim_server_bootstrap(sim->servers[i], N);
    }
    sim_run(sim, sim->now + 4000);
    for (size_t i = 0; i < N; i++) {
        struct sim_server *s = sim->servers[i];
        if (status_of(s).is_leader) {
            p->a = s;
        } else {
            *others[n++] = s;
        }
    }
    assert_non_null(p->a);
    p->words[0] = sim_oracle_new_op(sim);
    p->proposal.cmd = mr_slice(p->words, sizeof p->words);
    p->proposal.done = done;
}

/* ------------------------------------------------------------- the acts */

/* a: A's command reaches B only. */
static uint64_t act_a(struct play *p)
{
    uint64_t index = status_of(p->a).last_index + 1;

    cut_all(p->sim);
    join_link(p->sim, p->a, p->b);
    sim_post(p->a, p->sim->now, propose, p, NULL);
    sim_run(p->sim, p->sim->now + 60);
    assert_int_equal(status_of(p->a).last_index, index);
    assert_int_equal(status_of(p->b).last_index, index);
    assert_int_equal(status_of(p->c).last_index, index - 1);
    sim_server_crash(p->a, false);
    return index;
}

/* b: E leads with an entry of its own that nobody else gets. */
static void act_b(struct play *p, uint64_t index)
{
    p->sim->filter = no_entries;
    join_link(p->sim, p->e, p->c);
    join_link(p->sim, p->e, p->d);
    p->c->mute_elections = true; /* E is the one who stands. */
    p->d->mute_elections = true;
    await_leader(p, p->e);
    sim_run(p->sim, p->sim->now + 40);
    assert_true(status_of(p->e).last_index >= index);
    sim_server_crash(p->e, false);
    p->sim->filter = NULL;
}

/* c: A leads again; its old command reaches a majority. */
static void act_c(struct play *p, uint64_t index)
{
    cut_all(p->sim);
    sim_server_start(p->a);
    p->sim->filter = old_entries_only;
    join_link(p->sim, p->a, p->c);
    join_link(p->sim, p->a, p->d);
    await_leader(p, p->a);
    p->sim->cut[p->a->slot][p->d->slot] = true; /* C alone gets it. */
    join_link(p->sim, p->a, p->b);
    sim_run(p->sim, p->sim->now + 120);
    assert_true(status_of(p->a).is_leader);
    assert_true(status_of(p->b).last_index >= index);
    assert_true(status_of(p->c).last_index >= index);
    assert_true(status_of(p->a).commit_index < index);
    assert_int_equal(p->n_done, 1); /* Its first process died. */
    sim_server_crash(p->a, false);
    p->sim->filter = NULL;
}

/* d: E leads and overwrites it everywhere. */
static void act_d(struct play *p, uint64_t index)
{
    cut_all(p->sim);
    sim_server_start(p->e);
    join_link(p->sim, p->e, p->b);
    join_link(p->sim, p->e, p->c);
    join_link(p->sim, p->e, p->d);
    p->b->mute_elections = true;
    await_leader(p, p->e);
    p->b->mute_elections = p->c->mute_elections = p->d->mute_elections = false;
    sim_server_start(p->a);
    heal_all(p->sim);
    sim_run(p->sim, p->sim->now + 5000);
    assert_true(status_of(p->e).commit_index >= index);
}

/* The schedule of figure 8 loses nothing that was applied. */
static void old_entry_on_a_majority_is_not_committed(void **state)
{
    struct play p;
    struct sim_counts counts;
    uint64_t index;

    (void)state;
    raise_curtain(&p);
    index = act_a(&p);
    act_b(&p, index);
    act_c(&p, index);
    act_d(&p, index);
    if (p.sim->failed) {
        fail_msg("%s", p.sim->why);
    }
    sim_oracle_counts(p.sim, &counts);
    assert_int_equal(counts.commands, 0); /* Overwritten before it counted. */
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(p.sim->servers[i]->disk.fsm.index,
                         p.e->disk.fsm.index);
    }
    assert_int_equal(p.err, MR_E_CLOSED);
    sim_deinit(p.sim);
    free(p.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_entry_on_a_majority_is_not_committed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
