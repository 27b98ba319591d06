/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the rows that a command wrote to the changes of the objects that answers
 * show. An object is looked at twice, as it was before the command (captured
 * rows in place of those in the tree) and as it is; what differs is an event.
 */
#ifndef MR_KV_RECORD_H
#define MR_KV_RECORD_H

#include "kv/kv.h"

/* Prepare for the commands of @b, of which at most @max_bytes each are
 * recorded. */
void kv_recorder_init(struct kv_recorder *r, struct kv_batch *b,
                      size_t max_bytes);

/* Release it. */
void kv_recorder_deinit(struct kv_recorder *r);

/* Add the events of the command just applied to b->pending. */
void kv_record(struct kv_batch *b);

#endif /* MR_KV_RECORD_H */
