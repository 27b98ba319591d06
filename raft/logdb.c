/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stored log, in LMDB.
 *
 * One key space of 64-bit numbers: records below ENTRY_BASE, the entry with
 * index i at ENTRY_BASE + i, so a commit of a few entries touches one leaf and
 * its path. LMDB writes the new pages, syncs, and then switches to them by a
 * synchronous write of a page of 4 KB: a crash leaves the old or the new state,
 * no torn tail. What a crash cannot do, damage can: logcheck.c looks at the
 * file's structure before LMDB trusts it, and check_entries() at every entry.
 *
 * Locks are LMDB's business nowhere (MDB_NOLOCK): the folder belongs to one
 * process (the caller holds its lock) and one thread at a time comes here.
 */
#include "raft/logdb_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/hash.h"
#include "base/mem.h"

#define FULL_BELOW_BYTES                                                       \
    (256 * 1024) /* Less than this free: the disk is full. */

/* ------------------------------------------------------------- errors */

/* A short write is all that LMDB says of many a full disk (EIO). A transaction
 * that failed is written anew from its first page, so trying again is safe. */
static bool disk_is_full(const struct logdb *db)
{
    struct statvfs fs;

    return statvfs(db->dir, &fs) == 0 &&
           (uint64_t)fs.f_bavail * fs.f_frsize < FULL_BELOW_BYTES;
}

enum mr_err logdb_map_err(const struct logdb *db, int rc)
{
    switch (rc) {
    case 0:
        return MR_OK;
    case MDB_NOTFOUND:
        return MR_E_NOTFOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return MR_E_NOSPACE;
    case ENOMEM:
        return MR_E_NOMEM;
    case EIO:
        return disk_is_full(db) ? MR_E_NOSPACE : MR_E_IO;
    case MDB_VERSION_MISMATCH:
        return MR_E_VERSION;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_VALSIZE:
    case MDB_INCOMPATIBLE:
        return MR_E_CORRUPT;
    default:
        return MR_E_IO;
    }
}

/* Keep the first failure of the transaction. */
bool logdb_failed(struct logdb *db, int rc)
{
    if (rc != 0 && db->err == MR_OK) {
        db->err = logdb_map_err(db, rc);
    }
    return db->err != MR_OK;
}

static void fail(struct logdb *db, enum mr_err err)
{
    if (db->err == MR_OK) {
        db->err = err;
    }
}

/* ------------------------------------------------------------- records */

int logdb_put(struct logdb *db, uint64_t key, const void *data, size_t len)
{
    MDB_val k = {sizeof key, &key};
    MDB_val v = {len, (void *)(uintptr_t)data};

    return mdb_put(db->txn, db->dbi, &k, &v, 0);
}

int logdb_get(MDB_txn *txn, MDB_dbi dbi, uint64_t key, MDB_val *out)
{
    MDB_val k = {sizeof key, &key};

    return mdb_get(txn, dbi, &k, out);
}

static uint64_t hash_entry(const struct logdb_entry *e)
{
    uint64_t head[3] = {e->index, e->term, e->type};

    return mr_hash64(e->data, mr_hash64(mr_slice(head, sizeof head), 0));
}

uint64_t logdb_hash_pair(uint64_t key, uint64_t a, uint64_t b)
{
    uint64_t all[3] = {key, a, b};

    return mr_hash64(mr_slice(all, sizeof all), 0);
}

void logdb_put_pair(struct logdb *db, enum record rec, uint64_t a, uint64_t b)
{
    struct stored_pair pair = {a, b, logdb_hash_pair(rec, a, b)};

    if (db->err == MR_OK) {
        (void)logdb_failed(db, logdb_put(db, rec, &pair, sizeof pair));
    }
}

uint64_t logdb_hash_snapshot(const struct stored_snapshot *s,
                             struct mr_slice conf)
{
    uint64_t head[4] = {s->index, s->term, s->conf_index, s->file};

    return mr_hash64(conf, mr_hash64(mr_slice(head, sizeof head), 0));
}

enum mr_err logdb_decode_entry(MDB_val key, MDB_val val,
                               struct logdb_entry *out)
{
    struct stored_entry head;
    uint64_t k;

    if (key.mv_size != sizeof k || val.mv_size < sizeof head) {
        return MR_E_CORRUPT;
    }
    memcpy(&k, key.mv_data, sizeof k);
    memcpy(&head, val.mv_data, sizeof head);
    if (k <= ENTRY_BASE || head.type > UINT8_MAX) {
        return MR_E_CORRUPT;
    }
    out->index = k - ENTRY_BASE;
    out->term = head.term;
    out->type = (uint8_t)head.type;
    out->data =
        mr_slice((char *)val.mv_data + sizeof head, val.mv_size - sizeof head);
    return head.hash == hash_entry(out) ? MR_OK : MR_E_CORRUPT;
}

const struct logdb_state *logdb_state(const struct logdb *db)
{
    return &db->state;
}

/* ------------------------------------------------------------- writing */

enum mr_err logdb_begin(struct logdb *db)
{
    mr_assert(db->txn == NULL);
    db->err = MR_OK;
    db->before = db->state;
    db->conf_before = db->conf;
    return logdb_map_err(db, mdb_txn_begin(db->env, NULL, 0, &db->txn));
}

enum mr_err logdb_commit(struct logdb *db)
{
    mr_assert(db->txn != NULL);
    if (db->err != MR_OK) {
        mdb_txn_abort(db->txn);
    } else {
        (void)logdb_failed(db, mdb_txn_commit(db->txn));
    }
    db->txn = NULL;
    if (db->err != MR_OK) {
        db->state = db->before;
        if (db->conf != db->conf_before) {
            mr_free(db->conf);
        }
        db->conf = db->conf_before;
    } else if (db->conf != db->conf_before) {
        mr_free(db->conf_before);
    }
    db->conf_before = NULL;
    return db->err;
}

enum mr_err logdb_touch(struct logdb *db)
{
    enum mr_err err = logdb_begin(db);

    if (err != MR_OK) {
        return err;
    }
    logdb_put_pair(db, REC_STARTS, db->state.starts, 0);
    return logdb_commit(db);
}

void logdb_set_vote(struct logdb *db, uint64_t term, uint64_t voted_for)
{
    logdb_put_pair(db, REC_VOTE, term, voted_for);
    db->state.term = term;
    db->state.voted_for = voted_for;
}

void logdb_set_cluster(struct logdb *db, uint64_t cluster_id)
{
    logdb_put_pair(db, REC_CLUSTER, cluster_id, 0);
    db->state.cluster_id = cluster_id;
}

void logdb_append(struct logdb *db, const struct logdb_entry *entry)
{
    struct stored_entry head = {entry->term, hash_entry(entry), entry->type};
    uint64_t key = ENTRY_BASE + entry->index;
    MDB_val k = {sizeof key, &key};
    MDB_val v = {sizeof head + entry->data.len, NULL};

    logdb_truncate(db, entry->index);
    if (db->err != MR_OK) {
        return;
    }
    if (entry->index != db->state.last + 1) {
        fail(db, MR_E_INVALID);
        return;
    }
    if (logdb_failed(
            db, mdb_put(db->txn, db->dbi, &k, &v, MDB_RESERVE | MDB_APPEND))) {
        return;
    }
    memcpy(v.mv_data, &head, sizeof head);
    if (entry->data.len != 0) {
        memcpy((char *)v.mv_data + sizeof head, entry->data.data,
               entry->data.len);
    }
    db->state.last = entry->index;
    db->state.bytes += entry->data.len;
}

/* Delete the entry @index and take its bytes off the account. */
static void delete_entry(struct logdb *db, uint64_t index)
{
    uint64_t key = ENTRY_BASE + index;
    MDB_val k = {sizeof key, &key};
    MDB_val v;

    if (db->err != MR_OK ||
        logdb_failed(db, logdb_get(db->txn, db->dbi, key, &v))) {
        return;
    }
    db->state.bytes -= v.mv_size - sizeof(struct stored_entry);
    (void)logdb_failed(db, mdb_del(db->txn, db->dbi, &k, NULL));
}

void logdb_truncate(struct logdb *db, uint64_t index)
{
    if (index < db->state.first) {
        index = db->state.first;
    }
    while (db->err == MR_OK && db->state.last >= index) {
        delete_entry(db, db->state.last);
        db->state.last--;
    }
}

bool logdb_compact(struct logdb *db, uint64_t upto, size_t max)
{
    if (upto > db->state.last) {
        upto = db->state.last;
    }
    while (db->err == MR_OK && max-- > 0 && db->state.first <= upto) {
        delete_entry(db, db->state.first);
        db->state.first++;
    }
    return db->err == MR_OK && db->state.first <= upto;
}

void logdb_set_snapshot(struct logdb *db, const struct logdb_snapshot *snapshot)
{
    struct stored_snapshot head = {snapshot->index, snapshot->term,
                                   snapshot->conf_index, snapshot->file, 0};
    size_t len = snapshot->conf.len;
    uint8_t *value = mr_malloc(sizeof head + len);
    uint8_t *conf = mr_malloc(len + 1);

    if (value == NULL || conf == NULL) {
        fail(db, MR_E_NOMEM);
        mr_free(conf);
        goto out_after_value;
    }
    head.hash = logdb_hash_snapshot(&head, snapshot->conf);
    memcpy(value, &head, sizeof head);
    memcpy(value + sizeof head, snapshot->conf.data, len);
    memcpy(conf, snapshot->conf.data, len);
    if (db->err == MR_OK) {
        (void)logdb_failed(
            db, logdb_put(db, REC_SNAPSHOT, value, sizeof head + len));
    }
    if (db->conf != db->conf_before) {
        mr_free(db->conf);
    }
    db->conf = conf;
    db->state.snapshot = *snapshot;
    db->state.snapshot.conf = mr_slice(conf, len);
out_after_value:
    mr_free(value);
}

void logdb_reset(struct logdb *db, uint64_t next)
{
    while (db->err == MR_OK && db->state.first <= db->state.last) {
        delete_entry(db, db->state.first);
        db->state.first++;
    }
    db->state.first = next;
    db->state.last = next - 1;
    db->state.bytes = 0;
}

void logdb_set_record(struct logdb *db, enum logdb_record which,
                      struct mr_slice bytes)
{
    uint64_t hash = mr_hash64(bytes, which);
    uint8_t *value = mr_malloc(sizeof hash + bytes.len);

    if (value == NULL) {
        fail(db, MR_E_NOMEM);
        return;
    }
    memcpy(value, &hash, sizeof hash);
    if (bytes.len != 0) {
        memcpy(value + sizeof hash, bytes.data, bytes.len);
    }
    if (db->err == MR_OK) {
        (void)logdb_failed(
            db, logdb_put(db, which, value, sizeof hash + bytes.len));
    }
    mr_free(value);
}

/* ------------------------------------------------------------- reading */

static enum mr_err copy_record(MDB_val v, enum logdb_record which,
                               struct mr_slice *out_bytes)
{
    uint64_t hash;
    struct mr_slice bytes;
    char *copy;

    if (v.mv_size < sizeof hash) {
        return MR_E_CORRUPT;
    }
    memcpy(&hash, v.mv_data, sizeof hash);
    bytes = mr_slice((char *)v.mv_data + sizeof hash, v.mv_size - sizeof hash);
    if (hash != mr_hash64(bytes, which)) {
        return MR_E_CORRUPT;
    }
    copy = mr_memdup0(bytes.data, bytes.len);
    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    *out_bytes = mr_slice(copy, bytes.len);
    return MR_OK;
}

enum mr_err logdb_get_record(struct logdb *db, enum logdb_record which,
                             struct mr_slice *out_bytes)
{
    MDB_txn *txn;
    MDB_val v;
    enum mr_err err;
    int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return logdb_map_err(db, rc);
    }
    rc = logdb_get(txn, db->dbi, which, &v);
    err = rc != 0 ? logdb_map_err(db, rc) : copy_record(v, which, out_bytes);
    mdb_txn_abort(txn);
    return err;
}

/* Count the entries that fit and their bytes. */
static size_t measure(struct logdb *db, MDB_txn *txn, uint64_t first,
                      uint64_t last, size_t *inout_bytes)
{
    size_t max = *inout_bytes;
    size_t bytes = 0;
    size_t n = 0;
    MDB_val v;

    while (first + n <= last &&
           logdb_get(txn, db->dbi, ENTRY_BASE + first + n, &v) == 0) {
        if (n != 0 && bytes + v.mv_size > max) {
            break;
        }
        bytes += v.mv_size;
        n++;
    }
    *inout_bytes = bytes;
    return n;
}

static enum mr_err copy_entries(struct logdb *db, MDB_txn *txn, uint64_t first,
                                size_t n, struct logdb_batch *batch)
{
    char *at = (char *)(batch->entries + n);
    enum mr_err err;

    for (size_t i = 0; i < n; i++) {
        struct logdb_entry *e = &batch->entries[i];
        uint64_t key = ENTRY_BASE + first + i;
        MDB_val k = {sizeof key, &key};
        MDB_val v;

        if (mdb_get(txn, db->dbi, &k, &v) != 0) {
            return MR_E_CORRUPT;
        }
        err = logdb_decode_entry(k, v, e);
        if (err != MR_OK) {
            return err;
        }
        memcpy(at, e->data.data, e->data.len);
        e->data.data = at;
        at += e->data.len;
    }
    batch->n = n;
    return MR_OK;
}

enum mr_err logdb_read(struct logdb *db, uint64_t first, uint64_t last,
                       size_t max_bytes, struct logdb_batch *out_batch)
{
    struct logdb_batch batch = {NULL, 0};
    MDB_txn *txn;
    enum mr_err err;
    size_t n;
    int rc;

    if (first < db->state.first || first > db->state.last) {
        return MR_E_NOTFOUND;
    }
    rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) {
        return logdb_map_err(db, rc);
    }
    n = measure(db, txn, first, last < db->state.last ? last : db->state.last,
                &max_bytes);
    err = n == 0 ? MR_E_CORRUPT : MR_OK;
    if (err == MR_OK) {
        batch.entries = mr_malloc(n * sizeof *batch.entries + max_bytes);
        err = batch.entries == NULL ? MR_E_NOMEM
                                    : copy_entries(db, txn, first, n, &batch);
    }
    mdb_txn_abort(txn);
    if (err != MR_OK) {
        logdb_batch_free(&batch);
        return err;
    }
    *out_batch = batch;
    return MR_OK;
}

void logdb_batch_free(struct logdb_batch *batch)
{
    mr_free(batch->entries);
    batch->entries = NULL;
    batch->n = 0;
}
