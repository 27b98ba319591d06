/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of a WebSocket on an agent without -server: the lines of a
 * server's stream, in another form.
 *
 * The lines tell how far the stream is complete. When the server goes away the
 * next one is asked for what follows, and the client notices nothing. What was
 * told of an incomplete index is told again, which does no harm: a message is
 * the whole state of one instance.
 */
#include <stdio.h>
#include <string.h>

#include "api/relay.h"
#include "api/websocket.h"
#include "api/websocket_message.h"
#include "base/mem.h"
#include "base/text.h"

#define TARGET "/registry/watch"

/* A server's line is never longer. */
#define LINE_MAX_BYTES ((size_t)4 * 1024 * 1024)
#define READ_BYTES ((size_t)16 * 1024)

/* Of the lines that the server sends when nothing happens; twice of it is too
 * long a silence. */
#define PROGRESS "progress=5s"
#define SILENCE_MS 10000

struct relay_messages {
    struct api_messages base;
    struct mr_api *api;
    struct api_relay *relay; /* NULL: not asked yet. */
    char *query;             /* As the client sent it. */
    uint64_t index;          /* Complete up to here; 0: not yet. */
    bool has_heard;          /* The server in use has said something. */
    bool is_reset;           /* A snapshot comes for who has an older one. */
    struct mr_buf ahead;     /* Read, and not handed out from @at on. */
    size_t at;
    struct mr_buf message;
    struct mr_buf shortened;
};

/* ------------------------------------------------------------- lines */

/* A line of /registry/watch. */
struct line {
    uint64_t index;
    struct mr_slice action;
    bool more;
    struct mr_slice service; /* JSON; empty: none. */
};

/* Skip @text at the beginning of @rest; false: it is not there. */
static bool skip(struct mr_slice *rest, const char *text)
{
    size_t len = strlen(text);

    if (rest->len < len || memcmp(rest->data, text, len) != 0) {
        return false;
    }
    *rest = mr_slice((const char *)rest->data + len, rest->len - len);
    return true;
}

/* Take what comes before @stop. */
static bool take_until(struct mr_slice *rest, char stop,
                       struct mr_slice *out_taken)
{
    const char *end = memchr(rest->data, stop, rest->len);

    if (end == NULL) {
        return false;
    }
    *out_taken = mr_slice(rest->data, (size_t)(end - (const char *)rest->data));
    *rest = mr_slice(end, rest->len - out_taken->len);
    return true;
}

static bool take_number(struct mr_slice *rest, uint64_t *out_n)
{
    struct mr_slice digits;
    char text[24];

    if (!take_until(rest, ',', &digits) || digits.len >= sizeof text) {
        return false;
    }
    memcpy(text, digits.data, digits.len);
    text[digits.len] = '\0';
    return mr_parse_u64(text, out_n) == MR_OK;
}

/* Read a line of the form in which servers write them (api/feed_render.c). */
static bool parse_line(struct mr_slice rest, struct line *out)
{
    *out = (struct line){0};
    if (!skip(&rest, "{\"index\":") || !take_number(&rest, &out->index) ||
        !skip(&rest, ",\"action\":\"") ||
        !take_until(&rest, '"', &out->action) || !skip(&rest, "\"")) {
        return false;
    }
    out->more = skip(&rest, ",\"more\":true");
    if (skip(&rest, ",\"service\":") && rest.len > 1) {
        out->service = mr_slice(rest.data, rest.len - 1);
        rest = mr_slice((const char *)rest.data + rest.len - 1, 1);
    }
    return rest.len == 1 && skip(&rest, "}");
}

static bool is_action(const struct line *line, const char *action)
{
    return line->action.len == strlen(action) &&
           memcmp(line->action.data, action, line->action.len) == 0;
}

/* Make the message of @line, which has a service. */
static enum mr_err make_message(struct relay_messages *m,
                                const struct line *line,
                                struct mr_slice *out_message)
{
    struct mr_slice action = line->action;

    if (m->is_reset && is_action(line, "create")) {
        action = mr_slice_str("update");
    }
    mr_buf_reset(&m->message);
    mr_buf_str(&m->message, "{\"Action\":\"");
    mr_buf_add(&m->message, action.data, action.len);
    mr_buf_str(&m->message, "\",\"Service\":");
    mr_buf_add(&m->message, line->service.data, line->service.len);
    mr_buf_byte(&m->message, '}');
    if (mr_buf_failed(&m->message)) {
        return MR_E_NOMEM;
    }
    return websocket_message_fit(mr_buf_slice(&m->message), &m->shortened,
                                 out_message);
}

/* What @text means for the client; an empty message: nothing. */
static enum mr_err take_line(struct relay_messages *m, struct mr_slice text,
                             struct mr_slice *out_message)
{
    struct line line;

    *out_message = mr_slice(NULL, 0);
    if (!parse_line(text, &line)) {
        return MR_E_INVALID;
    }
    m->has_heard = true;
    if (is_action(&line, "reset")) {
        m->is_reset = true;
        m->index = 0;
        return MR_OK;
    }
    if (!line.more) {
        m->index = line.index;
    }
    if (is_action(&line, "synced")) {
        m->is_reset = false;
    }
    return line.service.len == 0 ? MR_OK : make_message(m, &line, out_message);
}

/* ------------------------------------------------------------- reading */

static void on_wake(void *reader)
{
    struct relay_messages *m = reader;

    m->base.wake(&m->base);
}

/* Ask a server for what follows. */
static enum mr_err ask(struct relay_messages *m)
{
    static const char *const headers[] = {"Accept", "application/x-ndjson"};
    struct api_relay_request request = {.method = "GET",
                                        .headers = headers,
                                        .n_headers = 1,
                                        .silence_ms = SILENCE_MS,
                                        .wake = on_wake,
                                        .reader = m};
    struct mr_buf target = MR_BUF_INIT;
    enum mr_err err = MR_E_NOMEM;

    mr_buf_printf(&target, TARGET "?" PROGRESS);
    if (m->index > 0) {
        mr_buf_printf(&target, "&index=%llu", (unsigned long long)m->index);
    }
    mr_buf_printf(&target, "&%s", m->query);
    m->has_heard = false;
    mr_buf_reset(&m->ahead);
    m->at = 0;
    request.target = mr_buf_cstr(&target);
    if (!mr_buf_failed(&target)) {
        err = api_relay_open(m->api->relays, &request, &m->relay);
    }
    mr_buf_deinit(&target);
    return err;
}

/* The server's stream ended: go on elsewhere, if it is known where. */
static enum mr_err ask_next(struct relay_messages *m)
{
    if (!m->has_heard || m->index == 0 || atomic_load(&m->api->is_quiescing)) {
        return MR_E_CLOSED;
    }
    api_relay_close(m->relay);
    m->relay = NULL;
    return ask(m);
}

/* Read more; *@out_has_more: something came. */
static enum mr_err read_more(struct relay_messages *m, bool *out_has_more)
{
    struct mr_slice headers;
    char *to;
    size_t n = 0;
    int status;
    enum mr_err err = api_relay_head(m->relay, &status, &headers);

    *out_has_more = false;
    if (err == MR_OK && status != 0 && status != 200) {
        return status >= 500 ? MR_E_BUSY : MR_E_INVALID;
    }
    if (m->at == m->ahead.len) {
        mr_buf_reset(&m->ahead);
        m->at = 0;
    }
    if (err == MR_OK) {
        to = (char *)mr_buf_grow(&m->ahead, READ_BYTES);
        if (to == NULL) {
            return MR_E_TOOBIG;
        }
        err = api_relay_read(m->relay, to, READ_BYTES, &n);
        m->ahead.len -= READ_BYTES - n;
    }
    *out_has_more = n > 0;
    if (err == MR_OK || err == MR_E_NOMEM || err == MR_E_BUSY) {
        return err;
    }
    return ask_next(m);
}

/* Forget what has been handed out, before more is read. */
static void compact(struct relay_messages *m)
{
    if (m->at > 0 && m->at < m->ahead.len) {
        memmove(m->ahead.data, m->ahead.data + m->at, m->ahead.len - m->at);
        m->ahead.len -= m->at;
        m->at = 0;
    }
}

static enum mr_err next_message(struct api_messages *base,
                                struct mr_slice *out_message)
{
    struct relay_messages *m =
        mr_container_of(base, struct relay_messages, base);
    bool has_more = true;
    enum mr_err err = m->relay == NULL ? ask(m) : MR_OK;

    *out_message = mr_slice(NULL, 0);
    while (err == MR_OK && has_more && out_message->len == 0) {
        const char *line = (const char *)m->ahead.data + m->at;
        const char *end = m->at == m->ahead.len
                              ? NULL
                              : memchr(line, '\n', m->ahead.len - m->at);

        if (end != NULL) {
            m->at += (size_t)(end - line) + 1;
            err =
                take_line(m, mr_slice(line, (size_t)(end - line)), out_message);
        } else {
            compact(m);
            err = read_more(m, &has_more);
        }
    }
    if (err == MR_OK && out_message->len == 0 && m->ahead.len == 0) {
        mr_buf_deinit(&m->ahead); /* Who waits holds little. */
        mr_buf_init(&m->ahead, LINE_MAX_BYTES);
    }
    return err;
}

/* ------------------------------------------------------------- life */

static void close_messages(struct api_messages *base)
{
    struct relay_messages *m =
        mr_container_of(base, struct relay_messages, base);

    api_relay_close(m->relay);
    mr_buf_deinit(&m->ahead);
    mr_buf_deinit(&m->message);
    mr_buf_deinit(&m->shortened);
    atomic_fetch_sub_explicit(&m->api->streams, 1, memory_order_relaxed);
    mr_free(m->query);
    mr_free(m);
}

enum mr_err api_relay_messages_open(struct api_request *req,
                                    struct api_messages **out_messages)
{
    struct relay_messages *m = mr_calloc(1, sizeof *m);

    if (m == NULL) {
        return MR_E_NOMEM;
    }
    m->query = mr_strdup(req->raw_query);
    if (m->query == NULL) {
        mr_free(m);
        return MR_E_NOMEM;
    }
    m->base.next = next_message;
    m->base.close = close_messages;
    m->api = req->api;
    mr_buf_init(&m->ahead, LINE_MAX_BYTES);
    mr_buf_init(&m->message, 0);
    mr_buf_init(&m->shortened, 0);
    atomic_fetch_add_explicit(&req->api->streams, 1, memory_order_relaxed);
    *out_messages = &m->base;
    return MR_OK;
}
