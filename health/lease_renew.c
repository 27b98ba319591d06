/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewals: from whom they are asked to where they are answered.
 *
 * - Asked here, they wait in the queue. A follower sends those of some ten
 *   milliseconds to the leader in one FORWARD; the leader takes them into its
 *   own queue as one renewal and answers with one ANSWER.
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

#define ROUND_MAX 3000u       /* Leases in a message: always fits. */
#define ROUNDS_PER_TICK 4     /* Bounds one turn of the loop. */
#define UNSEEN_MAX (1u << 20) /* Leases known that are not applied yet. */
#define LATER_MS 50
#define EXPIRE_MS 100
#define QUEUE_MIN 64u

/* A renewal that another server forwarded. */
struct forwarded {
    struct mr_lease_renewal renewal; /* Its link is in l->forwarded. */
    struct mr_lease_item items[];
};

/* ---- queues ---- */

/* Make room for @n refs; the capacity is a power of two. MR_E_NOMEM. */
static enum mr_err queue_reserve(struct lease_queue *q, size_t n)
{
    size_t cap = q->cap == 0 ? QUEUE_MIN : q->cap;
    struct lease_ref *refs;

    if (n <= q->cap) {
        return MR_OK;
    }
    while (cap < n) {
        cap *= 2;
    }
    refs = mr_calloc(cap, sizeof *refs);
    if (refs == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < q->n; i++) {
        refs[i] = q->refs[(q->first + i) & (q->cap - 1)];
    }
    mr_free(q->refs);
    *q = (struct lease_queue){.refs = refs, .n = q->n, .cap = cap};
    return MR_OK;
}

/* Room was made when the renewal came: each queue has it for all that wait. */
static void queue_push(struct lease_queue *q, struct lease_ref ref)
{
    mr_assert(q->n < q->cap);
    q->refs[(q->first + q->n) & (q->cap - 1)] = ref;
    q->n++;
}

static struct lease_ref queue_pop(struct lease_queue *q)
{
    struct lease_ref ref = q->refs[q->first];

    q->first = (q->first + 1) & (q->cap - 1);
    q->n--;
    return ref;
}

static void push_later(struct mr_leases *l, struct lease_ref ref)
{
    if (l->later.n == 0) {
        l->later_ms = l->now_ms + LATER_MS;
    }
    queue_push(&l->later, ref);
}

/* ---- life of a renewal ---- */

static uint64_t id_of(const struct lease_ref *ref)
{
    return ref->renewal->items[ref->item].id;
}

static bool is_forwarded(const struct lease_ref *ref)
{
    return ref->renewal->from != 0;
}

static void send_answer(struct mr_leases *l, const struct mr_lease_renewal *r)
{
    struct lease_msg msg = {.kind = LEASE_ANSWER, .seq = r->seq};

    lease_begin(l, &msg, r->from, l->now_ms);
    for (size_t i = 0; i < r->n_items; i++) {
        enum lease_word word = LEASE_WORD_LATER;

        if (r->items[i].answer == MR_LEASE_RENEWED) {
            word = LEASE_WORD_RENEWED;
        } else if (r->items[i].answer == MR_LEASE_UNKNOWN) {
            word = LEASE_WORD_UNKNOWN;
        }
        mr_buf_byte(&l->out, (uint8_t)word);
    }
    lease_send(l, r->from);
}

static void drop_forwarded(struct mr_lease_renewal *r)
{
    mr_list_remove(&r->link);
    mr_free(mr_container_of(r, struct forwarded, renewal));
}

/* One lease of a renewal has its answer, or will get none here. */
static void finish(struct mr_leases *l, struct lease_ref ref,
                   enum mr_lease_answer answer, enum mr_err err)
{
    struct mr_lease_renewal *r = ref.renewal;

    r->items[ref.item].answer = answer;
    if (err != MR_OK) {
        r->err = err;
    }
    l->n_waiting--;
    r->n_open--;
    if (r->from == 0) {
        l->stats.renewals += answer == MR_LEASE_RENEWED ? 1 : 0;
        l->stats.unknown += answer == MR_LEASE_UNKNOWN ? 1 : 0;
    }
    if (r->n_open > 0) {
        return;
    }
    if (r->from == 0) {
        mr_list_push(&l->finished, &r->link);
    } else {
        send_answer(l, r);
        drop_forwarded(r);
    }
}

/* It cannot be told yet. */
static void put_off(struct mr_leases *l, struct lease_ref ref)
{
    if (is_forwarded(&ref)) {
        finish(l, ref, MR_LEASE_PENDING, MR_OK);
    } else {
        push_later(l, ref);
    }
}

/* Let the renewal, asked at @asked_ms or by @items, wait in the queue.
 * MR_E_BUSY, MR_E_NOMEM: it does not. */
static enum mr_err accept(struct mr_leases *l, struct mr_lease_renewal *r,
                          int64_t asked_ms, struct lease_items *ages)
{
    size_t n = l->n_waiting + r->n_items;

    if (r->n_items > MR_LEASES_WAITING_MAX || n > MR_LEASES_WAITING_MAX) {
        return MR_E_BUSY;
    }
    if (queue_reserve(&l->queue, n) != MR_OK ||
        queue_reserve(&l->later, n) != MR_OK) {
        return MR_E_NOMEM;
    }
    r->n_open = r->n_items;
    l->n_waiting = n;
    for (size_t i = 0; i < r->n_items; i++) {
        struct lease_ref ref = {r, i, asked_ms, asked_ms};
        struct lease_item item;

        if (ages != NULL && lease_wire_next(ages, &item)) {
            r->items[i].id = item.id;
            ref.asked_ms = asked_ms - (int64_t)item.age_ms;
        }
        r->items[i].answer = MR_LEASE_PENDING;
        queue_push(&l->queue, ref);
    }
    return MR_OK;
}

void mr_leases_renew(struct mr_leases *leases, struct mr_lease_renewal *renewal,
                     uint64_t now_ms)
{
    leases->now_ms = (int64_t)now_ms;
    renewal->from = 0;
    renewal->err = accept(leases, renewal, leases->now_ms, NULL);
    if (renewal->err != MR_OK || renewal->n_items == 0) {
        mr_list_push(&leases->finished, &renewal->link);
    }
}

struct mr_lease_renewal *mr_leases_finished(struct mr_leases *leases)
{
    struct mr_list *link = mr_list_pop(&leases->finished);

    return link == NULL ? NULL
                        : mr_container_of(link, struct mr_lease_renewal, link);
}

/* Take what a batch holds back into the queue, and free it. */
static void dissolve(struct mr_leases *l, struct lease_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        queue_push(&l->queue, b->refs[i]);
    }
    mr_list_remove(&b->link);
    mr_free(b);
}

static void dissolve_all(struct mr_leases *l, struct mr_list *batches)
{
    while (!mr_list_empty(batches)) {
        dissolve(l, mr_container_of(batches->next, struct lease_batch, link));
    }
}

/* Put everything that waits into the queue, but nothing of others. */
static void gather(struct mr_leases *l)
{
    size_t n;

    dissolve_all(l, &l->rounds);
    dissolve_all(l, &l->forwards);
    while (l->later.n > 0) {
        queue_push(&l->queue, queue_pop(&l->later));
    }
    for (n = l->queue.n; n > 0; n--) {
        struct lease_ref ref = queue_pop(&l->queue);

        if (is_forwarded(&ref)) {
            l->n_waiting--;
        } else {
            queue_push(&l->queue, ref);
        }
    }
    while (!mr_list_empty(&l->forwarded)) {
        drop_forwarded(
            mr_container_of(l->forwarded.next, struct mr_lease_renewal, link));
    }
}

void lease_renew_restart(struct mr_leases *l)
{
    gather(l);
    l->round_ms = LEASE_NEVER;
}

void lease_renew_close(struct mr_leases *l)
{
    struct mr_lease_renewal *r;

    gather(l);
    while (l->queue.n > 0) {
        finish(l, queue_pop(&l->queue), MR_LEASE_PENDING, MR_E_CLOSED);
    }
    while ((r = mr_leases_finished(l)) != NULL) {
        r->done(r, r->err);
    }
    mr_free(l->queue.refs);
    mr_free(l->later.refs);
}

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

static struct lease_batch *new_batch(struct mr_leases *l, size_t n)
{
    struct lease_batch *b = mr_calloc(1, sizeof *b + n * sizeof b->refs[0]);

    if (b != NULL) {
        mr_list_init(&b->link);
        b->seq = ++l->next_seq;
        b->sent_ms = LEASE_NEVER;
        b->asked_ms = INT64_MAX;
    }
    return b;
}

static void batch_add(struct lease_batch *b, struct lease_ref ref)
{
    b->asked_ms = ref.asked_ms < b->asked_ms ? ref.asked_ms : b->asked_ms;
    b->refs[b->n++] = ref;
}

/* The lease of @ref when it can be renewed; else NULL, and its answer is given
 * or put off. */
static struct lease *judge(struct mr_leases *l, struct lease_ref ref)
{
    struct lease *lease = lease_table_find(&l->table, id_of(&ref));

    if (lease == NULL || !lease_is_applied(l, lease)) {
        if (id_of(&ref) <= l->max_id) {
            finish(l, ref, MR_LEASE_UNKNOWN, MR_OK);
        } else {
            put_off(l, ref);
        }
        return NULL;
    }
    if (lease_is_ending(l, lease)) {
        put_off(l, ref);
        return NULL;
    }
    return lease;
}

/* The batch's items, with their ages at @now, into l->items. */
static void encode_items(struct mr_leases *l, const struct lease_batch *b,
                         int64_t now)
{
    uint64_t last_id = 0;

    mr_buf_reset(&l->items);
    for (size_t i = 0; i < b->n; i++) {
        int64_t age = now - b->refs[i].date_ms;
        struct lease_item item = {.id = id_of(&b->refs[i]),
                                  .age_ms = age > 0 ? (uint64_t)age : 0,
                                  .is_real = true};

        lease_wire_put_item(&l->items, &last_id, &item);
    }
}

static void send_items(struct mr_leases *l, struct lease_msg *msg, uint64_t to,
                       int64_t now)
{
    if (mr_buf_failed(&l->items)) {
        return;
    }
    lease_begin(l, msg, to, now);
    mr_buf_add(&l->out, l->items.data, l->items.len);
    lease_send(l, to);
}

/* Send the round to all voters that have not acknowledged it. NULL: nothing,
 * just to be heard. */
static void send_round(struct mr_leases *l, struct lease_batch *b, int64_t now)
{
    struct lease_msg msg = {.kind = LEASE_RENEW, .seq = b == NULL ? 0 : b->seq};

    mr_buf_reset(&l->items);
    if (b != NULL) {
        encode_items(l, b, now);
        b->sent_ms = now;
        l->stats.rounds++;
    }
    l->beat_ms = now;
    for (size_t i = 0; i < l->n_voters; i++) {
        if (l->voters[i] != l->self &&
            (b == NULL || (b->acked & UINT64_C(1) << i) == 0)) {
            send_items(l, &msg, l->voters[i], now);
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
            finish(l, b->refs[i], MR_LEASE_RENEWED, MR_OK);
        } else {
            put_off(l, b->refs[i]);
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
    size_t n = l->queue.n < ROUND_MAX ? l->queue.n : ROUND_MAX;
    struct lease_batch *b = new_batch(l, n);

    if (b == NULL) {
        return false; /* They wait for memory. */
    }
    for (; n > 0; n--) {
        struct lease_ref ref = queue_pop(&l->queue);
        struct lease *lease = judge(l, ref);

        if (lease != NULL) {
            ref.date_ms = date_of(l, &ref);
            batch_add(b, ref);
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
        for (int i = 0; i < ROUNDS_PER_TICK && l->queue.n > 0; i++) {
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

/* ---- a follower's renewals ---- */

/* ID 0 is that of no lease, and not sent. */
static void forward(struct mr_leases *l, int64_t now)
{
    size_t n = l->queue.n < ROUND_MAX ? l->queue.n : ROUND_MAX;
    struct lease_batch *b = new_batch(l, n);
    struct lease_msg msg = {.kind = LEASE_FORWARD};

    if (b == NULL) {
        return; /* They wait for memory. */
    }
    for (; n > 0; n--) {
        struct lease_ref ref = queue_pop(&l->queue);

        if (id_of(&ref) == 0) {
            finish(l, ref, MR_LEASE_UNKNOWN, MR_OK);
        } else {
            ref.date_ms = ref.asked_ms;
            batch_add(b, ref);
        }
    }
    b->sent_ms = now;
    mr_list_push(&l->forwards, &b->link);
    encode_items(l, b, now);
    msg.seq = b->seq;
    send_items(l, &msg, l->leader, now);
}

static void follow(struct mr_leases *l, int64_t now)
{
    while (!mr_list_empty(&l->forwards)) {
        struct lease_batch *b =
            mr_container_of(l->forwards.next, struct lease_batch, link);

        if (b->sent_ms > now - LEASE_RESEND_MS) {
            break;
        }
        dissolve(l, b);
    }
    if (l->leader == 0 || l->leader == l->self || l->queue.n == 0 ||
        l->round_ms > now - LEASE_ROUND_MS) {
        return;
    }
    l->round_ms = now;
    for (int i = 0; i < ROUNDS_PER_TICK && l->queue.n > 0; i++) {
        forward(l, now);
    }
}

/* Ask again, now that you know our clock. */
static void refuse(struct mr_leases *l, struct forwarded *f)
{
    for (size_t i = 0; i < f->renewal.n_items; i++) {
        f->items[i].answer = MR_LEASE_PENDING;
    }
    send_answer(l, &f->renewal);
    mr_free(f);
}

void lease_on_forward(struct mr_leases *l, struct lease_peer *peer,
                      const struct lease_msg *msg, int64_t now)
{
    struct lease_items items = {.rest = msg->items};
    struct lease_item item;
    struct forwarded *f;
    size_t n = 0;

    if (l->leader != l->self || l->self == 0 || msg->items.len == 0) {
        return;
    }
    while (lease_wire_next(&items, &item)) {
        n++;
    }
    f = mr_calloc(1, sizeof *f + n * sizeof f->items[0]);
    if (f == NULL) {
        return; /* It will be sent again. */
    }
    f->renewal.items = f->items;
    f->renewal.n_items = n;
    f->renewal.from = peer->id;
    f->renewal.seq = msg->seq;
    items = (struct lease_items){.rest = msg->items};
    if (!lease_is_fresh(msg, now)) {
        refuse(l, f);
    } else if (accept(l, &f->renewal, now, &items) == MR_OK) {
        mr_list_init(&f->renewal.link);
        mr_list_push(&l->forwarded, &f->renewal.link);
    } else {
        mr_free(f); /* Likewise. */
    }
}

/* What the leader said of @ref. */
static void take_word(struct mr_leases *l, struct lease_ref ref,
                      enum lease_word word)
{
    switch (word) {
    case LEASE_WORD_UNKNOWN:
        finish(l, ref, MR_LEASE_UNKNOWN, MR_OK);
        break;
    case LEASE_WORD_RENEWED:
        finish(l, ref, MR_LEASE_RENEWED, MR_OK);
        break;
    case LEASE_WORD_LATER:
        push_later(l, ref);
        break;
    }
}

void lease_on_answer(struct mr_leases *l, const struct lease_msg *msg)
{
    const uint8_t *words = msg->items.data;
    struct mr_list *link;

    MR_LIST_FOREACH(link, &l->forwards)
    {
        struct lease_batch *b = mr_container_of(link, struct lease_batch, link);

        if (b->seq != msg->seq) {
            continue;
        }
        if (b->n != msg->items.len) {
            l->stats.bad_messages++;
            return;
        }
        mr_list_remove(&b->link);
        for (size_t i = 0; i < b->n; i++) {
            take_word(l, b->refs[i], (enum lease_word)words[i]);
        }
        mr_free(b);
        return;
    }
}

/* ---- the tick ---- */

static void expire_batches(struct mr_leases *l, struct mr_list *batches,
                           int64_t oldest_ms)
{
    struct mr_list *link = batches->next;

    while (link != batches) {
        struct lease_batch *b = mr_container_of(link, struct lease_batch, link);

        link = link->next;
        if (b->asked_ms <= oldest_ms) {
            dissolve(l, b);
        }
    }
}

static void expire_queue(struct mr_leases *l, struct lease_queue *q,
                         int64_t oldest_ms)
{
    for (size_t n = q->n; n > 0; n--) {
        struct lease_ref ref = queue_pop(q);

        if (ref.asked_ms <= oldest_ms) {
            finish(l, ref, MR_LEASE_PENDING, MR_E_NOLEADER);
        } else {
            queue_push(q, ref);
        }
    }
}

void lease_renew_tick(struct mr_leases *l, int64_t now)
{
    if (now >= l->expire_ms) {
        int64_t oldest = now - MR_LEASES_RENEW_MS;

        l->expire_ms = now + EXPIRE_MS;
        expire_batches(l, &l->rounds, oldest);
        expire_batches(l, &l->forwards, oldest);
        expire_queue(l, &l->queue, oldest);
        expire_queue(l, &l->later, oldest);
    }
    if (now >= l->later_ms) {
        while (l->later.n > 0) {
            queue_push(&l->queue, queue_pop(&l->later));
        }
    }
    if (l->phase == LEASE_LEADS) {
        lead(l, now);
    } else {
        follow(l, now);
    }
}

int64_t lease_renew_wait(const struct mr_leases *l, int64_t now)
{
    int64_t until = INT64_MAX;
    bool can_send =
        l->phase == LEASE_LEADS || (l->leader != 0 && l->leader != l->self);

    if (l->n_waiting > 0) {
        until = now + LATER_MS;
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
