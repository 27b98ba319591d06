/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the rows that a command wrote to the changes of the objects that answers
 * show. An object is looked at twice, as it was before the command (captured
 * rows in place of those in the tree) and as it is; what differs is an event.
 */
#ifndef MR_KV_RECORD_H
#define MR_KV_RECORD_H

#include "kv/kv.h"

/* Add the events of the command just applied, whose capture has ended, to
 * b->pending. */
void kv_record(struct kv_batch *b);

#endif /* MR_KV_RECORD_H */
