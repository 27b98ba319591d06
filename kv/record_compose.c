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

static void pack(struct mr_buf *out, const ProtobufCMessage *message)
{
    uint8_t *at = mr_buf_grow(out, protobuf_c_message_get_packed_size(message));

    if (at != NULL) {
        (void)protobuf_c_message_pack(message, at); /* The length asked for. */
    }
}

/* As pack(), behind its length. */
static void pack_part(struct mr_buf *out, const ProtobufCMessage *message)
{
    uint32_t len = (uint32_t)protobuf_c_message_get_packed_size(message);

    mr_buf_add(out, &len, sizeof len);
    pack(out, message);
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

/* ------------------------------------------------------------ node, check */

void kv_compose_node(struct kv_recorder *r, enum kv_when when,
                     struct mr_slice key, struct mr_buf *out)
{
    Mr__Node *node;

    kv_arena_reset(&r->b->scratch);
    node = find_node(r, when, key);
    if (node != NULL) {
        pack(out, &node->base);
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
    pack(out, &check->base);
    return kv_arena_text(&r->b->arena, mr_slice_str(check->status));
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

const char *kv_compose_instance(struct kv_recorder *r, enum kv_when when,
                                struct mr_slice key, struct mr_buf *out)
{
    struct mr_slice parts[3];
    const Mr__Service *service;
    const Mr__Node *node;
    const char *worst;

    kv_arena_reset(&r->b->scratch);
    if (!kv_key_split(key, parts, 3)) {
        return "";
    }
    node = find_node_named(r, when, parts[1]);
    service = node == NULL ? NULL : find_service(r, when, key, node);
    if (service == NULL) {
        return "";
    }
    pack_part(out, &node->base);
    pack_part(out, &service->base);
    worst = compose_checks(r, when, node, NULL, "passing", out);
    return compose_checks(r, when, node, service, worst, out);
}

/* ------------------------------------------------------------ names */

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

static Mr__Service *decode_captured(struct kv_recorder *r, enum kv_when when,
                                    struct mr_slice key)
{
    static const Mr__Node no_node = MR__NODE__INIT; /* Its name is not shown. */

    return find_service(r, when, key, &no_node);
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
        b->before[i] = decode_captured(r, KV_BEFORE, rows[i].key);
        b->after[i] = decode_captured(r, KV_AFTER, rows[i].key);
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

/* The tags of a name that is there: those in the tree, once the tallies are. */
static void gather_present(struct kv_recorder *r, const struct balance *b,
                           Mr__Service *name)
{
    struct kv_arena *arena = &r->b->scratch;
    struct key_list tags = {NULL, 0, 0};

    kv_tallies_flush(&r->b->tallies, &r->b->tx);
    kv_tags_gather(&r->b->tx, arena, b->lower, &tags.keys, &tags.n);
    name->tags = kv_arena_alloc(arena, (tags.n + 1) * sizeof(char *));
    for (size_t i = 0; name->tags != NULL && i < tags.n; i++) {
        name->tags[name->n_tags++] = (char *)(uintptr_t)tags.keys[i].data;
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
    pack(out, &name.base);
    return b.n;
}
