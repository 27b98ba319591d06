/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One WebSocket on the wire (RFC 6455), the server's end, by libwslay: messages
 * out, pings and closes answered, what the client says read and dropped.
 *
 * Nothing blocks. What waits to be sent is bounded by the caller, who queues
 * only while websocket_frames_is_idle(), and for answers to pings here: a client
 * that asks and does not read is not read from.
 */
#ifndef API_WEBSOCKET_FRAMES_H
#define API_WEBSOCKET_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct wslay_event_context;

/* RFC 6455 §7.4.1. */
enum websocket_code {
    WEBSOCKET_GOING_AWAY = 1001,
    WEBSOCKET_TOO_BIG = 1009,
    WEBSOCKET_FAILED = 1011,
    WEBSOCKET_TRY_LATER = 1013
};

struct websocket_frames {
    struct wslay_event_context *wslay;
    int fd;         /* Borrowed. */
    uint8_t *ahead; /* What came with the handshake, until it is read. */
    size_t ahead_len;
    size_t ahead_at;
    size_t n_read;  /* In this turn. */
    bool is_gone;   /* The connection has ended. */
    bool has_heard; /* Set when anything came; the caller clears it. */
};

/* Begin on @fd, whose first bytes are @ahead. On success the caller calls
 * websocket_frames_deinit(). MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err websocket_frames_init(struct websocket_frames *f,
                                                int fd, struct mr_slice ahead);

/* Release; an @f of zeros is a no-op. */
void websocket_frames_deinit(struct websocket_frames *f);

/* Read what is there. A protocol error makes a close of ours.
 * MR_E_CLOSED: the client is gone. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err websocket_frames_read(struct websocket_frames *f);

/* Send what is queued, as far as it goes. Errors as websocket_frames_read(). */
MR_MUST_CHECK enum mr_err websocket_frames_write(struct websocket_frames *f);

/* Whether nothing waits to be sent. */
bool websocket_frames_is_idle(const struct websocket_frames *f);

/* Whether it wants to be read from. */
bool websocket_frames_wants_read(const struct websocket_frames *f);

/* Whether it wants to be written to. */
bool websocket_frames_wants_write(const struct websocket_frames *f);

/* Whether nothing of the client is wanted any more: it said goodbye, or broke
 * the rules. */
bool websocket_frames_is_closing(const struct websocket_frames *f);

/* Whether both sides have said that it ends. */
bool websocket_frames_has_ended(const struct websocket_frames *f);

/* Queue the text message @text, which is copied. MR_E_NOMEM, MR_E_CLOSED: a
 * close was queued before. */
MR_MUST_CHECK enum mr_err websocket_frames_text(struct websocket_frames *f,
                                                struct mr_slice text);

/* Queue a ping. Errors as websocket_frames_text(). */
MR_MUST_CHECK enum mr_err websocket_frames_ping(struct websocket_frames *f);

/* Queue the end, for @why; nothing can be queued after it. Errors as
 * websocket_frames_text(). */
MR_MUST_CHECK enum mr_err websocket_frames_close(struct websocket_frames *f,
                                                 enum websocket_code code,
                                                 const char *why);

#endif /* API_WEBSOCKET_FRAMES_H */
