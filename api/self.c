/* SPDX-License-Identifier: Apache-2.0 */
/* This agent's own rows: node, serfHealth and the service "consul". */
#include "api/self.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

/* One pair in the arena, put at @out. */
static bool add_pair(struct decode *d, Mr__Pair **out, const char *key,
                     const char *value)
{
    Mr__Pair *pair = decode_alloc(d, sizeof *pair);

    if (pair == NULL) {
        return false;
    }
    mr__pair__init(pair);
    pair->key = (char *)key;
    pair->value = (char *)value;
    *out = pair;
    return true;
}

/* @n pairs of @texts (key, value, key, value ...) in the arena, or NULL. */
static Mr__Pair **make_pairs(struct decode *d, const char *const *texts,
                             size_t n)
{
    Mr__Pair **pairs = decode_alloc(d, (n + 1) * sizeof *pairs);

    for (size_t i = 0; pairs != NULL && i < n; i++) {
        if (!add_pair(d, &pairs[i], texts[2 * i], texts[2 * i + 1])) {
            return NULL;
        }
    }
    return pairs;
}

static int compare_pairs(const void *a, const void *b)
{
    return strcmp((*(Mr__Pair *const *)a)->key, (*(Mr__Pair *const *)b)->key);
}

Mr__Node *self_node(const struct mr_api_agent *agent, struct decode *d)
{
    bool is_v6 = mr_ip_family(agent->address) == 6;
    const char *const addresses[] = {
        "lan", agent->address, is_v6 ? "lan_ipv6" : "lan_ipv4", agent->address,
        "wan", agent->address, is_v6 ? "wan_ipv6" : "wan_ipv4", agent->address,
    };
    Mr__Node *node = decode_alloc(d, sizeof *node);
    size_t n_meta = agent->n_meta + 1;

    if (node == NULL) {
        return NULL;
    }
    mr__node__init(node);
    node->name = (char *)agent->node_name;
    node->id = (char *)agent->node_id;
    node->address = (char *)agent->address;
    node->datacenter = (char *)agent->datacenter;
    node->ttl_ms = agent->node_ttl_ms;
    node->reap_ms = agent->node_reap_ms;
    node->has_tagged_addresses = true;
    node->n_tagged_addresses = MR_ARRAY_LEN(addresses) / 2;
    node->tagged_addresses = make_pairs(d, addresses, node->n_tagged_addresses);
    node->has_meta = true;
    node->n_meta = n_meta;
    node->meta = make_pairs(d, agent->meta, agent->n_meta);
    if (node->tagged_addresses == NULL || node->meta == NULL ||
        !add_pair(d, &node->meta[agent->n_meta], "consul-network-segment",
                  "")) {
        return NULL;
    }
    qsort(node->meta, n_meta, sizeof(Mr__Pair *), compare_pairs);
    return node;
}

Mr__Register *self_register(const struct mr_api_agent *agent, struct decode *d)
{
    Mr__Register *command = decode_alloc(d, sizeof *command);

    if (command == NULL) {
        return NULL;
    }
    mr__register__init(command);
    command->skip_node_update = true;
    command->node = self_node(agent, d);
    return command->node == NULL ? NULL : command;
}

/* The service that every server is. */
static bool fill_consul(const struct mr_api_agent *agent, struct decode *d,
                        Mr__Service *service)
{
    const char *const meta[] = {
        "non_voter",
        "false",
        "raft_version",
        "3",
        "serf_protocol_current",
        "2",
        "serf_protocol_max",
        "5",
        "serf_protocol_min",
        "1",
        "version",
        agent->consul_version,
    };

    service->id = (char *)"consul";
    service->name = (char *)"consul";
    service->port = agent->server_port;
    service->weight_passing = 1;
    service->weight_warning = 1;
    service->n_meta = MR_ARRAY_LEN(meta) / 2;
    service->meta = make_pairs(d, meta, service->n_meta);
    return service->meta != NULL;
}

void mr_api_self_command(const struct mr_api_agent *agent, struct mr_buf *out)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Check health = MR__CHECK__INIT;
    Mr__Check *checks[] = {&health};
    Mr__Service consul = MR__SERVICE__INIT;
    Mr__Service *services[] = {&consul};
    struct decode d;
    Mr__Register *command;

    decode_init(&d);
    command = self_register(agent, &d);
    if (command == NULL || !fill_consul(agent, &d, &consul)) {
        out->failed = true;
        goto done;
    }
    health.check_id = (char *)SELF_HEALTH_ID;
    health.name = (char *)"Serf Health Status";
    health.status = (char *)"passing";
    health.output = (char *)"Agent alive and reachable";
    command->skip_node_update = false;
    command->checks = checks;
    command->n_checks = 1;
    command->services = services;
    command->n_services = agent->is_server ? 1 : 0;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = command;
    mr_kv_command_encode(&cmd, out);
done:
    decode_deinit(&d);
}
