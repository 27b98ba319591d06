/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors to poll. */
#include "wake.h"

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#if defined(__linux__) && !defined(MICROREG_USE_PIPES)
#include <sys/eventfd.h>

bool mrg_wake_init(int fds[2])
{
    fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fds[0] >= 0;
}
#else
bool mrg_wake_init(int fds[2])
{
    if (pipe(fds) != 0) {
        fds[0] = fds[1] = -1;
        return false;
    }
    for (int i = 0; i < 2; i++) {
        (void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        (void)fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    return true;
}
#endif

void mrg_wake_set(const int fds[2])
{
    const uint64_t one = 1; /* Eight bytes: what an eventfd takes. */
    ssize_t written = write(fds[1], &one, sizeof one);

    (void)written; /* It fails only while it is readable already. */
}

void mrg_wake_clear(const int fds[2])
{
    uint64_t count;

    while (read(fds[0], &count, sizeof count) > 0) {
    }
}

void mrg_wake_deinit(int fds[2])
{
    if (fds[0] >= 0) {
        (void)close(fds[0]);
    }
    if (fds[1] >= 0 && fds[1] != fds[0]) {
        (void)close(fds[1]);
    }
    fds[0] = fds[1] = -1;
}
