/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The apply thread: hands committed commands to the state machine, in order,
 * and completes the proposals they came from.
 *
 * Threads: the core thread submits; the state machine's functions and the
 * proposals' done run on the apply thread.
 */
#ifndef RAFT_APPLY_H
#define RAFT_APPLY_H

#include <stdint.h>

#include "base/err.h"
#include "raft/driver.h"
#include "raft/mr_raft.h"

struct apply;

struct apply_options {
    const struct mr_raft_fsm *fsm; /* Borrowed for the life of the thread. */
    const char *snapshot_dir;      /* Likewise. */
    /* Something was applied or installed: see apply_index() and
     * apply_take_installed(). Apply thread. */
    void (*on_applied)(void *arg);
    /* See on_applied. */
    void (*on_installed)(void *arg);
    /* The state machine failed; nothing is applied any more. Apply thread. */
    void (*on_fatal)(void *arg, enum mr_err err, const char *why);
    void *arg;
};

/* Start the thread on a state machine that holds everything up to @index. The
 * caller releases *@out_apply with apply_close(). MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err apply_open(const struct apply_options *options,
                                     uint64_t index, struct apply **out_apply);

/* Apply @batch, which is now the thread's. Core thread. */
void apply_submit(struct apply *a, struct driver_batch *batch);

/* After what was submitted before, replace the state by the snapshot @file,
 * which stands at @index. Core thread. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err apply_install(struct apply *a, uint64_t file,
                                        uint64_t index);

/* The last index that the state machine has committed. Any thread. */
uint64_t apply_index(const struct apply *a);

/* The snapshot that was installed since the last call, 0 for none. Core
 * thread. */
uint64_t apply_take_installed(struct apply *a);

/* Apply what was submitted and end the thread; nothing is submitted any more.
 * NULL and a stopped one are no-ops. */
void apply_stop(struct apply *a);

/* Stop and release. NULL is a no-op. */
void apply_close(struct apply *a);

/* Restore @fsm from the snapshot @file on the calling thread. Errors as the
 * machine's and snapshot_read()'s. */
MR_MUST_CHECK enum mr_err apply_restore(const struct mr_raft_fsm *fsm,
                                        const char *snapshot_dir, uint64_t file,
                                        struct mr_detail *detail);

#endif /* RAFT_APPLY_H */
