/* SPDX-License-Identifier: Apache-2.0 */
/* Queries on sessions. The index of each is that of the whole table. */
#include "kv/sessions.h"
#include "kv/walk.h"

enum mr_err mr_kv_session_get(struct mr_kv_view *view, const char *id,
                              const Mr__Session **out_session,
                              uint64_t *out_index)
{
    const Mr__Session *session =
        kv_session_find(kv_view_tx(view), kv_view_arena(view), id);
    enum mr_err err = kv_view_error(view);

    if (err == MR_OK) {
        *out_session = session;
        kv_set_index(out_index, kv_view_meta(view)->sessions_rev);
    }
    return err;
}

/* Hand out the sessions whose IDs end the keys that begin with @prefix. */
static void walk(struct mr_kv_view *view, const struct kv_row_key *prefix,
                 mr_kv_session_cb cb, void *arg)
{
    struct kv_arena *arena = kv_view_arena(view);
    struct kv_tx *tx = kv_view_tx(view);
    struct kv_scan scan;
    struct kv_row row;

    kv_scan_open(&scan, tx, kv_key_slice(prefix));
    while (kv_scan_next(&scan, &row)) {
        const char *id = kv_arena_text(
            arena, mr_slice((const uint8_t *)row.key.data + prefix->len,
                            row.key.len - prefix->len));
        const Mr__Session *session =
            id == NULL ? NULL : kv_session_find(tx, arena, id);

        if (session == NULL || !cb(arg, session)) {
            break;
        }
    }
    kv_scan_close(&scan);
}

enum mr_err mr_kv_session_list(struct mr_kv_view *view, const char *node,
                               mr_kv_session_cb cb, void *arg,
                               uint64_t *out_index)
{
    struct kv_row_key prefix;

    if (node == NULL) {
        kv_key_init(&prefix, KV_SESSION);
    } else {
        kv_node_session_prefix(&prefix, node);
    }
    walk(view, &prefix, cb, arg);
    kv_set_index(out_index, kv_view_meta(view)->sessions_rev);
    return kv_view_error(view);
}
