/* SPDX-License-Identifier: Apache-2.0 */
/* Queries on checks. Each shows the name and tags that its service has now. */
#include <stdlib.h>

#include "kv/walk.h"

struct check_visit {
    mr_kv_check_cb cb;
    void *arg;
    const char *status; /* Only these; NULL: all. */
};

/* Decode the check @check_id of the current node, of the service @service_id,
 * which may be empty. */
static const Mr__Check *
load_check(struct kv_walk *w, struct mr_slice service_id, const char *check_id)
{
    const char *sid = kv_arena_text(w->arena, service_id);
    struct kv_row_key k;
    struct kv_row row;
    Mr__Check *check;
    enum mr_err err = MR_E_CORRUPT;

    if (sid == NULL) {
        return NULL;
    }
    if (sid[0] != '\0') {
        kv_walk_to_service(w, sid);
    }
    kv_check_key(&k, w->node->name, sid, check_id);
    row.key = kv_key_slice(&k);
    if (kv_tx_get(w->tx, row.key, &row.value)) {
        err = kv_unpack_check(w->arena, &row, w->node->name,
                              sid[0] == '\0' ? NULL : w->service, &check);
    }
    if (err != MR_OK) {
        kv_tx_fail(w->tx, err);
        return NULL;
    }
    return check;
}

static bool visit_check(struct kv_walk *w, struct kv_row *row, const char *part,
                        void *arg)
{
    const struct check_visit *v = arg;
    const Mr__Check *check = load_check(w, row->value, part);

    if (check == NULL || kv_view_error(w->view) != MR_OK) {
        return false;
    }
    if (v->status != NULL && strcmp(check->status, v->status) != 0) {
        return true;
    }
    return v->cb(v->arg, check);
}

enum mr_err mr_kv_check_get(struct mr_kv_view *view, const char *node,
                            const char *check_id, const Mr__Check **out_check)
{
    const Mr__Check *check = NULL;
    struct mr_slice service_id;
    struct kv_row_key k;
    struct kv_walk w;
    enum mr_err err;

    kv_walk_init(&w, view);
    kv_node_part_key(&k, KV_NODE_CHECK, node, check_id);
    if (kv_tx_get(w.tx, kv_key_slice(&k), &service_id)) {
        w.node = kv_node_find(w.tx, w.arena, node);
        if (w.node != NULL) {
            check = load_check(&w, service_id, check_id);
        }
    }
    err = kv_view_error(view);
    if (err == MR_OK) {
        *out_check = check;
    }
    return err;
}

enum mr_err mr_kv_node_checks(struct mr_kv_view *view, const char *node,
                              mr_kv_check_cb cb, void *arg, uint64_t *out_index)
{
    struct check_visit v = {cb, arg, NULL};
    struct kv_walk w;

    kv_walk_init(&w, view);
    w.node = kv_node_find(w.tx, w.arena, node);
    if (w.node != NULL) {
        kv_walk_parts(&w, KV_NODE_CHECK, visit_check, &v);
    }
    kv_set_index(out_index, kv_view_meta(view)->checks_rev);
    return kv_view_error(view);
}

static int compare_checks(const void *a, const void *b)
{
    const Mr__Check *const *x = a;
    const Mr__Check *const *y = b;

    return strcmp((*x)->check_id, (*y)->check_id);
}

/* Hand out the gathered checks of one node by check ID. */
static bool emit_checks(struct kv_walk *w, mr_kv_check_cb cb, void *arg)
{
    size_t i;

    if (w->n_checks > 1) {
        qsort(w->checks, w->n_checks, sizeof *w->checks, compare_checks);
    }
    for (i = 0; i < w->n_checks && kv_view_error(w->view) == MR_OK; i++) {
        if (!cb(arg, w->checks[i])) {
            return false;
        }
    }
    w->n_checks = 0;
    return true;
}

enum mr_err mr_kv_service_checks(struct mr_kv_view *view, const char *name,
                                 mr_kv_check_cb cb, void *arg,
                                 uint64_t *out_index)
{
    const Mr__Service *service;
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_walk w;
    bool is_new_node = false;
    bool goes_on = true;

    kv_walk_init(&w, view);
    kv_service_prefix(&k, name);
    kv_scan_open(&scan, w.tx, kv_key_slice(&k));
    while (goes_on &&
           (service = kv_walk_next_instance(&w, &scan, &is_new_node)) != NULL) {
        if (is_new_node) {
            goes_on = emit_checks(&w, cb, arg);
        }
        kv_walk_gather_checks(&w, service);
    }
    if (goes_on) {
        (void)emit_checks(&w, cb, arg); /* The last node's. */
    }
    kv_scan_close(&scan);
    kv_set_index(out_index, kv_view_meta(view)->checks_rev);
    return kv_view_error(view);
}

/* Walk rows under @prefix that name a node, a check ID and, as the value, a
 * service ID; @skip bytes of the key come before the node. */
static void walk_checks(struct kv_walk *w, const struct kv_row_key *prefix,
                        size_t skip, const struct check_visit *v)
{
    struct mr_slice parts[2];
    struct kv_scan scan;
    struct kv_row row;

    kv_scan_open(&scan, w->tx, kv_key_slice(prefix));
    while (kv_scan_next(&scan, &row)) {
        struct mr_slice key =
            mr_slice((const uint8_t *)row.key.data + skip, row.key.len - skip);
        const char *check_id = NULL;

        if (kv_key_split(key, parts, 2)) {
            (void)kv_walk_to_node(w,
                                  parts[0]); /* Same or other: it is there. */
            check_id = kv_arena_text(w->arena, parts[1]);
        }
        if (w->node == NULL || check_id == NULL ||
            !visit_check(w, &row, check_id, (void *)(uintptr_t)v)) {
            break;
        }
    }
    kv_scan_close(&scan);
}

enum mr_err mr_kv_state_checks(struct mr_kv_view *view, const char *state,
                               mr_kv_check_cb cb, void *arg,
                               uint64_t *out_index)
{
    struct check_visit v = {cb, arg, state};
    struct kv_row_key prefix;
    struct kv_walk w;

    kv_walk_init(&w, view);
    if (state != NULL && kv_state_key(&prefix, state)) {
        walk_checks(&w, &prefix, 1, &v);
    } else {
        kv_key_init(&prefix, KV_NODE_CHECK);
        walk_checks(&w, &prefix, 0, &v);
    }
    kv_set_index(out_index, kv_view_meta(view)->checks_rev);
    return kv_view_error(view);
}
