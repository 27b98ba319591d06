/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local: the store of an agent without -server, in which only its own node's
 * services and checks are.
 *
 * A thread takes the commands that wait, applies them in one durable
 * transaction and completes them: what raft's apply thread is on a server.
 */
#ifndef MR_SERVER_LOCAL_H
#define MR_SERVER_LOCAL_H

#include "base/err.h"
#include "kv/mr_kv.h"
#include "raft/mr_raft.h"

struct server_local;

struct server_local_options {
    struct mr_kv *kv; /* Borrowed; opened as durable. */
    /* A batch is visible. The store's thread, before the commands' done. */
    void (*on_applied)(void *arg);
    /* The store failed. */
    void (*on_fatal)(void *arg, enum mr_err err, const char *why);
    void *arg;
};

/* Start the thread, the only one to apply from now on. On success the caller
 * owns *@out. MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err
server_local_start(const struct server_local_options *options,
                   struct server_local **out);

/* Apply what waits, then stop: later proposals are refused. NULL is a no-op. */
void server_local_stop(struct server_local *local);

/* Release it, stopped. NULL is a no-op. */
void server_local_free(struct server_local *local);

/* As mr_raft_propose(), with the proposal in a struct mr_write. Its done is
 * called on the store's thread, with MR_OK. Any thread.
 * MR_E_BUSY, MR_E_TOOBIG, MR_E_CLOSED: done will not be called. */
MR_MUST_CHECK enum mr_err server_local_propose(struct server_local *local,
                                               struct mr_raft_proposal *p);

#endif /* MR_SERVER_LOCAL_H */
