/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history behind kv/mr_kv_history.h: moments, one a revision, in two rings.
 *
 * A moment is one piece of memory that never changes, shared by reference count,
 * so readers decode without a lock. Its events are packed one after the other: a
 * struct kv_event_head, the status before, the object.
 *
 *   KEY       u32 length, key, packed Key without its key
 *   NODE      packed Node
 *   CHECK     packed Check
 *   NAME      packed Service with name, tags and the instances as its port
 *   INSTANCE  [Node and Service before, ]Node, Service, Checks, each packed
 *             behind its u32 length
 */
#ifndef MR_KV_HISTORY_INTERNAL_H
#define MR_KV_HISTORY_INTERNAL_H

#include <pthread.h>

#include "base/buf.h"
#include "kv/mr_kv_history.h"

struct kv_event_head {
    uint32_t len;    /* Of what follows the head. */
    uint8_t object;  /* enum mr_kv_object */
    uint8_t action;  /* enum mr_kv_action */
    uint8_t was_len; /* Of the status before, the first of what follows. */
    bool has_before; /* INSTANCE: node and service before come first. */
    uint64_t name;   /* Hash of the lower name of the node or service. */
};

struct kv_moment; /* What one revision changed. */

enum kv_history_part { KV_HISTORY_KEYS, KV_HISTORY_CATALOG, KV_HISTORY_PARTS };

struct kv_ring {
    struct kv_moment **moments; /* Circular. */
    size_t cap;
    size_t head;
    size_t n;
    size_t bytes;
    uint64_t floor; /* Revisions up to it are forgotten. */
};

struct kv_history {
    pthread_mutex_t lock; /* Over all that follows. */
    size_t max_bytes;     /* A ring. */
    uint64_t revision;    /* What is here is complete up to it. */
    struct kv_ring rings[KV_HISTORY_PARTS];
};

/* Make an empty history after @revision. */
void kv_history_init(struct kv_history *h, size_t max_bytes, uint64_t revision);

/* Release it. */
void kv_history_deinit(struct kv_history *h);

/* The changes of a batch until it is committed. Apply thread. */
struct kv_pending {
    struct mr_buf moments[KV_HISTORY_PARTS]; /* struct kv_moment *, owned. */
    bool is_lost; /* There was no memory: forget everything instead. */
};

/* Make it empty. */
void kv_pending_init(struct kv_pending *p);

/* Drop what it holds, and keep the memory for the next batch. */
void kv_pending_reset(struct kv_pending *p);

/* Release it. */
void kv_pending_deinit(struct kv_pending *p);

/* Add the packed @events of @revision, if there are any. */
void kv_pending_add(struct kv_pending *p, enum kv_history_part part,
                    struct mr_slice events, uint64_t revision);

/* Take over what @p holds, after which the history is complete up to
 * @revision. */
void kv_history_publish(struct kv_history *h, struct kv_pending *p,
                        uint64_t revision);

/* Forget everything up to @revision, at which the state was replaced. */
void kv_history_forget(struct kv_history *h, uint64_t revision);

/* The hash of a name (any case) for kv_event_head. */
uint64_t kv_event_name(struct mr_slice name);

/* What is kept now. Any thread. */
void kv_history_count(struct kv_history *h, uint64_t *out_bytes,
                      uint64_t *out_revisions);

#endif /* MR_KV_HISTORY_INTERNAL_H */
