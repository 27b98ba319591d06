/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a registration must satisfy, in Consul's order and words (parity 6).
 * Everything is looked at before anything is written, because a refused command
 * must leave no trace.
 */
#include "kv/catalog.h"

static bool too_long(struct kv_batch *b, const char *what, const char *text,
                     size_t max)
{
    if (strlen(text) <= max) {
        return false;
    }
    kv_batch_refuse(b, "%s is too long (limit: %zu bytes)", what, max);
    return true;
}

/* Whether the name that @node asks for belongs to a live member other than
 * @node. Without a serfHealth check nobody watches the node, so its name can
 * be taken over. */
static bool name_reserved(struct kv_batch *b, const Mr__Node *node,
                          const Mr__Node *owner, bool is_new_id)
{
    struct kv_row_key k;
    struct kv_row row;
    Mr__Check *serf;
    enum mr_err err;

    if (owner == NULL || kv_same_name(owner->id, node->id) ||
        (owner->id[0] == '\0' && is_new_id) ||
        !kv_check_find(&b->tx, owner->name, "serfHealth", &k, &row.value)) {
        return false;
    }
    row.key = kv_key_slice(&k);
    err = kv_unpack_check(&b->arena, &row, owner->name, NULL, &serf);
    if (err != MR_OK) {
        kv_tx_fail(&b->tx, err);
        return false;
    }
    return strcmp(serf->status, "critical") != 0;
}

Mr__Node *kv_node_by_id(struct kv_batch *b, const char *id)
{
    struct kv_row_key k;
    struct mr_slice name;
    const char *text;

    kv_key_init(&k, KV_NODE_ID);
    kv_key_lower(&k, id);
    if (id[0] == '\0' || !kv_tx_get(&b->tx, kv_key_slice(&k), &name)) {
        return NULL;
    }
    text = kv_arena_text(&b->arena, name);
    return text == NULL ? NULL : kv_node_find(&b->tx, &b->arena, text);
}

bool kv_node_allowed(struct kv_batch *b, const Mr__Node *node)
{
    Mr__Node *same_id = kv_node_by_id(b, node->id);
    Mr__Node *owner = kv_node_find(&b->tx, &b->arena, node->name);
    bool is_renamed =
        same_id != NULL && !kv_same_name(same_id->name, node->name);

    if (node->id[0] != '\0' && (is_renamed || same_id == NULL) &&
        name_reserved(b, node, owner, same_id == NULL)) {
        kv_batch_refuse(b,
                        "failed inserting node: Error while renaming Node ID: "
                        "\"%s\"%s%s%s: Node name %s is reserved by node %s "
                        "with name %s (%s)",
                        node->id, is_renamed ? " (" : "",
                        is_renamed ? node->address : "", is_renamed ? ")" : "",
                        node->name, owner->id, owner->name, owner->address);
        return false;
    }
    return !too_long(b, "Node name", node->name, KV_NODE_NAME_MAX) &&
           !too_long(b, "Node ID", node->id, KV_NODE_ID_MAX);
}

bool kv_service_fenced(struct kv_batch *b, const char *node, const char *id,
                       uint64_t incarnation)
{
    struct kv_row_key k;
    struct kv_revs revs;
    struct mr_slice body;

    if (incarnation == 0 || !kv_service_find(&b->tx, node, id, &k, &body) ||
        !kv_get_revs(&body, &revs) ||
        kv_body_u64(body, KV_SERVICE_INCARNATION) <= incarnation) {
        return false;
    }
    kv_batch_refuse(b, "fenced: a newer incarnation of \"%s\" is registered",
                    id);
    return true;
}

static bool service_allowed(struct kv_batch *b, const char *node,
                            const Mr__Service *service)
{
    if (service->id[0] == '\0' || service->name[0] == '\0') {
        kv_batch_refuse(b, "failed inserting service: failed inserting "
                           "service: object missing primary index");
        return false;
    }
    return !too_long(b, "Service name", service->name, KV_SERVICE_NAME_MAX) &&
           !too_long(b, "Service ID", service->id, KV_SERVICE_ID_MAX) &&
           !kv_service_fenced(b, node, service->id, service->incarnation);
}

static bool service_exists(struct kv_batch *b, const Mr__Register *cmd,
                           const char *id)
{
    struct kv_row_key k;
    struct mr_slice value;
    size_t i;

    for (i = 0; i < cmd->n_services; i++) {
        if (strcmp(cmd->services[i]->id, id) == 0) {
            return true;
        }
    }
    return kv_service_find(&b->tx, cmd->node->name, id, &k, &value);
}

static bool check_allowed(struct kv_batch *b, const Mr__Register *cmd,
                          const Mr__Check *check)
{
    const char *node = cmd->node->name;

    if (check->node[0] != '\0' && strcmp(check->node, node) != 0) {
        kv_batch_refuse(b, "check node \"%s\" does not match node \"%s\"",
                        check->node, node);
        return false;
    }
    if (check->check_id[0] == '\0') {
        kv_batch_refuse(b,
                        "failed inserting check: failed inserting check: "
                        "object missing primary index on node \"%s\"",
                        node);
        return false;
    }
    if (check->service_id[0] != '\0' &&
        !service_exists(b, cmd, check->service_id)) {
        kv_batch_refuse(b,
                        "failed inserting check: Missing service registration "
                        "on node \"%s\"",
                        node);
        return false;
    }
    return !too_long(b, "Check ID", check->check_id, KV_CHECK_ID_MAX);
}

bool kv_parts_allowed(struct kv_batch *b, const Mr__Register *cmd)
{
    size_t i;

    for (i = 0; i < cmd->n_services; i++) {
        if (!service_allowed(b, cmd->node->name, cmd->services[i])) {
            return false;
        }
    }
    for (i = 0; i < cmd->n_checks; i++) {
        if (!check_allowed(b, cmd, cmd->checks[i])) {
            return false;
        }
    }
    return b->tx.err == MR_OK;
}
