/* SPDX-License-Identifier: Apache-2.0 */
/* Filtering and decoding events. They were packed by this very process, so that
 * they do not decode means that memory is short. */
#include "kv/history_decode.h"

#include <stdlib.h>
#include <string.h>

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
    f->part =
        f->object == MR_KV_OBJECT_KEY ? KV_HISTORY_KEYS : KV_HISTORY_CATALOG;
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

/* The key at the front of an event's object. */
static struct mr_slice take_key(struct mr_slice *object)
{
    uint32_t len;
    struct mr_slice key;

    memcpy(&len, object->data, sizeof len);
    key = mr_slice((const uint8_t *)object->data + sizeof len, len);
    object->data = (const uint8_t *)key.data + len;
    object->len -= sizeof len + len;
    return key;
}

static bool wants_key(const struct kv_filter *f, struct mr_slice rest)
{
    struct mr_slice key = take_key(&rest);

    for (size_t i = 0; i < f->n_topics; i++) {
        const struct mr_kv_topic *topic = &f->topics[i];

        if (topic->kind == MR_KV_TOPIC_PREFIX
                ? mr_slice_has_prefix(key, topic->name)
                : mr_slice_eq(key, topic->name)) {
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

static void *unpack(struct kv_decoder *d,
                    const ProtobufCMessageDescriptor *descriptor,
                    struct mr_slice bytes)
{
    return protobuf_c_message_unpack(descriptor, &d->arena.pb, bytes.len,
                                     bytes.data);
}

/* The part at the front of @rest, behind its length. */
static struct mr_slice take_part(struct mr_slice *rest)
{
    return take_key(rest);
}

static const Mr__Key *decode_key(struct kv_decoder *d, struct mr_slice object)
{
    struct mr_slice key = take_key(&object);
    Mr__Key *rest = unpack(d, &mr__key__descriptor, object);

    if (rest == NULL) {
        return NULL;
    }
    d->key = *rest;
    d->key.key.data = (uint8_t *)(uintptr_t)key.data; /* Never written to. */
    d->key.key.len = key.len;
    return &d->key;
}

static const struct mr_kv_service_name *decode_name(struct kv_decoder *d,
                                                    struct mr_slice object)
{
    Mr__Service *packed = unpack(d, &mr__service__descriptor, object);

    if (packed == NULL) {
        return NULL;
    }
    d->name.name = packed->name;
    d->name.tags = (const char *const *)packed->tags;
    d->name.n_tags = packed->n_tags;
    d->name.n_instances = (uint64_t)packed->port;
    return &d->name;
}

static const struct mr_kv_instance *
decode_instance(struct kv_decoder *d, struct mr_slice object, bool has_before)
{
    const Mr__Check **checks;
    size_t cap;
    size_t n = 0;

    d->was_node = NULL;
    d->was_service = NULL;
    if (has_before) {
        d->was_node = unpack(d, &mr__node__descriptor, take_part(&object));
        d->was_service =
            unpack(d, &mr__service__descriptor, take_part(&object));
    }
    d->instance.node = unpack(d, &mr__node__descriptor, take_part(&object));
    d->instance.service =
        unpack(d, &mr__service__descriptor, take_part(&object));
    cap = object.len / sizeof(uint32_t) + 1;
    checks = kv_arena_alloc(&d->arena, cap * sizeof *checks);
    while (checks != NULL && object.len > 0) {
        checks[n] = unpack(d, &mr__check__descriptor, take_part(&object));
        if (checks[n++] == NULL) {
            return NULL;
        }
    }
    d->instance.checks = checks;
    d->instance.n_checks = n;
    return d->instance.node == NULL || d->instance.service == NULL ||
                   checks == NULL ||
                   (has_before &&
                    (d->was_node == NULL || d->was_service == NULL))
               ? NULL
               : &d->instance;
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
        decoded = change->u.node = unpack(d, &mr__node__descriptor, object);
        break;
    case MR_KV_OBJECT_CHECK:
        decoded = change->u.check = unpack(d, &mr__check__descriptor, object);
        break;
    case MR_KV_OBJECT_NAME:
        decoded = change->u.name = decode_name(d, object);
        break;
    case MR_KV_OBJECT_INSTANCE:
        decoded = change->u.instance =
            decode_instance(d, object, head->has_before);
        change->was_node = d->was_node;
        change->was_service = d->was_service;
        break;
    }
    return decoded == NULL || change->was_status == NULL ? MR_E_NOMEM : MR_OK;
}
