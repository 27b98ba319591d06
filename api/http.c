/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests in and out of libmicrohttpd. Together with response.c the only file
 * that knows the library.
 *
 *  - the request line makes an exchange (on_target);
 *  - with the headers dispatch.c decides (begin);
 *  - the body is collected, or dropped when the answer is known already;
 *  - the exchange's steps run until it has an answer; one that waits suspends
 *    its connection, and the park resumes it.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/cache.h"
#include "api/core.h"
#include "api/gzip.h"
#include "api/http_server.h"
#include "api/listen.h"
#include "api/park.h"
#include "api/relay.h"
#include "api/response.h"
#include "api/stream.h"
#include "api/websocket.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

/* A refused body of at most this size is read and dropped before the answer:
 * closing a connection with unread bytes resets it, and the client may lose the
 * answer. */
#define DROP_MAX ((uint64_t)8 * 1024 * 1024)

/* All bodies together may take so much memory while they arrive. */
#define BODY_BYTES_MAX ((uint64_t)64 * 1024 * 1024)

const char *api_http_header(const struct api_http *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

static int connection_fd(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info == NULL ? -1 : info->connect_fd;
}

int api_http_fd(const struct api_http *x)
{
    return connection_fd(x->connection);
}

void api_http_break(struct api_http *x)
{
    (void)shutdown(api_http_fd(x), SHUT_RDWR); /* It may be gone. */
}

void api_http_client(const struct api_http *x, char out[INET6_ADDRSTRLEN])
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *at = info == NULL ? NULL : info->client_addr;
    const void *ip = NULL;

    out[0] = '\0';
    if (at != NULL && at->sa_family == AF_INET) {
        ip = &((const struct sockaddr_in *)(const void *)at)->sin_addr;
    } else if (at != NULL && at->sa_family == AF_INET6) {
        ip = &((const struct sockaddr_in6 *)(const void *)at)->sin6_addr;
    }
    if (ip != NULL) {
        (void)inet_ntop(at->sa_family, ip, out, INET6_ADDRSTRLEN); /* Fits. */
    }
}

void api_http_resume(struct api_http *x)
{
    MHD_resume_connection(x->connection);
}

/* ------------------------------------------------------------- answering */

static void count_status(struct mr_api *api, unsigned status)
{
    if (status >= 500) {
        atomic_fetch_add_explicit(&api->errors_5xx, 1, memory_order_relaxed);
    } else if (status >= 400) {
        atomic_fetch_add_explicit(&api->errors_4xx, 1, memory_order_relaxed);
    }
}

/* Hand the answer to the library. */
static enum MHD_Result send_answer(struct api_http *x)
{
    unsigned status = x->req.reply.status;
    struct MHD_Response *response = x->made;

    if (x->cached != NULL) {
        response = api_cached_response(x->cached, &status);
    } else if (response == NULL && api_response_is_true(x)) {
        response = x->req.api->true_response;
    } else if (response == NULL) {
        x->made = api_response_make(x, NULL);
        response = x->made;
    }
    x->phase = API_PHASE_SENT;
    if (response == NULL) {
        return MHD_NO; /* No memory for an answer: close. */
    }
    count_status(x->req.api, status);
    enum MHD_Result ok = MHD_queue_response(x->connection, status, response);

    api_response_release(x->made);
    x->made = NULL;
    api_cached_release(x->cached);
    x->cached = NULL;
    return ok;
}

/* Run the exchange until it is answered or waits. */
static enum MHD_Result run(struct api_http *x)
{
    while (x->next(x) == API_STEP_WAIT) {
        if (atomic_load(&x->wait_state) == API_WAIT_WOKEN) {
            continue; /* Done already: no need to suspend. */
        }
        MHD_suspend_connection(x->connection);
        if (!api_park_enter(x->req.api->park, x)) {
            MHD_resume_connection(x->connection); /* It came in between. */
        }
        return MHD_YES;
    }
    return send_answer(x);
}

/* ------------------------------------------------------------- receiving */

/* Headers that decide how the exchange goes on. */
static void read_headers(struct api_http *x)
{
    const char *length = api_http_header(x, "Content-Length");

    x->accepts_gzip = api_accepts_gzip(api_http_header(x, "Accept-Encoding"));
    if (length != NULL && mr_parse_u64(length, &x->body_expected) != MR_OK) {
        x->body_expected = UINT64_MAX;
    }
}

/* Whether to answer without reading the body: it is huge, or the client waits
 * for leave to send it. Only for the methods whose rest the library gives up. */
static bool refuses_body(const struct api_http *x)
{
    const char *method = x->req.method;

    return (strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0) &&
           (x->body_expected > DROP_MAX ||
            (x->body_expected > 0 && api_http_header(x, "Expect") != NULL));
}

static enum MHD_Result begin(struct api_http *x, const char *method,
                             const char *version)
{
    read_headers(x);
    x->is_http10 = strcmp(version, "HTTP/1.0") == 0;
    api_dispatch(x, method);
    if (strcmp(version, "HTTP/1.1") == 0 &&
        api_http_header(x, "Host") == NULL) {
        api_error(&x->req, 400,
                  "400 Bad Request: missing required Host header");
        x->phase = API_PHASE_REFUSE;
        x->close_after = true;
        x->vary = false;
    }
    if (x->phase == API_PHASE_REFUSE) {
        if (refuses_body(x)) {
            x->close_after = true;
            return send_answer(x);
        }
        /* Rendered now, because the worker's buffer is everybody's. */
        x->made = api_response_make(x, NULL);
        return x->made == NULL ? MHD_NO : MHD_YES;
    }
    return MHD_YES;
}

/* Answer while the body is still arriving, and drop the rest of it. */
static void refuse_rest(struct api_http *x)
{
    x->made = api_response_make(x, NULL);
    x->phase = API_PHASE_REFUSE;
}

/* Room for the body: its share of what all bodies may take, and one allocation
 * when its length is known. False: refused. */
static bool reserve_body(struct api_http *x)
{
    struct mr_api *api = x->req.api;
    uint64_t share = x->body_expected > 0 && x->body_expected < x->body_max
                         ? x->body_expected
                         : x->body_max;

    x->body_reserved = share;
    if (atomic_fetch_add(&api->body_bytes, share) + share > BODY_BYTES_MAX) {
        api_fail(&x->req, MR_E_BUSY);
        refuse_rest(x);
        return false;
    }
    mr_buf_init(&x->req.body, x->body_max);
    if (x->body_expected > 0 && x->body_expected <= x->body_max) {
        (void)mr_buf_grow(&x->req.body, (size_t)x->body_expected);
        x->req.body.len = 0;
    }
    return true;
}

static void release_body(struct api_http *x)
{
    if (x->body_reserved > 0) {
        atomic_fetch_sub(&x->req.api->body_bytes, x->body_reserved);
        x->body_reserved = 0;
    }
}

static void take_body(struct api_http *x, const char *data, size_t len)
{
    struct mr_buf *body = &x->req.body;

    if (x->phase != API_PHASE_BODY || !api_takes_body(x->req.route)) {
        return; /* Dropped. */
    }
    if (x->body_reserved == 0 && !reserve_body(x)) {
        return;
    }
    mr_buf_add(body, data, len);
    if (!mr_buf_failed(body)) {
        return;
    }
    if (body->len + len > x->body_max) {
        api_error(&x->req, 413, "Request body too large, max size: %llu bytes.",
                  (unsigned long long)x->body_max);
        x->close_after = true;
    } else {
        api_fail(&x->req, MR_E_NOMEM);
    }
    refuse_rest(x);
}

/* The library's access handler, whose shape it fixes (shape: callback). */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *data,
                                  size_t *len, void **context)
{
    struct api_http *x = *context;

    (void)cls;
    (void)url; /* The target is parsed by ourselves. */
    if (x == NULL) {
        return MHD_NO; /* There was no memory for it. */
    }
    x->connection = connection;
    if (x->phase == API_PHASE_NEW) {
        return begin(x, method, version);
    }
    if (*len > 0) {
        take_body(x, data, *len);
        *len = 0;
        return MHD_YES;
    }
    if (x->phase == API_PHASE_REFUSE) {
        return x->made == NULL ? MHD_NO : send_answer(x);
    }
    if (x->phase == API_PHASE_SENT) {
        return MHD_NO; /* The library is ending, and did not take the answer. */
    }
    x->phase = API_PHASE_RUN;
    return run(x);
}

/* The request line has been read: @uri is the target as it was sent. */
static void *on_target(void *cls, const char *uri,
                       struct MHD_Connection *connection)
{
    struct mr_api *api = cls;

    (void)connection;
    atomic_fetch_add_explicit(&api->requests, 1, memory_order_relaxed);
    return api_exchange_new(api, uri);
}

static void on_completed(void *cls, struct MHD_Connection *connection,
                         void **context, enum MHD_RequestTerminationCode how)
{
    struct api_http *x = *context;

    (void)cls;
    (void)connection;
    (void)how;
    if (x != NULL) {
        /* A resumed connection that turns out closed comes here at once. */
        api_unblock(x);
        api_stream_end(x);
        api_websocket_drop(x);
        api_relay_end(x);
        api_park_unwatch(x);
        release_body(x);
        api_response_release(x->made);
        api_cached_release(x->cached);
        api_exchange_free(x);
    }
    *context = NULL;
}

/* Targets are decoded by ourselves: leave them as they are. */
static size_t no_unescape(void *cls, struct MHD_Connection *connection, char *s)
{
    (void)cls;
    (void)connection;
    return strlen(s);
}

static void on_connection(void *cls, struct MHD_Connection *connection,
                          void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct mr_api *api = cls;

    (void)socket_context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        atomic_fetch_add_explicit(&api->connections, 1, memory_order_relaxed);
    } else {
        api_park_forget(api->park, connection_fd(connection));
        atomic_fetch_sub_explicit(&api->connections, 1, memory_order_relaxed);
    }
}

bool api_http_is_adopted(const struct api_http *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_DAEMON);

    return info != NULL && x->req.api->adopted != NULL &&
           info->daemon == x->req.api->adopted;
}

/* ------------------------------------------------------------- listeners */

/* A worker's stack. Only what is touched is resident. */
#define WORKER_STACK ((size_t)1024 * 1024)

/* A connection without a request for this long is closed. */
#define IDLE_TIMEOUT_S 300u

struct api_listener {
    struct MHD_Daemon *daemon;
};

static void on_library_log(void *cls, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static void on_library_log(void *cls, const char *fmt, va_list args)
{
    struct mr_api *api = cls;
    char text[256];

    /* The only sign that the library gives of it. */
    if (strstr(fmt, "connection limit") != NULL) {
        atomic_fetch_add_explicit(&api->refused_connections, 1,
                                  memory_order_relaxed);
    }
    if (mr_log_enabled(MR_LOG_DEBUG)) {
        (void)vsnprintf(text, sizeof text, fmt, args);
        text[strcspn(text, "\n")] = '\0';
        mr_log_debug("api", "microhttpd: %s", text);
    }
}

/* Workers for the listening socket @fd; -1: one for adopted connections, which
 * are many from one agent. */
static struct MHD_Daemon *start_daemon(struct mr_api *api, int fd)
{
    const struct mr_api_options *o = &api->options;
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD |
                           MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE |
                           MHD_USE_TURBO | MHD_USE_ERROR_LOG |
                           (fd < 0 ? MHD_USE_NO_LISTEN_SOCKET : 0);
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_library_log, api},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)o->connection_memory,
         NULL},
        {MHD_OPTION_CONNECTION_LIMIT, o->max_connections, NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT,
         fd < 0 ? 0 : o->max_connections_per_client, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, NULL},
        {MHD_OPTION_THREAD_STACK_SIZE, WORKER_STACK, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 0, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, api},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)no_unescape, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, api},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, api},
        {fd < 0 ? MHD_OPTION_END : MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {o->n_workers > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END,
         o->n_workers, NULL},
        {MHD_OPTION_END, 0, NULL},
    };

    return MHD_start_daemon(flags, 0, NULL, NULL, on_request, api,
                            MHD_OPTION_ARRAY, items, MHD_OPTION_END);
}

enum mr_err api_http_start(struct mr_api *api, struct mr_detail *detail)
{
    const struct mr_api_options *o = &api->options;
    uint16_t port = o->port;

    api->listeners = mr_calloc(o->n_addresses, sizeof *api->listeners);
    if (api->listeners == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    if (o->raft != NULL) {
        /* Before the others, whose workers look at it. */
        api->adopted = start_daemon(api, -1);
        if (api->adopted == NULL) {
            return mr_fail(detail, MR_E_NOMEM,
                           "cannot start the HTTP worker for agents");
        }
    }
    for (size_t i = 0; i < o->n_addresses; i++) {
        int fd;
        enum mr_err err = api_listen(o->addresses[i], &port, &fd, detail);

        if (err != MR_OK) {
            return err;
        }
        struct MHD_Daemon *daemon = start_daemon(api, fd);

        if (daemon == NULL) {
            close(fd);
            return mr_fail(detail, MR_E_IO,
                           "cannot start the HTTP workers on %s port %u",
                           o->addresses[i], (unsigned)port);
        }
        api->listeners[api->n_listeners++].daemon = daemon;
    }
    api->port = port;
    return MR_OK;
}

enum mr_err mr_api_adopt(struct mr_api *api, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_storage room;
    } a;
    socklen_t len = sizeof a;

    if (api->adopted == NULL || atomic_load(&api->is_quiescing)) {
        (void)close(fd); /* Nothing was written to it. */
        return MR_E_CLOSED;
    }
    if (getpeername(fd, &a.any, &len) != 0) {
        (void)close(fd);
        return MR_E_UNREACHABLE; /* It has gone already. */
    }
    /* The library closes @fd when it refuses. */
    return MHD_add_connection(api->adopted, fd, &a.any, len) == MHD_YES
               ? MR_OK
               : MR_E_BUSY;
}

void api_http_stop(struct mr_api *api)
{
    for (size_t i = 0; i < api->n_listeners; i++) {
        MHD_stop_daemon(api->listeners[i].daemon);
    }
    if (api->adopted != NULL) {
        MHD_stop_daemon(api->adopted);
        api->adopted = NULL;
    }
    mr_free(api->listeners);
    api->listeners = NULL;
    api->n_listeners = 0;
}
