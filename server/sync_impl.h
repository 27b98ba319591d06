/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside sync: rounds (sync.c), requests to the servers (sync_call.c), renewals
 * (sync_renew.c) and the word of the cluster after a start (sync_adopt.c).
 */
#ifndef MR_SERVER_SYNC_IMPL_H
#define MR_SERVER_SYNC_IMPL_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/queue.h"
#include "server/agent.h"
#include "server/link.h"
#include "server/sync.h"
#include "server/sync_rows.h"

/* One request of sync's own to a server. */
struct sync_call {
    struct mr_list link; /* In the queue of answers. */
    struct mr_api_forward forward;
    struct server_sync *sync;
    /* Core thread; may look at err and forward, not keep them. */
    void (*answered)(struct server_sync *sync, const struct sync_call *call);
    struct mr_buf target;
    struct mr_buf body;
    enum mr_err err;
};

/* A client that waits for its command or renewal to hold in the cluster. */
struct sync_waiter {
    struct mr_list link;
    struct server_sync *sync;
    uint64_t deadline_ms;
    /* One of the two. */
    struct mr_raft_proposal *proposal;
    struct mr_lease_renewal *renewal;
    /* Of a command: what the store is asked. */
    struct mr_write write;
    enum mr_err err;
    /* Of a renewal: likewise, and the checks that are meant. */
    struct mr_lease_renewal local;
    char **checks; /* By item; NULL: not a check's lease. */
};

enum sync_phase {
    SYNC_IDLE,
    SYNC_COMPARING, /* The cluster's rows were asked for. */
    SYNC_ADOPTING,  /* The store takes the cluster's word. */
    SYNC_PUSHING    /* Commands are under way. */
};

struct server_sync {
    struct server_agent *agent;
    struct mr_api_agent self; /* As the cluster's row of the node says. */
    bool is_stopped;
    atomic_bool is_linked_anew; /* The link changed. */
    atomic_bool is_changed;     /* The store did. */
    struct mr_queue answers;    /* struct sync_call. */
    struct mr_queue applied;    /* struct sync_waiter: commands done here. */
    struct mr_queue wishes;     /* struct sync_waiter: renewals to begin. */

    bool is_connected;
    bool is_leaving;
    /* The node. */
    bool is_registered;
    bool is_registering;
    bool is_node_lost;    /* Since the last comparison. */
    uint64_t register_ms; /* Not before. */
    char refusal[256];    /* Logged last. */
    /* Rows. */
    enum sync_phase phase;
    struct sync_rows known; /* Of the cluster. */
    struct sync_rows next;  /* The same when the pushing is done. */
    bool needs_compare;
    bool was_compared;      /* Since the start of the process. */
    bool is_full;           /* The round after a comparison. */
    bool is_dirty;          /* The store may differ from known. */
    bool has_failed;        /* A command of this round. */
    unsigned n_open;        /* Commands of this round under way. */
    atomic_uint n_adopting; /* Commands to the store under way. */
    uint64_t retry_ms;      /* No round before. */
    uint64_t compare_ms;    /* The next one by itself. */
    struct mr_list waiting; /* struct sync_waiter: for the next round, */
    struct mr_list riding;  /* or for the one under way. */
    /* Renewals. */
    uint64_t renewed_ms; /* The node's lease was asked for. */
    bool is_renewing;
    bool wants_renewal;
    struct server_list due;        /* Checks to renew next, */
    struct server_list asked;      /* and being renewed. */
    struct mr_list renewing;       /* struct sync_waiter of due, */
    struct mr_list renewing_asked; /* and of asked. */
    /* After a start. */
    uint64_t start_revision;
    struct server_list heard; /* Checks renewed since, until compared. */
};

/* ---- sync_call.c ---- */

/* A request to @path with our node and its ID as parameters, or NULL. */
struct sync_call *sync_call_new(struct server_sync *sync, const char *method,
                                const char *path);

/* Send @call, which is taken; answered is called later. False: it will not. */
MR_MUST_CHECK bool sync_call_send(struct sync_call *call, uint64_t timeout_ms);

/* Hand out the answers that came; @is_ending: and tell nobody. */
void sync_calls_answer(struct server_sync *sync, bool is_ending);

/* What a call that was not answered 200 says; for the log. Borrowed. */
const char *sync_call_error(const struct sync_call *call,
                            struct mr_detail *out);

/* Whether the server did what it was asked. */
static inline bool sync_call_ok(const struct sync_call *call)
{
    return call->err == MR_OK && call->forward.status == 200;
}

/* ---- sync_renew.c ---- */

/* Take the renewals that clients asked for to the store's leases. */
void sync_renewals_take(struct server_sync *sync);

/* Pass on what is due: the node's lease and those of checks. */
void sync_renewals_run(struct server_sync *sync, uint64_t now_ms);

/* The lease of this check was renewed by other means than a renewal. */
void sync_renewal_due(struct server_sync *sync, const char *check_id);

/* Tell the clients that wait, whatever holds. */
void sync_renewals_end(struct server_sync *sync);

/* ---- sync_adopt.c ---- */

/* After a comparison: have the store take the cluster's word where that counts.
 * n_adopting falls to 0 again when that is done, and agent->wakeup is sent.
 * @before is what the cluster was known to have. */
void sync_adopt(struct server_sync *sync, const struct sync_rows *before);

/* ---- sync.c ---- */

/* The server said that our node is unknown. */
void sync_unknown(struct server_sync *sync);

/* A check's row has to be pushed again: the cluster ended its lease. */
void sync_check_lost(struct server_sync *sync, const char *check_id);

/* Have @waiter told when the next round is over. */
void sync_wait(struct server_sync *sync, struct sync_waiter *waiter);

/* Tell @waiter's client that it is done. */
void sync_waiter_end(struct sync_waiter *waiter);

/* Log that the node is refused, once; "": it is not any more. */
void sync_note(struct server_sync *sync, const char *text);

/* Now, in milliseconds. */
static inline uint64_t sync_now(void)
{
    return mr_now_ms(SERVER_CLOCK);
}

#endif /* MR_SERVER_SYNC_IMPL_H */
