/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording what a command changed.
 *
 * Which objects may have changed follows from the captured rows that show
 * something else than before:
 *  - a key, a node, a check: the row itself;
 *  - a service: its instance, and its checks, which show its name and tags;
 *  - a check of a service: the service's instance;
 *  - a node, or a check of a node: every instance on it; and all its checks,
 *    when it is spelled otherwise.
 * So the catalog is gone through node by node, and on each by instance.
 */
#include "kv/record.h"

#include <string.h>

#include "kv/catalog.h"
#include "kv/record_rows.h"

/* The memory that is kept for the next command. */
#define KEPT_BYTES ((size_t)1 << 20)

void kv_recorder_init(struct kv_recorder *r, struct kv_batch *b,
                      size_t max_bytes)
{
    r->b = b;
    r->capture = &b->capture;
    mr_buf_init(&r->gone, max_bytes);
}

void kv_recorder_deinit(struct kv_recorder *r)
{
    mr_buf_deinit(&r->gone);
}

/* ------------------------------------------------------------ keys */

static void record_key(struct kv_recorder *r, const struct kv_captured *c)
{
    struct kv_event_head head = {.object = MR_KV_OBJECT_KEY,
                                 .action = MR_KV_ACTION_DELETE};
    struct kv_row row = {c->key, c->was};
    bool is_there = kv_tx_get_last(&r->b->tx, c->key, &row.value);

    if (!is_there && !c->existed) {
        return;
    }
    if (is_there) {
        head.action =
            (uint8_t)(c->existed ? MR_KV_ACTION_UPDATE : MR_KV_ACTION_CREATE);
    }
    kv_event_add(kv_event_out(r, (enum mr_kv_action)head.action), head, &row);
}

static void record_keys(struct kv_recorder *r)
{
    for (size_t i = 0; i < r->capture->n; i++) {
        const struct kv_captured *c = &r->capture->rows[i];

        if (*(const uint8_t *)c->key.data != KV_KEY) {
            break; /* The first table. */
        }
        record_key(r, c);
    }
}

/* ------------------------------------------------------------ what to look at
 */

/* What may have changed, by the keys of NODE_SERVICE rows: instances, and with
 * an empty ID the node itself with its own checks. */
struct subjects {
    struct mr_slice *keys;
    size_t n;
    size_t cap;
};

static void push(struct kv_recorder *r, struct subjects *s, struct mr_slice key)
{
    struct kv_arena *arena = &r->b->scratch;

    /* One command often changes the service and the check of an instance. */
    if (s->n == 0 || !mr_slice_eq(s->keys[s->n - 1], key)) {
        (void)kv_arena_push(arena, &s->keys, &s->n, &s->cap,
                            kv_arena_copy(arena, key)); /* The arena knows. */
    }
}

static void push_instance(struct kv_recorder *r, struct subjects *s,
                          struct mr_slice node, struct mr_slice id)
{
    struct kv_row_key k;

    kv_key_init(&k, KV_NODE_SERVICE);
    kv_key_add(&k, node);
    kv_key_byte(&k, 0);
    kv_key_add(&k, id);
    push(r, s, kv_key_slice(&k));
}

/* The node and every instance on it; those that are gone were captured
 * themselves. */
static void push_node(struct kv_recorder *r, struct subjects *s,
                      struct mr_slice node)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;

    kv_key_init(&k, KV_NODE_SERVICE);
    kv_key_add(&k, node);
    kv_key_byte(&k, 0);
    push(r, s, kv_key_slice(&k));
    kv_scan_open(&scan, &r->b->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row)) {
        push(r, s, row.key);
    }
    kv_scan_close(&scan);
}

static void collect(struct kv_recorder *r, struct subjects *s)
{
    for (size_t i = 0; i < r->capture->n; i++) {
        const struct kv_captured *c = &r->capture->rows[i];
        struct mr_slice parts[3];

        if (!c->is_changed) {
            continue;
        }
        if (*(const uint8_t *)c->key.data == KV_NODE) {
            push_node(
                r, s,
                mr_slice((const uint8_t *)c->key.data + 1, c->key.len - 1));
        } else if (!kv_key_split(c->key, parts, 3)) {
            kv_tx_fail(&r->b->tx, MR_E_CORRUPT);
        } else if (*(const uint8_t *)c->key.data == KV_SERVICE) {
            push_instance(r, s, parts[1], parts[2]);
        } else if (parts[1].len > 0) {
            push_instance(r, s, parts[0], parts[1]);
        } else {
            push_node(r, s, parts[0]);
        }
    }
    if (r->b->scratch.failed) {
        s->n = 0;
    } else if (s->n > 1) {
        s->n = kv_keys_unique(s->keys, s->n);
    }
}

/* ------------------------------------------------------------ nodes, checks */

/* A node, and what is looked at on it. */
struct place {
    struct mr_slice name; /* Lower. */
    struct kv_change node;
    bool is_respelled;
    struct kv_changes node_checks; /* Of the node itself. */
    struct kv_changes checks;      /* Of the instance. */
};

/* Find what became of the checks of the service @id, or of the node itself. */
static void find_checks(struct kv_recorder *r, struct mr_slice node,
                        struct mr_slice id, struct kv_changes *out)
{
    struct kv_row_key k;

    kv_key_init(&k, KV_CHECK);
    kv_key_add(&k, node);
    kv_key_byte(&k, 0);
    kv_key_add(&k, id);
    kv_key_byte(&k, 0);
    out->n = 0;
    kv_row_changes(r, kv_key_slice(&k), out);
}

static void enter(struct kv_recorder *r, struct place *p, struct mr_slice name)
{
    struct kv_row_key k;
    struct mr_slice key;

    kv_key_init(&k, KV_NODE);
    kv_key_add(&k, name);
    key = kv_arena_copy(&r->b->scratch, kv_key_slice(&k));
    p->name = name;
    p->node = kv_row_change(r, key);
    p->is_respelled = kv_is_there(&p->node, KV_WAS) &&
                      kv_is_there(&p->node, KV_IS) &&
                      kv_row_differs(&p->node, UINT64_C(1) << KV_NODE_SPELLING);
    find_checks(r, name, mr_slice(NULL, 0), &p->node_checks);
}

/* What becomes of an object that @was there and @is there. */
static enum mr_kv_action action_of(bool was, bool is)
{
    return !was  ? MR_KV_ACTION_CREATE
           : !is ? MR_KV_ACTION_DELETE
                 : MR_KV_ACTION_UPDATE;
}

static void record_node(struct kv_recorder *r, const struct place *p)
{
    bool is = kv_is_there(&p->node, KV_IS);
    enum mr_kv_action action = action_of(kv_is_there(&p->node, KV_WAS), is);
    struct kv_event_head head = {.object = MR_KV_OBJECT_NODE,
                                 .action = (uint8_t)action,
                                 .name = kv_event_name(p->name)};

    kv_event_add(kv_event_out(r, action), head,
                 &p->node.at[is ? KV_IS : KV_WAS]);
}

/* An event of @check, which is of @service, or NULL. */
static void write_check(struct kv_recorder *r, enum mr_kv_action action,
                        const struct place *p, const struct kv_change *service,
                        const struct kv_change *check)
{
    enum kv_when when = action == MR_KV_ACTION_DELETE ? KV_WAS : KV_IS;
    struct kv_event_head head = {.object = MR_KV_OBJECT_CHECK,
                                 .action = (uint8_t)action};
    struct mr_buf *out = kv_event_out(r, action);
    size_t at = kv_event_begin(out, head,
                               action == MR_KV_ACTION_CREATE
                                   ? mr_slice(NULL, 0)
                                   : kv_row_status(&check->at[KV_WAS]));

    kv_event_row(out, &p->node.at[when]);
    kv_event_row(out, &check->at[when]);
    if (service != NULL) {
        kv_event_row(out, &service->at[when]);
    }
    kv_event_end(out, at);
}

/* Record the @checks of @service, or NULL. @is_moved: it has another name.
 * @is_other: it shows something else that its checks show. */
static void record_checks(struct kv_recorder *r, const struct place *p,
                          const struct kv_change *service,
                          const struct kv_changes *checks, bool is_moved,
                          bool is_other)
{
    for (size_t i = 0; i < checks->n; i++) {
        const struct kv_change *check = &checks->list[i];
        bool was = kv_is_there(check, KV_WAS);
        bool is = kv_is_there(check, KV_IS);

        if (was && is && is_moved) {
            write_check(r, MR_KV_ACTION_DELETE, p, service, check);
            write_check(r, MR_KV_ACTION_CREATE, p, service, check);
        } else if ((was || is) &&
                   (check->is_changed || is_other || p->is_respelled)) {
            write_check(r, action_of(was, is), p, service, check);
        }
    }
}

/* ------------------------------------------------------------ instances */

/* The row of the instance that the NODE_SERVICE row @link is about. */
static struct kv_change find_service(struct kv_recorder *r,
                                     const struct kv_row *link)
{
    static const struct kv_change absent;
    struct mr_slice part =
        mr_slice((const uint8_t *)link->key.data + 1, link->key.len - 1);
    struct kv_row_key k;

    if (link->value.data == NULL) {
        return absent;
    }
    kv_key_init(&k, KV_SERVICE);
    kv_key_add(&k, link->value);
    kv_key_byte(&k, 0);
    kv_key_add(&k, part);
    return kv_row_change(r, kv_arena_copy(&r->b->scratch, kv_key_slice(&k)));
}

/* The worst status that an instance has of its and its node's checks. */
static struct mr_slice worst_status(const struct place *p, enum kv_when when)
{
    const struct mr_slice passing = mr_slice_str("passing");
    const struct mr_slice critical = mr_slice_str("critical");
    const struct kv_changes *lists[] = {&p->node_checks, &p->checks};
    struct mr_slice worst = passing;

    for (int i = 0; i < 2; i++) {
        for (size_t n = 0; n < lists[i]->n; n++) {
            const struct kv_change *check = &lists[i]->list[n];
            struct mr_slice status = kv_row_status(&check->at[when]);

            if (!kv_is_there(check, when) || mr_slice_eq(status, passing)) {
                continue;
            }
            if (mr_slice_eq(status, critical)) {
                return critical;
            }
            worst = mr_slice_str("warning");
        }
    }
    return worst;
}

static bool any_is_changed(const struct kv_changes *checks)
{
    for (size_t i = 0; i < checks->n; i++) {
        if (checks->list[i].is_changed) {
            return true;
        }
    }
    return false;
}

static void add_checks(struct mr_buf *out, const struct kv_changes *checks,
                       enum kv_when when)
{
    for (size_t i = 0; i < checks->n; i++) {
        if (kv_is_there(&checks->list[i], when)) {
            kv_event_row(out, &checks->list[i].at[when]);
        }
    }
}

/* The rows of the services that have the name and the ID of @row on other nodes
 * now; returns how many, at most KV_TWINS_MAX. */
static size_t find_twins(struct kv_recorder *r, const struct kv_row *row,
                         struct kv_row *out)
{
    struct mr_slice own[3]; /* Service, node, ID. */
    struct mr_slice parts[3];
    struct kv_scan scan;
    struct kv_row other;
    size_t n = 0;

    if (!kv_twins_may_be(&r->b->twins, row->key) ||
        !kv_key_split(row->key, own, 3)) {
        return 0;
    }
    kv_scan_open(&scan, &r->b->tx,
                 mr_slice(row->key.data, own[0].len + 2)); /* Table and 0. */
    while (n < KV_TWINS_MAX && kv_scan_next(&scan, &other)) {
        if (kv_key_split(other.key, parts, 3) &&
            mr_slice_eq(parts[2], own[2]) && !mr_slice_eq(parts[1], own[1])) {
            out[n++] = other;
        }
    }
    kv_scan_close(&scan);
    return n;
}

/* Add the instance of @row, a service's, as it is now. */
static void add_twin(struct kv_recorder *r, struct mr_buf *out,
                     const struct kv_row *row)
{
    struct place p = {.name = {NULL, 0}};
    struct mr_slice parts[3]; /* Service, node, ID. */

    if (!kv_key_split(row->key, parts, 3)) {
        return; /* It was split before. */
    }
    enter(r, &p, parts[1]);
    find_checks(r, parts[1], parts[2], &p.checks);
    kv_event_row(out, &p.node.at[KV_IS]);
    kv_event_row(out, row);
    add_checks(out, &p.node_checks, KV_IS);
    add_checks(out, &p.checks, KV_IS);
}

static void add_twins(struct kv_recorder *r, struct mr_buf *out,
                      const struct kv_row *row)
{
    struct kv_row twins[KV_TWINS_MAX];
    size_t n = find_twins(r, row, twins);

    for (size_t i = 0; i < n; i++) {
        add_twin(r, out, &twins[i]);
    }
}

/* An event of the instance of @service on @p. @name: the hash of its name. */
static void write_instance(struct kv_recorder *r, enum mr_kv_action action,
                           const struct place *p,
                           const struct kv_change *service, uint64_t name)
{
    enum kv_when when = action == MR_KV_ACTION_DELETE ? KV_WAS : KV_IS;
    struct kv_event_head head = {
        .object = MR_KV_OBJECT_INSTANCE,
        .action = (uint8_t)action,
        .has_before = action == MR_KV_ACTION_UPDATE &&
                      (p->node.is_changed || service->is_changed),
        .name = name};
    struct mr_buf *out = kv_event_out(r, action);
    size_t at =
        kv_event_begin(out, head,
                       action == MR_KV_ACTION_CREATE ? mr_slice(NULL, 0)
                                                     : worst_status(p, KV_WAS));

    if (head.has_before) {
        kv_event_row(out, &p->node.at[KV_WAS]);
        kv_event_row(out, &service->at[KV_WAS]);
    }
    kv_event_row(out, &p->node.at[when]);
    kv_event_row(out, &service->at[when]);
    add_checks(out, &p->node_checks, when);
    add_checks(out, &p->checks, when);
    add_twins(r, out, &service->at[when]);
    kv_event_end(out, at);
}

/* Record the instance whose NODE_SERVICE row is @key, and its checks. */
static void record_instance(struct kv_recorder *r, struct place *p,
                            struct mr_slice key, struct mr_slice id)
{
    const struct kv_change link = kv_row_change(r, key);
    const struct kv_row *name = link.at;
    struct kv_change service = find_service(r, &name[KV_IS]);
    bool is_moved = false;
    bool is_other = false;
    bool was;
    bool is;

    if (!mr_slice_eq(name[KV_WAS].value, name[KV_IS].value)) {
        service.at[KV_WAS] = find_service(r, &name[KV_WAS]).at[KV_WAS];
        service.is_changed = true;
        is_moved = true;
    }
    was = kv_is_there(&service, KV_WAS);
    is = kv_is_there(&service, KV_IS);
    if (was && is) {
        is_moved = is_moved ||
                   kv_row_differs(&service, UINT64_C(1) << KV_SERVICE_SPELLING);
        is_other = kv_row_differs(&service, UINT64_C(1) << KV_SERVICE_TAGS);
    }
    find_checks(r, p->name, id, &p->checks);
    if (was && is && is_moved) {
        write_instance(r, MR_KV_ACTION_DELETE, p, &service,
                       kv_event_name(name[KV_WAS].value));
        write_instance(r, MR_KV_ACTION_CREATE, p, &service,
                       kv_event_name(name[KV_IS].value));
    } else if ((was || is) && (service.is_changed || p->node.is_changed ||
                               any_is_changed(&p->node_checks) ||
                               any_is_changed(&p->checks))) {
        write_instance(r, action_of(was, is), p, &service,
                       kv_event_name(name[is ? KV_IS : KV_WAS].value));
    }
    record_checks(r, p, &service, &p->checks, is_moved, is_other);
}

static void record_catalog(struct kv_recorder *r)
{
    struct subjects subjects = {NULL, 0, 0};
    struct place place = {.name = {NULL, 0}};

    kv_rows_compare(r);
    collect(r, &subjects);
    for (size_t i = 0; i < subjects.n; i++) {
        struct mr_slice key = subjects.keys[i];
        struct mr_slice parts[2]; /* Node, ID. */

        if (!kv_key_split(key, parts, 2)) {
            kv_tx_fail(&r->b->tx, MR_E_CORRUPT);
            return;
        }
        if (!mr_slice_eq(place.name, parts[0])) {
            enter(r, &place, parts[0]);
        }
        if (parts[1].len > 0) {
            record_instance(r, &place, key, parts[1]);
            continue;
        }
        if (place.node.is_changed) {
            record_node(r, &place);
        }
        record_checks(r, &place, NULL, &place.node_checks, false, false);
    }
}

/* ------------------------------------------------------------ a command */

static void record_part(struct kv_recorder *r, enum kv_history_part part,
                        void (*record)(struct kv_recorder *r))
{
    struct kv_pending *pending = &r->b->pending;
    uint64_t revision = r->b->meta.revision;

    r->others = kv_pending_begin(pending, part);
    r->is_lost = r->capture->is_full[part];
    if (!r->is_lost) {
        record(r);
    }
    if (r->is_lost || r->b->scratch.failed || mr_buf_failed(&r->gone)) {
        kv_pending_lose(pending, part, revision);
    } else {
        kv_pending_end(pending, part, mr_buf_slice(&r->gone), revision);
    }
    if (r->gone.cap > KEPT_BYTES) {
        mr_buf_deinit(&r->gone);
    }
    mr_buf_reset(&r->gone);
}

/* Whether the command wrote rows of @part; keys are sorted before others. */
static bool has_rows(const struct kv_capture *c, enum kv_history_part part)
{
    bool is_key = part == KV_HISTORY_KEYS;
    size_t at = is_key || c->n == 0 ? 0 : c->n - 1;

    return c->is_full[part] ||
           (c->n > 0 &&
            (*(const uint8_t *)c->rows[at].key.data == KV_KEY) == is_key);
}

void kv_record(struct kv_batch *b)
{
    struct kv_recorder *r = &b->recorder;

    kv_capture_end(r->capture);
    if (has_rows(r->capture, KV_HISTORY_KEYS)) {
        record_part(r, KV_HISTORY_KEYS, record_keys);
    }
    if (has_rows(r->capture, KV_HISTORY_CATALOG)) {
        record_part(r, KV_HISTORY_CATALOG, record_catalog);
    }
    if (b->tallies.noted != NULL) {
        record_part(r, KV_HISTORY_NAMES, kv_record_names);
    }
    kv_arena_reset(&b->scratch); /* It may be large. */
}
