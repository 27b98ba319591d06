/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages from other servers on their way into the core.
 *
 * The core trusts what it is given, so everything is checked here first: what
 * contradicts itself, or what no correct server sends, is dropped as if the
 * network had lost it.
 *
 * Two of the core's habits are worked around. It notes the index of the first
 * entry of a message for a configuration that lies anywhere in it, so a message
 * is cut before every configuration. And it keeps one uncommitted
 * configuration only; the one before is committed by then (a leader changes
 * one at a time), which the core is told before it takes the next.
 */
#include "raft/driver_impl.h"

#include "base/mem.h"

#define MAX_ENTRIES 16384

static const char no_address[] = "-"; /* The core only copies it. */

/* ------------------------------------------------------------- checking */

static bool is_entry_sound(const struct driver_entry *e)
{
    struct raft_configuration conf;

    switch (e->type) {
    case DRIVER_ENTRY_COMMANDS:
    case DRIVER_ENTRY_BARRIER:
        return true;
    case DRIVER_ENTRY_CHANGE:
        if (!members_decode(e->data, &conf)) {
            return false;
        }
        raft_configuration_close(&conf);
        return true;
    default:
        return false;
    }
}

static bool is_append_sound(const struct driver_message *msg)
{
    const struct driver_append *a = &msg->append;
    uint64_t term = a->prev_term;

    if ((a->prev_index == 0) != (a->prev_term == 0) ||
        a->prev_term > msg->term || a->n_entries > MAX_ENTRIES) {
        return false;
    }
    for (size_t i = 0; i < a->n_entries; i++) {
        const struct driver_entry *e = &a->entries[i];
        if (e->term == 0 || e->term < term || e->term > msg->term ||
            e->blob == NULL || !is_entry_sound(e)) {
            return false;
        }
        term = e->term;
    }
    return true;
}

/* Whether the core must not see this at all. */
static bool is_impossible(const struct driver *d,
                          const struct driver_message *msg)
{
    bool from_leader = msg->type == DRIVER_MSG_APPEND ||
                       msg->type == DRIVER_MSG_INSTALL ||
                       msg->type == DRIVER_MSG_TIMEOUT_NOW;

    if (msg->term == 0 && msg->type <= DRIVER_MSG_INSTALL) {
        return true;
    }
    /* There is one leader in a term. */
    return from_leader && driver_leads(d) && msg->term == d->core.current_term;
}

/* ------------------------------------------------------------- appending */

static void step_message(struct driver *d, struct raft_message *m)
{
    struct raft_event event = {.type = RAFT_RECEIVE};

    event.receive.message = m;
    (void)driver_step(d, &event); /* Failure is fatal inside. */
}

/* An entry that brings a configuration proves that the one before it, when our
 * log agrees with the sender's up to there, is committed. */
static void commit_previous_change(struct driver *d,
                                   const struct driver_append *a)
{
    uint64_t pending = d->core.configuration_uncommitted_index;
    uint64_t index = a->prev_index + 1;

    if (a->n_entries == 0 || a->entries[0].type != DRIVER_ENTRY_CHANGE ||
        pending == 0 || pending >= index ||
        entries_term(&d->log, a->prev_index) != a->prev_term ||
        entries_term(&d->log, index) == a->entries[0].term) {
        return;
    }
    driver_commit_change(d);
}

/* Step with some entries. The core frees or hands back the first entry's
 * batch; it gets a token for that, the bytes stay in our blobs. */
static void step_append(struct driver *d, uint64_t peer, uint64_t term,
                        const struct driver_append *a)
{
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES,
                             .server_id = peer,
                             .server_address = no_address};
    struct raft_entry *entries = NULL;
    void *token = NULL;

    if (a->n_entries > 0) {
        entries = mr_malloc(a->n_entries * sizeof *entries);
        token = raft_malloc(1);
        if (entries == NULL || token == NULL) {
            mr_free(entries);
            raft_free(token);
            return; /* As if lost. */
        }
    }
    for (size_t i = 0; i < a->n_entries; i++) {
        entries[i].term = a->entries[i].term;
        entries[i].type = (enum raft_entry_type)a->entries[i].type;
        entries[i].buf.base = (void *)(uintptr_t)a->entries[i].data.data;
        entries[i].buf.len = a->entries[i].data.len;
        entries[i].batch = token;
    }
    m.append_entries.term = term;
    m.append_entries.prev_log_index = a->prev_index;
    m.append_entries.prev_log_term = a->prev_term;
    m.append_entries.leader_commit = a->commit;
    m.append_entries.entries = entries;
    m.append_entries.n_entries = (unsigned)a->n_entries;
    d->step_entries = a->entries;
    d->step_array = entries;
    d->step_took_entries = false;
    step_message(d, &m);
    if (d->step_took_entries) {
        raft_free(token); /* Else the core did. */
    }
    d->step_entries = NULL;
    d->step_array = NULL;
    mr_free(entries);
}

static void receive_append(struct driver *d, uint64_t peer,
                           const struct driver_message *msg)
{
    struct driver_append part = msg->append;
    size_t done = 0;

    if (!is_append_sound(msg)) {
        return;
    }
    do {
        size_t n = msg->append.n_entries - done;
        part.entries = msg->append.entries + done;
        for (size_t i = 1; i < n; i++) {
            if (part.entries[i].type == DRIVER_ENTRY_CHANGE) {
                n = i;
            }
        }
        part.n_entries = n;
        commit_previous_change(d, &part);
        step_append(d, peer, msg->term, &part);
        done += n;
        if (n > 0) {
            part.prev_index += n;
            part.prev_term = part.entries[n - 1].term;
        }
    } while (done < msg->append.n_entries && !d->is_dead);
    if (!d->is_dead && d->core.state == RAFT_FOLLOWER &&
        d->core.current_term == msg->term) {
        d->leader_seen_ms = d->now;
        d->members.was_removed = false;
    }
}

static void receive_append_result(struct driver *d, uint64_t peer,
                                  const struct driver_message *msg)
{
    const struct driver_append_result *a = &msg->append_result;
    struct driver_remote *r = driver_remote_of(d, peer);
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES_RESULT,
                             .server_id = peer,
                             .server_address = no_address};

    if (r != NULL && msg->term == d->core.current_term) {
        if (a->rejected != 0) {
            driver_stream_reset(r);
        } else {
            driver_stream_acked(d, r, a->last_index);
        }
    }
    m.append_entries_result.version = (unsigned char)a->version;
    m.append_entries_result.term = msg->term;
    m.append_entries_result.rejected = a->rejected;
    m.append_entries_result.last_log_index = a->last_index;
    m.append_entries_result.features = (unsigned short)a->features;
    m.append_entries_result.capacity = (unsigned short)a->capacity;
    step_message(d, &m);
}

/* ------------------------------------------------------------- voting */

/* The core gives no vote while it does not know that it is a voter. But the
 * candidate may be the only one who has the entry that made us one, and then
 * nobody would ever lead: a vote is for the candidate's configuration to count
 * (Raft §4.1). So a stand-by looks like a voter for this one step. Nor does a
 * stand-by ever give up a leader that fell silent, as a voter does. */
static void step_vote(struct driver *d, struct raft_message *m)
{
    struct raft_server *self = NULL;
    int role = RAFT_VOTER;

    for (unsigned i = 0; i < d->core.configuration.n; i++) {
        if (d->core.configuration.servers[i].id == d->opt.id) {
            self = &d->core.configuration.servers[i];
            role = self->role;
            self->role = RAFT_VOTER;
        }
    }
    if (role != RAFT_VOTER && d->core.state == RAFT_FOLLOWER &&
        d->now - d->leader_seen_ms >= d->opt.election_ms) {
        d->core.follower_state.current_leader.id = 0;
    }
    step_message(d, m);
    if (self != NULL) {
        self->role = role; /* A vote changes no configuration. */
    }
}

static void receive_vote(struct driver *d, uint64_t peer,
                         const struct driver_message *msg)
{
    const struct driver_vote *v = &msg->vote;
    struct raft_message m = {.type = RAFT_REQUEST_VOTE,
                             .server_id = peer,
                             .server_address = no_address};

    if (v->candidate != peer || (v->last_index == 0) != (v->last_term == 0)) {
        return;
    }
    m.request_vote.version = (unsigned char)v->version;
    m.request_vote.term = msg->term;
    m.request_vote.candidate_id = v->candidate;
    m.request_vote.last_log_index = v->last_index;
    m.request_vote.last_log_term = v->last_term;
    m.request_vote.disrupt_leader = v->disrupt;
    m.request_vote.pre_vote = v->pre_vote;
    step_vote(d, &m);
    members_stranger(d, peer);
}

static void receive_vote_result(struct driver *d, uint64_t peer,
                                const struct driver_message *msg)
{
    const struct driver_vote_result *v = &msg->vote_result;
    struct raft_message m = {.type = RAFT_REQUEST_VOTE_RESULT,
                             .server_id = peer,
                             .server_address = no_address};

    if (d->core.state != RAFT_CANDIDATE) {
        return; /* The core would look at another state's fields. */
    }
    m.request_vote_result.version = (unsigned char)v->version;
    m.request_vote_result.term = msg->term;
    m.request_vote_result.vote_granted = v->granted;
    m.request_vote_result.pre_vote = v->pre_vote;
    m.request_vote_result.features = (unsigned short)v->features;
    m.request_vote_result.capacity = (unsigned short)v->capacity;
    step_message(d, &m);
}

static void receive_timeout_now(struct driver *d, uint64_t peer,
                                const struct driver_message *msg)
{
    struct raft_message m = {.type = RAFT_TIMEOUT_NOW,
                             .server_id = peer,
                             .server_address = no_address};

    if (driver_is_sole_voter(d)) {
        return; /* It would lead in this very term. */
    }
    m.timeout_now.term = msg->term;
    m.timeout_now.last_log_index = msg->timeout_now.last_index;
    m.timeout_now.last_log_term = msg->timeout_now.last_term;
    step_message(d, &m);
}

/* ------------------------------------------------------------- installing */

static void receive_install(struct driver *d, uint64_t peer,
                            const struct driver_message *msg)
{
    const struct driver_install *in = &msg->install;
    const struct driver_snapshot *meta = &in->meta;
    struct raft_message m = {.type = RAFT_INSTALL_SNAPSHOT,
                             .server_id = peer,
                             .server_address = no_address};
    bool is_taken = false;

    if (d->core.snapshot.installing || meta->index == 0 || meta->term == 0 ||
        meta->term > msg->term || meta->conf_index > meta->index ||
        !members_decode(meta->conf, &m.install_snapshot.conf)) {
        d->opt.io.snapshot_drop(d->opt.io.arg, in->file);
        return;
    }
    m.install_snapshot.term = msg->term;
    m.install_snapshot.last_index = meta->index;
    m.install_snapshot.last_term = meta->term;
    m.install_snapshot.conf_index = meta->conf_index;
    d->step_install = in;
    step_message(d, &m);
    is_taken = d->step_install == NULL;
    d->step_install = NULL;
    if (is_taken) {
        raft_configuration_close(&m.install_snapshot.conf);
    } else { /* The core released it. */
        d->opt.io.snapshot_drop(d->opt.io.arg, in->file);
    }
}

/* ------------------------------------------------------------- dispatch */

typedef void (*handler)(struct driver *d, uint64_t peer,
                        const struct driver_message *msg);

/* shape: table */
static const handler handlers[] = {
    [DRIVER_MSG_APPEND] = receive_append,
    [DRIVER_MSG_APPEND_RESULT] = receive_append_result,
    [DRIVER_MSG_VOTE] = receive_vote,
    [DRIVER_MSG_VOTE_RESULT] = receive_vote_result,
    [DRIVER_MSG_TIMEOUT_NOW] = receive_timeout_now,
    [DRIVER_MSG_INSTALL] = receive_install,
    [DRIVER_MSG_FORWARD] = proposals_on_forward,
    [DRIVER_MSG_FORWARD_REPLY] = proposals_on_reply,
    [DRIVER_MSG_READ] = reads_on_request,
    [DRIVER_MSG_READ_REPLY] = reads_on_reply,
    [DRIVER_MSG_CONFIRM] = reads_on_confirm,
    [DRIVER_MSG_CONFIRM_ACK] = reads_on_ack,
    [DRIVER_MSG_MEMBER] = members_on_request,
    [DRIVER_MSG_MEMBER_REPLY] = members_on_reply,
};

void driver_receive(struct driver *d, uint64_t peer,
                    const struct driver_message *msg)
{
    size_t type = (size_t)msg->type;

    if (d->is_dead || peer == 0 || peer == d->opt.id ||
        type >= MR_ARRAY_LEN(handlers) || handlers[type] == NULL) {
        return;
    }
    if (is_impossible(d, msg)) {
        if (msg->type == DRIVER_MSG_INSTALL) {
            d->opt.io.snapshot_drop(d->opt.io.arg, msg->install.file);
        }
        return;
    }
    handlers[type](d, peer, msg);
    driver_settle(d);
}
