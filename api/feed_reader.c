/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of feeds: how they begin, and how they go on. */
#include "api/feed_core.h"

#include <sched.h>
#include <string.h>

#include "api/feed_render.h"

/* One piece of the history for a reader that is behind. */
#define CATCH_UP_BYTES ((size_t)256 * 1024)

/* Changes on their way into a text of one reader. */
struct reading {
    struct feed_render render;
    uint64_t last;    /* What is behind it is ignored. */
    size_t max_bytes; /* Stop after so many. */
    enum mr_err err;
};

/* ------------------------------------------------------------- beginnings */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool on_change(void *arg, const struct mr_kv_change *change)
{
    struct reading *reading = arg;

    if (change->revision > reading->last) {
        return false;
    }
    if (reading->err == MR_OK) {
        reading->err = feed_render_change(&reading->render, change);
    }
    return reading->err == MR_OK && change->revision < reading->last &&
           reading->render.out.len < reading->max_bytes;
}

/* The least index after which something of @spec is wanted; 0: none. */
static uint64_t first_index(const struct api_watch_spec *spec)
{
    uint64_t least = spec->n_names == 0 ? spec->index : 0;

    for (size_t i = 0; i < spec->n_names; i++) {
        uint64_t index = spec->names[i].index;

        if (index != 0 && (least == 0 || index < least)) {
            least = index;
        }
    }
    return least;
}

/* The greatest index that @spec names; 0: none. */
static uint64_t last_index(const struct api_watch_spec *spec)
{
    uint64_t greatest = spec->index;

    for (size_t i = 0; i < spec->n_names; i++) {
        greatest = later(greatest, spec->names[i].index);
    }
    return greatest;
}

/* Whether something of @spec begins with a snapshot. */
static bool wants_snapshot(const struct api_watch_spec *spec)
{
    bool wants = spec->n_names == 0 && spec->index == 0;

    for (size_t i = 0; i < spec->n_names; i++) {
        wants = wants || spec->names[i].index == 0;
    }
    return wants;
}

/* Write the events after the indexes of reading's spec, up to reading->last.
 * MR_E_NOTFOUND, MR_E_INVALID: they are not known. */
static enum mr_err resume(struct api_feeds *feeds, struct reading *reading,
                          uint64_t *out_revision)
{
    const struct api_watch_spec *spec = reading->render.spec;
    struct mr_kv_topic topics[API_WATCH_NAMES_MAX];
    struct mr_kv_history_query query = {
        topics, api_watch_topics(spec, true, topics), first_index(spec)};
    enum mr_err err;

    if (last_index(spec) > reading->last) {
        return MR_E_INVALID; /* Of another state: the others say nothing. */
    }
    reading->render.is_resuming = true;
    err =
        mr_kv_history_read(feeds->kv, &query, on_change, reading, out_revision);
    if (err == MR_OK && *out_revision > reading->last) {
        *out_revision = reading->last;
    }
    return err != MR_OK ? err : reading->err;
}

/* Write how a stream begins or, with @is_late, goes on for a reader that was
 * too slow. */
static enum mr_err write_start(struct api_feeds *feeds, struct reading *reading,
                               struct mr_kv_view *view, bool is_late,
                               uint64_t *out_revision)
{
    struct feed_render *render = &reading->render;
    enum mr_err err = MR_OK;

    reading->last = mr_kv_view_revision(view);
    while (mr_kv_revision(feeds->kv) < reading->last) {
        sched_yield(); /* Its batch is about to be in the history, too. */
    }
    reading->max_bytes = is_late ? CATCH_UP_BYTES : FEED_TEXT_MAX;
    *out_revision = reading->last;
    if (first_index(render->spec) != 0) {
        err = resume(feeds, reading, out_revision);
    }
    if (err == MR_OK && is_late) {
        return MR_OK;
    }
    if (err == MR_OK && wants_snapshot(render->spec)) {
        err = feed_render_snapshot(render, view, false);
    } else if (err == MR_E_NOTFOUND || err == MR_E_INVALID) {
        mr_buf_reset(&render->out);
        *out_revision = reading->last;
        err = feed_render_snapshot(render, view, true);
    }
    if (err == MR_OK) {
        feed_render_mark(render, "synced", *out_revision);
    }
    return err;
}

/* As write_start(), into a text. */
static enum mr_err make_start(struct api_feeds *feeds,
                              const struct api_watch_spec *spec,
                              struct mr_kv_view *view, bool is_late,
                              struct api_text **out_text)
{
    struct reading reading = {.err = MR_OK};
    enum mr_err err = MR_E_NOMEM;
    uint64_t revision;

    if (feed_render_init(&reading.render, spec, FEED_TEXT_MAX)) {
        err = write_start(feeds, &reading, view, is_late, &revision);
    }
    if (err == MR_OK) {
        err = mr_buf_failed(&reading.render.out)
                  ? MR_E_NOMEM
                  : feed_text_new(&feeds->total,
                                  mr_buf_slice(&reading.render.out), revision,
                                  out_text);
    }
    feed_render_deinit(&reading.render);
    return err;
}

enum mr_err api_reader_open(struct api_feeds *feeds,
                            const struct api_watch_spec *spec,
                            struct mr_kv_view *view, struct api_reader *reader,
                            struct api_text **out_first)
{
    struct api_text *first;
    enum mr_err err = make_start(feeds, spec, view, false, &first);

    if (err != MR_OK) {
        return err;
    }
    struct api_feed *feed = feed_join(feeds, spec, first->revision);

    if (feed == NULL) {
        api_text_release(first);
        return MR_E_NOMEM;
    }
    pthread_mutex_lock(&feed->lock);
    feed_arm(feed);
    err = feed->failure;
    pthread_mutex_unlock(&feed->lock);
    if (err != MR_OK) {
        api_text_release(first);
        feed_leave(feed);
        return err;
    }
    reader->feed = feed;
    reader->revision = first->revision;
    mr_list_init(&reader->link);
    *out_first = first;
    return MR_OK;
}

void api_reader_close(struct api_reader *reader)
{
    struct api_feed *feed = reader->feed;

    pthread_mutex_lock(&feed->lock);
    mr_list_remove(&reader->link);
    pthread_mutex_unlock(&feed->lock);
    feed_leave(feed);
    reader->feed = NULL;
}

/* ------------------------------------------------------------- reading on */

/* A text for @reader alone, who is behind what the feed has. */
static enum mr_err catch_up(struct api_reader *reader,
                            struct api_text **out_text)
{
    struct api_feeds *feeds = reader->feed->feeds;
    struct api_watch_spec spec = reader->feed->spec;
    struct api_watch_name names[API_WATCH_NAMES_MAX];
    struct mr_kv_view *view;
    enum mr_err err;

    for (size_t i = 0; i < spec.n_names; i++) {
        names[i].name = spec.names[i].name;
        names[i].index = reader->revision;
    }
    spec.names = names;
    spec.index = reader->revision;
    err = mr_kv_view_begin(feeds->kv, &view);
    if (err != MR_OK) {
        return err;
    }
    err = make_start(feeds, &spec, view, true, out_text);
    mr_kv_view_end(view);
    return err;
}

/* A line that says how far a reader at @revision is; with the lock held. */
static enum mr_err make_progress(struct api_feed *feed, uint64_t revision,
                                 struct api_text **out_text)
{
    struct feed_render render;
    enum mr_err err = MR_E_NOMEM;

    revision = later(revision, feed->upto);
    if (feed_render_init(&render, &feed->spec, 0)) {
        feed_render_mark(&render, "progress", revision);
        err =
            mr_buf_failed(&render.out)
                ? MR_E_NOMEM
                : feed_text_new(&feed->feeds->total, mr_buf_slice(&render.out),
                                revision, out_text);
    }
    feed_render_deinit(&render);
    return err;
}

/* The next text that the feed has for @reader, who is parked when there is none
 * unless it is behind. */
static enum mr_err take_or_park(struct api_reader *reader, bool wants_progress,
                                bool *out_is_behind, struct api_text **out_text)
{
    struct api_feed *feed = reader->feed;
    struct api_text *text = NULL;
    enum mr_err err = MR_OK;

    pthread_mutex_lock(&feed->lock);
    mr_list_remove(&reader->link);
    if (wants_progress) {
        feed_refresh(feed);
    }
    *out_is_behind = reader->revision < feed->from;
    if (!*out_is_behind) {
        text = feed_ring_after(&feed->ring, reader->revision);
    }
    if (feed->failure != MR_OK) {
        err = feed->failure;
    } else if (text != NULL) {
        atomic_fetch_add(&text->refs, 1);
    } else if (!*out_is_behind && wants_progress) {
        err = make_progress(feed, reader->revision, &text);
    } else if (!*out_is_behind) {
        /* What it has not missed need not be remembered for it. */
        reader->revision = later(reader->revision, feed->upto);
        mr_list_push(&feed->parked, &reader->link);
    }
    pthread_mutex_unlock(&feed->lock);
    *out_text = text;
    return err;
}

enum mr_err api_reader_next(struct api_reader *reader, bool wants_progress,
                            struct api_text **out_text)
{
    bool is_behind;

    for (;;) {
        struct api_text *text = NULL;
        enum mr_err err =
            take_or_park(reader, wants_progress, &is_behind, &text);

        if (err == MR_OK && is_behind) {
            err = catch_up(reader, &text);
        }
        if (err != MR_OK || text == NULL) {
            *out_text = NULL;
            return err;
        }
        reader->revision = text->revision;
        if (text->len > 0 || !is_behind) {
            *out_text = text;
            return MR_OK;
        }
        api_text_release(text); /* A filter left nothing of what it missed. */
    }
}
