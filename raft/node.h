/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node: one server. It binds the driver to the loop, the log thread, the apply
 * thread, the snapshots and the transport. This header is for the files node*.c
 * alone.
 *
 * A round is what happens between two waits of the loop: the first event of a
 * round ticks the driver, every event goes in as it comes, and before the loop
 * waits again the driver is flushed, the transport writes what was collected
 * and the status is published.
 */
#ifndef RAFT_NODE_H
#define RAFT_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <uv.h>

#include "base/list.h"
#include "base/queue.h"
#include "raft/apply.h"
#include "raft/driver.h"
#include "raft/join.h"
#include "raft/log.h"
#include "raft/mr_raft.h"
#include "raft/transport.h"

#define NODE_DIR_MAX 3000
#define NODE_TEXTS_MAX 8

/* Something that another thread wants the core thread to run. */
struct node_event {
    struct mr_list link;
    void (*run)(struct mr_raft *n, struct node_event *event);
};

/* What getters on other threads read, under its lock. */
struct node_public {
    pthread_mutex_t lock;
    struct mr_raft_status status; /* last_contact_ms is not filled in. */
    uint64_t leader_seen_ms;
    struct mr_raft_stats stats;
    struct mr_raft_peer *peers; /* last_contact_ms: when it was last heard. */
    size_t n_peers;
    size_t cap_peers;
};

struct mr_raft {
    uv_loop_t *loop;
    struct mr_raft_options options; /* Its texts are in texts and join. */
    char *texts[NODE_TEXTS_MAX];
    size_t n_texts;
    char **join_texts;
    char dir[NODE_DIR_MAX];
    char snapshot_dir[NODE_DIR_MAX + 16];
    char address[MR_HOST_MAX + 8]; /* host:port advertised. */
    uint64_t id;
    struct frame_server self;
    uint64_t cluster_id;
    uint64_t incarnation; /* Greater in every start. */

    struct raftlog *log;
    struct apply *apply;
    struct driver *driver;
    struct transport *transport;
    struct join *join;

    uv_async_t wake;
    uv_timer_t timer;
    uv_prepare_t prepare;
    bool has_loop;      /* The handles were made. */
    unsigned n_handles; /* Open ones, transport and join among them. */

    bool in_round;
    bool has_changed;     /* on_change is due at the end of the round. */
    bool was_ready;       /* At the end of the last round. */
    bool peers_changed;   /* The published peers are out of date. */
    uint64_t now_ms;      /* Of the round. */
    uint64_t deadline_ms; /* What the driver asked for. */
    uint64_t timer_ms;    /* What the timer is set to; 0: not. */

    struct mr_queue proposals;
    struct mr_queue reads;
    struct mr_queue ended;  /* struct raftlog_req. */
    struct mr_queue events; /* struct node_event. */
    uint64_t done_ticket;   /* The last that the driver was told. */
    _Atomic bool is_full;   /* Said by the log thread, and */
    bool said_full;         /* what the driver was told. */
    uint64_t said_applied;
    _Atomic bool wants_applied; /* The apply thread must wake us. */

    uint64_t last_file;              /* The highest snapshot name used. */
    uint64_t file;                   /* The snapshot in force; 0: none. */
    struct driver_snapshot snapshot; /* What it stands for. */
    char *conf;                      /* Behind snapshot.conf. */
    struct node_take *take;          /* The running snapshot job, or NULL. */
    struct mr_list transfers;

    /* Membership. */
    bool was_member;      /* In this process. */
    uint64_t conf_index;  /* Of the configuration that was looked at last. */
    uint64_t leader_id;   /* Last logged. */
    uint64_t leader_hint; /* Whom to ask to be added. */
    unsigned n_asked;
    uint64_t asked_ms;
    uint64_t removed_ms; /* A server was removed. */
    uint64_t leads_ms;   /* Since when we lead; 0: we do not. */
    uint64_t looked_ms;  /* For silent servers. */

    _Atomic uint64_t lease_until_ms;
    _Atomic uint64_t commit_index; /* Set before the others can learn it. */
    _Atomic bool is_closing;
    struct node_public public;

    void (*closed)(void *arg);
    void *closed_arg;
};

/* node.c: the begin of a round; every event from outside starts with it. */
void node_begin(struct mr_raft *n);

/* node.c: have the core thread run @event. A server that closes does not: its
 * core thread looks after what the event is part of. Any thread. */
void node_post(struct mr_raft *n, struct node_event *event);

/* As node_post(), but says whether @event will run. */
bool node_try_post(struct mr_raft *n, struct node_event *event);

/* node.c: run the events that were posted. */
void node_run_events(struct mr_raft *n);

/* node_net.c: what we say of ourselves. */
void node_fill_hello(struct mr_raft *n, struct frame_hello *out);

/* node.c: tell the owner that this server cannot go on. Any thread. */
void node_fatal(void *arg, enum mr_err err, const char *why);

/* node.c: start the apply thread at said_applied. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err node_start_apply(struct mr_raft *n);

/* node_io.c: the driver's functions, bound to @n. */
struct driver_io node_driver_io(struct mr_raft *n);

/* node_io.c: what the disk holds, into a new driver. Errors as driver_new(). */
MR_MUST_CHECK enum mr_err node_start_driver(struct mr_raft *n,
                                            struct mr_detail *detail);

/* node_io.c: hand the ended log requests to whom they belong. */
void node_take_ended(struct mr_raft *n);

/* node_io.c: end the snapshot job, if one runs. */
void node_stop_take(struct mr_raft *n);

/* node_net.c: listen on the peer port. Errors as transport_open(). */
MR_MUST_CHECK enum mr_err node_listen(struct mr_raft *n,
                                      struct mr_detail *detail);

/* node_net.c: look for the others, or begin alone. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err node_join(struct mr_raft *n);

/* node_net.c: dial the servers of a new configuration. */
void node_members_changed(struct mr_raft *n);

/* node_net.c: send @msg, or drop it. */
void node_send(struct mr_raft *n, uint64_t peer,
               const struct driver_message *msg);

/* node_transfer.c: receive a snapshot over @fd, which it owns. */
void node_receive_snapshot(void *arg, uint64_t peer, int fd);

/* node_transfer.c: send the snapshot in force to @peer. */
void node_send_snapshot(struct mr_raft *n, uint64_t peer, uint64_t term);

/* node_transfer.c: end all transfers and wait for their threads. */
void node_stop_transfers(struct mr_raft *n);

/* node_public.c: make and release what getters read. MR_E_NOMEM. */
void node_public_init(struct node_public *p);
/* See node_public_init(). */
void node_public_deinit(struct node_public *p);

/* node_public.c: publish the driver's state. */
void node_publish(struct mr_raft *n);

#endif /* RAFT_NODE_H */
