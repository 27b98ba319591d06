/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: reads at one revision, kept for reuse.
 *
 * A pool belongs to one environment. A restore replaces the pool; views of the
 * old one stay valid, and whoever ends the last of them closes its environment.
 * Lock-free: a view that is free sits in a slot and is taken by exchange.
 */
#ifndef MR_KV_VIEW_H
#define MR_KV_VIEW_H

#include <stdatomic.h>

#include "kv/arena.h"
#include "kv/mr_kv.h"
#include "kv/store.h"

struct kv_meta;
struct kv_local;

#define KV_POOL_SLOTS 64

/* Counters of the last transactions, so that a view need not look them up. */
#define KV_RECENT 8
#define KV_RECENT_WORDS 20 /* Of struct kv_meta, and two more. */

struct kv_recent {
    atomic_uint_fast64_t tx_id; /* 0: being written. */
    atomic_uint_fast64_t words[KV_RECENT_WORDS];
};

struct kv_pool {
    struct kv_pool *next; /* In mr_kv.old_pools. */
    struct kv_env *env;
    atomic_uint active;     /* Views begun and not ended, and begins being
                               tried. */
    atomic_bool is_retired; /* No view begins any more. */
    atomic_bool is_closed;  /* Somebody closes, or has closed, env. */
    struct mr_kv_view *_Atomic slots[KV_POOL_SLOTS];
    struct kv_recent recent[KV_RECENT]; /* By transaction, modulo. */
};

/* A pool on @env, which it takes over. MR_E_NOMEM: @env is still the
 * caller's. */
MR_MUST_CHECK enum mr_err kv_pool_new(struct kv_env *env,
                                      struct kv_pool **out_pool);

/* Make @pool the last one's successor: the environment is closed once no view
 * is open. The memory stays, for begins that still look at it. */
void kv_pool_retire(struct kv_pool *pool);

/* Release the memory of a pool without open views, and its environment unless
 * it is closed already. NULL is a no-op. */
void kv_pool_free(struct kv_pool *pool);

/* Note what views of the transaction @tx_id will show. Apply thread, before the
 * commit. */
void kv_pool_note(struct kv_pool *pool, uint64_t tx_id,
                  const struct kv_meta *meta, const struct kv_local *local);

/* The view's transaction, arena and counters. */
struct kv_tx *kv_view_tx(struct mr_kv_view *view);
/* As kv_view_tx(). */
struct kv_arena *kv_view_arena(struct mr_kv_view *view);
/* As kv_view_tx(). */
const struct kv_meta *kv_view_meta(const struct mr_kv_view *view);

/* The environment that @view reads, open as long as the view is. */
struct kv_env *kv_view_env(struct mr_kv_view *view);

/* MR_OK, or what went wrong in @view since it began. */
MR_MUST_CHECK enum mr_err kv_view_error(struct mr_kv_view *view);

#endif /* MR_KV_VIEW_H */
