/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds.
 *
 * A feed lives as long as somebody reads it. Its thread-safe parts:
 *  - the hub's callback (apply thread) puts it into the queue;
 *  - the feed thread reads the history, appends texts and wakes the readers;
 *  - readers take texts on their own threads.
 *
 * texts hold what changed in (from, upto]; a reader before from was too slow
 * and helps itself from the history.
 */
#include "api/feed_core.h"

#include <sched.h>
#include <string.h>

#include "api/feed_render.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#define STACK_SIZE ((size_t)256 * 1024)

/* What a feed keeps for its readers, who are mostly all at its end. */
#define FEED_BYTES_MAX ((size_t)256 * 1024)

/* ------------------------------------------------------------- refreshing */

/* Changes on their way into the texts of a feed. */
struct reading {
    struct feed_render render;
    struct api_feed *feed;
    enum mr_err err;
};

/* The lines of one revision become a text of the feed. */
static enum mr_err append_text(struct api_feed *feed, struct mr_buf *lines,
                               uint64_t revision)
{
    struct api_text *text;
    enum mr_err err;

    if (lines->len == 0) {
        return MR_OK; /* A filter left nothing. */
    }
    err = feed_text_new(&feed->feeds->total, mr_buf_slice(lines), revision,
                        &text);
    mr_buf_reset(lines);
    if (err != MR_OK) {
        return err;
    }
    err = feed_ring_push(&feed->ring, text);
    if (err != MR_OK) {
        api_text_release(text);
        return err;
    }
    while (feed->ring.bytes > FEED_BYTES_MAX && feed->ring.n > 1) {
        feed->from = feed_ring_drop(&feed->ring);
    }
    return MR_OK;
}

static bool on_change(void *arg, const struct mr_kv_change *change)
{
    struct reading *reading = arg;

    if (reading->err == MR_OK) {
        reading->err = feed_render_change(&reading->render, change);
    }
    if (reading->err == MR_OK && change->is_last) {
        reading->err =
            append_text(reading->feed, &reading->render.out, change->revision);
    }
    return reading->err == MR_OK;
}

/* Forget the texts: every reader has to help itself. */
static void restart(struct api_feed *feed)
{
    while (feed->ring.n > 0) {
        (void)feed_ring_drop(&feed->ring);
    }
    feed->from = mr_kv_revision(feed->feeds->kv);
    feed->upto = feed->from;
}

static void wake_readers(struct api_feed *feed)
{
    struct mr_list *link;

    while ((link = mr_list_pop(&feed->parked)) != NULL) {
        struct api_reader *reader =
            mr_container_of(link, struct api_reader, link);

        reader->wake(reader);
    }
}

/* Go on to where all topics were quiet since they were waited for. What others
 * did until then need not be found in the history, which may have forgotten it:
 * a reader of what is quiet is not slow. */
static void pass_over(struct api_feed *feed)
{
    uint64_t upto = UINT64_MAX;

    for (size_t i = 0; i < feed->n_topics; i++) {
        const struct feed_waiter *w = &feed->waiters[i];
        uint64_t quiet = w->is_armed
                             ? mr_kv_wait_quiet(feed->feeds->kv, &w->base)
                             : feed->upto;

        upto = quiet < upto ? quiet : upto;
    }
    feed->upto = upto > feed->upto ? upto : feed->upto;
}

void feed_refresh(struct api_feed *feed)
{
    struct reading reading = {.feed = feed};
    struct mr_kv_history_query query = {feed->topics, feed->n_topics, 0};
    uint64_t upto;
    enum mr_err err = MR_E_NOMEM;

    pass_over(feed);
    query.after = feed->upto;
    upto = feed->upto;

    if (feed_render_init(&reading.render, &feed->spec, FEED_TEXT_MAX)) {
        err = mr_kv_history_read(feed->feeds->kv, &query, on_change, &reading,
                                 &upto);
    }
    feed_render_deinit(&reading.render);
    if (err != MR_OK || reading.err != MR_OK) {
        restart(feed);
        wake_readers(feed);
        return;
    }
    if (feed_ring_after(&feed->ring, feed->upto) != NULL) {
        wake_readers(feed);
    }
    feed->upto = upto;
}

static void on_wake(struct mr_kv_waiter *base);

void feed_arm(struct api_feed *feed)
{
    size_t i = 0;

    while (i < feed->n_topics && feed->failure == MR_OK) {
        struct feed_waiter *w = &feed->waiters[i];
        enum mr_err err = MR_OK;

        if (!w->is_armed) {
            w->has_fired = false; /* Nobody else knows it now. */
            w->base = (struct mr_kv_waiter){.wake = on_wake};
            w->is_armed = true;
            err = mr_kv_wait(feed->feeds->kv, &w->base, &feed->topics[i],
                             feed->upto);
        }
        if (err == MR_OK) {
            i++;
            continue;
        }
        w->is_armed = false;
        if (err == MR_E_EXISTS) {
            feed_refresh(feed); /* It changed in between. */
        } else {
            feed->failure = err;
            wake_readers(feed); /* To hear of it. */
        }
    }
}

/* ------------------------------------------------------------- waking */

/* With the queue's lock held. */
static void enqueue_locked(struct api_feed *feed)
{
    if (mr_list_empty(&feed->in_queue)) {
        mr_list_push(&feed->feeds->queue, &feed->in_queue);
        pthread_cond_signal(&feed->feeds->queued);
    }
}

/* The hub: a topic changed. Apply thread. */
static void on_wake(struct mr_kv_waiter *base)
{
    struct feed_waiter *w = mr_container_of(base, struct feed_waiter, base);
    struct api_feeds *feeds = w->feed->feeds;

    pthread_mutex_lock(&feeds->queue_lock);
    enqueue_locked(w->feed);
    w->has_fired = true;
    pthread_mutex_unlock(&feeds->queue_lock); /* The feed may be released. */
}

static bool has_fired(struct feed_waiter *w)
{
    struct api_feeds *feeds = w->feed->feeds;

    pthread_mutex_lock(&feeds->queue_lock);
    bool fired = w->has_fired;

    pthread_mutex_unlock(&feeds->queue_lock);
    return fired;
}

/* Those that have fired can be armed again; with the feed's lock held. */
static void disarm_fired(struct api_feed *feed)
{
    for (size_t i = 0; i < feed->n_topics; i++) {
        struct feed_waiter *w = &feed->waiters[i];

        w->is_armed = w->is_armed && !has_fired(w);
    }
}

/* A woken feed. */
static void serve(struct api_feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    pass_over(feed); /* While those that have fired are still armed. */
    disarm_fired(feed);
    feed_refresh(feed);
    feed_arm(feed);
    pthread_mutex_unlock(&feed->lock);
}

/* ------------------------------------------------------------- life of one */

static void release_feed(struct api_feed *feed)
{
    feed_ring_deinit(&feed->ring);
    mr_free(feed->waiters);
    mr_free(feed->topics);
    mr_free((void *)(uintptr_t)feed->spec.names); /* Ours, see copy_names(). */
    mr_buf_deinit(&feed->key);
    pthread_mutex_destroy(&feed->lock);
    mr_free(feed);
}

/* Take the waiters back; after this the hub does not touch the feed. */
static void disarm(struct api_feed *feed)
{
    for (size_t i = 0; i < feed->n_topics; i++) {
        struct feed_waiter *w = &feed->waiters[i];

        if (!w->is_armed || mr_kv_wait_cancel(feed->feeds->kv, &w->base)) {
            continue;
        }
        while (!has_fired(w)) {
            sched_yield(); /* It is being called. */
        }
    }
}

/* Release @feed if nobody reads it any more. Feed thread. */
static bool reap(struct api_feed *feed)
{
    struct api_feeds *feeds = feed->feeds;

    pthread_mutex_lock(&feeds->table_lock);
    bool is_unused = feed->n_readers == 0;

    if (is_unused) {
        mr_list_remove(&feed->in_bucket);
    }
    pthread_mutex_unlock(&feeds->table_lock);
    if (!is_unused) {
        return false;
    }
    disarm(feed);
    pthread_mutex_lock(&feeds->queue_lock);
    mr_list_remove(&feed->in_queue); /* If it was woken meanwhile. */
    pthread_mutex_unlock(&feeds->queue_lock);
    release_feed(feed);
    return true;
}

/* Append what tells @spec from others. */
static void write_key(const struct api_watch_spec *spec, struct mr_buf *key)
{
    mr_buf_byte(key, (uint8_t)spec->kind);
    mr_buf_byte(key, (uint8_t)spec->format);
    mr_buf_byte(key, (uint8_t)((spec->passing_only ? 1 : 0) |
                               (spec->state != NULL ? 2 : 0) |
                               (spec->service != NULL ? 4 : 0)));
    if (spec->state != NULL) {
        mr_buf_add(key, spec->state, strlen(spec->state) + 1);
    }
    if (spec->service != NULL) {
        mr_buf_add(key, spec->service, strlen(spec->service) + 1);
    }
    for (size_t i = 0; i < spec->n_names; i++) {
        mr_buf_be32(key, (uint32_t)spec->names[i].name.len);
        mr_buf_add(key, spec->names[i].name.data, spec->names[i].name.len);
        mr_buf_byte(key, '\0');
    }
}

/* Make the texts of @spec those in feed->key, which do not move any more. */
static bool copy_spec(struct api_feed *feed, const struct api_watch_spec *spec)
{
    const char *at = (const char *)feed->key.data + 3;
    struct api_watch_name *names = mr_calloc(spec->n_names + 1, sizeof *names);

    if (names == NULL) {
        return false;
    }
    feed->spec = *spec;
    feed->spec.index = 0;
    feed->spec.names = names;
    if (spec->state != NULL) {
        feed->spec.state = at;
        at += strlen(at) + 1;
    }
    if (spec->service != NULL) {
        feed->spec.service = at;
        at += strlen(at) + 1;
    }
    for (size_t i = 0; i < spec->n_names; i++) {
        at += sizeof(uint32_t);
        names[i].name = mr_slice(at, spec->names[i].name.len);
        at += names[i].name.len + 1;
    }
    return true;
}

static bool make_topics(struct api_feed *feed)
{
    size_t n = feed->spec.n_names == 0 ? 1 : feed->spec.n_names;

    feed->topics = mr_calloc(n, sizeof *feed->topics);
    feed->waiters = mr_calloc(n, sizeof *feed->waiters);
    if (feed->topics == NULL || feed->waiters == NULL) {
        return false;
    }
    feed->n_topics = api_watch_topics(&feed->spec, false, feed->topics);
    for (size_t i = 0; i < n; i++) {
        feed->waiters[i].feed = feed;
    }
    return true;
}

/* A feed of @spec that knows what happens from @revision on. It takes @key
 * over. */
static struct api_feed *make_feed(struct api_feeds *feeds,
                                  const struct api_watch_spec *spec,
                                  struct mr_buf *key, uint64_t revision)
{
    struct api_feed *feed = mr_calloc(1, sizeof *feed);

    if (feed == NULL) {
        return NULL;
    }
    feed->feeds = feeds;
    feed->key = *key;
    *key = (struct mr_buf)MR_BUF_INIT;
    feed->from = revision;
    feed->upto = revision;
    pthread_mutex_init(&feed->lock, NULL);
    mr_list_init(&feed->in_bucket);
    mr_list_init(&feed->in_queue);
    mr_list_init(&feed->parked);
    if (!copy_spec(feed, spec) || !make_topics(feed)) {
        release_feed(feed);
        return NULL;
    }
    return feed;
}

static struct api_feed *find_feed(struct mr_list *bucket, uint64_t hash,
                                  const struct mr_buf *key)
{
    struct mr_list *at;

    MR_LIST_FOREACH(at, bucket)
    {
        struct api_feed *feed = mr_container_of(at, struct api_feed, in_bucket);

        if (feed->hash == hash && feed->key.len == key->len &&
            memcmp(feed->key.data, key->data, key->len) == 0) {
            return feed;
        }
    }
    return NULL;
}

struct api_feed *feed_join(struct api_feeds *feeds,
                           const struct api_watch_spec *spec, uint64_t revision)
{
    struct mr_buf key = MR_BUF_INIT;
    struct api_feed *feed = NULL;

    write_key(spec, &key);
    if (mr_buf_failed(&key)) {
        mr_buf_deinit(&key);
        return NULL;
    }
    uint64_t hash = mr_hash64(mr_buf_slice(&key), 0);
    struct mr_list *bucket = &feeds->buckets[hash % FEED_BUCKETS];

    pthread_mutex_lock(&feeds->table_lock);
    feed = find_feed(bucket, hash, &key);
    if (feed == NULL) {
        feed = make_feed(feeds, spec, &key, revision);
        if (feed != NULL) {
            feed->hash = hash;
            mr_list_push(bucket, &feed->in_bucket);
        }
    }
    if (feed != NULL) {
        feed->n_readers++;
    }
    pthread_mutex_unlock(&feeds->table_lock);
    mr_buf_deinit(&key);
    return feed;
}

void feed_leave(struct api_feed *feed)
{
    struct api_feeds *feeds = feed->feeds;

    pthread_mutex_lock(&feeds->table_lock);
    if (--feed->n_readers == 0) {
        pthread_mutex_lock(&feeds->queue_lock);
        enqueue_locked(feed); /* To be released. */
        pthread_mutex_unlock(&feeds->queue_lock);
    }
    pthread_mutex_unlock(&feeds->table_lock);
}

/* ------------------------------------------------------------- the thread */

/* The next woken feed; NULL: stop. */
static struct api_feed *dequeue(struct api_feeds *feeds)
{
    struct mr_list *link;

    pthread_mutex_lock(&feeds->queue_lock);
    while ((link = mr_list_pop(&feeds->queue)) == NULL && !feeds->is_stopping) {
        pthread_cond_wait(&feeds->queued, &feeds->queue_lock);
    }
    pthread_mutex_unlock(&feeds->queue_lock);
    return link == NULL ? NULL
                        : mr_container_of(link, struct api_feed, in_queue);
}

static void *run(void *arg)
{
    struct api_feeds *feeds = arg;
    struct api_feed *feed;

    while ((feed = dequeue(feeds)) != NULL) {
        if (!reap(feed)) {
            serve(feed);
        }
    }
    return NULL;
}

struct api_feeds *api_feeds_start(struct mr_kv *kv)
{
    struct api_feeds *feeds = mr_calloc(1, sizeof *feeds);
    pthread_attr_t attr;

    if (feeds == NULL) {
        return NULL;
    }
    feeds->kv = kv;
    for (size_t i = 0; i < FEED_BUCKETS; i++) {
        mr_list_init(&feeds->buckets[i]);
    }
    mr_list_init(&feeds->queue);
    pthread_mutex_init(&feeds->table_lock, NULL);
    pthread_mutex_init(&feeds->queue_lock, NULL);
    pthread_cond_init(&feeds->queued, NULL);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    bool ok = pthread_create(&feeds->thread, &attr, run, feeds) == 0;

    pthread_attr_destroy(&attr);
    if (!ok) {
        mr_free(feeds);
        return NULL;
    }
    pthread_setname_np(feeds->thread, "mr-api-feed");
    return feeds;
}

void api_feeds_stop(struct api_feeds *feeds)
{
    if (feeds == NULL) {
        return;
    }
    pthread_mutex_lock(&feeds->queue_lock);
    feeds->is_stopping = true;
    pthread_cond_signal(&feeds->queued);
    pthread_mutex_unlock(&feeds->queue_lock);
    pthread_join(feeds->thread, NULL);
    mr_assert(atomic_load(&feeds->total) == 0);
    pthread_cond_destroy(&feeds->queued);
    pthread_mutex_destroy(&feeds->queue_lock);
    pthread_mutex_destroy(&feeds->table_lock);
    mr_free(feeds);
}
