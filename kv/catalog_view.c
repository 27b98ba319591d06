/* SPDX-License-Identifier: Apache-2.0 */
/* Queries on the catalog, with the indexes of parity 4.2. */
#include <stdlib.h>

#include "kv/catalog.h"

static void set_index(uint64_t *out_index, uint64_t index)
{
    if (out_index != NULL) {
        *out_index = index == 0 ? 1 : index;
    }
}

static uint64_t max2(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The index of what is asked about one node: 1 for a node that is unknown. */
static void set_node_index(struct mr_kv_view *view, const Mr__Node *node,
                           uint64_t *out_index)
{
    const struct kv_meta *meta = kv_view_meta(view);

    set_index(out_index,
              node == NULL ? 1 : max2(meta->nodes_rev, meta->services_rev));
}

static void fail(struct mr_kv_view *view, enum mr_err err)
{
    kv_tx_fail(kv_view_tx(view), err);
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
            fail(view, err);
        } else if (!cb(arg, node)) {
            break;
        }
    }
    kv_scan_close(&scan);
    set_index(out_index, kv_view_meta(view)->nodes_rev);
    return kv_view_error(view);
}

/* ------------------------------------------------------------ walks */

/* Rows of one node or instance follow each other, so the last ones that were
 * decoded are kept. */
struct walk {
    struct mr_kv_view *view;
    struct kv_tx *tx;
    struct kv_arena *arena;
    const Mr__Node *node;       /* The last one, or NULL. */
    struct mr_slice node_key;   /* Its lower name. */
    const Mr__Service *service; /* The last one, of node, or NULL. */
    const Mr__Check **checks;   /* A list being gathered. */
    size_t n_checks;
    size_t cap_checks;
};

static void walk_init(struct walk *w, struct mr_kv_view *view)
{
    *w = (struct walk){
        .view = view, .tx = kv_view_tx(view), .arena = kv_view_arena(view)};
}

/* Make the node of the lower name @key the current one. True if it was not. */
static bool walk_to_node(struct walk *w, struct mr_slice key)
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
        fail(w->view, MR_E_CORRUPT); /* A part of a node that is not there. */
    }
    return w->node != NULL;
}

/* Make the service @id of the current node the current one. */
static void walk_to_service(struct walk *w, const char *id)
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
        fail(w->view, err);
        return;
    }
    w->service = service;
}

static void push_check(struct walk *w, const Mr__Check *check)
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

/* Add the checks of the current node's @service (NULL: of the node itself) to
 * the list. */
static void gather_checks(struct walk *w, const Mr__Service *service)
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
            fail(w->view, err);
            break;
        }
        push_check(w, check);
    }
    kv_scan_close(&scan);
}

/* Decode the next row of a service scan; the walk is at its node. */
static const Mr__Service *next_instance(struct walk *w, struct kv_scan *scan,
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
        fail(w->view, MR_E_CORRUPT);
        return NULL;
    }
    *out_is_new_node = walk_to_node(w, parts[1]);
    if (w->node == NULL) {
        return NULL;
    }
    err = kv_unpack_service(w->arena, &row, w->node->name, &service);
    if (err != MR_OK) {
        fail(w->view, err);
        return NULL;
    }
    return service;
}

static void service_prefix(struct kv_row_key *k, const char *name)
{
    kv_key_init(k, KV_SERVICE);
    kv_key_lower(k, name);
    kv_key_byte(k, 0);
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
        fail(view, MR_E_CORRUPT);
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
    set_index(out_index, index);
}

/* Hand out one instance with the node's checks, already in the list up to
 * @n_own_from, and its own. */
static bool emit_instance(struct walk *w, const Mr__Service *service,
                          mr_kv_instance_cb cb, void *arg)
{
    size_t n_node_checks = w->n_checks;
    const Mr__Check **node_checks = w->checks;
    struct mr_kv_instance instance;
    bool goes_on;

    gather_checks(w, service);
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
    struct walk w;
    bool is_new_node = false;

    walk_init(&w, view);
    service_prefix(&k, name);
    kv_scan_open(&scan, w.tx, kv_key_slice(&k));
    while ((service = next_instance(&w, &scan, &is_new_node)) != NULL) {
        if (is_new_node) {
            w.n_checks = 0;
            w.cap_checks = 0;
            gather_checks(&w, NULL);
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
    struct walk w;
    struct kv_row_key k;
    struct mr_slice value;
    enum mr_err err;

    walk_init(&w, view);
    if (kv_service_find(w.tx, node, id, &k, &value)) {
        w.node = kv_node_find(w.tx, w.arena, node);
        if (w.node != NULL) {
            walk_to_service(&w, id);
        }
    }
    err = kv_view_error(view);
    if (err == MR_OK) {
        *out_service = w.service;
    }
    return err;
}

/* Walk the rows of @node in @table: each one's last part, until @visit says
 * stop. */
static void walk_parts(struct walk *w, enum kv_table table,
                       bool (*visit)(struct walk *w, struct kv_row *row,
                                     const char *part, void *arg),
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

struct service_visit {
    mr_kv_service_cb cb;
    void *arg;
};

static bool visit_service(struct walk *w, struct kv_row *row, const char *part,
                          void *arg)
{
    const struct service_visit *v = arg;

    (void)row; /* The service's name; the walk looks it up again. */
    walk_to_service(w, part);
    return w->service != NULL && v->cb(v->arg, w->service);
}

enum mr_err mr_kv_node_services(struct mr_kv_view *view, const char *node,
                                mr_kv_service_cb cb, void *arg,
                                uint64_t *out_index)
{
    struct service_visit v = {cb, arg};
    struct walk w;

    walk_init(&w, view);
    w.node = kv_node_find(w.tx, w.arena, node);
    if (w.node != NULL) {
        walk_parts(&w, KV_NODE_SERVICE, visit_service, &v);
    }
    set_node_index(view, w.node, out_index);
    return kv_view_error(view);
}

/* ------------------------------------------------------------ names */

struct tag_list {
    struct mr_slice *items;
    const char **texts;
    size_t n;
    size_t cap;
};

/* The distinct tags of the service with the lower name @name, sorted. */
static void gather_tags(struct mr_kv_view *view, struct mr_slice name,
                        struct tag_list *out)
{
    struct kv_arena *arena = kv_view_arena(view);
    struct mr_slice parts[2];
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;
    uint64_t count;
    size_t i;

    kv_key_init(&k, KV_TAG);
    kv_key_add(&k, name);
    kv_key_byte(&k, 0);
    kv_scan_open(&scan, kv_view_tx(view), kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        if (!kv_key_split(row.key, parts, 2) ||
            !kv_get_varint(&row.value, &count)) {
            fail(view, MR_E_CORRUPT);
            break;
        }
        /* A long tag stands behind the count. */
        if (!kv_arena_push(arena, &out->items, &out->n, &out->cap,
                           kv_arena_copy0(arena, row.value.len > 0
                                                     ? row.value
                                                     : parts[1]))) {
            break;
        }
    }
    kv_scan_close(&scan);
    out->texts = kv_arena_alloc(arena, (out->n + 1) * sizeof *out->texts);
    for (i = 0; out->texts != NULL && i < out->n; i++) {
        out->texts[i] = out->items[i].data;
    }
}

static bool emit_name(struct mr_kv_view *view, const struct kv_row *row,
                      mr_kv_service_name_cb cb, void *arg)
{
    struct kv_service_name_row r;
    struct tag_list tags = {NULL, NULL, 0, 0};
    struct mr_kv_service_name name;
    struct mr_slice key;

    if (!kv_key_split(row->key, &key, 1) ||
        !kv_service_name_unpack(row->value, &r)) {
        fail(view, MR_E_CORRUPT);
        return false;
    }
    gather_tags(view, key, &tags);
    name.name =
        kv_arena_text(kv_view_arena(view), r.name.len > 0 ? r.name : key);
    name.tags = tags.texts;
    name.n_tags = tags.n;
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
    set_index(out_index, kv_view_meta(view)->services_rev);
    return kv_view_error(view);
}

/* ------------------------------------------------------------ checks */

struct check_visit {
    mr_kv_check_cb cb;
    void *arg;
    const char *status; /* Only these; NULL: all. */
};

/* Decode the check @check_id of the current node, of the service @service_id,
 * which may be empty. */
static const Mr__Check *load_check(struct walk *w, struct mr_slice service_id,
                                   const char *check_id)
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
        walk_to_service(w, sid);
    }
    kv_check_key(&k, w->node->name, sid, check_id);
    row.key = kv_key_slice(&k);
    if (kv_tx_get(w->tx, row.key, &row.value)) {
        err = kv_unpack_check(w->arena, &row, w->node->name,
                              sid[0] == '\0' ? NULL : w->service, &check);
    }
    if (err != MR_OK) {
        fail(w->view, err);
        return NULL;
    }
    return check;
}

static bool visit_check(struct walk *w, struct kv_row *row, const char *part,
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
    struct walk w;
    enum mr_err err;

    walk_init(&w, view);
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
    struct walk w;

    walk_init(&w, view);
    w.node = kv_node_find(w.tx, w.arena, node);
    if (w.node != NULL) {
        walk_parts(&w, KV_NODE_CHECK, visit_check, &v);
    }
    set_index(out_index, kv_view_meta(view)->checks_rev);
    return kv_view_error(view);
}

static int compare_checks(const void *a, const void *b)
{
    const Mr__Check *const *x = a;
    const Mr__Check *const *y = b;

    return strcmp((*x)->check_id, (*y)->check_id);
}

/* Hand out the gathered checks of one node by check ID. */
static bool emit_checks(struct walk *w, mr_kv_check_cb cb, void *arg)
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
    struct walk w;
    bool is_new_node = false;
    bool goes_on = true;

    walk_init(&w, view);
    service_prefix(&k, name);
    kv_scan_open(&scan, w.tx, kv_key_slice(&k));
    while (goes_on &&
           (service = next_instance(&w, &scan, &is_new_node)) != NULL) {
        if (is_new_node) {
            goes_on = emit_checks(&w, cb, arg);
        }
        gather_checks(&w, service);
    }
    if (goes_on) {
        (void)emit_checks(&w, cb, arg); /* The last node's. */
    }
    kv_scan_close(&scan);
    set_index(out_index, kv_view_meta(view)->checks_rev);
    return kv_view_error(view);
}

/* Walk rows under @prefix that name a node, a check ID and, as the value, a
 * service ID; @skip bytes of the key come before the node. */
static void walk_checks(struct walk *w, const struct kv_row_key *prefix,
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
            (void)walk_to_node(w, parts[0]); /* Same or other: it is there. */
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
    struct walk w;

    walk_init(&w, view);
    if (state != NULL && kv_state_key(&prefix, state)) {
        walk_checks(&w, &prefix, 1, &v);
    } else {
        kv_key_init(&prefix, KV_NODE_CHECK);
        walk_checks(&w, &prefix, 0, &v);
    }
    set_index(out_index, kv_view_meta(view)->checks_rev);
    return kv_view_error(view);
}

/* ------------------------------------------------------------ addresses */

static bool emit_address_node(struct walk *w, struct mr_slice node,
                              mr_kv_node_cb cb, void *arg)
{
    (void)walk_to_node(w, node); /* Same or other: it is there. */
    return w->node != NULL && cb(arg, w->node);
}

static bool emit_address_service(struct walk *w, struct mr_slice key,
                                 mr_kv_service_cb cb, void *arg)
{
    struct mr_slice parts[2];
    const char *id;

    if (!kv_key_split(key, parts, 2)) {
        fail(w->view, MR_E_CORRUPT);
        return false;
    }
    (void)walk_to_node(w, parts[0]); /* Same or other: it is there. */
    id = kv_arena_text(w->arena, parts[1]);
    if (w->node == NULL || id == NULL) {
        return false;
    }
    walk_to_service(w, id);
    return w->service != NULL && cb(arg, w->service);
}

enum mr_err mr_kv_address_lookup(struct mr_kv_view *view, const char *address,
                                 mr_kv_node_cb node_cb,
                                 mr_kv_service_cb service_cb, void *arg)
{
    struct kv_row_key prefix;
    struct kv_scan scan;
    struct kv_row row;
    struct walk w;
    bool goes_on = true;

    if (!kv_address_key(&prefix, address)) {
        return MR_OK;
    }
    walk_init(&w, view);
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
