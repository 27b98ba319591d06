/* SPDX-License-Identifier: Apache-2.0 */
/* Walking the catalog in a view: nodes and services are decoded once. */
#include "kv/walk.h"

void kv_set_index(uint64_t *out_index, uint64_t index)
{
    if (out_index != NULL) {
        *out_index = index == 0 ? 1 : index;
    }
}

void kv_walk_init(struct kv_walk *w, struct mr_kv_view *view)
{
    *w = (struct kv_walk){
        .view = view, .tx = kv_view_tx(view), .arena = kv_view_arena(view)};
}

bool kv_walk_to_node(struct kv_walk *w, struct mr_slice key)
{
    const char *name;

    if (w->node != NULL && mr_slice_eq(w->node_key, key)) {
        return false;
    }
    name = kv_arena_text(w->arena, key);
    w->node = name == NULL ? NULL : kv_node_find(w->tx, w->arena, name);
    w->node_key = mr_slice(name, key.len);
    w->service = NULL;
    if (w->node == NULL && !w->arena->failed) {
        kv_tx_fail(w->tx,
                   MR_E_CORRUPT); /* A part of a node that is not there. */
    }
    return w->node != NULL;
}

void kv_walk_to_service(struct kv_walk *w, const char *id)
{
    struct kv_row_key k;
    struct kv_row row;
    Mr__Service *service;
    enum mr_err err = MR_E_CORRUPT;

    if (w->service != NULL && strcmp(w->service->id, id) == 0) {
        return;
    }
    w->service = NULL;
    if (kv_service_find(w->tx, w->node->name, id, &k, &row.value)) {
        row.key = kv_key_slice(&k);
        err = kv_unpack_service(w->arena, &row, w->node->name, &service);
    }
    if (err != MR_OK) {
        kv_tx_fail(w->tx, err);
        return;
    }
    w->service = service;
}

static void push_check(struct kv_walk *w, const Mr__Check *check)
{
    if (w->n_checks == w->cap_checks) {
        size_t cap = w->cap_checks == 0 ? 4 : w->cap_checks * 2;
        const Mr__Check **more = kv_arena_alloc(w->arena, cap * sizeof *more);

        if (more == NULL) {
            return; /* The arena remembers. */
        }
        if (w->n_checks > 0) {
            memcpy(more, w->checks, w->n_checks * sizeof *more);
        }
        w->checks = more;
        w->cap_checks = cap;
    }
    w->checks[w->n_checks++] = check;
}

void kv_walk_gather_checks(struct kv_walk *w, const Mr__Service *service)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;

    kv_check_key(&k, w->node->name, service == NULL ? "" : service->id, "");
    kv_scan_open(&scan, w->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        Mr__Check *check;
        enum mr_err err =
            kv_unpack_check(w->arena, &row, w->node->name, service, &check);

        if (err != MR_OK) {
            kv_tx_fail(w->tx, err);
            break;
        }
        push_check(w, check);
    }
    kv_scan_close(&scan);
}

const Mr__Service *kv_walk_next_instance(struct kv_walk *w,
                                         struct kv_scan *scan,
                                         bool *out_is_new_node)
{
    struct mr_slice parts[3]; /* Service, node, ID. */
    struct kv_row row;
    Mr__Service *service;
    enum mr_err err;

    if (!kv_scan_next(scan, &row)) {
        return NULL;
    }
    if (!kv_key_split(row.key, parts, 3)) {
        kv_tx_fail(w->tx, MR_E_CORRUPT);
        return NULL;
    }
    *out_is_new_node = kv_walk_to_node(w, parts[1]);
    if (w->node == NULL) {
        return NULL;
    }
    err = kv_unpack_service(w->arena, &row, w->node->name, &service);
    if (err != MR_OK) {
        kv_tx_fail(w->tx, err);
        return NULL;
    }
    return service;
}

void kv_service_prefix(struct kv_row_key *k, const char *name)
{
    kv_key_init(k, KV_SERVICE);
    kv_key_lower(k, name);
    kv_key_byte(k, 0);
}

void kv_walk_parts(struct kv_walk *w, enum kv_table table, kv_part_cb visit,
                   void *arg)
{
    struct mr_slice parts[2];
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;

    kv_node_part_key(&k, table, w->node->name, "");
    kv_scan_open(&scan, w->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row) && kv_key_split(row.key, parts, 2)) {
        const char *part = kv_arena_text(w->arena, parts[1]);

        if (part == NULL || !visit(w, &row, part, arg) ||
            kv_view_error(w->view) != MR_OK) {
            break;
        }
    }
    kv_scan_close(&scan);
}
