/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor that can be made readable: eventfd where there is one, else a
 * pipe. */
#ifndef MICROREG_WAKE_H
#define MICROREG_WAKE_H

#include <stdbool.h>

/* Make one: fds[0] to poll, fds[1] to write, which may be the same. False: no
 * descriptor is free. */
bool mrg_wake_init(int fds[2]);

/* Make it readable; once only until it is cleared. */
void mrg_wake_set(const int fds[2]);

/* Make it unreadable again. */
void mrg_wake_clear(const int fds[2]);

/* Close it. fds of -1 are a no-op. */
void mrg_wake_deinit(int fds[2]);

#endif /* MICROREG_WAKE_H */
