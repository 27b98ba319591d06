/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of mr_raft.h that any thread may call.
 *
 * Locking: the getters and node_publish() share node_public.lock, held for
 * copying only. Everything else goes through the queues.
 */
#include "raft/node.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

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
    out->is_voter = s->is_voter;
    out->ever_had_leader = s->ever_had_leader;
    out->id = n->id;
    out->leader_id = s->leader_id;
    out->role = role_of(s);
    out->term = s->term;
    out->last_log_index = s->last_index;
    out->commit_index = s->commit_index;
    out->applied_index = apply_index(n->apply);
    out->snapshot_index = s->snapshot_index;
    out->snapshot_term = s->snapshot_term;
    out->log_bytes = s->log_bytes;
    out->cluster_id = n->cluster_id;
    out->config_index = s->conf_index;
    out->n_peers = s->n_peers;
    out->n_voters = s->n_voters;
}

void node_publish(struct mr_raft *n)
{
    struct node_public *p = &n->public;
    struct driver_status s;

    driver_status(n->driver, &s);
    mr_assert(pthread_mutex_lock(&p->lock) == 0);
    fill_status(n, &s, &p->status);
    p->leader_seen_ms = s.leader_seen_ms;
    driver_stats(n->driver, &p->stats);
    p->stats.log_syncs = raftlog_syncs(n->log);
    mr_assert(pthread_mutex_unlock(&p->lock) == 0);
}

/* ------------------------------------------------------------- getters */

static struct node_public *public_of(const struct mr_raft *raft)
{
    return &((struct mr_raft *)(uintptr_t)raft)->public;
}

void mr_raft_status(const struct mr_raft *raft,
                    struct mr_raft_status *out_status)
{
    struct node_public *p = public_of(raft);
    uint64_t now = mr_now_ms(raft->options.clock);
    uint64_t seen;

    mr_assert(pthread_mutex_lock(&p->lock) == 0);
    *out_status = p->status;
    seen = p->leader_seen_ms;
    mr_assert(pthread_mutex_unlock(&p->lock) == 0);
    if (out_status->is_leader) {
        out_status->last_contact_ms = 0;
    } else if (seen == 0) {
        out_status->last_contact_ms = UINT64_MAX;
    } else {
        out_status->last_contact_ms = now > seen ? now - seen : 0;
    }
}

void mr_raft_stats(const struct mr_raft *raft, struct mr_raft_stats *out_stats)
{
    struct node_public *p = public_of(raft);

    mr_assert(pthread_mutex_lock(&p->lock) == 0);
    *out_stats = p->stats;
    mr_assert(pthread_mutex_unlock(&p->lock) == 0);
}

bool mr_raft_may_read_local(const struct mr_raft *raft)
{
    uint64_t until =
        atomic_load_explicit(&raft->lease_until_ms, memory_order_acquire);

    return until != 0 && mr_now_ms(raft->options.clock) < until;
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
