/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watch hub.
 *
 * Happy path of a waiter:
 *  - a reader answers from a view of revision R and calls mr_kv_wait(R): no
 *    change of the topic after R is known, so it is parked in the topic;
 *  - the apply thread announces a batch that touched the topic: the waiter
 *    moves to the firing list;
 *  - the batch is committed and published: wake is called, without the lock.
 *
 * What could be lost, and is not:
 *  - the topic changed between the view and mr_kv_wait(): changed[] says so;
 *    visible already: MR_E_EXISTS; only announced: straight to the firing list;
 *  - a guard taken between announce and commit: changed[] says so, no guard;
 *  - two topics in one slot, or a prefix nobody watched before, look changed
 *    when they were not: the reader looks once more and waits again.
 *
 * Topics are known by a 64-bit hash of kind and name only; two that collide are
 * woken together.
 */
#include "kv/watch.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "kv/kv.h"

#define BUCKETS_MIN 64
#define NAME_MAX_HASHED 512
#define TOUCHED_BYTES_MAX ((size_t)1 << 20)

struct kv_hub_topic {
    struct kv_hub_topic *next; /* In its bucket. */
    uint64_t hash;
    int length_at; /* Prefix topics: index into lengths[], else -1. */
    struct mr_list waiters;
    struct mr_list guards;
};

struct mr_kv_guard {
    atomic_bool stale;
    struct mr_list link; /* In its topic's list until it is stale. */
    struct kv_hub_topic *topic;
};

/* ------------------------------------------------------------ names */

static uint64_t topic_hash(enum mr_kv_topic_kind kind, struct mr_slice name)
{
    uint8_t text[NAME_MAX_HASHED];
    size_t i;

    if (kind == MR_KV_TOPIC_KEY || kind == MR_KV_TOPIC_PREFIX) {
        return mr_hash64(name, (uint64_t)kind + 1);
    }
    if (name.len > sizeof text) {
        name.len = sizeof text; /* No row has such a name. */
    }
    for (i = 0; i < name.len; i++) {
        uint8_t c = ((const uint8_t *)name.data)[i];

        text[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
    }
    return mr_hash64(mr_slice(text, name.len), (uint64_t)kind + 1);
}

static uint64_t *slot_of(struct kv_hub *hub, uint64_t hash)
{
    return &hub->changed[hash & (KV_HUB_SLOTS - 1)];
}

/* ------------------------------------------------------------ touched */

void kv_touched_init(struct kv_touched *t)
{
    mr_buf_init(&t->hashes, TOUCHED_BYTES_MAX);
    mr_buf_init(&t->keys, TOUCHED_BYTES_MAX);
    t->nameless = 0;
    t->all = false;
}

void kv_touched_deinit(struct kv_touched *t)
{
    mr_buf_deinit(&t->hashes);
    mr_buf_deinit(&t->keys);
}

void kv_touched_reset(struct kv_touched *t)
{
    mr_buf_reset(&t->hashes);
    mr_buf_reset(&t->keys);
    t->nameless = 0;
    t->all = false;
}

/* Whether @hash was noted just before: what happens to one node or key mostly
 * happens in a row. */
static bool was_last(const struct kv_touched *t, uint64_t hash)
{
    size_t len = t->hashes.len;

    return len > 0 &&
           memcmp(t->hashes.data + len - sizeof hash, &hash, sizeof hash) == 0;
}

void kv_touch(struct kv_touched *t, enum mr_kv_topic_kind kind,
              struct mr_slice name)
{
    uint32_t len = (uint32_t)name.len;
    uint64_t hash;

    if (name.len == 0 && kind != MR_KV_TOPIC_KEY) {
        if ((t->nameless & (1u << kind)) != 0) {
            return;
        }
        t->nameless |= 1u << kind;
    }
    hash = topic_hash(kind, name);
    if (was_last(t, hash)) {
        return; /* Also of a key: then its prefixes are noted. */
    }
    mr_buf_add(&t->hashes, &hash, sizeof hash);
    if (kind == MR_KV_TOPIC_KEY) {
        len = len > KV_PREFIX_LENGTH_MAX ? KV_PREFIX_LENGTH_MAX : len;
        mr_buf_add(&t->keys, &len, sizeof len);
        mr_buf_add(&t->keys, name.data, len);
    }
    if (mr_buf_failed(&t->hashes) || mr_buf_failed(&t->keys)) {
        t->all = true;
    }
}

/* ------------------------------------------------------------ topics */

static void lock(struct kv_hub *hub)
{
    mr_assert(pthread_mutex_lock(&hub->lock) == 0);
}

static void unlock(struct kv_hub *hub)
{
    mr_assert(pthread_mutex_unlock(&hub->lock) == 0);
}

enum mr_err kv_hub_init(struct kv_hub *hub, uint64_t revision)
{
    memset(hub, 0, sizeof *hub);
    hub->buckets = mr_calloc(BUCKETS_MIN, sizeof(struct kv_hub_topic *));
    if (hub->buckets == NULL) {
        return MR_E_NOMEM;
    }
    mr_assert(pthread_mutex_init(&hub->lock, NULL) == 0);
    hub->n_buckets = BUCKETS_MIN;
    hub->n_lengths = 1; /* Length 0 stays, so that any prefix has a length. */
    hub->length_uses[0] = 1;
    hub->visible = revision;
    mr_list_init(&hub->firing);
    return MR_OK;
}

static struct kv_hub_topic **find_topic(struct kv_hub *hub, uint64_t hash)
{
    struct kv_hub_topic **at = &hub->buckets[hash & (hub->n_buckets - 1)];

    while (*at != NULL && (*at)->hash != hash) {
        at = &(*at)->next;
    }
    return at;
}

static void drop_length(struct kv_hub *hub, int at)
{
    if (at < 0 || --hub->length_uses[at] > 0) {
        return;
    }
    /* The slot stays with no uses: other topics refer to lengths by index.
     * Trailing ones can go. */
    while (hub->n_lengths > 1 && hub->length_uses[hub->n_lengths - 1] == 0) {
        hub->n_lengths--;
    }
}

/* Take the topic at *@at out; its lists must be empty. */
static void remove_topic(struct kv_hub *hub, struct kv_hub_topic **at)
{
    struct kv_hub_topic *topic = *at;

    mr_assert(topic != NULL);
    *at = topic->next;
    drop_length(hub, topic->length_at);
    hub->n_topics--;
    mr_free(topic);
}

static void remove_if_unused(struct kv_hub *hub, struct kv_hub_topic *topic)
{
    if (mr_list_empty(&topic->waiters) && mr_list_empty(&topic->guards)) {
        remove_topic(hub, find_topic(hub, topic->hash));
    }
}

/* More buckets when they fill up. Without memory the chains just grow. */
static void grow_buckets(struct kv_hub *hub)
{
    size_t n = hub->n_buckets * 2;
    struct kv_hub_topic **old = hub->buckets;
    struct kv_hub_topic **buckets;
    size_t i;

    if (hub->n_topics < hub->n_buckets) {
        return;
    }
    buckets = mr_calloc(n, sizeof(struct kv_hub_topic *));
    if (buckets == NULL) {
        return;
    }
    for (i = 0; i < hub->n_buckets; i++) {
        while (old[i] != NULL) {
            struct kv_hub_topic *topic = old[i];

            old[i] = topic->next;
            topic->next = buckets[topic->hash & (n - 1)];
            buckets[topic->hash & (n - 1)] = topic;
        }
    }
    hub->buckets = buckets;
    hub->n_buckets = n;
    mr_free(old);
}

/* The index of the tracked length by which a prefix of @len bytes is watched:
 * its own if there is room, else the longest shorter one. */
static int take_length(struct kv_hub *hub, size_t len)
{
    size_t free_at = hub->n_lengths;
    size_t best = 0;
    size_t i;

    len = len > KV_PREFIX_LENGTH_MAX ? KV_PREFIX_LENGTH_MAX : len;
    for (i = 0; i < hub->n_lengths; i++) {
        if (hub->length_uses[i] == 0) {
            free_at = i;
        } else if (hub->lengths[i] <= len &&
                   hub->lengths[i] >= hub->lengths[best]) {
            best = i;
        }
    }
    if (hub->lengths[best] != len && free_at < KV_PREFIX_LENGTHS_MAX) {
        hub->lengths[free_at] = (uint32_t)len;
        hub->length_uses[free_at] = 0;
        hub->n_lengths += free_at == hub->n_lengths ? 1 : 0;
        best = free_at;
    }
    hub->length_uses[best]++;
    return (int)best;
}

/* The topic, made if need be; NULL without memory. */
static struct kv_hub_topic *get_topic(struct kv_hub *hub,
                                      const struct mr_kv_topic *name)
{
    struct mr_slice text = name->name;
    struct kv_hub_topic **at;
    struct kv_hub_topic *topic;
    uint64_t hash;
    int length_at = -1;

    if (name->kind == MR_KV_TOPIC_PREFIX) {
        length_at = take_length(hub, text.len);
        text.len = hub->lengths[length_at];
    }
    hash = topic_hash(name->kind, text);
    grow_buckets(hub);
    at = find_topic(hub, hash);
    topic = *at;
    if (topic == NULL) {
        topic = mr_calloc(1, sizeof *topic);
    }
    if (*at != NULL || topic == NULL) {
        drop_length(hub, length_at); /* The topic has its own use of it. */
        return topic;
    }
    topic->hash = hash;
    topic->length_at = length_at;
    mr_list_init(&topic->waiters);
    mr_list_init(&topic->guards);
    *at = topic;
    hub->n_topics++;
    return topic;
}

/* The last revision at which the topic may have changed. */
static uint64_t last_change(struct kv_hub *hub, const struct mr_kv_topic *name)
{
    uint64_t rev = hub->all_changed;
    uint64_t own = name->kind == MR_KV_TOPIC_PREFIX
                       ? hub->keys_changed
                       : *slot_of(hub, topic_hash(name->kind, name->name));

    return own > rev ? own : rev;
}

/* ------------------------------------------------------------ changes */

static void spoil_guards(struct kv_hub_topic *topic)
{
    struct mr_list *link;

    while ((link = mr_list_pop(&topic->guards)) != NULL) {
        struct mr_kv_guard *guard =
            mr_container_of(link, struct mr_kv_guard, link);

        guard->topic = NULL;
        atomic_store_explicit(&guard->stale, true, memory_order_release);
    }
}

static uint64_t quiet_upto(const struct kv_hub *hub,
                           const struct mr_kv_waiter *waiter)
{
    return waiter->topic != NULL && hub->visible > waiter->quiet
               ? hub->visible
               : waiter->quiet;
}

static void fire_topic(struct kv_hub *hub, struct kv_hub_topic **at)
{
    struct mr_list *link;

    spoil_guards(*at);
    MR_LIST_FOREACH(link, &(*at)->waiters)
    {
        struct mr_kv_waiter *waiter =
            mr_container_of(link, struct mr_kv_waiter, link);

        waiter->quiet = quiet_upto(hub, waiter);
        waiter->topic = NULL;
    }
    mr_list_move(&hub->firing, &(*at)->waiters);
    remove_topic(hub, at);
}

static void announce_hash(struct kv_hub *hub, uint64_t hash)
{
    struct kv_hub_topic **at = find_topic(hub, hash);

    if (*at != NULL) {
        fire_topic(hub, at);
    }
}

static void announce_prefixes(struct kv_hub *hub, struct mr_slice keys)
{
    const uint8_t *at = keys.data;
    const uint8_t *end = at + keys.len;

    while (at < end) {
        uint32_t len;
        size_t i;

        memcpy(&len, at, sizeof len);
        at += sizeof len;
        for (i = 0; i < hub->n_lengths; i++) {
            if (hub->length_uses[i] > 0 && hub->lengths[i] <= len) {
                announce_hash(hub, topic_hash(MR_KV_TOPIC_PREFIX,
                                              mr_slice(at, hub->lengths[i])));
            }
        }
        at += len;
    }
}

static void announce_all(struct kv_hub *hub, uint64_t revision)
{
    size_t i;

    hub->all_changed = revision;
    for (i = 0; i < hub->n_buckets; i++) {
        while (hub->buckets[i] != NULL) {
            fire_topic(hub, &hub->buckets[i]);
        }
    }
}

void kv_hub_announce(struct kv_hub *hub, const struct kv_touched *t,
                     uint64_t revision)
{
    struct mr_slice hashes = mr_buf_slice(&t->hashes);
    size_t i;

    lock(hub);
    if (t->all) {
        announce_all(hub, revision);
    } else {
        for (i = 0; i < hashes.len; i += sizeof(uint64_t)) {
            uint64_t hash;

            memcpy(&hash, (const uint8_t *)hashes.data + i, sizeof hash);
            *slot_of(hub, hash) = revision;
            announce_hash(hub, hash);
        }
        if (mr_buf_slice(&t->keys).len > 0) {
            hub->keys_changed = revision;
            announce_prefixes(hub, mr_buf_slice(&t->keys));
        }
    }
    unlock(hub);
}

void kv_hub_publish(struct kv_hub *hub, uint64_t revision)
{
    struct mr_list *link;

    lock(hub);
    hub->visible = revision;
    while ((link = mr_list_pop(&hub->firing)) != NULL) {
        struct mr_kv_waiter *waiter =
            mr_container_of(link, struct mr_kv_waiter, link);

        hub->n_waiters--;
        unlock(hub);
        waiter->wake(waiter); /* The waiter may be gone from here on. */
        lock(hub);
    }
    unlock(hub);
}

void kv_hub_deinit(struct kv_hub *hub)
{
    struct kv_touched all = {.all = true};

    if (hub->buckets == NULL) {
        return;
    }
    kv_hub_announce(hub, &all, hub->visible);
    mr_free(hub->buckets);
    mr_assert(pthread_mutex_destroy(&hub->lock) == 0);
}

uint64_t kv_hub_waiters(struct kv_hub *hub)
{
    uint64_t n;

    lock(hub);
    n = hub->n_waiters;
    unlock(hub);
    return n;
}

/* ------------------------------------------------------------ waiting */

static enum mr_err park(struct kv_hub *hub, struct mr_kv_waiter *waiter,
                        const struct mr_kv_topic *name, uint64_t revision)
{
    uint64_t changed = last_change(hub, name);
    struct kv_hub_topic *topic = NULL;

    mr_list_init(&waiter->link);
    waiter->topic = NULL;
    waiter->quiet = revision;
    if (hub->n_waiters >= KV_HUB_WAITERS_MAX) {
        return MR_E_BUSY;
    }
    if (changed > revision && changed <= hub->visible) {
        return MR_E_EXISTS;
    }
    if (changed <= revision) {
        topic = get_topic(hub, name);
        if (topic == NULL) {
            return MR_E_NOMEM;
        }
    }
    waiter->topic = topic;
    mr_list_push(topic == NULL ? &hub->firing : &topic->waiters, &waiter->link);
    hub->n_waiters++;
    return MR_OK;
}

enum mr_err mr_kv_wait(struct mr_kv *kv, struct mr_kv_waiter *waiter,
                       const struct mr_kv_topic *topic, uint64_t revision)
{
    enum mr_err err;

    lock(&kv->hub);
    err = park(&kv->hub, waiter, topic, revision);
    unlock(&kv->hub);
    return err;
}

uint64_t mr_kv_wait_quiet(struct mr_kv *kv, const struct mr_kv_waiter *waiter)
{
    uint64_t revision;

    lock(&kv->hub);
    revision = quiet_upto(&kv->hub, waiter);
    unlock(&kv->hub);
    return revision;
}

bool mr_kv_wait_cancel(struct mr_kv *kv, struct mr_kv_waiter *waiter)
{
    struct kv_hub *hub = &kv->hub;
    bool was_parked;

    lock(hub);
    was_parked = !mr_list_empty(&waiter->link);
    if (was_parked) {
        mr_list_remove(&waiter->link);
        hub->n_waiters--;
        if (waiter->topic != NULL) {
            remove_if_unused(hub, waiter->topic);
            waiter->topic = NULL;
        }
    }
    unlock(hub);
    return was_parked;
}

/* ------------------------------------------------------------ guards */

struct mr_kv_guard *mr_kv_guard_new(struct mr_kv *kv,
                                    const struct mr_kv_topic *topic,
                                    uint64_t revision)
{
    struct kv_hub *hub = &kv->hub;
    struct mr_kv_guard *guard = mr_calloc(1, sizeof *guard);

    if (guard == NULL) {
        return NULL;
    }
    lock(hub);
    if (last_change(hub, topic) <= revision) {
        guard->topic = get_topic(hub, topic);
    }
    if (guard->topic == NULL) {
        unlock(hub);
        mr_free(guard);
        return NULL;
    }
    atomic_init(&guard->stale, false);
    mr_list_init(&guard->link);
    mr_list_push(&guard->topic->guards, &guard->link);
    unlock(hub);
    return guard;
}

bool mr_kv_guard_stale(const struct mr_kv_guard *guard)
{
    return atomic_load_explicit(&guard->stale, memory_order_acquire);
}

void mr_kv_guard_free(struct mr_kv *kv, struct mr_kv_guard *guard)
{
    struct kv_hub *hub = &kv->hub;

    if (guard == NULL) {
        return;
    }
    lock(hub);
    if (guard->topic != NULL) {
        mr_list_remove(&guard->link);
        remove_if_unused(hub, guard->topic);
    }
    unlock(hub);
    mr_free(guard);
}
