/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others know of renewals.
 *
 * A new leader asks all voters, slot by slot, and merges what they say. With a
 * majority of them it knows every renewal that was ever answered, because a
 * majority acknowledged each, and none acknowledges an older leader's after it
 * was asked. It leads when
 *
 * - a majority said everything and forgot nothing; or
 * - a majority said everything, some of them forgot (they were started and not
 *   told yet): what they may have acknowledged was before their start, so all
 *   leases count from the start of the oldest such that a majority remains.
 *
 * When no leader was heard by any of them for long, nobody could renew: all
 * leases move by that time.
 *
 * A voter asks the leader in the same way after its own start or a long pause,
 * when its state was replaced, and in each new term. Told by one that forgot
 * nothing, it has forgotten nothing any more.
 *
 * Merging: a renewal counts more than a creation, the later renewal more than
 * the earlier, and the earlier of two creations more than the later, because a
 * server applies late but never early.
 */
#include "health/lease.h"

#include "base/mem.h"

#define FORGETFUL_MS 300 /* Wait so long for those that forgot nothing. */
#define SCAN_MAX 50000u  /* Slots looked at for one message. */
#define PASS_MAX 20000u  /* Leases moved in one tick. */
#define ROOM (2 * LEASE_ITEM_MAX)

static void ask(struct mr_leases *l, struct lease_peer *p, int64_t now)
{
    struct lease_msg msg = {
        .kind = LEASE_ASK, .nonce = ++l->next_seq, .cursor = p->cursor};

    p->nonce = msg.nonce;
    p->asked_ms = now;
    lease_begin(l, &msg, p->id, now);
    lease_send(l, p->id);
}

static void begin_asking(struct mr_leases *l, struct lease_peer *p, int64_t now)
{
    p->ask = LEASE_ASK_OPEN;
    p->cursor = 0;
    p->has_asked_instance = false;
    ask(l, p, now);
}

/* ---- moving all leases ---- */

static void pass_on(struct mr_leases *l, uint32_t max)
{
    uint32_t left = l->table.n_slots - l->pass_slot;
    uint32_t end = l->pass_slot + (left < max ? left : max);

    for (; l->pass_slot < end; l->pass_slot++) {
        struct lease *lease = lease_table_at(&l->table, l->pass_slot);
        int64_t begin;

        if (lease == NULL || lease->renewed_ms >= l->pass_cut_ms) {
            continue;
        }
        begin = lease->renewed_ms > l->pass_floor_ms ? lease->renewed_ms
                                                     : l->pass_floor_ms;
        begin += l->pass_ms;
        /* The heap's key is earlier now, which does no harm. */
        lease->renewed_ms = begin < l->pass_cut_ms ? begin : l->pass_cut_ms;
        lease->is_real = true;
    }
    l->is_passing = l->pass_slot < l->table.n_slots;
}

void lease_take_pass(struct mr_leases *l, int64_t floor_ms, int64_t by_ms,
                     int64_t now)
{
    if (l->is_passing) {
        pass_on(l, UINT32_MAX); /* Two outages within a second. */
    }
    l->is_passing = l->table.n_slots > 0;
    l->pass_slot = 0;
    l->pass_cut_ms = now;
    l->pass_floor_ms = floor_ms;
    l->pass_ms = by_ms;
}

/* ---- leading ---- */

static void begin_leading(struct mr_leases *l, int64_t floor_ms,
                          int64_t contact_ms, int64_t now)
{
    l->phase = LEASE_LEADS;
    l->is_synced = true;
    l->wants_sync = false;
    l->stats.takeovers++;
    l->round_ms = LEASE_NEVER;
    l->beat_ms = LEASE_NEVER;
    for (size_t i = 0; i < l->n_peers; i++) {
        l->peers[i].ask = LEASE_ASK_NONE;
        l->peers[i].heard_ms = now;
    }
    lease_after_outage(l, contact_ms, floor_ms, now);
    l->contact_ms = now; /* Whoever takes over from us: that time is counted. */
}

/* What the voters said so far. */
struct survey {
    size_t n;
    size_t n_synced;
    int64_t starts[LEASE_PEERS_MAX]; /* Negated: the oldest is the greatest. */
    int64_t contact_ms;
};

static void count(struct survey *s, bool is_synced, int64_t since_ms,
                  int64_t contact_ms)
{
    s->starts[s->n++] = is_synced ? -LEASE_NEVER : -since_ms;
    s->n_synced += is_synced ? 1 : 0;
    s->contact_ms = contact_ms > s->contact_ms ? contact_ms : s->contact_ms;
}

/* When as many as make a majority of the voters, those with the oldest starts,
 * were all running. */
static int64_t floor_of(struct mr_leases *l, struct survey *s)
{
    for (size_t i = s->n; i < l->n_voters; i++) {
        s->starts[i] = LEASE_NEVER; /* Said nothing: counts last. */
    }
    return -lease_majority(s->starts, l->n_voters);
}

/* Lead, if enough is known. */
static void try_leading(struct mr_leases *l, int64_t now)
{
    struct survey s = {.contact_ms = LEASE_NEVER};
    size_t majority = l->n_voters / 2 + 1;

    for (size_t i = 0; i < l->n_voters; i++) {
        const struct lease_peer *p;

        if (l->voters[i] == l->self) {
            count(&s, l->is_synced, l->started_ms, l->contact_ms);
            continue;
        }
        p = lease_peer(l, l->voters[i]);
        if (p != NULL && p->ask == LEASE_ASK_DONE) {
            count(&s, p->is_synced, p->since_ms, p->contact_ms);
        }
    }
    if (l->n_voters > 0 && s.n_synced >= majority) {
        begin_leading(l, LEASE_NEVER, s.contact_ms, now);
    } else if (s.n >= majority &&
               (s.n == l->n_voters || now - l->asking_ms >= FORGETFUL_MS)) {
        begin_leading(l, floor_of(l, &s), s.contact_ms, now);
    }
}

void lease_take_begin(struct mr_leases *l, int64_t now)
{
    l->phase = LEASE_ASKING;
    l->leading = l->leading == UINT8_MAX ? 1 : (uint8_t)(l->leading + 1);
    l->asking_ms = now;
    for (size_t i = 0; i < l->n_voters; i++) {
        struct lease_peer *p = lease_peer(l, l->voters[i]);

        if (l->voters[i] != l->self && p != NULL) {
            begin_asking(l, p, now);
        }
    }
    try_leading(l, now);
}

/* ---- answering ---- */

static uint64_t age_at(int64_t now, int64_t at)
{
    return now > at ? (uint64_t)(now - at) : 0;
}

/* Append leases from @slot on to l->items; returns the next slot, or 0. */
static uint32_t collect(struct mr_leases *l, uint32_t slot, int64_t now)
{
    uint64_t last_id = 0;
    uint32_t n_seen = 0;

    mr_buf_reset(&l->items);
    for (; slot < l->table.n_slots; slot++) {
        const struct lease *lease = lease_table_at(&l->table, slot);
        struct lease_item item;

        if (l->items.len + ROOM + LEASE_HEADER_MAX > MR_LEASES_MESSAGE_MAX ||
            n_seen++ == SCAN_MAX) {
            return slot;
        }
        if (lease != NULL) {
            item = (struct lease_item){.id = lease->id,
                                       .age_ms = age_at(now, lease->renewed_ms),
                                       .is_real = lease->is_real};
            lease_wire_put_item(&l->items, &last_id, &item);
        }
    }
    return 0;
}

/* A leader tells only when it knows, and not while all its leases move. */
void lease_on_ask(struct mr_leases *l, struct lease_peer *peer,
                  const struct lease_msg *msg, int64_t now)
{
    struct lease_msg ages = {.kind = LEASE_AGES, .nonce = msg->nonce};

    if (msg->term != l->term || l->phase == LEASE_ASKING || l->is_passing) {
        return;
    }
    ages.cursor = collect(l, (uint32_t)msg->cursor, now);
    ages.flags = l->is_synced ? LEASE_FLAG_SYNCED : 0;
    ages.since = age_at(now, l->started_ms);
    ages.contact = age_at(now, l->contact_ms);
    if (mr_buf_failed(&l->items)) {
        return; /* No memory; it will ask again. */
    }
    lease_begin(l, &ages, peer->id, now);
    mr_buf_add(&l->out, l->items.data, l->items.len);
    lease_send(l, peer->id);
}

/* ---- merging ---- */

static void merge(struct mr_leases *l, const struct lease_item *item,
                  int64_t date_ms)
{
    struct lease *lease = lease_table_find(&l->table, item->id);
    bool is_better;

    if (lease == NULL) {
        /* Without memory it will count from when it is applied: later. */
        if (item->id <= l->max_id ||
            (lease = lease_table_add(&l->table, item->id)) == NULL) {
            return;
        }
        is_better = true;
    } else if (lease->is_real != item->is_real) {
        is_better = item->is_real;
    } else {
        is_better = item->is_real ? date_ms > lease->renewed_ms
                                  : date_ms < lease->renewed_ms;
    }
    if (is_better) {
        lease->is_real = item->is_real;
        lease->renewed_ms = date_ms;
        lease_schedule(l, lease);
    }
}

static void merge_all(struct mr_leases *l, const struct lease_msg *msg,
                      int64_t now)
{
    struct lease_items items = {.rest = msg->items};
    struct lease_item item;

    while (lease_wire_next(&items, &item)) {
        merge(l, &item, now - (int64_t)item.age_ms);
    }
}

void lease_on_ages(struct mr_leases *l, struct lease_peer *peer,
                   const struct lease_msg *msg, int64_t now)
{
    if (msg->term != l->term || peer->ask != LEASE_ASK_OPEN ||
        msg->nonce != peer->nonce || l->phase == LEASE_LEADS ||
        !lease_is_fresh(msg, now)) {
        return;
    }
    if (peer->has_asked_instance && peer->asked_instance != msg->instance) {
        begin_asking(l, peer, now); /* It was started again meanwhile. */
        return;
    }
    peer->has_asked_instance = true;
    peer->asked_instance = msg->instance;
    merge_all(l, msg, now);
    peer->cursor = msg->cursor;
    if (msg->cursor != 0) {
        ask(l, peer, now);
        return;
    }
    peer->ask = LEASE_ASK_DONE;
    peer->is_synced = (msg->flags & LEASE_FLAG_SYNCED) != 0;
    peer->since_ms = now - (int64_t)msg->since;
    peer->contact_ms = now - (int64_t)msg->contact;
    if (l->phase == LEASE_ASKING) {
        try_leading(l, now);
    } else if (peer->is_synced) {
        l->is_synced = true;
    } else {
        l->wants_sync = true; /* The leader was started again itself. */
    }
}

/* ---- the tick ---- */

/* A voter asks the leader that it heard. */
static void follow(struct mr_leases *l, int64_t now)
{
    struct lease_peer *p;

    if (l->heard_term != l->term || l->leader == 0 || l->leader == l->self ||
        (p = lease_peer(l, l->leader)) == NULL) {
        return;
    }
    if (p->ask == LEASE_ASK_OPEN) {
        if (now - p->asked_ms >= LEASE_ASK_MS) {
            ask(l, p, now);
        }
    } else if (l->wants_sync || l->synced_term != l->term) {
        l->wants_sync = false;
        l->synced_term = l->term;
        begin_asking(l, p, now);
    }
}

static void ask_again(struct mr_leases *l, int64_t now)
{
    for (size_t i = 0; i < l->n_voters; i++) {
        struct lease_peer *p = lease_peer(l, l->voters[i]);

        if (l->voters[i] == l->self || p == NULL) {
            continue;
        }
        if (p->ask == LEASE_ASK_NONE) {
            begin_asking(l, p, now); /* Became a voter meanwhile. */
        } else if (p->ask == LEASE_ASK_OPEN &&
                   now - p->asked_ms >= LEASE_ASK_MS) {
            ask(l, p, now);
        }
    }
    try_leading(l, now);
}

void lease_take_tick(struct mr_leases *l, int64_t now)
{
    switch (l->phase) {
    case LEASE_FOLLOWS:
        follow(l, now);
        break;
    case LEASE_ASKING:
        ask_again(l, now);
        break;
    case LEASE_LEADS:
        if (l->is_passing) {
            pass_on(l, PASS_MAX);
        }
        break;
    }
}

int64_t lease_take_wait(const struct mr_leases *l, int64_t now)
{
    (void)now;
    if (l->is_passing) {
        return 1;
    }
    if (l->phase == LEASE_ASKING) {
        return LEASE_ASK_MS / 2;
    }
    return LEASE_ASK_MS;
}
