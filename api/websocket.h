/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSockets on /registry, for go-micro's proxy plugin (docs/watch.md).
 *
 * The HTTP library gives a connection away with the last byte of the handshake;
 * from then on one thread with epoll has it, and asks where the messages come
 * from: a feed on a server, a relay on an agent without -server.
 *
 *   HTTP worker: begin --101--> thread: OPEN --close of either--> CLOSING --> over
 *
 * Locking: one mutex over the lists of the new and of the woken, never held
 * across a callback.
 */
#ifndef API_WEBSOCKET_H
#define API_WEBSOCKET_H

#include "api/core.h"

struct api_websockets; /* The thread, and all connections. */
struct api_websocket;

/* Where the messages of one WebSocket come from. Embedded by its owner, who
 * sets next and close. Used on one thread at a time. */
struct api_messages {
    /* The next message, borrowed until the next call; empty: nothing yet,
     * wake() will be called. Any error ends the WebSocket; MR_E_CLOSED:
     * orderly. */
    enum mr_err (*next)(struct api_messages *messages,
                        struct mr_slice *out_message);
    /* Release it; wake() is not called any more when this returns. */
    void (*close)(struct api_messages *messages);
    /* Set by the WebSocket before the first next(). Must only be called with
     * locks held that next() and close() do not wait for while they hold others:
     * it hands over. Any thread. */
    void (*wake)(struct api_messages *messages);
    struct api_websocket *websocket; /* Its reader. */
};

/* Start the thread. @clock is borrowed. NULL: no memory or descriptors. */
struct api_websockets *api_websockets_start(const struct mr_clock *clock);

/* Say goodbye to everybody, and wait for them for a second at most. Nobody is
 * served any more. */
void api_websockets_drain(struct api_websockets *all);

/* Stop the thread, which has been drained. NULL is a no-op. */
void api_websockets_stop(struct api_websockets *all);

/* Whether @x asks for a WebSocket on a path that has them (HTTP/1.0 cannot: RFC
 * 9110 §7.8): its route is
 * api_websocket_route then. */
bool api_websocket_wanted(const struct api_http *x);

/* The endpoint. */
extern const struct api_route api_websocket_route;

/* Check the handshake of @req; answers and returns false when it is wrong. */
bool api_websocket_prepare(struct api_request *req);

/* Complete the handshake of @req, which has been prepared: as
 * api_websocket_begin(), with the status and the headers. */
MR_MUST_CHECK enum mr_err api_websocket_answer(struct api_request *req,
                                               struct api_messages *messages);

/* Make the answer of @req a WebSocket with @messages, which it takes: also on
 * failure they are closed. MR_E_NOMEM. Worker. */
MR_MUST_CHECK enum mr_err api_websocket_begin(struct api_request *req,
                                              struct api_messages *messages);

/* The library's response for x->websocket, without the status; NULL: no
 * memory. */
struct MHD_Response *api_websocket_response(struct api_http *x);

/* Release x->websocket, whose connection was never handed over; a no-op without
 * one. */
void api_websocket_drop(struct api_http *x);

#endif /* API_WEBSOCKET_H */
