/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacing the state by a snapshot.
 *
 *  - The rows go into a file of their own, restore.mdb, in small transactions:
 *    neither the old state nor a huge transaction is held in memory. They come
 *    in key order and are appended, so pages are full.
 *  - Row count, counters and digest must match; then the derived tables are
 *    rebuilt.
 *  - The file is renamed to state.mdb and becomes the environment of new views.
 *    Views that are open keep reading the old file, which has no name any more
 *    and is closed when the last of them ends.
 *
 * Until the rename nothing has happened: any failure leaves the state as it was.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "kv/catalog.h"
#include "kv/keys.h"
#include "kv/leases.h"
#include "kv/snapshot.h"

#define PIECE ((size_t)64 << 10)
/* Larger than any row that a command can make. */
#define ROW_MAX ((uint64_t)64 << 20)
#define HEADER_MAX 4096
#define CHUNK_ROWS 4096
#define CHUNK_BYTES ((size_t)4 << 20)
#define TOLD_AT_ONCE 512 /* Leases to the hook. */

struct restore {
    mr_kv_read_cb read;
    void *arg;
    struct mr_buf in; /* Bytes read and not used yet, from in_at on. */
    size_t in_at;
    bool is_end;
    struct kv_env *env;
    struct kv_tx tx;
    struct kv_meta meta;
    struct kv_local local;
    struct kv_row_key last; /* Key of the row before. */
    uint64_t rows;
    uint64_t rows_promised;
    uint64_t counts[256]; /* Rows by table. */
    uint64_t last_lease;  /* The greatest ID of a lease. */
};

/* ------------------------------------------------------------ bytes */

/* Have at least @len unused bytes in r->in, or as many as there are. Memory
 * grows with what arrives, not with what a length claims. */
static enum mr_err fill(struct restore *r, size_t len)
{
    while (r->in.len - r->in_at < len && !r->is_end) {
        size_t n = 0;
        enum mr_err err;
        uint8_t *at;

        if (r->in_at > PIECE && r->in_at > r->in.len / 2) {
            memmove(r->in.data, r->in.data + r->in_at, r->in.len - r->in_at);
            r->in.len -= r->in_at;
            r->in_at = 0;
        }
        at = mr_buf_grow(&r->in, PIECE);
        if (at == NULL) {
            return MR_E_NOMEM;
        }
        err = r->read(r->arg, at, PIECE, &n);
        if (err != MR_OK) {
            return err;
        }
        r->in.len -= PIECE - n;
        r->is_end = n == 0;
    }
    return MR_OK;
}

/* Take @len bytes; the slice is valid until the next call. */
static enum mr_err take(struct restore *r, size_t len, struct mr_slice *out)
{
    enum mr_err err = fill(r, len);

    if (err != MR_OK) {
        return err;
    }
    if (r->in.len - r->in_at < len) {
        return MR_E_CORRUPT;
    }
    *out = mr_slice(r->in.data + r->in_at, len);
    r->in_at += len;
    return MR_OK;
}

static enum mr_err take_varint(struct restore *r, uint64_t max, uint64_t *out_n)
{
    struct mr_slice s;
    size_t before;
    enum mr_err err = fill(r, 10);

    if (err != MR_OK) {
        return err;
    }
    s = mr_slice(r->in.data + r->in_at, r->in.len - r->in_at);
    before = s.len;
    if (!kv_get_varint(&s, out_n) || *out_n > max) {
        return MR_E_CORRUPT;
    }
    r->in_at += before - s.len;
    return MR_OK;
}

/* Take the packed header; the slice is valid until the next call. */
static enum mr_err take_header_bytes(struct restore *r, struct mr_slice *out)
{
    struct kv_row_key hash = {.len = 0};
    struct mr_slice s;
    uint64_t len = 0;
    enum mr_err err = take(r, strlen(KV_SNAPSHOT_MAGIC), &s);

    if (err == MR_OK && !mr_slice_eq(s, mr_slice_str(KV_SNAPSHOT_MAGIC))) {
        err = MR_E_CORRUPT;
    }
    if (err == MR_OK) {
        err = take_varint(r, HEADER_MAX, &len);
    }
    if (err == MR_OK) {
        err = take(r, (size_t)len + sizeof(uint64_t), &s);
    }
    if (err != MR_OK) {
        return err;
    }
    *out = mr_slice(s.data, (size_t)len);
    kv_key_u64(&hash, mr_hash64(*out, 0));
    return memcmp(hash.bytes, (const uint8_t *)s.data + len, hash.len) == 0
               ? MR_OK
               : MR_E_CORRUPT;
}

static enum mr_err take_header(struct restore *r)
{
    Mr__SnapshotHeader *header;
    struct mr_slice s;
    enum mr_err err = take_header_bytes(r, &s);

    if (err != MR_OK) {
        return err;
    }
    header = mr__snapshot_header__unpack(NULL, s.len, s.data);
    if (header == NULL) {
        return MR_E_CORRUPT;
    }
    err = header->version > KV_SNAPSHOT_VERSION ? MR_E_VERSION : MR_OK;
    r->local = (struct kv_local){header->applied_index,
                                 header->applied_term,
                                 {header->digest_high, header->digest_low}};
    r->rows_promised = header->rows;
    mr__snapshot_header__free_unpacked(header, NULL);
    return err;
}

/* ------------------------------------------------------------ rows */

/* Whether a row's table is known and its form is that of the table; rows of
 * messages are decoded when the rest is derived. */
static bool is_well_formed(const struct kv_row *row)
{
    struct mr_slice value = row->value;
    struct kv_service_name_row name;
    struct kv_key_row key_row;
    struct kv_row_key k;
    uint64_t rev;

    switch (*(const uint8_t *)row->key.data) {
    case KV_META:
        return row->key.len == 1;
    case KV_KEY:
        if (!kv_key_unpack(row, &key_row) || key_row.key.len == 0 ||
            key_row.key.len > KV_KEY_MAX) {
            return false;
        }
        kv_key_locate(&k, key_row.key);
        return mr_slice_eq(kv_key_slice(&k), row->key);
    case KV_GRAVE:
        return kv_get_varint(&value, &rev);
    case KV_SERVICE_NAME:
        return kv_service_name_unpack(value, &name);
    case KV_LEASE:
        return row->key.len == 1 + sizeof(uint64_t);
    case KV_NODE:
    case KV_SERVICE:
    case KV_CHECK:
    case KV_SESSION:
    case KV_LEFT:
        return true;
    default:
        return false;
    }
}

static bool comes_after(const struct kv_row_key *last, struct mr_slice key)
{
    size_t common = last->len < key.len ? last->len : key.len;
    int order = memcmp(key.data, last->bytes, common);

    return order > 0 || (order == 0 && key.len > last->len);
}

static enum mr_err take_row(struct restore *r)
{
    uint64_t key_len;
    uint64_t value_len;
    struct mr_slice both;
    struct kv_row row;
    enum mr_err err = take_varint(r, KV_ROW_KEY_MAX, &key_len);

    if (err == MR_OK) {
        err = take_varint(r, ROW_MAX, &value_len);
    }
    if (err == MR_OK) {
        err = take(r, (size_t)(key_len + value_len), &both);
    }
    if (err != MR_OK) {
        return err;
    }
    row.key = mr_slice(both.data, (size_t)key_len);
    row.value =
        mr_slice((const uint8_t *)both.data + key_len, (size_t)value_len);
    if (key_len == 0 || !comes_after(&r->last, row.key) ||
        !is_well_formed(&row)) {
        return MR_E_CORRUPT;
    }
    kv_tx_append(&r->tx, row.key, row.value);
    r->last.len = row.key.len;
    memcpy(r->last.bytes, row.key.data, row.key.len);
    r->counts[r->last.bytes[0]]++;
    if (r->last.bytes[0] == KV_LEASE) {
        r->last_lease = kv_key_number(row.key);
    }
    r->rows++;
    return r->tx.err;
}

/* One transaction's worth of rows; *@out_done when they are all there. */
static enum mr_err take_chunk(struct restore *r, bool *out_done)
{
    struct mr_hash128 digest = r->tx.digest;
    enum mr_err err = kv_tx_begin_write(r->env, &r->tx);
    size_t bytes = 0;
    size_t n;

    if (err != MR_OK) {
        return err;
    }
    r->tx.digest = digest;
    for (n = 0; n < CHUNK_ROWS && bytes < CHUNK_BYTES; n++) {
        size_t before = r->in.len - r->in_at;

        if (r->rows == r->rows_promised) {
            *out_done = true;
            break;
        }
        err = take_row(r);
        if (err != MR_OK) {
            break;
        }
        bytes += before > r->in.len - r->in_at ? before - (r->in.len - r->in_at)
                                               : PIECE;
    }
    if (err != MR_OK) {
        kv_tx_abort(&r->tx);
        return err;
    }
    return kv_tx_commit(&r->tx);
}

/* ------------------------------------------------------------ checks */

/* Whether the rows are those that the header and the counters speak of. */
static enum mr_err check_rows(struct restore *r)
{
    const struct kv_meta *m = &r->meta;
    struct kv_tx tx;
    enum mr_err err = fill(r, 1);

    if (err == MR_OK && r->in.len - r->in_at > 0) {
        err = MR_E_CORRUPT; /* More than was promised. */
    }
    if (err == MR_OK) {
        err = kv_tx_begin_read(r->env, &tx);
    }
    if (err != MR_OK) {
        return err;
    }
    err = kv_meta_load(&tx, &r->meta);
    kv_tx_end_read(&tx);
    if (err != MR_OK) {
        return err;
    }
    if (r->counts[KV_KEY] != m->keys || r->counts[KV_GRAVE] != m->graves ||
        r->counts[KV_NODE] != m->nodes ||
        r->counts[KV_SERVICE] != m->instances ||
        r->counts[KV_CHECK] != m->checks ||
        r->counts[KV_SERVICE_NAME] != m->services ||
        r->counts[KV_LEASE] != m->leases ||
        r->counts[KV_SESSION] != m->sessions ||
        r->counts[KV_LEFT] != m->lefts || r->last_lease > m->last_lease ||
        r->tx.digest.high != r->local.digest.high ||
        r->tx.digest.low != r->local.digest.low) {
        return MR_E_CORRUPT;
    }
    return MR_OK;
}

static enum mr_err store_local(struct restore *r)
{
    struct kv_tx tx;
    enum mr_err err = kv_tx_begin_write(r->env, &tx);

    if (err != MR_OK) {
        return err;
    }
    kv_local_store(&tx, &r->local);
    return kv_tx_commit(&tx);
}

static enum mr_err load_all(struct restore *r)
{
    enum mr_err err = take_header(r);
    bool is_done = false;

    while (err == MR_OK && !is_done) {
        err = take_chunk(r, &is_done);
    }
    if (err == MR_OK) {
        err = check_rows(r);
    }
    if (err == MR_OK) {
        err = kv_rebuild_derived(r->env);
    }
    return err == MR_OK ? store_local(r) : err;
}

/* ------------------------------------------------------------ exchange */

/* What the hook is told of the lease in @row; it was decoded once already. */
static struct mr_kv_lease_change change_of(struct kv_arena *arena,
                                           const struct kv_row *row)
{
    struct mr_kv_lease_change change = {kv_key_number(row->key),
                                        kv_body_u64(row->value, KV_LEASE_TTL),
                                        true, 0};
    Mr__Lease *lease;

    kv_arena_reset(arena);
    if (kv_unpack_lease(arena, row, &lease) == MR_OK) {
        change.place = mr_kv_lease_place(lease); /* Else short of memory. */
    }
    return change;
}

/* Tell the hooks which leases there are now, as @tx reads them. */
static void tell_leases(struct mr_kv *kv, struct kv_tx *tx)
{
    static const uint8_t table = KV_LEASE;
    const struct mr_kv_hooks *hooks = &kv->hooks;
    struct mr_kv_lease_change changes[TOLD_AT_ONCE];
    struct kv_scan scan;
    struct kv_row row;
    size_t n = 0;

    if (hooks->leases_reset != NULL) {
        hooks->leases_reset(hooks->arg);
    }
    if (hooks->leases == NULL) {
        return;
    }
    kv_scan_open(&scan, tx, mr_slice(&table, 1));
    while (kv_scan_next(&scan, &row)) {
        changes[n++] = change_of(&kv->batch.scratch, &row);
        if (n == TOLD_AT_ONCE) {
            hooks->leases(hooks->arg, changes, n);
            n = 0;
        }
    }
    kv_scan_close(&scan);
    if (n > 0) {
        hooks->leases(hooks->arg, changes, n);
    }
}

/* Make r->env the state. Nothing can fail after the rename. */
static enum mr_err swap_in(struct mr_kv *kv, struct restore *r,
                           const char *from, const char *to)
{
    struct kv_touched all = {.all = true};
    struct kv_pool *old = atomic_load(&kv->pool);
    struct kv_pool *pool;
    struct kv_tx tx;
    enum mr_err err = kv_pool_new(r->env, &pool);

    if (err != MR_OK) {
        return err;
    }
    err = kv_tx_begin_read(r->env, &tx);
    if (err != MR_OK) {
        mr_free(pool);
        return err;
    }
    if (rename(from, to) != 0) {
        kv_tx_end_read(&tx);
        mr_free(pool);
        return errno == ENOSPC ? MR_E_NOSPACE : MR_E_IO;
    }
    if (kv->is_durable) {
        (void)kv_sync_dir(kv->dir); /* After a power cut the old one is back. */
    }
    r->env = NULL;
    kv_hub_announce(&kv->hub, &all, r->meta.revision);
    old->next = kv->old_pools;
    kv->old_pools = old;
    atomic_store(&kv->pool, pool);
    kv_pool_retire(old);
    kv_twins_fill(&kv->batch.twins, &tx);
    kv_history_forget(&kv->history, r->meta.revision);
    kv_publish(kv, &r->meta, &r->local, 0);
    kv_hub_publish(&kv->hub, r->meta.revision);
    tell_leases(kv, &tx);
    kv_tx_end_read(&tx);
    return MR_OK;
}

static enum mr_err run(struct mr_kv *kv, struct restore *r,
                       struct mr_detail *detail)
{
    char from[KV_PATH_LEN];
    char to[KV_PATH_LEN];
    enum mr_err err;

    kv_remove_file(kv->dir, KV_RESTORE_FILE);
    kv_remove_file(kv->dir, KV_RESTORE_FILE "-lock");
    if (!kv_path(from, kv->dir, KV_RESTORE_FILE) ||
        !kv_path(to, kv->dir, KV_STATE_FILE)) {
        return mr_fail(detail, MR_E_IO, "the path %s is too long", kv->dir);
    }
    err = kv_env_open(from, kv->map_size, kv->is_durable, &r->env, detail);
    if (err != MR_OK) {
        return err;
    }
    err = load_all(r);
    if (err == MR_OK) {
        err = swap_in(kv, r, from, to);
    }
    if (err != MR_OK) {
        kv_env_close(r->env);
        kv_remove_file(kv->dir, KV_RESTORE_FILE);
        return mr_fail(detail, err, "the snapshot cannot be restored: %s",
                       mr_strerror(err));
    }
    return MR_OK;
}

enum mr_err mr_kv_restore(struct mr_kv *kv, mr_kv_read_cb read, void *arg,
                          struct mr_detail *detail)
{
    struct restore *r = mr_calloc(1, sizeof *r);
    enum mr_err err;

    mr_assert(!kv->batch.is_open);
    if (r == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "no memory to restore a snapshot");
    }
    r->read = read;
    r->arg = arg;
    mr_buf_init(&r->in, 0);
    err = run(kv, r, detail);
    mr_buf_deinit(&r->in);
    mr_free(r);
    return err;
}
