/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in on the peer port: handshakes, frames, and who speaks HTTP. */
#include "raft/transport_impl.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"

#define SAY_MS 10000 /* A refusal of one kind is logged once in this time. */

/* ------------------------------------------------------------- refusals */

/* Say why a connection was refused, here or there, not too often. */
static void say(struct transport *t, unsigned kind, const char *who,
                const char *what, const char *reason)
{
    uint64_t now = transport_now(t);
    uint64_t *said = &t->said_ms[kind < MR_ARRAY_LEN(t->said_ms) ? kind : 0];

    if (*said != 0 && now - *said < SAY_MS) {
        return;
    }
    *said = now;
    mr_log_warn("raft", "%s peer=\"%s\" reason=\"%s\"", what, who, reason);
}

/* ------------------------------------------------------------- handshake */

static void fill_hello(struct transport *t, struct frame_hello *h)
{
    memset(h, 0, sizeof *h);
    t->options.get_hello(t->options.arg, h);
    h->version = FRAME_VERSION;
    h->min_version = FRAME_VERSION_MIN;
    h->purpose = FRAME_FOR_PEER;
}

void transport_send_hello(struct conn *c)
{
    struct frame_hello hello;

    fill_hello(c->t, &hello);
    hello.to_id = c->to_id;
    mr_buf_add(&c->out, FRAME_PREFACE, FRAME_PREFACE_LEN);
    frame_put_hello(&c->out, &hello);
    transport_conn_flush(c);
}

/* Another descriptor of the socket of @c, which outlives it; -1: none. */
static int copy_socket(const struct conn *c)
{
    uv_os_fd_t fd;

    return uv_fileno((const uv_handle_t *)&c->tcp, &fd) == 0
               ? fcntl(fd, F_DUPFD_CLOEXEC, 0)
               : -1;
}

/* Give the socket of @c to the API. */
static void hand_over_http(struct conn *c)
{
    int copy = copy_socket(c);

    if (copy >= 0) {
        c->t->options.on_http(c->t->options.arg, copy);
    }
    transport_conn_close(c);
}

/* The peer's address of another connection, for the log. */
static void conn_name(const struct conn *c, char *out, size_t cap)
{
    struct sockaddr_storage addr;
    int len = sizeof addr;
    char host[INET6_ADDRSTRLEN] = "?";

    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&addr, &len) == 0) {
        (void)uv_ip_name((struct sockaddr *)&addr, host, sizeof host);
    }
    (void)snprintf(out, cap, "%s", host);
}

/* Give the socket of @c to whoever receives snapshots. */
static void hand_over(struct conn *c)
{
    int copy = -1;

    transport_conn_flush(c);
    if (c->state == SHAKING && c->out.len == 0 && !c->is_writing) {
        copy = copy_socket(c);
    }
    if (copy >= 0) {
        c->t->options.on_snapshot(c->t->options.arg, c->peer_id, copy);
    }
    transport_conn_close(c);
}

/* A server has dialled us and its Hello is fine. */
static void welcome_in(struct conn *c, const struct frame_hello *hello)
{
    struct transport *t = c->t;
    struct peer *p = transport_find_peer(t, hello->self.id);

    c->peer_id = hello->self.id;
    c->cluster_id = hello->cluster_id;
    if (p != NULL && p->conn == NULL) {
        p->dial_ms = 0; /* It is there: dial it at once. */
        p->retry_ms = RETRY_MIN_MS;
    }
    if (hello->purpose == FRAME_FOR_SNAPSHOT) {
        hand_over(c);
        return;
    }
    c->state = OPEN;
    transport_conn_flush(c);
    t->options.on_hello(t->options.arg, hello);
}

static void take_hello(struct conn *c, const struct frame *f)
{
    struct transport *t = c->t;
    struct frame_welcome w;
    struct frame_hello hello;
    char name[INET6_ADDRSTRLEN];

    memset(&w, 0, sizeof w);
    memset(&hello, 0, sizeof hello);
    fill_hello(t, &w.hello);
    if (f->type != FRAME_HELLO || frame_get_hello(f, &hello) != MR_OK) {
        w.refusal = FRAME_BAD_HELLO;
        (void)snprintf(w.reason, sizeof w.reason, "the hello is malformed");
    } else if (t->n_conns > CONNS_MAX) {
        w.refusal = FRAME_TOO_MANY;
        (void)snprintf(w.reason, sizeof w.reason, "too many connections");
    } else {
        w.refusal = frame_check_hello(&w.hello, &hello, w.reason);
    }
    frame_put_welcome(&c->out, &w);
    if (w.refusal == FRAME_WELCOMED) {
        welcome_in(c, &hello);
        return;
    }
    t->stats.refused++;
    conn_name(c, name, sizeof name);
    if (w.refusal != FRAME_IS_SELF) {
        say(t, w.refusal, name, "refused a connection", w.reason);
    }
    transport_conn_flush(c);
    transport_conn_close(c);
}

/* The server at the other end of a dialled connection is who it should be. */
static void welcomed(struct conn *c, const struct frame_hello *hello)
{
    struct transport *t = c->t;
    struct peer *p = transport_get_peer(t, hello->self.id);

    if (p == NULL || (p->conn != NULL && p->conn != c)) {
        /* A probe found somebody we are connected to. */
        transport_conn_probed(c, MR_OK, FRAME_WELCOMED);
        t->options.on_hello(t->options.arg, hello);
        transport_conn_close(c);
        return;
    }
    c->state = OPEN;
    c->peer_id = p->id;
    c->cluster_id = hello->cluster_id;
    p->conn = c;
    p->retry_ms = RETRY_MIN_MS;
    transport_conn_probed(c, MR_OK, FRAME_WELCOMED);
    t->options.on_hello(t->options.arg, hello);
    if (c->state == OPEN) {
        t->options.on_up(t->options.arg, p->id);
    }
}

static void take_welcome(struct conn *c, const struct frame *f)
{
    struct transport *t = c->t;
    struct frame_hello self;
    struct frame_welcome w;
    struct peer *p;

    fill_hello(t, &self);
    memset(&w, 0, sizeof w);
    if (f->type != FRAME_WELCOME || frame_get_welcome(f, &w) != MR_OK) {
        w.refusal = FRAME_BAD_HELLO;
        (void)snprintf(w.reason, sizeof w.reason, "its answer is malformed");
    } else if (w.refusal == FRAME_WELCOMED) {
        w.refusal = frame_check_hello(&self, &w.hello, w.reason);
    }
    if (w.refusal == FRAME_WELCOMED) {
        welcomed(c, &w.hello);
        return;
    }
    if (w.refusal != FRAME_IS_SELF) {
        say(t, w.refusal, c->name, "a server does not let us in", w.reason);
    }
    transport_conn_probed(c, MR_E_FOREIGN, (enum frame_refusal)w.refusal);
    p = c->to_id != 0 ? transport_find_peer(t, c->to_id) : NULL;
    transport_conn_close(c);
    if (p != NULL) {
        transport_retry_later(t, p, REFUSED_MS);
    }
}

/* ------------------------------------------------------------- reading */

static void take_gossip(struct conn *c, const struct frame *f)
{
    struct transport *t = c->t;
    struct frame_gossip g;

    memset(&g, 0, sizeof g);
    if (frame_get_gossip(f, &g) != MR_OK ||
        (g.cluster_id != 0 && t->cluster_id != 0 &&
         g.cluster_id != t->cluster_id)) {
        transport_conn_close(c);
        return;
    }
    c->cluster_id = g.cluster_id;
    t->options.on_gossip(t->options.arg, c->peer_id, &g);
}

static void take_message(struct conn *c, const struct frame *f)
{
    struct transport *t = c->t;
    struct driver_message msg;
    struct driver_blob *blob;

    if (frame_get_message(f, &t->arena, &msg, &blob) != MR_OK) {
        transport_conn_close(c);
        return;
    }
    if (t->cluster_id != 0 && c->cluster_id == t->cluster_id) {
        t->options.on_message(t->options.arg, c->peer_id, &msg);
    }
    driver_blob_unref(blob);
}

static void take_opaque(struct conn *c, const struct frame *f)
{
    struct transport *t = c->t;

    if (f->head.len != 0 || f->bulk.len > MR_RAFT_MESSAGE_MAX) {
        transport_conn_close(c);
    } else if (t->cluster_id != 0 && c->cluster_id == t->cluster_id) {
        t->options.on_opaque(t->options.arg, c->peer_id, f->bulk);
    }
}

static void take_frame(struct conn *c, const struct frame *f)
{
    struct transport *t = c->t;
    struct peer *p;

    t->stats.frames_in++;
    if (c->state == SHAKING) {
        if (c->is_dialled) {
            take_welcome(c, f);
        } else {
            take_hello(c, f);
        }
        return;
    }
    if (c->is_dialled) {
        transport_conn_close(c); /* Nothing is said on our side of a pair. */
        return;
    }
    p = transport_find_peer(t, c->peer_id);
    if (p != NULL) {
        p->heard_ms = transport_now(t);
    }
    switch (f->type) {
    case FRAME_GOSSIP:
        take_gossip(c, f);
        break;
    case FRAME_PROMISE:
    case FRAME_PROMISE_REPLY:
        t->options.on_promise(t->options.arg, c->peer_id, f);
        break;
    case FRAME_OPAQUE:
        take_opaque(c, f);
        break;
    default:
        take_message(c, f);
        break;
    }
}

/* Take the preface and all whole frames off @bytes; returns how much that was.
 * The connection may be closing afterwards. */
static size_t take_bytes(struct conn *c, struct mr_slice bytes)
{
    const char *data = bytes.data;
    size_t at = 0;

    if (!c->has_preface && !c->is_dialled) {
        if (memcmp(data, FRAME_PREFACE,
                   bytes.len < FRAME_PREFACE_LEN ? bytes.len
                                                 : FRAME_PREFACE_LEN) != 0) {
            say(c->t, FRAME_BAD_HELLO, "?", "closed a connection",
                "it does not speak our protocol");
            transport_conn_close(c);
            return 0;
        }
        if (bytes.len < FRAME_PREFACE_LEN) {
            return 0;
        }
        c->has_preface = true;
        at = FRAME_PREFACE_LEN;
    }
    while (c->state != CLOSING) {
        size_t max = c->state == OPEN ? FRAME_MAX : FRAME_HELLO_MAX;
        struct frame f;
        size_t len;

        if (frame_parse(mr_slice(data + at, bytes.len - at), max, &f, &len) !=
            MR_OK) {
            transport_conn_close(c);
        } else if (len == 0) {
            break;
        } else {
            take_frame(c, &f);
            at += len;
        }
    }
    return at;
}

/* Keep what is left of @bytes until more comes. */
static void keep_rest(struct conn *c, size_t taken, struct mr_slice bytes)
{
    if (taken == bytes.len) {
        transport_trim(&c->in);
        return;
    }
    if (c->in.len == 0) {
        mr_buf_add(&c->in, (const char *)bytes.data + taken, bytes.len - taken);
    } else {
        memmove(c->in.data, c->in.data + taken, c->in.len - taken);
        c->in.len -= taken;
    }
    if (mr_buf_failed(&c->in)) {
        transport_conn_fail(c, MR_E_NOMEM);
    }
}

void transport_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    struct mr_slice bytes;
    size_t taken;

    if (n == 0 || c->state == CLOSING) {
        return;
    }
    if (n == UV_ENOBUFS) {
        hand_over_http(c);
        return;
    }
    if (n < 0) {
        transport_conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    c->t->stats.bytes_in += (uint64_t)n;
    bytes = mr_slice(buf->base, (size_t)n);
    if (c->in.len != 0) {
        mr_buf_add(&c->in, bytes.data, bytes.len);
        bytes = mr_buf_slice(&c->in);
        if (mr_buf_failed(&c->in)) {
            transport_conn_fail(c, MR_E_NOMEM);
            return;
        }
    }
    taken = take_bytes(c, bytes);
    if (c->state != CLOSING) {
        keep_rest(c, taken, bytes);
    }
}

/* Whether who connected begins with a method of HTTP: its first byte is a
 * capital letter, the preface's is not. Nothing is taken off the socket. */
static bool speaks_http(const struct conn *c)
{
    uv_os_fd_t fd;
    char first;

    return !c->is_dialled && c->state == SHAKING && !c->has_preface &&
           c->in.len == 0 &&
           uv_fileno((const uv_handle_t *)&c->tcp, &fd) == 0 &&
           recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1 && first >= 'A' &&
           first <= 'Z';
}

/* Connections are read one after the other, so they share the buffer. Without
 * one, libuv does not read and says UV_ENOBUFS. */
void transport_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = handle->data;

    (void)suggested;
    *buf = speaks_http(c) ? uv_buf_init(NULL, 0)
                          : uv_buf_init(c->t->scratch, READ_BYTES);
}
