/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sends on a WebSocket: bounded answers, and always an end. */
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/websocket_frames.h"
#include "api/websocket_message.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Read away what was answered, as a client does. */
static void drain(int fd)
{
    char bytes[4096];

    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct websocket_frames f;
    enum mr_err err;
    int fds[2];

    if (size > 32768 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
        return 0;
    }
    mr_assert(websocket_frames_init(&f, fds[0], mr_slice(data, size / 2)) ==
              MR_OK);
    mr_assert(send(fds[1], data + size / 2, size - size / 2, 0) ==
              (ssize_t)(size - size / 2));
    err = websocket_frames_text(&f, mr_slice_str("{}"));
    mr_assert(shutdown(fds[1], SHUT_WR) == 0);
    for (size_t i = 0; err == MR_OK && !websocket_frames_has_ended(&f); i++) {
        mr_assert(i <= size + 8);
        if (!websocket_frames_is_closing(&f)) {
            err = websocket_frames_read(&f);
        }
        if (err == MR_OK) {
            err = websocket_frames_write(&f);
        }
        drain(fds[1]);
    }
    websocket_frames_deinit(&f);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return 0;
}
