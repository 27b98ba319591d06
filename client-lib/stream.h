/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: connections that tell topics what changes.
 *
 * A client has one stream for all services that it watches, and one for each watch
 * of keys. One thread reads them all.
 *
 * - A connection asks for each topic with the index of its view, or for a snapshot.
 *   When a topic is added, the stream connects anew a moment later.
 * - A stream that ends, says nothing sensible, or has no line for twice the time
 *   of its progress lines goes on at the next server. When all have failed it waits,
 *   longer each time.
 * - When the names do not fit into one request, all services are asked for, and
 *   those that nobody watches are ignored.
 */
#ifndef MICROREG_STREAM_H
#define MICROREG_STREAM_H

#include "topic.h"
#include "transfer.h"

struct mrg_stream {
    struct microreg *client;
    struct mrg_stream *next; /* lock. */
    char *key;               /* NULL: services. */
    bool is_prefix;          /* Of keys. */
    struct mrg_map topics;   /* lock: by name; "" is all. */
    bool is_live;            /* lock: synced, and not broken since. */
    bool wants_all;          /* lock: the connection tells of all services. */
    uint64_t restart_ms;     /* lock: connect anew then; UINT64_MAX: do not. */
    uint64_t retry_ms;       /* lock: not before. */

    /* The thread's own. */
    struct mrg_transfer t;
    bool is_running;
    struct mrg_servers *servers;
    struct mrg_text path;
    struct mrg_text body;   /* Of the request: the names. */
    struct mrg_text buffer; /* The beginning of a line. */
    struct mrg_text why;    /* What is wrong with the connection. */
    struct mrg_arena arena;
    struct mrg_pending *pending;
    size_t n_pending, pending_size, pending_bytes;
    uint64_t heard_ms;   /* When the last line came. */
    unsigned n_failures; /* Since it was last synced. */
};

/* ---- the client's streams (streams.c) ---- */

struct mrg_streams {
    CURLM *multi;
    pthread_t thread;
    struct mrg_stream *list; /* lock; removed from by the thread alone. */
    struct mrg_stream *services;
    bool is_stopping; /* lock. */
};

/* Add a watch to the topic @name, made if there is none; with watch->is_keys in a
 * stream of its own. With the lock. MICROREG_E_NOMEM. */
int mrg_streams_join(struct microreg *client, const char *name,
                     struct microreg_watch *watch);

/* Take a watch off its topic. With the lock. */
void mrg_streams_leave(struct microreg *client, struct microreg_watch *watch);

/* The addresses have changed: connect anew. With the lock. */
void mrg_streams_readdress(struct microreg *client);

/* This client changed @service in revision @index. Without the lock. */
void mrg_streams_wrote(struct microreg *client, const char *service,
                       uint64_t index);

/* Copy what is known of @service into *@out_json as an answer of /registry, and
 * follow it from now on. False: it is not known well enough. Without the lock. */
bool mrg_streams_answer(struct microreg *client, const char *service,
                        struct mrg_text *out_json, uint64_t *out_index);

/* Stop the thread and orphan the watches. */
void mrg_streams_stop(struct microreg *client);

/* ---- one stream (stream.c, stream_lines.c) ---- */

/* A new stream, of keys or (@key NULL) of services. NULL: no memory. */
struct mrg_stream *mrg_stream_new(struct microreg *client, const char *key,
                                  bool is_prefix);

/* Free it and its topics. It does not run. */
void mrg_stream_free(struct mrg_stream *stream);

/* Connect, or be scheduled for another try. With the lock. */
void mrg_stream_start(struct mrg_stream *stream, CURLM *multi);

/* Disconnect. With the lock. */
void mrg_stream_stop(struct mrg_stream *stream, CURLM *multi);

/* It ended, or must: note why and schedule the next try. With the lock. */
void mrg_stream_fail(struct mrg_stream *stream, CURLM *multi, const char *why);

/* Until when something must be heard. */
uint64_t mrg_stream_patience(const struct mrg_stream *stream);

/* Take the lines that @bytes complete. False: they are no stream; why is set.
 * With the lock. */
bool mrg_stream_read(struct mrg_stream *stream, const char *bytes, size_t len);

/* Forget changes whose revision is not complete. With the lock. */
void mrg_stream_drop_pending(struct mrg_stream *stream);

#endif /* MICROREG_STREAM_H */
