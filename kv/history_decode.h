/* SPDX-License-Identifier: Apache-2.0 */
/* Which events of the history a reader wants, and what is in them. */
#ifndef MR_KV_HISTORY_DECODE_H
#define MR_KV_HISTORY_DECODE_H

#include "kv/arena.h"
#include "kv/history.h"

#define KV_FILTER_TOPICS 256

/* Topics in the shape in which events are compared. */
struct kv_filter {
    enum kv_history_part part;
    enum mr_kv_object object;
    const struct mr_kv_topic *topics; /* Borrowed. */
    size_t n_topics;
    bool is_all;                      /* Every object of this kind. */
    uint64_t names[KV_FILTER_TOPICS]; /* Sorted; of named ones but keys. */
};

/* Make a filter of @topics, all of which are about one kind of object. */
void kv_filter_init(struct kv_filter *f, const struct mr_kv_topic *topics,
                    size_t n_topics);

/* Whether the event with @head, and @rest behind it, is wanted. */
bool kv_filter_wants(const struct kv_filter *f,
                     const struct kv_event_head *head, struct mr_slice rest);

/* Memory for one event at a time. */
struct kv_decoder {
    struct kv_arena arena;
    Mr__Key key;
    struct mr_kv_service_name name;
    struct mr_kv_instance instance;
    const Mr__Node *was_node;
    const Mr__Service *was_service;
    struct mr_kv_instance twins[KV_TWINS_MAX];
    const struct mr_kv_instance *twin_list[KV_TWINS_MAX]; /* As it is told. */
    size_t n_twins;
};

/* Make it ready. It must not be moved. */
void kv_decoder_init(struct kv_decoder *d);

/* Release it. */
void kv_decoder_deinit(struct kv_decoder *d);

/* Fill @change (but for revision and is_last), valid until the next call.
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err kv_decode_event(struct kv_decoder *d,
                                          const struct kv_event_head *head,
                                          struct mr_slice rest,
                                          struct mr_kv_change *change);

#endif /* MR_KV_HISTORY_DECODE_H */
