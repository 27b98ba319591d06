/* SPDX-License-Identifier: Apache-2.0 */
/* What the ring of events says, in English. Pure functions. */
#ifndef API_WHY_TEXT_H
#define API_WHY_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "health/mr_lease.h"
#include "kv/mr_kv.h"

/* Whether the thing itself is gone after @event: a lease that ends also makes a
 * check critical, or declares a node's agent dead. */
bool why_text_is_end(const struct mr_kv_event *event);

/* Append a length of time: "0.250 s", "10.2 s", "3 min 20 s", "2 h 5 min",
 * "3 d 4 h". */
void why_text_span(struct mr_buf *out, uint64_t ms);

/* Append a time since 1970: "2026-11-21 05:23:41.123 UTC"; "an unknown time"
 * for 0. */
void why_text_time(struct mr_buf *out, uint64_t ms);

/* Append what @event was, as one sentence that begins with a small letter and
 * has no full stop: "ended by leader n2 in term 4: ...". */
void why_text_event(struct mr_buf *out, const struct mr_kv_event *event);

/* Append what is known of a lease's term: "renewed 1.2 s ago, ends in 8.8 s
 * unless renewed again (TTL 10.0 s)". @verb is what began it, @unless what would
 * save it. */
void why_text_lease(struct mr_buf *out, const struct mr_lease_age *age,
                    const char *verb, const char *unless);

/* The name of a kind as the API shows it: "registration". Static. */
const char *why_text_kind(Mr__LeaseKind kind);

#endif /* API_WHY_TEXT_H */
