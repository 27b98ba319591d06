/* SPDX-License-Identifier: Apache-2.0 */
/* What rows held before a command. */
#include "kv/capture.h"

#include <stdlib.h>
#include <string.h>

#include "kv/row.h"

void kv_capture_begin(struct kv_capture *c, struct kv_arena *arena,
                      size_t max_bytes)
{
    *c = (struct kv_capture){.arena = arena, .max_bytes = max_bytes};
}

/* Whether rows of @table are shown, or tell to what a shown row belongs. */
static bool is_wanted(uint8_t table)
{
    switch (table) {
    case KV_KEY:
    case KV_NODE:
    case KV_SERVICE:
    case KV_CHECK:
    case KV_NODE_SERVICE:
        return true;
    default:
        return false;
    }
}

static bool grow(struct kv_capture *c)
{
    size_t cap = c->cap == 0 ? 8 : c->cap * 2;
    struct kv_captured *rows = kv_arena_alloc(c->arena, cap * sizeof *rows);

    if (rows == NULL) {
        return false;
    }
    if (c->n > 0) {
        memcpy(rows, c->rows, c->n * sizeof *rows);
    }
    c->rows = rows;
    c->cap = cap;
    return true;
}

/* Whether a row of @part that takes @bytes is still captured. */
static bool has_room(struct kv_capture *c, enum kv_history_part part,
                     size_t bytes)
{
    if (c->is_full[part] || bytes > c->max_bytes - c->bytes[part]) {
        c->is_full[part] = true;
        return false;
    }
    c->bytes[part] += bytes;
    return true;
}

void kv_capture_row(struct kv_capture *c, struct mr_slice key,
                    const struct mr_slice *old, bool is_deleted)
{
    uint8_t table = key.len == 0 ? 0 : *(const uint8_t *)key.data;
    bool is_key = table == KV_KEY;
    /* Values of keys can be large, and only a delete shows the old one. */
    bool keeps_old = old != NULL && (is_deleted || !is_key);
    struct kv_captured *row;

    if (!is_wanted(table) ||
        !has_room(c, is_key ? KV_HISTORY_KEYS : KV_HISTORY_CATALOG,
                  sizeof *row + key.len + (keeps_old ? old->len : 0)) ||
        (c->n == c->cap && !grow(c))) {
        return;
    }
    row = &c->rows[c->n];
    *row = (struct kv_captured){.key = kv_arena_copy(c->arena, key),
                                .existed = old != NULL,
                                .seq = c->n};
    if (keeps_old) {
        row->was = kv_arena_copy(c->arena, *old);
    }
    c->n += c->arena->failed ? 0 : 1;
}

static int by_key(const void *a_, const void *b_)
{
    const struct kv_captured *a = a_;
    const struct kv_captured *b = b_;
    int order = kv_key_compare(a->key, b->key);

    return order != 0 ? order : (a->seq > b->seq) - (a->seq < b->seq);
}

void kv_capture_end(struct kv_capture *c)
{
    size_t kept = 0;

    if (c->n <= 1) {
        return;
    }
    qsort(c->rows, c->n, sizeof *c->rows, by_key);
    for (size_t i = 0; i < c->n; i++) {
        struct kv_captured *last = kept == 0 ? NULL : &c->rows[kept - 1];

        if (last == NULL || !mr_slice_eq(last->key, c->rows[i].key)) {
            c->rows[kept++] = c->rows[i];
        } else if (last->existed && last->was.data == NULL) {
            last->was = c->rows[i].was; /* Of a deleted key. */
        }
    }
    c->n = kept;
}

size_t kv_capture_seek(const struct kv_capture *c, struct mr_slice key)
{
    size_t low = 0;
    size_t high = c->n;

    while (low < high) {
        size_t at = low + (high - low) / 2;

        if (kv_key_compare(c->rows[at].key, key) < 0) {
            low = at + 1;
        } else {
            high = at;
        }
    }
    return low;
}

const struct kv_captured *kv_capture_find(const struct kv_capture *c,
                                          struct mr_slice key)
{
    size_t at = kv_capture_seek(c, key);

    return at < c->n && mr_slice_eq(c->rows[at].key, key) ? &c->rows[at] : NULL;
}
