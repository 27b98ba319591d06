/* SPDX-License-Identifier: Apache-2.0 */
/* What rows held before a command. */
#include "kv/capture.h"

#include <stdlib.h>
#include <string.h>

#include "kv/row.h"

void kv_capture_begin(struct kv_capture *c, struct kv_arena *arena)
{
    *c = (struct kv_capture){.arena = arena};
}

/* Tables whose rows are shown, or tell to what a shown row belongs. */
static bool is_wanted(struct mr_slice key)
{
    switch (*(const uint8_t *)key.data) {
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

void kv_capture_row(struct kv_capture *c, struct mr_slice key,
                    const struct mr_slice *old, bool is_deleted)
{
    struct kv_captured *row;

    if (key.len == 0 || !is_wanted(key) || (c->n == c->cap && !grow(c))) {
        return;
    }
    row = &c->rows[c->n];
    *row = (struct kv_captured){.key = kv_arena_copy(c->arena, key),
                                .existed = old != NULL,
                                .seq = c->n};
    /* Values of keys can be large, and only a delete shows the old one. */
    if (old != NULL &&
        (is_deleted || *(const uint8_t *)key.data != (uint8_t)KV_KEY)) {
        row->old = kv_arena_copy(c->arena, *old);
    }
    c->n += c->arena->failed ? 0 : 1;
}

static int compare(struct mr_slice a, struct mr_slice b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_key(const void *a_, const void *b_)
{
    const struct kv_captured *a = a_;
    const struct kv_captured *b = b_;
    int order = compare(a->key, b->key);

    return order != 0 ? order : (a->seq > b->seq) - (a->seq < b->seq);
}

void kv_capture_end(struct kv_capture *c)
{
    size_t kept = 0;

    if (c->n > 1) {
        qsort(c->rows, c->n, sizeof *c->rows, by_key);
    }
    for (size_t i = 0; i < c->n; i++) {
        if (kept == 0 || !mr_slice_eq(c->rows[kept - 1].key, c->rows[i].key)) {
            c->rows[kept++] = c->rows[i];
        } else if (c->rows[kept - 1].existed &&
                   c->rows[kept - 1].old.len == 0) {
            c->rows[kept - 1].old = c->rows[i].old; /* Of a deleted key. */
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

        if (compare(c->rows[at].key, key) < 0) {
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
