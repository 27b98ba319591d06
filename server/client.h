/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent without -server has in place of raft: a store of its own
 * (local.h), the link to the servers (link.h), and what keeps both sides equal
 * (sync.h). Core thread, but for what says otherwise.
 */
#ifndef MR_SERVER_CLIENT_H
#define MR_SERVER_CLIENT_H

#include "api/mr_api.h"
#include "base/err.h"
#include "dns/mr_dns.h"

struct server_agent;

/* Start all three; the agent's kv, leases and self are there. On failure what
 * was started is server_client_stop()'s. */
MR_MUST_CHECK enum mr_err server_client_start(struct server_agent *agent,
                                              void (*on_fatal)(void *arg,
                                                               enum mr_err err,
                                                               const char *why),
                                              struct mr_detail *detail);

/* Stop them: requests that were passed on end, and what the store was asked is
 * done. A server is fine. */
void server_client_stop(struct server_agent *agent);

/* Release them, when nobody can call any more. */
void server_client_free(struct server_agent *agent);

/* As mr_dns_options.forward, with the agent as argument. Any thread. */
bool server_client_dns(void *agent, struct mr_dns_forward *dns);

/* Fill in what the API may ask of an agent without -server. */
void server_client_host(struct server_agent *agent, struct mr_api_host *host);

#endif /* MR_SERVER_CLIENT_H */
