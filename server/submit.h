/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the agent itself on their way into the state. */
#ifndef MR_SERVER_SUBMIT_H
#define MR_SERVER_SUBMIT_H

#include "base/err.h"
#include "base/slice.h"
#include "kv/mr_kv.h"

struct server_agent;

/* Told once what became of a command; @result is valid when @err is MR_OK. Any
 * thread, never from within server_submit(). */
typedef void (*server_submit_cb)(void *arg, enum mr_err err,
                                 const struct mr_kv_result *result);

/* Get the encoded command @cmd into the state where this agent's registrations
 * are kept, stamped with the time and @by ("check", "files"). @cmd is borrowed
 * for the call. Any thread. MR_E_BUSY, MR_E_TOOBIG, MR_E_CLOSED, MR_E_NOMEM:
 * @done will not be called. */
MR_MUST_CHECK enum mr_err server_submit(struct server_agent *agent,
                                        struct mr_slice cmd, const char *by,
                                        server_submit_cb done, void *arg);

#endif /* MR_SERVER_SUBMIT_H */
