/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer port.
 *
 * A connection's life:
 *
 *     dialled:   CONNECTING -> SHAKING -> OPEN -> CLOSING
 *     accepted:                SHAKING -> OPEN -> CLOSING
 *                                     \-> handed over (a snapshot's, HTTP)
 *
 * - dialled: preface and Hello are sent; the Welcome tells who answers. If that
 *   is a server without a connection, this becomes its connection; then we send
 *   on it and never read more than its end.
 * - accepted: the Hello is checked and answered; then we read frames from it.
 *   When the first byte is that of an HTTP method, nothing is read: an agent
 *   talks to the API on this port.
 * - A handshake that takes longer than SHAKE_MS, a frame that is none, one that
 *   is too long, or an unknown cluster ends the connection.
 * - A peer that should be connected is dialled again after 50 to 250 ms, or at
 *   once when it has just dialled us.
 * - What is sent to a peer that does not read is dropped beyond OUT_MAX bytes:
 *   raft repeats itself.
 */
#include "raft/transport.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define PEERS_MAX 64
#define CONNS_MAX 256
#define PROBES_MAX 32
#define OUT_MAX ((size_t)16 << 20)
#define KEEP_BYTES ((size_t)256 << 10) /* A larger buffer is not kept. */
#define READ_BYTES ((size_t)64 << 10)
#define CONNECT_MS 2000
#define SHAKE_MS 5000
#define REFUSED_MS 1000 /* Until a server that refused us is tried again. */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 250
#define TICK_MS 50
#define BACKLOG 128
#define DEAD_MS 5000 /* Sent bytes that nobody acknowledges for so long. */
#define SAY_MS 10000 /* A refusal of one kind is logged once in this time. */

enum conn_state { CONNECTING, SHAKING, OPEN, CLOSING };

struct peer {
    uint64_t id; /* 0: the place is free. */
    char address[FRAME_ADDRESS_MAX];
    bool is_kept;      /* Dial it again when it is gone. */
    struct conn *conn; /* The dialled one; NULL: none. */
    uint64_t dial_ms;  /* When to dial next. */
    unsigned retry_ms;
    uint64_t heard_ms;
};

struct conn {
    uv_tcp_t tcp;
    struct mr_list link; /* In transport.conns. */
    struct transport *t;
    enum conn_state state;
    bool is_dialled;
    bool has_preface;
    uint64_t to_id;      /* Dialled for this peer; 0: a probe. */
    uint64_t peer_id;    /* Known when OPEN. */
    uint64_t cluster_id; /* The other side's. */
    uint64_t deadline_ms;
    char name[FRAME_ADDRESS_MAX]; /* A probe's name, or the address. */
    bool is_probe;
    uv_connect_t connect;
    uv_write_t write;
    bool is_writing;
    struct mr_buf in;      /* An unfinished frame. */
    struct mr_buf out;     /* Collected. */
    struct mr_buf writing; /* On its way. */
};

struct transport {
    struct transport_options options;
    uv_tcp_t listener;
    uv_timer_t timer;
    unsigned n_handles; /* Listener, timer and connections. */
    bool is_closing;
    bool is_accept_due; /* The listener waits for uv_accept(). */
    uint64_t cluster_id;
    struct peer peers[PEERS_MAX];
    struct mr_list conns;
    size_t n_conns;
    struct frame_arena arena;
    struct transport_stats stats;
    uint64_t said_ms[16]; /* By enum frame_refusal. */
    void (*closed)(void *arg);
    void *closed_arg;
    char scratch[READ_BYTES];
};

static enum mr_err dial(struct transport *t, const char *address,
                        struct conn **out_conn);
static void conn_flush(struct conn *c);

/* ------------------------------------------------------------- peers */

static struct peer *find_peer(const struct transport *t, uint64_t id)
{
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (t->peers[i].id == id) {
            return (struct peer *)(uintptr_t)&t->peers[i];
        }
    }
    return NULL;
}

/* The peer @id, made when it is new; NULL when there are too many. One that is
 * neither kept nor connected gives way. */
static struct peer *get_peer(struct transport *t, uint64_t id)
{
    struct peer *p = find_peer(t, id);

    for (size_t i = 0; i < PEERS_MAX && p == NULL; i++) {
        struct peer *old = &t->peers[i];

        if (old->id == 0 || (!old->is_kept && old->conn == NULL)) {
            p = old;
            memset(p, 0, sizeof *p);
            p->id = id;
            p->retry_ms = RETRY_MIN_MS;
        }
    }
    return p;
}

static uint64_t now_of(const struct transport *t)
{
    return mr_now_ms(t->options.clock);
}

/* Dial @p again after its retry time, jittered; the time doubles. */
static void retry_later(struct transport *t, struct peer *p, unsigned at_least)
{
    unsigned wait = p->retry_ms > at_least ? p->retry_ms : at_least;

    wait = wait / 2 + (unsigned)(mr_random_u64(t->options.random) % (wait + 1));
    p->dial_ms = now_of(t) + wait;
    p->retry_ms =
        p->retry_ms * 2 < RETRY_MAX_MS ? p->retry_ms * 2 : RETRY_MAX_MS;
}

/* ------------------------------------------------------------- refusals */

/* Say why a connection was refused, here or there, not too often. */
static void say(struct transport *t, unsigned kind, const char *who,
                const char *what, const char *reason)
{
    uint64_t now = now_of(t);
    uint64_t *said = &t->said_ms[kind < MR_ARRAY_LEN(t->said_ms) ? kind : 0];

    if (*said != 0 && now - *said < SAY_MS) {
        return;
    }
    *said = now;
    mr_log_warn("raft", "%s peer=\"%s\" reason=\"%s\"", what, who, reason);
}

/* ------------------------------------------------------------- closing */

static void on_conn_closed(uv_handle_t *handle);
static void handle_gone(struct transport *t);

static void conn_close(struct conn *c)
{
    struct transport *t = c->t;
    struct peer *p =
        c->is_dialled && c->peer_id != 0 ? find_peer(t, c->peer_id) : NULL;
    bool was_open = c->state == OPEN;

    if (c->state == CLOSING) {
        return;
    }
    c->state = CLOSING;
    if (c->to_id != 0 && p == NULL) {
        p = find_peer(t, c->to_id);
    }
    uv_close((uv_handle_t *)&c->tcp, on_conn_closed);
    if (p != NULL && p->conn == c) {
        p->conn = NULL;
        retry_later(t, p, 0);
        if (was_open && !t->is_closing) {
            t->options.on_down(t->options.arg, p->id);
        }
    }
}

static void on_conn_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct transport *t = c->t;

    mr_list_remove(&c->link);
    t->n_conns--;
    mr_buf_deinit(&c->in);
    mr_buf_deinit(&c->out);
    mr_buf_deinit(&c->writing);
    mr_free(c);
    handle_gone(t);
}

/* A probe has come to its end. */
static void probed(struct conn *c, enum mr_err err, enum frame_refusal refusal)
{
    if (c->is_probe && !c->t->is_closing) {
        c->is_probe = false;
        c->t->options.on_probed(c->t->options.arg, c->name, err, refusal);
    }
}

static void conn_fail(struct conn *c, enum mr_err err)
{
    probed(c, err, FRAME_WELCOMED);
    conn_close(c);
}

/* ------------------------------------------------------------- writing */

static void trim(struct mr_buf *b)
{
    if (b->cap > KEEP_BYTES) {
        mr_buf_deinit(b);
        mr_buf_init(b, OUT_MAX + FRAME_MAX);
    } else {
        mr_buf_reset(b);
    }
}

static void on_written(uv_write_t *req, int status)
{
    struct conn *c = req->data;

    c->is_writing = false;
    trim(&c->writing);
    if (c->state == CLOSING) {
        return;
    }
    if (status != 0) {
        conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    conn_flush(c);
}

/* Write what the socket takes now; the rest follows when it takes more. */
static void conn_flush(struct conn *c)
{
    struct mr_buf rest;
    uv_buf_t buf;
    int n;

    if (c->state == CLOSING || c->state == CONNECTING || c->is_writing ||
        c->out.len == 0) {
        return;
    }
    if (mr_buf_failed(&c->out)) {
        conn_fail(c, MR_E_NOMEM);
        return;
    }
    buf = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
    c->t->stats.bytes_out += c->out.len;
    n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    n = n < 0 ? 0 : n;
    if ((size_t)n == c->out.len) {
        trim(&c->out);
        return;
    }
    rest = c->writing;
    c->writing = c->out;
    c->out = rest;
    c->write.data = c;
    c->is_writing = true;
    buf = uv_buf_init((char *)c->writing.data + n,
                      (unsigned)(c->writing.len - (size_t)n));
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
        c->is_writing = false;
        conn_fail(c, MR_E_UNREACHABLE);
    }
}

struct mr_buf *transport_out(struct transport *t, uint64_t peer)
{
    struct peer *p = find_peer(t, peer);

    if (p == NULL || p->conn == NULL || p->conn->state != OPEN ||
        p->conn->out.len > OUT_MAX) {
        return NULL;
    }
    t->stats.frames_out++;
    return &p->conn->out;
}

void transport_flush(struct transport *t)
{
    for (size_t i = 0; i < PEERS_MAX; i++) {
        struct conn *c = t->peers[i].conn;

        if (c != NULL && c->out.len != 0) {
            conn_flush(c);
        }
    }
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

static void send_hello(struct conn *c)
{
    struct frame_hello hello;

    fill_hello(c->t, &hello);
    hello.to_id = c->to_id;
    mr_buf_add(&c->out, FRAME_PREFACE, FRAME_PREFACE_LEN);
    frame_put_hello(&c->out, &hello);
    conn_flush(c);
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
    conn_close(c);
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

    conn_flush(c);
    if (c->state == SHAKING && c->out.len == 0 && !c->is_writing) {
        copy = copy_socket(c);
    }
    if (copy >= 0) {
        c->t->options.on_snapshot(c->t->options.arg, c->peer_id, copy);
    }
    conn_close(c);
}

/* A server has dialled us and its Hello is fine. */
static void welcome_in(struct conn *c, const struct frame_hello *hello)
{
    struct transport *t = c->t;
    struct peer *p = find_peer(t, hello->self.id);

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
    conn_flush(c);
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
    conn_flush(c);
    conn_close(c);
}

/* The server at the other end of a dialled connection is who it should be. */
static void welcomed(struct conn *c, const struct frame_hello *hello)
{
    struct transport *t = c->t;
    struct peer *p = get_peer(t, hello->self.id);

    if (p == NULL || (p->conn != NULL && p->conn != c)) {
        /* A probe found somebody we are connected to. */
        probed(c, MR_OK, FRAME_WELCOMED);
        t->options.on_hello(t->options.arg, hello);
        conn_close(c);
        return;
    }
    c->state = OPEN;
    c->peer_id = p->id;
    c->cluster_id = hello->cluster_id;
    p->conn = c;
    p->retry_ms = RETRY_MIN_MS;
    probed(c, MR_OK, FRAME_WELCOMED);
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
    probed(c, MR_E_FOREIGN, (enum frame_refusal)w.refusal);
    p = c->to_id != 0 ? find_peer(t, c->to_id) : NULL;
    conn_close(c);
    if (p != NULL) {
        retry_later(t, p, REFUSED_MS);
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
        conn_close(c);
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
        conn_close(c);
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
        conn_close(c);
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
        conn_close(c); /* Nothing is said on our side of a pair. */
        return;
    }
    p = find_peer(t, c->peer_id);
    if (p != NULL) {
        p->heard_ms = now_of(t);
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
            conn_close(c);
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
            conn_close(c);
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
        trim(&c->in);
        return;
    }
    if (c->in.len == 0) {
        mr_buf_add(&c->in, (const char *)bytes.data + taken, bytes.len - taken);
    } else {
        memmove(c->in.data, c->in.data + taken, c->in.len - taken);
        c->in.len -= taken;
    }
    if (mr_buf_failed(&c->in)) {
        conn_fail(c, MR_E_NOMEM);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
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
        conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    c->t->stats.bytes_in += (uint64_t)n;
    bytes = mr_slice(buf->base, (size_t)n);
    if (c->in.len != 0) {
        mr_buf_add(&c->in, bytes.data, bytes.len);
        bytes = mr_buf_slice(&c->in);
        if (mr_buf_failed(&c->in)) {
            conn_fail(c, MR_E_NOMEM);
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
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = handle->data;

    (void)suggested;
    *buf = speaks_http(c) ? uv_buf_init(NULL, 0)
                          : uv_buf_init(c->t->scratch, READ_BYTES);
}

/* ------------------------------------------------------------- connections */

static struct conn *conn_new(struct transport *t)
{
    struct conn *c = mr_calloc(1, sizeof *c);

    if (c == NULL) {
        return NULL;
    }
    if (uv_tcp_init(t->options.loop, &c->tcp) != 0) {
        mr_free(c);
        return NULL;
    }
    c->t = t;
    c->tcp.data = c;
    c->state = SHAKING;
    mr_buf_init(&c->in, FRAME_MAX + READ_BYTES);
    mr_buf_init(&c->out, OUT_MAX + FRAME_MAX);
    mr_buf_init(&c->writing, OUT_MAX + FRAME_MAX);
    mr_list_init(&c->link);
    mr_list_push(&t->conns, &c->link);
    t->n_conns++;
    t->n_handles++;
    return c;
}

/* The socket is connected: set it up and read from it. */
static bool conn_start(struct conn *c)
{
    unsigned dead_ms = DEAD_MS;
    uv_os_fd_t fd;

    /* Slower without, but it works. */
    (void)uv_tcp_nodelay(&c->tcp, 1);
    (void)uv_tcp_keepalive(&c->tcp, 1, 5);
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms,
                         sizeof dead_ms);
    }
    c->state = SHAKING;
    c->deadline_ms = now_of(c->t) + SHAKE_MS;
    return uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) == 0;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct transport *t = listener->data;
    struct conn *c = status == 0 ? conn_new(t) : NULL;

    if (c == NULL) {
        t->is_accept_due = status == 0; /* No memory: tried again soon. */
        return;
    }
    t->is_accept_due = false;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        t->n_conns > CONNS_MAX + 16 || !conn_start(c)) {
        conn_close(c);
    }
}

static void on_connected(uv_connect_t *req, int status)
{
    struct conn *c = req->data;

    if (c->state == CLOSING) {
        return;
    }
    if (status != 0 || !conn_start(c)) {
        conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    send_hello(c);
}

static bool to_sockaddr(const char *host, uint16_t port,
                        struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    return uv_ip4_addr(host, port, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(host, port, (struct sockaddr_in6 *)out) == 0;
}

static enum mr_err dial(struct transport *t, const char *address,
                        struct conn **out_conn)
{
    struct mr_hostport hp;
    struct sockaddr_storage addr;
    struct conn *c;

    if (mr_hostport_parse(address, 0, &hp, NULL) != MR_OK ||
        !to_sockaddr(hp.host, hp.port, &addr)) {
        return MR_E_ADDRESS;
    }
    c = conn_new(t);
    if (c == NULL) {
        return MR_E_NOMEM;
    }
    c->is_dialled = true;
    c->state = CONNECTING;
    c->deadline_ms = now_of(t) + CONNECT_MS;
    c->connect.data = c;
    (void)snprintf(c->name, sizeof c->name, "%s", address);
    if (uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&addr,
                       on_connected) != 0) {
        conn_close(c);
        return MR_E_UNREACHABLE;
    }
    *out_conn = c;
    return MR_OK;
}

static void dial_peer(struct transport *t, struct peer *p)
{
    struct conn *c;

    if (dial(t, p->address, &c) != MR_OK) {
        retry_later(t, p, 0);
        return;
    }
    c->to_id = p->id;
    p->conn = c;
}

/* ------------------------------------------------------------- time */

static void on_timer(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    uint64_t now = now_of(t);
    struct mr_list *at = t->conns.next;

    if (t->is_accept_due) {
        on_connection((uv_stream_t *)&t->listener, 0);
    }
    while (at != &t->conns) {
        struct conn *c = mr_container_of(at, struct conn, link);

        at = at->next;
        if (c->state < OPEN && now >= c->deadline_ms) {
            conn_fail(c, MR_E_TIMEOUT);
        }
    }
    for (size_t i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &t->peers[i];

        if (p->id != 0 && p->is_kept && p->conn == NULL && now >= p->dial_ms) {
            dial_peer(t, p);
        }
    }
}

/* ------------------------------------------------------------- public */

enum mr_err transport_keep(struct transport *t, uint64_t id,
                           const char *address)
{
    struct peer *p = get_peer(t, id);

    if (p == NULL) {
        return MR_E_BUSY;
    }
    p->is_kept = true;
    if (strcmp(p->address, address) != 0) {
        (void)snprintf(p->address, sizeof p->address, "%s", address);
        p->dial_ms = 0;
        p->retry_ms = RETRY_MIN_MS;
        if (p->conn != NULL && p->conn->state != OPEN) {
            conn_close(p->conn);
        }
    }
    if (p->conn == NULL && now_of(t) >= p->dial_ms) {
        dial_peer(t, p);
    }
    return MR_OK;
}

void transport_drop(struct transport *t, uint64_t id)
{
    struct peer *p = find_peer(t, id);

    if (p == NULL || id == 0) {
        return;
    }
    p->is_kept = false;
    if (p->conn != NULL) {
        conn_close(p->conn);
    }
}

void transport_probe(struct transport *t, const char *address, const char *name)
{
    struct conn *c;
    enum mr_err err = dial(t, address, &c);

    if (err != MR_OK) {
        return; /* Its owner tries again anyway. */
    }
    c->is_probe = true;
    (void)snprintf(c->name, sizeof c->name, "%s", name);
}

void transport_set_cluster(struct transport *t, uint64_t cluster_id)
{
    t->cluster_id = cluster_id;
}

bool transport_is_up(const struct transport *t, uint64_t peer)
{
    const struct peer *p = find_peer(t, peer);

    return p != NULL && p->conn != NULL && p->conn->state == OPEN;
}

uint64_t transport_heard_ms(const struct transport *t, uint64_t peer)
{
    const struct peer *p = find_peer(t, peer);

    return p == NULL ? 0 : p->heard_ms;
}

void transport_stats(const struct transport *t, struct transport_stats *out)
{
    *out = t->stats;
}

uint16_t transport_port(const struct transport *t)
{
    struct sockaddr_storage addr;
    int len = sizeof addr;

    if (uv_tcp_getsockname(&t->listener, (struct sockaddr *)&addr, &len) != 0) {
        return 0;
    }
    return ntohs(addr.ss_family == AF_INET6
                     ? ((struct sockaddr_in6 *)&addr)->sin6_port
                     : ((struct sockaddr_in *)&addr)->sin_port);
}

/* ------------------------------------------------------------- life */

static void handle_gone(struct transport *t)
{
    void (*closed)(void *arg) = t->closed;
    void *arg = t->closed_arg;

    if (--t->n_handles != 0 || !t->is_closing) {
        return;
    }
    frame_arena_deinit(&t->arena);
    mr_free(t);
    if (closed != NULL) {
        closed(arg);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    handle_gone(handle->data);
}

void transport_close(struct transport *t, void (*closed)(void *arg), void *arg)
{
    struct mr_list *at;

    t->is_closing = true;
    t->closed = closed;
    t->closed_arg = arg;
    MR_LIST_FOREACH(at, &t->conns)
    {
        conn_close(mr_container_of(at, struct conn, link));
    }
    uv_close((uv_handle_t *)&t->listener, on_handle_closed);
    uv_close((uv_handle_t *)&t->timer, on_handle_closed);
}

static int listen_on(struct transport *t, const struct sockaddr_storage *addr)
{
    int rc = uv_tcp_bind(&t->listener, (const struct sockaddr *)addr, 0);

    if (rc == 0) {
        rc = uv_listen((uv_stream_t *)&t->listener, BACKLOG, on_connection);
    }
    return rc;
}

enum mr_err transport_open(const struct transport_options *o,
                           struct transport **out_transport,
                           struct mr_detail *detail)
{
    struct transport *t = mr_calloc(1, sizeof *t);
    struct sockaddr_storage addr;
    int rc;

    if (t == NULL) {
        return MR_E_NOMEM;
    }
    if (!to_sockaddr(o->bind_host, o->bind_port, &addr)) {
        mr_free(t);
        return mr_fail(detail, MR_E_ADDRESS, "%s is not an IP address",
                       o->bind_host);
    }
    t->options = *o;
    mr_list_init(&t->conns);
    /* They fail for want of memory at most. */
    mr_assert(uv_tcp_init(o->loop, &t->listener) == 0);
    mr_assert(uv_timer_init(o->loop, &t->timer) == 0);
    t->listener.data = t;
    t->timer.data = t;
    t->n_handles = 2;
    rc = listen_on(t, &addr);
    if (rc == 0) {
        rc = uv_timer_start(&t->timer, on_timer, TICK_MS, TICK_MS);
    }
    if (rc != 0) {
        enum mr_err err = rc == UV_EADDRINUSE      ? MR_E_INUSE
                          : rc == UV_EADDRNOTAVAIL ? MR_E_ADDRESS
                                                   : MR_E_IO;

        transport_close(t, NULL, NULL);
        return mr_fail(detail, err, "cannot listen on %s port %u: %s",
                       o->bind_host, (unsigned)o->bind_port, uv_strerror(rc));
    }
    *out_transport = t;
    return MR_OK;
}
