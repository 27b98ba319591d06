/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams through an agent without -server, for HTTP clients.
 *
 * The request goes on as it came. The exchange waits until the head of the
 * server's answer is there; an answer that is no stream is collected and passed
 * on as any other, a stream becomes a body without an end.
 */
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "api/forward.h"
#include "api/handlers.h"
#include "api/park.h"
#include "api/relay.h"
#include "api/websocket.h"
#include "base/text.h"

/* Used for HTTP/1.0 only; otherwise the library lends the connection's own. */
#define BLOCK_BYTES 1024

/* A client that acknowledges nothing for so long is gone. */
#define UNACKNOWLEDGED_MS 30000

/* A refusal that is longer is cut off. */
#define REFUSAL_MAX ((size_t)64 * 1024)

/* What a server that has nothing else to say says so often. */
#define PROGRESS_DEFAULT_MS UINT64_C(10000)
#define PROGRESS_MAX_MS UINT64_C(600000)
#define NS_PER_MS 1000000

/* The wait for a head, and then for bytes, is the relay's to end. */
#define WAIT_MS UINT64_C(86400000)

struct api_relay_exchange {
    struct api_http *x;
    struct api_relay *relay;
    struct mr_slice headers; /* Of the answer. */
    bool is_waiting;         /* Registered with the park. */
    bool is_stream;          /* The answer does not end. */
    bool is_mid_line;        /* The client has the beginning of a line. */
};

bool api_relay_wanted(const struct api_http *x)
{
    return api_forward_wanted(x) && (x->req.route->read == api_watch ||
                                     x->req.route == &api_websocket_route);
}

bool api_relay_is_stream(const struct api_http *x)
{
    return x->relay != NULL && x->relay->is_stream;
}

struct mr_slice api_relay_headers(const struct api_http *x)
{
    return x->relay == NULL ? mr_slice(NULL, 0) : x->relay->headers;
}

/* ------------------------------------------------------------- waiting */

static void on_wake(void *reader)
{
    api_wake(reader);
}

/* Registered with the park no longer. */
static void stop_waiting(struct api_relay_exchange *r)
{
    if (r->is_waiting) {
        r->is_waiting = false;
        api_park_remove(r->x);
    }
}

/* Wait to be woken, armed already. */
static enum mr_err start_waiting(struct api_relay_exchange *r)
{
    struct api_http *x = r->x;
    enum mr_err err;

    err = api_park_add(x->req.api->park, x,
                       mr_now_ms(x->req.options->clock) + WAIT_MS);
    r->is_waiting = err == MR_OK;
    return err;
}

void api_relay_end(struct api_http *x)
{
    struct api_relay_exchange *r = x->relay;

    if (r != NULL) {
        stop_waiting(r);
        api_relay_close(r->relay);
        if (r->is_stream) {
            atomic_fetch_sub_explicit(&x->req.api->streams, 1,
                                      memory_order_relaxed);
        }
        x->relay = NULL;
    }
}

/* ------------------------------------------------------------- the body */

/* Get bytes, or suspend the connection: then *@out_n stays 0. */
static enum mr_err next_bytes(struct api_relay_exchange *r, char *out,
                              size_t cap, size_t *out_n)
{
    struct api_http *x = r->x;
    struct api_park *park = x->req.api->park;
    enum mr_err err;

    for (;;) {
        stop_waiting(r);
        if (x->is_client_gone || atomic_load(&x->req.api->is_quiescing)) {
            return MR_E_CLOSED;
        }
        api_wait_arm(x);
        err = api_relay_read(r->relay, out, cap, out_n);
        if (err != MR_OK || *out_n > 0) {
            api_wait_disarm(x);
            return err;
        }
        err = start_waiting(r);
        if (err != MR_OK) {
            api_wait_disarm(x);
            return err == MR_E_CANCELED ? MR_E_CLOSED : err;
        }
        if (atomic_load(&x->wait_state) != API_WAIT_WOKEN) {
            MHD_suspend_connection(x->connection);
            if (!api_park_enter(park, x)) {
                MHD_resume_connection(x->connection);
            }
            return MR_OK;
        }
    }
}

/* The library's content reader, whose shape it fixes (shape: callback). */
static ssize_t on_read(void *cls, uint64_t position, char *out, size_t cap)
{
    struct api_relay_exchange *r = cls;
    size_t n = 0;
    enum mr_err err = next_bytes(r, out, cap, &n);

    (void)position;
    if (err == MR_E_CLOSED && !r->is_mid_line) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (err != MR_OK) {
        api_http_break(r->x); /* Half a line must not look like a whole one. */
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (n > 0) {
        r->is_mid_line = out[n - 1] != '\n';
    }
    return (ssize_t)n;
}

struct MHD_Response *api_relay_response(struct api_http *x)
{
    unsigned ms = UNACKNOWLEDGED_MS;

    (void)setsockopt(api_http_fd(x), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms,
                     sizeof ms);
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES,
                                             on_read, x->relay, NULL);
}

/* ------------------------------------------------------------- the head */

static enum api_step refuse(struct api_http *x, enum mr_err err)
{
    const char *text = err == MR_E_TIMEOUT ? "The server did not answer in time"
                       : err == MR_E_INVALID
                           ? "The server's answer cannot be understood"
                           : "No known Consul servers";

    api_relay_end(x);
    if (err == MR_E_NOMEM || err == MR_E_CANCELED || err == MR_E_BUSY) {
        api_fail(&x->req, err);
    } else {
        (void)api_rpc_error(&x->req, 500, "%s", text);
    }
    return API_STEP_REPLY;
}

static enum api_step look_at_head(struct api_http *x);

/* Wait for more of the answer, armed already. */
static enum api_step wait_for_more(struct api_http *x)
{
    enum mr_err err = start_waiting(x->relay);

    if (err != MR_OK) {
        api_wait_disarm(x);
        return refuse(x, err);
    }
    x->next = look_at_head;
    return API_STEP_WAIT;
}

/* An answer that ends: collect it. */
static enum api_step collect(struct api_http *x, int status)
{
    struct api_relay_exchange *r = x->relay;
    struct mr_buf *out = api_out();
    char bytes[4096];
    size_t n;
    enum mr_err err;

    api_reply_reset(&x->req);
    mr_buf_add(out, x->req.body.data, x->req.body.len);
    do {
        err = api_relay_read(r->relay, bytes, sizeof bytes, &n);
        mr_buf_add(out, bytes, n);
    } while (n > 0 && out->len < REFUSAL_MAX);
    if (err == MR_OK && out->len < REFUSAL_MAX) {
        /* The worker's buffer is everybody's: keep it in the request's. */
        mr_buf_reset(&x->req.body);
        mr_buf_add(&x->req.body, out->data, out->len);
        return wait_for_more(x);
    }
    api_wait_disarm(x);
    x->req.reply.status = (unsigned)status;
    x->req.reply.type = NULL;     /* It is among the headers. */
    x->req.reply.is_error = true; /* So is the index. */
    x->req.pretty = false;
    x->has_answer = true;
    return API_STEP_REPLY;
}

/* The server's stream begins. */
static enum api_step begin_stream(struct api_http *x)
{
    api_wait_disarm(x);
    api_reply_reset(&x->req);
    x->req.reply.type = NULL;
    x->req.reply.is_error = true;
    x->has_answer = true;
    x->relay->is_stream = true;
    atomic_fetch_add_explicit(&x->req.api->streams, 1, memory_order_relaxed);
    return API_STEP_REPLY;
}

static enum api_step look_at_head(struct api_http *x)
{
    struct api_relay_exchange *r = x->relay;
    enum mr_err err;
    int status;

    stop_waiting(r);
    if (x->is_client_gone || atomic_load(&x->req.api->is_quiescing)) {
        return refuse(x, MR_E_CANCELED);
    }
    api_wait_arm(x);
    err = api_relay_head(r->relay, &status, &r->headers);
    if (err != MR_OK) {
        api_wait_disarm(x);
        return refuse(x, err);
    }
    if (status == 0) {
        return wait_for_more(x);
    }
    return status == 200 ? begin_stream(x) : collect(x, status);
}

/* ------------------------------------------------------------- the request */

/* How long the server may be silent: its progress marks may be late once. */
static uint64_t silence_of(const struct api_request *req)
{
    const char *text = api_query(req, "progress");
    uint64_t ms = PROGRESS_DEFAULT_MS;
    int64_t ns = 0;

    if (text != NULL && mr_duration_parse(text, &ns, NULL) == MR_OK && ns > 0) {
        ms = (uint64_t)ns / NS_PER_MS;
    }
    return 2 * (ms < PROGRESS_MAX_MS ? ms : PROGRESS_MAX_MS);
}

static enum mr_err open_relay(struct api_http *x, struct api_relay_exchange *r)
{
    struct api_passed_headers headers;
    struct api_relay_request request = {
        .method = x->req.method,
        .target = x->raw_target,
        .headers = headers.pairs,
        .body = mr_buf_slice(&x->req.body),
        .silence_ms = silence_of(&x->req),
        .wake = on_wake,
        .reader = x,
    };
    enum mr_err err;

    if (x->raw_target == NULL) {
        return MR_E_NOMEM;
    }
    api_forward_passed(x, &headers);
    request.n_headers = headers.n;
    api_wait_arm(x); /* It may be there before this returns. */
    err = api_relay_open(x->req.api->relays, &request, &r->relay);
    mr_buf_reset(&x->req.body);
    return err;
}

static enum api_step start_websocket(struct api_http *x)
{
    struct api_request *req = &x->req;
    struct api_messages *messages;
    enum mr_err err;

    if (!api_websocket_prepare(req)) {
        return API_STEP_REPLY;
    }
    api_reply_reset(req);
    err = api_relay_messages_open(req, &messages);
    if (err == MR_OK) {
        err = api_websocket_answer(req, messages);
    }
    if (err != MR_OK) {
        api_fail(req, err);
    }
    req->reply.is_error = true; /* There is no index. */
    return API_STEP_REPLY;
}

enum api_step api_relay_start(struct api_http *x)
{
    struct api_relay_exchange *r;
    enum mr_err err = MR_E_NOMEM;

    if (x->req.route == &api_websocket_route) {
        return start_websocket(x);
    }
    r = api_alloc(&x->req, sizeof *r);
    if (r != NULL) {
        memset(r, 0, sizeof *r);
        r->x = x;
        err = open_relay(x, r);
    }
    if (err != MR_OK) {
        api_wait_disarm(x);
        api_fail(&x->req, err);
        return API_STEP_REPLY;
    }
    x->relay = r;
    return wait_for_more(x);
}
