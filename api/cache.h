/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rendered answers of hot reads, shared by the workers: by path, query and what
 * else decides the bytes. An entry holds a guard of the topic it depends on and
 * is valid until the guard turns stale, so a hit is as fresh as an evaluation.
 * What is asked for once is not kept.
 *
 * Locking: a mutex a shard, held for the table's pointers only; entries are
 * reference-counted.
 */
#ifndef API_CACHE_H
#define API_CACHE_H

#include "api/core.h"

struct api_cache;
struct api_cached;

/* An empty cache of at most @max_bytes over @kv, which outlives it. NULL: no
 * memory. */
struct api_cache *api_cache_new(struct mr_kv *kv, size_t max_bytes);

/* Release the cache. NULL is a no-op. */
void api_cache_free(struct api_cache *cache);

/* Answer the read @x from the cache: x->cached is the answer (a reference for
 * api_cached_release()), or, when its headers do not fit, the reply has been
 * filled from it. False: it must be evaluated. */
bool api_cache_get(struct api_http *x);

/* Keep what was just rendered for @x from a view of @revision, if it is worth
 * it; x->cached may become the answer. */
void api_cache_put(struct api_http *x, uint64_t revision);

/* The ready answer, borrowed; its status in @out_status. */
struct MHD_Response *api_cached_response(const struct api_cached *cached,
                                         unsigned *out_status);

/* Let go of an entry. NULL is a no-op. */
void api_cached_release(struct api_cached *cached);

#endif /* API_CACHE_H */
