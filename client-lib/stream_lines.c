/* SPDX-License-Identifier: Apache-2.0 */
/* What the lines of a stream do to its topics. */
#include <string.h>

#include "stream.h"

#define PENDING_FIRST ((size_t)64)
#define PENDING_BYTES_MAX ((size_t)512 << 20)

static bool wrong(struct mrg_stream *stream, const char *why)
{
    mrg_text_clear(&stream->why);
    mrg_text_str(&stream->why, why);
    return false;
}

void mrg_stream_drop_pending(struct mrg_stream *stream)
{
    for (size_t i = 0; i < stream->n_pending; i++) {
        mrg_object_unref(stream->pending[i].object);
    }
    mrg_free(stream->pending);
    stream->pending = NULL;
    stream->n_pending = stream->pending_size = stream->pending_bytes = 0;
}

/* ------------------------------------------------------------- collecting */

static bool grow_pending(struct mrg_stream *stream)
{
    size_t size =
        stream->pending_size == 0 ? PENDING_FIRST : stream->pending_size * 2;
    struct mrg_pending *pending =
        mrg_realloc(stream->pending, size * sizeof *pending);

    if (pending != NULL) {
        stream->pending = pending;
        stream->pending_size = size;
    }
    return pending != NULL;
}

static bool collect_for(struct mrg_stream *stream, struct mrg_topic *topic,
                        const struct mrg_stream_line *line,
                        struct mrg_object **object)
{
    if (topic == NULL || !topic->is_asked) {
        return true; /* Nobody wants it any more, or not yet. */
    }
    if (*object == NULL) {
        *object = mrg_object_new(line);
        stream->pending_bytes += line->object_len;
    }
    if (*object == NULL ||
        (stream->n_pending == stream->pending_size && !grow_pending(stream))) {
        return wrong(stream, "out of memory");
    }
    if (stream->pending_bytes > PENDING_BYTES_MAX) {
        return wrong(stream, "one revision is larger than all memory");
    }
    stream->pending[stream->n_pending++] = (struct mrg_pending){
        topic, mrg_object_ref(*object), line->action, line->index};
    return true;
}

/* Note a change for its topic, and for the one of all. */
static bool collect(struct mrg_stream *stream,
                    const struct mrg_stream_line *line)
{
    struct mrg_object *object = NULL;
    struct mrg_topic *all = mrg_map_get(&stream->topics, "", 0);
    bool is_done = collect_for(stream, all, line, &object);

    if (is_done && stream->key == NULL) {
        is_done = collect_for(
            stream,
            mrg_map_get(&stream->topics, line->name, strlen(line->name)), line,
            &object);
    }
    mrg_object_unref(object);
    return is_done;
}

/* ------------------------------------------------------------- committing */

/* A revision is complete. */
static bool commit(struct mrg_stream *stream, uint64_t index)
{
    struct mrg_topic *topic;
    size_t at = 0;
    bool is_done = true;

    for (size_t i = 0; i < stream->n_pending; i++) {
        const struct mrg_pending *change = &stream->pending[i];

        is_done = mrg_topic_apply(change->topic, change) && is_done;
    }
    mrg_stream_drop_pending(stream);
    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        if (topic->is_asked && topic->is_synced && !topic->has_snapshot &&
            topic->index != 0 && index > topic->index) {
            topic->index = index;
        }
    }
    return is_done || wrong(stream, "out of memory");
}

/* Everything that was asked for has been told. */
static void finish_snapshots(struct mrg_stream *stream, uint64_t index)
{
    struct mrg_topic *topic;
    size_t at = 0;

    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        if (topic->has_snapshot) {
            mrg_topic_finish(topic, index);
        }
    }
    stream->is_live = true;
    stream->n_failures = 0;
    mrg_server_worked(stream->t.server);
}

static void reset(struct mrg_stream *stream, const char *name)
{
    struct mrg_topic *topic;
    size_t at = 0;

    atomic_fetch_add(&stream->client->stats.stream_resets, 1);
    mrg_stream_drop_pending(stream);
    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        if (topic->is_asked &&
            (name[0] == '\0' || strcmp(topic->name, name) == 0)) {
            mrg_topic_reset(topic);
        }
    }
}

static bool apply_line(struct mrg_stream *stream,
                       const struct mrg_stream_line *line)
{
    switch (line->action) {
    case MRG_LINE_CREATE:
    case MRG_LINE_UPDATE:
    case MRG_LINE_DELETE:
        if (!collect(stream, line)) {
            return false;
        }
        break;
    case MRG_LINE_RESET:
        reset(stream, line->name);
        return true;
    case MRG_LINE_SYNCED:
        if (!commit(stream, line->index)) {
            return false;
        }
        finish_snapshots(stream, line->index);
        return true;
    case MRG_LINE_PROGRESS:
        break;
    }
    return line->more || commit(stream, line->index);
}

/* ------------------------------------------------------------- reading */

static bool read_line(struct mrg_stream *stream, const char *text, size_t len)
{
    struct mrg_stream_line line;
    bool is_done;
    int err;

    if (len == 0 || (len == 1 && text[0] == '\r')) {
        return true;
    }
    stream->heard_ms = mrg_now_ms();
    err = mrg_line_parse(&stream->arena, text, len, &line);
    if (err == MICROREG_E_NOMEM) {
        is_done = wrong(stream, "out of memory");
    } else if (err != MICROREG_OK) {
        is_done = wrong(stream, "sent something that is no stream");
    } else {
        is_done = apply_line(stream, &line);
    }
    mrg_arena_deinit(&stream->arena);
    return is_done;
}

bool mrg_stream_read(struct mrg_stream *stream, const char *bytes, size_t len)
{
    const char *end = bytes + len;
    const char *newline;

    while ((newline = memchr(bytes, '\n', (size_t)(end - bytes))) != NULL) {
        size_t n = (size_t)(newline - bytes);
        bool is_done;

        if (stream->buffer.len == 0) {
            is_done = read_line(stream, bytes, n);
        } else {
            mrg_text_add(&stream->buffer, bytes, n);
            is_done =
                !stream->buffer.failed
                    ? read_line(stream, stream->buffer.data, stream->buffer.len)
                    : wrong(stream, "sent a line that has no end");
            mrg_text_clear(&stream->buffer);
        }
        if (!is_done) {
            return false;
        }
        bytes = newline + 1;
    }
    mrg_text_add(&stream->buffer, bytes, (size_t)(end - bytes));
    return !stream->buffer.failed ||
           wrong(stream, "sent a line that has no end");
}
