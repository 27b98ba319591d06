/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch: many commands in one raft entry.
 *
 *   entry: version u8 = 1, run*
 *   run:   origin u64, incarnation u64, first_seq u64, n u32 (> 0), command*
 *   command: len u32, bytes
 *
 * Integers are big-endian. A run is commands of one server's process with
 * consecutive sequence numbers; (origin, incarnation, seq) names a command for
 * ever. The same bytes travel in DRIVER_MSG_FORWARD.
 *
 * The format is stored and sent: never change it, raise the version.
 */
#ifndef MR_RAFT_BATCH_H
#define MR_RAFT_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "raft/driver.h"

#define BATCH_MAX_COMMANDS 512
#define BATCH_MAX_BYTES (256u * 1024u)

/* Who proposed a command. */
struct batch_id {
    uint64_t origin;
    uint64_t incarnation;
    uint64_t seq;
};

/* Builds one entry. */
struct batch_builder {
    struct driver_blob *blob; /* Owned; blob->len is the capacity. */
    size_t len;
    size_t n_commands;
    size_t run_at;        /* Offset of the open run's count; 0: none. */
    struct batch_id next; /* What would continue the open run. */
};

/* An empty builder. No allocation. */
void batch_init(struct batch_builder *b);

/* Release what was built. */
void batch_deinit(struct batch_builder *b);

/* Whether a command of @len bytes still fits within the limits. An empty batch
 * takes any command up to MR_RAFT_COMMAND_MAX. */
bool batch_has_room(const struct batch_builder *b, size_t len);

/* Append a command. MR_E_NOMEM: the batch is as before. */
MR_MUST_CHECK enum mr_err batch_add(struct batch_builder *b, struct batch_id id,
                                    struct mr_slice cmd);

/* Hand over the blob and leave an empty builder. The entry is the first
 * *@out_len bytes of it. NULL when nothing was added. */
struct driver_blob *batch_take(struct batch_builder *b, size_t *out_len);

/* Walks over the commands of an entry. */
struct batch_iter {
    struct mr_slice rest;
    uint32_t left; /* Commands left in the run. */
    struct batch_id id;
    struct mr_slice cmd;
};

/* Check the whole of @entry and begin to walk it; *@out_n (may be NULL) is how
 * many commands it holds. MR_E_CORRUPT: it is no batch. MR_E_VERSION: of a
 * newer version. */
MR_MUST_CHECK enum mr_err
batch_open(struct mr_slice entry, struct batch_iter *out_iter, size_t *out_n);

/* Move to the next command, filling it->id and it->cmd; false at the end. */
bool batch_next(struct batch_iter *it);

#endif /* MR_RAFT_BATCH_H */
