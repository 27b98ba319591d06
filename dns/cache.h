/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: record sets by name and type, each valid exactly until a topic it
 * rests on changes (guards of kv/mr_kv_watch.h).
 *
 * One per thread, so there are no locks. Bounded in entries and bytes; when it
 * is full, what is in the way is thrown out. Only positive answers belong in
 * it: then a flood of made-up names cannot push out real ones.
 */
#ifndef MR_DNS_CACHE_H
#define MR_DNS_CACHE_H

#include "dns/answer.h"
#include "dns/set.h"
#include "kv/mr_kv_watch.h"

/* Guards of one entry; an answer that rests on more topics is not kept. */
#define DNS_CACHE_GUARDS_MAX 4

struct dns_cache; /* One per thread. */

/* Make an empty cache over @kv; NULL when memory is short. */
struct dns_cache *dns_cache_new(struct mr_kv *kv);

/* Release the cache and everything in it. NULL is a no-op. */
void dns_cache_free(struct dns_cache *c);

/* The set for the name and type of @query, valid until the next call on the
 * cache; NULL when there is none that still holds. */
struct dns_set *dns_cache_get(struct dns_cache *c,
                              const struct dns_query *query);

/* Keep *@set, built from a view of @revision and resting on @depends. On
 * success the set's contents belong to the cache (*@set is empty) and the
 * kept set is returned; else NULL and *@set is untouched. */
struct dns_set *dns_cache_put(struct dns_cache *c,
                              const struct dns_query *query,
                              struct dns_set *set,
                              const struct dns_depends *depends,
                              uint64_t revision);

/* Entries and bytes held. */
size_t dns_cache_entries(const struct dns_cache *c);
/* As dns_cache_entries(). */
size_t dns_cache_bytes(const struct dns_cache *c);

#endif /* MR_DNS_CACHE_H */
