/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing nodes, and the lease of an agent's node:
 *
 *   no lease --Register with ttl_ms--> NODE --silent--> NODE_REAP --> removed
 *                                       ^                   |
 *                                       +----Register-------+
 *
 * Without reap_ms a node whose agent fell silent has no lease and stays. A
 * registration that has no ttl_ms is not the agent's: it leaves the lease alone.
 */
#include "kv/catalog.h"
#include "kv/events.h"
#include "kv/leases.h"
#include "kv/lefts.h"
#include "kv/sessions.h"

#define SERF_CHECK "serfHealth"
#define SERF_DEAD "Agent not live or unreachable"
#define REGISTRY_PREFIX "registry:"

void kv_node_touch(struct kv_batch *b, const char *node)
{
    b->meta.nodes_rev = kv_batch_revision(b);
    kv_batch_touch(b, MR_KV_TOPIC_NODES, mr_slice(NULL, 0));
    kv_batch_touch(b, MR_KV_TOPIC_NODE, mr_slice_str(node));
}

size_t kv_node_parts(struct kv_batch *b, enum kv_table table, const char *node,
                     struct mr_slice **out_names)
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

static bool has_parts(struct kv_batch *b, enum kv_table table, const char *node)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;
    bool has_any;

    kv_node_part_key(&k, table, node, "");
    if (kv_tx_is_near(&b->tx, kv_key_slice(&k))) {
        return true;
    }
    kv_scan_open(&scan, &b->tx, kv_key_slice(&k));
    has_any = kv_scan_next(&scan, &row);
    kv_scan_close(&scan);
    return has_any;
}

/* ------------------------------------------------------------ leases */

/* What the row of @asked will hold, when its body is @old now: a lease stays
 * until kv_node_change() or kv_node_end() gives another. */
static Mr__Node with_lease(const Mr__Node *asked, struct mr_slice old)
{
    Mr__Node wanted = *asked;

    wanted.lease_id = kv_body_u64(old, KV_NODE_LEASE);
    if (asked->ttl_ms == 0) {
        wanted.ttl_ms = kv_body_u64(old, KV_NODE_TTL);
        wanted.reap_ms = kv_body_u64(old, KV_NODE_REAP);
    }
    return wanted;
}

/* A lease for the silence of @node, or, once that is over, for its removal;
 * 0 when none is due. */
static uint64_t make_lease(struct kv_batch *b, const Mr__Node *node,
                           Mr__LeaseKind kind)
{
    Mr__Lease lease = MR__LEASE__INIT;

    lease.kind = kind;
    lease.node = node->name;
    lease.ttl_ms =
        kind == MR__LEASE_KIND__LEASE_NODE ? node->ttl_ms : node->reap_ms;
    return lease.ttl_ms == 0 ? 0 : kv_lease_make(b, &lease);
}

static bool body_is_dead(struct kv_batch *b, struct mr_slice body)
{
    return kv_body_u64(body, KV_NODE_TTL) > 0 &&
           !kv_lease_is(&b->tx, kv_body_u64(body, KV_NODE_LEASE),
                        MR__LEASE_KIND__LEASE_NODE);
}

bool kv_node_is_dead(struct kv_batch *b, const char *node)
{
    struct kv_row_key k;
    struct kv_revs revs;
    struct mr_slice body;

    kv_node_key(&k, node);
    return kv_tx_get(&b->tx, kv_key_slice(&k), &body) &&
           kv_get_revs(&body, &revs) && body_is_dead(b, body);
}

/* Write @node, found at @revs, with another lease: nothing that is shown. */
static void rewrite(struct kv_batch *b, const Mr__Node *node)
{
    struct kv_revs revs = {node->create_rev, node->modify_rev};
    struct kv_row_key k;
    struct mr_slice old;

    kv_node_key(&k, node->name);
    mr_buf_reset(&b->body);
    kv_pack_node(&b->body, node);
    if (kv_tx_get(&b->tx, kv_key_slice(&k), &old)) {
        kv_batch_rewrite(b, kv_key_slice(&k), old, mr_buf_slice(&b->body),
                         revs);
    }
}

void kv_node_end(struct kv_batch *b, const char *name)
{
    Mr__Node *node = kv_node_find(&b->tx, &b->arena, name);
    Mr__Check *serf;

    if (node == NULL) {
        return;
    }
    node->lease_id = make_lease(b, node, MR__LEASE_KIND__LEASE_NODE_REAP);
    rewrite(b, node);
    kv_event_node(b, MR_KV_EVENT_STATUS, node->name);
    serf = kv_check_get(b, node->name, SERF_CHECK);
    if (serf != NULL) {
        kv_check_fail(b, serf, SERF_DEAD);
    }
    kv_node_checks_settle(b, node->name);
}

/* ------------------------------------------------------------ removal */

void kv_node_parts_remove(struct kv_batch *b, const char *node,
                          enum kv_scope scope)
{
    struct mr_slice *names;
    size_t n = kv_node_parts(b, KV_NODE_SERVICE, node, &names);
    size_t i;

    for (i = 0; i < n; i++) {
        (void)kv_service_remove(b, node, names[i].data,
                                scope); /* The caller sees to the node. */
    }
    n = kv_node_parts(b, KV_NODE_CHECK, node, &names);
    for (i = 0; i < n; i++) {
        kv_check_remove(b, node, names[i].data, scope);
    }
}

void kv_node_remove(struct kv_batch *b, const Mr__Node *node)
{
    struct kv_row_key k;

    kv_node_parts_remove(b, node->name, KV_SCOPE_ALL);
    kv_node_sessions_end(b, node->name);
    kv_lease_drop(b, node->lease_id);
    kv_node_touch(b, node->name);
    kv_index_node(&b->tx, node, false);
    kv_node_key(&k, node->name);
    (void)kv_tx_del(&b->tx, kv_key_slice(&k)); /* It was found. */
    b->meta.nodes--;
    kv_event_node(b, MR_KV_EVENT_DEREGISTERED, node->name);
}

void kv_node_prune(struct kv_batch *b, const char *name)
{
    Mr__Node *node;

    if (strncmp(name, REGISTRY_PREFIX, strlen(REGISTRY_PREFIX)) != 0 ||
        has_parts(b, KV_NODE_SERVICE, name) ||
        has_parts(b, KV_NODE_CHECK, name)) {
        return;
    }
    node = kv_node_find(&b->tx, &b->arena, name);
    if (node != NULL) {
        kv_node_remove(b, node);
    }
}

/* ------------------------------------------------------------ change */

static void pack_like(struct kv_batch *b, const Mr__Node *node)
{
    mr_buf_reset(&b->body);
    kv_pack_node(&b->body, node);
}

/* Find the row of @node: its value and what of it stays; KV_SAME when @node
 * would change nothing. Leaves the body of *@out_wanted in b->body. */
static enum kv_found compare(struct kv_batch *b, const Mr__Node *node,
                             struct kv_row_key *k, struct mr_slice *out_value,
                             Mr__Node *out_wanted)
{
    struct kv_revs revs;
    struct mr_slice body;

    *out_wanted = *node;
    out_wanted->create_rev = 0;
    out_wanted->lease_id = 0;
    kv_node_key(k, node->name);
    if (!kv_tx_get(&b->tx, kv_key_slice(k), out_value)) {
        return KV_ABSENT;
    }
    body = *out_value;
    if (!kv_get_revs(&body, &revs)) {
        kv_tx_fail(&b->tx, MR_E_CORRUPT);
    }
    *out_wanted = with_lease(node, body);
    out_wanted->create_rev = revs.create;
    pack_like(b, out_wanted);
    return mr_slice_eq(body, mr_buf_slice(&b->body)) &&
                   (node->ttl_ms == 0 || !body_is_dead(b, body))
               ? KV_SAME
               : KV_OTHER;
}

bool kv_node_kept(struct kv_batch *b, const Mr__Register *cmd)
{
    struct kv_row_key k;
    struct mr_slice value;
    Mr__Node wanted;
    enum kv_found found = compare(b, cmd->node, &k, &value, &wanted);

    return found == KV_SAME || (found == KV_OTHER && cmd->skip_node_update);
}

static void write_node(struct kv_batch *b, const struct kv_row_key *k,
                       const Mr__Node *node, const Mr__Node *old)
{
    struct mr_slice value;

    pack_like(b, node);
    if (old != NULL && !kv_tx_get(&b->tx, kv_key_slice(k), &value)) {
        return; /* The transaction failed. */
    }
    kv_batch_write(b, kv_key_slice(k), old == NULL ? NULL : &value,
                   mr_buf_slice(&b->body), node->create_rev);
    if (old != NULL) {
        kv_index_node(&b->tx, old, false);
    }
    kv_index_node(&b->tx, node, true);
    b->meta.nodes += old == NULL ? 1 : 0;
    kv_node_touch(b, node->name);
    kv_node_bump_services(b, node->name);
    if (old != NULL && strcmp(old->name, node->name) != 0) {
        b->meta.checks_rev = b->meta.revision; /* They show its name. */
        kv_batch_touch(b, MR_KV_TOPIC_CHECKS, mr_slice(NULL, 0));
    }
}

static void ensure_node(struct kv_batch *b, const Mr__Node *node,
                        uint64_t create_rev)
{
    Mr__Node *old = kv_node_find(&b->tx, &b->arena, node->name);
    bool was_dead = old != NULL && kv_node_is_dead(b, node->name);
    struct kv_row_key k;
    struct mr_slice value;
    Mr__Node wanted;

    if (compare(b, node, &k, &value, &wanted) == KV_SAME) {
        return;
    }
    if (old == NULL) {
        kv_left_drop(b, node->name); /* It is back. */
    }
    wanted.create_rev = create_rev == 0 ? wanted.create_rev : create_rev;
    if (node->ttl_ms > 0) {
        kv_lease_drop(b, wanted.lease_id);
        wanted.lease_id = make_lease(b, node, MR__LEASE_KIND__LEASE_NODE);
    }
    write_node(b, &k, &wanted, old);
    kv_event_node(b, old == NULL ? MR_KV_EVENT_REGISTERED : MR_KV_EVENT_CHANGED,
                  node->name);
    if (was_dead && node->ttl_ms > 0) {
        kv_node_checks_settle(b, node->name);
    }
}

void kv_node_change(struct kv_batch *b, const Mr__Node *node)
{
    Mr__Node *renamed = kv_node_by_id(b, node->id);
    uint64_t create_rev = 0;

    if (renamed != NULL && !kv_same_name(renamed->name, node->name)) {
        create_rev = renamed->create_rev;
        kv_node_remove(b, renamed);
    }
    ensure_node(b, node, create_rev);
}
