/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of services' names: a name is there as long as it has instances,
 * and shows the tags of all. A command changes it when it changes whether the
 * name, or one of its tags, is counted at all: the tallies were noted before.
 */
#include <stdlib.h>
#include <string.h>

#include "kv/catalog.h"
#include "kv/record_rows.h"

/* ------------------------------------------------------------ which */

static bool is_name(const struct kv_tally *tally)
{
    return *(const uint8_t *)tally->key.data == KV_SERVICE_NAME;
}

/* Whether @tally, which was noted, is something else to who sees the name. */
static bool is_changed(const struct kv_tally *tally)
{
    return (tally->was_count == 0) != (tally->count == 0) ||
           (is_name(tally) && tally->count > 0 &&
            !mr_slice_eq(tally->was_text, tally->text));
}

static struct mr_slice lower_name(const struct kv_tally *name)
{
    return mr_slice((const uint8_t *)name->key.data + 1, name->key.len - 1);
}

/* ------------------------------------------------------------ tags */

/* More of a name are not recorded: where each of ten thousand instances has a tag
 * of its own, each registration would be as large as all of them. */
#define TAGS_MAX 256

/* The tags of a name: keys of rows, and what to show of them. */
struct tags {
    struct tag {
        struct mr_slice key;
        const char *text;
    } * list;
    size_t n;
    size_t cap;
};

/* Add the tag of the row @key; its text, when it is long, is @long_text. */
static void push_tag(struct kv_recorder *r, struct tags *tags,
                     struct mr_slice key, struct mr_slice long_text)
{
    struct kv_arena *arena = &r->b->scratch;
    struct mr_slice parts[2];

    if (!kv_key_split(key, parts, 2)) {
        kv_tx_fail(&r->b->tx, MR_E_CORRUPT);
        return;
    }
    if (tags->n == tags->cap) {
        size_t cap = tags->cap == 0 ? 16 : tags->cap * 2;
        struct tag *list = kv_arena_alloc(arena, cap * sizeof *list);

        if (list == NULL) {
            return; /* The arena says so. */
        }
        if (tags->n > 0) {
            memcpy(list, tags->list, tags->n * sizeof *list);
        }
        tags->list = list;
        tags->cap = cap;
    }
    tags->list[tags->n++] = (struct tag){
        key, kv_arena_text(arena, long_text.len > 0 ? long_text : parts[1])};
}

/* Those of a name that is gone: the command took them all away. */
static void gather_gone(struct kv_recorder *r, const struct kv_tally *name,
                        struct tags *tags)
{
    const struct kv_tally *t = name->tags;

    for (; t != NULL && tags->n <= TAGS_MAX; t = t->older) {
        if (t->command == name->command && t->was_count > 0) {
            push_tag(r, tags, t->key, t->was_text);
        }
    }
}

/* Those of a name that is there: in the tree, but for those that the batch took
 * away, and those that it added, which are not in the tree yet. */
static void gather_present(struct kv_recorder *r, const struct kv_tally *name,
                           struct tags *tags)
{
    const struct kv_tally *t = name->tags;
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;

    for (; t != NULL && tags->n <= TAGS_MAX; t = t->older) {
        if (t->count > 0) {
            push_tag(r, tags, t->key, t->text);
        }
    }
    kv_key_init(&k, KV_TAG);
    kv_key_add(&k, lower_name(name));
    kv_key_byte(&k, 0);
    kv_scan_open(&scan, &r->b->tx, kv_key_slice(&k));
    while (tags->n <= TAGS_MAX && kv_scan_next(&scan, &row)) {
        uint64_t count;

        if (!kv_get_varint(&row.value, &count)) {
            kv_tx_fail(&r->b->tx, MR_E_CORRUPT);
        } else if (kv_tally_find(&r->b->tallies, row.key) == NULL) {
            push_tag(r, tags, row.key, row.value);
        }
    }
    kv_scan_close(&scan);
}

static int by_key(const void *a, const void *b)
{
    return kv_key_compare(((const struct tag *)a)->key,
                          ((const struct tag *)b)->key);
}

/* ------------------------------------------------------------ recording */

/* Write the event of a name that has @n instances and @tags. */
static void write_name(struct kv_recorder *r, enum mr_kv_action action,
                       struct mr_slice spelling, uint64_t n,
                       const struct tags *tags)
{
    struct kv_event_head head = {.object = MR_KV_OBJECT_NAME,
                                 .action = (uint8_t)action};
    struct kv_arena *arena = &r->b->scratch;
    struct mr_buf *out = kv_event_out(r, action);
    Mr__Service name = MR__SERVICE__INIT;
    size_t at;
    uint8_t *packed;

    name.name = kv_arena_text(arena, spelling);
    name.tags = kv_arena_alloc(arena, (tags->n + 1) * sizeof(char *));
    if (arena->failed) {
        return;
    }
    name.port = (int64_t)n;
    for (; name.n_tags < tags->n; name.n_tags++) {
        name.tags[name.n_tags] =
            (char *)(uintptr_t)tags->list[name.n_tags].text; /* Only packed. */
    }
    at = kv_event_begin(out, head, mr_slice(NULL, 0));
    packed = mr_buf_grow(out, mr__service__get_packed_size(&name));
    if (packed != NULL) {
        (void)mr__service__pack(&name, packed); /* The length asked for. */
    }
    kv_event_end(out, at);
}

static void record_name(struct kv_recorder *r, struct kv_tally *name)
{
    uint64_t was = kv_tally_was(&r->b->tallies, name);
    bool is_there = name->count > 0;
    struct mr_slice text = is_there ? name->text : name->was_text;
    struct tags tags = {NULL, 0, 0};

    if (!is_there && was == 0) {
        return; /* It came and went. */
    }
    if (!name->is_large && is_there) {
        gather_present(r, name, &tags);
    } else if (!name->is_large) {
        gather_gone(r, name, &tags);
    }
    name->is_large = name->is_large || tags.n > TAGS_MAX;
    if (name->is_large) {
        r->is_lost = true;
        return;
    }
    if (tags.n > 1) {
        qsort(tags.list, tags.n, sizeof *tags.list, by_key);
    }
    write_name(r,
               !is_there ? MR_KV_ACTION_DELETE
               : was > 0 ? MR_KV_ACTION_UPDATE
                         : MR_KV_ACTION_CREATE,
               text.len > 0 ? text : lower_name(name),
               is_there ? name->count : was, &tags);
}

void kv_record_names(struct kv_recorder *r)
{
    struct kv_arena *arena = &r->b->scratch;
    const struct kv_tally *t = r->b->tallies.noted;
    struct mr_slice *names = NULL;
    size_t cap = 0;
    size_t n = 0;

    for (; t != NULL; t = t->noted) {
        if (is_changed(t)) {
            /* Without memory the arena says so. */
            (void)kv_arena_push(arena, &names, &n, &cap,
                                is_name(t) ? t->key : t->name->key);
        }
    }
    if (n > 1 && !arena->failed) {
        n = kv_keys_unique(names, n);
    }
    for (size_t i = 0; i < n && !arena->failed; i++) {
        record_name(r, kv_tally_find(&r->b->tallies, names[i]));
    }
}
