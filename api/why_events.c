/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The events of the ring that explain something.
 *
 * Two passes: the first finds the events of the thing itself and notes where it
 * lived and when it ended; the second takes those and what happened around them:
 * the death of its node's agent, and the checks and nodes that fell with it.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "api/why.h"
#include "api/why_text.h"
#include "health/mr_health.h"

static bool same(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

static const char *keep_text(struct why *w, const char *text)
{
    const char *copy = api_dup(w->req, text, strlen(text));

    w->failed |= copy == NULL;
    return copy == NULL ? "" : copy;
}

/* ------------------------------------------------------------- matching */

static bool is_of_service(const struct why *w, const struct mr_kv_event *event)
{
    if (event->subject == MR_KV_SUBJECT_SERVICE) {
        return same(event->id, w->id) || same(event->service, w->id);
    }
    return event->subject == MR_KV_SUBJECT_CHECK &&
           (same(event->service_id, w->id) || same(event->service, w->id));
}

/* Whether @event is of the thing that was asked for. */
static bool is_own(const struct why *w, const struct mr_kv_event *event)
{
    switch (w->subject) {
    case MR_KV_SUBJECT_NODE:
        return same(event->node, w->id) &&
               (event->subject != MR_KV_SUBJECT_CHECK ||
                event->service_id[0] == '\0');
    case MR_KV_SUBJECT_SERVICE:
        return is_of_service(w, event);
    case MR_KV_SUBJECT_CHECK:
    case MR_KV_SUBJECT_SESSION:
        return event->subject == w->subject && same(event->id, w->id);
    }
    return false;
}

static bool lived_on(const struct why *w, const char *node)
{
    for (size_t i = 0; i < w->n_nodes; i++) {
        if (same(w->nodes[i], node)) {
            return true;
        }
    }
    return false;
}

static bool is_with_an_ending(const struct why *w,
                              const struct mr_kv_event *event)
{
    for (size_t i = 0; i < w->n_endings; i++) {
        if (w->endings[i].revision == event->revision &&
            same(w->endings[i].node, event->node)) {
            return true;
        }
    }
    return false;
}

static bool is_of_agent(const struct mr_kv_event *event)
{
    return event->subject == MR_KV_SUBJECT_CHECK &&
           strcmp(event->id, MR_HEALTH_CHECK_ID) == 0;
}

/* Whether @event happened to the agent of a node where it lived, or together
 * with its end. */
static bool is_around(const struct why *w, const struct mr_kv_event *event)
{
    bool is_agent = is_of_agent(event);

    if (event->subject != MR_KV_SUBJECT_NODE &&
        event->subject != MR_KV_SUBJECT_CHECK) {
        return false;
    }
    if (lived_on(w, event->node) &&
        (is_agent ||
         (event->subject == MR_KV_SUBJECT_NODE && why_text_is_end(event)))) {
        return true;
    }
    return is_with_an_ending(w, event);
}

static bool match_own(void *arg, const struct mr_kv_event *event)
{
    return is_own(arg, event);
}

static bool match_all(void *arg, const struct mr_kv_event *event)
{
    return is_own(arg, event) || is_around(arg, event);
}

/* ------------------------------------------------------------- first pass */

void why_note_node(struct why *w, const char *node)
{
    if (w->n_nodes < WHY_NODES_MAX && !lived_on(w, node)) {
        w->nodes[w->n_nodes++] = keep_text(w, node);
    }
}

static void note(void *arg, const struct mr_kv_event *event)
{
    struct why *w = arg;

    why_note_node(w, event->node);
    if (why_text_is_end(event)) {
        w->endings[w->n_endings % WHY_MARKS_MAX] =
            (struct why_ending){keep_text(w, event->node), event->revision};
        w->n_endings++;
    }
}

/* ------------------------------------------------------------- second pass */

static void write_names(struct mr_json *j, const struct mr_kv_event *event)
{
    static const char *const kinds[] = {
        [MR_KV_EVENT_REGISTERED] = "registered",
        [MR_KV_EVENT_CHANGED] = "changed",
        [MR_KV_EVENT_DEREGISTERED] = "deregistered",
        [MR_KV_EVENT_STATUS] = "status",
        [MR_KV_EVENT_ENDED] = "ended",
    };
    static const char *const subjects[] = {
        [MR_KV_SUBJECT_NODE] = "node",
        [MR_KV_SUBJECT_SERVICE] = "service",
        [MR_KV_SUBJECT_CHECK] = "check",
        [MR_KV_SUBJECT_SESSION] = "session",
    };

    mr_json_kstr(j, "What", kinds[event->kind]);
    mr_json_kstr(j, "Subject", subjects[event->subject]);
    mr_json_kstr(j, "Node", event->node);
    mr_json_kstr(j, "ID", event->id);
    mr_json_kstr(j, "Service", event->service);
    mr_json_kstr(j, "ServiceID", event->service_id);
    mr_json_kstr(j, "Status", event->status);
    mr_json_kstr(j, "By", event->by);
}

static void write_evidence(struct mr_json *j, const struct mr_kv_event *event)
{
    mr_json_kstr(j, "Leader", event->leader);
    mr_json_ku64(j, "Term", event->term);
    mr_json_key(j, "Lease");
    mr_json_object(j);
    mr_json_ku64(j, "ID", event->lease_id);
    mr_json_kstr(j, "Kind", why_text_kind(event->lease_kind));
    mr_json_ku64(j, "TTLMs", event->ttl_ms);
    mr_json_ku64(j, "SilentMs", event->silent_ms);
    mr_json_key(j, "GapsMs");
    mr_json_array(j);
    for (size_t i = 0; i < event->n_gaps; i++) {
        mr_json_u64(j, event->gaps_ms[i]);
    }
    mr_json_array_end(j);
    mr_json_object_end(j);
}

static void write_event(struct mr_buf *out, const struct mr_kv_event *event,
                        const char *sentence)
{
    struct mr_buf time = MR_BUF_INIT;
    struct mr_json j;

    if (out->len > 0) {
        mr_buf_byte(out, ',');
    }
    why_text_time(&time, event->time_ms);
    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_kstr(&j, "Time", mr_buf_cstr(&time));
    mr_json_ku64(&j, "TimeMs", event->time_ms);
    mr_json_ku64(&j, "Revision", event->revision);
    write_names(&j, event);
    if (event->lease_id != 0) {
        write_evidence(&j, event);
    }
    mr_json_kstr(&j, "Why", sentence);
    mr_json_object_end(&j);
    mr_buf_deinit(&time);
}

static struct why_mark *find_mark(struct why *w, const char *node,
                                  const char *check_id)
{
    for (size_t i = 0; i < w->n_marks; i++) {
        if (same(w->marks[i].node, node) &&
            strcmp(w->marks[i].check_id, check_id) == 0) {
            return &w->marks[i];
        }
    }
    return NULL;
}

/* @sentence is why the check has the status it has, until a later event. */
static void set_mark(struct why *w, const struct mr_kv_event *event,
                     const char *sentence)
{
    bool is_critical = strcmp(event->status, "critical") == 0;
    struct why_mark *mark = find_mark(w, event->node, event->id);

    if (mark == NULL && w->n_marks < WHY_MARKS_MAX) {
        mark = &w->marks[w->n_marks++];
        *mark =
            (struct why_mark){.node = keep_text(w, event->node),
                              .check_id = keep_text(w, event->id),
                              .service_id = keep_text(w, event->service_id)};
    }
    if (mark == NULL) {
        return;
    }
    mark->sentence = sentence;
    if (!why_text_is_end(event) && is_critical != (mark->critical != NULL)) {
        mark->critical = is_critical ? sentence : NULL;
        mark->turn = w->n_turns++;
    }
}

/* What had been critical for the longest when @event ended an instance, its own
 * checks or its node's; NULL: nothing. */
static const char *cause_of(const struct why *w,
                            const struct mr_kv_event *event)
{
    const struct why_mark *first = NULL;

    if (event->subject == MR_KV_SUBJECT_CHECK ||
        event->lease_kind == MR__LEASE_KIND__LEASE_REGISTRATION) {
        return NULL; /* It is its own cause. */
    }
    for (size_t i = 0; i < w->n_marks; i++) {
        const struct why_mark *mark = &w->marks[i];

        if (mark->critical != NULL && same(mark->node, event->node) &&
            (mark->service_id[0] == '\0' ||
             strcmp(mark->service_id, event->id) == 0) &&
            (first == NULL || mark->turn < first->turn)) {
            first = mark;
        }
    }
    return first == NULL ? NULL : first->critical;
}

const char *why_mark(struct why *w, const char *node, const char *check_id)
{
    const struct why_mark *mark = find_mark(w, node, check_id);

    return mark == NULL ? NULL : mark->sentence;
}

/* Append when @event was, and return the sentence in memory of the request. */
static const char *timed(struct why *w, const struct mr_kv_event *event,
                         struct mr_buf *sentence)
{
    mr_buf_str(sentence, ", at ");
    why_text_time(sentence, event->time_ms);
    mr_buf_printf(sentence, " (revision %" PRIu64 ")", event->revision);
    w->failed |= mr_buf_failed(sentence);
    return keep_text(w, mr_buf_cstr(sentence));
}

static void take(void *arg, const struct mr_kv_event *event)
{
    struct why *w = arg;
    struct mr_buf text = MR_BUF_INIT;
    /* That an agent came back ends an explanation, and is none itself. */
    bool is_silent = is_of_agent(event) && !is_own(w, event) &&
                     event->kind == MR_KV_EVENT_REGISTERED;
    const char *sentence;

    why_text_event(&text, event);
    if (!is_silent) {
        write_event(&w->events, event, mr_buf_cstr(&text));
    }
    sentence = timed(w, event, &text);
    mr_buf_deinit(&text);
    if (event->subject == MR_KV_SUBJECT_CHECK) {
        set_mark(w, event, sentence);
    }
    if (event->subject == w->subject && is_own(w, event)) {
        w->last = sentence;
        w->last_is_an_end = why_text_is_end(event);
        w->cause = w->last_is_an_end ? cause_of(w, event) : NULL;
    }
}

enum mr_err why_events(struct why *w, size_t max)
{
    struct mr_why *ring = w->req->options->host.why;
    struct mr_why_query query = {match_own, note, w, WHY_MARKS_MAX};
    enum mr_err err;

    if (ring == NULL) {
        return MR_OK;
    }
    err = mr_why_find(ring, &query, &w->since_ms);
    if (err != MR_OK) {
        return err;
    }
    if (w->n_endings > WHY_MARKS_MAX) {
        w->n_endings = WHY_MARKS_MAX;
    }
    query = (struct mr_why_query){match_all, take, w, max};
    err = mr_why_find(ring, &query, &w->since_ms);
    return err == MR_OK && w->failed ? MR_E_NOMEM : err;
}
