/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream of watch-verify: puts its lines together and gives whole indexes
 * and snapshots to the log. A breach is said once; then the stream begins anew.
 */
#include "server/verify.h"

#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define TEXT_SHOWN 400
#define PAUSE_MS 4000

/* A change that others were told so long ago must have been told. */
#define LATE_MS (2 * VERIFY_SILENT_MS)

static void forget_events(struct verify_stream *s)
{
    for (size_t i = 0; i < s->n_events; i++) {
        json_decref(s->events[i].object);
    }
    s->n_events = 0;
    s->text = 0;
}

/* Nothing is half told any more. */
static void forget(struct verify_stream *s)
{
    forget_events(s);
    json_decref(s->model);
    s->model = NULL;
    s->was_more = false;
    s->is_snapshot = s->stream.index == 0;
}

static bool complain(struct verify_stream *s, struct mr_slice text,
                     const char *what)
{
    bool is_cut = text.len > TEXT_SHOWN;

    verify_breach(
        s->v, "stream %zu of %s at %s, complete up to %" PRIu64 ": %s: %.*s%s",
        s->number, mr_buf_cstr(&s->subject->name), s->stream.cli.http_addr,
        s->stream.index, what, (int)(is_cut ? TEXT_SHOWN : text.len),
        (const char *)text.data, is_cut ? "..." : "");
    s->stream.index = 0;
    s->was_said = true;
    return false;
}

/* What the log says of it; false: it was a breach. */
static bool settle(struct verify_stream *s, enum verify_verdict verdict,
                   struct mr_slice text, const struct mr_detail *why)
{
    switch (verdict) {
    case VERIFY_GOOD:
        return true;
    case VERIFY_BREACH:
        return complain(s, text, why->text);
    case VERIFY_UNKNOWN:
        s->stream.index = 0; /* The log has forgotten what is so old. */
        s->was_said = true;
        s->v->figures.unknown++;
        return false;
    case VERIFY_NOMEM:
        break;
    }
    return complain(s, text, "out of memory");
}

/* ------------------------------------------------------------- snapshots */

static const char *add_object(struct verify_stream *s,
                              const struct watch_line *line)
{
    struct mr_buf id = MR_BUF_INIT;
    const char *wrong = NULL;

    if (line->action != WATCH_CREATE || !line->more) {
        return "not a create, or without more, in a snapshot";
    }
    if (s->model == NULL) {
        s->model = json_object();
    }
    watch_object_id(s->subject->topic.kind, line->object, &id);
    if (json_object_get(s->model, mr_buf_cstr(&id)) != NULL) {
        wrong = "twice in one snapshot";
    } else if (json_object_set(s->model, mr_buf_cstr(&id), line->object) != 0) {
        wrong = "an object without an ID, or no memory";
    }
    mr_buf_deinit(&id);
    return wrong;
}

static bool end_snapshot(struct verify_stream *s, uint64_t index,
                         struct mr_slice text)
{
    json_t *model = s->model != NULL ? s->model : json_object();
    struct mr_detail why = {""};

    s->model = NULL;
    s->is_snapshot = false;
    s->v->figures.snapshots++;
    return settle(s, verify_log_snapshot(&s->subject->log, index, model, &why),
                  text, &why);
}

/* ------------------------------------------------------------- changes */

static bool add_event(struct verify_stream *s, const struct watch_line *line)
{
    if (s->n_events == s->cap_events) {
        size_t cap = s->cap_events == 0 ? 4 : s->cap_events * 2;
        struct verify_event *events =
            mr_realloc(s->events, cap * sizeof *events);

        if (events == NULL) {
            return false;
        }
        s->events = events;
        s->cap_events = cap;
    }
    s->events[s->n_events++] = (struct verify_event){
        .action = line->action, .object = json_incref(line->object)};
    return true;
}

/* Count how much later than the first stream this one was told. */
static void count_delay(struct verify_stream *s, uint64_t first_ms)
{
    uint64_t ms = s->v->loop.now_ms - first_ms;

    if (first_ms > s->begun_ms && !s->is_slow) {
        s->v->figures
            .delays[ms < VERIFY_DELAY_MAX_MS ? ms : VERIFY_DELAY_MAX_MS]++;
    }
}

static bool end_change(struct verify_stream *s, uint64_t index,
                       struct mr_slice text)
{
    const struct verify_change change = {
        .index = index,
        .text = s->text,
        .now_ms = s->v->loop.now_ms,
        .events = s->events,
        .n_events = s->n_events,
    };
    struct mr_detail why = {""};
    uint64_t first_ms;
    enum verify_verdict verdict = verify_log_change(
        &s->subject->log, s->stream.index, &change, &first_ms, &why);

    s->v->figures.changes++;
    if (verdict == VERIFY_GOOD) {
        count_delay(s, first_ms);
    }
    forget_events(s);
    return settle(s, verdict, text, &why);
}

/* ------------------------------------------------------------- lines */

/* What is wrong with @line whatever it says, or NULL. */
static const char *judge_order(const struct verify_stream *s,
                               const struct watch_line *line)
{
    bool is_event = line->object != NULL;

    if (s->was_more && line->index != s->at_index) {
        return "another index, though the last line said that more follows";
    }
    if (line->index < s->stream.index) {
        return "the index goes backwards";
    }
    if (is_event && !s->is_snapshot && line->index == s->stream.index) {
        return "an event of an index that was complete";
    }
    if (line->more &&
        (line->action == WATCH_SYNCED || line->action == WATCH_PROGRESS)) {
        return "a mark that says more follows";
    }
    return NULL;
}

static bool on_mark(struct verify_stream *s, const struct watch_line *line,
                    struct mr_slice text)
{
    struct mr_detail why = {""};

    if (s->is_snapshot) {
        return line->action == WATCH_SYNCED
                   ? end_snapshot(s, line->index, text)
                   : complain(s, text, "progress before the snapshot's end");
    }
    if (s->n_events > 0) {
        return complain(s, text, "a mark in the middle of a change");
    }
    s->v->figures.marks++;
    return settle(
        s,
        verify_log_quiet(&s->subject->log, s->stream.index, line->index, &why),
        text, &why);
}

static bool on_event(struct verify_stream *s, const struct watch_line *line,
                     struct mr_slice text)
{
    const char *wrong;

    if (s->is_snapshot) {
        wrong = add_object(s, line);
        return wrong == NULL || complain(s, text, wrong);
    }
    s->text = mr_hash64(text, s->text);
    if (!add_event(s, line)) {
        return complain(s, text, "out of memory");
    }
    return line->more || end_change(s, line->index, text);
}

static bool on_line(struct watch_stream *stream, struct watch_line *line,
                    struct mr_slice text)
{
    struct verify_stream *s = stream->owner;
    const char *wrong = judge_order(s, line);

    s->v->figures.lines++;
    if (wrong != NULL) {
        return complain(s, text, wrong);
    }
    s->was_more = line->more;
    s->at_index = line->index;
    switch (line->action) {
    case WATCH_CREATE:
    case WATCH_UPDATE:
    case WATCH_DELETE:
        return on_event(s, line, text);
    case WATCH_SYNCED:
    case WATCH_PROGRESS:
        return on_mark(s, line, text);
    case WATCH_RESET:
        break;
    }
    if (!line->more || s->n_events > 0 || s->is_snapshot) {
        return complain(s, text, "a reset that is none, or misplaced");
    }
    s->v->figures.resets++;
    s->is_snapshot = true;
    return true;
}

/* ------------------------------------------------------------- connections */

static void on_begin(struct watch_stream *stream, const char *address)
{
    struct verify_stream *s = stream->owner;

    (void)address;
    s->v->figures.connects++;
    s->begun_ms = s->v->loop.now_ms;
}

static void on_end(struct watch_stream *stream, const char *why)
{
    struct verify_stream *s = stream->owner;

    if (stream->is_broken && !s->was_said) {
        /* The line could not even be read. */
        (void)complain(s, mr_slice(why, strlen(why)), "a bad line");
    }
    if (stream->is_refused) {
        verify_breach(s->v, "stream of %s is refused: %s",
                      mr_buf_cstr(&s->subject->name), why);
    }
    s->v->figures.losses++;
    verify_lost(s->v, stream->cli.http_addr);
    s->is_paused = false;
    s->was_said = false;
    forget(s);
    watch_stream_move(stream, verify_random(s->v, s->v->addresses.n));
}

void verify_stream_start(struct verify_stream *s, struct verify *v,
                         struct verify_subject *subject)
{
    s->v = v;
    s->subject = subject;
    s->stream = (struct watch_stream){
        .loop = &v->loop,
        .cli = *v->cli,
        .addresses = &v->addresses,
        .topic = &subject->topic,
        .silent_ms = VERIFY_SILENT_MS,
        .progress = VERIFY_PROGRESS,
        .on_line = on_line,
        .on_begin = on_begin,
        .on_end = on_end,
        .owner = s,
    };
    if (v->move_ms > 0) {
        s->move_ms = v->loop.now_ms + verify_about(v, v->move_ms);
    }
    if (s->is_slow) {
        s->pause_ms = v->loop.now_ms + verify_about(v, PAUSE_MS);
    }
    forget(s);
    watch_stream_start(&s->stream, verify_random(v, v->addresses.n));
}

static void toggle_pause(struct verify_stream *s, uint64_t now_ms)
{
    s->is_paused = !s->is_paused && s->stream.is_answered;
    watch_call_pause(&s->stream.call, s->is_paused);
    s->stream.heard_ms = now_ms;
    s->pause_ms = now_ms + verify_about(s->v, PAUSE_MS);
}

/* Complain when others were told long ago what this one was not. */
static void check_late(struct verify_stream *s, uint64_t now_ms)
{
    const struct verify_entry *next;
    struct mr_buf text = MR_BUF_INIT;

    if (s->is_slow || s->stream.retry_ms != 0 || !s->stream.is_answered ||
        s->stream.index == 0 || now_ms - s->begun_ms < LATE_MS) {
        return;
    }
    next = verify_log_next(&s->subject->log, s->stream.index);
    if (next != NULL && now_ms - next->ms > LATE_MS) {
        mr_buf_printf(&text, "index %" PRIu64 ", since %" PRIu64 " ms",
                      next->index, now_ms - next->ms);
        (void)complain(s, mr_buf_slice(&text),
                       "a change that others were told does not come");
        mr_buf_deinit(&text);
        s->was_said = false;
        forget(s);
        watch_stream_move(&s->stream, verify_random(s->v, s->v->addresses.n));
    }
}

void verify_stream_tick(struct verify_stream *s)
{
    uint64_t now_ms = s->v->loop.now_ms;

    if (s->pause_ms != 0 && now_ms >= s->pause_ms) {
        toggle_pause(s, now_ms);
    }
    if (s->is_paused) {
        s->stream.heard_ms = now_ms;
    }
    if (s->move_ms != 0 && now_ms >= s->move_ms && !s->v->is_ending) {
        s->move_ms = now_ms + verify_about(s->v, s->v->move_ms);
        s->is_paused = false;
        watch_stream_move(&s->stream, verify_random(s->v, s->v->addresses.n));
        forget(s);
    }
    check_late(s, now_ms);
    watch_stream_tick(&s->stream);
}

void verify_stream_stop(struct verify_stream *s)
{
    watch_stream_stop(&s->stream);
    forget(s);
    mr_free(s->events);
    s->events = NULL;
}
