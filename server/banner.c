/* SPDX-License-Identifier: Apache-2.0 */
/* What this server is, as Consul prints it at its start. */
#include "server/agent.h"

#include <stdio.h>

#include "server/version.h"

static void join_words(const struct server_list *list, struct mr_buf *out)
{
    for (size_t i = 0; i < list->n; i++) {
        mr_buf_printf(out, "%s%s", i == 0 ? "" : " ", list->items[i]);
    }
}

void server_banner(const struct server_agent *agent)
{
    const struct server_config *cfg = &agent->cfg;
    struct mr_buf client = MR_BUF_INIT;

    join_words(&cfg->http_ips, &client);
    (void)printf("==> Starting microreg agent...\n"
                 "           Version: '%s'\n"
                 "           Node ID: '%s'\n"
                 "         Node name: '%s'\n"
                 "        Datacenter: '%s' (Segment: '<all>')\n"
                 "            Server: %s (Bootstrap: %s)\n"
                 "       Client Addr: [%s] (HTTP: %d, HTTPS: -1, gRPC: -1, "
                 "DNS: %d)\n"
                 "      Cluster Addr: %s (Server: %d)\n"
                 "           Encrypt: TLS-Outgoing: false, TLS-Incoming: "
                 "false\n"
                 "          Data dir: %s%s\n"
                 "\n==> Log data will now stream in as it occurs:\n\n",
                 server_version(), agent->identity.node_id, cfg->node_name,
                 cfg->datacenter, cfg->server ? "true" : "false",
                 cfg->bootstrap_expect == 1 ? "true" : "false",
                 mr_buf_cstr(&client), (int)cfg->http_port, (int)cfg->dns_port,
                 cfg->advertise_ip, (int)cfg->server_port, agent->identity.dir,
                 agent->identity.is_temporary ? " (removed at the end)" : "");
    (void)fflush(stdout); /* Nobody to tell when it fails. */
    mr_buf_deinit(&client);
}
