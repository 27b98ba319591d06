/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that are too long for go-micro's clients. */
#include "api/websocket_message.h"

#include <jansson.h>

static int write_piece(const char *data, size_t len, void *arg)
{
    struct mr_buf *out = arg;

    mr_buf_add(out, data, len);
    return mr_buf_failed(out) ? -1 : 0;
}

enum mr_err websocket_message_fit(struct mr_slice message,
                                  struct mr_buf *shortened,
                                  struct mr_slice *out_message)
{
    json_t *root;
    int rc;

    if (message.len <= WEBSOCKET_MESSAGE_MAX) {
        *out_message = message;
        return MR_OK;
    }
    root = json_loadb(message.data, message.len, JSON_ALLOW_NUL, NULL);
    if (root == NULL) {
        return MR_E_NOMEM; /* We wrote it ourselves. */
    }
    (void)json_object_del(json_object_get(root, "Service"), "endpoints");
    mr_buf_reset(shortened);
    rc = json_dump_callback(root, write_piece, shortened, JSON_COMPACT);
    json_decref(root);
    if (rc != 0) {
        return MR_E_NOMEM;
    }
    *out_message = mr_buf_slice(shortened);
    return shortened->len <= WEBSOCKET_MESSAGE_MAX ? MR_OK : MR_E_TOOBIG;
}
