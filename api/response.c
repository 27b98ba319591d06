/* SPDX-License-Identifier: Apache-2.0 */
/* From a finished reply to libmicrohttpd's response object. */
#include "api/response.h"

#include <microhttpd.h>
#include <stdio.h>
#include <string.h>

#include "api/forward.h"
#include "api/gzip.h"
#include "api/relay.h"
#include "api/stream.h"
#include "api/websocket.h"
#include "base/mem.h"

#define HEADER_LINE_MAX 8192

/* ------------------------------------------------------------- the body */

/* The body as it will be sent, in memory of its own that MHD will free. */
static bool make_body(struct api_http *x, struct mr_buf *body)
{
    const struct api_reply *reply = &x->req.reply;
    struct mr_slice plain = mr_buf_slice(api_out());
    struct mr_buf indented = MR_BUF_INIT;
    bool ok = true;

    if (reply->is_encoded || plain.len == 0) {
        mr_buf_add(body, plain.data, plain.len);
        return !mr_buf_failed(body);
    }
    if (x->req.pretty && reply->type != NULL &&
        strcmp(reply->type, API_TYPE_JSON) == 0) {
        mr_json_indent(&indented, plain, 4);
        ok = !mr_buf_failed(&indented);
        plain = mr_buf_slice(&indented);
    }
    if (ok && x->accepts_gzip) {
        ok = api_gzip(plain, body) == MR_OK;
    } else if (ok) {
        mr_buf_add(body, plain.data, plain.len);
        ok = !mr_buf_failed(body);
    }
    mr_buf_deinit(&indented);
    return ok;
}

/* ------------------------------------------------------------- headers */

static bool add(struct MHD_Response *r, const char *name, const char *value)
{
    return MHD_add_response_header(r, name, value) == MHD_YES;
}

static bool add_number(struct MHD_Response *r, const char *name, uint64_t n)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    return add(r, name, text);
}

/* The state's headers of a read (consul-parity 1.4). */
static bool add_meta(const struct api_http *x, struct MHD_Response *r)
{
    static const char *const consistency[] = {"leader", "stale", "consistent"};
    const struct api_request *req = &x->req;
    bool failed = req->reply.is_error;
    uint64_t index = failed ? 1 : req->reply.index;

    if (x->stream != NULL) {
        return true; /* Its lines say it. */
    }
    if (req->route == NULL || (failed && !req->reply.meta_failed) ||
        (!failed && req->route->needs != API_READ)) {
        return true;
    }
    if (!add_number(r, "X-Consul-Index", index == 0 ? 1 : index) ||
        !add(r, "X-Consul-Knownleader",
             !failed && x->known_leader ? "true" : "false") ||
        !add_number(r, "X-Consul-Lastcontact",
                    failed ? 0 : x->last_contact_ms)) {
        return false;
    }
    if ((req->route->flags & API_NATIVE) != 0 &&
        !add_number(r, "X-Microreg-Index", index == 0 ? 1 : index)) {
        return false;
    }
    return failed || (req->route->flags & API_CONSISTENCY) == 0 ||
           add(r, "X-Consul-Effective-Consistency", consistency[req->mode]);
}

/* The headers of a server's answer; what is made here is not among them. */
static bool add_passed(const struct api_http *x, struct MHD_Response *r)
{
    struct mr_slice lines =
        x->relay != NULL ? api_relay_headers(x) : api_forward_headers(x);
    const char *at = lines.data;
    const char *end = at + lines.len;
    char line[HEADER_LINE_MAX];
    bool ok = true;

    while (ok && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline == NULL ? end : newline) - at);
        char *value;

        if (len < sizeof line) {
            memcpy(line, at, len);
            line[len] = '\0';
            value = strchr(line, ':');
            if (value != NULL) {
                *value++ = '\0';
                value += strspn(value, " ");
                ok = strcasecmp(line, "Vary") == 0 || add(r, line, value);
            }
        }
        at += len + 1;
    }
    return ok;
}

static bool add_headers(const struct api_http *x, struct MHD_Response *r,
                        size_t body_len)
{
    const struct api_reply *reply = &x->req.reply;
    bool ok = add_meta(x, r) && add_passed(x, r);

    if (reply->type != NULL && (body_len > 0 || reply->is_bytes)) {
        ok = ok && add(r, "Content-Type", reply->type);
    }
    if (x->vary) {
        ok = ok && add(r, "Vary", "Accept-Encoding");
    }
    if (x->accepts_gzip && body_len > 0) {
        ok = ok && add(r, "Content-Encoding", "gzip");
    }
    if (x->allow) {
        char allow[64];

        api_route_allow(&x->match, allow, sizeof allow);
        ok = ok && add(r, "Allow", allow);
    }
    if (x->location != NULL) {
        ok = ok && add(r, "Location", x->location);
    }
    if (x->close_after) {
        ok = ok && add(r, "Connection", "close");
    }
    for (size_t i = 0; i < reply->n_headers; i++) {
        ok = ok && add(r, reply->headers[i].name, reply->headers[i].value);
    }
    return ok;
}

/* The answer that does not end. */
static struct MHD_Response *make_stream(struct api_http *x)
{
    struct MHD_Response *r = x->websocket != NULL ? api_websocket_response(x)
                             : api_relay_is_stream(x) ? api_relay_response(x)
                                                      : api_stream_response(x);

    x->vary = false; /* It is never compressed. */
    if (r != NULL && !add_headers(x, r, 0)) {
        MHD_destroy_response(r);
        return NULL;
    }
    return r;
}

struct MHD_Response *api_response_make(struct api_http *x,
                                       struct mr_slice *out_body)
{
    struct mr_buf body = MR_BUF_INIT;
    size_t len;

    if (x->stream != NULL || x->websocket != NULL || api_relay_is_stream(x)) {
        return make_stream(x);
    }
    if (!make_body(x, &body)) {
        mr_buf_deinit(&body);
        return NULL;
    }
    void *data = mr_buf_take(&body, &len);
    struct MHD_Response *r =
        len == 0
            ? MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT)
            : MHD_create_response_from_buffer_with_free_callback(len, data,
                                                                 mr_free);

    if (r == NULL) {
        mr_free(data);
        return NULL;
    }
    if (!add_headers(x, r, len)) {
        MHD_destroy_response(r);
        return NULL;
    }
    if (out_body != NULL) {
        *out_body = mr_slice(data, len);
    }
    return r;
}

struct MHD_Response *api_response_make_true(void)
{
    static const char text[] = "true";
    struct MHD_Response *r = MHD_create_response_from_buffer(
        strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);

    if (r != NULL && (!add(r, "Content-Type", API_TYPE_JSON) ||
                      !add(r, "Vary", "Accept-Encoding"))) {
        MHD_destroy_response(r);
        return NULL;
    }
    return r;
}

bool api_response_is_true(const struct api_http *x)
{
    const struct api_request *req = &x->req;
    const struct mr_buf *out = api_out();

    return out->len == 4 && memcmp(out->data, "true", 4) == 0 &&
           req->reply.status == 200 && req->reply.n_headers == 0 &&
           !x->has_answer && req->route->needs == API_WRITE &&
           !x->accepts_gzip && !req->pretty && !x->close_after;
}

void api_response_release(struct MHD_Response *response)
{
    if (response != NULL) {
        MHD_destroy_response(response);
    }
}
