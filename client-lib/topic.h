/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics: what is known of one service (of all, of some keys), and who wants to
 * hear of it.
 *
 *            asked with its index            line without "more"
 *   unsynced --------------------> snapshot ---"synced"--> synced
 *                                  ^                          |
 *                                  +------- "reset" ----------+
 *
 * While a snapshot is collected the view stays as it was; when it is complete,
 * the difference becomes events. Otherwise events are applied when their
 * revision is complete, and never twice: what is not behind `index` is skipped.
 *
 * Everything here is protected by the client's lock.
 */
#ifndef MICROREG_TOPIC_H
#define MICROREG_TOPIC_H

#include "client.h"
#include "object.h"

/* The servers' limit: one name more than that, and they refuse the stream. */
#define MRG_NAME_MAX 160

struct mrg_stream;

struct mrg_topic {
    struct mrg_stream *stream;
    char *name; /* The service; "" for all of the stream. */
    size_t name_len;
    struct mrg_map view;
    struct mrg_map snapshot;
    bool has_snapshot;  /* One is being collected. */
    bool is_asked;      /* The connection that is open delivers it. */
    bool is_synced;     /* The view has been complete once. */
    bool is_followed;   /* Wanted also without watches. */
    uint64_t index;     /* The view is that of this revision. */
    uint64_t own_index; /* What this client wrote is in it from this one on. */
    struct microreg_watch *watches;
    struct mrg_text rendered; /* Of the view, as an answer of /registry. */
};

/* A change whose revision is not complete yet. */
struct mrg_pending {
    struct mrg_topic *topic;
    struct mrg_object *object;
    enum mrg_line_action action;
    uint64_t index;
};

/* A new topic, unsynced. NULL: no memory. */
struct mrg_topic *mrg_topic_new(struct mrg_stream *stream, const char *name);

/* Free it; nobody watches it. */
void mrg_topic_free(struct mrg_topic *topic);

/* Begin to collect a snapshot. */
void mrg_topic_reset(struct mrg_topic *topic);

/* A connection has ended: forget a snapshot that is not complete. */
void mrg_topic_cut(struct mrg_topic *topic);

/* Apply one change whose revision is complete. False: no memory; the topic
 * is told to begin again with a snapshot, and no event is lost by that. */
bool mrg_topic_apply(struct mrg_topic *topic, const struct mrg_pending *change);

/* The snapshot is complete: it becomes the view of revision @index. */
void mrg_topic_finish(struct mrg_topic *topic, uint64_t index);

/* The view as the JSON of /registry: one object a version. Borrowed until the
 * topic changes. NULL: no memory. */
const struct mrg_text *mrg_topic_render(struct mrg_topic *topic);

#endif /* MICROREG_TOPIC_H */
