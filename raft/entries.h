/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entries: what the driver remembers of its log. The terms of all entries
 * (as runs), the newest entries themselves (a bounded cache) and all
 * configurations. Kept in step with the core's own view of the log.
 */
#ifndef MR_RAFT_ENTRIES_H
#define MR_RAFT_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft/driver.h"

/* A configuration and the entry that brought it. */
struct entries_change {
    uint64_t index;
    struct driver_blob *conf; /* Owned reference; all of it. */
};

struct entries_run {
    uint64_t term;
    uint64_t last; /* Index of the run's last entry. */
};

struct entries {
    uint64_t offset; /* The first entry is offset + 1. */
    uint64_t last;   /* The last entry, or offset, or the snapshot. */
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    struct entries_run *runs;
    size_t n_runs;
    size_t cap_runs;
    /* Cached entries cache_first .. last, in a ring of a power of two. */
    struct driver_entry *ring;
    size_t cap_ring;
    uint64_t cache_first;
    size_t cache_bytes;
    size_t cache_limit;
    struct entries_change *changes; /* By index; the first may be older than
                                       the log: that of the snapshot. */
    size_t n_changes;
    size_t cap_changes;
};

/* Begin with what @disk holds. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err entries_init(struct entries *e,
                                       const struct driver_disk *disk,
                                       size_t cache_limit);

/* Release everything. */
void entries_deinit(struct entries *e);

/* The term of the entry @index, or of the snapshot at @index; 0: unknown. */
uint64_t entries_term(const struct entries *e, uint64_t index);

/* The entry @index, borrowed; NULL when it is not cached. */
const struct driver_entry *entries_get(const struct entries *e, uint64_t index);

/* Append a copy of @entry, with a reference of its own. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err entries_append(struct entries *e,
                                         const struct driver_entry *entry);

/* Drop everything from @index on. */
void entries_truncate(struct entries *e, uint64_t index);

/* The snapshot @index is in force now; forget entries up to @offset. */
void entries_compact(struct entries *e, uint64_t index, uint64_t term,
                     uint64_t offset);

/* Forget everything: the log continues after @meta. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err entries_replace(struct entries *e,
                                          const struct driver_snapshot *meta);

/* Shrink the cache to its limit, giving up only entries up to @upto, or, when
 * it is far beyond, any but the newest. */
void entries_evict(struct entries *e, uint64_t upto);

/* The configuration in force at @index, borrowed; NULL when there is none. */
const struct entries_change *entries_conf_at(const struct entries *e,
                                             uint64_t index);

#endif /* MR_RAFT_ENTRIES_H */
