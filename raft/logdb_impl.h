/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the stored log, for logdb.c and logdb_open.c alone. */
#ifndef RAFT_LOGDB_IMPL_H
#define RAFT_LOGDB_IMPL_H

#include <lmdb.h>

#include "raft/logdb.h"

#define ENTRY_BASE 256

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

/* The error of LMDB's code @rc. */
enum mr_err logdb_map_err(const struct logdb *db, int rc);

/* Keep the first failure of the transaction; whether there is one. */
bool logdb_failed(struct logdb *db, int rc);

/* LMDB's put and get under the number @key. */
int logdb_put(struct logdb *db, uint64_t key, const void *data, size_t len);
/* See logdb_put(). */
int logdb_get(MDB_txn *txn, MDB_dbi dbi, uint64_t key, MDB_val *out);

/* Store two numbers with their hash. In a transaction. */
void logdb_put_pair(struct logdb *db, enum record rec, uint64_t a, uint64_t b);

/* The hash that such a record carries. */
uint64_t logdb_hash_pair(uint64_t key, uint64_t a, uint64_t b);

/* The hash of a snapshot's record. */
uint64_t logdb_hash_snapshot(const struct stored_snapshot *s,
                             struct mr_slice conf);

/* An entry as it lies in LMDB, checked. MR_E_CORRUPT. */
enum mr_err logdb_decode_entry(MDB_val key, MDB_val val,
                               struct logdb_entry *out);

#endif /* RAFT_LOGDB_IMPL_H */
