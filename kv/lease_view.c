/* SPDX-License-Identifier: Apache-2.0 */
/* Queries on leases and on members that left. */
#include "kv/leases.h"
#include "kv/sessions.h"
#include "kv/walk.h"

enum mr_err mr_kv_lease_list(struct mr_kv_view *view, mr_kv_lease_cb cb,
                             void *arg)
{
    static const uint8_t table = KV_LEASE;
    struct kv_arena arena;
    struct kv_scan scan;
    struct kv_row row;

    kv_arena_init(&arena); /* The view's would grow with every lease. */
    kv_scan_open(&scan, kv_view_tx(view), mr_slice(&table, 1));
    while (kv_scan_next(&scan, &row)) {
        Mr__Lease *lease;
        enum mr_err err;

        kv_arena_reset(&arena);
        err = kv_unpack_lease(&arena, &row, &lease);
        if (err != MR_OK) {
            kv_tx_fail(kv_view_tx(view), err);
        } else if (!cb(arg, lease)) {
            break;
        }
    }
    kv_scan_close(&scan);
    kv_arena_deinit(&arena);
    return kv_view_error(view);
}

enum mr_err mr_kv_lease_get(struct mr_kv_view *view, uint64_t id,
                            const Mr__Lease **out_lease)
{
    Mr__Lease *lease = kv_lease_find(kv_view_tx(view), kv_view_arena(view), id);
    enum mr_err err = kv_view_error(view);

    if (err == MR_OK) {
        *out_lease = lease;
    }
    return err;
}

/* ------------------------------------------------------------ look-up */

/* The body of the row of the subject; false: there is none. */
static bool find_body(struct kv_tx *tx, enum mr_kv_subject subject,
                      const char *node, const char *id,
                      struct mr_slice *out_body)
{
    struct kv_row_key k;
    struct kv_revs revs;
    bool is_found = false;

    switch (subject) {
    case MR_KV_SUBJECT_NODE:
        kv_node_key(&k, node);
        is_found = kv_tx_get(tx, kv_key_slice(&k), out_body);
        break;
    case MR_KV_SUBJECT_SERVICE:
        is_found = kv_service_find(tx, node, id, &k, out_body);
        break;
    case MR_KV_SUBJECT_CHECK:
        is_found = kv_check_find(tx, node, id, &k, out_body);
        break;
    case MR_KV_SUBJECT_SESSION:
        kv_session_key(&k, id);
        is_found = kv_tx_get(tx, kv_key_slice(&k), out_body);
        break;
    }
    if (is_found && !kv_get_revs(out_body, &revs)) {
        kv_tx_fail(tx, MR_E_CORRUPT);
        return false;
    }
    return is_found;
}

/* @id, or 0 if that lease cannot be renewed: it is not of @kind. */
static uint64_t if_kind(struct kv_tx *tx, uint64_t id, Mr__LeaseKind kind)
{
    return kv_lease_is(tx, id, kind) ? id : 0;
}

/* The lease that the body of the subject's row names, if it can be renewed. */
static uint64_t lease_of(struct kv_tx *tx, enum mr_kv_subject subject,
                         struct mr_slice body)
{
    switch (subject) {
    case MR_KV_SUBJECT_NODE:
        return if_kind(tx, kv_body_u64(body, KV_NODE_LEASE),
                       MR__LEASE_KIND__LEASE_NODE);
    case MR_KV_SUBJECT_CHECK:
        return if_kind(tx, kv_body_u64(body, KV_CHECK_LEASE),
                       MR__LEASE_KIND__LEASE_CHECK);
    case MR_KV_SUBJECT_SERVICE:
        return kv_body_u64(body, KV_SERVICE_LEASE);
    case MR_KV_SUBJECT_SESSION:
        return kv_body_u64(body, KV_SESSION_LEASE);
    }
    return 0;
}

enum mr_err mr_kv_lease_find(struct mr_kv_view *view,
                             enum mr_kv_subject subject, const char *node,
                             const char *id, struct mr_kv_lease_ref *out_ref)
{
    struct mr_kv_lease_ref ref = {0, 0, 0, false};
    struct kv_tx *tx = kv_view_tx(view);
    struct mr_slice body;
    enum mr_err err;

    ref.exists = find_body(tx, subject, node, id, &body);
    if (ref.exists) {
        ref.lease_id = lease_of(tx, subject, body);
    }
    if (ref.exists && subject == MR_KV_SUBJECT_SERVICE) {
        ref.digest = kv_body_u64(body, KV_SERVICE_DIGEST);
        ref.incarnation = kv_body_u64(body, KV_SERVICE_INCARNATION);
    }
    err = kv_view_error(view);
    if (err == MR_OK) {
        *out_ref = ref;
    }
    return err;
}

/* ------------------------------------------------------------ left members */

enum mr_err mr_kv_left_list(struct mr_kv_view *view, mr_kv_left_cb cb,
                            void *arg)
{
    static const uint8_t table = KV_LEFT;
    struct kv_scan scan;
    struct kv_row row;

    kv_scan_open(&scan, kv_view_tx(view), mr_slice(&table, 1));
    while (kv_scan_next(&scan, &row)) {
        Mr__Left *left;
        enum mr_err err = kv_unpack_left(kv_view_arena(view), &row, &left);

        if (err != MR_OK) {
            kv_tx_fail(kv_view_tx(view), err);
        } else if (!cb(arg, left)) {
            break;
        }
    }
    kv_scan_close(&scan);
    return kv_view_error(view);
}
