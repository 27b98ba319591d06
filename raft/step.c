/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step of the core, and what follows from it.
 *
 * - The step's update is worked off in the order the core demands: term and
 *   vote to the log, entries to the log, an install, messages.
 * - A message never leaves before the term and vote of its step are durable:
 *   it waits behind their ticket, and so does every later one.
 * - After the steps driver_settle() looks at what changed: role, commit index,
 *   configuration. It may step again, until nothing moves.
 *
 * A step that fails for another reason than an allowed refusal is the end of
 * this server: the library is built without asserts and its state can no
 * longer be trusted.
 */
#include "raft/driver_impl.h"

#include <string.h>

#include "base/mem.h"
#include "raft/error.h"

#define CAPACITY 65535 /* Not used: space is reported by driver_disk_full(). */

static char no_batch; /* What entries point to that the core must not free. */

/* ------------------------------------------------------------- log writes */

void driver_log(struct driver *d, struct driver_log_write *write)
{
    struct driver_write *w = mr_calloc(1, sizeof *w);

    if (w == NULL) {
        driver_fatal(d, MR_E_NOMEM, "no memory for a log write");
        return;
    }
    write->ticket = ++d->last_ticket;
    mr_list_init(&w->link);
    w->ticket = write->ticket;
    w->since_ms = d->now;
    if (write->n_entries > 0) {
        w->last = write->first_index + write->n_entries - 1;
    }
    mr_list_push(&d->writes, &w->link);
    if (write->has_vote) {
        d->vote_ticket = write->ticket;
    }
    d->opt.io.log_write(d->opt.io.arg, write);
}

/* What writes in flight hold from @index on is no longer part of the log. */
static void writes_truncated(struct driver *d, uint64_t index)
{
    struct mr_list *at;

    MR_LIST_FOREACH(at, &d->writes)
    {
        struct driver_write *w = mr_container_of(at, struct driver_write, link);
        if (w->last >= index) {
            w->last = index - 1;
        }
    }
}

static void send_held(struct driver *d)
{
    struct mr_list *at;

    while (d->done_ticket >= d->vote_ticket &&
           (at = mr_list_pop(&d->held)) != NULL) {
        struct driver_held *h = mr_container_of(at, struct driver_held, link);
        d->opt.io.send(d->opt.io.arg, h->peer, &h->msg);
        mr_free(h);
    }
}

void driver_log_done(struct driver *d, uint64_t ticket, enum mr_err err)
{
    uint64_t last = 0;

    if (d->is_dead) {
        return;
    }
    if (err != MR_OK) {
        driver_fatal(d, err, "the log cannot be written");
        return;
    }
    while (!mr_list_empty(&d->writes)) {
        struct driver_write *w =
            mr_container_of(d->writes.next, struct driver_write, link);
        if (w->ticket > ticket) {
            break;
        }
        last = w->last > last ? w->last : last;
        mr_list_remove(&w->link);
        mr_free(w);
    }
    d->done_ticket = ticket > d->done_ticket ? ticket : d->done_ticket;
    if (d->done_ticket >= d->vote_ticket &&
        d->stored_term != d->core.current_term) {
        d->stored_term = d->core.current_term;
        d->is_changed = true;
    }
    send_held(d);
    if (last > d->core.last_stored && !d->core.snapshot.installing) {
        struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
        event.persisted_entries.index = last;
        (void)driver_step(d, &event); /* Failure is fatal inside. */
    }
    snapshots_logged(d);
    driver_settle(d);
}

/* ------------------------------------------------------------- messages */

/* Whether a message speaks for the term and vote of this server. */
static bool is_bound_to_vote(enum driver_message_type type)
{
    return type <= DRIVER_MSG_TIMEOUT_NOW || type == DRIVER_MSG_CONFIRM ||
           type == DRIVER_MSG_CONFIRM_ACK;
}

void driver_send(struct driver *d, uint64_t peer,
                 const struct driver_message *msg)
{
    struct driver_held *h;

    if (peer == d->opt.id || peer == 0 || d->is_dead) {
        return;
    }
    if (d->is_muted &&
        (msg->type == DRIVER_MSG_APPEND || msg->type == DRIVER_MSG_CONFIRM)) {
        return;
    }
    if (d->done_ticket >= d->vote_ticket || !is_bound_to_vote(msg->type)) {
        d->opt.io.send(d->opt.io.arg, peer, msg);
        return;
    }
    if (msg->type == DRIVER_MSG_APPEND && msg->append.n_entries > 0) {
        return; /* Borrowed memory; the core repeats it. */
    }
    h = mr_calloc(1, sizeof *h);
    if (h == NULL) {
        return; /* As if the network had lost it. */
    }
    mr_list_init(&h->link);
    h->peer = peer;
    h->msg = *msg;
    mr_list_push(&d->held, &h->link);
}

static void send_append(struct driver *d, const struct raft_message *m)
{
    const struct raft_append_entries *a = &m->append_entries;
    struct driver_remote *r = driver_remote_of(d, m->server_id);
    struct driver_message msg = {.type = DRIVER_MSG_APPEND, .term = a->term};

    if (r == NULL) {
        return;
    }
    if (a->n_entries > 0) {
        driver_stream(d, m->server_id, a->prev_log_index, a->n_entries);
        return;
    }
    msg.append.prev_index = a->prev_log_index;
    msg.append.prev_term = a->prev_log_term;
    msg.append.commit = a->leader_commit;
    if (r->next <= r->end) {
        /* The core believes that entries went out which still wait here: ask
         * about what the follower is known to have. */
        raft_index match = 0;
        (void)raft_match_index(&d->core, m->server_id, &match); /* Or 0. */
        msg.append.prev_index = match;
        msg.append.prev_term = entries_term(&d->log, match);
        if (match == 0 || msg.append.prev_term == 0) {
            msg.append.prev_index = d->log.snapshot_index;
            msg.append.prev_term = d->log.snapshot_term;
        }
    }
    driver_send(d, m->server_id, &msg);
}

void driver_send_core(struct driver *d, const struct raft_message *m)
{
    struct driver_message msg = {.term = d->core.current_term};

    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        send_append(d, m);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        snapshots_send(d, m->server_id);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        msg.type = DRIVER_MSG_APPEND_RESULT;
        msg.term = m->append_entries_result.term;
        msg.append_result.rejected = m->append_entries_result.rejected;
        msg.append_result.last_index = m->append_entries_result.last_log_index;
        msg.append_result.version = m->append_entries_result.version;
        msg.append_result.features = m->append_entries_result.features;
        msg.append_result.capacity = m->append_entries_result.capacity;
        break;
    case RAFT_REQUEST_VOTE:
        msg.type = DRIVER_MSG_VOTE;
        msg.term = m->request_vote.term;
        msg.vote.version = m->request_vote.version;
        msg.vote.candidate = m->request_vote.candidate_id;
        msg.vote.last_index = m->request_vote.last_log_index;
        msg.vote.last_term = m->request_vote.last_log_term;
        msg.vote.disrupt = m->request_vote.disrupt_leader;
        msg.vote.pre_vote = m->request_vote.pre_vote;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        msg.type = DRIVER_MSG_VOTE_RESULT;
        msg.term = m->request_vote_result.term;
        if (m->request_vote_result.pre_vote &&
            !m->request_vote_result.vote_granted &&
            msg.term < d->core.current_term) {
            /* The core echoes the candidate's term, and a candidate with the
             * best log, but an old term, would ask in vain for ever. */
            msg.term = d->core.current_term;
        }
        msg.vote_result.version = m->request_vote_result.version;
        msg.vote_result.granted = m->request_vote_result.vote_granted;
        msg.vote_result.pre_vote = m->request_vote_result.pre_vote;
        msg.vote_result.features = m->request_vote_result.features;
        msg.vote_result.capacity = m->request_vote_result.capacity;
        break;
    case RAFT_TIMEOUT_NOW:
        msg.type = DRIVER_MSG_TIMEOUT_NOW;
        msg.term = m->timeout_now.term;
        msg.timeout_now.last_index = m->timeout_now.last_log_index;
        msg.timeout_now.last_term = m->timeout_now.last_log_term;
        break;
    default:
        return;
    }
    driver_send(d, m->server_id, &msg);
}

/* ------------------------------------------------------------- the update */

/* The core's own barrier at the start of a term. */
static enum mr_err take_barrier(struct driver *d)
{
    struct raft_entry *b = &d->core.barrier;
    struct driver_entry entry = {
        b->term, DRIVER_ENTRY_BARRIER, {NULL, 0}, NULL};
    enum mr_err err;

    entry.blob = driver_blob_new(b->buf.len);
    if (entry.blob == NULL) {
        return MR_E_NOMEM;
    }
    memcpy(entry.blob->data, b->buf.base, b->buf.len);
    entry.data = mr_slice(entry.blob->data, b->buf.len);
    err = entries_append(&d->log, &entry);
    driver_blob_unref(entry.blob);
    raft_free(b->batch);
    return err;
}

/* Put the update's entries into our memory of the log. */
static enum mr_err remember_entries(struct driver *d,
                                    const struct raft_update *u)
{
    const struct driver_entry *entry;
    enum mr_err err = MR_OK;

    if (u->entries.batch == &d->core.barrier) {
        d->snaps.log_bytes += d->core.barrier.buf.len;
        return take_barrier(d);
    }
    mr_assert(d->step_entries != NULL);
    d->step_took_entries = true;
    entry = d->step_entries + (u->entries.batch - d->step_array);
    for (unsigned i = 0; i < u->entries.n && err == MR_OK; i++) {
        err = entries_append(&d->log, &entry[i]);
        d->snaps.log_bytes += entry[i].data.len;
    }
    return err;
}

/* Gather the newest @n entries for a write. */
static void write_entries(struct driver *d, struct driver_log_write *write,
                          uint64_t first, size_t n)
{
    struct driver_entry few[16];
    struct driver_entry *entries = few;

    if (n > MR_ARRAY_LEN(few)) {
        entries = mr_malloc(n * sizeof *entries);
        if (entries == NULL) {
            driver_fatal(d, MR_E_NOMEM, "no memory for a log write");
            return;
        }
    }
    for (size_t i = 0; i < n; i++) {
        const struct driver_entry *e = entries_get(&d->log, first + i);
        mr_assert(e != NULL); /* Just appended, evicted only in flush. */
        entries[i] = *e;
    }
    write->first_index = first;
    write->entries = entries;
    write->n_entries = n;
    d->stats.entries += n;
    driver_log(d, write);
    write->entries = NULL;
    if (entries != few) {
        mr_free(entries);
    }
}

static void persist(struct driver *d, const struct raft_update *u)
{
    struct driver_log_write write = {0};
    uint64_t first = u->entries.index;
    bool has_entries = (u->flags & (RAFT_UPDATE_ENTRIES)) != 0;

    if ((u->flags & ((RAFT_UPDATE_CURRENT_TERM) | (RAFT_UPDATE_VOTED_FOR))) !=
        0) {
        write.has_vote = true;
        write.term = raft_current_term(&d->core);
        write.voted_for = raft_voted_for(&d->core);
    }
    if (!has_entries) {
        if (write.has_vote) {
            driver_log(d, &write);
        }
        return;
    }
    if (first <= d->handed || first > d->log.last + 1) {
        driver_fatal(d, MR_E_CORRUPT,
                     first <= d->handed ? "the core overwrites the applied"
                                        : "the core leaves a gap");
        return;
    }
    if (first <= d->log.last) {
        write.truncate_from = first;
        writes_truncated(d, first);
        entries_truncate(&d->log, first);
    }
    if (remember_entries(d, u) != MR_OK) {
        driver_fatal(d, MR_E_NOMEM, "no memory for entries");
        return;
    }
    write_entries(d, &write, first, u->entries.n);
}

static bool is_allowed(const struct raft_event *event, int rv)
{
    if (event->type == RAFT_SUBMIT) {
        return rv == RAFT_NOTLEADER || rv == RAFT_CANTCHANGE ||
               rv == RAFT_NOSPACE;
    }
    return event->type == RAFT_TRANSFER &&
           (rv == RAFT_NOTLEADER || rv == RAFT_NOTFOUND || rv == RAFT_BADID);
}

int driver_step(struct driver *d, struct raft_event *event)
{
    struct raft_update u = {0};
    int rv;

    if (d->is_dead) {
        return RAFT_SHUTDOWN;
    }
    event->time = d->now;
    event->capacity = CAPACITY;
    rv = raft_step(&d->core, event, &u);
    if (rv != 0) {
        if (!is_allowed(event, rv)) {
            driver_fatal(d, driver_error(rv), raft_strerror(rv));
        }
        return rv;
    }
    persist(d, &u);
    if ((u.flags & (RAFT_UPDATE_SNAPSHOT)) != 0) {
        writes_truncated(d, 1);
        snapshots_install(d);
    }
    if ((u.flags & (RAFT_UPDATE_MESSAGES)) != 0) {
        for (unsigned i = 0; i < u.messages.n; i++) {
            driver_send_core(d, &u.messages.batch[i]);
        }
    }
    return 0;
}

/* ------------------------------------------------------------- submitting */

int driver_submit(struct driver *d, const struct driver_entry *entries,
                  size_t n)
{
    struct raft_entry few[16];
    struct raft_event event = {.type = RAFT_SUBMIT};
    int rv;

    mr_assert(n > 0 && n <= MR_ARRAY_LEN(few));
    for (size_t i = 0; i < n; i++) {
        few[i].term = entries[i].term;
        few[i].type = (enum raft_entry_type)entries[i].type;
        few[i].buf.base = (void *)(uintptr_t)entries[i].data.data;
        few[i].buf.len = entries[i].data.len;
        few[i].batch = &no_batch;
    }
    d->step_entries = entries;
    d->step_array = few;
    event.submit.entries = few;
    event.submit.n = (unsigned)n;
    rv = driver_step(d, &event);
    d->step_entries = NULL;
    d->step_array = NULL;
    return rv;
}

int driver_submit_barrier(struct driver *d)
{
    struct driver_entry entry = {
        d->core.current_term, DRIVER_ENTRY_BARRIER, {NULL, 0}, NULL};
    int rv;

    entry.blob = driver_blob_new(8);
    if (entry.blob == NULL) {
        driver_fatal(d, MR_E_NOMEM, "no memory for an entry");
        return RAFT_NOMEM;
    }
    memset(entry.blob->data, 0, 8);
    entry.data = mr_slice(entry.blob->data, 8);
    rv = driver_submit(d, &entry, 1);
    driver_blob_unref(entry.blob);
    return rv;
}

void driver_raise_term(struct driver *d)
{
    struct raft_message m = {.type = RAFT_REQUEST_VOTE,
                             .server_id = d->opt.id,
                             .server_address = ""};
    struct raft_event event = {.type = RAFT_RECEIVE};

    /* A vote request with an empty log: refused, but its term counts. The
     * answer goes to this server itself, that is nowhere. */
    m.request_vote.version = 2;
    m.request_vote.term = d->core.current_term + 1;
    m.request_vote.candidate_id = d->opt.id;
    m.request_vote.disrupt_leader = true;
    event.receive.message = &m;
    (void)driver_step(d, &event); /* Failure is fatal inside. */
}

/* ------------------------------------------------------------- settling */

void driver_commit_change(struct driver *d)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    struct raft_buffer buf;
    int rv = raft_configuration_encode(&d->core.configuration, &buf);

    if (rv == 0) {
        rv = raft_configuration_decode(&buf, &event.configuration.conf);
        raft_free(buf.base);
    }
    if (rv != 0) {
        driver_fatal(d, driver_error(rv), "a configuration does not decode");
        return;
    }
    event.configuration.index = d->core.configuration_uncommitted_index;
    d->is_changed = true;
    (void)driver_step(d, &event); /* Failure is fatal inside. */
}

/* The commit index as the core knows it, without its steps back, and the
 * configuration that is committed by it. True: something moved. */
static bool settle_commit(struct driver *d)
{
    uint64_t commit = raft_commit_index(&d->core);
    uint64_t pending = d->core.configuration_uncommitted_index;

    if (d->core.snapshot.installing) {
        return false;
    }
    d->commit = commit > d->commit ? commit : d->commit;
    if (pending == 0 || pending > d->commit) {
        return false;
    }
    driver_commit_change(d);
    return true;
}

static void lead(struct driver *d)
{
    d->was_leader = true;
    d->is_muted = false;
    d->transfer_ms = 0;
    if (entries_term(&d->log, d->log.last) != d->core.current_term) {
        (void)driver_submit_barrier(d); /* Failure is fatal inside. */
    }
    d->own_term_index = d->log.last;
    while (d->own_term_index > 1 &&
           entries_term(&d->log, d->own_term_index - 1) ==
               d->core.current_term) {
        d->own_term_index--;
    }
}

/* Role, term or leader changed: tell those who care. True: something moved. */
static bool settle_role(struct driver *d)
{
    uint64_t leader = driver_leader(d);
    bool leads = driver_leads(d);
    uint64_t term = d->core.current_term;

    if (d->core.state == RAFT_CANDIDATE && term != d->seen_term) {
        d->stats.elections++;
    }
    if (leads == d->was_leader && term == d->seen_term &&
        leader == d->seen_leader) {
        return false;
    }
    if (leader != d->seen_leader && leader != 0) {
        d->stats.leader_changes++;
        d->ever_had_leader = true;
    }
    for (size_t i = 0; i < d->n_remotes; i++) {
        if (term != d->seen_term || leads != d->was_leader) {
            driver_stream_reset(d->remotes[i]);
            d->remotes[i]->told_commit = 0;
            d->remotes[i]->confirmed = 0;
            d->remotes[i]->incarnation = 0;
            d->remotes[i]->taken_seq = 0;
        }
    }
    d->seen_term = term;
    d->seen_leader = leader;
    d->is_changed = true;
    d->was_leader = leads;
    d->is_muted = false;
    proposals_role_changed(d);
    reads_role_changed(d);
    members_role_changed(d);
    if (leads) {
        lead(d);
    }
    return true;
}

void driver_settle(struct driver *d)
{
    while (!d->is_dead && (settle_commit(d) || settle_role(d))) {
    }
    if (!d->is_dead) {
        driver_hand_over(d);
    }
}
