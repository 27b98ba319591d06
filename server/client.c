/* SPDX-License-Identifier: Apache-2.0 */
/* An agent without -server: its three parts, and what the API asks of them. */
#include "server/client.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "server/agent.h"
#include "server/link.h"
#include "server/local.h"
#include "server/sync.h"

#define NS_PER_MS 1000000
#define DNS_ANSWER_MAX 65535
#define HEADERS_MAX 4096
#define DNS_MS 2500 /* A resolver asks somebody else then. */

static void on_linked(void *arg)
{
    const struct server_agent *a = arg;

    server_sync_linked(a->sync);
}

static void on_applied(void *arg)
{
    const struct server_agent *a = arg;

    server_sync_changed(a->sync);
}

static enum mr_err start_link(struct server_agent *a,
                              void (*on_fatal)(void *arg, enum mr_err err,
                                               const char *why),
                              struct mr_detail *detail)
{
    const struct server_config *cfg = &a->cfg;
    const struct server_list *join =
        cfg->start_join.n > 0 ? &cfg->start_join : &cfg->retry_join;
    struct server_link_options options = {
        .join = (const char *const *)join->items,
        .n_join = join->n,
        .must_join = cfg->start_join.n > 0,
        .server_port = (uint16_t)cfg->server_port,
        .interval_ms = (uint64_t)(cfg->retry_interval_ns / NS_PER_MS),
        .node_name = cfg->node_name,
        .datacenter = cfg->datacenter,
        .clock = SERVER_CLOCK,
        .random = SERVER_RANDOM,
        .on_change = on_linked,
        .on_fatal = on_fatal,
        .arg = a,
    };

    return server_link_start(&options, &a->link, detail);
}

enum mr_err server_client_start(struct server_agent *agent,
                                void (*on_fatal)(void *arg, enum mr_err err,
                                                 const char *why),
                                struct mr_detail *detail)
{
    struct server_local_options options = {.kv = agent->kv,
                                           .on_applied = on_applied,
                                           .on_fatal = on_fatal,
                                           .arg = agent};
    enum mr_err err = server_sync_new(agent);

    /* In the store the node has no lease: it is the cluster's to end. */
    agent->self.node_ttl_ms = 0;
    agent->self.node_reap_ms = 0;
    if (err == MR_OK) {
        err = server_local_start(&options, &agent->local);
    }
    if (err != MR_OK) {
        return mr_fail(detail, err, "cannot start the agent's store: %s",
                       mr_strerror(err));
    }
    server_leases_start(agent->leases, NULL);
    return start_link(agent, on_fatal, detail);
}

void server_client_stop(struct server_agent *agent)
{
    server_sync_stop(agent->sync);
    server_link_stop(agent->link);
    server_local_stop(agent->local);
}

void server_client_free(struct server_agent *agent)
{
    server_sync_free(agent->sync);
    server_link_free(agent->link);
    server_local_free(agent->local);
}

/* ------------------------------------------------------------- the API */

static enum mr_err host_propose(void *arg, struct mr_raft_proposal *proposal)
{
    const struct server_agent *a = arg;

    return server_sync_propose(a->sync, proposal);
}

static enum mr_err host_renew(void *arg, struct mr_lease_renewal *renewal)
{
    const struct server_agent *a = arg;

    return server_sync_renew(a->sync, renewal);
}

static enum mr_err host_forward(void *arg, struct mr_api_forward *forward)
{
    const struct server_agent *a = arg;

    return server_link_pass(a->link, forward);
}

static void host_forward_cancel(void *arg, struct mr_api_forward *forward)
{
    const struct server_agent *a = arg;

    server_link_cancel(a->link, forward);
}

static bool host_upstream(void *arg, struct mr_api_upstream *out)
{
    const struct server_agent *a = arg;
    struct server_link_status status;
    struct mr_hostport at;

    server_link_status(a->link, &status);
    memset(out, 0, sizeof *out);
    if (!status.is_connected ||
        mr_hostport_parse(status.server, 0, &at, NULL) != MR_OK) {
        return false;
    }
    (void)snprintf(out->host, sizeof out->host, "%.63s", status.server);
    memcpy(out->cluster, status.cluster, sizeof out->cluster);
    if (inet_pton(AF_INET, at.host, &out->address.v4.sin_addr) == 1) {
        out->address.v4.sin_family = AF_INET;
        out->address.v4.sin_port = htons(at.port);
        out->address_len = sizeof out->address.v4;
        return true;
    }
    if (inet_pton(AF_INET6, at.host, &out->address.v6.sin6_addr) == 1) {
        out->address.v6.sin6_family = AF_INET6;
        out->address.v6.sin6_port = htons(at.port);
        out->address_len = sizeof out->address.v6;
        return true;
    }
    return false;
}

static void host_doubt(void *arg)
{
    const struct server_agent *a = arg;

    server_link_doubt(a->link);
}

static void host_join(void *arg, const char *address, mr_api_host_cb cb,
                      void *request)
{
    const struct server_agent *a = arg;

    server_link_join(a->link, address, cb, request);
}

/* ------------------------------------------------------------- DNS */

/* A DNS question at a server (RFC 8484, but for its path). */
struct question {
    struct mr_api_forward forward;
    struct mr_dns_forward *dns;
};

static void on_answered(struct mr_api_forward *forward, enum mr_err err)
{
    struct question *q = mr_container_of(forward, struct question, forward);
    bool is_good = err == MR_OK && forward->status == 200 &&
                   !mr_buf_failed(&forward->answer);

    q->dns->done(q->dns,
                 is_good ? mr_buf_slice(&forward->answer) : mr_slice(NULL, 0));
    mr_buf_deinit(&forward->answer);
    mr_buf_deinit(&forward->answer_headers);
    mr_free(q);
}

bool server_client_dns(void *agent, struct mr_dns_forward *dns)
{
    static const char *const headers[] = {"Content-Type",
                                          "application/dns-message"};
    const struct server_agent *a = agent;
    struct question *q = mr_calloc(1, sizeof *q);

    if (q == NULL) {
        return false;
    }
    q->dns = dns;
    mr_buf_init(&q->forward.answer, DNS_ANSWER_MAX);
    mr_buf_init(&q->forward.answer_headers, HEADERS_MAX);
    q->forward.method = "POST";
    q->forward.target = dns->is_udp ? "/v1/internal/dns?proto=udp"
                                    : "/v1/internal/dns?proto=tcp";
    q->forward.headers = headers;
    q->forward.n_headers = 1;
    q->forward.body = dns->query;
    q->forward.timeout_ms = DNS_MS;
    q->forward.done = on_answered;
    if (server_link_pass(a->link, &q->forward) != MR_OK) {
        mr_free(q);
        return false;
    }
    return true;
}

void server_client_host(struct server_agent *agent, struct mr_api_host *host)
{
    if (agent->cfg.server) {
        return;
    }
    host->propose = host_propose;
    host->renew = host_renew;
    host->forward = host_forward;
    host->forward_cancel = host_forward_cancel;
    host->upstream = host_upstream;
    host->doubt = host_doubt;
    host->join = host_join;
}
