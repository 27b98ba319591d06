/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries on keys. The index of a prefix is the highest revision of a key or a
 * deletion under it; when there is neither, or for the whole tree, that of the
 * table (parity 4.2).
 */
#include "kv/keys.h"
#include "kv/kv.h"

static ProtobufCBinaryData to_binary(struct mr_slice s)
{
    return (ProtobufCBinaryData){s.len, (uint8_t *)(uintptr_t)s.data};
}

/* @row as a message; its bytes stay where they are. */
static void fill_key(struct kv_arena *arena, const struct kv_key_row *row,
                     Mr__Key *out)
{
    mr__key__init(out);
    out->key = to_binary(row->key);
    out->value = to_binary(row->value);
    out->flags = row->flags;
    out->lock_index = row->lock_index;
    out->fence = row->fence;
    out->create_rev = row->revs.create;
    out->modify_rev = row->revs.modify;
    if (row->session.len > 0) {
        out->session = kv_arena_text(arena, row->session);
    }
}

static void set_index(uint64_t *out_index, uint64_t index)
{
    if (out_index != NULL) {
        *out_index = index == 0 ? 1 : index;
    }
}

enum mr_err mr_kv_key_get(struct mr_kv_view *view, struct mr_slice key,
                          const Mr__Key **out_key, uint64_t *out_index)
{
    struct kv_key_row row;
    Mr__Key *message;
    enum mr_err err;

    if (!kv_key_find(kv_view_tx(view), key, &row)) {
        err = kv_view_error(view);
        if (err == MR_OK) {
            *out_key = NULL;
            set_index(out_index, kv_view_meta(view)->keys_rev);
        }
        return err;
    }
    row.key = kv_arena_copy(kv_view_arena(view), key); /* Until the end. */
    message = kv_arena_alloc(kv_view_arena(view), sizeof *message);
    if (message != NULL) {
        fill_key(kv_view_arena(view), &row, message);
    }
    err = kv_view_error(view);
    if (err == MR_OK) {
        *out_key = message;
        set_index(out_index, row.revs.modify);
    }
    return err;
}

/* The index of @prefix when @max is the highest revision of its keys. */
static void set_prefix_index(struct mr_kv_view *view, struct mr_slice prefix,
                             uint64_t max, uint64_t *out_index)
{
    const struct kv_meta *meta = kv_view_meta(view);
    uint64_t grave;

    if (out_index == NULL) {
        return;
    }
    if (prefix.len == 0) {
        max = meta->keys_rev;
    } else {
        grave = kv_grave_max(kv_view_tx(view), prefix);
        if (max == 0 && grave > 0) {
            /* Its last keys may have gone with a larger tree. */
            max = kv_grave_above(kv_view_tx(view), prefix);
        }
        max = grave > max ? grave : max;
        max = max == 0 ? meta->keys_rev : max;
        max = meta->graves_rev > max ? meta->graves_rev : max;
    }
    set_index(out_index, max);
}

enum mr_err mr_kv_key_list(struct mr_kv_view *view, struct mr_slice prefix,
                           mr_kv_key_cb cb, void *arg, uint64_t *out_index)
{
    struct kv_key_scan scan;
    struct kv_key_row row;
    uint64_t max = 0;
    bool is_stopped = false;

    kv_key_scan_open(&scan, kv_view_tx(view), kv_view_arena(view), prefix);
    while (kv_key_scan_next(&scan, &row)) {
        Mr__Key message;

        max = row.revs.modify > max ? row.revs.modify : max;
        if (!is_stopped) {
            fill_key(kv_view_arena(view), &row, &message);
            is_stopped = !cb(arg, &message);
        }
        if (is_stopped && (out_index == NULL || prefix.len == 0)) {
            break;
        }
    }
    kv_key_scan_close(&scan);
    set_prefix_index(view, prefix, max, out_index);
    return kv_view_error(view);
}

/* @key cut behind the first @separator that follows @prefix. */
static struct mr_slice cut_key(struct mr_slice key, struct mr_slice prefix,
                               struct mr_slice separator)
{
    const uint8_t *rest = (const uint8_t *)key.data + prefix.len;
    const uint8_t *found = NULL;

    if (separator.len > 0 && key.len > prefix.len) {
        found =
            memmem(rest, key.len - prefix.len, separator.data, separator.len);
    }
    if (found != NULL) {
        key.len = (size_t)(found - (const uint8_t *)key.data) + separator.len;
    }
    return key;
}

enum mr_err mr_kv_key_names(struct mr_kv_view *view, struct mr_slice prefix,
                            struct mr_slice separator, mr_kv_key_cb cb,
                            void *arg, uint64_t *out_index)
{
    bool needs_all = out_index != NULL && prefix.len > 0;
    struct mr_slice last = {NULL, 0};
    struct kv_key_scan scan;
    struct kv_key_row row;
    uint64_t max = 0;
    bool is_stopped = false;

    kv_key_scan_open(&scan, kv_view_tx(view), kv_view_arena(view), prefix);
    while (kv_key_scan_next(&scan, &row)) {
        struct mr_slice name = cut_key(row.key, prefix, separator);
        Mr__Key message;

        max = row.revs.modify > max ? row.revs.modify : max;
        if (!is_stopped && (last.data == NULL || !mr_slice_eq(last, name))) {
            mr__key__init(&message);
            message.key = to_binary(name);
            is_stopped = !cb(arg, &message);
            last = name; /* Rows stay in place as long as the view lives. */
        }
        if (is_stopped && !needs_all) {
            break;
        }
        if (!needs_all && name.len < row.key.len) {
            kv_key_scan_skip(&scan, name);
        }
    }
    kv_key_scan_close(&scan);
    set_prefix_index(view, prefix, max, out_index);
    return kv_view_error(view);
}
