/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of a service's name: it is there as long as it has instances, and
 * shows the tags of all. From the tags that a command's rows gained and lost, and
 * the tallies afterwards, follows what there was before.
 */
#include <stdlib.h>
#include <string.h>

#include "kv/catalog.h"
#include "kv/record_compose.h"

/* What the captured rows of one name add to it and take away. */
struct balance {
    struct mr_slice lower; /* The name. */
    Mr__Service **before;  /* By captured row; NULL: not there. */
    Mr__Service **after;
    size_t n;
    uint64_t n_before; /* Instances of the name. */
    uint64_t n_after;
};

/* Whether @list has the tag @tag. */
static bool has_tag(const Mr__Service *service, const char *tag)
{
    for (size_t i = 0; service != NULL && i < service->n_tags; i++) {
        if (strcmp(service->tags[i], tag) == 0) {
            return true;
        }
    }
    return false;
}

/* How often @tag was added less how often it was taken away. */
static int64_t tag_delta(const struct balance *b, const char *tag)
{
    int64_t delta = 0;

    for (size_t i = 0; i < b->n; i++) {
        for (size_t t = 0; b->after[i] != NULL && t < b->after[i]->n_tags;
             t++) {
            delta += strcmp(b->after[i]->tags[t], tag) == 0;
        }
        for (size_t t = 0; b->before[i] != NULL && t < b->before[i]->n_tags;
             t++) {
            delta -= strcmp(b->before[i]->tags[t], tag) == 0;
        }
    }
    return delta;
}

/* Whether @tag is one of the name's after the command and was not before, or
 * the other way round. */
static bool tag_differs(struct kv_recorder *r, const struct balance *b,
                        const char *name, const char *tag)
{
    int64_t delta = tag_delta(b, tag);
    struct kv_tally *tally;
    struct kv_row_key k;

    if (delta == 0) {
        return false;
    }
    kv_tag_key(&k, name, tag);
    tally = kv_tally_get(&r->b->tallies, &r->b->tx, &k);
    return tally != NULL &&
           (tally->count == 0) != (tally->count == (uint64_t)delta);
}

/* Whether a tag of @from differs that @other does not have as well. */
static bool any_tag_differs(struct kv_recorder *r, const struct balance *b,
                            const Mr__Service *from, const Mr__Service *other)
{
    for (size_t t = 0; from != NULL && t < from->n_tags; t++) {
        if (!has_tag(other, from->tags[t]) &&
            tag_differs(r, b, from->name, from->tags[t])) {
            return true;
        }
    }
    return false;
}

static bool tags_differ(struct kv_recorder *r, const struct balance *b)
{
    for (size_t i = 0; i < b->n; i++) {
        if (any_tag_differs(r, b, b->before[i], b->after[i]) ||
            any_tag_differs(r, b, b->after[i], b->before[i])) {
            return true;
        }
    }
    return false;
}

/* The rows of one name from @at on. False: no memory. */
static bool weigh(struct kv_recorder *r, size_t at, struct balance *b)
{
    const struct kv_captured *rows = r->capture->rows + at;
    size_t len = strlen((const char *)rows[0].key.data) + 1; /* Its end: 0. */
    struct mr_slice prefix = mr_slice(rows[0].key.data, len);
    size_t left = r->capture->n - at;

    b->lower = mr_slice((const uint8_t *)prefix.data + 1, len - 2);
    while (b->n < left && mr_slice_has_prefix(rows[b->n].key, prefix)) {
        b->n++;
    }
    b->before = kv_arena_alloc(&r->b->scratch, b->n * sizeof *b->before);
    b->after = kv_arena_alloc(&r->b->scratch, b->n * sizeof *b->after);
    if (b->before == NULL || b->after == NULL) {
        return false;
    }
    for (size_t i = 0; i < b->n; i++) {
        b->before[i] = kv_service_then(r, KV_BEFORE, rows[i].key);
        b->after[i] = kv_service_then(r, KV_AFTER, rows[i].key);
    }
    return true;
}

/* How many instances the name had and has; returns its spelling. */
static const char *count(struct kv_recorder *r, struct balance *b)
{
    struct kv_tally *tally;
    struct kv_row_key k;

    kv_key_init(&k, KV_SERVICE_NAME);
    kv_key_add(&k, b->lower);
    tally = kv_tally_get(&r->b->tallies, &r->b->tx, &k);
    if (tally == NULL) {
        return NULL;
    }
    b->n_after = tally->count;
    b->n_before = tally->count;
    for (size_t i = 0; i < b->n; i++) {
        b->n_before += b->before[i] != NULL;
        b->n_before -= b->after[i] != NULL;
    }
    return kv_arena_text(&r->b->arena,
                         tally->text.len > 0 ? tally->text : b->lower);
}

/* Add the tags of @service to those in @name that has room for them. */
static void add_tags(Mr__Service *name, const Mr__Service *service)
{
    for (size_t t = 0; service != NULL && t < service->n_tags; t++) {
        if (!has_tag(name, service->tags[t])) {
            name->tags[name->n_tags++] = service->tags[t];
        }
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The tags of a name whose last instances have gone: they were all captured. */
static void gather_gone(struct kv_recorder *r, const struct balance *b,
                        Mr__Service *name)
{
    size_t n = 1;

    for (size_t i = 0; i < b->n; i++) {
        n += b->before[i] == NULL ? 0 : b->before[i]->n_tags;
    }
    name->tags = kv_arena_alloc(&r->b->scratch, n * sizeof(char *));
    for (size_t i = 0; name->tags != NULL && i < b->n; i++) {
        add_tags(name, b->before[i]);
    }
    if (name->n_tags > 1) {
        qsort(name->tags, name->n_tags, sizeof(char *), by_text);
    }
}

/* A tag on its way into a list: its row's key, and itself. */
struct tag {
    struct mr_slice key;
    const char *text;
};

struct tag_list {
    struct tag *tags;
    size_t n;
    size_t cap;
};

static void push_tag(struct kv_recorder *r, struct tag_list *list,
                     struct mr_slice key, struct mr_slice long_text)
{
    struct kv_arena *arena = &r->b->scratch;
    const uint8_t *name = key.data;
    size_t part = strlen((const char *)name) + 1; /* Behind table, name, 0. */

    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 16 : list->cap * 2;
        struct tag *tags = kv_arena_alloc(arena, cap * sizeof *tags);

        if (tags == NULL) {
            return; /* The command fails for it. */
        }
        if (list->n > 0) {
            memcpy(tags, list->tags, list->n * sizeof *tags);
        }
        list->tags = tags;
        list->cap = cap;
    }
    list->tags[list->n].key = kv_arena_copy(arena, key);
    list->tags[list->n++].text = kv_arena_text(
        arena,
        long_text.len > 0 ? long_text : mr_slice(name + part, key.len - part));
}

static const struct kv_tally *find_tally(struct kv_recorder *r,
                                         struct mr_slice key)
{
    uint64_t hash = mr_hash64(key, 0);
    const struct kv_tally *t =
        r->b->tallies.buckets[hash & (KV_TALLY_BUCKETS - 1)];

    while (t != NULL && (t->hash != hash || !mr_slice_eq(t->key, key))) {
        t = t->next;
    }
    return t;
}

/* The tags in the tree, but for those that the batch took away. */
static void push_stored(struct kv_recorder *r, struct mr_slice prefix,
                        struct tag_list *list)
{
    struct kv_scan scan;
    struct kv_row row;
    uint64_t count;

    kv_scan_open(&scan, &r->b->tx, prefix);
    while (kv_scan_next(&scan, &row)) {
        const struct kv_tally *t = find_tally(r, row.key);

        if (!kv_get_varint(&row.value, &count)) {
            kv_tx_fail(&r->b->tx, MR_E_CORRUPT);
        } else if (t == NULL || t->count > 0) {
            push_tag(r, list, row.key, row.value);
        }
    }
    kv_scan_close(&scan);
}

/* And those that it added, which are not in the tree yet. */
static void push_tallied(struct kv_recorder *r, struct mr_slice prefix,
                         struct tag_list *list)
{
    for (size_t i = 0; i < KV_TALLY_BUCKETS; i++) {
        const struct kv_tally *t = r->b->tallies.buckets[i];

        for (; t != NULL; t = t->next) {
            if (!t->is_stored && t->count > 0 &&
                mr_slice_has_prefix(t->key, prefix)) {
                push_tag(r, list, t->key, t->text);
            }
        }
    }
}

static int by_key(const void *a_, const void *b_)
{
    const struct mr_slice *a = &((const struct tag *)a_)->key;
    const struct mr_slice *b = &((const struct tag *)b_)->key;
    int order = memcmp(a->data, b->data, a->len < b->len ? a->len : b->len);

    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

/* The tags of a name that is there. */
static void gather_present(struct kv_recorder *r, const struct balance *b,
                           Mr__Service *name)
{
    struct tag_list list = {NULL, 0, 0};
    struct kv_row_key k;

    kv_key_init(&k, KV_TAG);
    kv_key_add(&k, b->lower);
    kv_key_byte(&k, 0);
    push_stored(r, kv_key_slice(&k), &list);
    push_tallied(r, kv_key_slice(&k), &list);
    if (list.n > 1) {
        qsort(list.tags, list.n, sizeof *list.tags, by_key);
    }
    name->tags = kv_arena_alloc(&r->b->scratch, (list.n + 1) * sizeof(char *));
    for (size_t i = 0; name->tags != NULL && i < list.n; i++) {
        name->tags[name->n_tags++] = (char *)(uintptr_t)list.tags[i].text;
    }
}

size_t kv_compose_name(struct kv_recorder *r, size_t at,
                       enum mr_kv_action *out_action, struct mr_buf *out)
{
    Mr__Service name = MR__SERVICE__INIT;
    struct balance b = {.n = 0};
    const char *spelling;

    kv_arena_reset(&r->b->scratch);
    if (!weigh(r, at, &b)) {
        return b.n;
    }
    spelling = count(r, &b);
    *out_action = b.n_before == 0  ? MR_KV_ACTION_CREATE
                  : b.n_after == 0 ? MR_KV_ACTION_DELETE
                                   : MR_KV_ACTION_UPDATE;
    if (spelling == NULL || (b.n_before == 0 && b.n_after == 0) ||
        (*out_action == MR_KV_ACTION_UPDATE && !tags_differ(r, &b))) {
        return b.n;
    }
    name.name = (char *)(uintptr_t)spelling; /* Only packed. */
    name.port = (int64_t)(b.n_after == 0 ? b.n_before : b.n_after);
    if (b.n_after == 0) {
        gather_gone(r, &b, &name);
    } else {
        gather_present(r, &b, &name);
    }
    kv_pack_message(out, &name.base);
    return b.n;
}
