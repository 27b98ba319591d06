/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a session's creation, and its rules. */
#ifndef API_SESSION_BODY_H
#define API_SESSION_BODY_H

#include "api/decode.h"
#include "kv/schema.pb-c.h"

/* A TTL may be that short or long; 0 is none. Consul's shortest is 10 s,
 * because its sessions end late. */
#define SESSION_TTL_MIN_MS UINT64_C(1000)
#define SESSION_TTL_MAX_MS (UINT64_C(24) * 3600 * 1000)

/* Why @id is no session's ID, in Consul's words; NULL: it may be one. */
const char *session_id_refusal(const char *id);

/* Read @body, which may be empty, into @out_session, whose texts are those of
 * @d and of the caller: @node is the default node. The ID is not set.
 *
 * MR_E_INVALID: d->error says why; @out_status is the answer's.
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err session_body(struct decode *d, struct mr_slice body,
                                       const char *node,
                                       Mr__Session *out_session,
                                       unsigned *out_status);

#endif /* API_SESSION_BODY_H */
