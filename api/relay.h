/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams through an agent without -server: a connection to a server for each,
 * and the bytes of the answer's body for whoever asks for them.
 *
 * One thread with epoll has all connections to servers. A server that cannot be
 * talked to is changed for another one until the head of an answer is there;
 * what breaks after that is told, because only the reader knows where to go on.
 *
 *   SEEKING --server--> CONNECTING --> ASKING --> READING --> OVER
 *      ^                    |            |          |
 *      +------ it fails ----+------------+----------+ before the head
 *
 * A reader that does not read stops the connection it reads from: the server
 * notices, and the stream falls out of its history there.
 *
 * Locking: one mutex a relay over what the thread and the reader share, one
 * over the thread's inbox, which may be taken with the former held. wake() is
 * called with the relay's held.
 */
#ifndef API_RELAY_H
#define API_RELAY_H

#include "api/core.h"

struct api_messages;
struct api_relays; /* The thread, and all relays. */
struct api_relay;

/* What to ask a server, and who reads. Borrowed for the call. */
struct api_relay_request {
    const char *method;
    const char *target;
    const char *const *headers; /* Name, value, name, value ... */
    size_t n_headers;           /* Pairs. */
    struct mr_slice body;
    uint64_t silence_ms; /* The body may be quiet for so long; 0: for ever. */
    void (*wake)(void *reader); /* Something is there. May come for nothing. Any
                                   thread; must only hand over. */
    void *reader;
};

/* Start the thread; @options is borrowed. NULL: no memory or descriptors. */
struct api_relays *api_relays_start(const struct mr_api_options *options);

/* Stop it; every relay has been closed. NULL is a no-op. */
void api_relays_stop(struct api_relays *relays);

/* Ask. On success the caller calls api_relay_close(). MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
api_relay_open(struct api_relays *relays,
               const struct api_relay_request *request,
               struct api_relay **out_relay);

/* Its reader is not there any more, and is not woken. NULL is a no-op. */
void api_relay_close(struct api_relay *relay);

/* The status of the answer; 0: not known yet, wake() will be called. With a
 * status the headers are there as well, in *@out_headers ("Name: value\n"
 * lines, borrowed until api_relay_close()).
 * MR_E_UNREACHABLE: no server, MR_E_TIMEOUT, MR_E_INVALID, MR_E_NOMEM,
 * MR_E_BUSY: no descriptor for a connection. */
MR_MUST_CHECK enum mr_err api_relay_head(struct api_relay *relay,
                                         int *out_status,
                                         struct mr_slice *out_headers);

/* Take at most @cap bytes of the body; none: wake() will be called.
 * MR_E_CLOSED: that was all of it. MR_E_UNREACHABLE: the server is gone, and
 * the others as api_relay_head(). */
MR_MUST_CHECK enum mr_err api_relay_read(struct api_relay *relay, char *out,
                                         size_t cap, size_t *out_n);

/* ---- relay_stream.c: the answer of an HTTP request ---- */

/* Whether the request, whose route is known, is to be relayed: a stream or a
 * WebSocket, and this is an agent without -server. */
bool api_relay_wanted(const struct api_http *x);

/* The first step of such a request. */
enum api_step api_relay_start(struct api_http *x);

/* Whether the answer of @x is a stream of a server. */
bool api_relay_is_stream(const struct api_http *x);

/* The library's response for the body of x->relay, without headers; NULL: no
 * memory. */
struct MHD_Response *api_relay_response(struct api_http *x);

/* The server's header lines; empty when @x was not relayed. */
struct mr_slice api_relay_headers(const struct api_http *x);

/* Release what the relaying holds; a no-op without it. */
void api_relay_end(struct api_http *x);

/* ---- relay_messages.c: the messages of a WebSocket ---- */

/* Open the messages that @req asks for. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
api_relay_messages_open(struct api_request *req,
                        struct api_messages **out_messages);

#endif /* API_RELAY_H */
