/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a topic: spans of indexes of which everything is known.
 *
 *   snapshot at 50        span (50, 50]
 *   change 60 after 50    span (50, 60], one entry
 *   progress to 70        span (50, 70]
 *   snapshot at 75        a span of its own, until somebody tells what happened
 *                         in (70, 75]: then both are one, and must agree there
 */
#include "server/verify.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

/* The oldest half of a span's entries goes when it has so many. */
#define ENTRIES_MAX ((size_t)1 << 20)

/* Spans that never became one, as after a reset of all streams. */
#define SPANS_MAX 64

static void free_span(struct verify_span *span)
{
    if (span != NULL) {
        json_decref(span->model);
        mr_free(span->entries);
        mr_free(span);
    }
}

void verify_log_deinit(struct verify_log *log)
{
    for (size_t i = 0; i < log->n_spans; i++) {
        free_span(log->spans[i]);
    }
    mr_free(log->spans);
    log->spans = NULL;
    log->n_spans = 0;
}

/* ------------------------------------------------------------- finding */

/* Which span has @index; log->n_spans: none. */
static size_t find_span(const struct verify_log *log, uint64_t index)
{
    for (size_t i = log->n_spans; i > 0; i--) {
        const struct verify_span *span = log->spans[i - 1];

        if (index >= span->base && index <= span->tip) {
            return i - 1;
        }
    }
    return log->n_spans;
}

/* How many entries of @span have an index of at most @index. */
static size_t count_until(const struct verify_span *span, uint64_t index)
{
    size_t low = 0;
    size_t high = span->n_entries;

    while (low < high) {
        size_t at = low + (high - low) / 2;

        if (span->entries[at].index <= index) {
            low = at + 1;
        } else {
            high = at;
        }
    }
    return low;
}

/* The first entry of @span after @index, or NULL. */
static const struct verify_entry *next_in(const struct verify_span *span,
                                          uint64_t index)
{
    size_t at = count_until(span, index);

    return at < span->n_entries ? &span->entries[at] : NULL;
}

static uint64_t state_at(const struct verify_span *span, uint64_t index)
{
    size_t n = count_until(span, index);

    return n == 0 ? span->base_state : span->entries[n - 1].state;
}

const struct verify_entry *verify_log_next(const struct verify_log *log,
                                           uint64_t after)
{
    size_t at = find_span(log, after);

    return at == log->n_spans ? NULL : next_in(log->spans[at], after);
}

uint64_t verify_log_tip(const struct verify_log *log)
{
    return log->n_spans == 0 ? 0 : log->spans[log->n_spans - 1]->tip;
}

static enum verify_verdict breach(struct mr_detail *why, const char *text,
                                  uint64_t a, uint64_t b)
{
    (void)mr_fail(why, MR_E_CORRUPT, "%s (index %" PRIu64 ", %" PRIu64 ")",
                  text, a, b);
    return VERIFY_BREACH;
}

enum verify_verdict verify_log_check(const struct verify_log *log,
                                     uint64_t index, uint64_t state,
                                     struct mr_detail *why)
{
    size_t at = find_span(log, index);

    if (at == log->n_spans) {
        return VERIFY_UNKNOWN;
    }
    return state_at(log->spans[at], index) == state
               ? VERIFY_GOOD
               : breach(why, "the state is not what the events make of it",
                        index, log->spans[at]->tip);
}

enum verify_verdict verify_log_changed(const struct verify_log *log,
                                       uint64_t after, uint64_t until,
                                       struct mr_detail *why)
{
    size_t at = find_span(log, until);
    const struct verify_entry *next;

    if (at == log->n_spans || log->spans[at]->base > after) {
        return VERIFY_UNKNOWN;
    }
    next = next_in(log->spans[at], after);
    return next != NULL && next->index <= until
               ? VERIFY_GOOD
               : breach(why, "nothing changed in between", after, until);
}

/* ------------------------------------------------------------- growing */

static bool reserve(struct verify_span *span, size_t n)
{
    size_t cap = span->cap_entries == 0 ? 64 : span->cap_entries;
    struct verify_entry *entries;

    if (span->n_entries > ENTRIES_MAX) {
        size_t half = span->n_entries / 2;

        span->base = span->entries[half - 1].index;
        span->base_state = span->entries[half - 1].state;
        memmove(span->entries, span->entries + half,
                (span->n_entries - half) * sizeof *entries);
        span->n_entries -= half;
    }
    while (cap < span->n_entries + n) {
        cap *= 2;
    }
    if (cap > span->cap_entries) {
        entries = mr_realloc(span->entries, cap * sizeof *entries);
        if (entries == NULL) {
            return false;
        }
        span->entries = entries;
        span->cap_entries = cap;
    }
    return true;
}

static void remove_span(struct verify_log *log, size_t at)
{
    free_span(log->spans[at]);
    log->n_spans--;
    memmove(&log->spans[at], &log->spans[at + 1],
            (log->n_spans - at) * sizeof *log->spans);
}

/* Put the span behind number @at into it. */
static bool join(struct verify_log *log, size_t at)
{
    struct verify_span *span = log->spans[at];
    struct verify_span *next = log->spans[at + 1];

    if (!reserve(span, next->n_entries)) {
        return false;
    }
    if (next->n_entries > 0) {
        memcpy(span->entries + span->n_entries, next->entries,
               next->n_entries * sizeof *next->entries);
    }
    span->n_entries += next->n_entries;
    span->tip = next->tip;
    span->state = next->state;
    json_decref(span->model);
    span->model = next->model;
    next->model = NULL;
    remove_span(log, at + 1);
    return true;
}

/* Nothing happened between the tip of span number @at and @until: take in the
 * spans that begin there. */
static enum verify_verdict extend(struct verify_log *log, size_t at,
                                  uint64_t until, struct mr_detail *why)
{
    struct verify_span *span = log->spans[at];
    size_t known = span->n_entries;

    while (at + 1 < log->n_spans && log->spans[at + 1]->base <= until) {
        if (log->spans[at + 1]->base_state != span->state) {
            return breach(why, "a snapshot is not what the events make of it",
                          log->spans[at + 1]->base, until);
        }
        if (!join(log, at)) {
            return VERIFY_NOMEM;
        }
        if (span->n_entries > known && span->entries[known].index <= until) {
            return breach(why, "a change was left out",
                          span->entries[known].index, until);
        }
    }
    span->tip = span->tip > until ? span->tip : until;
    return VERIFY_GOOD;
}

/* A new span, at its place. */
static struct verify_span *insert_span(struct verify_log *log, uint64_t index)
{
    struct verify_span *span = mr_calloc(1, sizeof *span);
    struct verify_span **spans =
        mr_realloc(log->spans, (log->n_spans + 1) * sizeof *log->spans);
    size_t at = log->n_spans;

    log->spans = spans != NULL ? spans : log->spans;
    if (span == NULL || spans == NULL) {
        mr_free(span);
        return NULL;
    }
    while (at > 0 && log->spans[at - 1]->base > index) {
        at--;
    }
    memmove(&log->spans[at + 1], &log->spans[at],
            (log->n_spans - at) * sizeof *log->spans);
    log->spans[at] = span;
    log->n_spans++;
    span->base = index;
    span->tip = index;
    return span;
}

static uint64_t state_of(enum watch_kind kind, json_t *model)
{
    uint64_t state = 0;
    const char *id;
    json_t *object;

    json_object_foreach(model, id, object)
    {
        state += verify_object_hash(kind, object);
    }
    return state;
}

enum verify_verdict verify_log_snapshot(struct verify_log *log, uint64_t index,
                                        json_t *model, struct mr_detail *why)
{
    uint64_t state = state_of(log->kind, model);
    enum verify_verdict verdict = verify_log_check(log, index, state, why);
    struct verify_span *span;

    if (verdict != VERIFY_UNKNOWN) {
        json_decref(model);
        return verdict;
    }
    span = insert_span(log, index);
    if (span == NULL) {
        json_decref(model);
        return VERIFY_NOMEM;
    }
    span->model = model;
    span->base_state = state;
    span->state = state;
    if (log->n_spans > SPANS_MAX) {
        remove_span(log, 0);
    }
    return VERIFY_GOOD;
}

/* ------------------------------------------------------------- changes */

/* Do what @event says to the model. */
static bool apply(struct verify_log *log, struct verify_span *span,
                  const struct verify_event *event, const char *id)
{
    const json_t *old = json_object_get(span->model, id);

    if (old != NULL) {
        span->state -= verify_object_hash(log->kind, old);
    }
    if (event->action == WATCH_DELETE) {
        return json_object_del(span->model, id) == 0;
    }
    span->state += verify_object_hash(log->kind, event->object);
    return json_object_set(span->model, id, event->object) == 0;
}

/* What is wrong with @event, or NULL. */
static const char *judge(const struct verify_log *log,
                         const struct verify_span *span,
                         const struct verify_event *event, const char *id)
{
    const json_t *old = json_object_get(span->model, id);

    switch (event->action) {
    case WATCH_CREATE:
        return old == NULL ? NULL : "create of what is there";
    case WATCH_UPDATE:
        return old == NULL ? "update of what is not there"
               : verify_object_same(log->kind, old, event->object)
                   ? "update without a change"
                   : NULL;
    case WATCH_DELETE:
        return old == NULL        ? "delete of what is not there"
               : log->is_filtered ? NULL
               : verify_object_same(log->kind, old, event->object)
                   ? NULL
                   : "delete with another object than there was";
    case WATCH_RESET:
    case WATCH_SYNCED:
    case WATCH_PROGRESS:
        break;
    }
    return "no event";
}

/* Whether one of the events before number @n is about @id too. */
static bool is_repeated(const struct verify_log *log,
                        const struct verify_change *change, size_t n,
                        const char *id)
{
    struct mr_buf other = MR_BUF_INIT;
    bool is_found = false;

    for (size_t i = 0; i < n && !is_found; i++) {
        mr_buf_reset(&other);
        watch_object_id(log->kind, change->events[i].object, &other);
        is_found = strcmp(mr_buf_cstr(&other), id) == 0;
    }
    mr_buf_deinit(&other);
    return is_found;
}

static enum verify_verdict take_event(struct verify_log *log,
                                      struct verify_span *span,
                                      const struct verify_change *change,
                                      size_t n, struct mr_detail *why)
{
    const struct verify_event *event = &change->events[n];
    struct mr_buf id = MR_BUF_INIT;
    const char *wrong;
    bool is_ok;

    watch_object_id(log->kind, event->object, &id);
    /* The registry tells another version as another node of it. */
    wrong = n < 64 && log->kind != WATCH_REGISTRY &&
                    is_repeated(log, change, n, mr_buf_cstr(&id))
                ? "two events about it at one index"
            : !verify_object_dated(log->kind, event->action, event->object,
                                   change->index)
                ? "its CreateIndex or ModifyIndex is not that of the change"
                : judge(log, span, event, mr_buf_cstr(&id));
    if (wrong != NULL) {
        (void)mr_fail(why, MR_E_CORRUPT, "%s of \"%.100s\" at %" PRIu64 ": %s",
                      watch_action_name(event->action), mr_buf_cstr(&id),
                      change->index, wrong);
    }
    is_ok = apply(log, span, event, mr_buf_cstr(&id));
    mr_buf_deinit(&id);
    return wrong != NULL ? VERIFY_BREACH : is_ok ? VERIFY_GOOD : VERIFY_NOMEM;
}

/* @change is new: put it behind the tip of span number @at. */
static enum verify_verdict append(struct verify_log *log, size_t at,
                                  const struct verify_change *change,
                                  struct mr_detail *why)
{
    struct verify_span *span = log->spans[at];
    enum verify_verdict verdict = VERIFY_GOOD;

    if (!reserve(span, 1)) {
        return VERIFY_NOMEM;
    }
    for (size_t i = 0; i < change->n_events; i++) {
        enum verify_verdict one = take_event(log, span, change, i, why);

        verdict = one > verdict ? one : verdict;
    }
    if (log->on_news != NULL && !log->on_news(log->arg, change, why)) {
        verdict = VERIFY_BREACH;
    }
    span->entries[span->n_entries++] = (struct verify_entry){
        .index = change->index,
        .text = change->text,
        .state = span->state,
        .ms = change->now_ms,
    };
    span->tip = change->index;
    /* A snapshot may have been taken just there. */
    return verdict != VERIFY_GOOD ? verdict
                                  : extend(log, at, change->index, why);
}

/* @next is what the log has where @change was told. */
static enum verify_verdict compare(const struct verify_entry *next,
                                   const struct verify_change *change,
                                   uint64_t *out_first_ms,
                                   struct mr_detail *why)
{
    if (next->index < change->index) {
        return breach(why, "a change that another stream was told is left out",
                      next->index, change->index);
    }
    if (next->index > change->index) {
        return breach(why, "a change that another stream was not told",
                      change->index, next->index);
    }
    *out_first_ms = next->ms;
    return next->text == change->text
               ? VERIFY_GOOD
               : breach(why, "told otherwise than to another stream",
                        change->index, next->index);
}

enum verify_verdict verify_log_change(struct verify_log *log, uint64_t after,
                                      const struct verify_change *change,
                                      uint64_t *out_first_ms,
                                      struct mr_detail *why)
{
    size_t at = find_span(log, after);
    const struct verify_entry *next;
    enum verify_verdict verdict;

    *out_first_ms = change->now_ms;
    if (at == log->n_spans) {
        return VERIFY_UNKNOWN;
    }
    next = next_in(log->spans[at], after);
    if (next != NULL) {
        return compare(next, change, out_first_ms, why);
    }
    if (change->index <= log->spans[at]->tip) {
        return breach(why, "a change where another stream was told of none",
                      change->index, log->spans[at]->tip);
    }
    verdict = extend(log, at, change->index - 1, why);
    if (verdict != VERIFY_GOOD) {
        return verdict;
    }
    next = next_in(log->spans[at], after);
    return next != NULL ? compare(next, change, out_first_ms, why)
                        : append(log, at, change, why);
}

enum verify_verdict verify_log_quiet(struct verify_log *log, uint64_t after,
                                     uint64_t until, struct mr_detail *why)
{
    size_t at = find_span(log, after);
    const struct verify_entry *next;

    if (at == log->n_spans) {
        return VERIFY_UNKNOWN;
    }
    next = next_in(log->spans[at], after);
    if (next != NULL && next->index <= until) {
        return breach(why, "a change that another stream was told is left out",
                      next->index, until);
    }
    return until > log->spans[at]->tip ? extend(log, at, until, why)
                                       : VERIFY_GOOD;
}
