/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/agent/why: what became of a service, node, check or session, as this
 * server knows it. Needs neither a leader nor a quorum.
 */
#include <stdlib.h>
#include <string.h>

#include "api/handlers.h"
#include "api/why.h"
#include "api/why_text.h"

#define EVENTS_DEFAULT 50
#define EVENTS_MAX 1000

static bool has_leader(const struct api_request *req)
{
    struct mr_raft_status status;

    if (req->options->raft == NULL) {
        return false;
    }
    mr_raft_status(req->options->raft, &status);
    return status.has_leader;
}

/* ------------------------------------------------------------- summary */

static void tell_unknown(const struct why *w, struct mr_buf *out)
{
    mr_buf_str(out, "It is not registered, and this server never heard of it: "
                    "the events that it keeps ");
    if (w->req->options->host.why == NULL) {
        mr_buf_str(out, "are none");
    } else if (w->since_ms == 0) {
        mr_buf_str(out, "are none yet");
    } else {
        mr_buf_str(out, "reach back to ");
        why_text_time(out, w->since_ms);
    }
}

/* What happened last, and what that followed from. */
static void tell_last(const struct why *w, struct mr_buf *out)
{
    mr_buf_str(out, w->last);
    if (w->cause != NULL) {
        mr_buf_printf(out, ". Before that, %s", w->cause);
    }
}

/* The answer in a few sentences. */
static void summarize(struct why *w, struct mr_buf *out)
{
    if (w->n_rows == 0 && w->last == NULL) {
        tell_unknown(w, out);
    } else if (w->n_rows == 0) {
        mr_buf_str(out, "It is not registered: ");
        tell_last(w, out);
    } else {
        mr_buf_add(out, w->text.data, w->text.len);
        if (w->last_is_an_end) {
            mr_buf_str(out, ". The last one that went: ");
            tell_last(w, out);
        }
    }
    mr_buf_byte(out, '.');
}

/* ------------------------------------------------------------- JSON */

static void write_time(struct mr_json *j, const char *key, uint64_t ms)
{
    struct mr_buf text = MR_BUF_INIT;

    why_text_time(&text, ms);
    mr_json_kstr(j, key, mr_buf_cstr(&text));
    mr_buf_deinit(&text);
}

static void write_list(struct mr_json *j, const char *key,
                       const struct mr_buf *members)
{
    mr_json_key(j, key);
    mr_json_array(j);
    if (members->len > 0) {
        mr_json_raw(j, mr_buf_slice(members));
    }
    mr_json_array_end(j);
}

static void write_answer(struct why *w, struct mr_buf *out)
{
    static const char *const subjects[] = {
        [MR_KV_SUBJECT_NODE] = "node",
        [MR_KV_SUBJECT_SERVICE] = "service",
        [MR_KV_SUBJECT_CHECK] = "check",
        [MR_KV_SUBJECT_SESSION] = "session",
    };
    const struct mr_api_options *options = w->req->options;
    uint64_t now = options->clock->wall_ms(options->clock);
    struct mr_buf summary = MR_BUF_INIT;
    struct mr_json j;

    summarize(w, &summary);
    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_kstr(&j, "Subject", subjects[w->subject]);
    mr_json_kstr(&j, "ID", w->id);
    mr_json_kstr(&j, "Why", mr_buf_cstr(&summary));
    mr_json_kbool(&j, "Registered", w->n_rows > 0);
    mr_json_kstr(&j, "Server", options->agent.node_name);
    mr_json_kbool(&j, "KnownLeader", has_leader(w->req));
    mr_json_ku64(&j, "Revision", mr_kv_view_revision(w->view));
    write_time(&j, "Time", now);
    mr_json_ku64(&j, "TimeMs", now);
    write_list(&j, "State", &w->state);
    write_time(&j, "EventsSince", w->since_ms);
    mr_json_ku64(&j, "EventsSinceMs", w->since_ms);
    write_list(&j, "Events", &w->events);
    mr_json_object_end(&j);
    w->failed |= mr_buf_failed(&summary);
    mr_buf_deinit(&summary);
}

/* ------------------------------------------------------------- handlers */

bool api_why_prepare(struct api_request *req)
{
    const char *max = api_query(req, "max");
    struct mr_detail detail;
    uint64_t n;

    if (req->arg[0] == '\0') {
        return api_error(req, 400, "Missing ID");
    }
    if (max != NULL && (api_parse_uint(max, &n, &detail) != MR_OK || n == 0 ||
                        n > EVENTS_MAX)) {
        return api_error(req, 400, "Invalid max: want 1 to %d", EVENTS_MAX);
    }
    return true;
}

static enum mr_err answer(struct api_request *req, struct mr_kv_view *view,
                          enum mr_kv_subject subject, struct mr_buf *out)
{
    const char *max = api_query(req, "max");
    struct why *w = api_alloc(req, sizeof *w);
    enum mr_err err;

    if (w == NULL) {
        return MR_E_NOMEM;
    }
    memset(w, 0, sizeof *w);
    w->req = req;
    w->view = view;
    w->subject = subject;
    w->id = req->arg;
    err = why_find_nodes(w);
    if (err == MR_OK) {
        err = why_events(w,
                         max != NULL ? strtoul(max, NULL, 10) : EVENTS_DEFAULT);
    }
    if (err == MR_OK) {
        err = why_state(w);
    }
    if (err == MR_OK) {
        write_answer(w, out);
        out->failed |= w->failed || mr_buf_failed(&w->text) ||
                       mr_buf_failed(&w->state) || mr_buf_failed(&w->events);
    }
    mr_buf_deinit(&w->text);
    mr_buf_deinit(&w->state);
    mr_buf_deinit(&w->events);
    return err;
}

enum mr_err api_why_service(struct api_request *req, struct mr_kv_view *view,
                            struct mr_buf *out)
{
    return answer(req, view, MR_KV_SUBJECT_SERVICE, out);
}

enum mr_err api_why_node(struct api_request *req, struct mr_kv_view *view,
                         struct mr_buf *out)
{
    return answer(req, view, MR_KV_SUBJECT_NODE, out);
}

enum mr_err api_why_check(struct api_request *req, struct mr_kv_view *view,
                          struct mr_buf *out)
{
    return answer(req, view, MR_KV_SUBJECT_CHECK, out);
}

enum mr_err api_why_session(struct api_request *req, struct mr_kv_view *view,
                            struct mr_buf *out)
{
    return answer(req, view, MR_KV_SUBJECT_SESSION, out);
}
