/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a WebSocket: the only file that knows libwslay. */
#include "api/websocket_frames.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "base/mem.h"

/* What a client may say in one frame: nothing of it is used or kept. */
#define FRAME_MAX ((uint64_t)16 * 1024)

/* What is read in one turn, so that a chatty client does not keep others
 * waiting. */
#define TURN_BYTES ((size_t)64 * 1024)

/* Answers to pings that wait to be sent. */
#define QUEUED_MAX 64

/* ------------------------------------------------------------- callbacks */

/* The bytes that came with the handshake. */
static ssize_t take_ahead(struct websocket_frames *f, uint8_t *buf, size_t len)
{
    size_t n = f->ahead_len - f->ahead_at;

    n = n < len ? n : len;
    memcpy(buf, f->ahead + f->ahead_at, n);
    f->ahead_at += n;
    if (f->ahead_at == f->ahead_len) {
        mr_free(f->ahead);
        f->ahead = NULL;
    }
    return (ssize_t)n;
}

/* The library's receiver, whose shape it fixes (shape: callback). */
static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len,
                       int flags, void *arg)
{
    struct websocket_frames *f = arg;
    ssize_t n;

    (void)flags;
    if (f->ahead != NULL) {
        f->has_heard = true;
        return take_ahead(f, buf, len);
    }
    if (f->n_read >= TURN_BYTES || !websocket_frames_wants_read(f)) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    do {
        n = recv(f->fd, buf, len, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        f->has_heard = true;
        f->n_read += (size_t)n;
        return n;
    }
    f->is_gone = n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    wslay_event_set_error(ctx, f->is_gone ? WSLAY_ERR_CALLBACK_FAILURE
                                          : WSLAY_ERR_WOULDBLOCK);
    return -1;
}

/* The library's sender, whose shape it fixes (shape: callback). */
static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data,
                       size_t len, int flags, void *arg)
{
    const struct websocket_frames *f = arg;
    int more = (flags & WSLAY_MSG_MORE) != 0 ? MSG_MORE : 0;
    ssize_t n;

    do {
        n = send(f->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL | more);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        wslay_event_set_error(ctx, errno == EAGAIN || errno == EWOULDBLOCK
                                       ? WSLAY_ERR_WOULDBLOCK
                                       : WSLAY_ERR_CALLBACK_FAILURE);
    }
    return n;
}

/* ------------------------------------------------------------- life */

enum mr_err websocket_frames_init(struct websocket_frames *f, int fd,
                                  struct mr_slice ahead)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv, .send_callback = on_send};

    memset(f, 0, sizeof *f);
    f->fd = fd;
    f->has_heard = true;
    if (ahead.len > 0) {
        f->ahead = mr_malloc(ahead.len);
        if (f->ahead == NULL) {
            return MR_E_NOMEM;
        }
        memcpy(f->ahead, ahead.data, ahead.len);
        f->ahead_len = ahead.len;
    }
    if (wslay_event_context_server_init(&f->wslay, &callbacks, f) != 0) {
        websocket_frames_deinit(f);
        return MR_E_NOMEM;
    }
    wslay_event_config_set_no_buffering(f->wslay, 1);
    wslay_event_config_set_max_recv_msg_length(f->wslay, FRAME_MAX);
    return MR_OK;
}

void websocket_frames_deinit(struct websocket_frames *f)
{
    if (f->wslay != NULL) {
        wslay_event_context_free(f->wslay);
    }
    mr_free(f->ahead);
    memset(f, 0, sizeof *f);
}

/* ------------------------------------------------------------- moving */

static enum mr_err error_of(int code)
{
    return code == 0                 ? MR_OK
           : code == WSLAY_ERR_NOMEM ? MR_E_NOMEM
                                     : MR_E_CLOSED;
}

enum mr_err websocket_frames_read(struct websocket_frames *f)
{
    f->n_read = 0;
    int code = wslay_event_recv(f->wslay);

    if (code == 0 || code == WSLAY_ERR_NOMEM || f->is_gone) {
        return error_of(code);
    }
    wslay_event_shutdown_read(f->wslay); /* No frames: its close is queued. */
    return MR_OK;
}

enum mr_err websocket_frames_write(struct websocket_frames *f)
{
    return error_of(wslay_event_send(f->wslay));
}

bool websocket_frames_is_idle(const struct websocket_frames *f)
{
    return wslay_event_want_write(f->wslay) == 0;
}

bool websocket_frames_wants_read(const struct websocket_frames *f)
{
    return wslay_event_want_read(f->wslay) != 0 &&
           wslay_event_get_queued_msg_count(f->wslay) <= QUEUED_MAX;
}

bool websocket_frames_wants_write(const struct websocket_frames *f)
{
    return wslay_event_want_write(f->wslay) != 0;
}

bool websocket_frames_is_closing(const struct websocket_frames *f)
{
    return wslay_event_get_read_enabled(f->wslay) == 0;
}

bool websocket_frames_has_ended(const struct websocket_frames *f)
{
    return wslay_event_want_read(f->wslay) == 0 &&
           wslay_event_want_write(f->wslay) == 0;
}

/* ------------------------------------------------------------- queueing */

static enum mr_err queue(struct websocket_frames *f, uint8_t opcode,
                         struct mr_slice text)
{
    struct wslay_event_msg msg = {
        .opcode = opcode, .msg = text.data, .msg_length = text.len};

    return error_of(wslay_event_queue_msg(f->wslay, &msg));
}

enum mr_err websocket_frames_text(struct websocket_frames *f,
                                  struct mr_slice text)
{
    return queue(f, WSLAY_TEXT_FRAME, text);
}

enum mr_err websocket_frames_ping(struct websocket_frames *f)
{
    return queue(f, WSLAY_PING, mr_slice(NULL, 0));
}

enum mr_err websocket_frames_close(struct websocket_frames *f,
                                   enum websocket_code code, const char *why)
{
    return error_of(wslay_event_queue_close(f->wslay, (uint16_t)code,
                                            (const uint8_t *)why, strlen(why)));
}
