/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording what a command changed.
 *
 * Which objects may have changed follows from the captured rows:
 *  - a key, a node, a check: the row itself;
 *  - a service: its instance, and its checks, which show its name and tags;
 *  - a check of a service: the service's instance;
 *  - a node, or a check of a node: every instance on it.
 * A row that only got another lease keeps its revision, and is no change.
 */
#include "kv/record.h"

#include <stdlib.h>
#include <string.h>

#include "kv/catalog.h"
#include "kv/history.h"
#include "kv/keys.h"
#include "kv/record_compose.h"

/* ------------------------------------------------------------ events */

/* Append an event whose object is in @object. */
static void add_event(struct kv_recorder *r, struct kv_event_head head,
                      const char *was, struct mr_slice object)
{
    size_t was_len = was == NULL ? 0 : strlen(was);

    head.was_len = was_len > UINT8_MAX ? UINT8_MAX : (uint8_t)was_len;
    head.len = (uint32_t)(object.len + head.was_len);
    mr_buf_add(&r->events, &head, sizeof head);
    mr_buf_add(&r->events, was, head.was_len);
    mr_buf_add(&r->events, object.data, object.len);
}

/* ------------------------------------------------------------ keys */

static void pack_key(struct mr_buf *out, struct mr_slice row_key,
                     struct mr_slice value)
{
    struct kv_row row = {row_key, value};
    Mr__Key key = MR__KEY__INIT;
    struct kv_key_row k;
    uint32_t len;
    char session[KV_SESSION_ID_MAX + 1];

    if (!kv_key_unpack(&row, &k)) {
        return; /* Damaged: the command has failed. */
    }
    len = (uint32_t)k.key.len;
    memcpy(session, k.session.len > 0 ? k.session.data : "", k.session.len);
    session[k.session.len] = '\0';
    key.value.data = (uint8_t *)(uintptr_t)k.value.data; /* Only read. */
    key.value.len = k.value.len;
    key.flags = k.flags;
    key.lock_index = k.lock_index;
    key.session = session;
    key.create_rev = k.revs.create;
    key.modify_rev = k.revs.modify;
    key.fence = k.fence;
    mr_buf_add(out, &len, sizeof len);
    mr_buf_add(out, k.key.data, k.key.len);
    uint8_t *at = mr_buf_grow(out, mr__key__get_packed_size(&key));

    if (at != NULL) {
        (void)mr__key__pack(&key, at); /* Returns the length asked for. */
    }
}

static void record_keys(struct kv_recorder *r)
{
    for (size_t i = 0; i < r->capture->n; i++) {
        const struct kv_captured *c = &r->capture->rows[i];
        struct kv_event_head head = {.object = MR_KV_OBJECT_KEY};
        struct mr_slice value;
        bool is_there = false;

        if (*(const uint8_t *)c->key.data != (uint8_t)KV_KEY) {
            break; /* The first table. */
        }
        is_there = kv_tx_get(&r->b->tx, c->key, &value);
        if (!is_there && !c->existed) {
            continue;
        }
        head.action = (uint8_t)(!is_there     ? MR_KV_ACTION_DELETE
                                : !c->existed ? MR_KV_ACTION_CREATE
                                              : MR_KV_ACTION_UPDATE);
        mr_buf_reset(&r->after);
        pack_key(&r->after, c->key, is_there ? value : c->old);
        add_event(r, head, NULL, mr_buf_slice(&r->after));
    }
    kv_pending_add(&r->b->pending, KV_HISTORY_KEYS, mr_buf_slice(&r->events),
                   r->b->meta.revision);
    mr_buf_reset(&r->events);
}

/* ------------------------------------------------------------ what to look at
 */

/* Keys of rows: those of the instances and of the checks that may have
 * changed. */
struct key_list {
    struct mr_slice *keys;
    size_t n;
    size_t cap;
};

static void push(struct kv_recorder *r, struct key_list *list,
                 struct mr_slice key)
{
    (void)kv_arena_push(&r->b->arena, &list->keys, &list->n, &list->cap,
                        kv_arena_copy(&r->b->arena, key));
}

static int compare(const void *a_, const void *b_)
{
    const struct mr_slice *a = a_;
    const struct mr_slice *b = b_;
    int order = memcmp(a->data, b->data, a->len < b->len ? a->len : b->len);

    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

static void sort(struct key_list *list)
{
    size_t kept = 0;

    if (list->n > 1) {
        qsort(list->keys, list->n, sizeof *list->keys, compare);
    }
    for (size_t i = 0; i < list->n; i++) {
        if (kept == 0 || !mr_slice_eq(list->keys[kept - 1], list->keys[i])) {
            list->keys[kept++] = list->keys[i];
        }
    }
    list->n = kept;
}

/* The instance that the NODE_SERVICE row @key with @name is about. */
static void push_instance(struct kv_recorder *r, struct key_list *list,
                          struct mr_slice key, struct mr_slice name)
{
    struct kv_row_key k;

    kv_key_init(&k, KV_SERVICE);
    kv_key_add(&k, name);
    kv_key_byte(&k, 0);
    kv_key_add(&k, mr_slice((const uint8_t *)key.data + 1, key.len - 1));
    push(r, list, kv_key_slice(&k));
}

/* Every instance on the node of the lower name @node; those that are gone were
 * captured themselves. */
static void push_node(struct kv_recorder *r, struct key_list *list,
                      struct mr_slice node)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;

    kv_key_init(&k, KV_NODE_SERVICE);
    kv_key_add(&k, node);
    kv_key_byte(&k, 0);
    kv_scan_open(&scan, &r->b->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        push_instance(r, list, row.key, row.value);
    }
    kv_scan_close(&scan);
}

/* The checks of the service that the row @key is of. */
static void push_checks(struct kv_recorder *r, struct key_list *list,
                        struct mr_slice key)
{
    struct mr_slice parts[3];
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;

    if (!kv_key_split(key, parts, 3)) {
        return;
    }
    kv_key_init(&k, KV_CHECK);
    kv_key_add(&k, parts[1]);
    kv_key_byte(&k, 0);
    kv_key_add(&k, parts[2]);
    kv_key_byte(&k, 0);
    kv_scan_open(&scan, &r->b->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        push(r, list, row.key);
    }
    kv_scan_close(&scan);
}

/* The instances that the check of row @key counts for. */
static void push_of_check(struct kv_recorder *r, struct key_list *list,
                          struct mr_slice key)
{
    struct mr_slice parts[3];
    struct kv_row_key k;
    struct mr_slice name;

    if (!kv_key_split(key, parts, 3)) {
        return;
    }
    if (parts[1].len == 0) {
        push_node(r, list, parts[0]);
        return;
    }
    kv_key_init(&k, KV_NODE_SERVICE);
    kv_key_add(&k, parts[0]);
    kv_key_byte(&k, 0);
    kv_key_add(&k, parts[1]);
    if (kv_tx_get(&r->b->tx, kv_key_slice(&k), &name)) {
        push_instance(r, list, kv_key_slice(&k), name);
    }
}

static void collect(struct kv_recorder *r, struct key_list *instances,
                    struct key_list *checks)
{
    for (size_t i = 0; i < r->capture->n; i++) {
        struct mr_slice key = r->capture->rows[i].key;

        switch (*(const uint8_t *)key.data) {
        case KV_NODE:
            if (kv_row_is_changed(r, key)) {
                push_node(r, instances,
                          mr_slice((const uint8_t *)key.data + 1, key.len - 1));
            }
            break;
        case KV_SERVICE:
            push(r, instances, key);
            push_checks(r, checks, key);
            break;
        case KV_CHECK:
            if (kv_row_is_changed(r, key)) {
                push(r, checks, key);
                push_of_check(r, instances, key);
            }
            break;
        default:
            break;
        }
    }
    sort(instances);
    sort(checks);
}

/* ------------------------------------------------------------ the catalog */

static void record_node(struct kv_recorder *r, struct mr_slice key)
{
    const struct kv_captured *c = kv_capture_find(r->capture, key);
    struct kv_event_head head = {.object = MR_KV_OBJECT_NODE};
    struct mr_slice value;
    bool exists = kv_tx_get(&r->b->tx, key, &value);

    if (c == NULL || !kv_row_is_changed(r, key)) {
        return;
    }
    head.name =
        kv_event_name(mr_slice((const uint8_t *)key.data + 1, key.len - 1));
    head.action = (uint8_t)(!c->existed ? MR_KV_ACTION_CREATE
                            : !exists   ? MR_KV_ACTION_DELETE
                                        : MR_KV_ACTION_UPDATE);
    mr_buf_reset(&r->object);
    kv_compose_node(r, exists ? KV_AFTER : KV_BEFORE, key, &r->object);
    add_event(r, head, NULL, mr_buf_slice(&r->object));
}

static void record_nodes(struct kv_recorder *r)
{
    static const uint8_t table = KV_NODE;
    size_t at = kv_capture_seek(r->capture, mr_slice(&table, 1));

    while (at < r->capture->n &&
           *(const uint8_t *)r->capture->rows[at].key.data == table) {
        record_node(r, r->capture->rows[at++].key);
    }
}

/* An instance that is there no more, or was not before. */
static void record_end_or_beginning(struct kv_recorder *r, struct mr_slice key,
                                    bool existed, struct kv_event_head head)
{
    const char *was;

    mr_buf_reset(&r->object);
    was =
        kv_compose_instance(r, existed ? KV_BEFORE : KV_AFTER, key, &r->object);
    head.action =
        (uint8_t)(existed ? MR_KV_ACTION_DELETE : MR_KV_ACTION_CREATE);
    add_event(r, head, existed ? was : NULL, mr_buf_slice(&r->object));
}

/* An instance that was there and is. */
static void record_update(struct kv_recorder *r, struct mr_slice key,
                          struct kv_event_head head)
{
    struct kv_instance_change change = kv_instance_compare(r, key);
    const char *is;
    const char *was = NULL;

    if (!change.has_any) {
        return;
    }
    mr_buf_reset(&r->object);
    if (change.has_parts) {
        kv_compose_parts(r, KV_BEFORE, key, &r->object);
    }
    if (change.has_checks) {
        was = kv_compose_status(r, KV_BEFORE, key);
    }
    is = kv_compose_instance(r, KV_AFTER, key, &r->object);
    head.action = MR_KV_ACTION_UPDATE;
    head.has_before = change.has_parts;
    add_event(r, head, was == NULL ? is : was, mr_buf_slice(&r->object));
}

static void record_instances(struct kv_recorder *r,
                             const struct key_list *instances)
{
    struct mr_slice parts[3];
    struct mr_slice value;

    for (size_t i = 0; i < instances->n; i++) {
        struct mr_slice key = instances->keys[i];
        const struct kv_captured *c = kv_capture_find(r->capture, key);
        struct kv_event_head head = {.object = MR_KV_OBJECT_INSTANCE};
        bool exists = kv_tx_get(&r->b->tx, key, &value);
        bool existed = c == NULL ? exists : c->existed;

        if (!kv_key_split(key, parts, 3)) {
            continue;
        }
        head.name = kv_event_name(parts[0]);
        if (exists && existed) {
            record_update(r, key, head);
        } else if (exists || existed) {
            record_end_or_beginning(r, key, existed, head);
        }
    }
}

/* A check, which may be one whose service alone changed. */
static void record_check(struct kv_recorder *r, struct mr_slice key)
{
    const struct kv_captured *c = kv_capture_find(r->capture, key);
    struct kv_event_head head = {.object = MR_KV_OBJECT_CHECK};
    struct mr_slice value;
    bool exists = kv_tx_get(&r->b->tx, key, &value);
    bool existed = c == NULL ? exists : c->existed;
    const char *was = NULL;

    if (!exists && !existed) {
        return;
    }
    mr_buf_reset(&r->before);
    mr_buf_reset(&r->after);
    if (existed && (!exists || !kv_row_is_changed(r, key))) {
        was = kv_compose_check(r, KV_BEFORE, key, &r->before);
    } else if (existed) {
        was = kv_compose_check_status(r, KV_BEFORE, key);
    }
    if (exists) {
        (void)kv_compose_check(r, KV_AFTER, key, &r->after);
    }
    if (mr_slice_eq(mr_buf_slice(&r->before), mr_buf_slice(&r->after))) {
        return;
    }
    head.action = (uint8_t)(!existed  ? MR_KV_ACTION_CREATE
                            : !exists ? MR_KV_ACTION_DELETE
                                      : MR_KV_ACTION_UPDATE);
    add_event(r, head, was, mr_buf_slice(exists ? &r->after : &r->before));
}

static void record_checks(struct kv_recorder *r, const struct key_list *checks)
{
    for (size_t i = 0; i < checks->n; i++) {
        record_check(r, checks->keys[i]);
    }
}

/* The names of the captured services. */
static void record_names(struct kv_recorder *r)
{
    static const uint8_t table = KV_SERVICE;
    size_t at = kv_capture_seek(r->capture, mr_slice(&table, 1));

    while (at < r->capture->n &&
           *(const uint8_t *)r->capture->rows[at].key.data == table) {
        enum mr_kv_action action;
        size_t n;

        mr_buf_reset(&r->after);
        n = kv_compose_name(r, at, &action, &r->after);
        if (r->after.len > 0) {
            struct kv_event_head head = {.object = MR_KV_OBJECT_NAME,
                                         .action = (uint8_t)action};

            add_event(r, head, NULL, mr_buf_slice(&r->after));
        }
        at += n;
    }
}

static void record_catalog(struct kv_recorder *r)
{
    struct key_list instances = {NULL, 0, 0};
    struct key_list checks = {NULL, 0, 0};

    collect(r, &instances, &checks);
    record_nodes(r);
    record_instances(r, &instances);
    record_checks(r, &checks);
    record_names(r);
    kv_pending_add(&r->b->pending, KV_HISTORY_CATALOG, mr_buf_slice(&r->events),
                   r->b->meta.revision);
    mr_buf_reset(&r->events);
}

void kv_record(struct kv_batch *b)
{
    struct kv_recorder *r = &b->recorder;

    r->b = b;
    r->capture = &b->capture;
    kv_capture_end(&b->capture);
    if (b->capture.n == 0) {
        return;
    }
    record_keys(r);
    if (*(const uint8_t *)b->capture.rows[b->capture.n - 1].key.data !=
        (uint8_t)KV_KEY) {
        kv_rows_compare(r, &b->capture);
        record_catalog(r);
    }
    if (mr_buf_failed(&r->events) || mr_buf_failed(&r->before) ||
        mr_buf_failed(&r->after) || mr_buf_failed(&r->object)) {
        b->pending.is_lost = true;
    }
}
