/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake of a WebSocket. */
#include "api/websocket_handshake.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define KEY_LEN 24 /* Base64 of 16 bytes. */
#define SHA1_LEN 20

/* RFC 6455 §1.3. */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

bool websocket_has_token(const char *value, const char *token)
{
    size_t len = strlen(token);

    while (value != NULL && *value != '\0') {
        value += strspn(value, " \t,");
        size_t n = strcspn(value, " \t,");

        if (n == len && strncasecmp(value, token, len) == 0) {
            return true;
        }
        value += n;
    }
    return false;
}

/* Whether @key is the base64 of 16 bytes. */
static bool is_key(const char *key)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return key != NULL && strlen(key) == KEY_LEN &&
           strspn(key, digits) == KEY_LEN - 2 &&
           strcmp(key + KEY_LEN - 2, "==") == 0;
}

const char *websocket_hello_check(const struct websocket_hello *hello,
                                  unsigned *out_status)
{
    *out_status = 400;
    if (!websocket_has_token(hello->upgrade, "websocket")) {
        return "Upgrade must be websocket";
    }
    if (!websocket_has_token(hello->connection, "Upgrade")) {
        return "A WebSocket needs Connection: Upgrade";
    }
    if (hello->version == NULL || strcmp(hello->version, "13") != 0) {
        *out_status = 426;
        return "Sec-WebSocket-Version must be 13";
    }
    return is_key(hello->key) ? NULL
                              : "Sec-WebSocket-Key must be 16 bytes in base64";
}

enum mr_err websocket_accept(const char *key,
                             char out[WEBSOCKET_ACCEPT_LEN + 1])
{
    char text[KEY_LEN + sizeof GUID];
    unsigned char digest[SHA1_LEN];
    gnutls_datum_t bytes = {digest, sizeof digest};
    gnutls_datum_t base64;
    int n = snprintf(text, sizeof text, "%.*s%s", KEY_LEN, key, GUID);

    if (gnutls_hash_fast(GNUTLS_DIG_SHA1, text, (size_t)n, digest) != 0 ||
        gnutls_base64_encode2(&bytes, &base64) != 0) {
        return MR_E_NOMEM;
    }
    (void)snprintf(out, WEBSOCKET_ACCEPT_LEN + 1, "%.*s", (int)base64.size,
                   (const char *)base64.data); /* Fits. */
    gnutls_free(base64.data);
    return MR_OK;
}
