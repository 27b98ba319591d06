/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that are too long for go-micro's clients. */
#include "api/websocket_message.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static int write_piece(const char *data, size_t len, void *arg)
{
    struct mr_buf *out = arg;

    mr_buf_add(out, data, len);
    return mr_buf_failed(out) ? -1 : 0;
}

/* Write @root to @out. MR_E_TOOBIG: it is still too long. */
static enum mr_err write_short(const json_t *root, struct mr_buf *out)
{
    mr_buf_reset(out);
    if (json_dump_callback(root, write_piece, out, JSON_COMPACT) != 0) {
        return MR_E_NOMEM;
    }
    return out->len <= WEBSOCKET_MESSAGE_MAX ? MR_OK : MR_E_TOOBIG;
}

/* A pair of a node's metadata. */
struct pair {
    json_t *metadata; /* Of the node. */
    const char *key;
    size_t len; /* It takes at least so much of the message. */
};

static int longest_first(const void *a_, const void *b_)
{
    const struct pair *a = a_;
    const struct pair *b = b_;

    return (a->len < b->len) - (a->len > b->len);
}

static void add_pairs(json_t *metadata, struct mr_buf *pairs)
{
    const char *key;
    json_t *value;

    json_object_foreach(metadata, key, value)
    {
        struct pair pair = {metadata, key,
                            strlen("'':'',") + strlen(key) +
                                json_string_length(value)};

        mr_buf_add(pairs, &pair, sizeof pair);
    }
}

/* Remove the longest pairs of the metadata of @nodes, which take at least
 * @excess bytes, or all. */
static enum mr_err drop_pairs(const json_t *nodes, size_t excess)
{
    struct mr_buf list = MR_BUF_INIT;
    bool has_failed;
    size_t i;
    json_t *node;

    json_array_foreach(nodes, i, node)
    {
        add_pairs(json_object_get(node, "metadata"), &list);
    }
    has_failed = mr_buf_failed(&list);
    if (!has_failed && list.len > 0) {
        struct pair *pairs = (struct pair *)(void *)list.data;
        size_t n = list.len / sizeof *pairs;

        qsort(pairs, n, sizeof *pairs, longest_first);
        for (size_t k = 0; k < n && excess > 0; k++) {
            (void)json_object_del(pairs[k].metadata, pairs[k].key);
            excess -= pairs[k].len < excess ? pairs[k].len : excess;
        }
    }
    mr_buf_deinit(&list);
    return has_failed ? MR_E_NOMEM : MR_OK;
}

/* Take away from @service until the whole, @root, fits. */
static enum mr_err shorten(json_t *root, json_t *service, struct mr_buf *out)
{
    static const char *const members[] = {"endpoints", "metadata"};
    enum mr_err err = MR_E_TOOBIG;

    for (size_t i = 0; i < 2 && err == MR_E_TOOBIG; i++) {
        (void)json_object_del(service, members[i]);
        err = write_short(root, out);
    }
    if (err != MR_E_TOOBIG) {
        return err;
    }
    err = drop_pairs(json_object_get(service, "nodes"),
                     out->len - WEBSOCKET_MESSAGE_MAX);
    return err == MR_OK ? write_short(root, out) : err;
}

enum mr_err websocket_message_fit(struct mr_slice message,
                                  struct mr_buf *shortened,
                                  struct mr_slice *out_message)
{
    json_t *root;
    enum mr_err err;

    if (message.len <= WEBSOCKET_MESSAGE_MAX) {
        *out_message = message;
        return MR_OK;
    }
    root = json_loadb(message.data, message.len, JSON_ALLOW_NUL, NULL);
    if (root == NULL) {
        return MR_E_NOMEM; /* We wrote it ourselves. */
    }
    err = shorten(root, json_object_get(root, "Service"), shortened);
    json_decref(root);
    if (err == MR_OK) {
        *out_message = mr_buf_slice(shortened);
    }
    return err;
}
