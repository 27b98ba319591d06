/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history behind kv/mr_kv_history.h: what each revision changed, in
 * rings of pieces.
 *
 * A piece is one memory that never changes, shared by reference count, so
 * readers decode without a lock. It holds one moment after the other, a moment
 * being a struct kv_moment_head and the events of one revision: those of
 * deletions first. An event is a struct kv_event_head, the status before, and
 *
 *   KEY       the key's row
 *   NODE      the node's row
 *   CHECK     the rows of its node, of itself and, if it has one, its service
 *   NAME      a packed Service with name, tags and the instances as its port
 *   INSTANCE  [the rows of node and service before,] the rows of the node, of
 *             the service and of all checks, and the same of each twin
 *
 * Rows are stored as they lie in the tree and become objects when they are read:
 * who writes has no time for that, and mostly there is no reader.
 */
#ifndef MR_KV_HISTORY_INTERNAL_H
#define MR_KV_HISTORY_INTERNAL_H

#include <pthread.h>

#include "base/buf.h"
#include "kv/mr_kv_history.h"

struct kv_moment_head {
    uint64_t revision;
    uint64_t len; /* Of the events. */
};

struct kv_event_head {
    uint32_t len;    /* Of what follows the head. */
    uint8_t object;  /* enum mr_kv_object */
    uint8_t action;  /* enum mr_kv_action */
    uint8_t was_len; /* Of the status before, the first of what follows. */
    bool has_before; /* INSTANCE: node and service before come first. */
    uint64_t name;   /* Hash of the lower name of the node or service. */
};

/* In front of each row of an event, key and value behind it. */
struct kv_event_row_head {
    uint32_t value_len;
    uint32_t key_len;
};

#define KV_TWINS_MAX 8 /* Of an instance, in an event. */

struct kv_piece;

enum kv_history_part {
    KV_HISTORY_KEYS,
    KV_HISTORY_CATALOG,
    KV_HISTORY_NAMES, /* Of services: with all their tags they can be large. */
    KV_HISTORY_PARTS
};

struct kv_ring {
    struct kv_piece **pieces; /* Circular. */
    size_t cap;
    size_t head;
    size_t n;
    size_t bytes;
    uint64_t revisions;
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

/* One part of the changes of a batch. */
struct kv_pending_part {
    struct mr_buf moments; /* Of the piece that is being filled. */
    uint64_t n;            /* How many, */
    uint64_t last;         /* and the revision of the last. */
    size_t at;             /* Where the one that was begun is. */
    struct mr_buf pieces;  /* struct kv_piece *, owned; full ones. */
    size_t first;          /* Those before it were dropped. */
    size_t bytes;          /* Of those that were not. */
    uint64_t floor;        /* Revisions up to it are lost; 0: none. */
};

/* The changes of a batch until it is committed. Apply thread. */
struct kv_pending {
    size_t max_bytes; /* A part. */
    size_t piece_bytes;
    struct kv_pending_part parts[KV_HISTORY_PARTS];
};

/* Make it empty. It keeps what a ring of @max_bytes can keep. */
void kv_pending_init(struct kv_pending *p, size_t max_bytes);

/* Drop what it holds, and keep the memory for the next batch. */
void kv_pending_reset(struct kv_pending *p);

/* Release it. */
void kv_pending_deinit(struct kv_pending *p);

/* Begin a moment: all its events but deletions are appended to what this
 * returns. */
struct mr_buf *kv_pending_begin(struct kv_pending *p,
                                enum kv_history_part part);

/* It is that of @revision, and begins with @gone. */
void kv_pending_end(struct kv_pending *p, enum kv_history_part part,
                    struct mr_slice gone, uint64_t revision);

/* The events of @revision are not known: forget all up to it. */
void kv_pending_lose(struct kv_pending *p, enum kv_history_part part,
                     uint64_t revision);

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
