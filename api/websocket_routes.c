/* SPDX-License-Identifier: Apache-2.0 */
/* WebSockets on /registry: the handshake, and messages from a feed. */
#include <string.h>

#include "api/feed.h"
#include "api/websocket.h"
#include "api/websocket_handshake.h"
#include "api/websocket_message.h"
#include "base/mem.h"

#define REGISTRY_PATH "/registry"

/* ------------------------------------------------------------- messages */

/* Messages of a reader of a feed: the lines of its texts. */
struct feed_messages {
    struct api_messages base;
    struct api_reader reader;
    struct mr_api *api;
    struct api_text *text; /* Being handed out, or NULL. */
    size_t at;
    struct mr_buf shortened; /* See websocket_message_fit(). */
};

static void on_news(struct api_reader *reader)
{
    struct feed_messages *m =
        mr_container_of(reader, struct feed_messages, reader);

    m->base.wake(&m->base);
}

static enum mr_err next_message(struct api_messages *base,
                                struct mr_slice *out_message)
{
    struct feed_messages *m = mr_container_of(base, struct feed_messages, base);

    for (;;) {
        if (m->text != NULL && m->at < m->text->len) {
            const char *line = m->text->data + m->at;
            size_t left = m->text->len - m->at;
            const char *end = memchr(line, '\n', left);
            size_t len = end == NULL ? left : (size_t)(end - line);

            m->at += end == NULL ? left : len + 1;
            return websocket_message_fit(mr_slice(line, len), &m->shortened,
                                         out_message);
        }
        api_text_release(m->text);
        m->text = NULL;
        m->at = 0;
        enum mr_err err = api_reader_next(&m->reader, false, &m->text);

        if (err != MR_OK || m->text == NULL) {
            *out_message = mr_slice(NULL, 0);
            return err;
        }
    }
}

static void close_messages(struct api_messages *base)
{
    struct feed_messages *m = mr_container_of(base, struct feed_messages, base);

    api_reader_close(&m->reader);
    api_text_release(m->text);
    mr_buf_deinit(&m->shortened);
    atomic_fetch_sub_explicit(&m->api->streams, 1, memory_order_relaxed);
    mr_free(m);
}

/* The messages of the service @name, all without one, from @view on. */
static enum mr_err open_messages(struct api_request *req, const char *name,
                                 struct mr_kv_view *view,
                                 struct api_messages **out_messages)
{
    struct api_watch_name names = {mr_slice_str(name), 0};
    struct api_watch_spec spec = {.kind = API_WATCH_REGISTRY,
                                  .format = API_WATCH_WEBSOCKET,
                                  .names = &names,
                                  .n_names = name[0] == '\0' ? 0 : 1};
    struct feed_messages *m = mr_calloc(1, sizeof *m);
    enum mr_err err = MR_E_NOMEM;

    if (m != NULL) {
        m->base.next = next_message;
        m->base.close = close_messages;
        m->reader.wake = on_news;
        m->api = req->api;
        mr_buf_init(&m->shortened, 0);
        err =
            api_reader_open(req->api->feeds, &spec, view, &m->reader, &m->text);
    }
    if (err != MR_OK) {
        mr_free(m);
        return err;
    }
    atomic_fetch_add_explicit(&req->api->streams, 1, memory_order_relaxed);
    *out_messages = &m->base;
    return MR_OK;
}

/* ------------------------------------------------------------- the endpoint */

bool api_websocket_wanted(const struct api_http *x)
{
    return strcmp(x->req.method, "GET") == 0 && !x->is_http10 &&
           strcmp(x->req.path, REGISTRY_PATH) == 0 &&
           websocket_has_token(api_http_header(x, "Upgrade"), "websocket");
}

bool api_websocket_prepare(struct api_request *req)
{
    struct websocket_hello hello = {
        .upgrade = api_request_header(req, "Upgrade"),
        .connection = api_request_header(req, "Connection"),
        .key = api_request_header(req, "Sec-WebSocket-Key"),
        .version = api_request_header(req, "Sec-WebSocket-Version"),
    };
    unsigned status;
    const char *wrong = websocket_hello_check(&hello, &status);

    if (wrong == NULL) {
        return true;
    }
    (void)api_error(req, status, "%s", wrong);
    if (status == 426) {
        api_reply_header(req, "Sec-WebSocket-Version", "13");
    }
    return false;
}

enum mr_err api_websocket_answer(struct api_request *req,
                                 struct api_messages *messages)
{
    char *accept = api_alloc(req, WEBSOCKET_ACCEPT_LEN + 1);
    const char *key = api_request_header(req, "Sec-WebSocket-Key");

    if (accept == NULL || websocket_accept(key, accept) != MR_OK) {
        messages->close(messages);
        return MR_E_NOMEM;
    }
    req->reply.status = 101;
    req->reply.type = NULL;
    api_reply_header(req, "Upgrade", "websocket");
    api_reply_header(req, "Sec-WebSocket-Accept", accept);
    req->min_index = 0; /* It begins with a snapshot: do not block. */
    return api_websocket_begin(req, messages);
}

static enum mr_err answer(struct api_request *req, struct mr_kv_view *view,
                          struct mr_buf *out)
{
    const char *name = api_query(req, "service");
    struct api_messages *messages;
    enum mr_err err;

    (void)out;
    req->reply.index = mr_kv_view_revision(view);
    err = open_messages(req, name == NULL ? "" : name, view, &messages);
    return err == MR_OK ? api_websocket_answer(req, messages) : err;
}

const struct api_route api_websocket_route = {
    .method = "GET",
    .path = REGISTRY_PATH,
    .needs = API_READ,
    .flags = API_CONSISTENCY | API_NATIVE,
    .prepare = api_websocket_prepare,
    .read = answer,
};
