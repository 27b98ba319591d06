/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hub behind kv/mr_kv_watch.h, and the list of what a batch touched.
 *
 * The apply thread collects touched topics while it applies (struct kv_touched,
 * its own, no lock), announces them before it commits (guards turn stale) and
 * publishes afterwards (waiters are woken).
 */
#ifndef MR_KV_WATCH_INTERNAL_H
#define MR_KV_WATCH_INTERNAL_H

#include <pthread.h>

#include "base/buf.h"
#include "kv/mr_kv_watch.h"

/* Watched prefixes are told apart by at most this many lengths; a further
 * length is watched by a shorter prefix, which wakes more often. */
#define KV_PREFIX_LENGTHS_MAX 64
#define KV_PREFIX_LENGTH_MAX 256

/* A power of two. Two topics in one slot cost a needless look at worst. */
#define KV_HUB_SLOTS 4096

#define KV_HUB_WAITERS_MAX 1000000

struct kv_hub_topic; /* Somebody waits for it. */

struct kv_hub {
    pthread_mutex_t lock; /* Over all that follows. */
    struct kv_hub_topic **buckets;
    size_t n_buckets; /* A power of two. */
    size_t n_topics;
    size_t n_waiters;
    struct mr_list firing; /* Woken once the announced batch is visible. */
    uint64_t visible;      /* Revision that new views show. */
    uint64_t all_changed;  /* Revision at which everything changed. */
    uint64_t keys_changed; /* Revision at which some key changed. */
    uint64_t changed[KV_HUB_SLOTS]; /* By topic hash: revision of the last
                                       change of a topic in the slot. */
    uint32_t lengths[KV_PREFIX_LENGTHS_MAX]; /* Ascending, lengths[0] is 0. */
    uint32_t length_uses[KV_PREFIX_LENGTHS_MAX];
    size_t n_lengths;
};

/* What one batch touched. Beyond a bound, or without memory, it says "all". */
struct kv_touched {
    struct mr_buf hashes; /* uint64_t each: topics other than prefixes. */
    struct mr_buf keys;   /* uint32_t length and bytes, for the prefixes. */
    unsigned nameless;    /* Bit i: the topic of kind i, which has no name. */
    bool all;
};

/* Make an empty hub that shows @revision. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err kv_hub_init(struct kv_hub *hub, uint64_t revision);

/* Release it. Waiters that are still parked are forgotten. */
void kv_hub_deinit(struct kv_hub *hub);

/* Make an empty list. */
void kv_touched_init(struct kv_touched *t);
/* Release it. */
void kv_touched_deinit(struct kv_touched *t);
/* Forget its contents. */
void kv_touched_reset(struct kv_touched *t);
/* Note that the topic of @kind and @name changed; of a key also its
 * prefixes. */
void kv_touch(struct kv_touched *t, enum mr_kv_topic_kind kind,
              struct mr_slice name);

/* Make the guards of @t stale and pick the waiters that kv_hub_publish() will
 * wake. @revision is the one that the batch makes visible. */
void kv_hub_announce(struct kv_hub *hub, const struct kv_touched *t,
                     uint64_t revision);

/* Views show @revision from now on: wake who was picked. */
void kv_hub_publish(struct kv_hub *hub, uint64_t revision);

/* How many wait. */
uint64_t kv_hub_waiters(struct kv_hub *hub);

#endif /* MR_KV_WATCH_INTERNAL_H */
