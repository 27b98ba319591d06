/* SPDX-License-Identifier: Apache-2.0 */
/* What writing and restoring a snapshot share; snapshot.c has the format. */
#ifndef MR_KV_SNAPSHOT_H
#define MR_KV_SNAPSHOT_H

#include "kv/kv.h"

#define KV_SNAPSHOT_MAGIC "mrstate1"
#define KV_SNAPSHOT_VERSION 1

/* How many rows a state with these counters has. */
uint64_t kv_snapshot_rows(const struct kv_meta *meta);

/* Write the derived rows of @env, which holds the others only.
 * MR_E_CORRUPT: a row does not decode. Else as mr_kv_apply(). */
MR_MUST_CHECK enum mr_err kv_rebuild_derived(struct kv_env *env);

#endif /* MR_KV_SNAPSHOT_H */
