/* SPDX-License-Identifier: Apache-2.0 */
/* Queries on the catalog, with the indexes of parity 4.2. */
#include "kv/walk.h"

static uint64_t max2(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The index of what is asked about one node: 1 for a node that is unknown. */
static void set_node_index(struct mr_kv_view *view, const Mr__Node *node,
                           uint64_t *out_index)
{
    const struct kv_meta *meta = kv_view_meta(view);

    kv_set_index(out_index,
                 node == NULL ? 1 : max2(meta->nodes_rev, meta->services_rev));
}

/* ------------------------------------------------------------ nodes */

enum mr_err mr_kv_node_get(struct mr_kv_view *view, const char *name,
                           const Mr__Node **out_node, uint64_t *out_index)
{
    Mr__Node *node = kv_node_find(kv_view_tx(view), kv_view_arena(view), name);
    enum mr_err err = kv_view_error(view);

    if (err == MR_OK) {
        *out_node = node;
        set_node_index(view, node, out_index);
    }
    return err;
}

enum mr_err mr_kv_node_list(struct mr_kv_view *view, mr_kv_node_cb cb,
                            void *arg, uint64_t *out_index)
{
    static const uint8_t table = KV_NODE;
    struct kv_scan scan;
    struct kv_row row;

    kv_scan_open(&scan, kv_view_tx(view), mr_slice(&table, 1));
    while (kv_scan_next(&scan, &row)) {
        Mr__Node *node;
        enum mr_err err = kv_unpack_node(kv_view_arena(view), &row, &node);

        if (err != MR_OK) {
            kv_tx_fail(kv_view_tx(view), err);
        } else if (!cb(arg, node)) {
            break;
        }
    }
    kv_scan_close(&scan);
    kv_set_index(out_index, kv_view_meta(view)->nodes_rev);
    return kv_view_error(view);
}

/* ------------------------------------------------------------ services */

static bool find_name(struct mr_kv_view *view, const char *name,
                      struct kv_service_name_row *out)
{
    struct kv_row_key k;
    struct mr_slice value;

    kv_key_init(&k, KV_SERVICE_NAME);
    kv_key_lower(&k, name);
    if (!kv_tx_get(kv_view_tx(view), kv_key_slice(&k), &value)) {
        return false;
    }
    if (!kv_service_name_unpack(value, out)) {
        kv_tx_fail(kv_view_tx(view), MR_E_CORRUPT);
        return false;
    }
    return true;
}

bool mr_kv_service_exists(struct mr_kv_view *view, const char *name)
{
    struct kv_service_name_row row;

    return find_name(view, name, &row);
}

/* Without instances: when a service last lost its final one, or, as long as
 * that never happened, the tables that a first one would move. */
static void set_service_index(struct mr_kv_view *view, const char *name,
                              uint64_t *out_index)
{
    const struct kv_meta *meta = kv_view_meta(view);
    struct kv_service_name_row row;
    uint64_t index;

    if (find_name(view, name, &row)) {
        index = row.index;
    } else if (meta->extinct_rev != 0) {
        index = meta->extinct_rev;
    } else {
        index = max2(meta->nodes_rev, meta->services_rev);
    }
    kv_set_index(out_index, index);
}

/* Hand out one instance with the node's checks, already in the list up to
 * @n_own_from, and its own. */
static bool emit_instance(struct kv_walk *w, const Mr__Service *service,
                          mr_kv_instance_cb cb, void *arg)
{
    size_t n_node_checks = w->n_checks;
    const Mr__Check **node_checks = w->checks;
    struct mr_kv_instance instance;
    bool goes_on;

    kv_walk_gather_checks(w, service);
    instance =
        (struct mr_kv_instance){w->node, service, w->checks, w->n_checks};
    goes_on = kv_view_error(w->view) == MR_OK && cb(arg, &instance);
    if (w->n_checks > n_node_checks) {
        /* The list was handed out: the next instance gets one of its own,
         * grown from the node's part. */
        w->checks = node_checks;
        w->n_checks = n_node_checks;
        w->cap_checks = n_node_checks;
    }
    return goes_on;
}

enum mr_err mr_kv_service_instances(struct mr_kv_view *view, const char *name,
                                    mr_kv_instance_cb cb, void *arg,
                                    uint64_t *out_index)
{
    const Mr__Service *service;
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_walk w;
    bool is_new_node = false;

    kv_walk_init(&w, view);
    kv_service_prefix(&k, name);
    kv_scan_open(&scan, w.tx, kv_key_slice(&k));
    while ((service = kv_walk_next_instance(&w, &scan, &is_new_node)) != NULL) {
        if (is_new_node) {
            w.n_checks = 0;
            w.cap_checks = 0;
            kv_walk_gather_checks(&w, NULL);
            w.cap_checks = w.n_checks; /* Instances do not share a tail. */
        }
        if (!emit_instance(&w, service, cb, arg)) {
            break;
        }
    }
    kv_scan_close(&scan);
    set_service_index(view, name, out_index);
    return kv_view_error(view);
}

enum mr_err mr_kv_service_get(struct mr_kv_view *view, const char *node,
                              const char *id, const Mr__Service **out_service)
{
    struct kv_walk w;
    struct kv_row_key k;
    struct mr_slice value;
    enum mr_err err;

    kv_walk_init(&w, view);
    if (kv_service_find(w.tx, node, id, &k, &value)) {
        w.node = kv_node_find(w.tx, w.arena, node);
        if (w.node != NULL) {
            kv_walk_to_service(&w, id);
        }
    }
    err = kv_view_error(view);
    if (err == MR_OK) {
        *out_service = w.service;
    }
    return err;
}

struct service_visit {
    mr_kv_service_cb cb;
    void *arg;
};

static bool visit_service(struct kv_walk *w, struct kv_row *row,
                          const char *part, void *arg)
{
    const struct service_visit *v = arg;

    (void)row; /* The service's name; the walk looks it up again. */
    kv_walk_to_service(w, part);
    return w->service != NULL && v->cb(v->arg, w->service);
}

enum mr_err mr_kv_node_services(struct mr_kv_view *view, const char *node,
                                mr_kv_service_cb cb, void *arg,
                                uint64_t *out_index)
{
    struct service_visit v = {cb, arg};
    struct kv_walk w;

    kv_walk_init(&w, view);
    w.node = kv_node_find(w.tx, w.arena, node);
    if (w.node != NULL) {
        kv_walk_parts(&w, KV_NODE_SERVICE, visit_service, &v);
    }
    set_node_index(view, w.node, out_index);
    return kv_view_error(view);
}

/* ------------------------------------------------------------ names */

void kv_tags_gather(struct kv_tx *tx, struct kv_arena *arena,
                    struct mr_slice name, struct mr_slice **out_tags,
                    size_t *out_n)
{
    struct mr_slice parts[2];
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;
    uint64_t count;
    size_t cap = 0;

    *out_tags = NULL;
    *out_n = 0;
    kv_key_init(&k, KV_TAG);
    kv_key_add(&k, name);
    kv_key_byte(&k, 0);
    kv_scan_open(&scan, tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        if (!kv_key_split(row.key, parts, 2) ||
            !kv_get_varint(&row.value, &count)) {
            kv_tx_fail(tx, MR_E_CORRUPT);
            break;
        }
        /* A long tag stands behind the count. */
        if (!kv_arena_push(arena, out_tags, out_n, &cap,
                           kv_arena_copy0(arena, row.value.len > 0
                                                     ? row.value
                                                     : parts[1]))) {
            break;
        }
    }
    kv_scan_close(&scan);
}

static bool emit_name(struct mr_kv_view *view, const struct kv_row *row,
                      mr_kv_service_name_cb cb, void *arg)
{
    struct kv_service_name_row r;
    struct kv_arena *arena = kv_view_arena(view);
    struct mr_kv_service_name name;
    struct mr_slice *tags;
    struct mr_slice key;
    const char **texts;
    size_t n;

    if (!kv_key_split(row->key, &key, 1) ||
        !kv_service_name_unpack(row->value, &r)) {
        kv_tx_fail(kv_view_tx(view), MR_E_CORRUPT);
        return false;
    }
    kv_tags_gather(kv_view_tx(view), arena, key, &tags, &n);
    texts = kv_arena_alloc(arena, (n + 1) * sizeof *texts);
    for (size_t i = 0; texts != NULL && i < n; i++) {
        texts[i] = tags[i].data;
    }
    name.name = kv_arena_text(arena, r.name.len > 0 ? r.name : key);
    name.tags = texts;
    name.n_tags = n;
    name.n_instances = r.instances;
    return kv_view_error(view) == MR_OK && cb(arg, &name);
}

enum mr_err mr_kv_service_names(struct mr_kv_view *view,
                                mr_kv_service_name_cb cb, void *arg,
                                uint64_t *out_index)
{
    static const uint8_t table = KV_SERVICE_NAME;
    struct kv_scan scan;
    struct kv_row row;

    kv_scan_open(&scan, kv_view_tx(view), mr_slice(&table, 1));
    while (kv_scan_next(&scan, &row) && emit_name(view, &row, cb, arg)) {
    }
    kv_scan_close(&scan);
    kv_set_index(out_index, kv_view_meta(view)->services_rev);
    return kv_view_error(view);
}

/* ------------------------------------------------------------ addresses */

static bool emit_address_node(struct kv_walk *w, struct mr_slice node,
                              mr_kv_node_cb cb, void *arg)
{
    (void)kv_walk_to_node(w, node); /* Same or other: it is there. */
    return w->node != NULL && cb(arg, w->node);
}

static bool emit_address_service(struct kv_walk *w, struct mr_slice key,
                                 mr_kv_service_cb cb, void *arg)
{
    struct mr_slice parts[2];
    const char *id;

    if (!kv_key_split(key, parts, 2)) {
        kv_tx_fail(w->tx, MR_E_CORRUPT);
        return false;
    }
    (void)kv_walk_to_node(w, parts[0]); /* Same or other: it is there. */
    id = kv_arena_text(w->arena, parts[1]);
    if (w->node == NULL || id == NULL) {
        return false;
    }
    kv_walk_to_service(w, id);
    return w->service != NULL && cb(arg, w->service);
}

enum mr_err mr_kv_address_lookup(struct mr_kv_view *view, const char *address,
                                 mr_kv_node_cb node_cb,
                                 mr_kv_service_cb service_cb, void *arg)
{
    struct kv_row_key prefix;
    struct kv_scan scan;
    struct kv_row row;
    struct kv_walk w;
    bool goes_on = true;

    if (!kv_address_key(&prefix, address)) {
        return MR_OK;
    }
    kv_walk_init(&w, view);
    kv_scan_open(&scan, w.tx, kv_key_slice(&prefix));
    while (goes_on && kv_scan_next(&scan, &row)) {
        const uint8_t *kind = (const uint8_t *)row.key.data + prefix.len;
        size_t rest = row.key.len - prefix.len;

        if (*kind == KV_ADDRESS_NODE && node_cb != NULL) {
            goes_on = emit_address_node(&w, mr_slice(kind + 1, rest - 1),
                                        node_cb, arg);
        } else if (*kind == KV_ADDRESS_SERVICE && service_cb != NULL) {
            goes_on =
                emit_address_service(&w, mr_slice(kind, rest), service_cb, arg);
        }
    }
    kv_scan_close(&scan);
    return kv_view_error(view);
}
