/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as they were before a command and as they are after it. Nothing is
 * written meanwhile, so rows stay where they lie in the tree. */
#include "kv/record_rows.h"

#include <stdlib.h>

#define BIT(member) (UINT64_C(1) << (member))

/* What answers show of each kind of row, besides what is said below: api/shapes.c
 * writes these members and no others. */
#define SHOWN_OF_NODE                                                          \
    (~(BIT(KV_NODE_TTL) | BIT(KV_NODE_REAP) | BIT(KV_NODE_LEASE)))
#define SHOWN_OF_SERVICE                                                       \
    (~(BIT(KV_SERVICE_ORIGIN) | BIT(KV_SERVICE_TTL) | BIT(KV_SERVICE_DIGEST) | \
       BIT(KV_SERVICE_INCARNATION) | BIT(KV_SERVICE_LEASE)))
#define SHOWN_OF_CHECK                                                         \
    (~(BIT(KV_CHECK_ORIGIN) | BIT(KV_CHECK_DEFINITION) | BIT(KV_CHECK_LEASE)))
#define SHOWN_OF_DEFINITION                                                    \
    (BIT(KV_DEFINITION_HTTP) | BIT(KV_DEFINITION_METHOD) |                     \
     BIT(KV_DEFINITION_HEADER) | BIT(KV_DEFINITION_BODY) |                     \
     BIT(KV_DEFINITION_TLS_SKIP_VERIFY) | BIT(KV_DEFINITION_TCP) |             \
     BIT(KV_DEFINITION_INTERVAL) | BIT(KV_DEFINITION_TIMEOUT) |                \
     BIT(KV_DEFINITION_DEREGISTER_AFTER))

/* ------------------------------------------------------------ comparing */

/* Whether @body is of what the native registry lists. */
static bool is_native(struct mr_slice body)
{
    return kv_body_u64(body, KV_SERVICE_ORIGIN) == MR__ORIGIN__REGISTRY;
}

/* A check's definition as far as it is shown: an agent keeps its own. */
static struct mr_slice definition(struct mr_slice body)
{
    return kv_body_u64(body, KV_CHECK_ORIGIN) == MR__ORIGIN__CATALOG
               ? kv_body_bytes(body, KV_CHECK_DEFINITION)
               : mr_slice(NULL, 0);
}

/* Whether the bodies @was and @is of a row of @table show something else. */
static bool bodies_differ(uint8_t table, struct mr_slice was,
                          struct mr_slice is)
{
    if (mr_slice_eq(was, is)) {
        return false;
    }
    switch (table) {
    case KV_NODE:
        return kv_body_differs(was, is, SHOWN_OF_NODE);
    case KV_SERVICE:
        return is_native(was) != is_native(is) ||
               kv_body_differs(was, is, SHOWN_OF_SERVICE);
    default:
        return kv_body_differs(was, is, SHOWN_OF_CHECK) ||
               kv_body_differs(definition(was), definition(is),
                               SHOWN_OF_DEFINITION);
    }
}

static bool shows_other(const struct kv_captured *c)
{
    struct mr_slice was = c->was;
    struct mr_slice is = c->is;
    struct kv_revs old;
    struct kv_revs new;

    if (was.data == NULL || is.data == NULL) {
        return was.data != is.data;
    }
    if (!kv_get_revs(&was, &old) || !kv_get_revs(&is, &new) ||
        old.create != new.create) {
        return true;
    }
    return old.modify !=
           new.modify && /* Else it is only its lease. */
               bodies_differ(*(const uint8_t *)c->key.data, was, is);
}

void kv_rows_compare(struct kv_recorder *r)
{
    static const uint8_t first = KV_NODE;
    size_t at = kv_capture_seek(r->capture, mr_slice(&first, 1));

    for (; at < r->capture->n; at++) {
        struct kv_captured *c = &r->capture->rows[at];

        if (!kv_tx_get_last(&r->b->tx, c->key, &c->is)) {
            c->is = mr_slice(NULL, 0);
        }
        c->is_changed =
            *(const uint8_t *)c->key.data != KV_NODE_SERVICE && shows_other(c);
    }
}

/* ------------------------------------------------------------ looking */

static struct kv_change captured(const struct kv_captured *c)
{
    return (struct kv_change){{{c->key, c->was}, {c->key, c->is}},
                              c->is_changed};
}

static struct kv_change stored(struct kv_row row)
{
    return (struct kv_change){{row, row}, false};
}

struct kv_change kv_row_change(struct kv_recorder *r, struct mr_slice key)
{
    const struct kv_captured *c = kv_capture_find(r->capture, key);
    struct kv_row row = {key, {NULL, 0}};

    if (c != NULL) {
        return captured(c);
    }
    if (!kv_tx_get(&r->b->tx, key, &row.value)) {
        row.value = mr_slice(NULL, 0);
    }
    return stored(row);
}

static void push(struct kv_recorder *r, struct kv_changes *out,
                 struct kv_change change)
{
    if (out->n == out->cap) {
        size_t cap = out->cap == 0 ? 8 : out->cap * 2;
        struct kv_change *list =
            kv_arena_alloc(&r->b->scratch, cap * sizeof *list);

        if (list == NULL) {
            return;
        }
        if (out->n > 0) {
            memcpy(list, out->list, out->n * sizeof *list);
        }
        out->list = list;
        out->cap = cap;
    }
    out->list[out->n++] = change;
}

void kv_row_changes(struct kv_recorder *r, struct mr_slice prefix,
                    struct kv_changes *out)
{
    const struct kv_captured *c =
        r->capture->rows + kv_capture_seek(r->capture, prefix);
    const struct kv_captured *end = r->capture->rows + r->capture->n;
    struct kv_scan scan;
    struct kv_row row;

    kv_scan_open(&scan, &r->b->tx, prefix);
    while (kv_scan_next(&scan, &row)) {
        int order = 1;

        /* What was captured before it is gone. */
        for (; c < end && (order = kv_key_compare(c->key, row.key)) < 0; c++) {
            push(r, out, captured(c));
        }
        push(r, out, c < end && order == 0 ? captured(c++) : stored(row));
    }
    kv_scan_close(&scan);
    for (; c < end && mr_slice_has_prefix(c->key, prefix); c++) {
        push(r, out, captured(c));
    }
}

static struct mr_slice body_of(const struct kv_row *row)
{
    struct mr_slice body = row->value;
    struct kv_revs revs;

    return kv_get_revs(&body, &revs) ? body : mr_slice(NULL, 0);
}

bool kv_row_differs(const struct kv_change *c, uint64_t members)
{
    return c->is_changed && kv_body_differs(body_of(&c->at[KV_WAS]),
                                            body_of(&c->at[KV_IS]), members);
}

struct mr_slice kv_row_status(const struct kv_row *row)
{
    return kv_body_bytes(body_of(row), KV_CHECK_STATUS);
}

/* ------------------------------------------------------------ events */

static uint8_t *put(uint8_t *at, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(at, data, len);
    }
    return at + len;
}

static size_t row_size(const struct kv_row *row)
{
    return sizeof(struct kv_event_row_head) + row->key.len + row->value.len;
}

static void put_row(uint8_t *at, const struct kv_row *row)
{
    struct kv_event_row_head head = {(uint32_t)row->value.len,
                                     (uint32_t)row->key.len};

    at = put(at, &head, sizeof head);
    at = put(at, row->key.data, row->key.len);
    (void)put(at, row->value.data, row->value.len); /* The end. */
}

void kv_event_row(struct mr_buf *out, const struct kv_row *row)
{
    uint8_t *at = mr_buf_grow(out, row_size(row));

    if (at != NULL) {
        put_row(at, row);
    }
}

void kv_event_add(struct mr_buf *out, struct kv_event_head head,
                  const struct kv_row *row)
{
    uint8_t *at = mr_buf_grow(out, sizeof head + row_size(row));

    if (at != NULL) {
        head.len = (uint32_t)row_size(row);
        put_row(put(at, &head, sizeof head), row);
    }
}

size_t kv_event_begin(struct mr_buf *out, struct kv_event_head head,
                      struct mr_slice was)
{
    size_t start = out->len;
    uint8_t *at;

    head.was_len = was.len > UINT8_MAX ? UINT8_MAX : (uint8_t)was.len;
    at = mr_buf_grow(out, sizeof head + head.was_len);
    if (at != NULL) {
        at = put(at, &head, sizeof head);
        (void)put(at, was.data, head.was_len); /* The end. */
    }
    return start;
}

void kv_event_end(struct mr_buf *out, size_t at)
{
    uint32_t len;

    if (!mr_buf_failed(out)) {
        len = (uint32_t)(out->len - at - sizeof(struct kv_event_head));
        memcpy(out->data + at + offsetof(struct kv_event_head, len), &len,
               sizeof len);
    }
}

struct mr_buf *kv_event_out(struct kv_recorder *r, enum mr_kv_action action)
{
    return action == MR_KV_ACTION_DELETE ? &r->gone : r->others;
}

/* ------------------------------------------------------------ keys */

static int by_key(const void *a, const void *b)
{
    return kv_key_compare(*(const struct mr_slice *)a,
                          *(const struct mr_slice *)b);
}

size_t kv_keys_unique(struct mr_slice *keys, size_t n)
{
    size_t kept = 0;

    if (n == 0) {
        return 0;
    }
    qsort(keys, n, sizeof *keys, by_key);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || !mr_slice_eq(keys[kept - 1], keys[i])) {
            keys[kept++] = keys[i];
        }
    }
    return kept;
}
