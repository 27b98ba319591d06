/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of this node's checks, joined with the state. */
#ifndef MR_SERVER_CHECKS_H
#define MR_SERVER_CHECKS_H

#include "base/err.h"

struct server_agent;

/* Start to run the checks of our node. Core thread; ended by
 * server_checks_stop(). Errors as mr_checks_start(). */
MR_MUST_CHECK enum mr_err server_checks_start(struct server_agent *agent,
                                              struct mr_detail *detail);

/* Stop: no more reports after this. Not started is fine. Core thread, before
 * raft closes. */
void server_checks_stop(struct server_agent *agent);

#endif /* MR_SERVER_CHECKS_H */
