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
 * - Whoever connects while too many connections wait to be told apart stays in
 *   the listener's backlog until one of them has ended.
 * - What is sent to a peer that does not read is dropped beyond OUT_MAX bytes:
 *   raft repeats itself.
 */
#include "raft/transport_impl.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define CONNECT_MS 2000
#define RETRY_MAX_MS 250
#define TICK_MS 50
#define BACKLOG 1024 /* All agents of a server that died come at once. */

/* ------------------------------------------------------------- peers */

struct peer *transport_find_peer(const struct transport *t, uint64_t id)
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
struct peer *transport_get_peer(struct transport *t, uint64_t id)
{
    struct peer *p = transport_find_peer(t, id);

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

uint64_t transport_now(const struct transport *t)
{
    return mr_now_ms(t->options.clock);
}

/* Dial @p again after its retry time, jittered; the time doubles. */
void transport_retry_later(struct transport *t, struct peer *p,
                           unsigned at_least)
{
    unsigned wait = p->retry_ms > at_least ? p->retry_ms : at_least;

    wait = wait / 2 + (unsigned)(mr_random_u64(t->options.random) % (wait + 1));
    p->dial_ms = transport_now(t) + wait;
    p->retry_ms =
        p->retry_ms * 2 < RETRY_MAX_MS ? p->retry_ms * 2 : RETRY_MAX_MS;
}

/* ------------------------------------------------------------- sending */

struct mr_buf *transport_out(struct transport *t, uint64_t peer)
{
    struct peer *p = transport_find_peer(t, peer);

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
            transport_conn_flush(c);
        }
    }
}

/* ------------------------------------------------------------- dialling */

static void on_connection(uv_stream_t *listener, int status)
{
    struct transport *t = listener->data;
    struct conn *c =
        status == 0 && t->n_conns < CONNS_MAX ? transport_conn_new(t) : NULL;

    if (c == NULL) {
        t->is_accept_due = status == 0; /* Or no memory: tried again soon. */
        return;
    }
    t->is_accept_due = false;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        !transport_conn_start(c)) {
        transport_conn_close(c);
    }
}

void transport_accept_due(struct transport *t)
{
    if (t->is_accept_due && !t->is_closing) {
        on_connection((uv_stream_t *)&t->listener, 0);
    }
}

static void on_connected(uv_connect_t *req, int status)
{
    struct conn *c = req->data;

    if (c->state == CLOSING) {
        return;
    }
    if (status != 0 || !transport_conn_start(c)) {
        transport_conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    transport_send_hello(c);
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
    c = transport_conn_new(t);
    if (c == NULL) {
        return MR_E_NOMEM;
    }
    c->is_dialled = true;
    c->state = CONNECTING;
    c->deadline_ms = transport_now(t) + CONNECT_MS;
    c->connect.data = c;
    (void)snprintf(c->name, sizeof c->name, "%s", address);
    if (uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&addr,
                       on_connected) != 0) {
        transport_conn_close(c);
        return MR_E_UNREACHABLE;
    }
    *out_conn = c;
    return MR_OK;
}

static void dial_peer(struct transport *t, struct peer *p)
{
    struct conn *c;

    if (dial(t, p->address, &c) != MR_OK) {
        transport_retry_later(t, p, 0);
        return;
    }
    c->to_id = p->id;
    p->conn = c;
}

/* ------------------------------------------------------------- time */

static void on_timer(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    uint64_t now = transport_now(t);
    struct mr_list *at = t->conns.next;

    transport_accept_due(t);
    while (at != &t->conns) {
        struct conn *c = mr_container_of(at, struct conn, link);

        at = at->next;
        if (c->state < OPEN && now >= c->deadline_ms) {
            transport_conn_fail(c, MR_E_TIMEOUT);
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
    struct peer *p = transport_get_peer(t, id);

    if (p == NULL) {
        return MR_E_BUSY;
    }
    p->is_kept = true;
    if (strcmp(p->address, address) != 0) {
        (void)snprintf(p->address, sizeof p->address, "%s", address);
        p->dial_ms = 0;
        p->retry_ms = RETRY_MIN_MS;
        if (p->conn != NULL && p->conn->state != OPEN) {
            transport_conn_close(p->conn);
        }
    }
    if (p->conn == NULL && transport_now(t) >= p->dial_ms) {
        dial_peer(t, p);
    }
    return MR_OK;
}

void transport_drop(struct transport *t, uint64_t id)
{
    struct peer *p = transport_find_peer(t, id);

    if (p == NULL || id == 0) {
        return;
    }
    p->is_kept = false;
    if (p->conn != NULL) {
        transport_conn_close(p->conn);
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
    const struct peer *p = transport_find_peer(t, peer);

    return p != NULL && p->conn != NULL && p->conn->state == OPEN;
}

uint64_t transport_heard_ms(const struct transport *t, uint64_t peer)
{
    const struct peer *p = transport_find_peer(t, peer);

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

void transport_handle_gone(struct transport *t)
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
    transport_handle_gone(handle->data);
}

void transport_close(struct transport *t, void (*closed)(void *arg), void *arg)
{
    struct mr_list *at;

    t->is_closing = true;
    t->closed = closed;
    t->closed_arg = arg;
    MR_LIST_FOREACH(at, &t->conns)
    {
        transport_conn_close(mr_container_of(at, struct conn, link));
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
