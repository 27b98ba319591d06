/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an instance may have twins: instances of the same name and ID on other
 * nodes. Hardly any has, so what answers must cost nothing: counters in memory, by
 * two hashes of name and ID, which may be too high and are never too low. Apply
 * thread.
 */
#ifndef MR_KV_TWINS_H
#define MR_KV_TWINS_H

#include "base/buf.h"
#include "base/err.h"
#include "kv/store.h"

struct kv_twins {
    uint8_t *counters;
    struct mr_buf gone; /* uint64_t: what to take away after the commit. */
};

/* Make empty counters. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err kv_twins_init(struct kv_twins *t);

/* Release them; also when they were never made. */
void kv_twins_deinit(struct kv_twins *t);

/* Count anew what @tx, a reader, shows. */
void kv_twins_fill(struct kv_twins *t, struct kv_tx *tx);

/* Count the instance of the service's row @key. */
void kv_twins_add(struct kv_twins *t, struct mr_slice key);

/* Count it no more once the batch is committed. */
void kv_twins_remove(struct kv_twins *t, struct mr_slice key);

/* The batch is committed. */
void kv_twins_commit(struct kv_twins *t);

/* Whether the instance of the service's row @key, which is counted, may have
 * twins. */
bool kv_twins_may_be(const struct kv_twins *t, struct mr_slice key);

#endif /* MR_KV_TWINS_H */
