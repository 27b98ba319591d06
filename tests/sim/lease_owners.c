/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners of leases, and what they demand:
 *
 * - a lease ends at its TTL after the last answered renewal or later, counted
 *   from when it was asked;
 * - RENEWED is not said of a lease that had ended when it was asked;
 * - UNKNOWN is not said of one that lives;
 * - a lease that nobody renews ends within its TTL and a second; when nobody
 *   could be heard for longer than a change of the leader takes, within that
 *   time more;
 * - while faults leave a majority in good shape, no owner that goes on trying
 *   loses its lease.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "tests/sim/lease_world.h"

#define RETRY_MS 300     /* An owner does not wait longer for one server. */
#define SLOW_TTL_MS 3000 /* Those with a longer TTL are more patient. */
#define AGAIN_MS 20
#define LATE_MS 1000
#define SHORT_OUTAGE_MS 600 /* A change of the leader. */
#define LOOK_MS 20

static const uint64_t ttls[] = {1000, 1500, 3000, 8000};

void owners_init(struct world *w)
{
    for (int i = 0; i < WORLD_OWNERS; i++) {
        w->owners[i].lease = -1;
        w->owners[i].next_ms = w->now + world_random(w, 3000);
    }
}

/* ---- what they demand ---- */

static void check_end(struct world *w, uint64_t id)
{
    const struct world_lease *l = &w->leases[id - 1];

    if (l->by_engine && l->ended_ms < l->asked_ms + l->ttl_ms) {
        world_fail(w,
                   "lease %llu of %llu ms ended at %llu, %llu ms after its "
                   "last answered renewal was asked",
                   (unsigned long long)id, (unsigned long long)l->ttl_ms,
                   (unsigned long long)l->ended_ms,
                   (unsigned long long)(l->ended_ms - l->asked_ms));
    }
}

/* How late an end may come after the TTL. */
static uint64_t allowed(const struct world *w, const struct world_lease *l)
{
    uint64_t bad = w->bad_ms - l->bad_ms;
    uint64_t late = bad > SHORT_OUTAGE_MS ? bad + LATE_MS : LATE_MS;

    if (w->n_forgot != l->forgot) {
        late += (w->n_forgot - l->forgot) * (l->ttl_ms + 2000); /* Anew. */
    }
    return late + w->mood.patience_ms;
}

static void check_late(struct world *w, const struct world_lease *l)
{
    uint64_t due = l->tried_ms + l->ttl_ms;

    if (w->now > due + allowed(w, l)) {
        world_fail(w,
                   "lease %llu of %llu ms lives at %llu, tried last at %llu, "
                   "%llu ms of it without a majority",
                   (unsigned long long)(l - w->leases) + 1,
                   (unsigned long long)l->ttl_ms, (unsigned long long)w->now,
                   (unsigned long long)l->tried_ms,
                   (unsigned long long)(w->bad_ms - l->bad_ms));
    }
}

void owners_look(struct world *w)
{
    if (w->now % LOOK_MS != 0) {
        return;
    }
    for (size_t i = 0; i < w->n_leases; i++) {
        if (w->leases[i].ended_ms == 0 && w->leases[i].owner < 0) {
            check_late(w, &w->leases[i]);
        }
    }
}

void owners_on_end(struct world *w, uint64_t id)
{
    struct world_lease *l = &w->leases[id - 1];
    uint64_t late = w->now - l->tried_ms - l->ttl_ms;

    l->ended_ms = w->now;
    l->by_engine = true;
    w->counts.ended++;
    check_end(w, id);
    if (l->owner < 0 && w->now > l->tried_ms + l->ttl_ms &&
        w->n_forgot == l->forgot && late > w->counts.latest_ms) {
        w->counts.latest_ms = late;
    }
    if (l->owner >= 0 && w->mood.one_at_a_time) {
        world_fail(w, "lease %llu of %llu ms ended at %llu, its owner lives",
                   (unsigned long long)id, (unsigned long long)l->ttl_ms,
                   (unsigned long long)w->now);
    }
}

void owners_on_taken(struct world *w, const struct world_ask *ask)
{
    struct world_lease *l = &w->leases[ask->item.id - 1];

    l->tried_ms = w->now;
    l->bad_ms = w->bad_ms;
    l->forgot = w->n_forgot;
}

static void take_renewed(struct world *w, const struct world_ask *ask)
{
    struct world_lease *l = &w->leases[ask->item.id - 1];

    w->counts.renewed++;
    if (l->ended_ms != 0 && l->ended_ms < ask->asked_ms) {
        world_fail(w, "lease %llu ended at %llu and was renewed at %llu",
                   (unsigned long long)ask->item.id,
                   (unsigned long long)l->ended_ms,
                   (unsigned long long)ask->asked_ms);
    }
    if (ask->asked_ms > l->asked_ms) {
        l->asked_ms = ask->asked_ms;
    }
    if (l->ended_ms != 0) {
        check_end(w, ask->item.id);
    }
}

static void take_unknown(struct world *w, const struct world_ask *ask)
{
    w->counts.unknown++;
    if (w->leases[ask->item.id - 1].ended_ms == 0) {
        world_fail(w, "lease %llu lives at %llu and is unknown",
                   (unsigned long long)ask->item.id,
                   (unsigned long long)w->now);
    }
}

/* ---- what they do ---- */

static void lose(struct world *w, struct world_owner *o)
{
    o->lease = -1;
    o->round++;
    o->is_waiting = false;
    o->next_ms = w->now + 100 + world_random(w, 1000);
}

static void on_answer(struct mr_lease_renewal *r, enum mr_err err)
{
    struct world_ask *ask = mr_container_of(r, struct world_ask, renewal);
    struct world *w = ask->world;
    struct world_owner *o = &w->owners[ask->owner];
    bool is_current = o->round == ask->round;

    if (err != MR_OK) {
        w->counts.unanswered++;
        if (is_current) {
            o->retry_ms = w->now + AGAIN_MS;
        }
    } else if (ask->item.answer == MR_LEASE_RENEWED) {
        take_renewed(w, ask);
        if (is_current) {
            o->round++;
            o->is_waiting = false;
        }
    } else {
        mr_assert(ask->item.answer == MR_LEASE_UNKNOWN);
        take_unknown(w, ask);
        if (is_current) {
            lose(w, o);
        }
    }
    free(ask);
}

static void ask_server(struct world *w, int owner, int slot)
{
    struct world_owner *o = &w->owners[owner];
    struct world_ask *ask = calloc(1, sizeof *ask);

    mr_assert(ask != NULL);
    ask->world = w;
    ask->owner = owner;
    ask->round = o->round;
    ask->asked_ms = w->now;
    ask->item.id = (uint64_t)o->lease + 1;
    ask->renewal.items = &ask->item;
    ask->renewal.n_items = 1;
    ask->renewal.done = on_answer;
    w->counts.asked++;
    world_send_ask(w, slot, ask);
}

static void try_renewal(struct world *w, int owner)
{
    struct world_owner *o = &w->owners[owner];
    int slot;

    o->server = (o->server + 1) % (int)w->mood.servers;
    slot = o->server;
    if (!o->is_waiting) {
        o->is_waiting = true;
        o->next_ms = w->now + o->interval_ms;
    }
    if (!w->servers[slot].is_up) {
        o->retry_ms = w->now + AGAIN_MS; /* Refused: the next one. */
        return;
    }
    o->retry_ms = w->now + o->patience_ms;
    ask_server(w, owner, slot);
}

static void make_lease(struct world *w, int owner)
{
    struct world_owner *o = &w->owners[owner];
    struct world_lease *l = &w->leases[w->n_leases];

    if (!world_can_commit(w) || w->n_leases == WORLD_LEASES) {
        return;
    }
    *l = (struct world_lease){.ttl_ms =
                                  ttls[world_random(w, MR_ARRAY_LEN(ttls))],
                              .made_ms = w->now,
                              .asked_ms = w->now,
                              .tried_ms = w->now,
                              .bad_ms = w->bad_ms,
                              .forgot = w->n_forgot,
                              .owner = owner};
    o->lease = (int)w->n_leases++;
    o->interval_ms = l->ttl_ms / (3 + world_random(w, 2));
    o->patience_ms = l->ttl_ms < SLOW_TTL_MS ? RETRY_MS : o->interval_ms / 2;
    o->next_ms = w->now + 1 + world_random(w, o->interval_ms);
    o->dies_ms = w->now + world_random(w, 12000);
    o->leaves = world_random(w, 8) == 0;
    world_commit(w, ENTRY_NEW, w->n_leases);
}

static void die(struct world *w, struct world_owner *o)
{
    struct world_lease *l = &w->leases[o->lease];

    if (o->leaves && l->ended_ms == 0) {
        if (!world_can_commit(w)) {
            return;
        }
        l->ended_ms = w->now;
        w->counts.left++;
        world_commit(w, ENTRY_GONE, (uint64_t)o->lease + 1);
    }
    l->owner = -1;
    lose(w, o);
}

void owners_step(struct world *w)
{
    for (int i = 0; i < WORLD_OWNERS; i++) {
        struct world_owner *o = &w->owners[i];

        if (o->lease < 0) {
            if (w->now >= o->next_ms) {
                make_lease(w, i);
            }
        } else if (w->now >= o->dies_ms) {
            die(w, o);
        } else if (o->is_waiting ? w->now >= o->retry_ms
                                 : w->now >= o->next_ms) {
            try_renewal(w, i);
        }
    }
}
