/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions. One lives on a node until it is destroyed, its lease ends, one of
 * its checks turns critical or disappears, or its node goes.
 */
#include "kv/sessions.h"

#include "kv/catalog.h"
#include "kv/events.h"
#include "kv/leases.h"
#include "kv/locks.h"

/* ------------------------------------------------------------ rows */

void kv_session_key(struct kv_row_key *k, const char *id)
{
    kv_key_init(k, KV_SESSION);
    kv_key_lower(k, id);
}

Mr__Session *kv_session_find(struct kv_tx *tx, struct kv_arena *arena,
                             const char *id)
{
    struct kv_row_key k;
    struct kv_row row;
    Mr__Session *session;
    enum mr_err err;

    kv_session_key(&k, id);
    row.key = kv_key_slice(&k);
    if (!kv_tx_get(tx, row.key, &row.value)) {
        return NULL;
    }
    err = kv_unpack_session(arena, &row, &session);
    if (err != MR_OK) {
        kv_tx_fail(tx, err);
        return NULL;
    }
    return session;
}

static void put_or_del(struct kv_tx *tx, const struct kv_row_key *k,
                       bool is_added)
{
    if (is_added) {
        kv_tx_put(tx, kv_key_slice(k), mr_slice(NULL, 0));
    } else {
        (void)kv_tx_del(tx,
                        kv_key_slice(k)); /* One check may be named twice. */
    }
}

void kv_node_session_prefix(struct kv_row_key *k, const char *node)
{
    kv_node_part_key(k, KV_NODE_SESSION, node, "");
}

static void check_session_prefix(struct kv_row_key *k, const char *node,
                                 const char *check_id)
{
    kv_node_part_key(k, KV_CHECK_SESSION, node, check_id);
    kv_key_byte(k, 0);
}

/* The check IDs that @session is bound to: the node's first. */
static const char *bound_check(const Mr__Session *session, size_t i)
{
    return i < session->n_node_checks
               ? session->node_checks[i]
               : session->service_checks[i - session->n_node_checks];
}

static size_t n_bound_checks(const Mr__Session *session)
{
    return session->n_node_checks + session->n_service_checks;
}

void kv_index_session(struct kv_tx *tx, const Mr__Session *session,
                      bool is_added)
{
    struct kv_row_key k;
    size_t i;

    kv_node_session_prefix(&k, session->node);
    kv_key_lower(&k, session->id);
    put_or_del(tx, &k, is_added);
    for (i = 0; i < n_bound_checks(session); i++) {
        check_session_prefix(&k, session->node, bound_check(session, i));
        kv_key_lower(&k, session->id);
        put_or_del(tx, &k, is_added);
    }
}

static void touch_sessions(struct kv_batch *b)
{
    b->meta.sessions_rev = kv_batch_revision(b);
    kv_batch_touch(b, MR_KV_TOPIC_SESSIONS, mr_slice(NULL, 0));
}

/* ------------------------------------------------------------ create */

static bool check_allowed(struct kv_batch *b, const char *node,
                          const char *check_id)
{
    const Mr__Check *check = kv_check_get(b, node, check_id);

    if (b->tx.err != MR_OK) {
        return false;
    }
    if (check == NULL) {
        kv_batch_refuse(b, "Missing check '%s' registration", check_id);
        return false;
    }
    if (strcmp(check->status, "critical") == 0) {
        kv_batch_refuse(b, "Check '%s' is in critical state", check_id);
        return false;
    }
    return true;
}

/* Refuse the command in Consul's words unless @session can be made. */
static bool session_allowed(struct kv_batch *b, const Mr__Session *session)
{
    size_t i;

    if (session == NULL || session->id[0] == '\0') {
        kv_batch_refuse(b, "Missing session ID");
        return false;
    }
    if (strlen(session->id) > KV_SESSION_ID_MAX) {
        kv_batch_refuse(b, "Session ID is too long (limit: %d bytes)",
                        KV_SESSION_ID_MAX);
        return false;
    }
    if (session->behavior != MR__SESSION_BEHAVIOR__RELEASE &&
        session->behavior != MR__SESSION_BEHAVIOR__DELETE) {
        kv_batch_refuse(b, "Invalid Behavior setting '%d'",
                        (int)session->behavior);
        return false;
    }
    if (kv_node_find(&b->tx, &b->arena, session->node) == NULL) {
        kv_batch_refuse(b, "Missing node registration");
        return false;
    }
    for (i = 0; i < n_bound_checks(session); i++) {
        if (!check_allowed(b, session->node, bound_check(session, i))) {
            return false;
        }
    }
    return b->tx.err == MR_OK;
}

static uint64_t make_lease(struct kv_batch *b, const Mr__Session *session)
{
    Mr__Lease lease = MR__LEASE__INIT;

    lease.kind = MR__LEASE_KIND__LEASE_SESSION;
    lease.ttl_ms = session->ttl_ms;
    lease.node = session->node;
    lease.name = session->id;
    return session->ttl_ms == 0 ? 0 : kv_lease_make(b, &lease);
}

void kv_session_create(struct kv_batch *b, const Mr__SessionCreate *cmd)
{
    struct kv_row_key k;
    Mr__Session wanted;

    if (!session_allowed(b, cmd->session)) {
        return;
    }
    if (kv_session_find(&b->tx, &b->arena, cmd->session->id) != NULL) {
        kv_batch_refuse(b, "Session \"%s\" exists already", cmd->session->id);
        return;
    }
    wanted = *cmd->session;
    wanted.lease_id = make_lease(b, &wanted);
    mr_buf_reset(&b->body);
    kv_pack_session(&b->body, &wanted);
    kv_session_key(&k, wanted.id);
    kv_batch_write(b, kv_key_slice(&k), NULL, mr_buf_slice(&b->body), 0);
    kv_index_session(&b->tx, &wanted, true);
    b->meta.sessions++;
    touch_sessions(b);
    kv_event_session(b, MR_KV_EVENT_REGISTERED, &wanted);
}

/* ------------------------------------------------------------ end */

void kv_session_end(struct kv_batch *b, const Mr__Session *session)
{
    struct kv_row_key k;

    kv_session_key(&k, session->id);
    (void)kv_tx_del(&b->tx, kv_key_slice(&k)); /* It was found. */
    kv_index_session(&b->tx, session, false);
    kv_lease_drop(b, session->lease_id);
    b->meta.sessions--;
    touch_sessions(b);
    kv_locks_end(b, session);
    kv_event_session(b, MR_KV_EVENT_DEREGISTERED, session);
}

void kv_session_destroy(struct kv_batch *b, const Mr__SessionDestroy *cmd)
{
    Mr__Session *session = kv_session_find(&b->tx, &b->arena, cmd->id);

    if (session != NULL) {
        kv_session_end(b, session);
    }
}

/* End the sessions whose IDs stand behind @prefix in a derived table. */
static void end_listed(struct kv_batch *b, const struct kv_row_key *prefix)
{
    struct kv_scan scan;
    struct kv_row row;
    struct mr_slice *ids = NULL;
    size_t n = 0;
    size_t cap = 0;
    size_t i;

    if (b->meta.sessions == 0) {
        return;
    }
    kv_scan_open(&scan, &b->tx, kv_key_slice(prefix));
    while (kv_scan_next(&scan, &row)) {
        struct mr_slice id =
            mr_slice((const uint8_t *)row.key.data + prefix->len,
                     row.key.len - prefix->len);

        if (!kv_arena_push(&b->arena, &ids, &n, &cap,
                           kv_arena_copy0(&b->arena, id))) {
            break;
        }
    }
    kv_scan_close(&scan);
    for (i = 0; i < n && !b->arena.failed; i++) {
        Mr__Session *session = kv_session_find(&b->tx, &b->arena, ids[i].data);

        if (session != NULL) {
            kv_session_end(b, session);
        }
    }
}

void kv_check_sessions_end(struct kv_batch *b, const char *node,
                           const char *check_id)
{
    struct kv_row_key prefix;

    check_session_prefix(&prefix, node, check_id);
    end_listed(b, &prefix);
}

void kv_node_sessions_end(struct kv_batch *b, const char *node)
{
    struct kv_row_key prefix;

    kv_node_session_prefix(&prefix, node);
    end_listed(b, &prefix);
}
