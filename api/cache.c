/* SPDX-License-Identifier: Apache-2.0 */
/* Rendered answers of hot reads: a sharded table with LRU eviction. */
#include "api/cache.h"

#include <pthread.h>
#include <string.h>

#include "api/response.h"
#include "api/silence.h"
#include "base/hash.h"
#include "base/mem.h"

#define N_SHARDS 4
#define N_BUCKETS 512 /* A shard. */
#define N_SEEN 1024   /* A shard. */

/* What an entry costs beside its texts: itself, the guard, the response. */
#define ENTRY_COST 1024

struct api_cached {
    struct mr_list by_key; /* In the bucket; protected by the shard. */
    struct mr_list by_age; /* In the shard's list, oldest first. */
    struct api_cache *cache;
    atomic_int refs;
    uint64_t hash;
    struct mr_kv_guard *guard;
    struct MHD_Response *response;
    struct mr_slice body; /* Lives as long as the response. */
    uint64_t index;
    uint64_t digest;       /* api_answer_digest(). */
    bool has_coarse_index; /* api_has_coarse_index(). */
    unsigned status;
    const char *type;
    size_t cost;
    struct api_topic topic; /* Its name stands behind the key. */
    size_t key_len;
    uint8_t key[];
};

struct shard {
    pthread_mutex_t lock;
    struct mr_list buckets[N_BUCKETS];
    struct mr_list by_age;
    size_t bytes;
    /* Hashes of what was asked for lately; no lock needed for a hint. */
    atomic_uint seen[N_SEEN];
};

struct api_cache {
    struct mr_kv *kv;
    size_t max_shard_bytes;
    struct shard shards[N_SHARDS];
};

struct api_cache *api_cache_new(struct mr_kv *kv, size_t max_bytes)
{
    struct api_cache *cache = mr_calloc(1, sizeof *cache);

    if (cache == NULL) {
        return NULL;
    }
    cache->kv = kv;
    cache->max_shard_bytes = max_bytes / N_SHARDS;
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct shard *s = &cache->shards[i];

        pthread_mutex_init(&s->lock, NULL);
        mr_list_init(&s->by_age);
        for (size_t b = 0; b < N_BUCKETS; b++) {
            mr_list_init(&s->buckets[b]);
        }
    }
    return cache;
}

static struct shard *shard_of(struct api_cache *cache, uint64_t hash)
{
    return &cache->shards[hash % N_SHARDS];
}

static struct mr_list *bucket_of(struct shard *s, uint64_t hash)
{
    return &s->buckets[hash / N_SHARDS % N_BUCKETS];
}

void api_cached_release(struct api_cached *cached)
{
    if (cached == NULL || atomic_fetch_sub(&cached->refs, 1) != 1) {
        return;
    }
    mr_kv_guard_free(cached->cache->kv, cached->guard);
    api_response_release(cached->response);
    mr_free(cached);
}

/* Take the entry out of the tables. The caller holds the shard's lock and gets
 * the tables' reference. */
static void unlink_entry(struct shard *s, struct api_cached *e)
{
    mr_list_remove(&e->by_key);
    mr_list_remove(&e->by_age);
    s->bytes -= e->cost;
}

void api_cache_free(struct api_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct shard *s = &cache->shards[i];

        while (!mr_list_empty(&s->by_age)) {
            struct api_cached *e =
                mr_container_of(s->by_age.next, struct api_cached, by_age);

            unlink_entry(s, e);
            api_cached_release(e);
        }
        pthread_mutex_destroy(&s->lock);
    }
    mr_free(cache);
}

/* ------------------------------------------------------------- the key */

/* Parameters that do not alter what is rendered. */
static bool is_neutral(const char *name)
{
    static const char *const names[] = {"index",  "wait",       "stale",
                                        "cached", "consistent", "token",
                                        "dc",     "max_stale"};

    for (size_t i = 0; i < MR_ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Everything that decides the bytes of the answer. The buffer is the worker's
 * and stays small. */
static struct mr_slice key_of(const struct api_http *x)
{
    static _Thread_local struct {
        struct mr_buf buf;
        uint8_t bytes[512];
    } key;
    const struct api_request *req = &x->req;
    uint8_t flags =
        (uint8_t)((unsigned)req->mode << 2 | (req->pretty ? 2u : 0) |
                  (x->accepts_gzip ? 1u : 0));

    /* Never grows: the limit makes a long key fail, which is not cached. */
    key.buf = (struct mr_buf){key.bytes, 0, sizeof key.bytes, sizeof key.bytes,
                              false};
    mr_buf_byte(&key.buf, flags);
    mr_buf_add(&key.buf, req->path, x->path_len + 1);
    for (size_t i = 0; i < req->n_params; i++) {
        const struct api_param *p = &req->params[i];

        if (is_neutral(p->name)) {
            continue;
        }
        mr_buf_add(&key.buf, p->name, strlen(p->name) + 1);
        mr_buf_add(&key.buf, p->value, p->value_len + 1);
    }
    return key.buf.failed ? mr_slice(NULL, 0) : mr_buf_slice(&key.buf);
}

static bool is_cacheable(const struct api_http *x)
{
    return (x->req.route->flags & API_CACHE) != 0 && x->req.api->cache != NULL;
}

/* ------------------------------------------------------------- get */

/* The valid entry with the key, referenced, or NULL. A stale one is dropped. */
static struct api_cached *find(struct api_cache *cache, struct mr_slice key,
                               uint64_t hash)
{
    struct shard *s = shard_of(cache, hash);
    struct api_cached *found = NULL;
    struct api_cached *dropped = NULL;
    struct mr_list *at;

    pthread_mutex_lock(&s->lock);
    MR_LIST_FOREACH(at, bucket_of(s, hash))
    {
        struct api_cached *e = mr_container_of(at, struct api_cached, by_key);

        if (e->hash != hash || e->key_len != key.len ||
            memcmp(e->key, key.data, key.len) != 0) {
            continue;
        }
        if (mr_kv_guard_stale(e->guard)) {
            unlink_entry(s, e);
            dropped = e;
        } else {
            atomic_fetch_add(&e->refs, 1);
            found = e;
            if (s->by_age.prev != &e->by_age) {
                mr_list_remove(&e->by_age);
                mr_list_push(&s->by_age, &e->by_age);
            }
        }
        break;
    }
    pthread_mutex_unlock(&s->lock);
    api_cached_release(dropped);
    return found;
}

/* Whether the headers of a ready answer are right for @x. */
static bool has_common_headers(const struct api_http *x)
{
    return x->known_leader && x->last_contact_ms == 0 && !x->tells_cache;
}

/* Whether @x, a blocking query, is not answered with @e: it has to wait, or to
 * find out whether it has, which needs a view. */
static bool may_wait(const struct api_http *x, const struct api_cached *e)
{
    if (!api_is_news(x, e->index, e->digest)) {
        return true;
    }
    return e->has_coarse_index && x->req.min_index > 1 && !x->is_timed_out &&
           !x->knows_answer && api_nothing_changed(x, &e->topic, 0);
}

bool api_cache_get(struct api_http *x)
{
    struct api_request *req = &x->req;

    if (!is_cacheable(x)) {
        return false;
    }
    struct mr_slice key = key_of(x);

    if (key.len == 0) {
        return false;
    }
    struct api_cached *e = find(req->api->cache, key, mr_hash64(key, 0));

    if (e == NULL) {
        return false;
    }
    if (may_wait(x, e)) {
        api_cached_release(e);
        return false;
    }
    atomic_fetch_add_explicit(&req->api->cache_hits, 1, memory_order_relaxed);
    if (has_common_headers(x)) {
        x->cached = e;
        return true;
    }
    api_reply_reset(req);
    req->reply.status = e->status;
    req->reply.type = e->type;
    req->reply.index = e->index;
    req->reply.is_encoded = true;
    if (x->tells_cache) {
        api_reply_header(req, "X-Cache", "HIT");
        api_reply_header(req, "Age", "0"); /* It is current. */
    }
    mr_buf_add(api_out(), e->body.data, e->body.len);
    api_cached_release(e);
    return true;
}

struct MHD_Response *api_cached_response(const struct api_cached *cached,
                                         unsigned *out_status)
{
    *out_status = cached->status;
    return cached->response;
}

/* ------------------------------------------------------------- put */

/* Whether the key was asked for before, as far as is remembered. */
static bool asked_before(struct shard *s, uint64_t hash)
{
    atomic_uint *at = &s->seen[hash / N_SHARDS % N_SEEN];
    unsigned mark = (unsigned)(hash >> 32) | 1;

    if (atomic_load_explicit(at, memory_order_relaxed) == mark) {
        return true;
    }
    atomic_store_explicit(at, mark, memory_order_relaxed);
    return false;
}

/* An entry of what was rendered, with one reference for the caller. */
static struct api_cached *entry_new(struct api_http *x, struct mr_slice key,
                                    uint64_t hash, uint64_t revision)
{
    struct api_cache *cache = x->req.api->cache;
    struct mr_kv_topic topic = {x->topic.kind,
                                mr_slice(x->topic.name, x->topic.name_len)};
    size_t name_size = x->topic.name_len + 1; /* With its NUL. */
    struct api_cached *e = mr_calloc(1, sizeof *e + key.len + name_size);

    if (e == NULL) {
        return NULL;
    }
    e->guard = mr_kv_guard_new(cache->kv, &topic, revision);
    e->response = e->guard == NULL ? NULL : api_response_make(x, &e->body);
    if (e->response == NULL) {
        mr_kv_guard_free(cache->kv, e->guard);
        mr_free(e);
        return NULL;
    }
    e->cache = cache;
    atomic_init(&e->refs, 1);
    e->hash = hash;
    e->index = x->req.reply.index;
    e->digest = api_answer_digest(x);
    e->has_coarse_index = api_has_coarse_index(x);
    e->status = x->req.reply.status;
    e->type = x->req.reply.type;
    e->cost = ENTRY_COST + key.len + name_size + e->body.len;
    e->key_len = key.len;
    memcpy(e->key, key.data, key.len);
    e->topic = x->topic;
    e->topic.name = memcpy(e->key + key.len, x->topic.name, name_size);
    return e;
}

/* Insert @e with a reference of the table's, evicting the oldest. */
static void insert(struct api_cache *cache, struct api_cached *e)
{
    struct shard *s = shard_of(cache, e->hash);
    struct mr_list evicted;

    mr_list_init(&evicted);
    atomic_fetch_add(&e->refs, 1);
    pthread_mutex_lock(&s->lock);
    mr_list_push(bucket_of(s, e->hash), &e->by_key);
    mr_list_push(&s->by_age, &e->by_age);
    s->bytes += e->cost;
    while (s->bytes > cache->max_shard_bytes) {
        struct api_cached *oldest =
            mr_container_of(s->by_age.next, struct api_cached, by_age);

        unlink_entry(s, oldest);
        mr_list_push(&evicted, &oldest->by_age);
    }
    pthread_mutex_unlock(&s->lock);
    while (!mr_list_empty(&evicted)) {
        api_cached_release(
            mr_container_of(mr_list_pop(&evicted), struct api_cached, by_age));
    }
}

/* Make an entry whose headers are those of a leader's answer, which fit nearly
 * everybody; the others take its body only. */
static struct api_cached *entry_for_all(struct api_http *x, struct mr_slice key,
                                        uint64_t hash, uint64_t revision)
{
    bool known_leader = x->known_leader;
    uint64_t last_contact_ms = x->last_contact_ms;

    x->known_leader = true;
    x->last_contact_ms = 0;
    struct api_cached *e = entry_new(x, key, hash, revision);

    x->known_leader = known_leader;
    x->last_contact_ms = last_contact_ms;
    return e;
}

/* Whether what was rendered may be kept, and is likely to be asked for again. */
static bool is_worth_keeping(const struct api_http *x, struct mr_slice key,
                             uint64_t hash)
{
    const struct api_reply *reply = &x->req.reply;
    struct api_cache *cache = x->req.api->cache;

    return key.len > 0 && !reply->no_cache && reply->n_headers == 0 &&
           x->topic.is_set &&
           api_out()->len + ENTRY_COST * 2 <= cache->max_shard_bytes &&
           (x->tells_cache || asked_before(shard_of(cache, hash), hash));
}

void api_cache_put(struct api_http *x, uint64_t revision)
{
    if (!is_cacheable(x)) {
        return;
    }
    struct mr_slice key = key_of(x);
    uint64_t hash = mr_hash64(key, 0);
    struct api_cached *e = is_worth_keeping(x, key, hash)
                               ? entry_for_all(x, key, hash, revision)
                               : NULL;

    if (e != NULL) {
        insert(x->req.api->cache, e);
    }
    if (x->tells_cache) {
        api_reply_header(&x->req, "X-Cache", "MISS");
    }
    if (e != NULL && has_common_headers(x)) {
        x->cached = e;
    } else {
        api_cached_release(e);
    }
}
