/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake of a WebSocket: RFC 6455 §4.2. Pure functions over headers. */
#ifndef API_WEBSOCKET_HANDSHAKE_H
#define API_WEBSOCKET_HANDSHAKE_H

#include <stdbool.h>

#include "base/err.h"

/* Base64 of 20 bytes. */
#define WEBSOCKET_ACCEPT_LEN 28

/* The request's headers; NULL: not there. */
struct websocket_hello {
    const char *upgrade;
    const char *connection;
    const char *key;
    const char *version;
};

/* Whether the header @value, a list of tokens or NULL, has @token (any case). */
bool websocket_has_token(const char *value, const char *token);

/* What is wrong with the request, or NULL. *@out_status is its HTTP status:
 * 400, or 426 for another version of the protocol. */
const char *websocket_hello_check(const struct websocket_hello *hello,
                                  unsigned *out_status);

/* The Sec-WebSocket-Accept of @key. MR_E_NOMEM: the digest failed. */
MR_MUST_CHECK enum mr_err websocket_accept(const char *key,
                                           char out[WEBSOCKET_ACCEPT_LEN + 1]);

#endif /* API_WEBSOCKET_HANDSHAKE_H */
