/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: what makes and ends them. kv/locks.h has what they hold. */
#ifndef MR_KV_SESSIONS_H
#define MR_KV_SESSIONS_H

#include "kv/kv.h"

/* Find and decode the session @id (any case); NULL when there is none or @tx
 * failed. */
Mr__Session *kv_session_find(struct kv_tx *tx, struct kv_arena *arena,
                             const char *id);

/* The key of the session @id. */
void kv_session_key(struct kv_row_key *k, const char *id);

/* Add (@is_added) or remove the derived rows that follow from @session. */
void kv_index_session(struct kv_tx *tx, const Mr__Session *session,
                      bool is_added);

/* Begin the keys of the derived rows that list the sessions of @node. */
void kv_node_session_prefix(struct kv_row_key *k, const char *node);

/* End @session and what it holds. */
void kv_session_end(struct kv_batch *b, const Mr__Session *session);

/* The check @check_id of @node turned critical or is gone: end the sessions
 * that are bound to it. */
void kv_check_sessions_end(struct kv_batch *b, const char *node,
                           const char *check_id);

/* End every session of @node. */
void kv_node_sessions_end(struct kv_batch *b, const char *node);

#endif /* MR_KV_SESSIONS_H */
