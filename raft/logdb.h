/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stored log: entries by index, term and vote, the snapshot's record and
 * the server's identity, in an LMDB environment with synchronous commits.
 *
 * All of it is one key space, so that whatever belongs together is written by
 * one transaction. Every entry carries a hash over all that it says. Damage is
 * found when the log is opened and is an error there: the history that is left
 * is never presented as the whole.
 *
 * Threads: one at a time, whichever (the log thread once it runs).
 */
#ifndef RAFT_LOGDB_H
#define RAFT_LOGDB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "base/text.h"

#define LOGDB_MAP_BYTES ((size_t)1 << 36) /* Address space, not disk. */
#define LOGDB_CONF_MAX (64 * 1024)

struct logdb;

struct logdb_entry {
    uint64_t index;
    uint64_t term;
    uint8_t type;
    struct mr_slice data;
};

/* The newest snapshot: where it stands and the configuration in force there. */
struct logdb_snapshot {
    uint64_t index; /* 0: none. */
    uint64_t term;
    uint64_t conf_index;
    uint64_t file;        /* Name of the file that holds the state. */
    struct mr_slice conf; /* Encoded; borrowed from the log until it changes. */
};

/* What is stored besides the entries. */
struct logdb_state {
    uint64_t raft_id; /* Born with the folder, see logdb_options.new_id. */
    uint64_t term;
    uint64_t voted_for;
    uint64_t first; /* Of the entries; first == last + 1 when there are none. */
    uint64_t last;
    uint64_t bytes;      /* Of the entries' data, all together. */
    uint64_t cluster_id; /* 0 until known. */
    uint64_t starts;     /* How often it was opened, this time included. */
    struct logdb_snapshot snapshot;
};

struct logdb_options {
    const char *dir;     /* The log's own folder; created if missing. */
    const char *node_id; /* Must be the one that the folder was made for. */
    /* The server's number if the folder is new. It must be random: a server
     * that lost its folder has forgotten its votes and what it acknowledged,
     * so it must never come back under the number it had. */
    uint64_t new_id;
    size_t map_bytes; /* 0: LOGDB_MAP_BYTES. */
    bool must_exist;  /* Do not make a new one (MR_E_NOTFOUND). */
};

/* Small records that the log keeps for others. */
enum logdb_record {
    LOGDB_PEERS = 16,  /* The peer directory. */
    LOGDB_PROMISE = 17 /* What we promised while bootstrapping. */
};

/* Open the log and check all of it. The caller owns *@out_db and releases it
 * with logdb_close().
 *
 * MR_E_FOREIGN: made for another node_id. MR_E_VERSION: by a newer version.
 * MR_E_CORRUPT: fails its checks. MR_E_IO, MR_E_NOSPACE, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err logdb_open(const struct logdb_options *options,
                                     struct logdb **out_db,
                                     struct mr_detail *detail);

/* Close; NULL is a no-op. An open transaction is undone. */
void logdb_close(struct logdb *db);

/* The state as of the last commit (or of the open transaction), borrowed. */
const struct logdb_state *logdb_state(const struct logdb *db);

/* Begin a transaction; none may be open. The first failure of what follows is
 * kept and reported by logdb_commit(). MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err logdb_begin(struct logdb *db);

/* Make the open transaction durable. On failure none of it has happened, and
 * logdb_state() is what it was before.
 *
 * MR_E_NOSPACE: the disk or the map is full. MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err logdb_commit(struct logdb *db);

/* Commit a change that changes nothing. LMDB uses pages again that were freed
 * two commits ago, so when the disk is full this is what makes the space of the
 * last compaction usable. Errors as logdb_commit(). */
MR_MUST_CHECK enum mr_err logdb_touch(struct logdb *db);

/* Store term and vote. In a transaction. */
void logdb_set_vote(struct logdb *db, uint64_t term, uint64_t voted_for);

/* Store the cluster's ID. In a transaction. */
void logdb_set_cluster(struct logdb *db, uint64_t cluster_id);

/* Append @entry; whatever the log holds from its index on is dropped first. It
 * must not leave a gap (the failure is MR_E_INVALID then). In a transaction. */
void logdb_append(struct logdb *db, const struct logdb_entry *entry);

/* Drop the entries from @index on. In a transaction. */
void logdb_truncate(struct logdb *db, uint64_t index);

/* Drop at most @max entries from the front, none after @upto; returns whether
 * some are left to drop. In a transaction. */
bool logdb_compact(struct logdb *db, uint64_t upto, size_t max);

/* Store @snapshot as the newest. Entries stay. In a transaction. */
void logdb_set_snapshot(struct logdb *db,
                        const struct logdb_snapshot *snapshot);

/* Drop all entries; the next one is @next. In a transaction. */
void logdb_reset(struct logdb *db, uint64_t next);

/* Store a record for somebody else. In a transaction. */
void logdb_set_record(struct logdb *db, enum logdb_record which,
                      struct mr_slice bytes);

/* A copy of a record, to be released with mr_free(). MR_E_NOTFOUND,
 * MR_E_NOMEM, MR_E_IO. No transaction may be open. */
MR_MUST_CHECK enum mr_err logdb_get_record(struct logdb *db,
                                           enum logdb_record which,
                                           struct mr_slice *out_bytes);

/* Entries read back, in one block of memory. */
struct logdb_batch {
    struct logdb_entry *entries; /* data points into the same block. */
    size_t n;
};

/* Read entries from @first on: at least one, no more than up to @last, and as
 * many as fit in @max_bytes. Release with logdb_batch_free(). No transaction
 * may be open.
 *
 * MR_E_NOTFOUND: @first is not in the log. MR_E_CORRUPT, MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err logdb_read(struct logdb *db, uint64_t first,
                                     uint64_t last, size_t max_bytes,
                                     struct logdb_batch *out_batch);

/* Release what logdb_read() gave. */
void logdb_batch_free(struct logdb_batch *batch);

#endif /* RAFT_LOGDB_H */
