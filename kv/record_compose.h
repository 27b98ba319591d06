/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as they were before a command, and as they are after it. */
#ifndef MR_KV_RECORD_COMPOSE_H
#define MR_KV_RECORD_COMPOSE_H

#include "kv/kv.h"

enum kv_when { KV_BEFORE, KV_AFTER };

/* Each appends the object of the row @key to @out, packed as kv/history.h has
 * it, without what no answer shows; nothing when it was (or is) not there. */
void kv_compose_node(struct kv_recorder *r, enum kv_when when,
                     struct mr_slice key, struct mr_buf *out);
/* As kv_compose_node(), the instance of a service's row. Returns the worst of
 * its checks' statuses; static. */
const char *kv_compose_instance(struct kv_recorder *r, enum kv_when when,
                                struct mr_slice key, struct mr_buf *out);
/* As kv_compose_node(), of a check's row. Returns its status, valid until the
 * next command, or NULL. */
const char *kv_compose_check(struct kv_recorder *r, enum kv_when when,
                             struct mr_slice key, struct mr_buf *out);

/* The name of the service whose captured row is the one at @at: append what
 * became of it, nothing when it is as before. Returns how many captured rows
 * are of this name. */
size_t kv_compose_name(struct kv_recorder *r, size_t at,
                       enum mr_kv_action *out_action, struct mr_buf *out);

#endif /* MR_KV_RECORD_COMPOSE_H */
