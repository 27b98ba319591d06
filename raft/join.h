/* SPDX-License-Identifier: Apache-2.0 */
/*
 * join: how servers find each other, become a cluster, and stay found when
 * their addresses change. See join.c for the protocol.
 *
 * Threads: core only.
 */
#ifndef RAFT_JOIN_H
#define RAFT_JOIN_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "raft/frame.h"
#include "raft/mr_raft.h"
#include "raft/transport.h"

/* ------------------------------------------------------------- deciding */

/* Another server as we know it. */
struct join_server {
    struct frame_server s;
    uint64_t cluster_id; /* 0: in none. */
    uint32_t expect;
    bool is_up; /* Connected, so what we know is current. */
};

/* What a decision rests on. */
struct join_view {
    struct frame_server self;
    uint64_t cluster_id;
    uint32_t expect;
    const struct join_server *servers; /* The others. */
    size_t n_servers;
    const struct frame_promise *promise; /* The last one given; NULL: none. */
};

enum join_step {
    JOIN_WAIT,
    JOIN_ENTER,  /* A cluster exists: be added to it. */
    JOIN_BEGIN,  /* The promised cluster has begun: begin with its set. */
    JOIN_PROPOSE /* Ask the others to promise. */
};

struct join_decision {
    enum join_step step;
    uint64_t cluster_id;          /* Of ENTER and BEGIN. */
    struct frame_promise propose; /* servers and proposer of PROPOSE. */
};

/* What a server should do next. Pure. */
void join_decide(const struct join_view *view, struct join_decision *out);

/* Whether a server may promise @wanted, which @from asks of it; @reason says
 * why not. @is_up tells whether the proposer of the promise given before is
 * connected. Pure. */
bool join_may_promise(const struct join_view *view,
                      const struct frame_promise *wanted, uint64_t from,
                      char reason[FRAME_REASON_MAX + 1]);

/* ------------------------------------------------------------- doing */

struct join;

struct join_options {
    uv_loop_t *loop;
    struct transport *transport;
    const struct mr_clock *clock;
    const struct mr_random *random;
    struct frame_server self;
    uint32_t expect;
    const char *const *addresses; /* Borrowed. */
    size_t n_addresses;
    uint64_t interval_ms;
    bool must_succeed;
    void *arg;
    /* Store @promise durably, then call join_promise_stored(). */
    void (*store_promise)(void *arg, const struct frame_promise *promise);
    /* Store who is where. */
    void (*store_servers)(void *arg, const struct frame_server *servers,
                          size_t n);
    /* We belong to @cluster_id from now on, and must be added to it. */
    void (*enter)(void *arg, uint64_t cluster_id);
    /* We begin @promise->cluster_id with its servers. */
    void (*begin)(void *arg, const struct frame_promise *promise);
    /* Whether the server @id is in the configuration. */
    bool (*is_member)(void *arg, uint64_t id);
    /* None of the addresses has answered, and one must. */
    void (*failed)(void *arg);
    /* Ten times a second. */
    void (*tick)(void *arg);
};

/* Start to look for others. @promise (NULL: none) and @servers are what was
 * stored. Released with join_close(). MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err join_open(const struct join_options *o,
                                    uint64_t cluster_id,
                                    const struct frame_promise *promise,
                                    const struct frame_server *servers,
                                    size_t n_servers, struct join **out_join);

/* Stop; @closed is called later, once, and the join is gone then. */
void join_close(struct join *j, void (*closed)(void *arg), void *arg);

/* Fill in what we tell others of ourselves. */
void join_fill_hello(const struct join *j, struct frame_hello *out);

/* Events of the transport. */
void join_hello(struct join *j, const struct frame_hello *hello);
/* See join_hello(). */
void join_gossip(struct join *j, uint64_t peer, const struct frame_gossip *g);
/* See join_hello(). */
void join_promise(struct join *j, uint64_t peer, const struct frame *f);
/* See join_hello(). */
void join_up(struct join *j, uint64_t peer);
/* See join_hello(). */
void join_down(struct join *j, uint64_t peer);
/* See join_hello(). */
void join_probed(struct join *j, const char *address, enum mr_err err,
                 enum frame_refusal refusal);

/* The promise is on the disk. */
void join_promise_stored(struct join *j, uint64_t cluster_id);

/* The configuration has changed. */
void join_members_changed(struct join *j);

/* Try @address now; @cb tells what came of it. */
void join_try(struct join *j, const char *address, mr_raft_change_cb cb,
              void *arg);

/* What is known of the server @id, borrowed; NULL: nothing. */
const struct join_server *join_find(const struct join *j, uint64_t id);

/* A connected server of our cluster, another one for another @turn; 0: none. */
uint64_t join_any_member(const struct join *j, unsigned turn);

/* A server of the configuration that @newcomer replaces: it has the same node
 * ID, or the same name and address, and is not connected. 0: none. */
uint64_t join_replaced(const struct join *j, uint64_t newcomer);

#endif /* RAFT_JOIN_H */
