/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of mr_raft.h that any thread may call.
 *
 * Locking: the getters and node_publish() share node_public.lock, held for
 * copying only. Everything else goes through the queues.
 */
#include "raft/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define CONNECTED_MS 1000 /* Heard of within: connected. */

void node_public_init(struct node_public *p)
{
    mr_assert(pthread_mutex_init(&p->lock, NULL) == 0);
    p->status.role = "Follower";
}

void node_public_deinit(struct node_public *p)
{
    mr_assert(pthread_mutex_destroy(&p->lock) == 0);
    mr_free(p->peers);
}

/* ------------------------------------------------------------- publishing */

static const char *role_of(const struct driver_status *s)
{
    if (s->is_leader) {
        return "Leader";
    }
    return s->is_candidate ? "Candidate" : "Follower";
}

static void fill_status(const struct mr_raft *n, const struct driver_status *s,
                        struct mr_raft_status *out)
{
    out->has_leader = s->leader_id != 0;
    out->is_leader = s->is_leader;
    out->is_ready = s->is_ready;
    out->is_voter = s->is_voter;
    out->ever_had_leader = s->ever_had_leader;
    out->id = n->id;
    out->leader_id = s->leader_id;
    out->role = role_of(s);
    out->term = s->stored_term;
    out->last_log_index = s->last_index;
    out->commit_index = s->commit_index;
    out->snapshot_index = s->snapshot_index;
    out->snapshot_term = s->snapshot_term;
    out->log_bytes = s->log_bytes;
    out->cluster_id = n->cluster_id;
    out->config_index = s->conf_index;
    out->n_peers = s->n_peers;
    out->n_voters = s->n_voters;
}

static int by_name(const void *a, const void *b)
{
    const struct mr_raft_peer *x = a;
    const struct mr_raft_peer *y = b;
    int order = strcmp(x->node_name, y->node_name);

    return order != 0 ? order : x->id < y->id ? -1 : x->id > y->id;
}

static void fill_peer(const struct mr_raft *n, const struct driver_peer *from,
                      uint64_t leader, struct mr_raft_peer *out)
{
    const struct join_server *known = join_find(n->join, from->id);

    memset(out, 0, sizeof *out);
    out->id = from->id;
    out->is_self = from->id == n->id;
    out->is_voter = from->is_voter;
    out->is_leader = from->id == leader;
    out->match_index = from->match_index;
    (void)snprintf(out->address, sizeof out->address, "%.*s",
                   (int)from->address_len, from->address);
    if (out->is_self) {
        memcpy(out->node_id, n->self.node_id, sizeof out->node_id);
        memcpy(out->node_name, n->self.name, sizeof out->node_name);
        memcpy(out->address, n->self.address, sizeof out->address);
        out->last_contact_ms = n->now_ms;
    } else {
        out->last_contact_ms = transport_heard_ms(n->transport, from->id);
    }
    if (known != NULL) {
        memcpy(out->node_id, known->s.node_id, sizeof out->node_id);
        memcpy(out->node_name, known->s.name, sizeof out->node_name);
        memcpy(out->address, known->s.address, sizeof out->address);
    }
}

/* Make room for the peers; they are published later when there is none. */
static bool reserve_peers(struct node_public *p, size_t n)
{
    struct mr_raft_peer *peers;

    if (n <= p->cap_peers) {
        return true;
    }
    peers = mr_realloc(p->peers, n * sizeof *peers);
    if (peers == NULL) {
        return false;
    }
    p->peers = peers;
    p->cap_peers = n;
    return true;
}

static void publish_peers(struct mr_raft *n, const struct driver_status *s)
{
    struct node_public *p = &n->public;
    struct driver_peer peer;
    size_t i;

    if (!reserve_peers(p, s->n_peers)) {
        return;
    }
    for (i = 0; i < s->n_peers && driver_peer_at(n->driver, i, &peer); i++) {
        fill_peer(n, &peer, s->leader_id, &p->peers[i]);
    }
    p->n_peers = i;
    if (i != 0) {
        qsort(p->peers, i, sizeof *p->peers, by_name);
    }
    p->status.leader_address[0] = '\0';
    for (i = 0; i < p->n_peers; i++) {
        if (p->peers[i].is_leader) {
            memcpy(p->status.leader_address, p->peers[i].address,
                   sizeof p->status.leader_address);
        }
    }
    n->peers_changed = false;
}

void node_publish(struct mr_raft *n)
{
    struct node_public *p = &n->public;
    struct transport_stats t;
    struct driver_status s;

    driver_status(n->driver, &s);
    mr_assert(pthread_mutex_lock(&p->lock) == 0);
    fill_status(n, &s, &p->status);
    p->leader_seen_ms = s.leader_seen_ms;
    driver_stats(n->driver, &p->stats);
    transport_stats(n->transport, &t);
    p->stats.log_syncs = raftlog_syncs(n->log);
    p->stats.frames_in = t.frames_in;
    p->stats.frames_out = t.frames_out;
    p->stats.bytes_in = t.bytes_in;
    p->stats.bytes_out = t.bytes_out;
    p->stats.refused_peers = t.refused;
    if (n->peers_changed) {
        publish_peers(n, &s);
    }
    mr_assert(pthread_mutex_unlock(&p->lock) == 0);
}

/* ------------------------------------------------------------- getters */

static struct node_public *public_of(const struct mr_raft *raft)
{
    return &((struct mr_raft *)(uintptr_t)raft)->public;
}

static uint64_t age(uint64_t now, uint64_t then)
{
    if (then == 0) {
        return UINT64_MAX;
    }
    return now > then ? now - then : 0;
}

void mr_raft_status(const struct mr_raft *raft,
                    struct mr_raft_status *out_status)
{
    struct node_public *p = public_of(raft);
    uint64_t now = mr_now_ms(raft->options.clock);
    uint64_t seen;

    mr_assert(pthread_mutex_lock(&p->lock) == 0);
    *out_status = p->status;
    out_status->applied_index = apply_index(raft->apply);
    seen = p->leader_seen_ms;
    mr_assert(pthread_mutex_unlock(&p->lock) == 0);
    out_status->last_contact_ms = out_status->is_leader ? 0 : age(now, seen);
}

void mr_raft_stats(const struct mr_raft *raft, struct mr_raft_stats *out_stats)
{
    struct node_public *p = public_of(raft);

    mr_assert(pthread_mutex_lock(&p->lock) == 0);
    *out_stats = p->stats;
    mr_assert(pthread_mutex_unlock(&p->lock) == 0);
}

size_t mr_raft_peers(const struct mr_raft *raft, struct mr_raft_peer *out_peers,
                     size_t cap)
{
    struct node_public *p = public_of(raft);
    uint64_t now = mr_now_ms(raft->options.clock);
    size_t n;

    mr_assert(pthread_mutex_lock(&p->lock) == 0);
    n = p->n_peers;
    if (n != 0 && cap != 0) {
        memcpy(out_peers, p->peers, (n < cap ? n : cap) * sizeof *out_peers);
    }
    mr_assert(pthread_mutex_unlock(&p->lock) == 0);
    for (size_t i = 0; i < n && i < cap; i++) {
        struct mr_raft_peer *peer = &out_peers[i];

        peer->last_contact_ms =
            peer->is_self ? 0 : age(now, peer->last_contact_ms);
        peer->is_connected = peer->last_contact_ms < CONNECTED_MS;
    }
    return n;
}

bool mr_raft_may_read_local(const struct mr_raft *raft)
{
    uint64_t until =
        atomic_load_explicit(&raft->lease_until_ms, memory_order_acquire);

    return until != 0 && mr_now_ms(raft->options.clock) < until &&
           apply_index(raft->apply) >=
               atomic_load_explicit(&raft->commit_index, memory_order_acquire);
}

/* ------------------------------------------------------------- requests */

enum mr_err mr_raft_propose(struct mr_raft *raft,
                            struct mr_raft_proposal *proposal)
{
    if (proposal->cmd.len > MR_RAFT_COMMAND_MAX) {
        return MR_E_TOOBIG;
    }
    mr_list_init(&proposal->link);
    return mr_queue_push(&raft->proposals, &proposal->link);
}

enum mr_err mr_raft_read(struct mr_raft *raft, struct mr_raft_read *read)
{
    mr_list_init(&read->link);
    return mr_queue_push(&raft->reads, &read->link);
}

/* ------------------------------------------------------------- changes */

enum change_kind {
    CHANGE_REMOVE,
    CHANGE_LEAVE,
    CHANGE_TRANSFER,
    CHANGE_JOIN,
    CHANGE_SNAPSHOT
};

/* A change on its way to the core thread. */
struct change {
    struct node_event event;
    enum change_kind kind;
    uint64_t id;
    char address[MR_HOST_MAX + 8];
    mr_raft_change_cb cb;
    void *arg;
};

static void run_change(struct mr_raft *n, struct node_event *event)
{
    struct change *c = mr_container_of(event, struct change, event);

    if (n->driver == NULL) {
        c->cb(c->arg, MR_E_CLOSED, "shutting down");
        mr_free(c);
        return;
    }
    switch (c->kind) {
    case CHANGE_REMOVE:
        driver_member_change(n->driver, DRIVER_MEMBER_REMOVE, c->id, "", c->cb,
                             c->arg);
        break;
    case CHANGE_LEAVE:
        n->was_member = true; /* Do not ask to be added again. */
        driver_leave(n->driver, c->cb, c->arg);
        break;
    case CHANGE_TRANSFER:
        driver_member_change(n->driver, DRIVER_MEMBER_TRANSFER, 0, "", c->cb,
                             c->arg);
        break;
    case CHANGE_JOIN:
        join_try(n->join, c->address, c->cb, c->arg);
        break;
    case CHANGE_SNAPSHOT:
        driver_snapshot_now(n->driver, c->cb, c->arg);
        break;
    }
    mr_free(c);
}

static void post_change(struct mr_raft *n, struct change change,
                        mr_raft_change_cb cb, void *arg)
{
    struct change *c = mr_malloc(sizeof *c);

    if (c == NULL) {
        cb(arg, MR_E_NOMEM, mr_strerror(MR_E_NOMEM));
        return;
    }
    *c = change;
    c->event.run = run_change;
    c->cb = cb;
    c->arg = arg;
    if (!node_try_post(n, &c->event)) {
        cb(arg, MR_E_CLOSED, "shutting down");
        mr_free(c);
    }
}

void mr_raft_remove_peer(struct mr_raft *raft, uint64_t id,
                         mr_raft_change_cb cb, void *arg)
{
    struct change c = {.kind = CHANGE_REMOVE, .id = id};

    post_change(raft, c, cb, arg);
}

void mr_raft_leave(struct mr_raft *raft, mr_raft_change_cb cb, void *arg)
{
    struct change c = {.kind = CHANGE_LEAVE};

    post_change(raft, c, cb, arg);
}

void mr_raft_transfer(struct mr_raft *raft, mr_raft_change_cb cb, void *arg)
{
    struct change c = {.kind = CHANGE_TRANSFER};

    post_change(raft, c, cb, arg);
}

void mr_raft_join(struct mr_raft *raft, const char *address,
                  mr_raft_change_cb cb, void *arg)
{
    struct change c = {.kind = CHANGE_JOIN};

    (void)snprintf(c.address, sizeof c.address, "%s", address);
    post_change(raft, c, cb, arg);
}

void mr_raft_snapshot(struct mr_raft *raft, mr_raft_change_cb cb, void *arg)
{
    struct change c = {.kind = CHANGE_SNAPSHOT};

    post_change(raft, c, cb, arg);
}
