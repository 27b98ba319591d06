/* SPDX-License-Identifier: Apache-2.0 */
/* Watch streams: /v1/watch/ and /registry/watch (docs/watch.md). */
#include <string.h>
#include <strings.h>

#include "api/core.h"
#include "api/handlers.h"
#include "api/stream.h"
#include "api/watch_body.h"
#include "base/text.h"

#define PROGRESS_DEFAULT_MS UINT64_C(10000)
#define PROGRESS_MIN_MS UINT64_C(1000)
#define PROGRESS_MAX_MS UINT64_C(600000)
#define MS_PER_NS 1000000

/* A parsed request; lies in the request's memory. */
struct watch {
    struct api_watch_spec spec;
    uint64_t progress_ms;
};

/* ------------------------------------------------------------- parsing */

static bool parse_progress(struct api_request *req, struct watch *w)
{
    const char *text = api_query(req, "progress");
    int64_t ns = 0;

    w->progress_ms = PROGRESS_DEFAULT_MS;
    if (text == NULL || text[0] == '\0') {
        return true;
    }
    if (mr_duration_parse(text, &ns, NULL) != MR_OK ||
        ns < (int64_t)PROGRESS_MIN_MS * MS_PER_NS ||
        ns > (int64_t)PROGRESS_MAX_MS * MS_PER_NS) {
        return api_error(req, 400,
                         "Invalid progress \"%.40s\": a duration from 1s to "
                         "10m is wanted",
                         text);
    }
    w->progress_ms = (uint64_t)ns / MS_PER_NS;
    return true;
}

static bool parse_format(struct api_request *req, struct watch *w)
{
    const char *accept = api_request_header(req, "Accept");
    const char *last = api_request_header(req, "Last-Event-ID");

    w->spec.format = API_WATCH_LINES;
    if (accept != NULL && strcasestr(accept, "text/event-stream") != NULL) {
        w->spec.format = API_WATCH_SSE;
    }
    /* A browser that comes back says so: this is later than its ?index=. */
    if (last != NULL && last[0] != '\0' &&
        api_parse_uint(last, &req->min_index, NULL) != MR_OK) {
        return api_error(req, 400, "Invalid Last-Event-ID \"%.40s\"", last);
    }
    return true;
}

/* Parse what all streams have, into req->state. NULL: answered. */
static struct watch *prepare(struct api_request *req, enum api_watch_kind kind)
{
    struct watch *w = api_alloc(req, sizeof *w);

    if (w == NULL) {
        api_fail(req, MR_E_NOMEM);
        return NULL;
    }
    memset(w, 0, sizeof *w);
    req->state = w;
    w->spec.kind = kind;
    if (!parse_progress(req, w) || !parse_format(req, w)) {
        return NULL;
    }
    return w;
}

/* Who goes on where it was needs no leader, as long as we have been there. */
static bool finish(struct api_request *req, uint64_t last_index)
{
    if (last_index == 0) {
        return true;
    }
    if (req->mode == API_MODE_DEFAULT &&
        last_index <= mr_kv_revision(req->options->kv)) {
        req->mode = API_MODE_STALE;
    } else if (req->mode == API_MODE_STALE &&
               last_index > mr_kv_revision(req->options->kv)) {
        req->mode = API_MODE_DEFAULT; /* Catch up first. */
    }
    return true;
}

/* Parse a stream of the one @text of @kind. */
static bool prepare_named(struct api_request *req, enum api_watch_kind kind,
                          const char *text)
{
    struct watch *w = prepare(req, kind);
    struct api_watch_name *name = api_alloc(req, sizeof *name);

    if (w == NULL || name == NULL) {
        return w != NULL && api_error(req, 503, "out of memory");
    }
    name->name = mr_slice_str(text);
    name->index = req->min_index;
    w->spec.names = name;
    w->spec.n_names = 1;
    return finish(req, req->min_index);
}

bool api_watch_key_prepare(struct api_request *req)
{
    if (req->arg[0] == '\0') {
        return api_error(req, 400, "Missing key name");
    }
    return prepare_named(req, API_WATCH_KEY, req->arg);
}

bool api_watch_prefix_prepare(struct api_request *req)
{
    return prepare_named(req, API_WATCH_PREFIX, req->arg);
}

bool api_watch_service_prepare(struct api_request *req)
{
    const char *passing = api_query(req, "passing");
    bool only = passing != NULL;

    if (passing != NULL && passing[0] != '\0' &&
        api_parse_bool(passing, &only) != MR_OK) {
        return api_error(req, 400, "Invalid value for ?passing");
    }
    if (req->arg[0] == '\0') {
        return api_error(req, 400, "Missing service name");
    }
    if (!prepare_named(req, API_WATCH_SERVICE, req->arg)) {
        return false;
    }
    ((struct watch *)req->state)->spec.passing_only = only;
    return true;
}

/* Parse a stream of @kind that has no names. */
static bool prepare_all(struct api_request *req, enum api_watch_kind kind)
{
    struct watch *w = prepare(req, kind);

    if (w == NULL) {
        return false;
    }
    w->spec.index = req->min_index;
    return finish(req, req->min_index);
}

bool api_watch_services_prepare(struct api_request *req)
{
    return prepare_all(req, API_WATCH_SERVICES);
}

bool api_watch_nodes_prepare(struct api_request *req)
{
    return prepare_all(req, API_WATCH_NODES);
}

bool api_watch_checks_prepare(struct api_request *req)
{
    const char *state = api_query(req, "state");
    const char *service = api_query(req, "service");

    if (!prepare_all(req, API_WATCH_CHECKS)) {
        return false;
    }
    struct watch *w = req->state;

    if (state != NULL && state[0] != '\0' && strcmp(state, "any") != 0) {
        w->spec.state = state;
    }
    if (service != NULL && service[0] != '\0') {
        w->spec.service = service;
    }
    return true;
}

/* ------------------------------------------------------------- /registry */

bool api_watch_registry_prepare(struct api_request *req)
{
    const char *service = api_query(req, "service");

    if (service == NULL || service[0] == '\0') {
        return prepare_all(req, API_WATCH_REGISTRY);
    }
    return prepare_named(req, API_WATCH_REGISTRY, service);
}

/* Copies of the texts of @names, in the request's memory. */
static bool keep_names(struct api_request *req, struct api_watch_name *names,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *copy = api_dup(req, names[i].name.data, names[i].name.len);

        if (copy == NULL) {
            return false;
        }
        names[i].name.data = copy;
    }
    return true;
}

/* The services in the body, into req->state. False: answered. */
static bool parse_names(struct api_request *req, struct api_watch_name *names)
{
    struct watch *w = req->state;
    struct decode d;
    enum mr_err err;

    decode_init(&d);
    err =
        watch_body_names(&d, mr_buf_slice(&req->body), names, &w->spec.n_names);
    if (err == MR_OK && !keep_names(req, names, w->spec.n_names)) {
        err = MR_E_NOMEM;
    }
    if (err == MR_E_INVALID) {
        api_error(req, 400, "%s", d.error);
    } else if (err != MR_OK) {
        api_fail(req, err);
    }
    decode_deinit(&d);
    w->spec.names = names;
    return err == MR_OK;
}

bool api_watch_several_prepare(struct api_request *req)
{
    struct watch *w = prepare(req, API_WATCH_REGISTRY);
    struct api_watch_name *names =
        api_alloc(req, API_WATCH_NAMES_MAX * sizeof *names);
    uint64_t last = 0;

    if (w == NULL || names == NULL) {
        return w != NULL && api_error(req, 503, "out of memory");
    }
    if (!parse_names(req, names)) {
        return false;
    }
    for (size_t i = 0; i < w->spec.n_names; i++) {
        last = names[i].index > last ? names[i].index : last;
    }
    return finish(req, last);
}

/* ------------------------------------------------------------- beginning */

enum mr_err api_watch(struct api_request *req, struct mr_kv_view *view,
                      struct mr_buf *out)
{
    const struct watch *w = req->state;

    (void)out;
    req->reply.type = w->spec.format == API_WATCH_SSE ? "text/event-stream"
                                                      : "application/x-ndjson";
    req->reply.is_bytes = true;
    req->reply.index = mr_kv_view_revision(view);
    api_reply_header(req, "Cache-Control", "no-store");
    if (w->spec.format == API_WATCH_SSE) {
        api_reply_header(req, "X-Accel-Buffering", "no"); /* For proxies. */
    }
    req->min_index = 0; /* Said by the stream itself: do not block. */
    return api_stream_begin(req, &w->spec, view, w->progress_ms);
}
