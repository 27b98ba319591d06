/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the state as a stream of rows.
 *
 *   8 bytes   "mrstate1"
 *   varint    length of the header, and a packed SnapshotHeader
 *   8 bytes   hash of the packed header, big-endian
 *   rows      varint key length, varint value length, key, value; in key order,
 *             every row of the tables below KV_DERIVED but LOCAL
 *
 * The rows are counted and hashed on the way, so a state that does not match its
 * own digest is noticed here and not at the server that restores it.
 */
#include "kv/snapshot.h"

#include "kv/kv.h"

#define PIECE ((size_t)64 << 10)

struct writer {
    mr_kv_write_cb write;
    void *arg;
    struct mr_buf pending;
    struct mr_hash128 digest;
    uint64_t rows;
};

uint64_t kv_snapshot_rows(const struct kv_meta *meta)
{
    return 1 + meta->keys + meta->graves + meta->nodes + meta->services +
           meta->instances + meta->checks + meta->leases + meta->sessions +
           meta->lefts;
}

static enum mr_err flush(struct writer *w)
{
    enum mr_err err = MR_OK;

    if (mr_buf_failed(&w->pending)) {
        return MR_E_NOMEM;
    }
    if (w->pending.len > 0) {
        err = w->write(w->arg, mr_buf_slice(&w->pending));
    }
    mr_buf_reset(&w->pending);
    return err;
}

/* Append @bytes, handing on what fills a piece. */
static enum mr_err add(struct writer *w, struct mr_slice bytes)
{
    const uint8_t *at = bytes.data;

    while (bytes.len > 0) {
        size_t room = PIECE - w->pending.len;
        size_t n = bytes.len < room ? bytes.len : room;

        mr_buf_add(&w->pending, at, n);
        at += n;
        bytes.len -= n;
        if (w->pending.len == PIECE || mr_buf_failed(&w->pending)) {
            enum mr_err err = flush(w);

            if (err != MR_OK) {
                return err;
            }
        }
    }
    return MR_OK;
}

static enum mr_err add_row(struct writer *w, const struct kv_row *row)
{
    uint8_t bytes[20];
    struct mr_buf lengths = {bytes, 0, sizeof bytes, 0, false};
    enum mr_err err;

    kv_digest_add(&w->digest, kv_row_hash(row->key, row->value));
    w->rows++;
    kv_put_varint(&lengths, row->key.len); /* Both fit: nothing is allocated. */
    kv_put_varint(&lengths, row->value.len);
    err = add(w, mr_buf_slice(&lengths));
    if (err == MR_OK) {
        err = add(w, row->key);
    }
    return err == MR_OK ? add(w, row->value) : err;
}

static enum mr_err add_header(struct writer *w, struct mr_kv_view *view,
                              const struct kv_local *local)
{
    const struct kv_meta *meta = kv_view_meta(view);
    Mr__SnapshotHeader header = MR__SNAPSHOT_HEADER__INIT;
    size_t len;
    uint8_t *at;

    header.version = KV_SNAPSHOT_VERSION;
    header.revision = meta->revision;
    header.applied_index = local->applied_index;
    header.applied_term = local->applied_term;
    header.digest_high = local->digest.high;
    header.digest_low = local->digest.low;
    header.rows = kv_snapshot_rows(meta);
    mr_buf_str(&w->pending, KV_SNAPSHOT_MAGIC);
    len = mr__snapshot_header__get_packed_size(&header);
    kv_put_varint(&w->pending, len);
    at = mr_buf_grow(&w->pending, len);
    if (at == NULL) {
        return MR_E_NOMEM;
    }
    (void)mr__snapshot_header__pack(&header, at); /* Returns @len. */
    mr_buf_be64(&w->pending, mr_hash64(mr_slice(at, len), 0));
    return MR_OK;
}

static enum mr_err add_rows(struct writer *w, struct mr_kv_view *view)
{
    static const uint8_t first = KV_META;
    struct kv_scan scan;
    struct kv_row row;
    enum mr_err err = MR_OK;

    kv_scan_open_from(&scan, kv_view_tx(view), mr_slice(&first, 1));
    while (err == MR_OK && kv_scan_next(&scan, &row) &&
           *(const uint8_t *)row.key.data < KV_DERIVED) {
        err = add_row(w, &row);
    }
    kv_scan_close(&scan);
    return err == MR_OK ? kv_view_error(view) : err;
}

enum mr_err mr_kv_snapshot(struct mr_kv_view *view, mr_kv_write_cb write,
                           void *arg)
{
    struct writer w = {.write = write, .arg = arg};
    struct kv_local local;
    enum mr_err err = kv_local_load(kv_view_tx(view), &local);

    mr_buf_init(&w.pending, 0);
    if (err == MR_OK) {
        err = add_header(&w, view, &local);
    }
    if (err == MR_OK) {
        err = add_rows(&w, view);
    }
    if (err == MR_OK) {
        err = flush(&w);
    }
    if (err == MR_OK && (w.rows != kv_snapshot_rows(kv_view_meta(view)) ||
                         w.digest.high != local.digest.high ||
                         w.digest.low != local.digest.low)) {
        err = MR_E_CORRUPT;
    }
    mr_buf_deinit(&w.pending);
    return err;
}
