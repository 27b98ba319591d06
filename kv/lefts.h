/* SPDX-License-Identifier: Apache-2.0 */
/* Members that left in order: remembered until they are back, or for so long. */
#ifndef MR_KV_LEFTS_H
#define MR_KV_LEFTS_H

#include "kv/kv.h"

/* Remember @node, which is gone, for @left_ms (0: until it is back). */
void kv_left_add(struct kv_batch *b, const Mr__Node *node, bool is_server,
                 uint64_t left_ms);

/* Forget the member @node, if it is remembered. */
void kv_left_drop(struct kv_batch *b, const char *node);

#endif /* MR_KV_LEFTS_H */
