/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer port: connections between servers.
 *
 * Every server dials every other one; what it has to say goes over the
 * connection that it dialled, all kinds together, and answers come over the
 * other's. A connection starts with a handshake that names cluster, server,
 * datacenter and protocol version, and is closed with a reason when they do
 * not fit. Frames collected in a round of the loop leave in one write.
 *
 * Between socket and frames is where TLS will sit: transport_conn_flush() and
 * transport_on_read() are the only places that touch bytes of the network.
 *
 * Threads: core only.
 */
#ifndef RAFT_TRANSPORT_H
#define RAFT_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "raft/frame.h"

struct transport;

struct transport_options {
    uv_loop_t *loop;
    const struct mr_clock *clock;
    const struct mr_random *random;
    const char *bind_host; /* IP literal. */
    uint16_t bind_port;    /* 0: any, see transport_port(). */
    void *arg;
    /* What we say of ourselves; purpose and to_id are filled in later. */
    void (*get_hello)(void *arg, struct frame_hello *out);
    /* Every accepted Hello or Welcome, in both directions. */
    void (*on_hello)(void *arg, const struct frame_hello *hello);
    /* The connection to @peer is open (again), or has closed. */
    void (*on_up)(void *arg, uint64_t peer);
    /* See on_up. */
    void (*on_down)(void *arg, uint64_t peer);
    /* A driver's message from a member of our cluster. */
    void (*on_message)(void *arg, uint64_t peer,
                       const struct driver_message *msg);
    /* Others. */
    void (*on_gossip)(void *arg, uint64_t peer,
                      const struct frame_gossip *gossip);
    /* A promise asked for or answered. */
    void (*on_promise)(void *arg, uint64_t peer, const struct frame *f);
    /* Opaque bytes from a member of our cluster. */
    void (*on_opaque)(void *arg, uint64_t peer, struct mr_slice bytes);
    /* A dialled address has answered (MR_OK) or not. */
    void (*on_probed)(void *arg, const char *address, enum mr_err err,
                      enum frame_refusal refusal);
    /* A peer wants to send a snapshot over @fd, which is the callee's. */
    void (*on_snapshot)(void *arg, uint64_t peer, int fd);
    /* Somebody speaks HTTP on @fd, of which nothing was read and which is the
     * callee's. */
    void (*on_http)(void *arg, int fd);
};

struct transport_stats {
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t refused;
};

/* Listen and be ready to dial. @options is copied; its texts are borrowed for
 * the life of the transport. Released with transport_close().
 * MR_E_INUSE, MR_E_ADDRESS: it cannot be listened on. MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err transport_open(const struct transport_options *o,
                                         struct transport **out_transport,
                                         struct mr_detail *detail);

/* Close everything; @closed is called later, once, and the transport is gone
 * then. */
void transport_close(struct transport *t, void (*closed)(void *arg), void *arg);

/* The port listened on. */
uint16_t transport_port(const struct transport *t);

/* Keep a connection to the server @id at @address (IP literal and port). A
 * known server gets the new address, and is dialled there if it is not
 * connected. MR_E_BUSY: too many servers. */
MR_MUST_CHECK enum mr_err transport_keep(struct transport *t, uint64_t id,
                                         const char *address);

/* Keep no connection to @id any more. */
void transport_drop(struct transport *t, uint64_t id);

/* Dial @address (IP literal and port) once, to see who is there; the
 * connection is kept when that server has none. @name is what on_probed says.
 */
void transport_probe(struct transport *t, const char *address,
                     const char *name);

/* Our cluster is known now: messages of its members are let through. */
void transport_set_cluster(struct transport *t, uint64_t cluster_id);

/* Where to append frames for @peer, NULL when it is not connected or does not
 * keep up. Valid until the next call of the transport. */
struct mr_buf *transport_out(struct transport *t, uint64_t peer);

/* Write what was collected. */
void transport_flush(struct transport *t);

/* Whether the connection to @peer is open. */
bool transport_is_up(const struct transport *t, uint64_t peer);

/* When the last frame of @peer came; 0: never. */
uint64_t transport_heard_ms(const struct transport *t, uint64_t peer);

/* The counters. */
void transport_stats(const struct transport *t, struct transport_stats *out);

#endif /* RAFT_TRANSPORT_H */
