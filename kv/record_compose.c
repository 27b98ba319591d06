/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as they were before a command, and as they are after it. */
#include "kv/record_compose.h"

#include <stdlib.h>
#include <string.h>

#include "kv/catalog.h"

/* The row @key then. */
static bool get(struct kv_recorder *r, enum kv_when when, struct mr_slice key,
                struct mr_slice *out_value)
{
    const struct kv_captured *c =
        when == KV_BEFORE ? kv_capture_find(r->capture, key) : NULL;

    if (c == NULL) {
        return kv_tx_get(&r->b->tx, key, out_value);
    }
    *out_value = c->old;
    return c->existed;
}

bool kv_row_is_changed(struct kv_recorder *r, struct mr_slice key)
{
    const struct kv_captured *c = kv_capture_find(r->capture, key);

    return c != NULL && c->is_changed;
}

void kv_pack_message(struct mr_buf *out, const ProtobufCMessage *message)
{
    uint8_t *at = mr_buf_grow(out, protobuf_c_message_get_packed_size(message));

    if (at != NULL) {
        (void)protobuf_c_message_pack(message, at); /* The length asked for. */
    }
}

/* As kv_pack_message(), behind its length. */
static void pack_part(struct mr_buf *out, const ProtobufCMessage *message)
{
    uint32_t len = (uint32_t)protobuf_c_message_get_packed_size(message);

    mr_buf_add(out, &len, sizeof len);
    kv_pack_message(out, message);
}

/* ------------------------------------------------------------ decoding */

/* The node of the row @key then, or NULL. */
static Mr__Node *find_node(struct kv_recorder *r, enum kv_when when,
                           struct mr_slice key)
{
    struct kv_row row = {key, {NULL, 0}};
    Mr__Node *node;

    if (!get(r, when, key, &row.value) ||
        kv_unpack_node(&r->b->scratch, &row, &node) != MR_OK) {
        return NULL;
    }
    node->ttl_ms = 0;
    node->reap_ms = 0;
    node->lease_id = 0;
    return node;
}

static Mr__Node *find_node_named(struct kv_recorder *r, enum kv_when when,
                                 struct mr_slice lower)
{
    struct kv_row_key k;

    kv_key_init(&k, KV_NODE);
    kv_key_add(&k, lower);
    return find_node(r, when, kv_key_slice(&k));
}

static Mr__Service *find_service(struct kv_recorder *r, enum kv_when when,
                                 struct mr_slice key, const Mr__Node *node)
{
    struct kv_row row = {key, {NULL, 0}};
    Mr__Service *service;

    if (!get(r, when, key, &row.value) ||
        kv_unpack_service(&r->b->scratch, &row, node->name, &service) !=
            MR_OK) {
        return NULL;
    }
    service->ttl_ms = 0;
    service->digest = 0;
    service->incarnation = 0;
    service->lease_id = 0;
    return service;
}

Mr__Service *kv_service_then(struct kv_recorder *r, enum kv_when when,
                             struct mr_slice key)
{
    static const Mr__Node no_node = MR__NODE__INIT; /* Its name is not shown. */

    return find_service(r, when, key, &no_node);
}

static Mr__Check *find_check(struct kv_recorder *r, enum kv_when when,
                             struct mr_slice key, const Mr__Node *node,
                             const Mr__Service *service)
{
    struct kv_row row = {key, {NULL, 0}};
    Mr__Check *check;

    if (!get(r, when, key, &row.value) ||
        kv_unpack_check(&r->b->scratch, &row, node->name, service, &check) !=
            MR_OK) {
        return NULL;
    }
    check->lease_id = 0;
    return check;
}

/* ------------------------------------------------------------ rows */

/* Pack what the row @key of a node, a service or a check showed then, but for
 * its ModifyIndex. Only REGISTRY is an origin that shows. */
static void pack_shown(struct kv_recorder *r, enum kv_when when,
                       struct mr_slice key, struct mr_buf *out)
{
    static const Mr__Node no_node = MR__NODE__INIT; /* It has its own row. */
    Mr__Service *service;
    Mr__Check *check;
    Mr__Node *node;

    kv_arena_reset(&r->b->scratch);
    switch (*(const uint8_t *)key.data) {
    case KV_NODE:
        node = find_node(r, when, key);
        if (node != NULL) {
            node->modify_rev = 0;
            kv_pack_message(out, &node->base);
        }
        break;
    case KV_SERVICE:
        service = find_service(r, when, key, &no_node);
        if (service != NULL) {
            service->modify_rev = 0;
            if (service->origin != MR__ORIGIN__REGISTRY) {
                service->origin = MR__ORIGIN__CATALOG;
            }
            kv_pack_message(out, &service->base);
        }
        break;
    case KV_CHECK:
        check = find_check(r, when, key, &no_node, NULL);
        if (check != NULL) {
            check->modify_rev = 0;
            check->origin = MR__ORIGIN__CATALOG;
            kv_pack_message(out, &check->base);
        }
        break;
    default:
        break;
    }
}

static bool shows_other(struct kv_recorder *r, const struct kv_captured *c)
{
    struct mr_slice before = c->old;
    struct mr_slice after;
    struct kv_revs old;
    struct kv_revs new;

    if (!kv_tx_get(&r->b->tx, c->key, &after)) {
        return c->existed;
    }
    if (!c->existed || !kv_get_revs(&before, &old) ||
        !kv_get_revs(&after, &new)) {
        return true;
    }
    if (old.modify == new.modify) {
        return false; /* Nothing but its lease. */
    }
    mr_buf_reset(&r->before);
    mr_buf_reset(&r->after);
    pack_shown(r, KV_BEFORE, c->key, &r->before);
    pack_shown(r, KV_AFTER, c->key, &r->after);
    return !mr_slice_eq(mr_buf_slice(&r->before), mr_buf_slice(&r->after));
}

void kv_rows_compare(struct kv_recorder *r, struct kv_capture *capture)
{
    for (size_t i = 0; i < capture->n; i++) {
        struct kv_captured *c = &capture->rows[i];
        uint8_t table = *(const uint8_t *)c->key.data;

        if (table == KV_NODE || table == KV_SERVICE || table == KV_CHECK) {
            c->is_changed = shows_other(r, c);
        }
    }
}

/* ------------------------------------------------------------ node, check */

void kv_compose_node(struct kv_recorder *r, enum kv_when when,
                     struct mr_slice key, struct mr_buf *out)
{
    Mr__Node *node;

    kv_arena_reset(&r->b->scratch);
    node = find_node(r, when, key);
    if (node != NULL) {
        kv_pack_message(out, &node->base);
    }
}

/* The service @id of the node of the lower name @node then, or NULL. */
static Mr__Service *find_service_of(struct kv_recorder *r, enum kv_when when,
                                    const Mr__Node *node, struct mr_slice id)
{
    struct kv_row_key part;
    struct kv_row_key k;
    struct mr_slice name;

    kv_key_init(&part, KV_NODE_SERVICE);
    kv_key_lower(&part, node->name);
    kv_key_byte(&part, 0);
    kv_key_add(&part, id);
    if (!get(r, when, kv_key_slice(&part), &name)) {
        return NULL;
    }
    kv_key_init(&k, KV_SERVICE);
    kv_key_add(&k, name);
    kv_key_byte(&k, 0);
    kv_key_add(&k, mr_slice(part.bytes + 1, part.len - 1));
    return find_service(r, when, kv_key_slice(&k), node);
}

const char *kv_compose_check(struct kv_recorder *r, enum kv_when when,
                             struct mr_slice key, struct mr_buf *out)
{
    const Mr__Service *service = NULL;
    struct mr_slice parts[3];
    const Mr__Node *node;
    const Mr__Check *check;

    kv_arena_reset(&r->b->scratch);
    if (!kv_key_split(key, parts, 3)) {
        return NULL;
    }
    node = find_node_named(r, when, parts[0]);
    if (node == NULL) {
        return NULL;
    }
    if (parts[1].len > 0) {
        service = find_service_of(r, when, node, parts[1]);
    }
    check = find_check(r, when, key, node, service);
    if (check == NULL) {
        return NULL;
    }
    kv_pack_message(out, &check->base);
    return kv_arena_text(&r->b->arena, mr_slice_str(check->status));
}

const char *kv_compose_check_status(struct kv_recorder *r, enum kv_when when,
                                    struct mr_slice key)
{
    static const Mr__Node no_node = MR__NODE__INIT; /* Its name is not shown. */
    const Mr__Check *check;

    kv_arena_reset(&r->b->scratch);
    check = find_check(r, when, key, &no_node, NULL);
    return check == NULL
               ? NULL
               : kv_arena_text(&r->b->arena, mr_slice_str(check->status));
}

/* ------------------------------------------------------------ instances */

struct key_list {
    struct mr_slice *keys;
    size_t n;
    size_t cap;
};

static int compare(const void *a_, const void *b_)
{
    const struct mr_slice *a = a_;
    const struct mr_slice *b = b_;
    int order = memcmp(a->data, b->data, a->len < b->len ? a->len : b->len);

    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

/* The keys of the rows that began with @prefix then. */
static void list_rows(struct kv_recorder *r, enum kv_when when,
                      struct mr_slice prefix, struct key_list *out)
{
    struct kv_arena *arena = &r->b->scratch;
    size_t at = kv_capture_seek(r->capture, prefix);
    bool is_added = false;
    struct kv_scan scan;
    struct kv_row row;

    kv_scan_open(&scan, &r->b->tx, prefix);
    while (kv_scan_next(&scan, &row)) {
        if (when == KV_BEFORE && kv_capture_find(r->capture, row.key) != NULL) {
            continue;
        }
        (void)kv_arena_push(arena, &out->keys, &out->n, &out->cap,
                            kv_arena_copy(arena, row.key));
    }
    kv_scan_close(&scan);
    for (; when == KV_BEFORE && at < r->capture->n &&
           mr_slice_has_prefix(r->capture->rows[at].key, prefix);
         at++) {
        if (r->capture->rows[at].existed) {
            (void)kv_arena_push(arena, &out->keys, &out->n, &out->cap,
                                r->capture->rows[at].key);
            is_added = true;
        }
    }
    if (is_added && out->n > 1) {
        qsort(out->keys, out->n, sizeof *out->keys, compare);
    }
}

static const char *worse(const char *worst, const char *status)
{
    if (strcmp(worst, "critical") == 0 || strcmp(status, "passing") == 0) {
        return worst;
    }
    return strcmp(status, "critical") == 0 ? "critical" : "warning";
}

/* Append the checks of @service (NULL: of the node itself); returns the worst
 * of them and @worst. */
static const char *compose_checks(struct kv_recorder *r, enum kv_when when,
                                  const Mr__Node *node,
                                  const Mr__Service *service, const char *worst,
                                  struct mr_buf *out)
{
    struct key_list list = {NULL, 0, 0};
    struct kv_row_key k;

    kv_check_key(&k, node->name, service == NULL ? "" : service->id, "");
    list_rows(r, when, kv_key_slice(&k), &list);
    for (size_t i = 0; i < list.n; i++) {
        Mr__Check *check = find_check(r, when, list.keys[i], node, service);

        if (check != NULL) {
            pack_part(out, &check->base);
            worst = worse(worst, check->status);
        }
    }
    return worst;
}

/* The node and the service of the instance @key then; false: there is none. */
static bool find_parts(struct kv_recorder *r, enum kv_when when,
                       struct mr_slice key, const Mr__Node **out_node,
                       const Mr__Service **out_service)
{
    struct mr_slice parts[3];

    kv_arena_reset(&r->b->scratch);
    if (!kv_key_split(key, parts, 3)) {
        return false;
    }
    *out_node = find_node_named(r, when, parts[1]);
    *out_service =
        *out_node == NULL ? NULL : find_service(r, when, key, *out_node);
    return *out_service != NULL;
}

void kv_compose_parts(struct kv_recorder *r, enum kv_when when,
                      struct mr_slice key, struct mr_buf *out)
{
    const Mr__Service *service;
    const Mr__Node *node;

    if (find_parts(r, when, key, &node, &service)) {
        pack_part(out, &node->base);
        pack_part(out, &service->base);
    }
}

const char *kv_compose_instance(struct kv_recorder *r, enum kv_when when,
                                struct mr_slice key, struct mr_buf *out)
{
    const Mr__Service *service;
    const Mr__Node *node;
    const char *worst;

    if (!find_parts(r, when, key, &node, &service)) {
        return "";
    }
    pack_part(out, &node->base);
    pack_part(out, &service->base);
    worst = compose_checks(r, when, node, NULL, "passing", out);
    return compose_checks(r, when, node, service, worst, out);
}

/* The keys of the checks of the node (@of_node) or of the service itself of the
 * instance @key. */
static void check_prefix(struct kv_row_key *k, struct mr_slice key,
                         bool of_node)
{
    struct mr_slice parts[3];

    kv_key_init(k, KV_CHECK);
    if (kv_key_split(key, parts, 3)) {
        kv_key_add(k, parts[1]);
        kv_key_byte(k, 0);
        kv_key_add(k, of_node ? mr_slice(NULL, 0) : parts[2]);
        kv_key_byte(k, 0);
    }
}

const char *kv_compose_status(struct kv_recorder *r, enum kv_when when,
                              struct mr_slice key)
{
    static const Mr__Node no_node = MR__NODE__INIT; /* Its name is not shown. */
    const char *worst = "passing";

    kv_arena_reset(&r->b->scratch);
    for (int i = 0; i < 2; i++) {
        struct key_list list = {NULL, 0, 0};
        struct kv_row_key k;

        check_prefix(&k, key, i == 0);
        list_rows(r, when, kv_key_slice(&k), &list);
        for (size_t at = 0; at < list.n; at++) {
            Mr__Check *check =
                find_check(r, when, list.keys[at], &no_node, NULL);

            worst = check == NULL ? worst : worse(worst, check->status);
        }
    }
    return worst;
}

/* Whether a captured row whose key begins with @prefix is changed. */
static bool any_is_changed(struct kv_recorder *r, struct mr_slice prefix)
{
    size_t at = kv_capture_seek(r->capture, prefix);

    for (; at < r->capture->n &&
           mr_slice_has_prefix(r->capture->rows[at].key, prefix);
         at++) {
        if (kv_row_is_changed(r, r->capture->rows[at].key)) {
            return true;
        }
    }
    return false;
}

struct kv_instance_change kv_instance_compare(struct kv_recorder *r,
                                              struct mr_slice key)
{
    struct kv_instance_change change;
    struct mr_slice parts[3];
    struct kv_row_key k;

    kv_key_init(&k, KV_NODE);
    if (kv_key_split(key, parts, 3)) {
        kv_key_add(&k, parts[1]);
    }
    change.has_parts =
        kv_row_is_changed(r, key) || kv_row_is_changed(r, kv_key_slice(&k));
    check_prefix(&k, key, true);
    change.has_checks = any_is_changed(r, kv_key_slice(&k));
    check_prefix(&k, key, false);
    change.has_checks =
        change.has_checks || any_is_changed(r, kv_key_slice(&k));
    change.has_any = change.has_parts || change.has_checks;
    return change;
}
