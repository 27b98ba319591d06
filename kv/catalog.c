/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands on the catalog: register, deregister, check update (parity 6).
 * Merging: node fields are replaced, other services and checks are kept.
 */
#include "kv/catalog.h"

/* ------------------------------------------------------------ nodes */

static void touch_node(struct kv_batch *b, const char *node)
{
    b->meta.nodes_rev = kv_batch_revision(b);
    kv_batch_touch(b, MR_KV_TOPIC_NODES, mr_slice(NULL, 0));
    kv_batch_touch(b, MR_KV_TOPIC_NODE, mr_slice_str(node));
}

/* The names in the second part of the rows of @node in @table. */
static size_t list_parts(struct kv_batch *b, enum kv_table table,
                         const char *node, struct mr_slice **out_names)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;
    struct mr_slice parts[2];
    struct mr_slice *names = NULL;
    size_t n = 0;
    size_t cap = 0;

    kv_node_part_key(&k, table, node, "");
    kv_scan_open(&scan, &b->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        if (!kv_key_split(row.key, parts, 2)) {
            kv_tx_fail(&b->tx, MR_E_CORRUPT);
        } else if (!kv_arena_push(&b->arena, &names, &n, &cap,
                                  kv_arena_copy0(&b->arena, parts[1]))) {
            break;
        }
    }
    kv_scan_close(&scan);
    *out_names = names;
    return b->arena.failed ? 0 : n;
}

static void remove_parts(struct kv_batch *b, const char *node, bool agent_only)
{
    struct mr_slice *names;
    size_t n = list_parts(b, KV_NODE_SERVICE, node, &names);
    size_t i;

    for (i = 0; i < n; i++) {
        kv_service_remove(b, node, names[i].data, agent_only);
    }
    n = list_parts(b, KV_NODE_CHECK, node, &names);
    for (i = 0; i < n; i++) {
        kv_check_remove(b, node, names[i].data, agent_only);
    }
}

static void remove_node(struct kv_batch *b, const Mr__Node *node)
{
    struct kv_row_key k;

    remove_parts(b, node->name, false);
    touch_node(b, node->name);
    kv_index_node(&b->tx, node, false);
    kv_node_key(&k, node->name);
    (void)kv_tx_del(&b->tx, kv_key_slice(&k)); /* It was found. */
    b->meta.nodes--;
}

static void ensure_node(struct kv_batch *b, const Mr__Node *node,
                        uint64_t create_rev)
{
    Mr__Node *old = kv_node_find(&b->tx, &b->arena, node->name);
    struct kv_row_key k;
    struct kv_revs revs;
    struct mr_slice value;
    enum kv_found found;

    kv_node_key(&k, node->name);
    mr_buf_reset(&b->body);
    kv_pack_node(&b->body, node);
    found = kv_batch_compare(b, kv_key_slice(&k), mr_buf_slice(&b->body),
                             &value, &revs);
    if (found == KV_SAME) {
        return;
    }
    kv_batch_write(b, kv_key_slice(&k), found == KV_ABSENT ? NULL : &value,
                   mr_buf_slice(&b->body),
                   create_rev == 0 ? revs.create : create_rev);
    if (old != NULL) {
        kv_index_node(&b->tx, old, false);
    }
    kv_index_node(&b->tx, node, true);
    b->meta.nodes += old == NULL ? 1 : 0;
    touch_node(b, node->name);
    kv_node_bump_services(b, node->name);
}

/* Create, change or rename a node. A rename leaves nothing of what was on it. */
static void change_node(struct kv_batch *b, const Mr__Node *node)
{
    Mr__Node *renamed = kv_node_by_id(b, node->id);
    uint64_t create_rev = 0;

    if (renamed != NULL && !kv_same_name(renamed->name, node->name)) {
        create_rev = renamed->create_rev;
        remove_node(b, renamed);
    }
    ensure_node(b, node, create_rev);
}

/* Whether @cmd leaves its node as it is: nearly always. Then its name and ID
 * need no check either. */
static bool keeps_node(struct kv_batch *b, const Mr__Register *cmd)
{
    struct kv_row_key k;
    struct kv_revs revs;
    struct mr_slice value;
    enum kv_found found;

    kv_node_key(&k, cmd->node->name);
    mr_buf_reset(&b->body);
    kv_pack_node(&b->body, cmd->node);
    found = kv_batch_compare(b, kv_key_slice(&k), mr_buf_slice(&b->body),
                             &value, &revs);
    return found == KV_SAME || (found == KV_OTHER && cmd->skip_node_update);
}

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
    is_kept = keeps_node(b, cmd);
    if ((!is_kept && !kv_node_allowed(b, cmd->node)) ||
        !kv_parts_allowed(b, cmd)) {
        return;
    }
    if (!is_kept) {
        change_node(b, cmd->node);
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

void kv_catalog_deregister(struct kv_batch *b, const Mr__Deregister *cmd)
{
    Mr__Node *node;

    if (cmd->node[0] == '\0') {
        kv_batch_refuse(b, "Must provide node");
        return;
    }
    if (cmd->service_id[0] != '\0') {
        kv_service_remove(b, cmd->node, cmd->service_id, cmd->agent_only);
    } else if (cmd->check_id[0] != '\0') {
        kv_check_remove(b, cmd->node, cmd->check_id, cmd->agent_only);
    } else if (cmd->agent_only) {
        remove_parts(b, cmd->node, true);
    } else {
        node = kv_node_find(&b->tx, &b->arena, cmd->node);
        if (node != NULL) {
            remove_node(b, node);
        }
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
