/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the stored log: whose it is, which version wrote it, and whether all
 * of it is sound. Damage is an error, with a sentence that says what to do.
 */
#include "raft/logdb_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "raft/logcheck.h"

#define FORMAT_VERSION 1

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

/* A missing record reads as zeros. */
static enum mr_err get_pair(struct logdb *db, MDB_txn *txn, enum record rec,
                            struct stored_pair *out)
{
    MDB_val v;
    int rc = logdb_get(txn, db->dbi, rec, &v);

    memset(out, 0, sizeof *out);
    if (rc == MDB_NOTFOUND) {
        return MR_OK;
    }
    if (rc != 0) {
        return logdb_map_err(db, rc);
    }
    if (v.mv_size != sizeof *out) {
        return MR_E_CORRUPT;
    }
    memcpy(out, v.mv_data, sizeof *out);
    return out->hash == logdb_hash_pair(rec, out->a, out->b) ? MR_OK
                                                             : MR_E_CORRUPT;
}

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
    (void)logdb_failed(db, logdb_put(db, REC_IDENTITY, &id, sizeof id));
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
    logdb_put_pair(db, REC_STARTS, db->state.starts, 0);
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
    int rc = logdb_get(txn, db->dbi, REC_SNAPSHOT, &v);
    struct mr_slice conf;

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? MR_OK : logdb_map_err(db, rc);
    }
    if (v.mv_size < sizeof s) {
        return MR_E_CORRUPT;
    }
    memcpy(&s, v.mv_data, sizeof s);
    conf = mr_slice((char *)v.mv_data + sizeof s, v.mv_size - sizeof s);
    if (s.hash != logdb_hash_snapshot(&s, conf)) {
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
        if (logdb_decode_entry(k, v, &e) != MR_OK || e.term < term ||
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
    return rc == MDB_NOTFOUND ? MR_OK : logdb_map_err(db, rc);
}

static enum mr_err load_entries(struct logdb *db, MDB_txn *txn)
{
    MDB_cursor *cursor;
    enum mr_err err;
    int rc = mdb_cursor_open(txn, db->dbi, &cursor);

    if (rc != 0) {
        return logdb_map_err(db, rc);
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
        return mr_fail(detail, logdb_map_err(db, rc),
                       "reading the raft log in %s: %s", o->dir,
                       mdb_strerror(rc));
    }
    rc = mdb_stat(txn, db->dbi, &stat);
    *out_fresh = rc == 0 && stat.ms_entries == 0;
    if (rc == 0 && !*out_fresh) {
        rc = logdb_get(txn, db->dbi, REC_IDENTITY, &v);
        err = rc != 0 ? corrupt(detail, o->dir, "its identity is missing")
                      : check_identity(db, o, v, detail);
        if (err == MR_OK) {
            err = load_state(db, txn);
            if (err == MR_E_CORRUPT) {
                (void)corrupt(detail, o->dir, "a record fails its check");
            }
        }
    } else if (rc != 0) {
        err = logdb_map_err(db, rc);
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
        err = mr_fail(detail, logdb_map_err(db, rc),
                      "opening the raft log in %s: %s", options->dir,
                      mdb_strerror(rc));
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
