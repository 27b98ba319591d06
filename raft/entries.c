/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's memory of its log: terms, newest entries, configurations. */
#include "raft/entries.h"

#include <string.h>

#include "base/mem.h"

#define RING_FIRST 64
#define OVERFULL 8 /* Times the limit: then even needed entries go. */

static struct driver_entry *slot(const struct entries *e, uint64_t index)
{
    return &e->ring[index & (e->cap_ring - 1)];
}

/* Make @*array hold one more element of @size; a new array on growth. */
static enum mr_err grow(void **array, size_t n, size_t *cap, size_t size)
{
    size_t wanted;
    void *bigger;

    if (n < *cap) {
        return MR_OK;
    }
    wanted = *cap == 0 ? 8 : *cap * 2;
    bigger = mr_realloc(*array, wanted * size);
    if (bigger == NULL) {
        return MR_E_NOMEM;
    }
    *array = bigger;
    *cap = wanted;
    return MR_OK;
}

static enum mr_err add_run(struct entries *e, uint64_t term, uint64_t last)
{
    void *runs = e->runs;
    enum mr_err err;

    if (e->n_runs > 0 && e->runs[e->n_runs - 1].term == term) {
        e->runs[e->n_runs - 1].last = last;
        return MR_OK;
    }
    err = grow(&runs, e->n_runs, &e->cap_runs, sizeof *e->runs);
    if (err != MR_OK) {
        return err;
    }
    e->runs = runs;
    e->runs[e->n_runs++] = (struct entries_run){term, last};
    return MR_OK;
}

static enum mr_err add_change(struct entries *e, uint64_t index,
                              struct mr_slice conf)
{
    void *changes = e->changes;
    struct driver_blob *blob;
    enum mr_err err =
        grow(&changes, e->n_changes, &e->cap_changes, sizeof *e->changes);

    if (err != MR_OK) {
        return err;
    }
    e->changes = changes;
    blob = driver_blob_new(conf.len);
    if (blob == NULL) {
        return MR_E_NOMEM;
    }
    memcpy(blob->data, conf.data, conf.len);
    e->changes[e->n_changes++] = (struct entries_change){index, blob};
    return MR_OK;
}

enum mr_err entries_init(struct entries *e, const struct driver_disk *disk,
                         size_t cache_limit)
{
    const struct driver_snapshot *s = &disk->snapshot;
    enum mr_err err = MR_OK;

    *e = (struct entries){0};
    e->cache_limit = cache_limit;
    e->offset = disk->first_index - 1;
    e->last = e->offset;
    if (disk->has_snapshot) {
        e->snapshot_index = s->index;
        e->snapshot_term = s->term;
        err = add_change(e, s->conf_index, s->conf);
    }
    for (size_t i = 0; err == MR_OK && i < disk->n_runs; i++) {
        e->last += disk->runs[i].n_entries;
        err = add_run(e, disk->runs[i].term, e->last);
    }
    for (size_t i = 0; err == MR_OK && i < disk->n_changes; i++) {
        if (!disk->has_snapshot || disk->changes[i].index > s->conf_index) {
            err = add_change(e, disk->changes[i].index, disk->changes[i].conf);
        }
    }
    e->cache_first = e->last + 1;
    if (err != MR_OK) {
        entries_deinit(e);
    }
    return err;
}

static void drop_cached(struct entries *e, uint64_t index)
{
    struct driver_entry *entry = slot(e, index);

    e->cache_bytes -= entry->data.len + sizeof *entry;
    driver_blob_unref(entry->blob);
    entry->blob = NULL;
}

/* Empty the cache, whose next entry will be @next. */
static void clear_cache(struct entries *e, uint64_t next)
{
    for (uint64_t i = e->cache_first; i <= e->last; i++) {
        drop_cached(e, i);
    }
    e->cache_first = next;
}

static void drop_changes(struct entries *e, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        driver_blob_unref(e->changes[i].conf);
    }
    if (n > 0) {
        memmove(&e->changes[from], &e->changes[from + n],
                (e->n_changes - from - n) * sizeof *e->changes);
        e->n_changes -= n;
    }
}

void entries_deinit(struct entries *e)
{
    clear_cache(e, e->last + 1);
    drop_changes(e, 0, e->n_changes);
    mr_free(e->changes);
    mr_free(e->runs);
    mr_free(e->ring);
    *e = (struct entries){0};
}

uint64_t entries_term(const struct entries *e, uint64_t index)
{
    size_t low = 0;
    size_t high = e->n_runs;

    if (index != 0 && index == e->snapshot_index) {
        return e->snapshot_term;
    }
    if (index <= e->offset || index > e->last || e->n_runs == 0) {
        return 0;
    }
    if (e->n_runs == 1 || index > e->runs[e->n_runs - 2].last) {
        return e->runs[e->n_runs - 1].term;
    }
    while (low < high) { /* The first run whose last is at or beyond. */
        size_t mid = low + (high - low) / 2;
        if (e->runs[mid].last < index) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < e->n_runs ? e->runs[low].term : 0;
}

const struct driver_entry *entries_get(const struct entries *e, uint64_t index)
{
    if (index < e->cache_first || index > e->last) {
        return NULL;
    }
    return slot(e, index);
}

/* Double the ring, keeping every entry at its place modulo the new size. */
static enum mr_err grow_ring(struct entries *e)
{
    size_t cap = e->cap_ring == 0 ? RING_FIRST : e->cap_ring * 2;
    struct driver_entry *ring = mr_calloc(cap, sizeof *ring);

    if (ring == NULL) {
        return MR_E_NOMEM;
    }
    for (uint64_t i = e->cache_first; i <= e->last; i++) {
        ring[i & (cap - 1)] = *slot(e, i);
    }
    mr_free(e->ring);
    e->ring = ring;
    e->cap_ring = cap;
    return MR_OK;
}

enum mr_err entries_append(struct entries *e, const struct driver_entry *entry)
{
    uint64_t index = e->last + 1;
    enum mr_err err = MR_OK;

    if (index - e->cache_first >= e->cap_ring) {
        err = grow_ring(e);
    }
    if (err == MR_OK && entry->type == DRIVER_ENTRY_CHANGE) {
        err = add_change(e, index, entry->data);
    }
    if (err == MR_OK) {
        err = add_run(e, entry->term, index);
    }
    if (err != MR_OK) {
        return err;
    }
    e->last = index;
    *slot(e, index) = *entry;
    driver_blob_ref(entry->blob);
    e->cache_bytes += entry->data.len + sizeof *entry;
    return MR_OK;
}

void entries_truncate(struct entries *e, uint64_t index)
{
    size_t keep = e->n_changes;

    for (uint64_t i = index > e->cache_first ? index : e->cache_first;
         i <= e->last; i++) {
        drop_cached(e, i);
    }
    e->last = index - 1;
    if (e->cache_first > index) {
        e->cache_first = index;
    }
    while (e->n_runs > 1 && e->runs[e->n_runs - 2].last >= e->last) {
        e->n_runs--;
    }
    if (e->n_runs > 0) {
        e->runs[e->n_runs - 1].last = e->last;
    }
    if (e->last <= e->offset) {
        e->n_runs = 0;
    }
    while (keep > 0 && e->changes[keep - 1].index >= index) {
        keep--;
    }
    drop_changes(e, keep, e->n_changes - keep);
}

void entries_compact(struct entries *e, uint64_t index, uint64_t term,
                     uint64_t offset)
{
    size_t drop = 0;

    e->snapshot_index = index;
    e->snapshot_term = term;
    while (drop + 1 < e->n_changes && e->changes[drop + 1].index <= index) {
        drop++;
    }
    drop_changes(e, 0, drop);
    if (offset <= e->offset) {
        return;
    }
    while (e->cache_first <= offset && e->cache_first <= e->last) {
        drop_cached(e, e->cache_first++);
    }
    e->offset = offset;
    for (drop = 0; drop < e->n_runs && e->runs[drop].last <= offset; drop++) {
    }
    if (drop > 0) {
        memmove(e->runs, e->runs + drop, (e->n_runs - drop) * sizeof *e->runs);
        e->n_runs -= drop;
    }
}

enum mr_err entries_replace(struct entries *e,
                            const struct driver_snapshot *meta)
{
    clear_cache(e, meta->index + 1);
    drop_changes(e, 0, e->n_changes);
    e->n_runs = 0;
    e->offset = meta->index;
    e->last = meta->index;
    e->snapshot_index = meta->index;
    e->snapshot_term = meta->term;
    return add_change(e, meta->conf_index, meta->conf);
}

void entries_evict(struct entries *e, uint64_t upto)
{
    while (e->cache_bytes > e->cache_limit && e->cache_first < e->last &&
           (e->cache_first <= upto ||
            e->cache_bytes > OVERFULL * e->cache_limit)) {
        drop_cached(e, e->cache_first++);
    }
}

const struct entries_change *entries_conf_at(const struct entries *e,
                                             uint64_t index)
{
    for (size_t i = e->n_changes; i > 0; i--) {
        if (e->changes[i - 1].index <= index) {
            return &e->changes[i - 1];
        }
    }
    return NULL;
}
