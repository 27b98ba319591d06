/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync: keeps the cluster's rows of this node equal to the agent's own store,
 * and the node alive. Agents without -server only.
 *
 *  - The node is registered with a lease, which is renewed each second.
 *  - Every change of the store is pushed at once, in rounds: what differs from
 *    what the cluster is known to have.
 *  - What the cluster has is asked after the start, after the link changed, when
 *    something failed, and every minute: missing and different rows are
 *    registered again, rows of origin AGENT that the store has not are removed.
 *  - Renewals of TTL checks go to the store's leases and to the cluster's.
 *
 * The store is right, with one exception: after a start it may say of a check
 * what was true when the agent ended. Until its owner, or the runner of checks,
 * has been heard of it, the cluster's word counts, and where the cluster knows
 * nothing the check is critical.
 *
 * Core thread, but for what says otherwise.
 */
#ifndef MR_SERVER_SYNC_H
#define MR_SERVER_SYNC_H

#include "api/mr_api.h"
#include "base/err.h"

struct server_agent;
struct server_sync;

/* Make it, before the link and the store's thread start: it is agent->sync
 * then. Released by server_sync_free(). MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_sync_new(struct server_agent *agent);

/* Do what there is to do; each tick, and when agent->wakeup was sent. */
void server_sync_run(struct server_sync *sync);

/* Milliseconds until the next tick. */
uint64_t server_sync_tick_ms(const struct server_sync *sync);

/* Tell the cluster that this node leaves; server_agent_deregistered() follows,
 * later, whatever the outcome. False: nobody can be told, it does not. */
bool server_sync_leave(struct server_sync *sync);

/* Do nothing more: those who wait are told what holds. Later calls of other
 * threads are refused. NULL is a no-op. */
void server_sync_stop(struct server_sync *sync);

/* Release it, stopped and with the link and the leases stopped. NULL is a
 * no-op. */
void server_sync_free(struct server_sync *sync);

/* The link has another server, or none. Any thread. */
void server_sync_linked(struct server_sync *sync);

/* The store has changed. Any thread. */
void server_sync_changed(struct server_sync *sync);

/* As mr_api_host.propose: done is called when the command holds in the store
 * and, if a server can be reached soon, in the cluster. Any thread. */
MR_MUST_CHECK enum mr_err server_sync_propose(struct server_sync *sync,
                                              struct mr_raft_proposal *p);

/* As mr_api_host.renew, likewise. Any thread. */
MR_MUST_CHECK enum mr_err server_sync_renew(struct server_sync *sync,
                                            struct mr_lease_renewal *renewal);

#endif /* MR_SERVER_SYNC_H */
