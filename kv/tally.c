/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table of counting rows, written back at the end of a batch. */
#include "kv/tally.h"

#include <stdlib.h>

#include "base/buf.h"
#include "kv/catalog.h"

void kv_tallies_init(struct kv_tallies *t)
{
    kv_arena_init(&t->arena);
    memset(t->buckets, 0, sizeof t->buckets);
    t->n = 0;
    t->command = 0;
    t->noted = NULL;
}

void kv_tallies_deinit(struct kv_tallies *t)
{
    kv_arena_deinit(&t->arena);
}

void kv_tallies_reset(struct kv_tallies *t)
{
    if (t->n > 0) {
        memset(t->buckets, 0, sizeof t->buckets);
    }
    t->n = 0;
    t->noted = NULL;
    kv_arena_reset(&t->arena);
}

void kv_tally_link(struct kv_tally *name, struct kv_tally *tag)
{
    if (tag->name == NULL) {
        tag->name = name;
        tag->older = name->tags;
        name->tags = tag;
    }
}

void kv_tallies_begin(struct kv_tallies *t)
{
    t->command++;
    t->noted = NULL;
}

void kv_tally_note(struct kv_tallies *t, struct kv_tally *tally)
{
    if (tally->command != t->command) {
        tally->command = t->command;
        tally->noted = t->noted;
        t->noted = tally;
        tally->was_count = tally->count;
        tally->was_text = tally->text;
    }
}

uint64_t kv_tally_was(const struct kv_tallies *t, const struct kv_tally *tally)
{
    return tally->command == t->command ? tally->was_count : tally->count;
}

static bool is_name(const struct kv_tally *tally)
{
    return *(const uint8_t *)tally->key.data == KV_SERVICE_NAME;
}

/* Read the row of @tally, if there is one. */
static bool load(struct kv_tallies *t, struct kv_tx *tx, struct kv_tally *tally)
{
    struct mr_slice row;

    tally->is_stored = kv_tx_get(tx, tally->key, &row);
    if (!tally->is_stored) {
        return tx->err == MR_OK;
    }
    if ((is_name(tally) && !kv_get_varint(&row, &tally->index)) ||
        !kv_get_varint(&row, &tally->count)) {
        kv_tx_fail(tx, MR_E_CORRUPT);
        return false;
    }
    kv_tally_set_text(t, tally, row);
    return true;
}

static struct kv_tally *find(const struct kv_tallies *t, struct mr_slice key,
                             uint64_t hash)
{
    struct kv_tally *tally = t->buckets[hash & (KV_TALLY_BUCKETS - 1)];

    while (tally != NULL &&
           (tally->hash != hash || !mr_slice_eq(tally->key, key))) {
        tally = tally->next;
    }
    return tally;
}

struct kv_tally *kv_tally_find(const struct kv_tallies *t, struct mr_slice key)
{
    return find(t, key, mr_hash64(key, 0));
}

struct kv_tally *kv_tally_get(struct kv_tallies *t, struct kv_tx *tx,
                              const struct kv_row_key *k)
{
    struct mr_slice key = kv_key_slice(k);
    uint64_t hash = mr_hash64(key, 0);
    struct kv_tally **bucket = &t->buckets[hash & (KV_TALLY_BUCKETS - 1)];
    struct kv_tally *tally = find(t, key, hash);

    if (tally != NULL) {
        return tally;
    }
    tally = kv_arena_alloc(&t->arena, sizeof *tally);
    if (tally == NULL || key.len == 0) {
        kv_tx_fail(tx, key.len == 0 ? MR_E_CORRUPT : MR_E_NOMEM);
        return NULL;
    }
    *tally = (struct kv_tally){.hash = hash};
    tally->key = kv_arena_copy(&t->arena, key);
    if (tally->key.data == NULL || !load(t, tx, tally) || t->arena.failed) {
        kv_tx_fail(tx, MR_E_NOMEM); /* Unless it failed already. */
        return NULL;
    }
    tally->next = *bucket;
    *bucket = tally;
    t->n++;
    return tally;
}

void kv_tally_set_text(struct kv_tallies *t, struct kv_tally *tally,
                       struct mr_slice text)
{
    tally->text =
        text.len == 0 ? mr_slice(NULL, 0) : kv_arena_copy(&t->arena, text);
}

static int by_key(const void *a, const void *b)
{
    return kv_key_compare((*(struct kv_tally *const *)a)->key,
                          (*(struct kv_tally *const *)b)->key);
}

/* Write one row back, put together in @row. */
static void store(struct kv_tx *tx, const struct kv_tally *tally,
                  struct mr_buf *row)
{
    struct mr_slice old;

    if (tally->count == 0) {
        if (tally->is_stored) {
            (void)kv_tx_del(tx, tally->key); /* It is there. */
        }
        return;
    }
    mr_buf_reset(row);
    if (is_name(tally)) {
        kv_put_varint(row, tally->index);
    }
    kv_put_varint(row, tally->count);
    mr_buf_add(row, tally->text.data, tally->text.len);
    if (mr_buf_failed(row)) {
        kv_tx_fail(tx, MR_E_NOMEM);
    } else if (kv_tx_get(tx, tally->key, &old) == tally->is_stored) {
        kv_tx_swap(tx, tally->key, tally->is_stored ? &old : NULL,
                   mr_buf_slice(row));
    }
}

/* The tallies that changed, by key; their number in *@out_n. */
static struct kv_tally **sort_dirty(struct kv_tallies *t, size_t *out_n)
{
    struct kv_tally **list = kv_arena_alloc(&t->arena, t->n * sizeof *list);
    struct kv_tally *tally;
    size_t n = 0;
    size_t i;

    for (i = 0; list != NULL && i < KV_TALLY_BUCKETS; i++) {
        for (tally = t->buckets[i]; tally != NULL; tally = tally->next) {
            if (tally->is_dirty) {
                list[n++] = tally;
            }
        }
    }
    if (n > 1) {
        qsort(list, n, sizeof(struct kv_tally *), by_key);
    }
    *out_n = n;
    return list;
}

void kv_tallies_flush(struct kv_tallies *t, struct kv_tx *tx)
{
    struct mr_buf row = MR_BUF_INIT;
    struct kv_tally **list;
    size_t n = 0;
    size_t i;

    if (t->n == 0) {
        return;
    }
    list = sort_dirty(t, &n);
    if (list == NULL) {
        kv_tx_fail(tx, MR_E_NOMEM);
    }
    for (i = 0; list != NULL && i < n && tx->err == MR_OK; i++) {
        store(tx, list[i], &row);
    }
    mr_buf_deinit(&row);
    kv_tallies_reset(t);
}
