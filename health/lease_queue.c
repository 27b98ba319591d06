/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewals that wait: where they are, and how they get out.
 *
 * Each lease of a renewal is a ref, and is in one place: the queue, to be looked
 * at; later, to be looked at again; a batch, of which somebody must say
 * something. When the leader changes, all come back into the queue. A renewal is
 * finished with its last ref.
 */
#include "health/lease.h"

#include "base/mem.h"

#define LATER_MS 50
#define EXPIRE_MS 100
#define QUEUE_MIN 64u

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
void lease_queue_push(struct lease_queue *q, struct lease_ref ref)
{
    mr_assert(q->n < q->cap);
    q->refs[(q->first + q->n) & (q->cap - 1)] = ref;
    q->n++;
}

struct lease_ref lease_queue_pop(struct lease_queue *q)
{
    struct lease_ref ref = q->refs[q->first];

    q->first = (q->first + 1) & (q->cap - 1);
    q->n--;
    return ref;
}

void lease_push_later(struct mr_leases *l, struct lease_ref ref)
{
    if (l->later.n == 0) {
        l->later_ms = l->now_ms + LATER_MS;
    }
    lease_queue_push(&l->later, ref);
}

/* ---- life of a renewal ---- */

uint64_t lease_ref_id(const struct lease_ref *ref)
{
    return ref->renewal->items[ref->item].id;
}

static bool is_forwarded(const struct lease_ref *ref)
{
    return ref->renewal->from != 0;
}

void lease_send_answer(struct mr_leases *l, const struct mr_lease_renewal *r)
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
    mr_free(mr_container_of(r, struct lease_forwarded, renewal));
}

/* One lease of a renewal has its answer, or will get none here. */
void lease_finish(struct mr_leases *l, struct lease_ref ref,
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
        lease_send_answer(l, r);
        drop_forwarded(r);
    }
}

/* It cannot be told yet. */
void lease_put_off(struct mr_leases *l, struct lease_ref ref)
{
    if (is_forwarded(&ref)) {
        lease_finish(l, ref, MR_LEASE_PENDING, MR_OK);
    } else {
        lease_push_later(l, ref);
    }
}

/* Let the renewal, asked at @asked_ms or by @items, wait in the queue.
 * MR_E_BUSY, MR_E_NOMEM: it does not. */
enum mr_err lease_accept(struct mr_leases *l, struct mr_lease_renewal *r,
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
        lease_queue_push(&l->queue, ref);
    }
    return MR_OK;
}

void mr_leases_renew(struct mr_leases *leases, struct mr_lease_renewal *renewal,
                     uint64_t now_ms)
{
    leases->now_ms = (int64_t)now_ms;
    renewal->from = 0;
    renewal->err = lease_accept(leases, renewal, leases->now_ms, NULL);
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
void lease_dissolve(struct mr_leases *l, struct lease_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        lease_queue_push(&l->queue, b->refs[i]);
    }
    mr_list_remove(&b->link);
    mr_free(b);
}

static void dissolve_all(struct mr_leases *l, struct mr_list *batches)
{
    while (!mr_list_empty(batches)) {
        lease_dissolve(
            l, mr_container_of(batches->next, struct lease_batch, link));
    }
}

/* Put everything that waits into the queue, but nothing of others. */
static void gather(struct mr_leases *l)
{
    size_t n;

    dissolve_all(l, &l->rounds);
    dissolve_all(l, &l->forwards);
    while (l->later.n > 0) {
        lease_queue_push(&l->queue, lease_queue_pop(&l->later));
    }
    for (n = l->queue.n; n > 0; n--) {
        struct lease_ref ref = lease_queue_pop(&l->queue);

        if (is_forwarded(&ref)) {
            l->n_waiting--;
        } else {
            lease_queue_push(&l->queue, ref);
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
        lease_finish(l, lease_queue_pop(&l->queue), MR_LEASE_PENDING,
                     MR_E_CLOSED);
    }
    while ((r = mr_leases_finished(l)) != NULL) {
        r->done(r, r->err);
    }
    mr_free(l->queue.refs);
    mr_free(l->later.refs);
}

/* ---- batches ---- */

struct lease_batch *lease_batch_new(struct mr_leases *l, size_t n)
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

void lease_batch_add(struct lease_batch *b, struct lease_ref ref)
{
    b->asked_ms = ref.asked_ms < b->asked_ms ? ref.asked_ms : b->asked_ms;
    b->refs[b->n++] = ref;
}

/* The batch's items, with their ages at @now, into l->items. */
void lease_batch_encode(struct mr_leases *l, const struct lease_batch *b,
                        int64_t now)
{
    uint64_t last_id = 0;

    mr_buf_reset(&l->items);
    for (size_t i = 0; i < b->n; i++) {
        int64_t age = now - b->refs[i].date_ms;
        struct lease_item item = {.id = lease_ref_id(&b->refs[i]),
                                  .age_ms = age > 0 ? (uint64_t)age : 0,
                                  .is_real = true};

        lease_wire_put_item(&l->items, &last_id, &item);
    }
}

void lease_send_items(struct mr_leases *l, struct lease_msg *msg, uint64_t to,
                      int64_t now)
{
    if (mr_buf_failed(&l->items)) {
        return;
    }
    lease_begin(l, msg, to, now);
    mr_buf_add(&l->out, l->items.data, l->items.len);
    lease_send(l, to);
}

/* ---- time ---- */

static void expire_batches(struct mr_leases *l, struct mr_list *batches,
                           int64_t oldest_ms)
{
    struct mr_list *link = batches->next;

    while (link != batches) {
        struct lease_batch *b = mr_container_of(link, struct lease_batch, link);

        link = link->next;
        if (b->asked_ms <= oldest_ms) {
            lease_dissolve(l, b);
        }
    }
}

static void expire_queue(struct mr_leases *l, struct lease_queue *q,
                         int64_t oldest_ms)
{
    for (size_t n = q->n; n > 0; n--) {
        struct lease_ref ref = lease_queue_pop(q);

        if (ref.asked_ms <= oldest_ms) {
            lease_finish(l, ref, MR_LEASE_PENDING, MR_E_NOLEADER);
        } else {
            lease_queue_push(q, ref);
        }
    }
}

void lease_renew_expire(struct mr_leases *l, int64_t now)
{
    int64_t oldest = now - MR_LEASES_RENEW_MS;

    if (now >= l->expire_ms) {
        l->expire_ms = now + EXPIRE_MS;
        expire_batches(l, &l->rounds, oldest);
        expire_batches(l, &l->forwards, oldest);
        expire_queue(l, &l->queue, oldest);
        expire_queue(l, &l->later, oldest);
    }
    if (now >= l->later_ms) {
        while (l->later.n > 0) {
            lease_queue_push(&l->queue, lease_queue_pop(&l->later));
        }
    }
}
