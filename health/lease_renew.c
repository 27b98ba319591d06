/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewals: from whom they are asked to where they are answered.
 *
 * - Asked here, they wait in the queue (lease_queue.c). A follower sends those of
 *   a few milliseconds to the leader in one FORWARD (lease_forward.c); the leader
 *   takes them into its own queue as one renewal and answers with one ANSWER.
 * - The leader writes what waits into its table, sends it to all voters in one
 *   RENEW, and answers when a majority has acknowledged it.
 * - RENEWED means that the lease lives for its TTL from the asking on; it is
 *   not said of a lease that is due by now.
 * - "Later" is said of a lease whose end is being decided, and of one that this
 *   server has not seen yet: IDs ascend, so only one below the highest that was
 *   seen is surely gone. The server that was asked tries again.
 * - When the leader changes, what waits is queued again. Renewing twice does
 *   no harm.
 */
#include "health/lease.h"

#include <string.h>

#include "base/mem.h"

#define UNSEEN_MAX (1u << 20) /* Leases known that are not applied yet. */
#define WAKE_MS 50            /* While something waits. */

/* ---- writing it down ---- */

static void note_gap(struct lease *lease, int64_t gap_ms)
{
    memmove(&lease->gaps_ms[1], &lease->gaps_ms[0],
            (LEASE_GAPS - 1) * sizeof lease->gaps_ms[0]);
    lease->gaps_ms[0] = gap_ms < UINT32_MAX ? (uint32_t)gap_ms : UINT32_MAX;
}

/* The lease was renewed at @date_ms. For a follower a renewal counts for more
 * than what it believes of the creation, also when that looks later; a leader
 * that applied the lease late gives it the time. */
static void renew(struct mr_leases *l, struct lease *lease, int64_t date_ms)
{
    if (date_ms > lease->renewed_ms) {
        note_gap(lease, date_ms - lease->renewed_ms);
    } else if (lease->is_real || l->phase == LEASE_LEADS) {
        return;
    }
    lease->renewed_ms = date_ms;
    lease->is_real = true;
    lease_schedule(l, lease);
}

/* ---- the leader's rounds ---- */

/* From when the renewal counts: from when it was asked, but not from a time
 * when nobody could be heard. */
static int64_t date_of(const struct mr_leases *l, const struct lease_ref *ref)
{
    return ref->asked_ms >= l->outage_from_ms &&
                   ref->asked_ms < l->outage_end_ms
               ? l->outage_end_ms
               : ref->asked_ms;
}

/* The lease of @ref when it can be renewed; else NULL, and its answer is given
 * or put off. */
static struct lease *judge(struct mr_leases *l, struct lease_ref ref)
{
    struct lease *lease = lease_table_find(&l->table, lease_ref_id(&ref));

    if (lease == NULL || !lease_is_applied(l, lease)) {
        if (lease_ref_id(&ref) <= l->max_id) {
            lease_finish(l, ref, MR_LEASE_UNKNOWN, MR_OK);
        } else {
            lease_put_off(l, ref);
        }
        return NULL;
    }
    if (lease_is_ending(l, lease)) {
        lease_put_off(l, ref);
        return NULL;
    }
    return lease;
}

/* Send the round to all voters that have not acknowledged it. NULL: nothing,
 * just to be heard. */
static void send_round(struct mr_leases *l, struct lease_batch *b, int64_t now)
{
    struct lease_msg msg = {.kind = LEASE_RENEW, .seq = b == NULL ? 0 : b->seq};

    mr_buf_reset(&l->items);
    if (b != NULL) {
        lease_batch_encode(l, b, now);
        b->sent_ms = now;
        l->stats.rounds++;
    }
    l->beat_ms = now;
    for (size_t i = 0; i < l->n_voters; i++) {
        if (l->voters[i] != l->self &&
            (b == NULL || (b->acked & UINT64_C(1) << i) == 0)) {
            lease_send_items(l, &msg, l->voters[i], now);
        }
    }
}

/* A majority has it: answer, except what is due by now. */
static void complete(struct mr_leases *l, struct lease_batch *b, int64_t now)
{
    mr_list_remove(&b->link);
    for (size_t i = 0; i < b->n; i++) {
        struct lease *lease = judge(l, b->refs[i]);

        if (lease == NULL) {
            continue;
        }
        if (now < lease_deadline(lease)) {
            lease_finish(l, b->refs[i], MR_LEASE_RENEWED, MR_OK);
        } else {
            lease_put_off(l, b->refs[i]);
        }
    }
    mr_free(b);
}

static bool has_majority(const struct mr_leases *l, uint64_t acked)
{
    size_t n = 0;

    for (size_t i = 0; i < l->n_voters; i++) {
        n += (acked >> i) & 1;
    }
    return n > l->n_voters / 2;
}

/* Take from the queue what fits in a message. */
static bool begin_round(struct mr_leases *l, int64_t now)
{
    size_t n = l->queue.n < LEASE_ROUND_MAX ? l->queue.n : LEASE_ROUND_MAX;
    struct lease_batch *b = lease_batch_new(l, n);

    if (b == NULL) {
        return false; /* They wait for memory. */
    }
    for (; n > 0; n--) {
        struct lease_ref ref = lease_queue_pop(&l->queue);
        struct lease *lease = judge(l, ref);

        if (lease != NULL) {
            ref.date_ms = date_of(l, &ref);
            lease_batch_add(b, ref);
            renew(l, lease, ref.date_ms);
        }
    }
    if (b->n == 0) {
        mr_free(b);
        return true;
    }
    b->acked = lease_voter_bit(l, l->self);
    mr_list_push(&l->rounds, &b->link);
    send_round(l, b, now);
    if (has_majority(l, b->acked)) {
        complete(l, b, now);
    }
    return true;
}

static void lead(struct mr_leases *l, int64_t now)
{
    struct mr_list *link;

    MR_LIST_FOREACH(link, &l->rounds)
    {
        struct lease_batch *b = mr_container_of(link, struct lease_batch, link);

        if (b->sent_ms <= now - LEASE_RESEND_MS) {
            send_round(l, b, now);
        }
    }
    if (l->queue.n > 0 && l->round_ms <= now - LEASE_ROUND_MS) {
        l->round_ms = now;
        for (int i = 0; i < LEASE_ROUNDS_PER_TICK && l->queue.n > 0; i++) {
            if (!begin_round(l, now)) {
                break;
            }
        }
    }
    if (l->beat_ms <= now - LEASE_BEAT_MS) {
        send_round(l, NULL, now);
    }
}

void lease_on_ack(struct mr_leases *l, struct lease_peer *peer,
                  const struct lease_msg *msg, int64_t now)
{
    uint64_t bit = lease_voter_bit(l, peer->id);
    struct mr_list *link;

    if (l->phase != LEASE_LEADS || msg->term != l->term || bit == 0) {
        return;
    }
    if ((int64_t)msg->echo > peer->heard_ms && (int64_t)msg->echo <= now) {
        peer->heard_ms = (int64_t)msg->echo;
    }
    MR_LIST_FOREACH(link, &l->rounds)
    {
        struct lease_batch *b = mr_container_of(link, struct lease_batch, link);

        if (b->seq == msg->seq) {
            b->acked |= bit;
            if (has_majority(l, b->acked)) {
                complete(l, b, now);
            }
            return;
        }
    }
}

/* ---- the leader's word to the others ---- */

/* Write down one renewal that the leader tells. MR_E_NOMEM. */
static enum mr_err note_renewal(struct mr_leases *l, uint64_t id,
                                int64_t date_ms)
{
    struct lease *lease = lease_table_find(&l->table, id);

    if (lease == NULL && id <= l->max_id) {
        return MR_OK; /* It ended. */
    }
    if (lease == NULL) {
        if (l->table.n - l->n_leases >= UNSEEN_MAX) {
            return MR_E_NOMEM;
        }
        lease = lease_table_add(&l->table, id);
        if (lease == NULL) {
            return MR_E_NOMEM;
        }
        lease->renewed_ms = date_ms;
    }
    renew(l, lease, date_ms);
    return MR_OK;
}

void lease_on_renew(struct mr_leases *l, struct lease_peer *peer,
                    const struct lease_msg *msg, int64_t now)
{
    struct lease_msg ack = {
        .kind = LEASE_ACK, .seq = msg->seq, .echo = msg->reading};
    struct lease_items items = {.rest = msg->items};
    struct lease_item item;

    if (msg->term != l->term || l->phase != LEASE_FOLLOWS) {
        return;
    }
    l->heard_term = msg->term;
    if (!lease_is_fresh(msg, now)) {
        ack.seq = ack.echo = 0; /* Only: this is our clock. */
        items.rest.len = 0;
    } else {
        l->contact_ms = now;
    }
    while (lease_wire_next(&items, &item)) {
        if (note_renewal(l, item.id, now - (int64_t)item.age_ms) != MR_OK) {
            return;
        }
    }
    lease_begin(l, &ack, peer->id, now);
    lease_send(l, peer->id);
}

/* ---- the tick ---- */

void lease_renew_tick(struct mr_leases *l, int64_t now)
{
    lease_renew_expire(l, now);
    if (l->phase == LEASE_LEADS) {
        lead(l, now);
    } else {
        lease_follow(l, now);
    }
}

int64_t lease_renew_wait(const struct mr_leases *l, int64_t now)
{
    int64_t until = INT64_MAX;
    bool can_send =
        l->phase == LEASE_LEADS || (l->leader != 0 && l->leader != l->self);

    if (l->n_waiting > 0) {
        until = now + WAKE_MS;
    }
    if (l->later.n > 0 && l->later_ms < until) {
        until = l->later_ms;
    }
    if (l->queue.n > 0 && can_send) {
        int64_t next = l->round_ms < now ? l->round_ms + LEASE_ROUND_MS : now;

        until = next < until ? next : until;
    }
    if (l->phase == LEASE_LEADS && l->beat_ms + LEASE_BEAT_MS < until) {
        until = l->beat_ms + LEASE_BEAT_MS;
    }
    return until - now;
}
