/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer port, shared by its files: transport.c (peers, dialling, life),
 * transport_conn.c (one connection) and transport_read.c (what comes in).
 */
#ifndef RAFT_TRANSPORT_IMPL_H
#define RAFT_TRANSPORT_IMPL_H

#include "base/list.h"
#include "raft/transport.h"

#define PEERS_MAX 64
#define CONNS_MAX 256 /* Of servers, and not yet told apart. */
#define OUT_MAX ((size_t)16 << 20)
#define READ_BYTES ((size_t)64 << 10)
#define RETRY_MIN_MS 50
#define REFUSED_MS 1000 /* Until a server that refused us is tried again. */

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

/* ---- transport.c ---- */

/* The peer @id, or NULL. */
struct peer *transport_find_peer(const struct transport *t, uint64_t id);

/* The peer @id, made when it is new; NULL when there are too many. One that is
 * neither kept nor connected gives way. */
struct peer *transport_get_peer(struct transport *t, uint64_t id);

/* Monotonic milliseconds. */
uint64_t transport_now(const struct transport *t);

/* Dial @p again after its retry time, jittered; the time doubles. */
void transport_retry_later(struct transport *t, struct peer *p,
                           unsigned at_least);

/* Accept who was left waiting, if there is room now. */
void transport_accept_due(struct transport *t);

/* A handle has closed; with the last one the transport goes. */
void transport_handle_gone(struct transport *t);

/* ---- transport_conn.c ---- */

/* A connection without a socket; NULL: no memory. */
struct conn *transport_conn_new(struct transport *t);

/* The socket is connected: set it up and read from it. */
bool transport_conn_start(struct conn *c);

/* End the connection; it is freed later. */
void transport_conn_close(struct conn *c);

/* As transport_conn_close(), and its probe has failed with @err. */
void transport_conn_fail(struct conn *c, enum mr_err err);

/* A probe has come to its end. */
void transport_conn_probed(struct conn *c, enum mr_err err,
                           enum frame_refusal refusal);

/* Write what the socket takes now; the rest follows when it takes more. */
void transport_conn_flush(struct conn *c);

/* Empty @b; a large one gives its memory back. */
void transport_trim(struct mr_buf *b);

/* ---- transport_read.c ---- */

/* Say who we are on a connection that we dialled. */
void transport_send_hello(struct conn *c);

/* libuv's callbacks of reading. */
void transport_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
/* See transport_on_alloc(). */
void transport_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

#endif /* RAFT_TRANSPORT_IMPL_H */
