/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing checks, and the leases that follow from them:
 *  - a check with a TTL that is not critical has a CHECK lease, a new one with
 *    each change, because who reports is alive;
 *  - a check of a service with deregister_after that is critical, or whose
 *    node's agent fell silent, has a CRITICAL lease, which stays the same until
 *    that is over.
 */
#include "kv/catalog.h"
#include "kv/events.h"
#include "kv/leases.h"
#include "kv/sessions.h"

#define NS_PER_MS 1000000
#define CRITICAL "critical"

/* The answers that hold a check of @service_id ("": of the node) changed. */
static void touch_check(struct kv_batch *b, const char *node,
                        const char *service_id)
{
    struct kv_row_key k;
    struct mr_slice name;

    b->meta.checks_rev = kv_batch_revision(b);
    kv_batch_touch(b, MR_KV_TOPIC_CHECKS, mr_slice(NULL, 0));
    kv_batch_touch(b, MR_KV_TOPIC_NODE, mr_slice_str(node));
    if (service_id[0] == '\0') {
        kv_node_bump_services(b, node);
        return;
    }
    if (b->bumped != NULL && strcmp(b->bumped->id, service_id) == 0) {
        return; /* On the same node, by the same command. */
    }
    kv_node_part_key(&k, KV_NODE_SERVICE, node, service_id);
    if (kv_tx_get(&b->tx, kv_key_slice(&k), &name)) {
        /* A copy: the row may move while it is bumped. */
        kv_service_bump(b, kv_arena_copy(&b->arena, name), 0);
    }
}

static Mr__Check *decode(struct kv_batch *b, const char *node,
                         const struct kv_row *row)
{
    Mr__Check *check;
    enum mr_err err = kv_unpack_check(&b->arena, row, node, NULL, &check);

    if (err != MR_OK) {
        kv_tx_fail(&b->tx, err);
        return NULL;
    }
    return check;
}

Mr__Check *kv_check_get(struct kv_batch *b, const char *node,
                        const char *check_id)
{
    struct kv_row_key k;
    struct kv_row row;

    if (!kv_check_find(&b->tx, node, check_id, &k, &row.value)) {
        return NULL;
    }
    row.key = kv_key_slice(&k);
    return decode(b, node, &row);
}

Mr__Check *kv_check_get_of(struct kv_batch *b, const char *node,
                           const char *service_id, const char *check_id)
{
    struct kv_row_key k;
    struct kv_row row;

    kv_check_key(&k, node, service_id, check_id);
    row.key = kv_key_slice(&k);
    return kv_tx_get(&b->tx, row.key, &row.value) ? decode(b, node, &row)
                                                  : NULL;
}

/* ------------------------------------------------------------ leases */

static bool is_critical(const Mr__Check *check)
{
    return strcmp(check->status, CRITICAL) == 0;
}

/* The lease that @check has to have; ttl_ms 0: none. */
static Mr__Lease due_lease(struct kv_batch *b, const Mr__Check *check)
{
    const Mr__CheckDefinition *d = check->definition;
    Mr__Lease lease = MR__LEASE__INIT;
    int64_t ns = 0;

    lease.kind = MR__LEASE_KIND__LEASE_CHECK;
    lease.node = check->node;
    lease.name = check->check_id;
    lease.service_id = check->service_id;
    if (d != NULL && d->ttl_ns > 0 && !is_critical(check)) {
        ns = d->ttl_ns;
    } else if (d != NULL && d->deregister_after_ns > 0 &&
               check->service_id[0] != '\0' &&
               (is_critical(check) || kv_node_is_dead(b, check->node))) {
        lease.kind = MR__LEASE_KIND__LEASE_CRITICAL;
        ns = d->deregister_after_ns;
    }
    lease.ttl_ms = ((uint64_t)ns + NS_PER_MS - 1) / NS_PER_MS;
    return lease;
}

/* Give @check, whose row named the lease @old_id, the lease that it has to
 * have. @is_news: its owner reported, or registered it. */
static void settle_lease(struct kv_batch *b, Mr__Check *check, uint64_t old_id,
                         bool is_news)
{
    Mr__Lease due = due_lease(b, check);

    check->lease_id = old_id;
    if (old_id != 0 && due.ttl_ms != 0 &&
        !(is_news && due.kind == MR__LEASE_KIND__LEASE_CHECK)) {
        const Mr__Lease *old = kv_lease_find(&b->tx, &b->arena, old_id);

        if (old != NULL && old->kind == due.kind && old->ttl_ms == due.ttl_ms) {
            return;
        }
    }
    kv_lease_drop(b, old_id);
    check->lease_id = due.ttl_ms == 0 ? 0 : kv_lease_make(b, &due);
}

/* See to the lease of one check when that of its node began or ended. */
static void settle_check(struct kv_batch *b, const char *node,
                         const char *check_id)
{
    Mr__Check *check = kv_check_get(b, node, check_id);
    struct kv_row_key k;
    struct kv_revs revs;
    struct mr_slice old;
    uint64_t old_id;

    if (check == NULL || check->definition == NULL ||
        check->definition->deregister_after_ns <= 0) {
        return;
    }
    old_id = check->lease_id;
    settle_lease(b, check, old_id, false);
    kv_check_key(&k, node, check->service_id, check->check_id);
    if (check->lease_id == old_id ||
        !kv_tx_get(&b->tx, kv_key_slice(&k), &old)) {
        return;
    }
    revs = (struct kv_revs){check->create_rev, check->modify_rev};
    mr_buf_reset(&b->body);
    kv_pack_check(&b->body, check);
    kv_batch_rewrite(b, kv_key_slice(&k), old, mr_buf_slice(&b->body), revs);
}

void kv_node_checks_settle(struct kv_batch *b, const char *node)
{
    struct mr_slice *ids;
    size_t n = kv_node_parts(b, KV_NODE_CHECK, node, &ids);
    size_t i;

    for (i = 0; i < n; i++) {
        settle_check(b, node, ids[i].data);
    }
}

/* ------------------------------------------------------------ change */

/* Remove the row of @old with what follows from it. */
static void drop_row(struct kv_batch *b, const Mr__Check *old)
{
    struct kv_row_key k;

    kv_check_key(&k, old->node, old->service_id, old->check_id);
    (void)kv_tx_del(&b->tx, kv_key_slice(&k)); /* It was found. */
    kv_index_check(&b->tx, old, false);
    kv_lease_drop(b, old->lease_id);
    touch_check(b, old->node, old->service_id);
    b->meta.checks--;
}

static void pack_check(struct kv_batch *b, const Mr__Check *check)
{
    mr_buf_reset(&b->body);
    kv_pack_check(&b->body, check);
}

/* Whether the check's row at @key holds @wanted already, but for its lease,
 * which @wanted takes over. */
static bool is_same_check(struct kv_batch *b, struct mr_slice key,
                          Mr__Check *wanted)
{
    struct kv_revs revs;
    struct mr_slice body;

    wanted->lease_id = 0;
    if (!kv_tx_get(&b->tx, key, &body)) {
        return false;
    }
    if (!kv_get_revs(&body, &revs)) {
        kv_tx_fail(&b->tx, MR_E_CORRUPT);
    }
    wanted->lease_id = kv_body_u64(body, KV_CHECK_LEASE);
    pack_check(b, wanted);
    return mr_slice_eq(body, mr_buf_slice(&b->body));
}

/* Write @wanted in place of @old, which may be NULL. */
static void write_check(struct kv_batch *b, const Mr__Check *old,
                        const Mr__Check *wanted, uint64_t create_rev)
{
    struct kv_row_key k;
    struct mr_slice value;

    kv_check_key(&k, wanted->node, wanted->service_id, wanted->check_id);
    if (old != NULL && !kv_tx_get(&b->tx, kv_key_slice(&k), &value)) {
        return; /* The transaction failed. */
    }
    pack_check(b, wanted);
    kv_batch_write(b, kv_key_slice(&k), old == NULL ? NULL : &value,
                   mr_buf_slice(&b->body), create_rev);
    if (old == NULL) {
        kv_index_check(&b->tx, wanted, true);
        b->meta.checks++;
        b->check_gap.is_known = false;
    } else if (strcmp(old->status, wanted->status) != 0) {
        kv_index_check_state(&b->tx, old, false);
        kv_index_check_state(&b->tx, wanted, true);
    }
    touch_check(b, wanted->node, wanted->service_id);
}

static void tell_change(struct kv_batch *b, const Mr__Check *old,
                        const Mr__Check *wanted)
{
    if (old == NULL) {
        kv_event_check(b, MR_KV_EVENT_REGISTERED, wanted);
    } else if (strcmp(old->status, wanted->status) != 0) {
        kv_event_check(b, MR_KV_EVENT_STATUS, wanted);
    }
}

/* Put @wanted, whose lease is not settled, in place of @old, which may be NULL,
 * and which may be of another service. */
static void replace_check(struct kv_batch *b, const Mr__Check *old,
                          Mr__Check *wanted)
{
    bool is_moved =
        old != NULL && strcmp(old->service_id, wanted->service_id) != 0;

    if (is_moved) {
        drop_row(b, old);
    }
    settle_lease(b, wanted, old == NULL || is_moved ? 0 : old->lease_id, true);
    write_check(b, is_moved ? NULL : old, wanted,
                old == NULL ? 0 : old->create_rev);
    tell_change(b, old, wanted);
    if (old != NULL && !is_critical(old) && is_critical(wanted)) {
        kv_check_sessions_end(b, wanted->node, wanted->check_id);
    }
}

void kv_check_fail(struct kv_batch *b, const Mr__Check *check,
                   const char *output)
{
    Mr__Check wanted = *check;

    if (!is_critical(check) || strcmp(check->output, output) != 0) {
        wanted.status = (char *)(uintptr_t)CRITICAL; /* Never written to. */
        wanted.output = (char *)(uintptr_t)output;   /* Nor this. */
        replace_check(b, check, &wanted);
    }
}

void kv_check_ensure(struct kv_batch *b, const char *node,
                     const Mr__Check *check)
{
    Mr__Check wanted = *check;
    struct kv_row_key k;

    wanted.node = (char *)(uintptr_t)node;
    if (wanted.status[0] == '\0') {
        wanted.status = (char *)(uintptr_t)CRITICAL; /* Never written to. */
    }
    kv_check_key(&k, node, wanted.service_id, wanted.check_id);
    if (!is_same_check(b, kv_key_slice(&k), &wanted)) {
        replace_check(b, kv_check_get(b, node, wanted.check_id), &wanted);
    }
}

/* ------------------------------------------------------------ removal */

void kv_check_remove(struct kv_batch *b, const char *node, const char *check_id,
                     enum kv_scope scope)
{
    Mr__Check *old = kv_check_get(b, node, check_id);

    if (old != NULL && kv_in_scope(scope, old->origin)) {
        drop_row(b, old);
        kv_event_check(b, MR_KV_EVENT_DEREGISTERED, old);
        kv_check_sessions_end(b, node, check_id);
    }
}

static bool is_kept(const Mr__Register *kept, struct mr_slice check_id)
{
    size_t i;

    for (i = 0; kept != NULL && i < kept->n_checks; i++) {
        if (mr_slice_eq(mr_slice_str(kept->checks[i]->check_id), check_id)) {
            return true;
        }
    }
    return false;
}

static int compare_keys(const struct kv_row_key *a, const struct kv_row_key *b)
{
    int order = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);

    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

/* Whether it is known that no check has the prefix @k: most instances that end
 * together have none, and lie in one gap. */
static bool lies_in_gap(const struct kv_gap *gap, const struct kv_row_key *k)
{
    return gap->is_known && compare_keys(&gap->from, k) <= 0 &&
           (gap->to.len == 0 || (compare_keys(k, &gap->to) < 0 &&
                                 memcmp(k->bytes, gap->to.bytes, k->len) != 0));
}

/* No check has the prefix @k; @next (NULL: none) is the row after it. */
static void note_gap(struct kv_gap *gap, const struct kv_row_key *k,
                     const struct kv_row *next)
{
    gap->is_known = true;
    gap->from = *k;
    gap->to.len = 0;
    if (next != NULL && *(const uint8_t *)next->key.data == KV_CHECK) {
        gap->to.len = next->key.len;
        memcpy(gap->to.bytes, next->key.data, next->key.len);
    }
}

void kv_service_checks_remove(struct kv_batch *b, const char *node,
                              const char *service_id, const Mr__Register *kept)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row = {{NULL, 0}, {NULL, 0}};
    struct mr_slice parts[3];
    struct mr_slice *ids = NULL;
    size_t n_rows = 0;
    size_t n = 0;
    size_t cap = 0;
    size_t i;

    kv_check_key(&k, node, service_id, "");
    if (lies_in_gap(&b->check_gap, &k)) {
        return;
    }
    kv_scan_open(&scan, &b->tx, kv_key_slice(&k));
    for (; kv_scan_next(&scan, &row); n_rows++) {
        if (!kv_key_split(row.key, parts, 3)) {
            kv_tx_fail(&b->tx, MR_E_CORRUPT);
        } else if (!is_kept(kept, parts[2]) &&
                   !kv_arena_push(&b->arena, &ids, &n, &cap,
                                  kv_arena_copy0(&b->arena, parts[2]))) {
            break;
        }
    }
    if (n_rows == 0) {
        note_gap(&b->check_gap, &k, row.key.len > 0 ? &row : NULL);
    }
    kv_scan_close(&scan);
    for (i = 0; i < n; i++) {
        kv_check_remove(b, node, ids[i].data, KV_SCOPE_ALL);
    }
}
