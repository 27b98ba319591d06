/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds: what watch streams tell (docs/watch.md), rendered once for all readers
 * of the same thing.
 *
 * A feed is one set of topics in one format. A thread reads the history for the
 * feeds that the hub woke, and wakes their readers. A reader is only a position
 * in it: what it was not fast enough for it reads from the history itself, and
 * when that has forgotten, it is told to reset and gets a snapshot.
 *
 *   hub --wake--> feed thread: history -> texts --wake--> readers
 *   reader: next -> text, ... , NULL: parked until it is woken
 *
 * Locking: the table's mutex over the feeds and the number of their readers; one
 * mutex a feed over its texts and its parked readers; one over the queue of the
 * woken. In this order; wake() is called with the feed's held.
 */
#ifndef API_FEED_H
#define API_FEED_H

#include <stdatomic.h>

#include "api/watch_spec.h"
#include "base/list.h"
#include "kv/mr_kv_history.h"

struct api_feeds; /* All feeds of the service, and their thread. */
struct api_feed;

/* A piece of a stream, shared; whole lines. Let go of it with
 * api_text_release(). */
struct api_text {
    atomic_size_t refs;
    atomic_size_t *total; /* Where its bytes are counted. */
    uint64_t revision;    /* The stream is complete up to here. */
    size_t len;
    char data[];
};

/* Let go of a text; NULL is a no-op. Any thread. */
void api_text_release(struct api_text *text);

/* One who reads. Embedded by its owner, who uses it on one thread at a time. */
struct api_reader {
    void (*wake)(struct api_reader *reader); /* Set by the owner: must only hand
                                                over. Any thread. */
    struct api_feed *feed;
    uint64_t revision; /* All changes up to it have been handed out. */
    struct mr_list link;
};

/* Start the thread. @kv is borrowed. NULL: no memory. */
struct api_feeds *api_feeds_start(struct mr_kv *kv);

/* Stop it; every reader must have been closed. NULL is a no-op. */
void api_feeds_stop(struct api_feeds *feeds);

/* Open @reader on what @spec says, as @view sees it. *@out_first is how the
 * stream begins: a snapshot, or the events after the indexes that @spec names,
 * or a reset. On success the caller closes it with api_reader_close().
 *
 * MR_E_BUSY: the texts of slow readers fill the memory that they may take.
 * MR_E_NOMEM, and the errors of views. */
MR_MUST_CHECK enum mr_err api_reader_open(struct api_feeds *feeds,
                                          const struct api_watch_spec *spec,
                                          struct mr_kv_view *view,
                                          struct api_reader *reader,
                                          struct api_text **out_first);

/* What comes next, whole revisions. NULL: nothing yet; wake() will be called,
 * perhaps at once, perhaps for nothing. With @wants_progress there is always a
 * text: at least a line that says how far the reader is. Errors as
 * api_reader_open(): the stream cannot go on. */
MR_MUST_CHECK enum mr_err api_reader_next(struct api_reader *reader,
                                          bool wants_progress,
                                          struct api_text **out_text);

/* Close it. wake() is not called any more when this returns. */
void api_reader_close(struct api_reader *reader);

#endif /* API_FEED_H */
