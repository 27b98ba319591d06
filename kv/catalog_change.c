/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing instances, and what follows from it: the derived tables, the
 * counters, the indexes of parity 4.2 and the topics to wake.
 *
 * A change of a check is a change of its service's answer, and one of a node's
 * own check of every service on the node.
 *
 * An instance with ttl_ms has a REGISTRATION lease, a new one with each change:
 * who registers is alive, and an end that is on its way misses its successor.
 */
#include "kv/catalog.h"
#include "kv/events.h"
#include "kv/leases.h"

/* ------------------------------------------------------------ service names */

void kv_service_bump(struct kv_batch *b, struct mr_slice name, int delta)
{
    uint64_t rev = kv_batch_revision(b);
    struct kv_tally *tally;
    struct kv_row_key k;

    kv_key_init(&k, KV_SERVICE_NAME);
    kv_key_lower_slice(&k, name);
    tally = kv_tally_get(&b->tallies, &b->tx, &k);
    if (tally == NULL) {
        return; /* The transaction has failed. */
    }
    kv_tally_note(&b->tallies, tally);
    if (!tally->is_touched) {
        kv_batch_touch(b, MR_KV_TOPIC_SERVICE, name);
        tally->is_touched = true;
    }
    if (tally->count == 0) {
        b->meta.services++;
        kv_tally_set_text(&b->tallies, tally, name);
        if (mr_slice_eq(mr_slice(k.bytes + 1, k.len - 1), name)) {
            kv_tally_set_text(&b->tallies, tally, mr_slice(NULL, 0));
        }
    }
    tally->is_dirty = true;
    tally->index = rev;
    tally->count += (uint64_t)(int64_t)delta;
    if (tally->count == 0) {
        b->meta.services--;
        b->meta.extinct_rev = rev;
    }
}

void kv_node_bump_services(struct kv_batch *b, const char *node)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;
    struct mr_slice last = {NULL, 0};
    struct mr_slice *names = NULL;
    size_t n = 0;
    size_t cap = 0;
    size_t i;

    kv_node_part_key(&k, KV_NODE_SERVICE, node, "");
    kv_scan_open(&scan, &b->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        if (last.data != NULL && mr_slice_eq(last, row.value)) {
            continue; /* Instances of one service mostly follow each other. */
        }
        last = kv_arena_copy(&b->arena, row.value);
        if (!kv_arena_push(&b->arena, &names, &n, &cap, last)) {
            break;
        }
    }
    kv_scan_close(&scan);
    for (i = 0; i < n; i++) {
        kv_service_bump(b, names[i], 0);
    }
}

/* ------------------------------------------------------------ instances */

static bool same_texts(char **a, size_t n_a, char **b, size_t n_b)
{
    size_t i;

    for (i = 0; i < n_a && i < n_b; i++) {
        if (strcmp(a[i], b[i]) != 0) {
            return false;
        }
    }
    return n_a == n_b;
}

/* The stored instance, decoded, or NULL. */
static Mr__Service *decode_service(struct kv_batch *b, const char *node,
                                   const struct kv_row_key *k,
                                   struct mr_slice value)
{
    struct kv_row row = {kv_key_slice(k), value};
    Mr__Service *service;
    enum mr_err err = kv_unpack_service(&b->arena, &row, node, &service);

    if (err != MR_OK) {
        kv_tx_fail(&b->tx, err);
        return NULL;
    }
    return service;
}

static void touch_instance(struct kv_batch *b, const char *node)
{
    b->meta.services_rev = b->meta.revision;
    kv_batch_touch(b, MR_KV_TOPIC_SERVICES, mr_slice(NULL, 0));
    kv_batch_touch(b, MR_KV_TOPIC_NODE, mr_slice_str(node));
}

/* The checks of @service show its name and tags, so a change of those is one of
 * the answers that hold the checks. */
static void touch_shown_checks(struct kv_batch *b, const Mr__Service *service)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;

    kv_check_key(&k, service->node, service->id, "");
    kv_scan_open(&scan, &b->tx, kv_key_slice(&k));
    if (kv_scan_next(&scan, &row)) {
        b->meta.checks_rev = b->meta.revision;
        kv_batch_touch(b, MR_KV_TOPIC_CHECKS, mr_slice(NULL, 0));
    }
    kv_scan_close(&scan);
}

/* What there is of an instance that is registered. */
struct found_service {
    struct kv_row_key key;
    struct mr_slice value; /* Valid until the next write. */
    Mr__Service *old;      /* NULL: it is new. */
};

/* Write the row of @service in place of @found. */
static void write_service(struct kv_batch *b, struct found_service *found,
                          const Mr__Service *service, bool is_moved)
{
    struct kv_row_key k;
    bool is_new = found->old == NULL || is_moved;

    if (is_moved) {
        (void)kv_tx_del(&b->tx, kv_key_slice(&found->key)); /* It was found. */
        kv_twins_remove(&b->twins, kv_key_slice(&found->key));
    }
    kv_service_key(&k, service->name, service->node, service->id);
    if (!is_new && !kv_tx_get(&b->tx, kv_key_slice(&k), &found->value)) {
        return; /* It moved with a lease's row; the transaction failed. */
    }
    if (is_new) {
        kv_twins_add(&b->twins, kv_key_slice(&k));
    }
    mr_buf_reset(&b->body);
    kv_pack_service(&b->body, service);
    kv_batch_write(b, kv_key_slice(&k), is_new ? NULL : &found->value,
                   mr_buf_slice(&b->body),
                   found->old == NULL ? 0 : found->old->create_rev);
}

/* Change rows and indexes from @found to @service. */
static void replace_service(struct kv_batch *b, struct found_service *found,
                            const Mr__Service *service)
{
    const Mr__Service *old = found->old;
    bool is_moved = old != NULL && !kv_same_name(old->name, service->name);
    bool is_indexed =
        old != NULL && !is_moved &&
        strcmp(old->address, service->address) == 0 &&
        same_texts(old->tags, old->n_tags, service->tags, service->n_tags);

    write_service(b, found, service, is_moved);
    if (old != NULL && !is_indexed) {
        kv_index_service(&b->tx, &b->tallies, old, false);
    }
    if (!is_indexed) {
        kv_index_service(&b->tx, &b->tallies, service, true);
    }
    if (old != NULL && (!is_indexed || strcmp(old->name, service->name) != 0)) {
        touch_shown_checks(b, service);
    }
    if (is_moved) {
        kv_service_bump(b, mr_slice_str(old->name), -1);
    }
    kv_service_bump(b, mr_slice_str(service->name),
                    old == NULL || is_moved ? 1 : 0);
}

/* Find the instance that @wanted will replace, of which @wanted takes over the
 * lease. True when there is nothing to do: it is the same. */
static bool is_same_service(struct kv_batch *b, struct found_service *found,
                            Mr__Service *wanted)
{
    struct kv_row_key k;
    struct kv_revs revs;
    struct mr_slice body;

    wanted->lease_id = 0;
    if (!kv_service_find(&b->tx, wanted->node, wanted->id, &found->key,
                         &found->value)) {
        return false;
    }
    body = found->value;
    if (!kv_get_revs(&body, &revs)) {
        kv_tx_fail(&b->tx, MR_E_CORRUPT);
    }
    wanted->lease_id = kv_body_u64(body, KV_SERVICE_LEASE);
    mr_buf_reset(&b->body);
    kv_pack_service(&b->body, wanted);
    kv_service_key(&k, wanted->name, wanted->node, wanted->id);
    if (mr_slice_eq(body, mr_buf_slice(&b->body)) &&
        mr_slice_eq(kv_key_slice(&k), kv_key_slice(&found->key))) {
        return true;
    }
    found->old = decode_service(b, wanted->node, &found->key, found->value);
    return found->old == NULL; /* The transaction has failed. */
}

/* Give @wanted a lease of its own in place of the one it took over. */
static void renew_lease(struct kv_batch *b, Mr__Service *wanted)
{
    Mr__Lease lease = MR__LEASE__INIT;

    kv_lease_drop(b, wanted->lease_id);
    lease.kind = MR__LEASE_KIND__LEASE_REGISTRATION;
    lease.ttl_ms = wanted->ttl_ms;
    lease.node = wanted->node;
    lease.name = wanted->id;
    wanted->lease_id = lease.ttl_ms == 0 ? 0 : kv_lease_make(b, &lease);
}

void kv_service_ensure(struct kv_batch *b, const char *node,
                       const Mr__Service *service)
{
    Mr__Service wanted = *service;
    struct found_service found = {.old = NULL};

    wanted.node = (char *)(uintptr_t)node;
    if (is_same_service(b, &found, &wanted)) {
        return;
    }
    b->meta.instances += found.old == NULL ? 1 : 0;
    (void)kv_batch_revision(b); /* It changes something for certain. */
    renew_lease(b, &wanted);
    replace_service(b, &found, &wanted);
    touch_instance(b, node);
    b->bumped = service;
    kv_event_service(
        b, found.old == NULL ? MR_KV_EVENT_REGISTERED : MR_KV_EVENT_CHANGED,
        &wanted);
}

bool kv_in_scope(enum kv_scope scope, Mr__Origin origin)
{
    return scope == KV_SCOPE_ALL ||
           (scope == KV_SCOPE_AGENT && origin == MR__ORIGIN__AGENT) ||
           (scope == KV_SCOPE_REGISTRY && origin == MR__ORIGIN__REGISTRY);
}

bool kv_service_remove(struct kv_batch *b, const char *node, const char *id,
                       enum kv_scope scope)
{
    struct kv_row_key k;
    struct mr_slice value;
    Mr__Service *old;

    if (!kv_service_find(&b->tx, node, id, &k, &value)) {
        return false;
    }
    old = decode_service(b, node, &k, value);
    if (old == NULL || !kv_in_scope(scope, old->origin)) {
        return false;
    }
    kv_service_checks_remove(b, node, id, NULL);
    (void)kv_batch_revision(b); /* It changes something for certain. */
    kv_lease_drop(b, old->lease_id);
    kv_index_service(&b->tx, &b->tallies, old, false);
    (void)kv_tx_del(&b->tx, kv_key_slice(&k)); /* It was found. */
    kv_twins_remove(&b->twins, kv_key_slice(&k));
    b->meta.instances--;
    kv_service_bump(b, mr_slice_str(old->name), -1);
    touch_instance(b, node);
    kv_event_service(b, MR_KV_EVENT_DEREGISTERED, old);
    return old->origin == MR__ORIGIN__REGISTRY;
}
