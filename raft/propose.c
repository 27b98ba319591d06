/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proposals: the queue, batching, forwarding, and the truth about their end.
 *
 *            flush, leader or forward              committed and durable
 *   QUEUED ---------------------------> SENT(term) ---------------------> apply
 *      ^                                  |
 *      +----------------------------------+
 *        an entry of a later term came first: it can never commit
 *
 * - A command is sent in one term, to that term's leader, which takes it only
 *   while it leads in that very term. So it can be in an entry of that term
 *   only, and once an entry of a later term is committed here without the
 *   command having come, it never will: it is queued again, with a new number.
 *   A new leader opens its term with an entry, so this happens soon.
 * - Within a term nothing is lost or doubled: the leader takes an origin's
 *   commands in the order of their numbers and without a gap (@prev_seq), and
 *   the origin repeats what got lost.
 * - Past its deadline a command that is QUEUED certainly did not enter the log;
 *   one that was SENT may have. That is the difference between MR_E_NOLEADER
 *   and MR_E_UNKNOWN.
 */
#include "raft/driver_impl.h"

#include "base/mem.h"

#define UNCOMMITTED_MAX 256 /* Entries; beyond it the batches grow. */
#define READY_MAX 64        /* Full batches; beyond it nothing is taken. */
#define SENT_MAX 8192       /* Commands of this server on their way ... */
#define SENT_BYTES_MAX (8u * 1024u * 1024u) /* ... and their bytes. */
#define RESEND_MS 250
#define BUSY_MS 500

enum { QUEUED, SENT, APPLYING, ENDED };

static struct mr_raft_proposal *proposal_of(struct mr_list *link)
{
    return mr_container_of(link, struct mr_raft_proposal, link);
}

void proposals_init(struct driver *d)
{
    mr_list_init(&d->props.queue);
    mr_list_init(&d->props.sent);
    mr_list_init(&d->props.ready);
    batch_init(&d->props.batch);
}

/* ------------------------------------------------------------- states */

static void to_sent(struct driver *d, struct mr_raft_proposal *p)
{
    struct driver_proposals *s = &d->props;

    mr_list_remove(&p->link);
    s->n_queue--;
    mr_list_push(&s->sent, &p->link);
    s->n_sent++;
    s->sent_bytes += p->cmd.len;
    p->state = SENT;
    p->term = d->core.current_term;
}

/* Take @p out of whatever list it is in. */
static void take_out(struct driver *d, struct mr_raft_proposal *p, int state)
{
    struct driver_proposals *s = &d->props;

    mr_list_remove(&p->link);
    if (p->state == QUEUED) {
        s->n_queue--;
    } else {
        s->n_sent--;
        s->sent_bytes -= p->cmd.len;
    }
    p->state = state;
}

static void end(struct driver *d, struct mr_raft_proposal *p, enum mr_err err)
{
    take_out(d, p, ENDED);
    p->done(p, err);
}

/* Whether @p is of a term that is not the one in which we lead. */
static bool is_too_late(const struct driver *d,
                        const struct mr_raft_proposal *p)
{
    return p->only_term != 0 &&
           (!driver_leads(d) || p->only_term != d->core.current_term);
}

/* The next proposal of the queue; those that came too late end. */
static struct mr_raft_proposal *next_queued(struct driver *d)
{
    struct driver_proposals *s = &d->props;

    while (!mr_list_empty(&s->queue)) {
        struct mr_raft_proposal *p = proposal_of(s->queue.next);

        if (!is_too_late(d, p)) {
            return p;
        }
        end(d, p, MR_E_NOLEADER);
    }
    return NULL;
}

static void drop_ready(struct driver *d);

void proposals_close(struct driver *d, enum mr_err err)
{
    struct driver_proposals *s = &d->props;

    while (!mr_list_empty(&s->queue)) {
        end(d, proposal_of(s->queue.next), err);
    }
    while (!mr_list_empty(&s->sent)) {
        end(d, proposal_of(s->sent.next), err);
    }
    drop_ready(d);
}

enum mr_err driver_propose(struct driver *d, struct mr_raft_proposal *p)
{
    struct driver_proposals *s = &d->props;

    if (p->cmd.len > MR_RAFT_COMMAND_MAX) {
        return MR_E_TOOBIG;
    }
    if (is_too_late(d, p)) {
        return MR_E_NOLEADER;
    }
    if (d->is_dead || s->n_queue + s->n_sent >= d->opt.max_queue ||
        (d->is_disk_full && driver_leads(d)) || d->now < s->busy_until_ms) {
        return MR_E_BUSY;
    }
    mr_list_init(&p->link);
    mr_list_push(&s->queue, &p->link);
    s->n_queue++;
    p->state = QUEUED;
    p->seq = 0;
    p->term = 0;
    p->index = 0;
    p->deadline_ms = d->now + d->opt.max_wait_ms;
    d->stats.proposals++;
    return MR_OK;
}

/* ------------------------------------------------------------- the leader */

/* Close the batch that is being built and put it behind the ready ones. */
static enum mr_err close_batch(struct driver *d)
{
    struct batch_builder *b = &d->props.batch;
    struct driver_ready *ready;

    if (b->n_commands == 0) {
        return MR_OK;
    }
    ready = mr_calloc(1, sizeof *ready);
    if (ready == NULL) {
        return MR_E_NOMEM;
    }
    mr_list_init(&ready->link);
    ready->blob = batch_take(b, &ready->len);
    mr_list_push(&d->props.ready, &ready->link);
    d->props.n_ready++;
    return MR_OK;
}

/* Add a command, closing the batch when it is full. MR_E_NOMEM. */
static enum mr_err pack(struct driver *d, struct batch_id id,
                        struct mr_slice cmd)
{
    struct batch_builder *b = &d->props.batch;

    if (!batch_has_room(b, cmd.len)) {
        enum mr_err err = close_batch(d);
        if (err != MR_OK) {
            return err;
        }
    }
    return batch_add(b, id, cmd);
}

/* Take the oldest ready batch; NULL: none. */
static struct driver_ready *pop_ready(struct driver *d)
{
    struct mr_list *at = mr_list_pop(&d->props.ready);

    if (at == NULL) {
        return NULL;
    }
    d->props.n_ready--;
    return mr_container_of(at, struct driver_ready, link);
}

static void ready_free(struct driver_ready *ready)
{
    driver_blob_unref(ready->blob);
    mr_free(ready);
}

static void drop_ready(struct driver *d)
{
    struct driver_ready *ready;

    batch_deinit(&d->props.batch);
    while ((ready = pop_ready(d)) != NULL) {
        ready_free(ready);
    }
}

static bool may_submit(const struct driver *d)
{
    return driver_leads(d) && raft_transferee(&d->core) == 0 &&
           !d->is_disk_full && !d->is_dead && !d->is_muted &&
           d->log.last - d->commit < UNCOMMITTED_MAX;
}

/* Submit the ready batches. False: the core takes no more now. */
static bool submit_ready(struct driver *d)
{
    struct driver_ready *ready;

    while (may_submit(d) && (ready = pop_ready(d)) != NULL) {
        struct driver_entry entry = {
            d->core.current_term, DRIVER_ENTRY_COMMANDS,
            mr_slice(ready->blob->data, ready->len), ready->blob};
        int rv = driver_submit(d, &entry, 1);

        ready_free(ready);
        if (rv != 0) {
            return false; /* Resolved by the next term's first entry. */
        }
    }
    return may_submit(d);
}

static void submit_queue(struct driver *d)
{
    struct driver_proposals *s = &d->props;

    while (submit_ready(d) &&
           (!mr_list_empty(&s->queue) || s->batch.n_commands > 0)) {
        struct mr_raft_proposal *p;

        while (mr_list_empty(&s->ready) && (p = next_queued(d)) != NULL) {
            struct batch_id id = {d->opt.id, d->opt.incarnation,
                                  s->next_seq + 1};
            if (pack(d, id, p->cmd) != MR_OK) {
                return; /* Tried again in the next round. */
            }
            p->seq = ++s->next_seq;
            to_sent(d, p);
        }
        if (mr_list_empty(&s->ready) && close_batch(d) != MR_OK) {
            return;
        }
    }
}

static void reply(struct driver *d, uint64_t peer, uint64_t term,
                  uint64_t incarnation, uint64_t last_seq, enum mr_err err)
{
    struct driver_message msg = {.type = DRIVER_MSG_FORWARD_REPLY,
                                 .term = term};

    msg.forward_reply.incarnation = incarnation;
    msg.forward_reply.last_seq = last_seq;
    msg.forward_reply.err = err;
    driver_send(d, peer, &msg);
}

/* Put the commands of @msg that are new into the batch. */
static void take_forwarded(struct driver *d, struct driver_remote *r,
                           struct batch_iter *it)
{
    while (batch_next(it)) {
        if (it->id.seq <= r->taken_seq) {
            continue;
        }
        if (it->id.origin != r->id || it->id.incarnation != r->incarnation ||
            pack(d, it->id, it->cmd) != MR_OK) {
            return; /* What was not taken comes again. */
        }
        r->taken_seq = it->id.seq;
    }
}

void proposals_on_forward(struct driver *d, uint64_t peer,
                          const struct driver_message *msg)
{
    const struct driver_forward *f = &msg->forward;
    struct driver_remote *r = driver_remote_of(d, peer);
    struct batch_iter it;
    uint64_t before;

    if (r == NULL || f->incarnation == 0 ||
        batch_open(f->data, &it, NULL) != MR_OK) {
        return;
    }
    if (!driver_leads(d) || d->core.current_term != msg->term) {
        reply(d, peer, msg->term, f->incarnation, 0, MR_E_NOTLEADER);
        return;
    }
    if (d->is_disk_full) {
        reply(d, peer, msg->term, f->incarnation, r->taken_seq, MR_E_BUSY);
        return;
    }
    if (d->props.n_ready >= READY_MAX) {
        return; /* Repeated when the log moves again. */
    }
    if (f->incarnation < r->incarnation) {
        return; /* Late: of a process that is gone. */
    }
    if (f->incarnation > r->incarnation) {
        r->incarnation = f->incarnation;
        r->taken_seq = 0;
    }
    before = r->taken_seq;
    if (f->prev_seq <= r->taken_seq) {
        take_forwarded(d, r, &it);
    }
    if (r->taken_seq == before) {
        reply(d, peer, msg->term, f->incarnation, r->taken_seq, MR_OK);
    }
}

/* ------------------------------------------------------------- the follower */

/* Send the built message; @prev is the number before its first command. */
static void send_forward(struct driver *d, struct batch_builder *b,
                         uint64_t prev)
{
    struct driver_message msg = {.type = DRIVER_MSG_FORWARD,
                                 .term = d->core.current_term};

    if (b->n_commands == 0) {
        return;
    }
    d->stats.forwarded += b->n_commands;
    msg.forward.incarnation = d->opt.incarnation;
    msg.forward.prev_seq = prev;
    msg.forward.blob = batch_take(b, &msg.forward.data.len);
    msg.forward.data.data = msg.forward.blob->data;
    driver_send(d, driver_leader(d), &msg);
    driver_blob_unref(msg.forward.blob);
}

static bool window_is_open(const struct driver_proposals *s)
{
    return s->n_sent < SENT_MAX && s->sent_bytes < SENT_BYTES_MAX;
}

static void begin_session(struct driver *d)
{
    struct driver_proposals *s = &d->props;

    if (s->session_term != d->core.current_term) {
        s->session_term = d->core.current_term;
        s->session_last = 0;
        s->session_acked = 0;
        s->progress_ms = d->now;
    }
}

static void forward_queue(struct driver *d)
{
    struct driver_proposals *s = &d->props;
    struct mr_raft_proposal *p;
    struct batch_builder b;
    uint64_t prev;

    begin_session(d);
    batch_init(&b);
    prev = s->session_last;
    if (mr_list_empty(&s->sent)) {
        s->progress_ms = d->now;
    }
    while (window_is_open(s) && (p = next_queued(d)) != NULL) {
        struct batch_id id = {d->opt.id, d->opt.incarnation, s->next_seq + 1};

        if (!batch_has_room(&b, p->cmd.len)) {
            send_forward(d, &b, prev);
            prev = s->session_last;
        }
        if (batch_add(&b, id, p->cmd) != MR_OK) {
            break;
        }
        p->seq = ++s->next_seq;
        s->session_last = p->seq;
        to_sent(d, p);
    }
    send_forward(d, &b, prev);
    batch_deinit(&b);
}

/* Send again everything of this term that the leader is not known to have. */
void proposals_resend(struct driver *d)
{
    struct driver_proposals *s = &d->props;
    struct batch_builder b;
    struct mr_list *at;
    uint64_t prev = s->session_acked;
    uint64_t last = prev;

    s->progress_ms = d->now;
    if (driver_leads(d) || driver_leader(d) == 0 ||
        s->session_term != d->core.current_term) {
        return;
    }
    batch_init(&b);
    MR_LIST_FOREACH(at, &s->sent)
    {
        struct mr_raft_proposal *p = proposal_of(at);
        struct batch_id id = {d->opt.id, d->opt.incarnation, p->seq};

        if (p->term != s->session_term || p->seq <= s->session_acked) {
            continue;
        }
        if (!batch_has_room(&b, p->cmd.len)) {
            send_forward(d, &b, prev);
            prev = last;
        }
        if (batch_add(&b, id, p->cmd) != MR_OK) {
            break;
        }
        last = p->seq;
    }
    send_forward(d, &b, prev);
    batch_deinit(&b);
}

void proposals_on_reply(struct driver *d, uint64_t peer,
                        const struct driver_message *msg)
{
    const struct driver_forward_reply *f = &msg->forward_reply;
    struct driver_proposals *s = &d->props;

    if (peer != driver_leader(d) || msg->term != d->core.current_term ||
        msg->term != s->session_term || f->incarnation != d->opt.incarnation) {
        return;
    }
    if (f->err == MR_E_BUSY) {
        s->busy_until_ms = d->now + BUSY_MS;
    }
    if (f->err == MR_E_NOTLEADER || f->last_seq < s->session_acked) {
        return;
    }
    if (f->last_seq > s->session_acked) {
        s->session_acked = f->last_seq;
        s->progress_ms = d->now;
    }
    if (f->err == MR_OK && f->last_seq < s->session_last &&
        d->now >= s->gap_ms + RESEND_MS / 4) {
        s->gap_ms = d->now; /* Something is missing there. */
        proposals_resend(d);
    }
}

/* ------------------------------------------------------------- the truth */

void proposals_saw_term(struct driver *d, uint64_t term)
{
    struct driver_proposals *s = &d->props;
    struct mr_list again;
    struct mr_list *at = s->sent.next;

    if (term <= s->seen_term) {
        return;
    }
    s->seen_term = term;
    mr_list_init(&again);
    while (at != &s->sent) {
        struct mr_raft_proposal *p = proposal_of(at);
        at = at->next;
        if (p->term < term) {
            take_out(d, p, QUEUED);
            mr_list_push(&again, &p->link);
            s->n_queue++;
        }
    }
    mr_list_move(&again, &s->queue);
    mr_list_move(&s->queue, &again);
}

void proposals_skipped(struct driver *d, uint64_t term)
{
    struct driver_proposals *s = &d->props;
    struct mr_list *at = s->sent.next;

    s->seen_term = term > s->seen_term ? term : s->seen_term;
    while (at != &s->sent) {
        struct mr_raft_proposal *p = proposal_of(at);
        at = at->next;
        if (p->term <= term) {
            end(d, p, MR_E_UNKNOWN);
        }
    }
}

struct mr_raft_proposal *proposals_match(struct driver *d,
                                         const struct batch_id *id)
{
    struct driver_proposals *s = &d->props;
    struct mr_raft_proposal *p;
    struct mr_list *at;

    if (id->origin != d->opt.id || id->incarnation != d->opt.incarnation ||
        mr_list_empty(&s->sent)) {
        return NULL;
    }
    /* They come in the order in which they were sent, so it is the first one,
     * or one whose wait ended with MR_E_UNKNOWN. */
    MR_LIST_FOREACH(at, &s->sent)
    {
        p = proposal_of(at);
        if (p->seq == id->seq) {
            take_out(d, p, APPLYING);
            if (p->term == s->session_term && p->seq > s->session_acked) {
                s->session_acked = p->seq;
            }
            s->progress_ms = d->now;
            return p;
        }
        if (p->seq > id->seq) {
            break;
        }
    }
    return NULL;
}

void proposals_expire(struct driver *d)
{
    struct driver_proposals *s = &d->props;
    struct mr_list *at = s->queue.next;

    while (at != &s->queue) {
        struct mr_raft_proposal *p = proposal_of(at);
        at = at->next;
        if (d->now >= p->deadline_ms) {
            end(d, p, driver_leader(d) == 0 ? MR_E_NOLEADER : MR_E_BUSY);
        }
    }
    at = s->sent.next;
    while (at != &s->sent) {
        struct mr_raft_proposal *p = proposal_of(at);
        at = at->next;
        if (d->now >= p->deadline_ms) {
            end(d, p, MR_E_UNKNOWN);
        }
    }
}

/* ------------------------------------------------------------- the round */

void proposals_role_changed(struct driver *d)
{
    /* Commands that others forwarded belong to the term that is over. */
    drop_ready(d);
    d->props.busy_until_ms = 0;
}

uint64_t proposals_deadline(const struct driver *d)
{
    const struct driver_proposals *s = &d->props;

    if (mr_list_empty(&s->sent) || driver_leads(d)) {
        return UINT64_MAX;
    }
    return s->progress_ms + RESEND_MS;
}

void proposals_flush(struct driver *d)
{
    uint64_t leader = driver_leader(d);

    if (driver_leads(d)) {
        submit_queue(d);
    } else if (leader != 0) {
        if (d->now >= proposals_deadline(d)) {
            proposals_resend(d);
        }
        if (d->now >= d->props.busy_until_ms) {
            forward_queue(d);
        }
    }
}
