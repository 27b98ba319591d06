/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the feeds: what feed.c and feed_reader.c share. */
#ifndef API_FEED_CORE_H
#define API_FEED_CORE_H

#include <pthread.h>

#include "api/feed_text.h"
#include "base/buf.h"

#define FEED_BUCKETS 1024

/* A snapshot, and what one revision may be. */
#define FEED_TEXT_MAX ((size_t)64 * 1024 * 1024)

struct feed_waiter {
    struct mr_kv_waiter base;
    struct api_feed *feed;
    bool is_armed;  /* Of the feed's mutex. */
    bool has_fired; /* Of the queue's: the callback came, and has nothing left
                       to do with the feed. */
};

struct api_feed {
    struct api_feeds *feeds;
    struct mr_list in_bucket; /* Of the table. */
    uint64_t hash;
    size_t n_readers;        /* Of the table. */
    struct mr_list in_queue; /* Of the queue. */

    struct api_watch_spec spec; /* With memory of our own. */
    struct mr_buf key;          /* What tells feeds apart; holds the texts. */
    struct mr_kv_topic *topics;
    size_t n_topics;

    pthread_mutex_t lock; /* Over all that follows. */
    struct feed_waiter *waiters;
    struct mr_list parked; /* Readers. */
    struct feed_ring ring;
    uint64_t from;
    uint64_t upto;
    enum mr_err failure; /* It cannot go on. */
};

struct api_feeds {
    struct mr_kv *kv;
    atomic_size_t total; /* Bytes of texts. */
    pthread_t thread;

    pthread_mutex_t table_lock; /* Over all buckets. */
    struct mr_list buckets[FEED_BUCKETS];

    pthread_mutex_t queue_lock; /* Over what follows, and has_fired. */
    struct mr_list queue;
    bool is_stopping;
    pthread_cond_t queued;
};

/* The feed of @spec with one reader more, who has seen @revision; NULL: no
 * memory. */
struct api_feed *feed_join(struct api_feeds *feeds,
                           const struct api_watch_spec *spec,
                           uint64_t revision);

/* One reader less. */
void feed_leave(struct api_feed *feed);

/* Read what happened since feed->upto, and wake the readers if it concerns
 * them; with the lock held. What has no memory now is for them to try again. */
void feed_refresh(struct api_feed *feed);

/* Wait for every topic that is not waited for; with the lock held. When that
 * fails so does the feed, and its readers are woken. */
void feed_arm(struct api_feed *feed);

#endif /* API_FEED_CORE_H */
