/* SPDX-License-Identifier: Apache-2.0 */
/* Telling mr_kv_hooks.event what commands do to registrations. */
#ifndef MR_KV_EVENTS_H
#define MR_KV_EVENTS_H

#include "kv/kv.h"

/* Tell what happens to the node @name. While a lease is ending, what would be
 * DEREGISTERED or STATUS is told as ENDED, with the evidence. */
void kv_event_node(struct kv_batch *b, enum mr_kv_event_kind kind,
                   const char *name);

/* As kv_event_node(), of an instance. */
void kv_event_service(struct kv_batch *b, enum mr_kv_event_kind kind,
                      const Mr__Service *service);

/* As kv_event_node(), of a check, whose service is still there. */
void kv_event_check(struct kv_batch *b, enum mr_kv_event_kind kind,
                    const Mr__Check *check);

/* As kv_event_node(), of a session. */
void kv_event_session(struct kv_batch *b, enum mr_kv_event_kind kind,
                      const Mr__Session *session);

#endif /* MR_KV_EVENTS_H */
