/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of keys as bytes, and walks over them in the order of the keys. */
#include <stdlib.h>

#include "kv/keys.h"

static bool is_long(struct mr_slice row_key)
{
    return row_key.len == KV_ROW_KEY_MAX;
}

void kv_key_locate(struct kv_row_key *k, struct mr_slice key)
{
    kv_key_init(k, KV_KEY);
    if (key.len <= KV_KEY_CUT) {
        kv_key_add(k, key);
    } else {
        struct mr_hash128 h = mr_hash128(key, 0);

        kv_key_add(k, mr_slice(key.data, KV_KEY_CUT));
        kv_key_u64(k, h.high);
        kv_key_u64(k, h.low);
    }
}

static void put_bytes(struct mr_buf *b, struct mr_slice s)
{
    kv_put_varint(b, s.len);
    mr_buf_add(b, s.data, s.len);
}

static bool get_bytes(struct mr_slice *from, struct mr_slice *out)
{
    uint64_t len;

    if (!kv_get_varint(from, &len) || len > from->len) {
        return false;
    }
    *out = mr_slice(from->data, (size_t)len);
    *from =
        mr_slice((const uint8_t *)from->data + len, from->len - (size_t)len);
    return true;
}

void kv_key_pack(struct mr_buf *b, const struct kv_key_row *r)
{
    uint8_t head[5 * KV_VARINT_MAX];
    uint8_t *at = kv_write_revs(head, r->revs);

    at = kv_write_varint(at, r->flags);
    at = kv_write_varint(at, r->lock_index);
    at = kv_write_varint(at, r->session.len);
    mr_buf_add(b, head, (size_t)(at - head));
    mr_buf_add(b, r->session.data, r->session.len);
    if (r->session.len > 0) {
        kv_put_varint(b, r->fence);
    }
    if (r->key.len > KV_KEY_CUT) {
        put_bytes(b, r->key);
    }
    mr_buf_add(b, r->value.data, r->value.len);
}

bool kv_key_unpack(const struct kv_row *row, struct kv_key_row *out)
{
    struct mr_slice rest = row->value;
    struct kv_key_row r;

    if (row->key.len < 1 || !kv_get_revs(&rest, &r.revs) ||
        !kv_get_varint(&rest, &r.flags) ||
        !kv_get_varint(&rest, &r.lock_index) || !get_bytes(&rest, &r.session)) {
        return false;
    }
    r.fence = 0;
    if (r.session.len > 0 && !kv_get_varint(&rest, &r.fence)) {
        return false;
    }
    r.key = mr_slice((const uint8_t *)row->key.data + 1, row->key.len - 1);
    if (is_long(row->key) && !get_bytes(&rest, &r.key)) {
        return false;
    }
    r.value = rest;
    *out = r;
    return true;
}

bool kv_key_find(struct kv_tx *tx, struct mr_slice key, struct kv_key_row *out)
{
    struct kv_row_key k;
    struct kv_row row;

    kv_key_locate(&k, key);
    row.key = kv_key_slice(&k);
    if (!kv_tx_get(tx, row.key, &row.value)) {
        return false;
    }
    if (!kv_key_unpack(&row, out)) {
        kv_tx_fail(tx, MR_E_CORRUPT);
        return false;
    }
    if (!is_long(row.key)) {
        out->key = key; /* Rather than bytes of this function's k. */
        return true;
    }
    return mr_slice_eq(out->key, key);
}

/* ------------------------------------------------------------ walks */

void kv_key_scan_open(struct kv_key_scan *s, struct kv_tx *tx,
                      struct kv_arena *arena, struct mr_slice prefix)
{
    struct mr_slice start = prefix;

    if (start.len > KV_KEY_CUT) {
        start.len = KV_KEY_CUT;
    }
    s->arena = arena;
    s->prefix = prefix;
    s->bucket = NULL;
    s->bucket_at = 0;
    s->bucket_n = 0;
    s->has_ahead = false;
    kv_key_init(&s->from, KV_KEY);
    kv_key_add(&s->from, start);
    kv_scan_open(&s->scan, tx, kv_key_slice(&s->from));
}

static int compare_keys(const void *a, const void *b)
{
    const struct mr_slice *x = &((const struct kv_key_row *)a)->key;
    const struct mr_slice *y = &((const struct kv_key_row *)b)->key;
    size_t common = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->data, y->data, common);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static bool bucket_add(struct kv_key_scan *s, size_t *cap,
                       const struct kv_row *row)
{
    if (s->bucket_n == *cap) {
        size_t n = *cap == 0 ? 8 : *cap * 2;
        struct kv_key_row *more = kv_arena_alloc(s->arena, n * sizeof *more);

        if (more == NULL) {
            kv_tx_fail(s->scan.tx, MR_E_NOMEM);
            return false;
        }
        if (s->bucket_n > 0) {
            memcpy(more, s->bucket, s->bucket_n * sizeof *more);
        }
        s->bucket = more;
        *cap = n;
    }
    if (!kv_key_unpack(row, &s->bucket[s->bucket_n])) {
        kv_tx_fail(s->scan.tx, MR_E_CORRUPT);
        return false;
    }
    s->bucket_n++;
    return true;
}

/* Gather and sort the bucket that begins with @row, and look one row ahead. */
static void read_bucket(struct kv_key_scan *s, const struct kv_row *row)
{
    struct mr_slice head = mr_slice(row->key.data, 1 + KV_KEY_CUT);
    struct kv_row at = *row;
    size_t cap = 0;

    s->bucket = NULL;
    s->bucket_at = 0;
    s->bucket_n = 0;
    for (;;) {
        if (!bucket_add(s, &cap, &at)) {
            return;
        }
        s->has_ahead = kv_scan_next(&s->scan, &s->ahead);
        if (!s->has_ahead || !is_long(s->ahead.key) ||
            !mr_slice_has_prefix(s->ahead.key, head)) {
            break;
        }
        at = s->ahead;
    }
    qsort(s->bucket, s->bucket_n, sizeof *s->bucket, compare_keys);
}

/* The next key, whether or not it has the whole prefix. */
static bool next_any(struct kv_key_scan *s, struct kv_key_row *out)
{
    struct kv_row row;

    if (s->bucket_at == s->bucket_n) {
        if (s->has_ahead) {
            row = s->ahead;
            s->has_ahead = false;
        } else if (!kv_scan_next(&s->scan, &row)) {
            return false;
        }
        if (!is_long(row.key)) {
            if (!kv_key_unpack(&row, out)) {
                kv_tx_fail(s->scan.tx, MR_E_CORRUPT);
                return false;
            }
            return true;
        }
        read_bucket(s, &row);
    }
    if (s->scan.tx->err != MR_OK) {
        return false;
    }
    mr_assert(s->bucket != NULL); /* read_bucket() failed else. */
    *out = s->bucket[s->bucket_at++];
    return true;
}

bool kv_key_scan_next(struct kv_key_scan *s, struct kv_key_row *out)
{
    while (next_any(s, out)) {
        if (mr_slice_has_prefix(out->key, s->prefix)) {
            return true;
        }
    }
    return false;
}

void kv_key_scan_skip(struct kv_key_scan *s, struct mr_slice subtree)
{
    struct kv_row_key *to = &s->skip_to;
    size_t len = subtree.len;

    if (len > KV_KEY_CUT) {
        return; /* Inside one bucket, which is in memory already. */
    }
    kv_key_init(to, KV_KEY);
    kv_key_add(to, subtree);
    /* The first key behind the subtree; the table byte is never 0xff. */
    while (to->bytes[len] == 0xff) {
        len--;
    }
    to->bytes[len]++;
    to->len = len + 1;
    s->bucket_at = s->bucket_n;
    s->has_ahead = false;
    kv_scan_seek(&s->scan, kv_key_slice(to));
}

void kv_key_scan_close(struct kv_key_scan *s)
{
    kv_scan_close(&s->scan);
}

uint64_t kv_grave_max(struct kv_tx *tx, struct mr_slice prefix)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;
    uint64_t max = 0;

    if (prefix.len > KV_GRAVE_CUT) {
        prefix.len = KV_GRAVE_CUT;
    }
    kv_key_init(&k, KV_GRAVE);
    kv_key_add(&k, prefix);
    kv_scan_open(&scan, tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        uint64_t rev;

        if (!kv_get_varint(&row.value, &rev)) {
            kv_tx_fail(tx, MR_E_CORRUPT);
            break;
        }
        max = rev > max ? rev : max;
    }
    kv_scan_close(&scan);
    return max;
}

uint64_t kv_grave_above(struct kv_tx *tx, struct mr_slice prefix)
{
    struct kv_row_key k;
    struct mr_slice value;
    uint64_t max = 0;
    size_t len;

    for (len = 0; len < prefix.len && len <= KV_GRAVE_CUT; len++) {
        uint64_t rev;

        kv_key_init(&k, KV_GRAVE);
        kv_key_add(&k, mr_slice(prefix.data, len));
        if (!kv_tx_get(tx, kv_key_slice(&k), &value)) {
            continue;
        }
        if (!kv_get_varint(&value, &rev)) {
            kv_tx_fail(tx, MR_E_CORRUPT);
            break;
        }
        max = rev > max ? rev : max;
    }
    return max;
}
