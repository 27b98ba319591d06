/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passing requests on to a server.
 *
 * The request goes as it came, with the headers that mean something to a
 * server, and so does the answer: status, headers and bytes. Only compressing
 * is done here, for what this client takes. A blocking query waits at the
 * server; here it is a suspended connection and one upstream.
 */
#include "api/forward.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "api/park.h"
#include "base/mem.h"
#include "base/text.h"

#define ANSWER_MAX ((size_t)256 * 1024 * 1024)
#define HEADERS_LEN_MAX ((size_t)16 * 1024)
#define TIMEOUT_MS 15000 /* Of what does not block. */
#define MARGIN_MS 10000  /* For the server, beyond the wait. */
#define NS_PER_MS 1000000

/* What a server looks at. */
static const char *const passed[] = {
    "Content-Type",   "Accept",     "Cache-Control",
    "X-Consul-Token", "User-Agent", "Last-Event-ID",
};

_Static_assert(MR_ARRAY_LEN(passed) + 1 == API_PASSED_MAX,
               "and X-Forwarded-For");

struct api_forward {
    struct mr_api_forward op;
    struct api_http *exchange;
    struct api_passed_headers headers;
};

bool api_forward_wanted(const struct api_http *x)
{
    return x->req.options->raft == NULL &&
           x->req.options->host.forward != NULL &&
           (x->req.route->flags & API_OWN) == 0 &&
           !(x->req.route->needs == API_LOCAL &&
             api_query_has(&x->req, "local"));
}

/* ------------------------------------------------------------- the answer */

static const char *text_of(const struct api_forward *f, enum mr_err err)
{
    bool is_read = strcmp(f->op.method, "GET") == 0;

    if (err == MR_E_UNREACHABLE) {
        return "No known Consul servers";
    }
    if (err == MR_E_TOOBIG) {
        return "The server's answer is too large to be passed on";
    }
    if (err == MR_E_TIMEOUT) {
        return is_read ? "The server did not answer in time"
                       : "The server did not answer in time: it may or may "
                         "not have been done";
    }
    return is_read ? "The connection to the server broke"
                   : "The connection to the server broke: it may or may not "
                     "have been done";
}

static void refuse(struct api_http *x, const struct api_forward *f,
                   enum mr_err err)
{
    if (err == MR_E_BUSY || err == MR_E_NOMEM || err == MR_E_CLOSED) {
        api_fail(&x->req, err);
    } else {
        (void)api_rpc_error(&x->req, 500, "%s", text_of(f, err));
    }
}

static enum api_step after_forward(struct api_http *x)
{
    struct api_forward *f = x->forward;
    struct api_request *req = &x->req;

    x->is_forwarding = false;
    api_park_unwatch(x);
    if (x->op_err == MR_OK && mr_buf_failed(&f->op.answer_headers)) {
        x->op_err = MR_E_NOMEM;
    }
    if (x->op_err != MR_OK) {
        refuse(x, f, x->op_err);
        return API_STEP_REPLY;
    }
    api_reply_reset(req);
    mr_buf_add(api_out(), f->op.answer.data, f->op.answer.len);
    if (mr_buf_failed(api_out())) {
        api_fail(req, MR_E_NOMEM);
        return API_STEP_REPLY;
    }
    req->reply.status = (unsigned)f->op.status;
    req->reply.type = NULL;     /* It is among the headers. */
    req->reply.is_error = true; /* So is the index. */
    req->pretty = false;        /* As it was asked for. */
    x->has_answer = true;
    return API_STEP_REPLY;
}

static void on_done(struct mr_api_forward *op, enum mr_err err)
{
    struct api_forward *f = mr_container_of(op, struct api_forward, op);
    struct api_http *x = f->exchange;

    x->op_err = err;
    api_wake_now(x);
}

struct mr_slice api_forward_headers(const struct api_http *x)
{
    return x->has_answer ? mr_buf_slice(&x->forward->op.answer_headers)
                         : mr_slice(NULL, 0);
}

/* ------------------------------------------------------------- the request */

/* How long the server may take: a blocking query its wait and the sixteenth
 * that the server adds. */
static uint64_t timeout_of(const struct api_http *x)
{
    const struct api_request *req = &x->req;
    const char *index = api_query(req, "index");
    const char *wait = api_query(req, "wait");
    uint64_t wait_ms = req->options->default_query_time_ms;
    int64_t ns = 0;

    if (req->route->needs == API_WRITE || index == NULL || index[0] == '\0' ||
        strcmp(index, "0") == 0) {
        return TIMEOUT_MS;
    }
    if (wait != NULL && mr_duration_parse(wait, &ns, NULL) == MR_OK && ns > 0) {
        wait_ms = (uint64_t)ns / NS_PER_MS;
    }
    if (wait_ms > req->options->max_query_time_ms) {
        wait_ms = req->options->max_query_time_ms;
    }
    return wait_ms + wait_ms / 16 + MARGIN_MS;
}

static void add_header(struct api_passed_headers *out, const char *name,
                       const char *value)
{
    out->pairs[2 * out->n] = name;
    out->pairs[2 * out->n + 1] = value;
    out->n++;
}

void api_forward_passed(const struct api_http *x,
                        struct api_passed_headers *out)
{
    const char *before = api_http_header(x, "X-Forwarded-For");
    char ip[INET6_ADDRSTRLEN];

    out->n = 0;
    for (size_t i = 0; i < MR_ARRAY_LEN(passed); i++) {
        const char *value = api_http_header(x, passed[i]);

        if (value != NULL) {
            add_header(out, passed[i], value);
        }
    }
    api_http_client(x, ip);
    (void)snprintf(out->client, sizeof out->client, "%.180s%s%s",
                   before == NULL ? "" : before, before == NULL ? "" : ", ",
                   ip); /* Fits. */
    add_header(out, "X-Forwarded-For", out->client);
}

static struct api_forward *make(struct api_http *x)
{
    struct api_request *req = &x->req;
    struct api_forward *f = api_alloc(req, sizeof *f);

    if (f == NULL || x->raw_target == NULL) {
        return NULL;
    }
    memset(f, 0, sizeof *f);
    f->exchange = x;
    f->op.method = req->method;
    f->op.target = x->raw_target;
    f->op.body = mr_buf_slice(&req->body);
    f->op.timeout_ms = timeout_of(x);
    f->op.done = on_done;
    mr_buf_init(&f->op.answer, ANSWER_MAX);
    mr_buf_init(&f->op.answer_headers, HEADERS_LEN_MAX);
    api_forward_passed(x, &f->headers);
    f->op.headers = f->headers.pairs;
    f->op.n_headers = f->headers.n;
    return f;
}

enum api_step api_forward_start(struct api_http *x)
{
    const struct mr_api_host *host = &x->req.options->host;
    enum mr_err err;

    x->forward = make(x);
    if (x->forward == NULL) {
        api_fail(&x->req, MR_E_NOMEM);
        return API_STEP_REPLY;
    }
    x->next = after_forward;
    api_wait_arm(x);
    /* The answer may be there before the call returns. */
    x->is_forwarding = true;
    err = host->forward(host->arg, &x->forward->op);
    if (err != MR_OK) {
        x->is_forwarding = false;
        api_wait_disarm(x);
        refuse(x, x->forward, err);
        return API_STEP_REPLY;
    }
    if (x->forward->op.timeout_ms > TIMEOUT_MS) {
        api_park_watch(x);
    }
    return API_STEP_WAIT;
}

void api_forward_cancel(struct api_http *x)
{
    const struct mr_api_host *host = &x->req.options->host;

    if (host->forward_cancel != NULL) {
        host->forward_cancel(host->arg, &x->forward->op);
    }
}

void api_forward_release(struct api_http *x)
{
    if (x->forward != NULL) {
        mr_buf_deinit(&x->forward->op.answer);
        mr_buf_deinit(&x->forward->op.answer_headers);
        x->forward = NULL;
    }
}
