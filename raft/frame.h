/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: what travels between servers, encoded and decoded.
 *
 *     length(4) type(2) zero(2) head length(4) | head | bulk
 *
 * Integers are big-endian; the length counts what follows it. The head is a
 * protobuf message of rpc.proto; the bulk is raw bytes that belong to it
 * (entries, commands), so that these are copied once and not parsed. A
 * connection starts with FRAME_PREFACE and a Hello.
 *
 * Everything decoded is bounded and checked: a frame may hold anything.
 */
#ifndef RAFT_FRAME_H
#define RAFT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "base/text.h"
#include "raft/driver.h"

#define FRAME_PREFACE "mregrpc1"
#define FRAME_PREFACE_LEN 8
#define FRAME_HEAD_LEN 12
#define FRAME_MAX (16u << 20)       /* Of a frame, all in all. */
#define FRAME_HELLO_MAX (64u << 10) /* Of one before the handshake is done. */
#define FRAME_VERSION 1
#define FRAME_VERSION_MIN 1
#define FRAME_SERVERS_MAX 32 /* In one message. */
#define FRAME_NAME_MAX 255
#define FRAME_REASON_MAX 255
#define FRAME_ADDRESS_MAX (MR_HOST_MAX + 8)

enum frame_type { /* Sent: never renumber. Below 64: driver_message_type. */
                  FRAME_HELLO = 64,
                  FRAME_WELCOME = 65,
                  FRAME_GOSSIP = 66,
                  FRAME_PROMISE = 67,
                  FRAME_PROMISE_REPLY = 68,
                  FRAME_SNAPSHOT = 69,
                  FRAME_SNAPSHOT_CHUNK = 70, /* Bulk only; empty: the end. */
                  FRAME_SNAPSHOT_REPLY = 71,
                  FRAME_OPAQUE = 72 /* Bulk only: mr_raft_send(). */
};

enum frame_purpose { FRAME_FOR_PEER = 1, FRAME_FOR_SNAPSHOT = 2 };

enum frame_refusal { /* Sent: never renumber. */
                     FRAME_WELCOMED = 0,
                     FRAME_BAD_VERSION = 1,
                     FRAME_OTHER_CLUSTER = 2,
                     FRAME_OTHER_DATACENTER = 3,
                     FRAME_IS_SELF = 4,  /* You have called yourself. */
                     FRAME_NOT_HIM = 5,  /* to_id is another server. */
                     FRAME_TOO_MANY = 6, /* Connections. */
                     FRAME_BAD_HELLO = 7
};

struct frame_server {
    uint64_t id;
    char node_id[MR_UUID_LEN + 1];
    char name[FRAME_NAME_MAX + 1];
    char address[FRAME_ADDRESS_MAX];
};

struct frame_hello {
    uint32_t version;
    uint32_t min_version;
    uint64_t cluster_id;
    struct frame_server self;
    char datacenter[FRAME_NAME_MAX + 1];
    uint32_t purpose;
    uint64_t to_id;
    uint32_t expect;
    struct frame_server known[FRAME_SERVERS_MAX];
    size_t n_known;
};

struct frame_welcome {
    uint32_t refusal;
    char reason[FRAME_REASON_MAX + 1];
    struct frame_hello hello;
};

struct frame_gossip {
    uint64_t cluster_id;
    uint32_t expect;
    struct frame_server known[FRAME_SERVERS_MAX];
    size_t n_known;
};

struct frame_promise {
    uint64_t cluster_id;
    uint64_t proposer;
    struct frame_server servers[FRAME_SERVERS_MAX];
    size_t n_servers;
};

struct frame_promise_reply {
    uint64_t cluster_id;
    bool accepted;
    char reason[FRAME_REASON_MAX + 1];
};

struct frame_snapshot {
    uint64_t term;
    struct driver_snapshot meta; /* meta.conf is borrowed from the frame. */
};

/* A frame as it lies in a buffer; the slices are borrowed from there. */
struct frame {
    uint16_t type;
    struct mr_slice head;
    struct mr_slice bulk;
};

/* Look for a frame at the start of @bytes. *@out_len is its length, or 0 when
 * more bytes are needed.
 * MR_E_TOOBIG: longer than @max. MR_E_CORRUPT: no frame. */
MR_MUST_CHECK enum mr_err frame_parse(struct mr_slice bytes, size_t max,
                                      struct frame *out, size_t *out_len);

/* ------------------------------------------------------------- writing */

/* Append a frame to @b, whose sticky failure tells of missing memory. */
void frame_put_message(struct mr_buf *b, const struct driver_message *msg);
/* As frame_put_message(). */
void frame_put_hello(struct mr_buf *b, const struct frame_hello *hello);
/* As frame_put_message(). */
void frame_put_welcome(struct mr_buf *b, const struct frame_welcome *welcome);
/* As frame_put_message(). */
void frame_put_gossip(struct mr_buf *b, const struct frame_gossip *gossip);
/* As frame_put_message(). */
void frame_put_promise(struct mr_buf *b, const struct frame_promise *promise);
/* As frame_put_message(). */
void frame_put_promise_reply(struct mr_buf *b,
                             const struct frame_promise_reply *reply);
/* As frame_put_message(). */
void frame_put_snapshot(struct mr_buf *b, const struct frame_snapshot *s);
/* As frame_put_message(); an empty chunk is the end. */
void frame_put_chunk(struct mr_buf *b, struct mr_slice bytes);
/* As frame_put_message(): what the owner of the server says to another. */
void frame_put_opaque(struct mr_buf *b, struct mr_slice bytes);
/* As frame_put_message(). */
void frame_put_snapshot_reply(struct mr_buf *b, enum mr_err err);

/* A promise or a directory without a frame around it, as they are stored. */
void frame_store_promise(struct mr_buf *b, const struct frame_promise *promise);
/* See frame_store_promise(). */
void frame_store_servers(struct mr_buf *b, const struct frame_server *servers,
                         size_t n);

/* ------------------------------------------------------------- reading */

/* Memory for the parts of a message while it is looked at. Zeroed to begin
 * with; used again for every message. */
struct frame_arena {
    void *chunk; /* The newest; they are linked. */
    size_t used;
    size_t cap;
};

/* Release the memory. */
void frame_arena_deinit(struct frame_arena *arena);

/* Decode a driver's message. What it points to lives in @arena until the next
 * call, and *@out_blob, when not NULL, holds the bulk: the caller drops that
 * reference afterwards.
 * MR_E_CORRUPT: not one. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err frame_get_message(const struct frame *f,
                                            struct frame_arena *arena,
                                            struct driver_message *out,
                                            struct driver_blob **out_blob);

/* Decode the other kinds. MR_E_CORRUPT, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err frame_get_hello(const struct frame *f,
                                          struct frame_hello *out);
/* See frame_get_hello(). */
MR_MUST_CHECK enum mr_err frame_get_welcome(const struct frame *f,
                                            struct frame_welcome *out);
/* See frame_get_hello(). */
MR_MUST_CHECK enum mr_err frame_get_gossip(const struct frame *f,
                                           struct frame_gossip *out);
/* See frame_get_hello(). */
MR_MUST_CHECK enum mr_err frame_get_promise(const struct frame *f,
                                            struct frame_promise *out);
/* See frame_get_hello(). */
MR_MUST_CHECK enum mr_err
frame_get_promise_reply(const struct frame *f, struct frame_promise_reply *out);
/* See frame_get_hello(); *@out_conf owns what out->meta.conf points to and is
 * released with mr_free(). */
MR_MUST_CHECK enum mr_err frame_get_snapshot(const struct frame *f,
                                             struct frame_snapshot *out,
                                             char **out_conf);
/* See frame_get_hello(). */
MR_MUST_CHECK enum mr_err frame_get_snapshot_reply(const struct frame *f,
                                                   enum mr_err *out_err);

/* Decode what was stored. MR_E_CORRUPT, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err frame_load_promise(struct mr_slice bytes,
                                             struct frame_promise *out);
/* See frame_load_promise(); at most FRAME_SERVERS_MAX servers. */
MR_MUST_CHECK enum mr_err frame_load_servers(struct mr_slice bytes,
                                             struct frame_server *out,
                                             size_t *out_n);

/* Whether the local server, which would send @self, lets in who sent @hello;
 * @reason gets the sentence otherwise. */
enum frame_refusal frame_check_hello(const struct frame_hello *self,
                                     const struct frame_hello *hello,
                                     char reason[FRAME_REASON_MAX + 1]);

#endif /* RAFT_FRAME_H */
