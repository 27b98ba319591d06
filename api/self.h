/* SPDX-License-Identifier: Apache-2.0 */
/* What the catalog holds about this agent itself. */
#ifndef API_SELF_H
#define API_SELF_H

#include "api/decode.h"
#include "api/mr_api.h"
#include "kv/mr_kv.h"

#define SELF_HEALTH_ID "serfHealth" /* The check that an agent lives. */

/* This agent's node row, in the arena of @d and with texts of @agent; NULL
 * without memory. */
Mr__Node *self_node(const struct mr_api_agent *agent, struct decode *d);

/* A command that registers something on this agent's node: the node row, for
 * the case that there is none, and nothing else yet. NULL without memory. */
Mr__Register *self_register(const struct mr_api_agent *agent, struct decode *d);

#endif /* API_SELF_H */
