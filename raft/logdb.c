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
#include "raft/logdb.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <lmdb.h>

#include "base/hash.h"
#include "base/mem.h"
#include "raft/logcheck.h"

#define FORMAT_VERSION 1
#define ENTRY_BASE 256
#define FULL_BELOW_BYTES                                                       \
    (256 * 1024) /* Less than this free: the disk is full. */

enum record {
    REC_IDENTITY = 1,
    REC_VOTE = 2,
    REC_CLUSTER = 3,
    REC_SNAPSHOT = 4,
    REC_STARTS = 5
};

/* Stored as they are, in the machine's byte order like LMDB's own pages. */
struct stored_entry {
    uint64_t term;
    uint64_t hash;
    uint64_t type;
};

struct stored_identity {
    uint64_t version;
    uint64_t raft_id;
    char node_id[40];
    uint64_t hash;
};

struct stored_pair {
    uint64_t a;
    uint64_t b;
    uint64_t hash;
};

struct stored_snapshot {
    uint64_t index;
    uint64_t term;
    uint64_t conf_index;
    uint64_t file;
    uint64_t hash; /* Over the rest and the configuration behind it. */
};

struct logdb {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn;    /* The open transaction, or NULL. */
    enum mr_err err; /* Its first failure. */
    struct logdb_state state;
    struct logdb_state before; /* The state at logdb_begin(). */
    uint8_t *conf;             /* Behind state.snapshot.conf. */
    uint8_t *conf_before;
    char *dir;
};

/* ------------------------------------------------------------- errors */

/* A short write is all that LMDB says of many a full disk (EIO). A transaction
 * that failed is written anew from its first page, so trying again is safe. */
static bool disk_is_full(const struct logdb *db)
{
    struct statvfs fs;

    return statvfs(db->dir, &fs) == 0 &&
           (uint64_t)fs.f_bavail * fs.f_frsize < FULL_BELOW_BYTES;
}

static enum mr_err map_err(const struct logdb *db, int rc)
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
static bool failed(struct logdb *db, int rc)
{
    if (rc != 0 && db->err == MR_OK) {
        db->err = map_err(db, rc);
    }
    return db->err != MR_OK;
}

static void fail(struct logdb *db, enum mr_err err)
{
    if (db->err == MR_OK) {
        db->err = err;
    }
}

static enum mr_err corrupt(struct mr_detail *detail, const char *dir,
                           const char *what)
{
    return mr_fail(detail, MR_E_CORRUPT,
                   "the raft log in %s is damaged (%s): the server does not "
                   "start with a part of its history; if the other servers "
                   "are healthy, move the data folder away and start again, "
                   "and it fetches everything from them",
                   dir, what);
}

/* ------------------------------------------------------------- records */

static int put(struct logdb *db, uint64_t key, const void *data, size_t len,
               unsigned flags)
{
    MDB_val k = {sizeof key, &key};
    MDB_val v = {len, (void *)(uintptr_t)data};

    return mdb_put(db->txn, db->dbi, &k, &v, flags);
}

static int get(MDB_txn *txn, MDB_dbi dbi, uint64_t key, MDB_val *out)
{
    MDB_val k = {sizeof key, &key};

    return mdb_get(txn, dbi, &k, out);
}

static uint64_t hash_entry(const struct logdb_entry *e)
{
    uint64_t head[3] = {e->index, e->term, e->type};

    return mr_hash64(e->data, mr_hash64(mr_slice(head, sizeof head), 0));
}

static uint64_t hash_pair(uint64_t key, uint64_t a, uint64_t b)
{
    uint64_t all[3] = {key, a, b};

    return mr_hash64(mr_slice(all, sizeof all), 0);
}

static void put_pair(struct logdb *db, enum record rec, uint64_t a, uint64_t b)
{
    struct stored_pair pair = {a, b, hash_pair(rec, a, b)};

    if (db->err == MR_OK) {
        (void)failed(db, put(db, rec, &pair, sizeof pair, 0));
    }
}

/* A missing record reads as zeros. */
static enum mr_err get_pair(struct logdb *db, MDB_txn *txn, enum record rec,
                            struct stored_pair *out)
{
    MDB_val v;
    int rc = get(txn, db->dbi, rec, &v);

    memset(out, 0, sizeof *out);
    if (rc == MDB_NOTFOUND) {
        return MR_OK;
    }
    if (rc != 0) {
        return map_err(db, rc);
    }
    if (v.mv_size != sizeof *out) {
        return MR_E_CORRUPT;
    }
    memcpy(out, v.mv_data, sizeof *out);
    return out->hash == hash_pair(rec, out->a, out->b) ? MR_OK : MR_E_CORRUPT;
}

static uint64_t hash_snapshot(const struct stored_snapshot *s,
                              struct mr_slice conf)
{
    uint64_t head[4] = {s->index, s->term, s->conf_index, s->file};

    return mr_hash64(conf, mr_hash64(mr_slice(head, sizeof head), 0));
}

/* ------------------------------------------------------------- opening */

static uint64_t hash_identity(const struct stored_identity *id)
{
    return mr_hash64(mr_slice(id, offsetof(struct stored_identity, hash)), 0);
}

static void put_identity(struct logdb *db, const struct logdb_options *o)
{
    struct stored_identity id;

    memset(&id, 0, sizeof id);
    id.version = FORMAT_VERSION;
    id.raft_id = o->new_id;
    memcpy(id.node_id, o->node_id, strlen(o->node_id));
    id.hash = hash_identity(&id);
    (void)failed(db, put(db, REC_IDENTITY, &id, sizeof id, 0));
    db->state.raft_id = o->new_id;
}

/* Count the start, which also shows that the log can be written. */
static enum mr_err write_start(struct logdb *db, const struct logdb_options *o,
                               bool is_fresh)
{
    enum mr_err err = logdb_begin(db);

    if (err != MR_OK) {
        return err;
    }
    if (is_fresh) {
        put_identity(db, o);
    }
    db->state.starts++;
    put_pair(db, REC_STARTS, db->state.starts, 0);
    return logdb_commit(db);
}

static enum mr_err check_identity(struct logdb *db,
                                  const struct logdb_options *o, MDB_val v,
                                  struct mr_detail *detail)
{
    struct stored_identity id;

    if (v.mv_size < sizeof id.version) {
        return corrupt(detail, o->dir, "its identity is cut short");
    }
    memset(&id, 0, sizeof id);
    memcpy(&id, v.mv_data, v.mv_size < sizeof id ? v.mv_size : sizeof id);
    if (id.version > FORMAT_VERSION) {
        return mr_fail(detail, MR_E_VERSION,
                       "the raft log in %s has format %llu and this version "
                       "reads up to %d: start the newer version again",
                       o->dir, (unsigned long long)id.version, FORMAT_VERSION);
    }
    if (v.mv_size != sizeof id || id.hash != hash_identity(&id)) {
        return corrupt(detail, o->dir, "its identity fails its check");
    }
    if (strncmp(id.node_id, o->node_id, sizeof id.node_id) != 0) {
        return mr_fail(detail, MR_E_FOREIGN,
                       "the raft log in %s belongs to the server %.36s and "
                       "this one is %s: give back its node ID or use an empty "
                       "data folder",
                       o->dir, id.node_id, o->node_id);
    }
    db->state.raft_id = id.raft_id;
    return MR_OK;
}

static enum mr_err load_snapshot(struct logdb *db, MDB_txn *txn)
{
    struct stored_snapshot s;
    MDB_val v;
    int rc = get(txn, db->dbi, REC_SNAPSHOT, &v);
    struct mr_slice conf;

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? MR_OK : map_err(db, rc);
    }
    if (v.mv_size < sizeof s) {
        return MR_E_CORRUPT;
    }
    memcpy(&s, v.mv_data, sizeof s);
    conf = mr_slice((char *)v.mv_data + sizeof s, v.mv_size - sizeof s);
    if (s.hash != hash_snapshot(&s, conf)) {
        return MR_E_CORRUPT;
    }
    db->conf = mr_malloc(conf.len + 1);
    if (db->conf == NULL) {
        return MR_E_NOMEM;
    }
    memcpy(db->conf, conf.data, conf.len);
    db->state.snapshot = (struct logdb_snapshot){
        s.index, s.term, s.conf_index, s.file, mr_slice(db->conf, conf.len)};
    return MR_OK;
}

static enum mr_err decode_entry(MDB_val key, MDB_val val,
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

/* Every entry: right behind the one before, terms never falling, hash right. */
static enum mr_err check_entries(struct logdb *db, MDB_cursor *cursor)
{
    uint64_t key = ENTRY_BASE + 1;
    MDB_val k = {sizeof key, &key};
    MDB_val v;
    struct logdb_entry e;
    uint64_t term = 0;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);

    for (; rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (decode_entry(k, v, &e) != MR_OK || e.term < term ||
            (term != 0 && e.index != db->state.last + 1)) {
            return MR_E_CORRUPT;
        }
        if (term == 0) {
            db->state.first = e.index;
        }
        term = e.term;
        db->state.last = e.index;
        db->state.bytes += e.data.len;
    }
    return rc == MDB_NOTFOUND ? MR_OK : map_err(db, rc);
}

static enum mr_err load_entries(struct logdb *db, MDB_txn *txn)
{
    MDB_cursor *cursor;
    enum mr_err err;
    int rc = mdb_cursor_open(txn, db->dbi, &cursor);

    if (rc != 0) {
        return map_err(db, rc);
    }
    db->state.last = db->state.snapshot.index;
    db->state.first = db->state.last + 1;
    err = check_entries(db, cursor);
    mdb_cursor_close(cursor);
    if (err == MR_OK && (db->state.first > db->state.snapshot.index + 1 ||
                         db->state.last < db->state.snapshot.index)) {
        /* A hole between snapshot and entries; entries that end before the
         * snapshot are dropped by whoever stores such a snapshot. */
        err = MR_E_CORRUPT;
    }
    return err;
}

static enum mr_err load_state(struct logdb *db, MDB_txn *txn)
{
    struct stored_pair vote;
    struct stored_pair cluster;
    struct stored_pair starts;
    enum mr_err err;

    if ((err = get_pair(db, txn, REC_VOTE, &vote)) != MR_OK ||
        (err = get_pair(db, txn, REC_CLUSTER, &cluster)) != MR_OK ||
        (err = get_pair(db, txn, REC_STARTS, &starts)) != MR_OK ||
        (err = load_snapshot(db, txn)) != MR_OK) {
        return err;
    }
    db->state.term = vote.a;
    db->state.voted_for = vote.b;
    db->state.cluster_id = cluster.a;
    db->state.starts = starts.a;
    return load_entries(db, txn);
}

static enum mr_err load(struct logdb *db, const struct logdb_options *o,
                        bool *out_fresh, struct mr_detail *detail)
{
    MDB_txn *txn;
    MDB_stat stat;
    MDB_val v;
    enum mr_err err = MR_OK;
    int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return mr_fail(detail, map_err(db, rc),
                       "reading the raft log in %s: %s", o->dir,
                       mdb_strerror(rc));
    }
    rc = mdb_stat(txn, db->dbi, &stat);
    *out_fresh = rc == 0 && stat.ms_entries == 0;
    if (rc == 0 && !*out_fresh) {
        rc = get(txn, db->dbi, REC_IDENTITY, &v);
        err = rc != 0 ? corrupt(detail, o->dir, "its identity is missing")
                      : check_identity(db, o, v, detail);
        if (err == MR_OK) {
            err = load_state(db, txn);
            if (err == MR_E_CORRUPT) {
                (void)corrupt(detail, o->dir, "a record fails its check");
            }
        }
    } else if (rc != 0) {
        err = map_err(db, rc);
    }
    mdb_txn_abort(txn);
    return err;
}

static int open_env(struct logdb *db, const struct logdb_options *o)
{
    size_t map = o->map_bytes != 0 ? o->map_bytes : LOGDB_MAP_BYTES;
    MDB_txn *txn;
    int rc;

    if ((rc = mdb_env_create(&db->env)) != 0 ||
        (rc = mdb_env_set_mapsize(db->env, map)) != 0 ||
        (rc = mdb_env_open(db->env, o->dir, MDB_NOLOCK | MDB_NORDAHEAD,
                           0600)) != 0 ||
        (rc = mdb_txn_begin(db->env, NULL, 0, &txn)) != 0) {
        return rc;
    }
    rc = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &db->dbi);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static bool exists(const char *dir)
{
    char path[4096];

    return snprintf(path, sizeof path, "%s/data.mdb", dir) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

enum mr_err logdb_open(const struct logdb_options *options,
                       struct logdb **out_db, struct mr_detail *detail)
{
    struct logdb *db = mr_calloc(1, sizeof *db);
    bool fresh = false;
    enum mr_err err;
    int rc;

    if (db == NULL || (db->dir = mr_strdup(options->dir)) == NULL) {
        mr_free(db);
        return MR_E_NOMEM;
    }
    db->state.first = 1;
    if (mkdir(options->dir, 0700) != 0 && errno != EEXIST) {
        err = mr_fail(detail, errno == ENOSPC ? MR_E_NOSPACE : MR_E_IO,
                      "cannot create %s: %s", options->dir, strerror(errno));
        goto err_after_new;
    }
    if (options->must_exist && !exists(options->dir)) {
        err = mr_fail(detail, MR_E_NOTFOUND, "there is no raft log in %s",
                      options->dir);
        goto err_after_new;
    }
    err = logcheck(options->dir, detail);
    if (err != MR_OK) {
        goto err_after_new;
    }
    rc = open_env(db, options);
    if (rc != 0) {
        err = mr_fail(detail, map_err(db, rc), "opening the raft log in %s: %s",
                      options->dir, mdb_strerror(rc));
        goto err_after_new;
    }
    err = load(db, options, &fresh, detail);
    if (err == MR_OK) {
        err = write_start(db, options, fresh);
    }
    if (err != MR_OK) {
        goto err_after_new;
    }
    *out_db = db;
    return MR_OK;

err_after_new:
    logdb_close(db);
    return err;
}

void logdb_close(struct logdb *db)
{
    if (db == NULL) {
        return;
    }
    if (db->txn != NULL) {
        mdb_txn_abort(db->txn);
    }
    if (db->env != NULL) {
        mdb_env_close(db->env);
    }
    if (db->conf_before != db->conf) {
        mr_free(db->conf_before);
    }
    mr_free(db->conf);
    mr_free(db->dir);
    mr_free(db);
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
    return map_err(db, mdb_txn_begin(db->env, NULL, 0, &db->txn));
}

enum mr_err logdb_commit(struct logdb *db)
{
    mr_assert(db->txn != NULL);
    if (db->err != MR_OK) {
        mdb_txn_abort(db->txn);
    } else {
        (void)failed(db, mdb_txn_commit(db->txn));
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
    put_pair(db, REC_STARTS, db->state.starts, 0);
    return logdb_commit(db);
}

void logdb_set_vote(struct logdb *db, uint64_t term, uint64_t voted_for)
{
    put_pair(db, REC_VOTE, term, voted_for);
    db->state.term = term;
    db->state.voted_for = voted_for;
}

void logdb_set_cluster(struct logdb *db, uint64_t cluster_id)
{
    put_pair(db, REC_CLUSTER, cluster_id, 0);
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
    if (failed(db,
               mdb_put(db->txn, db->dbi, &k, &v, MDB_RESERVE | MDB_APPEND))) {
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

    if (db->err != MR_OK || failed(db, get(db->txn, db->dbi, key, &v))) {
        return;
    }
    db->state.bytes -= v.mv_size - sizeof(struct stored_entry);
    (void)failed(db, mdb_del(db->txn, db->dbi, &k, NULL));
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
    head.hash = hash_snapshot(&head, snapshot->conf);
    memcpy(value, &head, sizeof head);
    memcpy(value + sizeof head, snapshot->conf.data, len);
    memcpy(conf, snapshot->conf.data, len);
    if (db->err == MR_OK) {
        (void)failed(db, put(db, REC_SNAPSHOT, value, sizeof head + len, 0));
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
        (void)failed(db, put(db, which, value, sizeof hash + bytes.len, 0));
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
        return map_err(db, rc);
    }
    rc = get(txn, db->dbi, which, &v);
    err = rc != 0 ? map_err(db, rc) : copy_record(v, which, out_bytes);
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
           get(txn, db->dbi, ENTRY_BASE + first + n, &v) == 0) {
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
        err = decode_entry(k, v, e);
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
        return map_err(db, rc);
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
