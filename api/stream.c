/* SPDX-License-Identifier: Apache-2.0 */
/* Watch streams as bodies of HTTP answers. */
#include "api/stream.h"

#include <microhttpd.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "api/feed.h"
#include "api/park.h"

/* The library's own buffer is used for HTTP/1.0 only (a proxy's, mostly);
 * otherwise it lends the connection's. */
#define BLOCK_BYTES_HTTP10 4096
#define BLOCK_BYTES 16

/* A client that acknowledges nothing for so long is gone. */
#define UNACKNOWLEDGED_MS 30000

struct api_stream {
    struct api_http *x;
    struct api_reader reader;
    struct api_text *text; /* Being sent, or NULL. */
    size_t sent;
    uint64_t progress_ms;
    bool is_waiting; /* Registered with the park. */
};

static void on_news(struct api_reader *reader)
{
    struct api_stream *s = mr_container_of(reader, struct api_stream, reader);

    api_wake(s->x);
}

enum mr_err api_stream_begin(struct api_request *req,
                             const struct api_watch_spec *spec,
                             struct mr_kv_view *view, uint64_t progress_ms)
{
    struct api_http *x = req->http;
    struct api_stream *s = api_alloc(req, sizeof *s);
    enum mr_err err;

    if (s == NULL) {
        return MR_E_NOMEM;
    }
    memset(s, 0, sizeof *s);
    s->x = x;
    s->progress_ms = progress_ms;
    s->reader.wake = on_news;
    err = api_reader_open(req->api->feeds, spec, view, &s->reader, &s->text);
    if (err == MR_OK) {
        x->stream = s;
        atomic_fetch_add_explicit(&req->api->streams, 1, memory_order_relaxed);
    }
    return err;
}

void api_stream_end(struct api_http *x)
{
    struct api_stream *s = x->stream;

    if (s == NULL) {
        return;
    }
    if (s->is_waiting) {
        api_park_remove(x); /* Resumed because the connection is closed. */
    }
    api_reader_close(&s->reader);
    api_text_release(s->text);
    atomic_fetch_sub_explicit(&x->req.api->streams, 1, memory_order_relaxed);
    x->stream = NULL;
}

/* ------------------------------------------------------------- sending */

/* Whether a progress mark is due: then the park has let go of the stream. */
static bool is_mark_due(struct api_stream *s)
{
    struct api_http *x = s->x;

    if (!atomic_exchange(&x->is_due, false)) {
        return false;
    }
    s->is_waiting = false;
    api_park_remove(x);
    return mr_now_ms(x->req.options->clock) >= atomic_load(&x->quiet_until_ms);
}

/* Be woken after so much silence. A stream registers once and then only moves
 * its deadline, because ten thousand may do so at the same time. */
static enum mr_err wait_for_news(struct api_stream *s)
{
    struct api_http *x = s->x;
    enum mr_err err = MR_OK;

    uint64_t until_ms = mr_now_ms(x->req.options->clock) + s->progress_ms;

    atomic_store(&x->quiet_until_ms, until_ms);
    if (!s->is_waiting) {
        err = api_park_add(x->req.api->park, x, until_ms);
        s->is_waiting = err == MR_OK;
    }
    return err;
}

/* Get the next text, or suspend the connection: then s->text stays NULL.
 * MR_E_CLOSED: the service ends, or the client is gone. */
static enum mr_err next_text(struct api_stream *s)
{
    struct api_http *x = s->x;
    enum mr_err err;

    for (;;) {
        api_wait_arm(x); /* First: what the park says from here on is kept. */
        if (atomic_load(&x->is_client_gone) ||
            atomic_load(&x->req.api->is_quiescing)) {
            api_wait_disarm(x);
            return MR_E_CLOSED;
        }
        err = api_reader_next(&s->reader, is_mark_due(s), &s->text);
        if (err == MR_OK && s->text == NULL) {
            err = wait_for_news(s);
        }
        if (err != MR_OK || s->text != NULL) {
            api_wait_disarm(x);
            return err == MR_E_CANCELED ? MR_E_CLOSED : err;
        }
        if (atomic_load(&x->wait_state) != API_WAIT_WOKEN) {
            MHD_suspend_connection(x->connection);
            if (!api_park_enter(x->req.api->park, x)) {
                MHD_resume_connection(x->connection);
            }
            return MR_OK;
        }
    }
}

/* The library's content reader, whose shape it fixes (shape: callback). */
static ssize_t on_read(void *cls, uint64_t position, char *out, size_t cap)
{
    struct api_stream *s = cls;
    size_t n;

    (void)position;
    if (s->text == NULL) {
        enum mr_err err = next_text(s);

        if (err == MR_E_CLOSED) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (err != MR_OK) {
            api_http_break(s->x);
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        if (s->text == NULL) {
            return 0; /* Suspended. */
        }
    }
    n = s->text->len - s->sent;
    n = n < cap ? n : cap;
    memcpy(out, s->text->data + s->sent, n);
    s->sent += n;
    if (s->sent == s->text->len) {
        api_text_release(s->text);
        s->text = NULL;
        s->sent = 0;
    }
    return (ssize_t)n;
}

/* Let the system find out about clients that vanished. */
static void watch_for_silence(const struct api_http *x)
{
    unsigned ms = UNACKNOWLEDGED_MS;

    (void)setsockopt(api_http_fd(x), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms,
                     sizeof ms);
}

struct MHD_Response *api_stream_response(struct api_http *x)
{
    watch_for_silence(x);
    return MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, x->is_http10 ? BLOCK_BYTES_HTTP10 : BLOCK_BYTES,
        on_read, x->stream, NULL);
}
