/* SPDX-License-Identifier: Apache-2.0 */
/* Filtering and decoding events. Their rows were in the tree when they were
 * recorded, so that they do not decode means that memory is short. */
#include "kv/history_decode.h"

#include <stdlib.h>
#include <string.h>

#include "kv/keys.h"

/* ------------------------------------------------------------ filters */

static int by_value(const void *a_, const void *b_)
{
    uint64_t a = *(const uint64_t *)a_;
    uint64_t b = *(const uint64_t *)b_;

    return (a > b) - (a < b);
}

static enum mr_kv_object object_of(enum mr_kv_topic_kind kind)
{
    switch (kind) {
    case MR_KV_TOPIC_KEY:
    case MR_KV_TOPIC_PREFIX:
        return MR_KV_OBJECT_KEY;
    case MR_KV_TOPIC_NODES:
    case MR_KV_TOPIC_NODE:
        return MR_KV_OBJECT_NODE;
    case MR_KV_TOPIC_CHECKS:
        return MR_KV_OBJECT_CHECK;
    case MR_KV_TOPIC_SERVICES:
        return MR_KV_OBJECT_NAME;
    case MR_KV_TOPIC_SERVICE:
    case MR_KV_TOPIC_CATALOG:
    case MR_KV_TOPIC_SESSIONS:
        break;
    }
    return MR_KV_OBJECT_INSTANCE;
}

void kv_filter_init(struct kv_filter *f, const struct mr_kv_topic *topics,
                    size_t n_topics)
{
    f->object = object_of(topics[0].kind);
    f->part = f->object == MR_KV_OBJECT_KEY    ? KV_HISTORY_KEYS
              : f->object == MR_KV_OBJECT_NAME ? KV_HISTORY_NAMES
                                               : KV_HISTORY_CATALOG;
    f->topics = topics;
    f->n_topics = n_topics;
    f->is_all = topics[0].kind != MR_KV_TOPIC_SERVICE &&
                topics[0].kind != MR_KV_TOPIC_NODE;
    for (size_t i = 0; i < n_topics && !f->is_all; i++) {
        f->names[i] = kv_event_name(topics[i].name);
    }
    if (!f->is_all) {
        qsort(f->names, n_topics, sizeof f->names[0], by_value);
    }
}

/* Take the row at the front of @events; one without a value when there is
 * none. */
static struct kv_row take_row(struct mr_slice *events)
{
    const uint8_t *at = events->data;
    struct kv_event_row_head head;
    struct kv_row row;

    if (events->len == 0) {
        return (struct kv_row){{NULL, 0}, {NULL, 0}};
    }
    memcpy(&head, at, sizeof head);
    row.key = mr_slice(at + sizeof head, head.key_len);
    row.value = mr_slice(at + sizeof head + head.key_len, head.value_len);
    at += sizeof head + head.key_len + head.value_len;
    *events =
        mr_slice(at, events->len - (size_t)(at - (uint8_t *)events->data));
    return row;
}

static bool wants_key(const struct kv_filter *f, struct mr_slice rest)
{
    struct kv_row row = take_row(&rest);
    struct kv_key_row key;

    if (!kv_key_unpack(&row, &key)) {
        return false; /* It was read when it was changed. */
    }
    for (size_t i = 0; i < f->n_topics; i++) {
        const struct mr_kv_topic *topic = &f->topics[i];

        if (topic->kind == MR_KV_TOPIC_PREFIX
                ? mr_slice_has_prefix(key.key, topic->name)
                : mr_slice_eq(key.key, topic->name)) {
            return true;
        }
    }
    return false;
}

bool kv_filter_wants(const struct kv_filter *f,
                     const struct kv_event_head *head, struct mr_slice rest)
{
    if (head->object != f->object) {
        return false;
    }
    if (f->object == MR_KV_OBJECT_KEY) {
        return wants_key(f, rest); /* No status stands before it. */
    }
    return f->is_all || bsearch(&head->name, f->names, f->n_topics,
                                sizeof f->names[0], by_value) != NULL;
}

/* ------------------------------------------------------------ decoding */

void kv_decoder_init(struct kv_decoder *d)
{
    memset(d, 0, sizeof *d);
    kv_arena_init(&d->arena);
}

void kv_decoder_deinit(struct kv_decoder *d)
{
    kv_arena_deinit(&d->arena);
}

static const Mr__Key *decode_key(struct kv_decoder *d, struct mr_slice object)
{
    struct kv_row row = take_row(&object);
    struct kv_key_row key;

    if (!kv_key_unpack(&row, &key)) {
        return NULL;
    }
    d->key = (Mr__Key)MR__KEY__INIT;
    d->key.key.data =
        (uint8_t *)(uintptr_t)key.key.data; /* Never written to. */
    d->key.key.len = key.key.len;
    d->key.value.data = (uint8_t *)(uintptr_t)key.value.data; /* Nor this. */
    d->key.value.len = key.value.len;
    d->key.flags = key.flags;
    d->key.lock_index = key.lock_index;
    d->key.session = kv_arena_text(&d->arena, key.session);
    d->key.create_rev = key.revs.create;
    d->key.modify_rev = key.revs.modify;
    d->key.fence = key.fence;
    return d->key.session == NULL ? NULL : &d->key;
}

/* Each decodes the row at the front of @object, without what is not shown. */
static const Mr__Node *decode_node(struct kv_decoder *d,
                                   struct mr_slice *object)
{
    struct kv_row row = take_row(object);
    Mr__Node *node;

    if (kv_unpack_node(&d->arena, &row, &node) != MR_OK) {
        return NULL;
    }
    node->ttl_ms = 0;
    node->reap_ms = 0;
    node->lease_id = 0;
    return node;
}

static const Mr__Service *decode_service(struct kv_decoder *d,
                                         const struct kv_row *row,
                                         const Mr__Node *node)
{
    Mr__Service *service;

    if (node == NULL ||
        kv_unpack_service(&d->arena, row, node->name, &service) != MR_OK) {
        return NULL;
    }
    service->ttl_ms = 0;
    service->digest = 0;
    service->incarnation = 0;
    service->lease_id = 0;
    return service;
}

static const Mr__Check *decode_check(struct kv_decoder *d,
                                     const struct kv_row *row,
                                     const Mr__Node *node,
                                     const Mr__Service *service)
{
    Mr__Check *check;

    if (node == NULL ||
        kv_unpack_check(&d->arena, row, node->name, service, &check) != MR_OK) {
        return NULL;
    }
    check->lease_id = 0;
    return check;
}

static const Mr__Check *decode_own_check(struct kv_decoder *d,
                                         struct mr_slice object)
{
    const Mr__Node *node = decode_node(d, &object);
    struct kv_row row = take_row(&object);
    struct kv_row service_row = take_row(&object);
    const Mr__Service *service = NULL;

    if (service_row.value.len > 0) {
        service = decode_service(d, &service_row, node);
        if (service == NULL) {
            return NULL;
        }
    }
    return decode_check(d, &row, node, service);
}

static const struct mr_kv_service_name *decode_name(struct kv_decoder *d,
                                                    struct mr_slice object)
{
    Mr__Service *packed =
        mr__service__unpack(&d->arena.pb, object.len, object.data);

    if (packed == NULL) {
        return NULL;
    }
    d->name.name = packed->name;
    d->name.tags = (const char *const *)packed->tags;
    d->name.n_tags = packed->n_tags;
    d->name.n_instances = (uint64_t)packed->port;
    return &d->name;
}

static uint8_t table_of(struct mr_slice object)
{
    struct kv_row row = take_row(&object);

    return row.key.len == 0 ? 0 : *(const uint8_t *)row.key.data;
}

/* Decode the checks at the front of @object: those of the service have its ID in
 * their keys. */
static bool decode_checks(struct kv_decoder *d, struct mr_slice *object,
                          struct mr_kv_instance *instance)
{
    size_t cap = object->len / sizeof(struct kv_event_row_head) + 1;
    const Mr__Check **checks = kv_arena_alloc(&d->arena, cap * sizeof *checks);
    size_t n = 0;

    while (checks != NULL && table_of(*object) == KV_CHECK) {
        struct kv_row row = take_row(object);
        struct mr_slice parts[3];
        bool is_of_node = !kv_key_split(row.key, parts, 3) || parts[1].len == 0;

        checks[n] = decode_check(d, &row, instance->node,
                                 is_of_node ? NULL : instance->service);
        if (checks[n++] == NULL) {
            return false;
        }
    }
    instance->checks = checks;
    instance->n_checks = n;
    return checks != NULL;
}

/* Decode the instance at the front of @object. */
static bool decode_one(struct kv_decoder *d, struct mr_slice *object,
                       struct mr_kv_instance *out)
{
    struct kv_row row;

    out->node = decode_node(d, object);
    row = take_row(object);
    out->service = decode_service(d, &row, out->node);
    return out->service != NULL && decode_checks(d, object, out);
}

/* Decode the twins that are left of @object, and sort them. */
static bool decode_twins(struct kv_decoder *d, struct mr_slice object)
{
    d->n_twins = 0;
    while (object.len > 0 && d->n_twins < KV_TWINS_MAX) {
        struct mr_kv_instance *twin = &d->twins[d->n_twins];
        size_t at = d->n_twins++;

        if (!decode_one(d, &object, twin)) {
            return false;
        }
        for (; at > 0 && d->twin_list[at - 1]->service->create_rev <
                             twin->service->create_rev;
             at--) {
            d->twin_list[at] = d->twin_list[at - 1];
        }
        d->twin_list[at] = twin;
    }
    return true;
}

static const struct mr_kv_instance *
decode_instance(struct kv_decoder *d, struct mr_slice object, bool has_before)
{
    d->was_node = NULL;
    d->was_service = NULL;
    if (has_before) {
        struct kv_row row;

        d->was_node = decode_node(d, &object);
        row = take_row(&object);
        d->was_service = decode_service(d, &row, d->was_node);
        if (d->was_service == NULL) {
            return NULL;
        }
    }
    return decode_one(d, &object, &d->instance) && decode_twins(d, object)
               ? &d->instance
               : NULL;
}

enum mr_err kv_decode_event(struct kv_decoder *d,
                            const struct kv_event_head *head,
                            struct mr_slice rest, struct mr_kv_change *change)
{
    struct mr_slice was = mr_slice(rest.data, head->was_len);
    struct mr_slice object = mr_slice(
        (const uint8_t *)rest.data + head->was_len, rest.len - head->was_len);
    const void *decoded = NULL;

    kv_arena_reset(&d->arena);
    change->object = (enum mr_kv_object)head->object;
    change->action = (enum mr_kv_action)head->action;
    change->was_status = kv_arena_text(&d->arena, was);
    switch (change->object) {
    case MR_KV_OBJECT_KEY:
        decoded = change->u.key = decode_key(d, object);
        break;
    case MR_KV_OBJECT_NODE:
        decoded = change->u.node = decode_node(d, &object);
        break;
    case MR_KV_OBJECT_CHECK:
        decoded = change->u.check = decode_own_check(d, object);
        break;
    case MR_KV_OBJECT_NAME:
        decoded = change->u.name = decode_name(d, object);
        break;
    case MR_KV_OBJECT_INSTANCE:
        decoded = change->u.instance =
            decode_instance(d, object, head->has_before);
        change->was_node = d->was_node;
        change->was_service = d->was_service;
        change->twins = d->twin_list;
        change->n_twins = d->n_twins;
        break;
    }
    return decoded == NULL || change->was_status == NULL ? MR_E_NOMEM : MR_OK;
}
