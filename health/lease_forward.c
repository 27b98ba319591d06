/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewals on their way to the leader, and what it says of them.
 *
 * A message that is not fresh says nothing of when its renewals were asked: the
 * leader answers "later" to all, and the answer carries its clock.
 */
#include "health/lease.h"

#include "base/mem.h"

/* ID 0 is that of no lease, and not sent. */
static void forward(struct mr_leases *l, int64_t now)
{
    size_t n = l->queue.n < LEASE_ROUND_MAX ? l->queue.n : LEASE_ROUND_MAX;
    struct lease_batch *b = lease_batch_new(l, n);
    struct lease_msg msg = {.kind = LEASE_FORWARD};

    if (b == NULL) {
        return; /* They wait for memory. */
    }
    for (; n > 0; n--) {
        struct lease_ref ref = lease_queue_pop(&l->queue);

        if (lease_ref_id(&ref) == 0) {
            lease_finish(l, ref, MR_LEASE_UNKNOWN, MR_OK);
        } else {
            ref.date_ms = ref.asked_ms;
            lease_batch_add(b, ref);
        }
    }
    b->sent_ms = now;
    mr_list_push(&l->forwards, &b->link);
    lease_batch_encode(l, b, now);
    msg.seq = b->seq;
    lease_send_items(l, &msg, l->leader, now);
}

void lease_follow(struct mr_leases *l, int64_t now)
{
    while (!mr_list_empty(&l->forwards)) {
        struct lease_batch *b =
            mr_container_of(l->forwards.next, struct lease_batch, link);

        if (b->sent_ms > now - LEASE_RESEND_MS) {
            break;
        }
        lease_dissolve(l, b);
    }
    if (l->leader == 0 || l->leader == l->self || l->queue.n == 0 ||
        l->round_ms > now - LEASE_ROUND_MS) {
        return;
    }
    l->round_ms = now;
    for (int i = 0; i < LEASE_ROUNDS_PER_TICK && l->queue.n > 0; i++) {
        forward(l, now);
    }
}

/* Ask again, now that you know our clock. */
static void refuse(struct mr_leases *l, struct lease_forwarded *f)
{
    for (size_t i = 0; i < f->renewal.n_items; i++) {
        f->items[i].answer = MR_LEASE_PENDING;
    }
    lease_send_answer(l, &f->renewal);
    mr_free(f);
}

void lease_on_forward(struct mr_leases *l, struct lease_peer *peer,
                      const struct lease_msg *msg, int64_t now)
{
    struct lease_items items = {.rest = msg->items};
    struct lease_item item;
    struct lease_forwarded *f;
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
    } else if (lease_accept(l, &f->renewal, now, &items) == MR_OK) {
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
        lease_finish(l, ref, MR_LEASE_UNKNOWN, MR_OK);
        break;
    case LEASE_WORD_RENEWED:
        lease_finish(l, ref, MR_LEASE_RENEWED, MR_OK);
        break;
    case LEASE_WORD_LATER:
        lease_push_later(l, ref);
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
