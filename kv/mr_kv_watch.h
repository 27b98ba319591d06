/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watch hub: who waits for which part of the state.
 *
 * A change wakes the waiters of its topics and nobody else. The protocol
 * loses nothing: a reader answers from a view, and then waits naming that
 * view's revision; if any batch was announced since, the wait fires at once
 * and the reader looks again.
 *
 * Two kinds of waiters:
 *  - a wait fires once, after the batch is visible: for blocking queries;
 *  - a guard turns stale once, before the batch becomes visible: for caches of
 *    rendered answers. An answer under a guard that is not stale is current.
 *
 * Locking: one mutex over the tables, never held across a callback that the
 * owner could block in; callbacks run on the apply thread (or on the thread
 * that calls mr_kv_wait(), never from inside it) and must only hand over.
 */
#ifndef MR_KV_WATCH_H
#define MR_KV_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"
#include "kv/mr_kv.h"

enum mr_kv_topic_kind {
    MR_KV_TOPIC_KEY,      /* name: the key. */
    MR_KV_TOPIC_PREFIX,   /* name: the byte prefix; "" is every key. */
    MR_KV_TOPIC_NODES,    /* The list of nodes. No name. */
    MR_KV_TOPIC_NODE,     /* name: a node; its row, services and checks. */
    MR_KV_TOPIC_SERVICES, /* The list of service names. No name. */
    MR_KV_TOPIC_SERVICE,  /* name: a service; its instances, their checks and
                             nodes. */
    MR_KV_TOPIC_CHECKS,   /* Every check. No name. */
    MR_KV_TOPIC_SESSIONS, /* Every session. No name. */
    MR_KV_TOPIC_CATALOG   /* Every node, instance and check. No name. */
};

struct mr_kv_topic {
    enum mr_kv_topic_kind kind;
    struct mr_slice
        name; /* Borrowed for the call; matched as the queries do. */
};

struct mr_kv_waiter;
typedef void (*mr_kv_wake_cb)(struct mr_kv_waiter *waiter);

/* Embedded by the owner; all fields but wake are the hub's. */
struct mr_kv_waiter {
    mr_kv_wake_cb wake;  /* Set by the owner. */
    struct mr_list link; /* In the topic's list while parked. */
    void *topic;
    uint64_t quiet;
};

/* Park @waiter until @topic changes. The view it was answered from had
 * @revision. The owner keeps *@waiter until it fired or was cancelled. A
 * waiter that need not wait is told by MR_E_EXISTS: it is not parked, wake will
 * not be called, look again. Any thread.
 *
 * MR_E_NOMEM. MR_E_BUSY: the hub's bound on waiters is reached. */
MR_MUST_CHECK enum mr_err mr_kv_wait(struct mr_kv *kv,
                                     struct mr_kv_waiter *waiter,
                                     const struct mr_kv_topic *topic,
                                     uint64_t revision);

/* Take @waiter back. true: it was parked and wake will not be called any more.
 * false: it has fired, or is firing right now. Any thread. */
bool mr_kv_wait_cancel(struct mr_kv *kv, struct mr_kv_waiter *waiter);

/* Up to which revision nothing of its topic has changed since @waiter was
 * parked, which it must have been: it grows until it fires. So who reads the
 * history when it fires need not read, nor find, what came before. Any thread. */
uint64_t mr_kv_wait_quiet(struct mr_kv *kv, const struct mr_kv_waiter *waiter);

/* A guard; reference-counted by the hub and its owner, because both may be the
 * last to let go. */
struct mr_kv_guard;

/* A guard of @topic for an answer rendered from a view of @revision; NULL when
 * the answer is outdated already or memory is short: do not cache it then. Any
 * thread. */
struct mr_kv_guard *mr_kv_guard_new(struct mr_kv *kv,
                                    const struct mr_kv_topic *topic,
                                    uint64_t revision);

/* Whether what the guard protects has changed. One atomic load; any thread. */
bool mr_kv_guard_stale(const struct mr_kv_guard *guard);

/* Let go of a guard; NULL is a no-op. Any thread. */
void mr_kv_guard_free(struct mr_kv *kv, struct mr_kv_guard *guard);

#endif /* MR_KV_WATCH_H */
