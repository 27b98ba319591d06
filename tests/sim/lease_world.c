/* SPDX-License-Identifier: Apache-2.0 */
/* Time, network and the played raft around lease engines. */
#include "tests/sim/lease_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HEARTBEAT_MS 50
#define ELECTION_MS 300
#define QUORUM_LOST_MS 500
#define GOOD_CLOCK_PPM 200

uint64_t world_random(struct world *w, uint64_t n)
{
    uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % n;
}

static bool permille(struct world *w, unsigned n)
{
    return world_random(w, 1000) < n;
}

void world_fail(struct world *w, const char *fmt, ...)
{
    va_list args;

    if (w->failed) {
        return;
    }
    w->failed = true;
    va_start(args, fmt);
    (void)vsnprintf(w->why, sizeof w->why, fmt, args);
    va_end(args);
}

uint64_t world_clock(const struct world_server *s)
{
    int64_t now = (int64_t)s->world->now - s->suspended_ms;

    return (uint64_t)(s->clock_offset + now + now * s->drift_ppm / 1000000);
}

static bool is_running(const struct world_server *s)
{
    return s->is_up && s->paused_until <= s->world->now;
}

/* ---- network ---- */

static void schedule(struct world *w, struct world_event *e, uint64_t delay)
{
    mr_assert(delay < WORLD_RING);
    mr_list_push(&w->ring[(w->now + delay) % WORLD_RING], &e->link);
}

static void free_event(struct world_event *e)
{
    free(e->bytes);
    free(e);
}

static struct world_event *new_event(const struct world *w, int from, int to)
{
    struct world_event *e = calloc(1, sizeof *e);

    mr_assert(e != NULL);
    mr_list_init(&e->link);
    e->from = from;
    e->to = to;
    e->incarnation = w->servers[to].incarnation;
    return e;
}

static uint64_t delay(struct world *w)
{
    return permille(w, w->mood.late_permille)
               ? 1 + world_random(w, w->mood.late_ms + 1)
               : 1 + world_random(w, 4);
}

static void on_send(void *arg, uint64_t to, struct mr_slice msg)
{
    struct world_server *s = arg;
    struct world *w = s->world;
    int n = permille(w, w->mood.double_permille) ? 2 : 1;

    mr_assert(msg.len <= MR_LEASES_MESSAGE_MAX);
    for (; n > 0; n--) {
        struct world_event *e;

        if (permille(w, w->mood.drop_permille) || w->cut[s->slot][to - 1] ||
            !w->servers[to - 1].is_up) {
            continue;
        }
        e = new_event(w, s->slot, (int)to - 1);
        e->kind = EVENT_MESSAGE;
        e->len = msg.len;
        e->bytes = malloc(msg.len);
        mr_assert(e->bytes != NULL);
        memcpy(e->bytes, msg.data, msg.len);
        schedule(w, e, delay(w));
    }
}

void world_send_ask(struct world *w, int slot, struct world_ask *ask)
{
    struct world_event *e = new_event(w, -1, slot);

    e->kind = EVENT_ASK;
    e->ask = ask;
    schedule(w, e, 1 + world_random(w, 2));
}

static void deliver(struct world *w, struct world_event *e)
{
    struct world_server *s = &w->servers[e->to];

    if (s->is_up && s->incarnation == e->incarnation && !is_running(s)) {
        schedule(w, e, 1); /* It lies in the socket. */
        return;
    }
    if (!s->is_up || s->incarnation != e->incarnation) {
        if (e->kind == EVENT_ASK) {
            e->ask->renewal.done(&e->ask->renewal, MR_E_CLOSED);
        }
    } else if (e->kind == EVENT_ASK) {
        owners_on_taken(w, e->ask);
        mr_leases_renew(s->engine, &e->ask->renewal, world_clock(s));
        s->tick_ms = w->now;
    } else {
        mr_leases_receive(s->engine, (uint64_t)e->from + 1,
                          mr_slice(e->bytes, e->len), world_clock(s));
        s->tick_ms = w->now;
    }
    free_event(e);
}

static void deliver_all(struct world *w)
{
    struct mr_list due;
    struct mr_list *link;

    mr_list_init(&due);
    mr_list_move(&due, &w->ring[w->now % WORLD_RING]);
    while ((link = mr_list_pop(&due)) != NULL) {
        deliver(w, mr_container_of(link, struct world_event, link));
    }
}

/* ---- raft, as the servers see it ---- */

static void tell_role(struct world_server *s)
{
    struct world *w = s->world;
    uint64_t voters[WORLD_SERVERS];
    struct mr_leases_role role = {.self = (uint64_t)s->slot + 1,
                                  .leader = (uint64_t)(s->leader + 1),
                                  .term = s->term,
                                  .is_ready = s->is_ready,
                                  .voters = voters,
                                  .n_voters = w->mood.servers,
                                  .name = "sim"};

    for (unsigned i = 0; i < w->mood.servers; i++) {
        voters[i] = i + 1;
    }
    mr_leases_set_role(s->engine, &role, world_clock(s));
    s->tick_ms = w->now;
}

static bool is_linked(const struct world *w, int a, int b)
{
    return a == b || (!w->cut[a][b] && !w->cut[b][a]);
}

static bool has_majority(const struct world *w, int slot)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->mood.servers; i++) {
        n += is_running(&w->servers[i]) && is_linked(w, slot, (int)i) ? 1 : 0;
    }
    return is_running(&w->servers[slot]) && n > w->mood.servers / 2;
}

bool world_can_commit(const struct world *w)
{
    return w->leader >= 0 && w->is_ready && has_majority(w, w->leader);
}

static void append(struct world *w, struct world_entry entry)
{
    mr_assert(w->n_log < WORLD_LOG);
    w->log[w->n_log++] = entry;
}

void world_commit(struct world *w, enum world_entry_kind kind, uint64_t id)
{
    append(w, (struct world_entry){.kind = kind, .id = id, .proposer = -1});
}

/* Apply the log up to @n entries. The last entry of a proposal of ours tells
 * its outcome, after what it did. */
static void apply(struct world_server *s, size_t n)
{
    struct world *w = s->world;

    while (s->n_applied < n) {
        const struct world_entry *e = &w->log[s->n_applied++];
        struct mr_kv_lease_change change = {.id = e->id,
                                            .is_new = e->kind == ENTRY_NEW};

        if (e->kind != ENTRY_NOOP) {
            change.ttl_ms = w->leases[e->id - 1].ttl_ms;
            mr_assert(mr_leases_change(s->engine, &change, 1, world_clock(s)) ==
                      MR_OK);
        }
        if (e->proposer == s->slot && e->incarnation == s->incarnation) {
            mr_leases_proposed(s->engine, e->ticket, MR_OK, world_clock(s));
        }
        s->tick_ms = w->now;
    }
}

/* ---- proposals ---- */

static enum mr_err on_propose(void *arg, uint64_t term, struct mr_slice cmd,
                              uint64_t ticket)
{
    struct world_server *s = arg;
    struct world *w = s->world;
    Mr__Command *c = mr__command__unpack(NULL, cmd.len, cmd.data);
    struct world_pending *p = NULL;

    mr_assert(c != NULL && c->op_case == MR__COMMAND__OP_LEASE_END &&
              c->lease_end->n_leases <= 1000 && c->lease_end->term == term);
    for (size_t i = 0; i < WORLD_PENDING && p == NULL; i++) {
        p = w->pending[i].is_open ? NULL : &w->pending[i];
    }
    if (p == NULL || term != s->term || permille(w, 20)) {
        mr__command__free_unpacked(c, NULL);
        return MR_E_BUSY;
    }
    p->is_open = true;
    p->slot = s->slot;
    p->incarnation = s->incarnation;
    p->term = term;
    p->ticket = ticket;
    p->at_ms = w->now + 2 + world_random(w, 20);
    for (unsigned i = 0; i < w->mood.servers; i++) {
        p->reached[i] =
            is_running(&w->servers[i]) && is_linked(w, s->slot, (int)i);
    }
    p->n = c->lease_end->n_leases;
    for (size_t i = 0; i < p->n; i++) {
        p->ids[i] = c->lease_end->leases[i]->id;
    }
    mr__command__free_unpacked(c, NULL);
    return MR_OK;
}

static void commit_pending(struct world *w, struct world_pending *p)
{
    p->is_open = false;
    for (size_t i = 0; i < p->n; i++) {
        struct world_lease *lease = &w->leases[p->ids[i] - 1];

        if (lease->ended_ms == 0) {
            owners_on_end(w, p->ids[i]);
            append(w, (struct world_entry){
                          .kind = ENTRY_GONE, .id = p->ids[i], .proposer = -1});
        }
    }
    append(w, (struct world_entry){.kind = ENTRY_NOOP,
                                   .ticket = p->ticket,
                                   .proposer = p->slot,
                                   .incarnation = p->incarnation});
}

static void tell_lost(struct world *w, struct world_pending *p, enum mr_err err)
{
    struct world_server *s = &w->servers[p->slot];

    p->is_open = false;
    if (is_running(s) && s->incarnation == p->incarnation) {
        mr_leases_proposed(s->engine, p->ticket, err, world_clock(s));
        s->tick_ms = w->now;
    }
}

static void commit_due(struct world *w)
{
    for (size_t i = 0; i < WORLD_PENDING; i++) {
        struct world_pending *p = &w->pending[i];

        if (!p->is_open || p->at_ms > w->now) {
            continue;
        }
        if (p->term == w->term && p->slot == w->leader && world_can_commit(w)) {
            commit_pending(w, p);
        } else if (p->term < w->term) {
            tell_lost(w, p, permille(w, 500) ? MR_E_UNKNOWN : MR_E_NOLEADER);
        }
    }
}

static void on_confirm(void *arg, uint64_t term)
{
    struct world_server *s = arg;

    s->world->counts.confirms++;
    s->must_confirm = true;
    s->confirm_term = term;
    s->confirm_at = s->world->now + 1 + world_random(s->world, 10);
}

static void confirm(struct world_server *s)
{
    struct world *w = s->world;
    bool leads = s->confirm_term == w->term && w->leader == s->slot;

    if (!s->must_confirm || s->confirm_at > w->now ||
        (leads && !world_can_commit(w))) {
        return;
    }
    s->must_confirm = false;
    mr_leases_confirmed(s->engine, s->confirm_term,
                        leads ? MR_OK : MR_E_NOLEADER, world_clock(s));
    s->tick_ms = w->now;
}

/* ---- elections ---- */

/* What an old leader had in its log may be in its successor's, and is committed
 * before anything of the new term. */
static void adopt(struct world *w, int slot)
{
    for (size_t i = 0; i < WORLD_PENDING; i++) {
        struct world_pending *p = &w->pending[i];

        if (p->is_open && p->term == w->term && p->reached[slot] &&
            permille(w, 500)) {
            enum mr_err err = MR_E_UNKNOWN;
            struct world_pending copy = *p;

            commit_pending(w, p);
            if (permille(w, 500)) {
                w->log[w->n_log - 1].proposer = -1;
                tell_lost(w, &copy, err);
            }
        }
    }
}

static void elect(struct world *w, int slot)
{
    w->counts.elections++;
    adopt(w, slot);
    w->term++;
    w->leader = slot;
    w->is_ready = false;
    w->ready_ms = w->now + 3 + world_random(w, 25);
    w->election_ms = 0;
    for (unsigned i = 0; i < w->mood.servers; i++) {
        struct world_server *s = &w->servers[i];

        if (is_running(s) && is_linked(w, slot, (int)i)) {
            s->term = w->term;
            s->leader = (int)i == slot || permille(w, 300) ? slot : -1;
            s->is_ready = false;
            tell_role(s);
        }
    }
    w->servers[slot].quorum_ms = w->now;
}

static void maybe_elect(struct world *w)
{
    int candidates[WORLD_SERVERS];
    unsigned n = 0;

    if (w->leader >= 0 && has_majority(w, w->leader)) {
        w->election_ms = 0;
        return;
    }
    if (w->election_ms == 0) {
        w->election_ms = w->now + ELECTION_MS + world_random(w, ELECTION_MS);
    }
    if (w->now < w->election_ms) {
        return;
    }
    for (unsigned i = 0; i < w->mood.servers; i++) {
        if (has_majority(w, (int)i)) {
            candidates[n++] = (int)i;
        }
    }
    if (n == 0) {
        w->election_ms = w->now + 50;
        return;
    }
    elect(w, candidates[world_random(w, n)]);
}

static void become_ready(struct world *w)
{
    struct world_server *s;

    if (w->leader < 0 || w->is_ready || w->now < w->ready_ms ||
        !has_majority(w, w->leader)) {
        return;
    }
    s = &w->servers[w->leader];
    append(w, (struct world_entry){.kind = ENTRY_NOOP, .proposer = -1});
    apply(s, w->n_log);
    w->is_ready = true;
    s->is_ready = true;
    tell_role(s);
}

static void hear_leader(struct world *w)
{
    if (w->leader < 0 || !is_running(&w->servers[w->leader]) ||
        w->now % HEARTBEAT_MS != 0) {
        return;
    }
    for (unsigned i = 0; i < w->mood.servers; i++) {
        struct world_server *s = &w->servers[i];

        if (is_running(s) && !w->cut[w->leader][i] &&
            (s->term != w->term || s->leader != w->leader)) {
            s->term = w->term;
            s->leader = w->leader;
            s->is_ready = (int)i == w->leader && w->is_ready;
            tell_role(s);
        }
    }
}

/* A leader without a majority gives up after a while. */
static void check_quorum(struct world_server *s)
{
    struct world *w = s->world;

    if (s->leader != s->slot) {
        return;
    }
    if (has_majority(w, s->slot)) {
        s->quorum_ms = w->now;
    } else if (w->now - s->quorum_ms > w->quorum_lost_ms) {
        s->leader = -1;
        s->is_ready = false;
        if (w->leader == s->slot) {
            w->leader = -1;
        }
        tell_role(s);
    }
}

/* ---- processes ---- */

static void start(struct world_server *s)
{
    struct world *w = s->world;
    struct mr_leases_io io = {.arg = s,
                              .instance = 1 + world_random(w, 1 << 30),
                              .send = on_send,
                              .propose = on_propose,
                              .confirm = on_confirm};
    size_t n = s->n_applied;

    s->is_up = true;
    s->incarnation++;
    s->started_ms = w->now;
    s->paused_until = 0;
    s->must_confirm = false;
    s->leader = -1;
    s->is_ready = false;
    s->engine = mr_leases_new(&io, world_clock(s));
    mr_assert(s->engine != NULL);
    /* The state on disk, and the rest of the log a little later. */
    s->n_applied = 0;
    apply(s, n);
    s->apply_from = w->now + world_random(w, 300);
    tell_role(s);
    s->tick_ms = w->now;
}

static void stop(struct world_server *s)
{
    if (s->is_up) {
        s->is_up = false;
        mr_leases_free(s->engine);
        s->engine = NULL;
    }
}

/* The state is replaced by a snapshot that holds everything. */
static void install(struct world_server *s)
{
    struct world *w = s->world;

    w->counts.resets++;
    mr_leases_reset(s->engine, world_clock(s));
    s->n_applied = w->n_log;
    for (size_t i = 0; i < w->n_leases; i++) {
        struct mr_kv_lease_change change = {
            .id = i + 1, .ttl_ms = w->leases[i].ttl_ms, .is_new = true};

        if (w->leases[i].ended_ms == 0) {
            mr_assert(mr_leases_change(s->engine, &change, 1, world_clock(s)) ==
                      MR_OK);
        }
    }
    s->tick_ms = w->now;
}

static void follow_log(struct world_server *s)
{
    struct world *w = s->world;

    if (w->leader < 0 || w->cut[w->leader][s->slot] ||
        !is_running(&w->servers[w->leader]) || w->now < s->apply_from ||
        s->n_applied == w->n_log || s->term != w->term) {
        return;
    }
    if (s->slot != w->leader && w->n_log - s->n_applied > 20 &&
        permille(w, 300)) {
        install(s);
    } else if (permille(w, 200)) {
        apply(s, w->n_log);
    }
}

/* ---- faults ---- */

/* Faults of one server at a time: all others are well, and remember. */
static bool are_all_well(const struct world *w)
{
    for (unsigned i = 0; i < w->mood.servers; i++) {
        const struct world_server *s = &w->servers[i];

        if (!is_running(s) || w->now - s->started_ms < 2000) {
            return false;
        }
        for (unsigned j = 0; j < w->mood.servers; j++) {
            if (w->cut[i][j]) {
                return false;
            }
        }
    }
    return world_can_commit(w);
}

static void kill_server(struct world *w, struct world_server *s)
{
    w->counts.kills++;
    if (w->leader == s->slot) {
        w->leader = -1; /* It does not lead this term again. */
    }
    if (!w->mood.one_at_a_time || w->mood.servers == 1) {
        w->n_forgot++;
    }
    s->up_again_ms = w->now + (w->mood.amnesia ? 50 + world_random(w, 150)
                                               : 100 + world_random(w, 3000));
    stop(s);
}

static void pause_server(struct world *w, struct world_server *s)
{
    uint64_t ms = 50 + world_random(w, permille(w, 300) ? 5000 : 700);

    w->counts.pauses++;
    s->paused_until = w->now + ms;
    if (permille(w, 250)) {
        s->suspended_ms += (int64_t)ms; /* Its clock stands still. */
        s->suspended_until = s->paused_until;
    }
}

static void cut_server(struct world *w, int slot)
{
    uint64_t until = w->now + 100 + world_random(w, 4000);
    uint64_t ways = world_random(w, 3);

    w->counts.cuts++;
    for (unsigned i = 0; i < w->mood.servers; i++) {
        if ((int)i != slot && (w->mood.one_at_a_time || permille(w, 700))) {
            w->cut[slot][i] = ways != 0;
            w->cut[i][slot] = ways != 1;
            w->healed_at[slot][i] = w->healed_at[i][slot] = until;
        }
    }
}

/* No majority for a while: all are paused, or cut off from each other. They come
 * back one after the other. */
static void black_out(struct world *w)
{
    uint64_t until = w->now + 100 + world_random(w, 6000);
    bool is_cut = permille(w, 500);

    w->counts.pauses++;
    for (unsigned i = 0; i < w->mood.servers; i++) {
        uint64_t back = until + world_random(w, 250);

        if (!is_cut) {
            w->servers[i].paused_until = back;
        }
        for (unsigned j = 0; j < w->mood.servers && is_cut; j++) {
            w->cut[i][j] = i != j;
            w->healed_at[i][j] = back;
        }
    }
}

static void make_fault(struct world *w)
{
    int slot = w->leader >= 0 && permille(w, 500)
                   ? w->leader
                   : (int)world_random(w, w->mood.servers);
    struct world_server *s = &w->servers[slot];

    if (w->mood.fault_every_ms == 0 || w->now < w->fault_ms) {
        return;
    }
    if (w->mood.one_at_a_time && !are_all_well(w)) {
        return;
    }
    w->fault_ms = w->now + w->mood.fault_every_ms / 2 +
                  world_random(w, w->mood.fault_every_ms);
    if (!is_running(s)) {
        return;
    }
    if (w->mood.blackouts) {
        black_out(w);
        return;
    }
    switch (w->mood.amnesia ? 0 : world_random(w, 5)) {
    case 0:
        kill_server(w, s);
        break;
    case 1:
        pause_server(w, s);
        break;
    case 2:
        cut_server(w, slot);
        break;
    case 3:
        if (has_majority(w, slot) && slot != w->leader) {
            elect(w, slot); /* Though the leader is well. */
        }
        break;
    default:
        s->apply_from = w->now + world_random(w, 1500);
        break;
    }
}

static void mend(struct world *w)
{
    for (unsigned i = 0; i < w->mood.servers; i++) {
        struct world_server *s = &w->servers[i];

        if (!s->is_up && w->now >= s->up_again_ms) {
            start(s);
        }
        for (unsigned j = 0; j < w->mood.servers; j++) {
            if (w->cut[i][j] && w->now >= w->healed_at[i][j]) {
                w->cut[i][j] = false;
            }
        }
    }
}

void world_heal(struct world *w)
{
    w->mood.fault_every_ms = 0;
    w->mood.drop_permille = 0;
    w->mood.late_permille = 0;
    memset(w->cut, 0, sizeof w->cut);
    for (unsigned i = 0; i < w->mood.servers; i++) {
        w->servers[i].up_again_ms = 0;
        w->servers[i].apply_from = 0;
    }
}

/* ---- life ---- */

void world_init(struct world *w, uint64_t seed, const struct world_mood *mood)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->random = seed * UINT64_C(0x2545f4914f6cdd1d);
    w->mood = *mood;
    w->now = 1000;
    w->leader = -1;
    w->quorum_lost_ms = QUORUM_LOST_MS + world_random(w, 2 * QUORUM_LOST_MS);
    w->fault_ms = 3000;
    w->log = calloc(WORLD_LOG, sizeof *w->log);
    w->leases = calloc(WORLD_LEASES, sizeof *w->leases);
    mr_assert(w->log != NULL && w->leases != NULL);
    for (size_t i = 0; i < WORLD_RING; i++) {
        mr_list_init(&w->ring[i]);
    }
    for (unsigned i = 0; i < mood->servers; i++) {
        struct world_server *s = &w->servers[i];

        s->world = w;
        s->slot = (int)i;
        s->clock_offset = (int64_t)world_random(w, 1u << 30) + 100000;
        s->drift_ppm =
            (int64_t)world_random(w, 2 * GOOD_CLOCK_PPM + 1) - GOOD_CLOCK_PPM;
        start(s);
    }
    owners_init(w);
}

/* Nobody could be heard: what comes later by as much is not late. */
static void note_bad(struct world *w)
{
    bool is_good =
        world_can_commit(w) && w->servers[w->leader].apply_from <= w->now;

    /* What a suspended machine knows looks younger by that time. */
    for (unsigned i = 0; i < w->mood.servers; i++) {
        is_good = is_good && w->servers[i].suspended_until <= w->now;
    }
    w->bad_ms += is_good ? 0 : 1;
}

static void step_server(struct world_server *s)
{
    struct world *w = s->world;
    struct mr_lease_renewal *r;

    if (!is_running(s)) {
        return;
    }
    check_quorum(s);
    follow_log(s);
    confirm(s);
    if (w->now < s->tick_ms) {
        return;
    }
    s->tick_ms = w->now + mr_leases_tick(s->engine, world_clock(s));
    while ((r = mr_leases_finished(s->engine)) != NULL) {
        r->done(r, r->err);
    }
}

void world_run(struct world *w, uint64_t end_ms)
{
    for (; w->now < end_ms && !w->failed; w->now++) {
        make_fault(w);
        mend(w);
        maybe_elect(w);
        become_ready(w);
        hear_leader(w);
        commit_due(w);
        deliver_all(w);
        for (unsigned i = 0; i < w->mood.servers; i++) {
            step_server(&w->servers[i]);
        }
        owners_step(w);
        note_bad(w);
        owners_look(w);
    }
}

void world_deinit(struct world *w)
{
    for (size_t i = 0; i < WORLD_RING; i++) {
        struct mr_list *link;

        while ((link = mr_list_pop(&w->ring[i])) != NULL) {
            struct world_event *e =
                mr_container_of(link, struct world_event, link);

            free(e->ask);
            free_event(e);
        }
    }
    for (unsigned i = 0; i < w->mood.servers; i++) {
        stop(&w->servers[i]);
    }
    free(w->log);
    free(w->leases);
}
