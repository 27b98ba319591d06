/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines, on the leader.
 *
 * - A lease whose deadline passed leaves the heap, is marked as ending and goes
 *   into a LeaseEnd command with others, as many as are due. A few commands
 *   are on their way at a time, so that a whole rack that goes away stalls
 *   nobody. Leases whose rows lie together end together, which costs the state
 *   less.
 * - The command is right only in our term: a leader that was replaced cannot
 *   get it committed, and what it did get into the log is applied before its
 *   successor leads.
 * - While its end is being decided a lease is neither renewed nor unknown.
 *   When the command certainly failed, it is as before.
 *
 * Nothing ends while there may have been renewals that could not reach us:
 * after a pause of ours before a quorum confirmed that we still lead, without a
 * majority that answers, and for a moment after each.
 */
#include "health/lease.h"

#include <stdlib.h>

#include "base/mem.h"

#define DUE_MAX 20000u  /* Taken from the heap at a time. */
#define RETRY_MS 50     /* After a proposal that failed. */
#define UNKNOWN_MS 1000 /* After one whose outcome is not known. */
#define MARGIN_MS 5     /* Never early, though clocks drift and are cut. */
#define CONFIRM_MS 1000 /* Lost: ask again. */

/* ---- may we? ---- */

/* When the newest message was sent that a majority acknowledged. */
static int64_t heard_ms(struct mr_leases *l, int64_t now)
{
    int64_t heard[LEASE_PEERS_MAX];

    for (size_t i = 0; i < l->n_voters; i++) {
        const struct lease_peer *p = NULL;

        heard[i] = now;
        if (l->voters[i] != l->self) {
            p = lease_peer(l, l->voters[i]);
            heard[i] = p == NULL ? LEASE_NEVER : p->heard_ms;
        }
    }
    return lease_majority(heard, l->n_voters);
}

/* Whether a majority answers. When it does again, we go on as after a pause. */
static bool is_heard(struct mr_leases *l, int64_t now)
{
    int64_t heard = heard_ms(l, now);

    if (now - heard > LEASE_DEAF_MS) {
        if (!l->is_deaf) {
            l->is_deaf = true;
            l->deaf_ms = heard;
        }
        return false;
    }
    if (l->is_deaf) {
        l->is_deaf = false;
        lease_after_outage(l, l->deaf_ms, LEASE_NEVER, now);
    }
    return true;
}

static bool is_confirmed(struct mr_leases *l, int64_t now)
{
    if (!l->must_confirm) {
        return true;
    }
    if (now >= l->confirm_ms && !l->is_confirming) {
        l->is_confirming = true;
        l->io.confirm(l->io.arg, l->term);
    }
    return false;
}

static bool may_end(struct mr_leases *l, int64_t now)
{
    bool heard, confirmed;

    if (l->phase != LEASE_LEADS) {
        return false;
    }
    heard = is_heard(l, now);
    confirmed = is_confirmed(l, now);
    return heard && confirmed && !l->is_passing && now >= l->quiet_ms;
}

/* ---- one command ---- */

static struct lease_command *free_command(struct mr_leases *l)
{
    for (size_t i = 0; i < LEASE_END_COMMANDS; i++) {
        if (l->commands[i].ticket == 0) {
            return &l->commands[i];
        }
    }
    return NULL;
}

static int compare_doomed(const void *a, const void *b)
{
    const struct lease_doomed *x = a;
    const struct lease_doomed *y = b;

    if (x->place != y->place) {
        return x->place < y->place ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Whether @lease is due; if not, it waits in the heap for its time. */
static bool is_due(struct mr_leases *l, struct lease *lease, int64_t now)
{
    if (lease_deadline(lease) + MARGIN_MS <= now) {
        return true;
    }
    lease_table_set_due(&l->table, lease, lease_deadline(lease));
    return false;
}

/* Take what is due out of the heap, sorted by place. */
static void gather(struct mr_leases *l, int64_t now)
{
    struct lease *lease;
    int64_t key;

    l->doomed_at = l->n_doomed = 0;
    if (l->doomed == NULL) {
        l->doomed = mr_calloc(DUE_MAX, sizeof *l->doomed);
    }
    if (l->doomed == NULL) {
        return; /* They are due in the next tick as well. */
    }
    for (size_t i = 0;
         i < DUE_MAX && (lease = lease_table_first(&l->table, &key)) != NULL &&
         key + MARGIN_MS <= now;
         i++) {
        if (!lease_is_applied(l, lease)) {
            lease_table_drop(&l->table, lease);
        } else if (is_due(l, lease, now)) {
            lease_table_drop(&l->table, lease);
            l->doomed[l->n_doomed++] =
                (struct lease_doomed){lease->place, lease->id};
        }
    }
    qsort(l->doomed, l->n_doomed, sizeof *l->doomed, compare_doomed);
}

/* Fill @c with leases that are due and no command has yet. */
static void collect(struct mr_leases *l, struct lease_command *c, int64_t now)
{
    c->n = 0;
    while (c->n < LEASE_END_BATCH && l->doomed_at < l->n_doomed) {
        uint64_t id = l->doomed[l->doomed_at++].id;
        struct lease *lease = lease_table_find(&l->table, id);

        if (lease != NULL && lease_is_applied(l, lease) &&
            is_due(l, lease, now)) {
            lease_table_drop(&l->table, lease);
            lease->ending = l->leading;
            c->ids[c->n++] = id;
        }
    }
}

static void fill(Mr__LeaseEnd__Ended *out, struct lease *lease, int64_t now)
{
    mr__lease_end__ended__init(out);
    out->id = lease->id;
    out->silent_ms = (uint64_t)(now - lease->renewed_ms);
    out->gaps_ms = lease->gaps_ms;
    while (out->n_gaps_ms < LEASE_GAPS && lease->gaps_ms[out->n_gaps_ms] != 0) {
        out->n_gaps_ms++;
    }
}

/* Encode and propose @c. */
static enum mr_err propose(struct mr_leases *l, struct lease_command *c,
                           int64_t now)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__LeaseEnd body = MR__LEASE_END__INIT;
    struct mr_buf out = MR_BUF_INIT;
    Mr__LeaseEnd__Ended *ended = mr_calloc(c->n, sizeof *ended);
    Mr__LeaseEnd__Ended **leases = mr_calloc(c->n, sizeof *leases);
    enum mr_err err = MR_E_NOMEM;

    if (ended != NULL && leases != NULL) {
        for (size_t i = 0; i < c->n; i++) {
            fill(&ended[i], lease_table_find(&l->table, c->ids[i]), now);
            leases[i] = &ended[i];
        }
        body.n_leases = c->n;
        body.leases = leases;
        body.leader = l->name;
        body.term = l->term;
        cmd.op_case = MR__COMMAND__OP_LEASE_END;
        cmd.lease_end = &body;
        mr_kv_command_encode(&cmd, &out);
        c->ticket = ++l->next_ticket;
        if (!mr_buf_failed(&out)) {
            err = l->io.propose(l->io.arg, l->term, mr_buf_slice(&out),
                                c->ticket);
        }
    }
    mr_buf_deinit(&out);
    mr_free(ended);
    mr_free(leases);
    return err;
}

/* The leases of @c are looked at again at @again_ms. */
static void give_back(struct mr_leases *l, struct lease_command *c,
                      bool is_ending, int64_t again_ms)
{
    for (size_t i = 0; i < c->n; i++) {
        struct lease *lease = lease_table_find(&l->table, c->ids[i]);

        if (lease != NULL && lease_is_applied(l, lease) &&
            lease_is_ending(l, lease)) {
            lease->ending = is_ending ? l->leading : 0;
            lease_table_set_due(&l->table, lease, again_ms);
        }
    }
    c->ticket = 0;
}

/* Applied or not known: both keep the leases ending. In the first case they are
 * gone by now, and if one is not, its end is proposed again. */
void mr_leases_proposed(struct mr_leases *leases, uint64_t ticket,
                        enum mr_err err, uint64_t now_ms)
{
    int64_t now = (int64_t)now_ms;
    bool is_refused =
        err == MR_E_NOLEADER || err == MR_E_BUSY || err == MR_E_NOTLEADER;

    for (size_t i = 0; i < LEASE_END_COMMANDS && ticket != 0; i++) {
        if (leases->commands[i].ticket == ticket) {
            give_back(leases, &leases->commands[i], !is_refused,
                      now + (is_refused ? RETRY_MS : UNKNOWN_MS));
        }
    }
}

void lease_end_forget(struct mr_leases *l)
{
    for (size_t i = 0; i < LEASE_END_COMMANDS; i++) {
        if (l->commands[i].ticket != 0) {
            give_back(l, &l->commands[i], false, l->now_ms);
        }
    }
    for (; l->doomed_at < l->n_doomed; l->doomed_at++) {
        struct lease *lease =
            lease_table_find(&l->table, l->doomed[l->doomed_at].id);

        if (lease != NULL) {
            lease_schedule(l, lease);
        }
    }
}

/* ---- the tick ---- */

void lease_end_tick(struct mr_leases *l, int64_t now)
{
    struct lease_command *c;

    if (!may_end(l, now)) {
        return;
    }
    if (l->doomed_at == l->n_doomed) {
        gather(l, now);
    }
    while (l->doomed_at < l->n_doomed && (c = free_command(l)) != NULL) {
        collect(l, c, now);
        if (c->n == 0) {
            return;
        }
        l->stats.ended += c->n;
        if (propose(l, c, now) != MR_OK) {
            l->stats.ended -= c->n;
            give_back(l, c, false, now + RETRY_MS);
            return;
        }
    }
}

int64_t lease_end_wait(const struct mr_leases *l, int64_t now)
{
    int64_t key;
    int64_t until;

    if (l->phase != LEASE_LEADS || l->is_deaf || l->must_confirm) {
        return LEASE_BEAT_MS / 2;
    }
    if (lease_table_first(&l->table, &key) == NULL) {
        return l->doomed_at < l->n_doomed ? 1 : LEASE_BEAT_MS / 2;
    }
    until = key + MARGIN_MS > l->quiet_ms ? key + MARGIN_MS : l->quiet_ms;
    if (until <= now || l->doomed_at < l->n_doomed) {
        /* More is due than one turn may do, or all commands are under way. */
        return l->commands[LEASE_END_COMMANDS - 1].ticket != 0 ? RETRY_MS : 1;
    }
    return until - now;
}
