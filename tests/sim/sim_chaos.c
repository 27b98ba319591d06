/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong. Every seed has a mood: some faults are frequent in it, some
 * absent, so that rare combinations get their turn.
 *
 * Faults that raft cannot survive are not made: a disk is wiped, or a server
 * removed, only while all others are well.
 */
#include <stdlib.h>

#include "tests/sim/sim.h"

#define TICK_MS 20

struct sim_chaos {
    /* Per mille and tick. */
    unsigned kill;
    unsigned power;
    unsigned restart;
    unsigned pause;
    unsigned cut;
    unsigned isolate;
    unsigned heal;
    unsigned slow;
    unsigned wipe;
    unsigned add;
    unsigned remove;
    unsigned transfer;
    unsigned snapshot;
    unsigned full;
    bool is_changing; /* A removal is under way. */
    bool is_chosen;
};

/* ------------------------------------------------------------- the mood */

static unsigned maybe(struct sim *sim, unsigned most)
{
    return sim_chance(sim, 600) ? (unsigned)sim_random(sim, most + 1) : 0;
}

static void choose_mood(struct sim *sim, struct sim_chaos *c)
{
    c->kill = maybe(sim, 40);
    c->power = maybe(sim, 20);
    c->restart = 4 + (unsigned)sim_random(sim, 40);
    c->pause = maybe(sim, 30);
    c->cut = maybe(sim, 60);
    c->isolate = maybe(sim, 30);
    c->heal = 5 + (unsigned)sim_random(sim, 40);
    c->slow = maybe(sim, 10);
    c->wipe = maybe(sim, 10);
    c->add = maybe(sim, 20);
    c->remove = maybe(sim, 20);
    c->transfer = maybe(sim, 10);
    c->snapshot = maybe(sim, 20);
    c->full = maybe(sim, 10);
    sim->drop_pm = maybe(sim, 100);
    sim->dup_pm = maybe(sim, 50);
    sim->late_pm = maybe(sim, 100);
    sim->late_ms = 5 + (unsigned)sim_random(sim, 400);
    sim->write_gap_ms = (unsigned)sim_random(sim, 60);
    sim->disk_ms =
        sim_chance(sim, 250) ? 50 + (unsigned)sim_random(sim, 200) : 4;
    sim->payload = sim_chance(sim, 200) ? 30000 : 200;
    sim->max_wait_ms = 500 + sim_random(sim, 3000);
    sim->snapshot_entries = 20 + sim_random(sim, 200);
    sim->trailing_entries = 1 + sim_random(sim, 40);
    sim->cache_bytes = sim_chance(sim, 300) ? 2000 : 1u << 20;
}

/* Elections without end, while disks are slow and processes short-lived. */
static void storm(struct sim *sim, struct sim_chaos *c)
{
    c->kill = 60 + (unsigned)sim_random(sim, 100);
    c->restart = 250;
    c->isolate = 40;
    c->cut = 150;
    c->heal = 60;
    sim->disk_ms = 100 + (unsigned)sim_random(sim, 200);
}

/* ------------------------------------------------------------- faults */

static struct sim_server *any_server(struct sim *sim, bool is_up)
{
    struct sim_server *fit[SIM_SERVERS];
    size_t n = 0;

    for (size_t i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *s = sim->servers[i];
        if (s != NULL && !s->is_gone && s->is_up == is_up) {
            fit[n++] = s;
        }
    }
    return n == 0 ? NULL : fit[sim_random(sim, n)];
}

/* Whether every server lives, is a voter, and has the leader's log. */
static bool all_well(struct sim *sim)
{
    struct driver_status leader = {0};
    struct driver_status status;
    size_t n = 0;

    for (size_t i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *s = sim->servers[i];
        if (s == NULL || s->is_gone) {
            continue;
        }
        if (!s->is_up || sim->now < s->paused_until) {
            return false;
        }
        n++;
        driver_status(s->driver, &status);
        if (status.is_leader && status.term > leader.term) {
            leader = status;
        }
    }
    if (!leader.is_leader || leader.n_voters != n || leader.n_peers != n ||
        leader.commit_index < leader.conf_index) {
        return false;
    }
    for (size_t i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *s = sim->servers[i];
        if (s == NULL || s->is_gone) {
            continue;
        }
        driver_status(s->driver, &status);
        if (status.applied_index < leader.commit_index ||
            status.conf_index != leader.conf_index) {
            return false;
        }
    }
    return true;
}

static void isolate(struct sim *sim, struct sim_server *s)
{
    bool in = sim_chance(sim, 700);
    bool out = !in || sim_chance(sim, 700);

    for (size_t i = 0; i < SIM_SERVERS; i++) {
        sim->cut[i][s->slot] |= in;
        sim->cut[s->slot][i] |= out;
    }
}

static void heal(struct sim *sim)
{
    for (size_t i = 0; i < SIM_SERVERS; i++) {
        for (size_t k = 0; k < SIM_SERVERS; k++) {
            sim->cut[i][k] = false;
        }
    }
}

static void disk_full(struct sim_server *s, void *arg)
{
    driver_disk_full(s->driver, arg != NULL && !s->sim->is_quiet);
}

static void break_something(struct sim *sim, struct sim_chaos *c)
{
    struct sim_server *s = any_server(sim, true);
    struct sim_server *down = any_server(sim, false);

    if (down != NULL && sim_chance(sim, c->restart * 4)) {
        sim_server_start(down);
    }
    if (s == NULL) {
        return;
    }
    if (sim_chance(sim, c->pause)) {
        s->paused_until = sim->now + 20 + sim_random(sim, 2500);
    }
    if (sim_chance(sim, c->cut)) {
        size_t to = sim_random(sim, SIM_SERVERS);
        sim->cut[s->slot][to] = !sim->cut[s->slot][to];
    }
    if (sim_chance(sim, c->isolate)) {
        isolate(sim, s);
    }
    if (sim_chance(sim, c->heal)) {
        heal(sim);
    }
    if (sim_chance(sim, c->slow)) {
        s->slow_until = sim->now + sim_random(sim, 3000);
    }
    if (sim_chance(sim, c->full)) {
        sim_post(s, sim->now, disk_full, s, NULL);
        sim_post(s, sim->now + sim_random(sim, 2000), disk_full, NULL, NULL);
    }
    if (sim_chance(sim, c->kill)) {
        sim_server_crash(s, false);
    } else if (sim_chance(sim, c->power)) {
        sim_server_crash(s, true);
    }
}

/* ------------------------------------------------------------- operators */

struct removal {
    struct sim *sim;
    uint64_t id;
};

static void removed(void *arg, enum mr_err err, const char *detail)
{
    struct removal *r = arg;
    struct sim_server *s = sim_server_by_id(r->sim, r->id);

    (void)detail;
    if (r->sim->chaos != NULL) {
        r->sim->chaos->is_changing = false;
    }
    if (err == MR_OK && s != NULL) {
        s->is_gone = true; /* Its process is stopped by the next tick. */
    } else if (s != NULL) {
        s->wants_join = true; /* Removed or not: it should be a member. */
    }
    free(r);
}

static void ask_removal(struct sim_server *s, void *arg)
{
    struct removal *r = *(struct removal **)arg;

    *(struct removal **)arg = NULL;
    if (r->id == s->id) {
        driver_leave(s->driver, removed, r);
    } else {
        driver_member_change(s->driver, DRIVER_MEMBER_REMOVE, r->id, "",
                             removed, r);
    }
}

static void removal_free(void *arg)
{
    struct removal *r = *(struct removal **)arg;

    if (r != NULL) {
        r->sim->chaos->is_changing = false;
        free(r);
    }
    free(arg);
}

static void remove_one(struct sim *sim, struct sim_chaos *c)
{
    struct sim_server *s = any_server(sim, true);
    struct sim_server *target = any_server(sim, true);
    struct removal **box;
    struct driver_status status;

    if (s == NULL || target == NULL || c->is_changing || !all_well(sim)) {
        return;
    }
    driver_status(s->driver, &status);
    if (status.n_voters < 2 || (status.n_voters < 4 && !sim_chance(sim, 200))) {
        return;
    }
    box = malloc(sizeof *box);
    mr_assert(box != NULL);
    *box = calloc(1, sizeof **box);
    mr_assert(*box != NULL);
    (*box)->sim = sim;
    (*box)->id = target->id;
    target->wants_join = false;
    c->is_changing = true;
    sim_post(s, sim->now, ask_removal, box, removal_free);
}

static void add_one(struct sim *sim)
{
    size_t slot = sim_random(sim, SIM_SERVERS);
    struct sim_server *s = sim->servers[slot];

    if (s == NULL && slot < sim->n_first + 2) {
        s = sim_server_new(sim, slot);
        s->wants_join = true;
        sim_server_start(s);
    } else if (s != NULL && s->is_gone && !s->is_up) {
        sim_server_wipe(s);
        s->is_gone = false;
        sim_server_start(s);
    }
}

static void ignore(void *arg, enum mr_err err, const char *detail)
{
    (void)arg;
    (void)err;
    (void)detail;
}

static void ask_transfer(struct sim_server *s, void *arg)
{
    (void)arg;
    driver_member_change(s->driver, DRIVER_MEMBER_TRANSFER, 0, "", ignore,
                         NULL);
}

static void ask_snapshot(struct sim_server *s, void *arg)
{
    (void)arg;
    driver_snapshot_now(s->driver, ignore, NULL);
}

static void operate(struct sim *sim, struct sim_chaos *c)
{
    struct sim_server *s = any_server(sim, true);

    if (s != NULL && sim_chance(sim, c->transfer)) {
        sim_post(s, sim->now, ask_transfer, NULL, NULL);
    }
    if (s != NULL && sim_chance(sim, c->snapshot)) {
        sim_post(s, sim->now, ask_snapshot, NULL, NULL);
    }
    if (sim_chance(sim, c->add)) {
        add_one(sim);
    }
    if (sim_chance(sim, c->remove)) {
        remove_one(sim, c);
    }
    if (s != NULL && sim_chance(sim, c->wipe) && !c->is_changing &&
        all_well(sim)) {
        struct driver_status status;
        driver_status(s->driver, &status);
        if (status.n_voters >= 3) {
            sim_server_crash(s, true);
            sim_server_wipe(s);
        }
    }
}

/* ------------------------------------------------------------- life */

static void stop_removed(struct sim *sim)
{
    for (size_t i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *s = sim->servers[i];
        if (s != NULL && s->is_gone && s->is_up) {
            sim_server_crash(s, false);
        }
    }
}

static void calm_down(struct sim *sim)
{
    sim->disk_ms = 4;
    sim->is_quiet = true;
    sim->drop_pm = 0;
    sim->dup_pm = 0;
    sim->late_pm = 0;
    heal(sim);
    for (size_t i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *s = sim->servers[i];
        if (s == NULL || s->is_gone) {
            continue;
        }
        s->slow_until = 0;
        if (sim->now < s->paused_until) {
            s->paused_until = sim->now;
        }
        if (!s->is_up) {
            sim_server_start(s);
        }
        sim_post(s, sim->now + 1, disk_full, NULL, NULL);
    }
}

static void tick(struct sim *sim, void *arg)
{
    struct sim_chaos *c = arg;

    if (sim->is_stopped || sim->failed) {
        return;
    }
    stop_removed(sim);
    if (sim->now < sim->chaos_end) {
        break_something(sim, c);
        operate(sim, c);
    } else if (!sim->is_quiet) {
        calm_down(sim);
    }
    sim_at(sim, sim->now + TICK_MS, tick, c);
}

void sim_chaos_start(struct sim *sim)
{
    struct sim_chaos *c = calloc(1, sizeof *c);

    mr_assert(c != NULL);
    sim->chaos = c;
    choose_mood(sim, c);
    if (sim_chance(sim, 150)) {
        storm(sim, c);
    }
    sim->n_first = sim_chance(sim, 300) ? 5 : 3;
    if (sim_chance(sim, 50)) {
        sim->n_first = 1;
    }
    for (size_t i = 0; i < sim->n_first; i++) {
        sim_server_new(sim, i)->is_founder = true;
    }
    for (size_t i = 0; i < sim->n_first; i++) {
        sim_server_start(sim->servers[i]);
    }
    sim_at(sim, sim->now + sim_random(sim, 1000), tick, c);
}

void sim_chaos_free(struct sim *sim)
{
    free(sim->chaos);
    sim->chaos = NULL;
}
