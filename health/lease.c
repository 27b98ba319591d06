/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's life: what the state and raft tell it, messages in and out, the
 * tick.
 *
 * - A lease is known by the time from which its TTL runs: its last renewal, or
 *   until there is one, its creation as this server saw it.
 * - Terms are raft's, which are on disk: a message of another term than ours is
 *   dropped, so a leader that was replaced gets no majority any more.
 * - A pause of this process shows as a gap between two calls.
 */
#include "health/lease.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define SYNC_PAUSE_MS 1000 /* After a pause as long the leader is asked. */
#define CONFIRM_MS 200
#define TTL_MAX (INT64_MAX / 4)
#define SWEEP_MS 10000
#define SWEEP_SLOTS 2000u
#define TICK_MAX_MS 200
#define AHEAD_MS 20
#define DRIFT 1000 /* Clocks differ by less than one part in so many. */

struct mr_leases *mr_leases_new(const struct mr_leases_io *io, uint64_t now_ms)
{
    struct mr_leases *l = mr_calloc(1, sizeof *l);

    if (l == NULL) {
        return NULL;
    }
    l->io = *io;
    l->started_ms = (int64_t)now_ms;
    l->due_ms = l->started_ms;
    l->contact_ms = l->started_ms;
    l->next_seq = io->instance << 20;
    l->epoch = 1;
    l->sweep_slot = UINT32_MAX;
    l->outage_end_ms = LEASE_NEVER;
    l->counted_ms = LEASE_NEVER;
    l->wants_sync = true;
    mr_buf_init(&l->out, MR_LEASES_MESSAGE_MAX);
    mr_buf_init(&l->items, MR_LEASES_MESSAGE_MAX);
    lease_table_init(&l->table);
    mr_list_init(&l->rounds);
    mr_list_init(&l->forwards);
    mr_list_init(&l->finished);
    mr_list_init(&l->forwarded);
    return l;
}

void mr_leases_free(struct mr_leases *leases)
{
    if (leases == NULL) {
        return;
    }
    lease_renew_close(leases);
    lease_table_deinit(&leases->table);
    mr_buf_deinit(&leases->out);
    mr_buf_deinit(&leases->items);
    mr_free(leases->doomed);
    mr_free(leases);
}

/* ---- pauses ---- */

/* Everybody seems silent after a pause, and another may lead by now. */
static void on_pause(struct mr_leases *l, int64_t length_ms, int64_t now)
{
    l->stats.pauses++;
    if (l->phase == LEASE_FOLLOWS) {
        l->wants_sync = l->wants_sync || length_ms > SYNC_PAUSE_MS;
        return;
    }
    if (l->phase == LEASE_LEADS) {
        l->is_confirm_stale = l->is_confirming;
        l->confirm_ms = now;
        if (!l->must_confirm) {
            l->must_confirm = true;
            l->outage_from_ms = now - length_ms;
        }
        l->outage_end_ms = now;
    }
}

/* Every call begins here. */
static int64_t enter(struct mr_leases *l, uint64_t now_ms)
{
    int64_t now = (int64_t)now_ms;

    l->now_ms = now;
    if (now > l->due_ms + LEASE_PAUSE_MS) {
        on_pause(l, now - l->due_ms, now);
        l->due_ms = now;
    }
    return now;
}

void lease_after_outage(struct mr_leases *l, int64_t from_ms, int64_t floor_ms,
                        int64_t now)
{
    /* A pause of ours is deafness as well: no time is taken out twice. */
    int64_t counted_from = from_ms > l->counted_ms ? from_ms : l->counted_ms;
    int64_t outage_ms = now - counted_from;

    l->outage_from_ms = from_ms;
    l->outage_end_ms = now;
    l->quiet_ms = now + LEASE_GRACE_MS;
    if (outage_ms <= LEASE_OUTAGE_MS) {
        outage_ms = 0;
    } else {
        l->counted_ms = now;
    }
    if (outage_ms > 0 || floor_ms != LEASE_NEVER) {
        lease_take_pass(l, floor_ms, outage_ms, now);
    }
}

void mr_leases_confirmed(struct mr_leases *leases, uint64_t term,
                         enum mr_err err, uint64_t now_ms)
{
    int64_t now = enter(leases, now_ms);

    if (leases->phase != LEASE_LEADS || term != leases->term ||
        !leases->is_confirming) {
        return;
    }
    leases->is_confirming = false;
    if (leases->is_confirm_stale || err != MR_OK) {
        leases->confirm_ms = leases->is_confirm_stale ? now : now + CONFIRM_MS;
        leases->is_confirm_stale = false;
        return;
    }
    leases->must_confirm = false;
    lease_after_outage(leases, leases->outage_from_ms, LEASE_NEVER, now);
}

/* ---- the state's leases ---- */

bool lease_is_applied(const struct mr_leases *l, const struct lease *lease)
{
    return lease->epoch == l->epoch;
}

/* Marks of other times are void: what was proposed in them is decided. */
bool lease_is_ending(const struct mr_leases *l, const struct lease *lease)
{
    return lease->ending != 0 && lease->ending == l->leading;
}

int64_t lease_deadline(const struct lease *lease)
{
    return lease->renewed_ms + lease->ttl_ms;
}

void lease_schedule(struct mr_leases *l, struct lease *lease)
{
    int64_t deadline = lease_deadline(lease);

    if (!lease_is_applied(l, lease) || lease_is_ending(l, lease)) {
        return;
    }
    if (lease->heap_at == 0 || deadline < lease_table_key(&l->table, lease)) {
        lease_table_set_due(&l->table, lease, deadline);
    }
}

/* It may be known already: it was renewed before it was applied here, or it was
 * in the state that was replaced. Then that counts. */
static enum mr_err add(struct mr_leases *l, const struct mr_kv_lease_change *c,
                       int64_t now)
{
    struct lease *lease = lease_table_find(&l->table, c->id);

    if (lease == NULL) {
        lease = lease_table_add(&l->table, c->id);
        if (lease == NULL) {
            return MR_E_NOMEM;
        }
        lease->renewed_ms = now;
    }
    if (!lease_is_applied(l, lease)) {
        l->n_leases++;
        lease->epoch = l->epoch;
    }
    lease->place = c->place;
    lease->ttl_ms = c->ttl_ms < TTL_MAX ? (int64_t)c->ttl_ms : TTL_MAX;
    lease_schedule(l, lease);
    return MR_OK;
}

static void remove_lease(struct mr_leases *l, struct lease *lease)
{
    if (lease_is_applied(l, lease)) {
        l->n_leases--;
    }
    lease_table_remove(&l->table, lease);
}

enum mr_err mr_leases_change(struct mr_leases *leases,
                             const struct mr_kv_lease_change *changes, size_t n,
                             uint64_t now_ms)
{
    int64_t now = enter(leases, now_ms);

    for (size_t i = 0; i < n; i++) {
        const struct mr_kv_lease_change *c = &changes[i];
        struct lease *lease;

        if (c->id > leases->max_id) {
            leases->max_id = c->id;
        }
        if (c->is_new) {
            if (add(leases, c, now) != MR_OK) {
                return MR_E_NOMEM;
            }
        } else if ((lease = lease_table_find(&leases->table, c->id)) != NULL) {
            remove_lease(leases, lease);
        }
    }
    return MR_OK;
}

void mr_leases_reset(struct mr_leases *leases, uint64_t now_ms)
{
    (void)enter(leases, now_ms);
    leases->epoch++;
    if (leases->epoch == 0) {
        leases->epoch = 1; /* 0 is that of no state. */
    }
    leases->max_id = 0;
    leases->n_leases = 0;
    leases->wants_sync = true;
}

/* Forget leases that other servers knew and that never came, or are not in the
 * state any more; a part of the table each time. */
static void sweep(struct mr_leases *l, int64_t now)
{
    uint32_t end;

    if (l->sweep_slot >= l->table.n_slots) {
        if (now < l->sweep_ms || l->table.n == l->n_leases) {
            return;
        }
        l->sweep_ms = now + SWEEP_MS;
        l->sweep_slot = 0;
    }
    end = l->table.n_slots - l->sweep_slot > SWEEP_SLOTS
              ? l->sweep_slot + SWEEP_SLOTS
              : l->table.n_slots;
    for (; l->sweep_slot < end; l->sweep_slot++) {
        struct lease *lease = lease_table_at(&l->table, l->sweep_slot);

        if (lease != NULL && !lease_is_applied(l, lease) &&
            lease->id <= l->max_id) {
            remove_lease(l, lease);
        }
    }
}

bool mr_leases_age(const struct mr_leases *leases, uint64_t id, uint64_t now_ms,
                   struct mr_lease_age *out_age)
{
    const struct lease *lease = lease_table_find(&leases->table, id);
    int64_t silent_ms;

    if (lease == NULL || !lease_is_applied(leases, lease)) {
        return false;
    }
    silent_ms = (int64_t)now_ms - lease->renewed_ms;
    *out_age = (struct mr_lease_age){
        .ttl_ms = (uint64_t)lease->ttl_ms,
        .silent_ms = silent_ms > 0 ? (uint64_t)silent_ms : 0,
    };
    while (out_age->n_gaps < LEASE_GAPS &&
           lease->gaps_ms[out_age->n_gaps] != 0) {
        out_age->gaps_ms[out_age->n_gaps] = lease->gaps_ms[out_age->n_gaps];
        out_age->n_gaps++;
    }
    return true;
}

void mr_leases_stats(const struct mr_leases *leases,
                     struct mr_leases_stats *out_stats)
{
    *out_stats = leases->stats;
    out_stats->leases = leases->n_leases;
    out_stats->waiting = leases->n_waiting;
}

/* ---- the cluster ---- */

uint64_t lease_voter_bit(const struct mr_leases *l, uint64_t id)
{
    for (size_t i = 0; i < l->n_voters; i++) {
        if (l->voters[i] == id) {
            return UINT64_C(1) << i;
        }
    }
    return 0;
}

int64_t lease_majority(const int64_t *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t n_above = 0, n_same = 0;

        for (size_t j = 0; j < n; j++) {
            n_above += values[j] > values[i] ? 1 : 0;
            n_same += values[j] == values[i] ? 1 : 0;
        }
        if (n_above < n / 2 + 1 && n_above + n_same >= n / 2 + 1) {
            return values[i];
        }
    }
    return LEASE_NEVER;
}

static void step_down(struct mr_leases *l, int64_t now)
{
    lease_end_forget(l);
    if (l->phase == LEASE_LEADS) {
        int64_t heard = l->is_deaf ? l->deaf_ms : now;

        l->contact_ms = heard > l->contact_ms ? heard : l->contact_ms;
    }
    l->phase = LEASE_FOLLOWS;
    l->must_confirm = false;
    l->is_confirming = false;
    l->is_confirm_stale = false;
    l->is_deaf = false;
    l->is_passing = false;
    l->outage_end_ms = LEASE_NEVER;
    l->counted_ms = LEASE_NEVER;
}

/* One that becomes a voter knows nothing of what was acknowledged before: as one
 * that was just started. */
static void set_voters(struct mr_leases *l, const struct mr_leases_role *role,
                       int64_t now)
{
    size_t n =
        role->n_voters < LEASE_PEERS_MAX ? role->n_voters : LEASE_PEERS_MAX;
    bool was_voter = lease_voter_bit(l, role->self) != 0;
    struct mr_list *link;

    if (n == l->n_voters && (n == 0 || memcmp(l->voters, role->voters,
                                              n * sizeof *l->voters) == 0)) {
        return;
    }
    if (n > 0) {
        memcpy(l->voters, role->voters, n * sizeof *l->voters);
    }
    l->n_voters = n;
    if (!was_voter && lease_voter_bit(l, role->self) != 0) {
        l->started_ms = now;
        l->is_synced = false;
        l->wants_sync = true;
    }
    MR_LIST_FOREACH(link, &l->rounds)
    {
        struct lease_batch *b = mr_container_of(link, struct lease_batch, link);

        b->acked = lease_voter_bit(l, role->self);
        b->sent_ms = LEASE_NEVER; /* Sent to the new ones. */
    }
}

void mr_leases_set_role(struct mr_leases *leases,
                        const struct mr_leases_role *role, uint64_t now_ms)
{
    int64_t now = enter(leases, now_ms);
    bool leads = role->is_ready && role->leader == role->self;
    bool is_other =
        role->term != leases->term || role->leader != leases->leader;

    if (leases->phase != LEASE_FOLLOWS && (is_other || !leads)) {
        step_down(leases, now);
        is_other = true;
    }
    (void)snprintf(leases->name, sizeof leases->name, "%s", role->name);
    leases->self = role->self;
    leases->leader = role->leader;
    leases->term = role->term;
    set_voters(leases, role, now);
    if (is_other) {
        for (size_t i = 0; i < leases->n_peers; i++) {
            leases->wants_sync =
                leases->wants_sync || leases->peers[i].ask == LEASE_ASK_OPEN;
            leases->peers[i].ask = LEASE_ASK_NONE;
        }
        lease_renew_restart(leases);
    }
    if (leads && leases->phase == LEASE_FOLLOWS) {
        lease_take_begin(leases, now);
    }
}

/* ---- messages ---- */

struct lease_peer *lease_peer(struct mr_leases *l, uint64_t id)
{
    struct lease_peer *oldest = NULL;

    for (size_t i = 0; i < l->n_peers; i++) {
        struct lease_peer *p = &l->peers[i];

        if (p->id == id) {
            return p;
        }
        if (lease_voter_bit(l, p->id) == 0 &&
            (oldest == NULL || p->reading_at_ms < oldest->reading_at_ms)) {
            oldest = p;
        }
    }
    if (l->n_peers < LEASE_PEERS_MAX) {
        oldest = &l->peers[l->n_peers++];
    }
    if (oldest != NULL) {
        *oldest = (struct lease_peer){.id = id, .heard_ms = LEASE_NEVER};
    }
    return oldest;
}

/* What the peer's clock shows now at least, or 0. */
static uint64_t floor_of(const struct lease_peer *p, int64_t now)
{
    int64_t passed = now - p->reading_at_ms;

    if (p->reading == 0 || passed < 0) {
        return p->reading;
    }
    passed -= passed / DRIFT + 1;
    return passed > 0 ? p->reading + (uint64_t)passed : p->reading;
}

void lease_begin(struct mr_leases *l, struct lease_msg *msg, uint64_t to,
                 int64_t now)
{
    const struct lease_peer *peer = lease_peer(l, to);

    msg->term = l->term;
    msg->instance = l->io.instance;
    msg->reading = (uint64_t)now;
    msg->floor = peer == NULL ? 0 : floor_of(peer, now);
    mr_buf_reset(&l->out);
    lease_wire_put(&l->out, msg);
}

void lease_send(struct mr_leases *l, uint64_t to)
{
    if (!mr_buf_failed(&l->out)) {
        l->io.send(l->io.arg, to, mr_buf_slice(&l->out));
    }
}

/* Remember the peer's clock for the floor of what we send it. */
static void note_clock(struct lease_peer *p, const struct lease_msg *msg,
                       int64_t now)
{
    if (p->instance != msg->instance) {
        p->instance = msg->instance;
        p->reading = 0;
        p->heard_ms = LEASE_NEVER;
    }
    if (msg->reading > p->reading) {
        p->reading = msg->reading;
        p->reading_at_ms = now;
    }
}

/* What our clock showed when the sender heard us last, and its own clock since
 * then, bound how old the message is. One that lay in a socket while either was
 * paused, or was made by a clock that stood still, must neither look fresh nor
 * make renewals look old: it is not believed at all. Nor is one that says that
 * our clock should be further: then it was ours that stood still. So ages are
 * late by what a message takes, and never early. */
bool lease_is_fresh(const struct lease_msg *msg, int64_t now)
{
    int64_t age = now - (int64_t)msg->floor;

    return msg->floor != 0 && age <= LEASE_STALE_MS && age >= -AHEAD_MS;
}

void mr_leases_receive(struct mr_leases *leases, uint64_t from,
                       struct mr_slice msg, uint64_t now_ms)
{
    int64_t now = enter(leases, now_ms);
    struct lease_peer *peer;
    struct lease_msg m;

    if (lease_wire_get(msg, &m) != MR_OK || from == 0 ||
        (peer = lease_peer(leases, from)) == NULL) {
        leases->stats.bad_messages++;
        return;
    }
    note_clock(peer, &m, now);
    switch (m.kind) {
    case LEASE_RENEW:
        lease_on_renew(leases, peer, &m, now);
        break;
    case LEASE_ACK:
        lease_on_ack(leases, peer, &m, now);
        break;
    case LEASE_ASK:
        lease_on_ask(leases, peer, &m, now);
        break;
    case LEASE_AGES:
        lease_on_ages(leases, peer, &m, now);
        break;
    case LEASE_FORWARD:
        lease_on_forward(leases, peer, &m, now);
        break;
    case LEASE_ANSWER:
        lease_on_answer(leases, &m);
        break;
    }
}

/* ---- the tick ---- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

uint64_t mr_leases_tick(struct mr_leases *leases, uint64_t now_ms)
{
    int64_t now = enter(leases, now_ms);
    int64_t wait = TICK_MAX_MS;

    lease_renew_tick(leases, now);
    lease_take_tick(leases, now);
    lease_end_tick(leases, now);
    sweep(leases, now);
    wait = least(wait, lease_renew_wait(leases, now));
    wait = least(wait, lease_take_wait(leases, now));
    wait = least(wait, lease_end_wait(leases, now));
    wait = wait > 0 ? wait : 1;
    leases->due_ms = now + wait;
    return (uint64_t)wait;
}
