/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the peer port: its socket, writing, its end. */
#include "raft/transport_impl.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/mem.h"

#define KEEP_BYTES ((size_t)256 << 10) /* A larger buffer is not kept. */
#define SHAKE_MS 5000
#define DEAD_MS 5000 /* Sent bytes that nobody acknowledges for so long. */

/* ------------------------------------------------------------- closing */

static void on_conn_closed(uv_handle_t *handle);

void transport_conn_close(struct conn *c)
{
    struct transport *t = c->t;
    struct peer *p = c->is_dialled && c->peer_id != 0
                         ? transport_find_peer(t, c->peer_id)
                         : NULL;
    bool was_open = c->state == OPEN;

    if (c->state == CLOSING) {
        return;
    }
    c->state = CLOSING;
    if (c->to_id != 0 && p == NULL) {
        p = transport_find_peer(t, c->to_id);
    }
    uv_close((uv_handle_t *)&c->tcp, on_conn_closed);
    if (p != NULL && p->conn == c) {
        p->conn = NULL;
        transport_retry_later(t, p, 0);
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
    transport_accept_due(t);
    transport_handle_gone(t);
}

/* A probe has come to its end. */
void transport_conn_probed(struct conn *c, enum mr_err err,
                           enum frame_refusal refusal)
{
    if (c->is_probe && !c->t->is_closing) {
        c->is_probe = false;
        c->t->options.on_probed(c->t->options.arg, c->name, err, refusal);
    }
}

void transport_conn_fail(struct conn *c, enum mr_err err)
{
    transport_conn_probed(c, err, FRAME_WELCOMED);
    transport_conn_close(c);
}

/* ------------------------------------------------------------- writing */

void transport_trim(struct mr_buf *b)
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
    transport_trim(&c->writing);
    if (c->state == CLOSING) {
        return;
    }
    if (status != 0) {
        transport_conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    transport_conn_flush(c);
}

/* Write what the socket takes now; the rest follows when it takes more. */
void transport_conn_flush(struct conn *c)
{
    struct mr_buf rest;
    uv_buf_t buf;
    int n;

    if (c->state == CLOSING || c->state == CONNECTING || c->is_writing ||
        c->out.len == 0) {
        return;
    }
    if (mr_buf_failed(&c->out)) {
        transport_conn_fail(c, MR_E_NOMEM);
        return;
    }
    buf = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
    c->t->stats.bytes_out += c->out.len;
    n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        transport_conn_fail(c, MR_E_UNREACHABLE);
        return;
    }
    n = n < 0 ? 0 : n;
    if ((size_t)n == c->out.len) {
        transport_trim(&c->out);
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
        transport_conn_fail(c, MR_E_UNREACHABLE);
    }
}

/* ------------------------------------------------------------- starting */

struct conn *transport_conn_new(struct transport *t)
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
bool transport_conn_start(struct conn *c)
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
    c->deadline_ms = transport_now(c->t) + SHAKE_MS;
    return uv_read_start((uv_stream_t *)&c->tcp, transport_on_alloc,
                         transport_on_read) == 0;
}
