/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One relay's connection to a server.
 *
 * - The server in use is asked for, connected to, and sent the request.
 * - Until the head of its answer is there everything that goes wrong, and too
 *   long a silence, means: say that the server is doubted, and try again a
 *   little later with the one that is in use then.
 * - After that the body goes to the reader as it comes. A server that dies, or
 *   says nothing for twice its progress time, ends the relay.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/relay_core.h"
#include "base/log.h"
#include "base/mem.h"

#define CONNECT_MS 1000
#define HEAD_MS 5000
#define RETRY_MS 100
#define READ_BYTES ((size_t)16 * 1024)

/* What a turn reads of one relay, before it is the others' turn. */
#define TURN_READS 4

/* A server that acknowledges nothing for so long is gone. */
#define UNACKNOWLEDGED_MS 10000

static uint64_t now_of(const struct api_relay *relay)
{
    return mr_now_ms(relay->relays->options->clock);
}

/* ------------------------------------------------------------- states */

/* Its deadline is in so many milliseconds. */
static void set_deadline(struct api_relay *relay, uint64_t ms)
{
    mr_heap_move(&relay->relays->deadlines, &relay->deadline,
                 now_of(relay) + ms);
}

static void set_state(struct api_relay *relay, enum relay_state state)
{
    static const uint64_t deadlines[] = {
        [RELAY_SEEKING] = RETRY_MS,
        [RELAY_CONNECTING] = CONNECT_MS,
        [RELAY_ASKING] = HEAD_MS,
    };

    relay->state = state;
    if (state <= RELAY_ASKING) {
        set_deadline(relay, deadlines[state]);
    } else if (state == RELAY_READING && relay->silence_ms > 0) {
        set_deadline(relay, relay->silence_ms);
    } else {
        set_deadline(relay, UINT64_MAX / 2);
    }
}

/* Watch the socket for @events. */
static bool watch_socket(struct api_relay *relay, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = relay}};

    if (relay->events == events) {
        return true;
    }
    relay->events = events;
    return epoll_ctl(relay->relays->epoll_fd, EPOLL_CTL_MOD, relay->fd,
                     &event) == 0;
}

void relay_disconnect(struct api_relay *relay)
{
    if (relay->fd >= 0) {
        (void)close(relay->fd); /* It leaves the epoll set with it. */
        relay->fd = -1;
    }
}

/* Nothing more comes, because of @end. */
static void finish(struct api_relay *relay, enum mr_err end)
{
    relay_disconnect(relay);
    set_state(relay, RELAY_OVER);
    pthread_mutex_lock(&relay->lock);
    relay->end = end;
    if (relay->wake != NULL) {
        relay->wake(relay->reader);
    }
    pthread_mutex_unlock(&relay->lock);
}

/* The server does not do its work. */
static void doubt(const struct api_relay *relay)
{
    const struct mr_api_host *host = &relay->relays->options->host;

    if (host->doubt != NULL) {
        host->doubt(host->arg);
    }
}

/* It failed with @err: try another one, or give up. What this agent lacks is no
 * fault of the server's. */
static void fail(struct api_relay *relay, enum mr_err err)
{
    bool has_head = relay->state == RELAY_READING;

    if (err == MR_E_NOMEM || err == MR_E_BUSY) {
        finish(relay, err);
        return;
    }
    doubt(relay);
    if (has_head || now_of(relay) >= relay->give_up_ms) {
        finish(relay, err);
        return;
    }
    relay_disconnect(relay);
    pthread_mutex_lock(&relay->lock);
    mr_buf_reset(&relay->body);
    pthread_mutex_unlock(&relay->lock);
    relay_answer_deinit(&relay->answer);
    relay_answer_init(&relay->answer);
    set_state(relay, RELAY_SEEKING);
}

/* ------------------------------------------------------------- connecting */

/* The request's bytes for the server @to. */
static bool write_request(struct api_relay *relay,
                          const struct mr_api_upstream *to)
{
    struct mr_buf *out = &relay->request;

    mr_buf_reset(out);
    mr_buf_printf(out, "%s %s HTTP/1.1\r\nHost: %s\r\n", relay->method,
                  relay->target, to->host);
    mr_buf_printf(out, "X-Microreg-Cluster: %s\r\nX-Microreg-Agent: %s\r\n",
                  to->cluster, relay->relays->options->agent.node_name);
    mr_buf_add(out, relay->rest.data, relay->rest.len);
    relay->n_sent = 0;
    return !mr_buf_failed(out);
}

/* Why a call for a connection failed: there are no more descriptors or ports
 * here (MR_E_BUSY), or it is the server's fault. */
static enum mr_err error_of(int number)
{
    switch (number) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOSPC:
    case EADDRNOTAVAIL:
        return MR_E_BUSY;
    case ENOMEM:
        return MR_E_NOMEM;
    default:
        return MR_E_UNREACHABLE;
    }
}

/* Be on the way to @to, watched. */
static enum mr_err start_connecting(struct api_relay *relay,
                                    const struct mr_api_upstream *to)
{
    struct epoll_event event = {.events = EPOLLOUT, .data = {.ptr = relay}};
    unsigned ms = UNACKNOWLEDGED_MS;
    int one = 1;
    int fd = socket(to->address.any.sa_family,
                    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return error_of(errno);
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if ((connect(fd, &to->address.any, to->address_len) != 0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(relay->relays->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        enum mr_err err = error_of(errno);

        (void)close(fd);
        return err;
    }
    relay->events = EPOLLOUT;
    relay->fd = fd;
    return MR_OK;
}

void relay_begin(struct api_relay *relay)
{
    const struct mr_api_host *host = &relay->relays->options->host;
    struct mr_api_upstream to;
    enum mr_err err;

    if (!host->upstream(host->arg, &to)) {
        if (now_of(relay) >= relay->give_up_ms) {
            finish(relay, MR_E_UNREACHABLE);
        } else {
            set_state(relay, RELAY_SEEKING);
        }
        return;
    }
    if (!write_request(relay, &to)) {
        finish(relay, MR_E_NOMEM);
        return;
    }
    err = start_connecting(relay, &to);
    if (err != MR_OK) {
        fail(relay, err);
        return;
    }
    set_state(relay, RELAY_CONNECTING);
}

/* ------------------------------------------------------------- asking */

static void send_request(struct api_relay *relay)
{
    struct mr_slice all = mr_buf_slice(&relay->request);
    ssize_t n;

    while (relay->n_sent < all.len) {
        n = send(relay->fd, (const char *)all.data + relay->n_sent,
                 all.len - relay->n_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            fail(relay, MR_E_UNREACHABLE);
            return;
        }
        relay->n_sent += (size_t)n;
    }
    if (!watch_socket(relay, EPOLLIN)) {
        fail(relay, MR_E_NOMEM);
    }
}

static void on_connected(struct api_relay *relay)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(relay->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ||
        error != 0) {
        fail(relay, MR_E_UNREACHABLE);
        return;
    }
    set_state(relay, RELAY_ASKING);
    send_request(relay);
}

/* ------------------------------------------------------------- reading */

/* Give @bytes to the parser, and what they mean to the reader. */
static enum mr_err take(struct api_relay *relay, struct mr_slice bytes)
{
    enum mr_err err;

    pthread_mutex_lock(&relay->lock);
    err = relay_answer_feed(&relay->answer, bytes, &relay->body);
    if (err == MR_OK && relay_answer_has_head(&relay->answer)) {
        relay->has_head = true;
        relay->is_paused = relay->body.len - relay->n_taken >= RELAY_AHEAD_MAX;
        if (relay->wake != NULL) {
            relay->wake(relay->reader);
        }
    }
    pthread_mutex_unlock(&relay->lock);
    return err;
}

/* The head is there: another server cannot take over any more. */
static void start_reading(struct api_relay *relay)
{
    mr_buf_deinit(&relay->request);
    mr_buf_deinit(&relay->rest);
    set_state(relay, RELAY_READING);
}

/* The connection ended: with @n 0 in order, else not. */
static void on_end(struct api_relay *relay, ssize_t n)
{
    if (n == 0 && relay_answer_is_whole(&relay->answer)) {
        finish(relay, MR_E_CLOSED);
    } else {
        fail(relay, MR_E_UNREACHABLE);
    }
}

/* Read once; false: there is no more now, or it is over. */
static bool read_some(struct api_relay *relay)
{
    char bytes[READ_BYTES];
    ssize_t n;
    enum mr_err err;

    do {
        n = recv(relay->fd, bytes, sizeof bytes, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    if (n <= 0) {
        on_end(relay, n);
        return false;
    }
    err = take(relay, mr_slice(bytes, (size_t)n));
    if (err != MR_OK) {
        fail(relay, err);
        return false;
    }
    if (relay->has_head && relay->state == RELAY_ASKING) {
        start_reading(relay);
    } else if (relay->state == RELAY_READING && relay->silence_ms > 0) {
        set_deadline(relay, relay->silence_ms);
    }
    if (relay->answer.part == RELAY_DONE) {
        finish(relay, MR_E_CLOSED);
        return false;
    }
    if (relay->is_paused) {
        (void)watch_socket(relay, 0);
        return false;
    }
    return (size_t)n == sizeof bytes;
}

void relay_go_on(struct api_relay *relay)
{
    pthread_mutex_lock(&relay->lock);
    bool goes_on = relay->is_paused;

    relay->is_paused = false;
    pthread_mutex_unlock(&relay->lock);
    if (!goes_on || relay->state != RELAY_READING) {
        return;
    }
    if (relay->silence_ms > 0) {
        set_deadline(relay, relay->silence_ms); /* It could not say anything. */
    }
    if (!watch_socket(relay, EPOLLIN)) {
        fail(relay, MR_E_NOMEM);
    }
}

/* ------------------------------------------------------------- events */

void relay_step(struct api_relay *relay)
{
    switch (relay->state) {
    case RELAY_CONNECTING:
        on_connected(relay);
        break;
    case RELAY_ASKING:
        if (relay->n_sent < relay->request.len) {
            send_request(relay);
            break;
        }
        /* fall through */
    case RELAY_READING:
        for (int i = 0; i < TURN_READS && read_some(relay); i++) {
        }
        break;
    case RELAY_SEEKING:
    case RELAY_OVER:
        break;
    }
}

void relay_on_deadline(struct api_relay *relay)
{
    switch (relay->state) {
    case RELAY_SEEKING:
        relay_begin(relay);
        break;
    case RELAY_CONNECTING:
        fail(relay, MR_E_UNREACHABLE);
        break;
    case RELAY_ASKING:
        fail(relay, MR_E_TIMEOUT);
        break;
    case RELAY_READING:
        if (relay->is_paused) { /* It is the reader who is slow. */
            set_deadline(relay, relay->silence_ms);
        } else {
            mr_log_debug("relay", "the server is silent");
            fail(relay, MR_E_TIMEOUT);
        }
        break;
    case RELAY_OVER:
        set_state(relay, RELAY_OVER);
        break;
    }
}
