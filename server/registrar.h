/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps what configuration files define in the state.
 *
 * A set of definitions is registered by commands as the API's; what an earlier
 * set had and this one has not is taken out. Which those are is noted in a file
 * of the data folder before anything is registered, so it is also known when a
 * definition was deleted while the agent was down. What came by the API is left
 * alone.
 *
 * Core thread, but for what says otherwise.
 */
#ifndef MR_SERVER_REGISTRAR_H
#define MR_SERVER_REGISTRAR_H

#include <stdbool.h>

#include "api/mr_api.h"
#include "base/err.h"
#include "server/definitions.h"

struct server_agent;
struct server_registrar;

/* Begin with @defs, which are taken and left empty. Before the loop runs;
 * reads the note. On success it is agent->registrar, to be released by
 * server_registrar_free(). MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_registrar_new(struct server_agent *agent,
                                               struct server_definitions *defs,
                                               struct mr_detail *detail);

/* Check that the services which the checks of @defs name are there, or come
 * with them. MR_E_INVALID with @detail. */
MR_MUST_CHECK enum mr_err
server_registrar_check(struct server_agent *agent,
                       const struct server_definitions *defs,
                       struct mr_detail *detail);

/* Go over to @defs, which are taken and left empty; @done (may be NULL) is told
 * when all of it holds, or that it does not yet. */
void server_registrar_replace(struct server_agent *agent,
                              struct server_definitions *defs,
                              mr_api_host_cb done, void *request);

/* Do what there is to do; every second, and when a command ended. */
void server_registrar_run(struct server_agent *agent);

/* Do nothing more, and tell those who wait. Before raft closes. */
void server_registrar_stop(struct server_agent *agent);

/* Release it, when the loop has ended. */
void server_registrar_free(struct server_agent *agent);

/* Whether a file says of @check that this command is to be run. Any thread. */
bool server_registrar_has_script(struct server_agent *agent,
                                 const Mr__Check *check);

#endif /* MR_SERVER_REGISTRAR_H */
