/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands on the catalog: register, deregister, check update (parity 6).
 * Merging: node fields are replaced, other services and checks are kept.
 */
#include "kv/catalog.h"
#include "kv/lefts.h"

/* ------------------------------------------------------------ commands */

/* Create or change a check; one of the same type keeps its result if asked. */
static void ensure_check(struct kv_batch *b, const char *node,
                         const Mr__Check *check, bool keeps_state)
{
    Mr__Check wanted = *check;
    Mr__Check *old =
        keeps_state ? kv_check_get(b, node, check->check_id) : NULL;

    if (old != NULL && strcmp(old->type, check->type) == 0) {
        wanted.status = old->status;
        wanted.output = old->output;
    }
    kv_check_ensure(b, node, &wanted);
}

void kv_catalog_register(struct kv_batch *b, const Mr__Register *cmd)
{
    bool is_kept;
    const char *node;
    size_t i;

    if (cmd->node == NULL || cmd->node->name[0] == '\0') {
        kv_batch_refuse(b, "Must provide node");
        return;
    }
    node = cmd->node->name;
    is_kept = kv_node_kept(b, cmd);
    if ((!is_kept && !kv_node_allowed(b, cmd->node)) ||
        !kv_parts_allowed(b, cmd)) {
        return;
    }
    if (!is_kept) {
        kv_node_change(b, cmd->node);
    }
    for (i = 0; i < cmd->n_services; i++) {
        kv_service_ensure(b, node, cmd->services[i]);
        if (cmd->replace_checks) {
            kv_service_checks_remove(b, node, cmd->services[i]->id, cmd);
        }
    }
    for (i = 0; i < cmd->n_checks; i++) {
        ensure_check(b, node, cmd->checks[i], cmd->keep_check_state);
    }
}

static enum kv_scope scope_of(const Mr__Deregister *cmd)
{
    return cmd->agent_only      ? KV_SCOPE_AGENT
           : cmd->registry_only ? KV_SCOPE_REGISTRY
                                : KV_SCOPE_ALL;
}

static void deregister_node(struct kv_batch *b, const Mr__Deregister *cmd)
{
    Mr__Node *node = kv_node_find(&b->tx, &b->arena, cmd->node);

    if (!cmd->left) {
        kv_left_drop(b, cmd->node); /* Whoever left is not to be known. */
    }
    if (node == NULL) {
        return;
    }
    kv_node_remove(b, node);
    if (cmd->left) {
        kv_left_add(b, node, cmd->is_server, cmd->left_ms);
    }
}

void kv_catalog_deregister(struct kv_batch *b, const Mr__Deregister *cmd)
{
    enum kv_scope scope = scope_of(cmd);

    if (cmd->node[0] == '\0') {
        kv_batch_refuse(b, "Must provide node");
        return;
    }
    if (cmd->service_id[0] != '\0') {
        if (!kv_service_fenced(b, cmd->node, cmd->service_id,
                               cmd->incarnation) &&
            kv_service_remove(b, cmd->node, cmd->service_id, scope)) {
            kv_node_prune(b, cmd->node);
        }
    } else if (cmd->check_id[0] != '\0') {
        kv_check_remove(b, cmd->node, cmd->check_id, scope);
    } else if (scope != KV_SCOPE_ALL) {
        kv_node_parts_remove(b, cmd->node, scope);
        kv_node_prune(b, cmd->node);
    } else {
        deregister_node(b, cmd);
    }
}

static bool has_ttl(const Mr__Check *check)
{
    return strcmp(check->type, "ttl") == 0 ||
           (check->definition != NULL && check->definition->ttl_ns > 0);
}

void kv_catalog_check_update(struct kv_batch *b, const Mr__CheckUpdate *cmd)
{
    Mr__Check *old = kv_check_get(b, cmd->node, cmd->check_id);
    Mr__Check wanted;

    if (cmd->ttl_only && (old == NULL || !has_ttl(old))) {
        kv_batch_refuse(b, "CheckID \"%s\" does not have associated TTL",
                        cmd->check_id);
        return;
    }
    if (old == NULL) {
        kv_batch_refuse(b, "Unknown check \"%s\"", cmd->check_id);
        return;
    }
    wanted = *old;
    wanted.output = cmd->output;
    if (cmd->status[0] != '\0') {
        wanted.status = cmd->status;
    }
    kv_check_ensure(b, cmd->node, &wanted);
}
