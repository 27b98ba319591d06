/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets. */
#ifndef API_LISTEN_H
#define API_LISTEN_H

#include <stdint.h>

#include "base/err.h"

/* Listen on the IP literal @host at *@port; 0 picks a port and stores it. On
 * success *@out_fd is the caller's, not blocking.
 *
 * MR_E_ADDRESS: no IP literal, or not of this machine. MR_E_INUSE. MR_E_IO. */
MR_MUST_CHECK enum mr_err api_listen(const char *host, uint16_t *port,
                                     int *out_fd, struct mr_detail *detail);

#endif /* API_LISTEN_H */
