/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows in LMDB: the environment, transactions, scans. The only place that knows
 * LMDB, and where the digest is kept, so that no row can be written past it.
 *
 * Transactions have a sticky error: after the first failure reads find nothing,
 * writes do nothing, and kv_tx_commit() or kv_tx_error() reports it.
 */
#ifndef MR_KV_STORE_H
#define MR_KV_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/slice.h"
#include "kv/row.h"

struct kv_capture;
struct kv_env; /* One LMDB file. Any thread. */
struct MDB_txn;
struct MDB_cursor;

/* Open or create the file @path (its lock file lies beside it). @is_durable: a
 * commit returns when it is on the disk.
 *
 * MR_E_IO, MR_E_NOSPACE, MR_E_NOMEM; MR_E_CORRUPT: it is no LMDB file. */
MR_MUST_CHECK enum mr_err kv_env_open(const char *path, uint64_t map_size,
                                      bool is_durable, struct kv_env **out_env,
                                      struct mr_detail *detail);

/* Whether the file ends before the last page that it speaks of. Pages that were
 * never used are not written, so that is no damage in a file that was not
 * passed to kv_env_sync(); one that was has its full length. */
bool kv_env_is_cut(struct kv_env *env);

/* Close it; NULL is a no-op. Every transaction must have ended. */
void kv_env_close(struct kv_env *env);

/* Write everything through to the disk, in full length. */
MR_MUST_CHECK enum mr_err kv_env_sync(struct kv_env *env);

/* Bytes of the pages in use. */
uint64_t kv_env_bytes_used(struct kv_env *env);

/* More nested scans than this in one transaction are our own mistake. */
#define KV_SCANS_MAX 6

/* A writer has a cursor for each table that it looks at: what was found is
 * changed where it lies, and what lies near the last row is found without a
 * walk down the tree. No two tables that are used together share one. */
#define KV_POINTS 37

/* A transaction. One thread at a time. */
struct kv_tx {
    struct MDB_txn *txn;
    struct MDB_cursor **points; /* Writers: KV_POINTS, by table; the env's. */
    struct MDB_cursor *cursors[KV_SCANS_MAX]; /* Kept for reuse. */
    unsigned cursors_used;  /* Bit i: cursors[i] belongs to an open scan. */
    unsigned cursors_ready; /* Bit i: cursors[i] is bound to this txn. */
    bool writable;
    enum mr_err err;            /* The first failure. */
    struct mr_hash128 digest;   /* Writers: carried along with each change. */
    struct kv_capture *capture; /* Of writers, told of each change; or NULL. */
};

/* Begin the one write transaction; its owner sets @tx->digest.
 * MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err kv_tx_begin_write(struct kv_env *env,
                                            struct kv_tx *tx);

/* Commit, or roll back and report the first failure. @tx is over either way. */
MR_MUST_CHECK enum mr_err kv_tx_commit(struct kv_tx *tx);

/* Roll back; a transaction that is over is left alone. */
void kv_tx_abort(struct kv_tx *tx);

/* Begin reading. MR_E_BUSY: too many readers; MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err kv_tx_begin_read(struct kv_env *env,
                                           struct kv_tx *tx);

/* Let go of the snapshot that @tx reads, keeping its memory and its place. */
void kv_tx_park(struct kv_tx *tx);

/* Read again, the newest state, after kv_tx_park(). */
MR_MUST_CHECK enum mr_err kv_tx_unpark(struct kv_tx *tx);

/* Release a reader, parked or not. */
void kv_tx_end_read(struct kv_tx *tx);

/* Which state @tx reads or will make: ascending with each commit. */
uint64_t kv_tx_id(struct kv_tx *tx);

/* Find the row of @key. False: there is none, or @tx failed. The value is
 * valid until the next write or the end of @tx. */
bool kv_tx_get(struct kv_tx *tx, struct mr_slice key,
               struct mr_slice *out_value);

/* As kv_tx_get(), quicker when the writer @tx looked at or wrote this row last in
 * its table. */
bool kv_tx_get_last(struct kv_tx *tx, struct mr_slice key,
                    struct mr_slice *out_value);

/* Whether the row beside the last one that the writer @tx found in the table of
 * @prefix begins with it: costs nothing. False says nothing. */
bool kv_tx_is_near(struct kv_tx *tx, struct mr_slice prefix);

/* Store a row, replacing what is there. */
void kv_tx_put(struct kv_tx *tx, struct mr_slice key, struct mr_slice value);

/* As kv_tx_put(), for who has looked already: the row holds @old (as
 * kv_tx_get() gave it), or, when that is NULL, does not exist. */
void kv_tx_swap(struct kv_tx *tx, struct mr_slice key,
                const struct mr_slice *old, struct mr_slice value);

/* As kv_tx_put(); @key must be greater than every key of its table group:
 * fills pages to the brim. */
void kv_tx_append(struct kv_tx *tx, struct mr_slice key, struct mr_slice value);

/* Remove a row; true when there was one. */
bool kv_tx_del(struct kv_tx *tx, struct mr_slice key);

/* Record @err as the transaction's failure, unless it has one. */
void kv_tx_fail(struct kv_tx *tx, enum mr_err err);

/* What one row adds to the digest; nothing for tables outside of it. */
struct mr_hash128 kv_row_hash(struct mr_slice key, struct mr_slice value);

/* Add or subtract, modulo 2^128. */
void kv_digest_add(struct mr_hash128 *digest, struct mr_hash128 h);
/* As kv_digest_add(). */
void kv_digest_sub(struct mr_hash128 *digest, struct mr_hash128 h);

/* A walk over the rows whose keys begin with a prefix, in byte order. Rows may
 * not be written while it is open. */
struct kv_scan {
    struct kv_tx *tx;
    struct MDB_cursor *cursor;
    struct mr_slice prefix; /* Borrowed. */
    struct mr_slice seek;   /* Where to go next; empty: one further. */
    unsigned slot;
    bool is_void; /* Nothing can have the prefix. */
};

/* Begin a walk; @prefix is borrowed until kv_scan_close(). */
void kv_scan_open(struct kv_scan *scan, struct kv_tx *tx,
                  struct mr_slice prefix);

/* Begin a walk over all rows from @first (borrowed until the first step) on. */
void kv_scan_open_from(struct kv_scan *scan, struct kv_tx *tx,
                       struct mr_slice first);

/* Jump: the next row is the first at or after @key (borrowed until then). */
void kv_scan_seek(struct kv_scan *scan, struct mr_slice key);

/* The next row; false at the end or when the transaction failed. */
bool kv_scan_next(struct kv_scan *scan, struct kv_row *out_row);

/* End the walk. */
void kv_scan_close(struct kv_scan *scan);

#endif /* MR_KV_STORE_H */
