/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store tells others while it applies: leases that came and went, and
 * what happened to registrations. Part of kv/mr_kv.h.
 */
#ifndef MR_KV_HOOKS_H
#define MR_KV_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/schema.pb-c.h"

/* A lease that a batch made or ended, as mr_kv_hooks tells it. */
struct mr_kv_lease_change {
    uint64_t id;
    uint64_t ttl_ms;
    bool is_new; /* false: it is gone. */
    /* Of a new one: leases with one place belong to rows that lie together. To
     * end thousands in the order of their places costs a fifth. */
    uint64_t place;
};

/* Something that happened to a registration, for `microreg why`. Texts are
 * borrowed for the call, never NULL. What goes with something else (the checks
 * of a service, the services of a node) is told as well, before it. */
struct mr_kv_event {
    enum mr_kv_event_kind {
        MR_KV_EVENT_REGISTERED,   /* New. */
        MR_KV_EVENT_CHANGED,      /* Registered again, with other content. */
        MR_KV_EVENT_DEREGISTERED, /* By a command of a client. */
        MR_KV_EVENT_STATUS,       /* A check's status changed. */
        MR_KV_EVENT_ENDED         /* By the end of a lease. */
    } kind;
    enum mr_kv_subject {
        MR_KV_SUBJECT_NODE,
        MR_KV_SUBJECT_SERVICE,
        MR_KV_SUBJECT_CHECK,
        MR_KV_SUBJECT_SESSION
    } subject;
    const char *node;
    const char *id;      /* Service, check or session ID; "" for a node. */
    const char *service; /* A service's name, or that of a check's service. */
    const char *service_id; /* Of a check's service, else "" or NULL. */
    const char *status;     /* Of a check now, else "". */
    const char *by;         /* Command.by: who asked for it. */
    uint64_t time_ms;       /* Command.time_ms. */
    uint64_t revision;
    /* MR_KV_EVENT_ENDED, and what followed from it: */
    Mr__LeaseKind lease_kind;
    uint64_t lease_id;
    uint64_t ttl_ms;
    uint64_t silent_ms;
    const uint32_t *gaps_ms; /* Newest first. */
    size_t n_gaps;
    const char *leader;
    uint64_t term;
};

/* Told by the apply thread; they must only hand over. NULL: not told. */
struct mr_kv_hooks {
    void *arg;
    /* Leases came or went with the batch that was just committed, in order: one
     * may come and go. Those that an opened store has already are not told;
     * ask mr_kv_lease_list(). */
    void (*leases)(void *arg, const struct mr_kv_lease_change *changes,
                   size_t n);
    /* All leases are others now: the state was replaced by a snapshot. What it
     * has is told by calls of leases() right after. */
    void (*leases_reset)(void *arg);
    /* One event of a command just applied; its batch is not visible yet. */
    void (*event)(void *arg, const struct mr_kv_event *event);
};

#endif /* MR_KV_HOOKS_H */
