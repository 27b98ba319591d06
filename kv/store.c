/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB. The state's file is written without sync: the raft log is what makes a
 * write durable, and a file that was not closed in order is only trusted while
 * the kernel that holds its pages still runs (kv.c). A store that stands alone
 * is written with sync.
 */
#include "kv/store.h"

#include <errno.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "kv/capture.h"

#define MAP_SIZE_DEFAULT ((uint64_t)16 << 30) /* Address space only. */
#define READERS_MAX 4096
#define DB 1 /* The main database, which LMDB always opens as number 1. */

struct kv_env {
    MDB_env *mdb;
    MDB_cursor *points[KV_POINTS]; /* Of the one writer. */
};

/* Map an LMDB or system error code to ours. shape: table */
static enum mr_err map_error(int code)
{
    switch (code) {
    case MDB_SUCCESS:
        return MR_OK;
    case MDB_NOTFOUND:
        return MR_E_NOTFOUND;
    case MDB_KEYEXIST:
        return MR_E_EXISTS;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return MR_E_NOSPACE;
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_DBI:
        return MR_E_CORRUPT;
    case MDB_READERS_FULL:
    case MDB_MAP_RESIZED:
        return MR_E_BUSY;
    case ENOMEM:
        return MR_E_NOMEM;
    default:
        return MR_E_IO;
    }
}

static MDB_val to_val(struct mr_slice s)
{
    return (MDB_val){s.len, (void *)(uintptr_t)s.data};
}

static struct mr_slice to_slice(MDB_val v)
{
    return mr_slice(v.mv_data, v.mv_size);
}

/* ------------------------------------------------------------ environment */

/* The length that the file has when every page was written. */
static off_t full_length(struct kv_env *env)
{
    MDB_envinfo info;
    MDB_stat s;

    (void)mdb_env_info(env->mdb, &info); /* Fails without an env only. */
    (void)mdb_env_stat(env->mdb, &s);
    return (off_t)((info.me_last_pgno + 1) * s.ms_psize);
}

/* Its file, and how long that is; -1 when nobody knows. */
static off_t current_length(struct kv_env *env, int *out_fd)
{
    struct stat st;

    if (mdb_env_get_fd(env->mdb, out_fd) != 0 || fstat(*out_fd, &st) != 0) {
        return -1;
    }
    return st.st_size;
}

bool kv_env_is_cut(struct kv_env *env)
{
    int fd;

    return current_length(env, &fd) < full_length(env);
}

enum mr_err kv_env_open(const char *path, uint64_t map_size, bool is_durable,
                        struct kv_env **out_env, struct mr_detail *detail)
{
    const unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD |
                           (is_durable ? 0 : MDB_NOSYNC | MDB_NOMETASYNC);
    struct kv_env *env = mr_calloc(1, sizeof *env);
    int rv;

    if (env == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "no memory to open %s", path);
    }
    rv = mdb_env_create(&env->mdb);
    if (rv == 0) {
        rv = mdb_env_set_mapsize(
            env->mdb, (size_t)(map_size == 0 ? MAP_SIZE_DEFAULT : map_size));
    }
    if (rv == 0) {
        rv = mdb_env_set_maxreaders(env->mdb, READERS_MAX);
    }
    if (rv == 0) {
        rv = mdb_env_open(env->mdb, path, flags, 0600);
    }
    if (rv != 0) {
        kv_env_close(env);
        return mr_fail(detail, map_error(rv), "cannot open %s: %s", path,
                       mdb_strerror(rv));
    }
    *out_env = env;
    return MR_OK;
}

void kv_env_close(struct kv_env *env)
{
    if (env == NULL) {
        return;
    }
    if (env->mdb != NULL) {
        mdb_env_close(env->mdb);
    }
    mr_free(env);
}

enum mr_err kv_env_sync(struct kv_env *env)
{
    off_t want = full_length(env);
    int fd;

    if (current_length(env, &fd) < want && ftruncate(fd, want) != 0) {
        return map_error(errno);
    }
    return map_error(mdb_env_sync(env->mdb, 1));
}

uint64_t kv_env_bytes_used(struct kv_env *env)
{
    MDB_stat s;

    (void)mdb_env_stat(env->mdb, &s); /* Fails without an env only. */
    return (s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages) *
           s.ms_psize;
}

/* ------------------------------------------------------------ transactions */

static enum mr_err begin(struct kv_env *env, struct kv_tx *tx, unsigned flags)
{
    MDB_txn *txn = NULL;
    MDB_dbi db;
    int rv = mdb_txn_begin(env->mdb, NULL, flags, &txn);

    if (rv != 0) {
        return map_error(rv);
    }
    *tx = (struct kv_tx){.txn = txn, .writable = flags == 0};
    rv = mdb_dbi_open(txn, NULL, 0, &db);
    if (rv != 0) {
        kv_tx_abort(tx);
        return map_error(rv);
    }
    mr_assert(db == DB);
    return MR_OK;
}

enum mr_err kv_tx_begin_write(struct kv_env *env, struct kv_tx *tx)
{
    enum mr_err err = begin(env, tx, 0);

    if (err == MR_OK) {
        tx->points = env->points;
    }
    return err;
}

enum mr_err kv_tx_begin_read(struct kv_env *env, struct kv_tx *tx)
{
    return begin(env, tx, MDB_RDONLY);
}

static void close_cursors(struct kv_tx *tx)
{
    unsigned i;

    mr_assert(tx->cursors_used == 0);
    for (i = 0; i < KV_SCANS_MAX; i++) {
        if (tx->cursors[i] != NULL) {
            mdb_cursor_close(tx->cursors[i]);
            tx->cursors[i] = NULL;
        }
    }
    tx->cursors_ready = 0;
    for (i = 0; tx->points != NULL && i < KV_POINTS; i++) {
        if (tx->points[i] != NULL) {
            mdb_cursor_close(tx->points[i]);
            tx->points[i] = NULL;
        }
    }
}

enum mr_err kv_tx_commit(struct kv_tx *tx)
{
    enum mr_err err = tx->err;

    if (err != MR_OK) {
        kv_tx_abort(tx);
        return err;
    }
    close_cursors(tx);
    err = map_error(mdb_txn_commit(tx->txn));
    tx->txn = NULL;
    return err;
}

void kv_tx_abort(struct kv_tx *tx)
{
    if (tx->txn != NULL) {
        close_cursors(tx);
        mdb_txn_abort(tx->txn);
        tx->txn = NULL;
    }
}

void kv_tx_park(struct kv_tx *tx)
{
    mr_assert(tx->cursors_used == 0);
    tx->cursors_ready = 0;
    mdb_txn_reset(tx->txn);
}

enum mr_err kv_tx_unpark(struct kv_tx *tx)
{
    tx->err = MR_OK;
    return map_error(mdb_txn_renew(tx->txn));
}

void kv_tx_end_read(struct kv_tx *tx)
{
    kv_tx_abort(tx);
}

uint64_t kv_tx_id(struct kv_tx *tx)
{
    return mdb_txn_id(tx->txn);
}

void kv_tx_fail(struct kv_tx *tx, enum mr_err err)
{
    if (tx->err == MR_OK) {
        tx->err = err;
    }
}

/* ------------------------------------------------------------ rows */

static bool in_digest(struct mr_slice key)
{
    uint8_t table = *(const uint8_t *)key.data;

    return table != KV_LOCAL && table < KV_DERIVED;
}

struct mr_hash128 kv_row_hash(struct mr_slice key, struct mr_slice value)
{
    if (!in_digest(key)) {
        return (struct mr_hash128){0, 0};
    }
    return mr_hash128(value, mr_hash64(key, 0));
}

void kv_digest_add(struct mr_hash128 *digest, struct mr_hash128 h)
{
    digest->low += h.low;
    digest->high += h.high + (digest->low < h.low ? 1 : 0);
}

void kv_digest_sub(struct mr_hash128 *digest, struct mr_hash128 h)
{
    digest->high -= h.high + (digest->low < h.low ? 1 : 0);
    digest->low -= h.low;
}

/* The writer's cursor for the table of @key; NULL when it cannot be had. */
static MDB_cursor *point_at(struct kv_tx *tx, struct mr_slice key)
{
    MDB_cursor **at = &tx->points[*(const uint8_t *)key.data % KV_POINTS];
    int rv;

    if (*at == NULL) {
        rv = mdb_cursor_open(tx->txn, DB, at);
        if (rv != 0) {
            kv_tx_fail(tx, map_error(rv));
            *at = NULL;
        }
    }
    return *at;
}

/* Whether @cursor stands on the row of @key, which has *@out_value. */
static bool stands_on(MDB_cursor *cursor, struct mr_slice key,
                      MDB_val *out_value)
{
    MDB_val k;

    return mdb_cursor_get(cursor, &k, out_value, MDB_GET_CURRENT) == 0 &&
           mr_slice_eq(to_slice(k), key);
}

bool kv_tx_get(struct kv_tx *tx, struct mr_slice key,
               struct mr_slice *out_value)
{
    MDB_cursor *point = NULL;
    MDB_val k = to_val(key);
    MDB_val v;
    int rv;

    if (tx->err == MR_OK && key.len > 0 && tx->writable) {
        point = point_at(tx, key);
    }
    if (tx->err != MR_OK || key.len == 0) {
        return false;
    }
    rv = point == NULL ? mdb_get(tx->txn, DB, &k, &v)
                       : mdb_cursor_get(point, &k, &v, MDB_SET);
    if (rv == 0) {
        *out_value = to_slice(v);
        return true;
    }
    if (rv != MDB_NOTFOUND) {
        kv_tx_fail(tx, map_error(rv));
    }
    return false;
}

bool kv_tx_get_last(struct kv_tx *tx, struct mr_slice key,
                    struct mr_slice *out_value)
{
    MDB_cursor *point = tx->points[*(const uint8_t *)key.data % KV_POINTS];
    MDB_val v;

    if (tx->err == MR_OK && point != NULL && stands_on(point, key, &v)) {
        *out_value = to_slice(v);
        return true;
    }
    return kv_tx_get(tx, key, out_value);
}

bool kv_tx_is_near(struct kv_tx *tx, struct mr_slice prefix)
{
    MDB_cursor *point = tx->points[*(const uint8_t *)prefix.data % KV_POINTS];
    MDB_val k;
    MDB_val v;

    return point != NULL &&
           mdb_cursor_get(point, &k, &v, MDB_GET_CURRENT) == 0 &&
           mr_slice_has_prefix(to_slice(k), prefix);
}

/* Count a row that was written in the digest, or keep why it was not. */
static void note_put(struct kv_tx *tx, struct mr_slice key,
                     struct mr_slice value, int rv)
{
    if (rv != 0) {
        kv_tx_fail(tx, map_error(rv));
    } else if (in_digest(key)) {
        kv_digest_add(&tx->digest, kv_row_hash(key, value));
    }
}

/* Whether @tx can write under @key. */
static bool can_put(struct kv_tx *tx, struct mr_slice key)
{
    mr_assert(tx->writable && tx->cursors_used == 0);
    if (key.len == 0) {
        kv_tx_fail(tx, MR_E_CORRUPT); /* Names too long: a false snapshot's. */
    }
    return tx->err == MR_OK;
}

static void put(struct kv_tx *tx, struct mr_slice key, struct mr_slice value)
{
    MDB_val k = to_val(key);
    MDB_val v = to_val(value);
    MDB_cursor *point = can_put(tx, key) ? point_at(tx, key) : NULL;
    MDB_val old;

    if (point != NULL) {
        note_put(tx, key, value,
                 mdb_cursor_put(point, &k, &v,
                                stands_on(point, key, &old) ? MDB_CURRENT : 0));
    }
}

void kv_tx_swap(struct kv_tx *tx, struct mr_slice key,
                const struct mr_slice *old, struct mr_slice value)
{
    if (old != NULL && in_digest(key) && tx->err == MR_OK) {
        kv_digest_sub(&tx->digest, kv_row_hash(key, *old));
    }
    if (tx->capture != NULL) {
        kv_capture_row(tx->capture, key, old, false);
    }
    put(tx, key, value);
}

void kv_tx_put(struct kv_tx *tx, struct mr_slice key, struct mr_slice value)
{
    struct mr_slice old;
    bool is_old = in_digest(key) && kv_tx_get(tx, key, &old);

    kv_tx_swap(tx, key, is_old ? &old : NULL, value);
}

void kv_tx_append(struct kv_tx *tx, struct mr_slice key, struct mr_slice value)
{
    MDB_val k = to_val(key);
    MDB_val v = to_val(value);

    if (can_put(tx, key)) {
        note_put(tx, key, value, mdb_put(tx->txn, DB, &k, &v, MDB_APPEND));
    }
}

bool kv_tx_del(struct kv_tx *tx, struct mr_slice key)
{
    struct mr_slice old;
    int rv;

    mr_assert(tx->writable && tx->cursors_used == 0);
    if (!kv_tx_get(tx, key, &old)) {
        return false;
    }
    if (in_digest(key)) {
        kv_digest_sub(&tx->digest, kv_row_hash(key, old));
    }
    if (tx->capture != NULL) {
        kv_capture_row(tx->capture, key, &old, true);
    }
    rv = mdb_cursor_del(point_at(tx, key), 0); /* It stands there. */
    if (rv != 0) {
        kv_tx_fail(tx, map_error(rv));
    }
    return rv == 0;
}

/* ------------------------------------------------------------ scans */

static void bind_cursor(struct kv_tx *tx, unsigned slot)
{
    int rv = 0;

    if (tx->cursors[slot] == NULL) {
        rv = mdb_cursor_open(tx->txn, DB, &tx->cursors[slot]);
    } else if ((tx->cursors_ready & (1u << slot)) == 0) {
        rv = mdb_cursor_renew(tx->txn, tx->cursors[slot]);
    }
    if (rv != 0) {
        kv_tx_fail(tx, map_error(rv));
        return;
    }
    tx->cursors_ready |= 1u << slot;
}

static void open_scan(struct kv_scan *scan, struct kv_tx *tx)
{
    unsigned slot = 0;

    while ((tx->cursors_used & (1u << slot)) != 0) {
        slot++;
    }
    mr_assert(slot < KV_SCANS_MAX);
    bind_cursor(tx, slot);
    tx->cursors_used |= 1u << slot;
    *scan =
        (struct kv_scan){.tx = tx, .cursor = tx->cursors[slot], .slot = slot};
}

void kv_scan_open(struct kv_scan *scan, struct kv_tx *tx,
                  struct mr_slice prefix)
{
    open_scan(scan, tx);
    scan->prefix = prefix;
    scan->seek = prefix;
    scan->is_void = prefix.len == 0; /* The slice of a key that overflowed. */
}

void kv_scan_open_from(struct kv_scan *scan, struct kv_tx *tx,
                       struct mr_slice first)
{
    open_scan(scan, tx);
    scan->seek = first;
}

void kv_scan_seek(struct kv_scan *scan, struct mr_slice key)
{
    scan->seek = key;
}

bool kv_scan_next(struct kv_scan *scan, struct kv_row *out_row)
{
    MDB_val k = to_val(scan->seek);
    MDB_val v;
    int rv;

    if (scan->tx->err != MR_OK || scan->is_void) {
        return false;
    }
    rv = mdb_cursor_get(scan->cursor, &k, &v,
                        scan->seek.len > 0 ? MDB_SET_RANGE : MDB_NEXT);
    if (rv != 0) {
        if (rv != MDB_NOTFOUND) {
            kv_tx_fail(scan->tx, map_error(rv));
        }
        return false;
    }
    scan->seek.len = 0;
    *out_row = (struct kv_row){to_slice(k), to_slice(v)};
    return mr_slice_has_prefix(out_row->key, scan->prefix);
}

void kv_scan_close(struct kv_scan *scan)
{
    scan->tx->cursors_used &= ~(1u << scan->slot);
}
