/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches: what one reader was told, and what it is to be told.
 *
 *   behind --next(), topic synced--> following --queue too long--> behind
 *
 * While it is behind nothing is queued for it: the next call tells the
 * difference between `told` and the topic's view. A new watch is behind, and was
 * told nothing. While it follows, each event is queued.
 *
 * Everything is protected by the client's lock but `current`, the reader's own.
 */
#ifndef MICROREG_WATCH_H
#define MICROREG_WATCH_H

#include "topic.h"

struct mrg_queued {
    struct mrg_object *object; /* NULL: MICROREG_SYNCED. */
    uint64_t index;
    enum microreg_action action;
    bool is_counted; /* In queued_bytes. */
};

struct microreg_watch {
    struct microreg *client; /* A reference. */
    struct mrg_topic *topic; /* NULL once it is stopped. */
    struct microreg_watch *next;
    unsigned flags;
    bool is_keys;
    bool is_behind;
    bool was_marked; /* MICROREG_SYNCED is queued or was told. */

    struct mrg_map told;
    struct mrg_queued *queue; /* A ring. */
    size_t first, n_queued, size;
    size_t queued_bytes;

    pthread_cond_t ready;
    int fds[2]; /* The end to poll and the end to write; -1: not made. */
    bool is_signaled;

    struct mrg_arena arena; /* Of `current`. */
    struct microreg_event current;
    struct microreg_service service;
    struct mrg_object *object;
    bool is_owed; /* `object` was taken, but could not be handed out. */
};

/* Queue an event. */
void mrg_watch_tell(struct microreg_watch *watch, enum microreg_action action,
                    struct mrg_object *object, uint64_t index);

/* Something may be there: wake the reader. */
void mrg_watch_wake(struct microreg_watch *watch);

/* Its topic goes: nothing comes any more. */
void mrg_watch_orphan(struct microreg_watch *watch);

#endif /* MICROREG_WATCH_H */
