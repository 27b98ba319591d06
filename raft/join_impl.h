/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of joining, for join.c and join_address.c alone. */
#ifndef RAFT_JOIN_IMPL_H
#define RAFT_JOIN_IMPL_H

#include "base/list.h"
#include "raft/join.h"

#define JOIN_SLOWEST_MS 5000 /* Between tries while we are in no cluster. */

struct join {
    struct join_options options;
    uv_timer_t timer;
    unsigned n_handles; /* Timer and running resolutions. */
    bool is_closing;
    bool has_failed_said;
    uint64_t cluster_id;
    struct join_server servers[FRAME_SERVERS_MAX];
    uint64_t seen_ms[FRAME_SERVERS_MAX];
    size_t n_servers;
    struct mr_list targets;
    size_t n_targets;
    /* The promise given last, and the one being proposed. */
    bool has_promise;
    bool is_stored;     /* It is on the disk. */
    uint64_t answer_to; /* Who waits for the promise to be stored; 0: none. */
    struct frame_promise promise;
    bool is_proposing;
    bool has_said[FRAME_SERVERS_MAX]; /* By place in promise.servers. */
    uint64_t asked_ms;
    uint64_t asked_no_ms; /* A refusal was logged. */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* join_address.c: add an address to try for ever. False: no memory. */
bool join_targets_add(struct join *j, const char *address);

/* join_address.c: try the configured addresses whose time has come (@looking),
 * and end tries on demand that have had no answer. */
void join_targets_try(struct join *j, uint64_t now, bool looking);

/* join_address.c: end all tries; resolutions still have to come back. */
void join_targets_stop(struct join *j);

/* join_address.c: release all addresses. */
void join_targets_free(struct join *j);

/* join.c: a handle or a resolution of a closing join is gone. */
void join_handle_gone(struct join *j);

#endif /* RAFT_JOIN_IMPL_H */
