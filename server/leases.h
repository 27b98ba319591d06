/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease engine (health/mr_lease.h) on the core thread: its timer, its
 * messages, what the store and raft tell it, and renewals from any thread.
 *
 * The same on a server and on an agent without -server, which has no raft and
 * is the only voter for the leases of its own store.
 *
 * Order of life: _new, mr_kv_open() with the hooks, _load, then raft and
 * _start; in the end, when raft has closed, _stop, and _free when the loop is
 * done.
 */
#ifndef MR_SERVER_LEASES_H
#define MR_SERVER_LEASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "base/slice.h"
#include "health/mr_lease.h"
#include "kv/mr_kv.h"
#include "raft/mr_raft.h"

struct server_leases;

struct server_leases_options {
    uv_loop_t *loop;
    const char *node_name; /* Borrowed; outlives the leases. */
    /* Get a command into the store: as mr_raft_propose(). The proposal is
     * embedded in a struct mr_write. */
    enum mr_err (*propose)(void *arg, struct mr_raft_proposal *proposal);
    /* No memory to keep the promise with: the process must stop. Any thread. */
    void (*on_fatal)(void *arg, enum mr_err err, const char *why);
    void *arg;
};

/* Make an engine without leases. On success the caller owns *@out. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
server_leases_new(const struct server_leases_options *options,
                  struct server_leases **out);

/* Take over the leases that @kv holds, before anything is applied to it. Errors
 * of the views. */
MR_MUST_CHECK enum mr_err server_leases_load(struct server_leases *leases,
                                             struct mr_kv *kv);

/* Begin; @raft is NULL for an agent without -server. Core thread. */
void server_leases_start(struct server_leases *leases, struct mr_raft *raft);

/* Stop: what waits ends with MR_E_CLOSED. The handles close with the loop's next
 * turn. Other threads may still ask, and are refused. NULL is a no-op. Core
 * thread. */
void server_leases_stop(struct server_leases *leases);

/* Release it, stopped and with its handles closed. NULL is a no-op. */
void server_leases_free(struct server_leases *leases);

/* As mr_kv_hooks. Apply thread. */
void server_leases_changed(struct server_leases *leases,
                           const struct mr_kv_lease_change *changes, size_t n);
/* Likewise. */
void server_leases_reset(struct server_leases *leases);

/* Raft's status or peers changed. Core thread. */
void server_leases_look(struct server_leases *leases);

/* As mr_raft_options.on_message. Core thread. */
void server_leases_message(struct server_leases *leases, uint64_t from,
                           struct mr_slice msg);

/* As mr_api_host.renew: done is called on the core thread. Any thread.
 * MR_E_BUSY, MR_E_CLOSED: it will not be. */
MR_MUST_CHECK enum mr_err server_leases_renew(struct server_leases *leases,
                                              struct mr_lease_renewal *renewal);

/* As mr_api_host.lease_age. Any thread. */
bool server_leases_age(struct server_leases *leases, uint64_t id,
                       struct mr_lease_age *out_age);

/* Any thread. */
void server_leases_stats(struct server_leases *leases,
                         struct mr_leases_stats *out_stats);

#endif /* MR_SERVER_LEASES_H */
