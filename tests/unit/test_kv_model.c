/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random commands against a naive model, from a seed: KV_SEED=n repeats one.
 *
 * Two stores get the same commands, one in batches of one and the other in
 * random batches with restarts and restores in between. They must agree with
 * each other by digest, and with the model by answer. Indexes must move when an
 * answer changed and never go back.
 */
#include "tests/unit/kv_fixture.h"

#define N_KEYS 24
#define N_NODES 4
#define N_IDS 4
#define N_NAMES 3
#define N_CHECKS 5
#define N_STEPS 4000
#define CHECK_EVERY 40

static const char *const node_names[N_NODES] = {"alpha", "Beta", "gamma.x",
                                                "delta"};
static const char *const ids[N_IDS] = {"i1", "i2", "ID-3", "i"};
static const char *const service_names[N_NAMES] = {"web", "Db", "a.b.c"};
static const char *const check_ids[N_CHECKS] = {"c1", "c2", "z", "C", "c10"};
static const char *const statuses[] = {"passing", "warning", "critical"};
static const char *const tags[] = {"t1", "t2"};
static const char *const addresses[] = {"10.0.0.1", "10.0.0.2", "fe80::1"};

struct model_key {
    bool exists;
    char name[560];
    int value;
    uint64_t create;
    uint64_t modify;
};

struct model_service {
    bool exists;
    int name;
    int tag;
    int port;
};

struct model_check {
    bool exists;
    int service; /* Index of its ID, or -1. */
    int status;
};

struct model_node {
    bool exists;
    int address;
    struct model_service services[N_IDS];
    struct model_check checks[N_CHECKS];
};

struct model {
    struct fixture one;  /* One command a batch. */
    struct fixture many; /* Random batches. */
    bool is_open;        /* many's batch. */
    uint64_t random;
    uint64_t revision;
    struct model_key keys[N_KEYS];
    struct model_node nodes[N_NODES];
    char answers[16][4096]; /* The last ones and their indexes. */
    uint64_t indexes[16];
};

static unsigned pick(struct model *m, unsigned n)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(m->random >> 33) % n;
}

/* ------------------------------------------------------------ applying */

static void close_batch(struct model *m)
{
    if (m->is_open) {
        assert_int_equal(mr_kv_batch_commit(m->many.kv, ++m->many.index, 1),
                         MR_OK);
        m->is_open = false;
    }
}

/* Apply to both stores and compare with what the model says. */
static void apply(struct model *m, Mr__Command *cmd, bool is_changed,
                  enum mr_kv_verdict verdict)
{
    struct mr_kv_result r = fx_apply(&m->one, cmd);
    struct mr_kv_result s;

    if (!m->is_open) {
        assert_int_equal(mr_kv_batch_begin(m->many.kv), MR_OK);
        m->is_open = true;
    }
    s = fx_step(&m->many, cmd);
    assert_int_equal(r.verdict, verdict);
    assert_int_equal(r.changed, is_changed);
    assert_int_equal(r.revision, m->revision);
    assert_int_equal(r.revision, s.revision);
    assert_int_equal(r.verdict, s.verdict);
    assert_string_equal(r.text, s.text);
    if (pick(m, 5) == 0) {
        close_batch(m);
    }
}

/* ------------------------------------------------------------ keys */

static void step_put(struct model *m)
{
    struct model_key *k = &m->keys[pick(m, N_KEYS)];
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    enum mr_kv_verdict verdict = MR_KV_DONE;
    int value = (int)pick(m, 3);
    bool is_changed = !k->exists || k->value != value;
    char text[8];

    (void)snprintf(text, sizeof text, "v%d", value);
    put.key = fx_bytes(k->name);
    put.value = fx_bytes(text);
    if (pick(m, 3) == 0) {
        put.has_cas = 1;
        put.cas = pick(m, 2) == 0 ? 0 : k->modify;
        if (put.cas != (k->exists ? k->modify : 0)) {
            verdict = MR_KV_MISMATCH;
            is_changed = false;
        }
    }
    if (is_changed) {
        m->revision++;
        k->create = k->exists ? k->create : m->revision;
        k->modify = m->revision;
        k->value = value;
        k->exists = true;
    }
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    apply(m, &cmd, is_changed, verdict);
}

static void step_delete(struct model *m)
{
    struct model_key *k = &m->keys[pick(m, N_KEYS)];
    Mr__KeyDelete del = MR__KEY_DELETE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    size_t len = strlen(k->name);
    bool is_changed = false;
    size_t i;

    del.recurse = pick(m, 4) == 0;
    if (del.recurse && pick(m, 2) == 0) {
        len = len * pick(m, 100) / 100;
    }
    del.key = (ProtobufCBinaryData){len, (uint8_t *)k->name};
    for (i = 0; i < N_KEYS; i++) {
        struct model_key *at = &m->keys[i];

        if (at->exists && strncmp(at->name, k->name, len) == 0 &&
            (del.recurse || at == k)) {
            at->exists = false;
            is_changed = true;
        }
    }
    m->revision += is_changed ? 1 : 0;
    cmd.op_case = MR__COMMAND__OP_KEY_DELETE;
    cmd.key_delete = &del;
    apply(m, &cmd, is_changed, MR_KV_DONE);
}

/* ------------------------------------------------------------ catalog */

static bool model_service(struct model_node *node, struct model_service want,
                          int id)
{
    struct model_service *s = &node->services[id];
    bool is_changed = !s->exists || s->name != want.name ||
                      s->tag != want.tag || s->port != want.port;

    want.exists = true;
    *s = want;
    return is_changed;
}

static bool model_check(struct model_node *node, struct model_check want,
                        int id)
{
    struct model_check *c = &node->checks[id];
    bool is_changed =
        !c->exists || c->service != want.service || c->status != want.status;

    want.exists = true;
    *c = want;
    return is_changed;
}

static void step_register(struct model *m)
{
    int n = (int)pick(m, N_NODES);
    struct model_node *node = &m->nodes[n];
    struct model_service service = {true, (int)pick(m, N_NAMES),
                                    (int)pick(m, 2), (int)pick(m, 2)};
    struct model_check check = {true, (int)pick(m, N_IDS + 1) - 1,
                                (int)pick(m, 3)};
    int id = (int)pick(m, N_IDS);
    int check_id = (int)pick(m, N_CHECKS);
    int address = node->exists ? node->address : (int)pick(m, 3);
    bool has_service = pick(m, 3) > 0;
    bool has_check = pick(m, 2) == 0;
    bool is_changed = !node->exists;
    bool is_refused;
    Mr__Node node_row = MR__NODE__INIT;
    Mr__Service service_row = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service_row};
    Mr__Check check_row = MR__CHECK__INIT;
    Mr__Check *checks[] = {&check_row};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    char *tag = S(tags[service.tag]);

    if (pick(m, 8) == 0) {
        address = (int)pick(m, 3);
    }
    node_row.name = S(node_names[n]);
    node_row.address = S(addresses[address]);
    reg.node = &node_row;
    if (has_service) {
        service_row.id = S(ids[id]);
        service_row.name = S(service_names[service.name]);
        service_row.tags = &tag;
        service_row.n_tags = 1;
        service_row.port = service.port;
        service_row.address = S(addresses[service.port]);
        reg.services = services;
        reg.n_services = 1;
    }
    if (has_check) {
        check_row.check_id = S(check_ids[check_id]);
        check_row.status = S(statuses[check.status]);
        check_row.service_id = S(check.service < 0 ? "" : ids[check.service]);
        reg.checks = checks;
        reg.n_checks = 1;
    }
    is_refused = has_check && check.service >= 0 &&
                 !node->services[check.service].exists &&
                 !(has_service && check.service == id);
    if (!is_refused) {
        is_changed |= node->address != address;
        node->exists = true;
        node->address = address;
        is_changed |= has_service && model_service(node, service, id);
        is_changed |= has_check && model_check(node, check, check_id);
    } else {
        is_changed = false;
    }
    m->revision += is_changed ? 1 : 0;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    apply(m, &cmd, is_changed, is_refused ? MR_KV_REFUSED : MR_KV_DONE);
}

static bool model_remove_service(struct model_node *node, int id)
{
    bool is_changed = node->services[id].exists;
    int i;

    node->services[id].exists = false;
    for (i = 0; i < N_CHECKS; i++) {
        if (node->checks[i].service == id) {
            node->checks[i].exists = false;
        }
    }
    return is_changed;
}

static void step_deregister(struct model *m)
{
    int n = (int)pick(m, N_NODES);
    struct model_node *node = &m->nodes[n];
    Mr__Deregister dereg = MR__DEREGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    unsigned what = pick(m, 7);
    bool is_changed;

    dereg.node = S(node_names[n]);
    if (what < 3) {
        int id = (int)pick(m, N_IDS);

        dereg.service_id = S(ids[id]);
        is_changed = model_remove_service(node, id);
    } else if (what < 6) {
        int id = (int)pick(m, N_CHECKS);

        dereg.check_id = S(check_ids[id]);
        is_changed = node->checks[id].exists;
        node->checks[id].exists = false;
    } else {
        is_changed = node->exists;
        memset(node, 0, sizeof *node);
    }
    m->revision += is_changed ? 1 : 0;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &dereg;
    apply(m, &cmd, is_changed, MR_KV_DONE);
}

static void step_update(struct model *m)
{
    int n = (int)pick(m, N_NODES);
    int id = (int)pick(m, N_CHECKS);
    int status = (int)pick(m, 3);
    struct model_check *c = &m->nodes[n].checks[id];
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    bool is_changed = c->exists && c->status != status;

    update.node = S(node_names[n]);
    update.check_id = S(check_ids[id]);
    update.status = S(statuses[status]);
    if (c->exists) {
        c->status = status;
    }
    m->revision += is_changed ? 1 : 0;
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &update;
    apply(m, &cmd, is_changed, c->exists ? MR_KV_DONE : MR_KV_REFUSED);
}

/* ------------------------------------------------------------ looking */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sort indexes by the lower-cased names behind them. */
static void sort_names(const char *const *names, int n, int *out)
{
    char lower[8][64];
    const char *sorted[8];
    int i;
    int j;

    for (i = 0; i < n; i++) {
        for (j = 0; names[i][j] != '\0'; j++) {
            char c = names[i][j];

            lower[i][j] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        lower[i][j] = '\0';
        sorted[i] = lower[i];
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_text);
    for (i = 0; i < n; i++) {
        out[i] = (int)(((const char(*)[64])(const void *)sorted[i]) -
                       (const char(*)[64])lower);
    }
}

static void sort_ids(const char *const *texts, int n, int *out)
{
    int i;
    int j;

    for (i = 0; i < n; i++) {
        int rank = 0;

        for (j = 0; j < n; j++) {
            rank += strcmp(texts[j], texts[i]) < 0 ? 1 : 0;
        }
        out[rank] = i;
    }
}

static void expect_checks(struct fx_text *t, const struct model_node *node,
                          int service, bool *is_first)
{
    int order[N_CHECKS];
    int i;

    sort_ids(check_ids, N_CHECKS, order);
    for (i = 0; i < N_CHECKS; i++) {
        const struct model_check *c = &node->checks[order[i]];

        if (c->exists && c->service == service) {
            fx_add(t, "%s%s=%s", *is_first ? "" : ",", check_ids[order[i]],
                   statuses[c->status]);
            *is_first = false;
        }
    }
}

static void expect_instances(struct model *m, int name, struct fx_text *t)
{
    int node_order[N_NODES];
    int id_order[N_IDS];
    int i;
    int j;

    *t = (struct fx_text){.len = 0};
    sort_names(node_names, N_NODES, node_order);
    sort_ids(ids, N_IDS, id_order);
    for (i = 0; i < N_NODES; i++) {
        const struct model_node *node = &m->nodes[node_order[i]];

        for (j = 0; j < N_IDS; j++) {
            const struct model_service *s = &node->services[id_order[j]];
            bool is_first = true;

            if (!s->exists || s->name != name) {
                continue;
            }
            fx_add(t, "%s/%s:%d[", node_names[node_order[i]], ids[id_order[j]],
                   s->port);
            expect_checks(t, node, -1, &is_first);
            expect_checks(t, node, id_order[j], &is_first);
            fx_add(t, "] ");
        }
    }
}

/* @index must have moved if the answer of @slot did, and must not go back. */
static void follow(struct model *m, int slot, const char *answer,
                   uint64_t index)
{
    assert_true(index >= 1 && index >= m->indexes[slot]);
    if (strcmp(m->answers[slot], answer) != 0) {
        assert_true(index > m->indexes[slot]);
    }
    assert_true(index <= m->revision);
    m->indexes[slot] = index;
    assert_true(strlen(answer) < sizeof m->answers[slot]);
    (void)strcpy(m->answers[slot], answer);
}

static bool add_key_row(void *arg, const Mr__Key *key)
{
    fx_add(arg, "%.*s%d=%.*s:%d,%d ",
           (int)(key->key.len > 20 ? 20 : key->key.len),
           (const char *)key->key.data, (int)key->key.len, (int)key->value.len,
           (const char *)key->value.data, (int)key->create_rev,
           (int)key->modify_rev);
    return true;
}

static void check_keys(struct model *m, struct mr_kv_view *view)
{
    static const char *const prefixes[] = {"", "k/", "k/1", "kkkkkkk", "x"};
    struct fx_text t;
    struct fx_text want;
    uint64_t index;
    size_t p;
    int i;

    for (p = 0; p < MR_ARRAY_LEN(prefixes); p++) {
        t = want = (struct fx_text){.len = 0};
        assert_int_equal(mr_kv_key_list(view, mr_slice_str(prefixes[p]),
                                        add_key_row, &t, &index),
                         MR_OK);
        for (i = 0; i < N_KEYS; i++) { /* They are sorted. */
            const struct model_key *k = &m->keys[i];

            if (k->exists &&
                strncmp(k->name, prefixes[p], strlen(prefixes[p])) == 0) {
                fx_add(&want, "%.20s%d=v%d:%d,%d ", k->name,
                       (int)strlen(k->name), k->value, (int)k->create,
                       (int)k->modify);
            }
        }
        assert_string_equal(t.text, want.text);
        follow(m, (int)p, t.text, index);
    }
}

static bool add_check(void *arg, const Mr__Check *check)
{
    fx_add(arg, "%s/%s@%s%s ", check->node, check->check_id, check->service_id,
           check->n_service_tags > 0 ? check->service_tags[0] : "");
    return true;
}

static void check_states(struct model *m, struct mr_kv_view *view)
{
    int node_order[N_NODES];
    int check_order[N_CHECKS];
    struct fx_text t;
    struct fx_text want;
    uint64_t index;
    int s;
    int i;
    int j;

    sort_names(node_names, N_NODES, node_order);
    sort_ids(check_ids, N_CHECKS, check_order);
    for (s = 0; s < 3; s++) {
        t = want = (struct fx_text){.len = 0};
        assert_int_equal(
            mr_kv_state_checks(view, statuses[s], add_check, &t, &index),
            MR_OK);
        for (i = 0; i < N_NODES * N_CHECKS; i++) {
            const struct model_node *n = &m->nodes[node_order[i / N_CHECKS]];
            const struct model_check *c = &n->checks[check_order[i % N_CHECKS]];

            if (c->exists && c->status == s) {
                j = c->service;
                fx_add(
                    &want, "%s/%s@%s%s ", node_names[node_order[i / N_CHECKS]],
                    check_ids[check_order[i % N_CHECKS]], j < 0 ? "" : ids[j],
                    j < 0 ? "" : tags[n->services[j].tag]);
            }
        }
        assert_string_equal(t.text, want.text);
        follow(m, 8 + s, t.text, index);
    }
}

static bool add_name(void *arg, const struct mr_kv_service_name *name)
{
    size_t i;

    fx_add(arg, "%c%d", name->name[0] | 32, (int)name->n_instances);
    for (i = 0; i < name->n_tags; i++) {
        fx_add(arg, "%s", name->tags[i]);
    }
    fx_add(arg, " ");
    return true;
}

static void check_names(struct model *m, struct mr_kv_view *view)
{
    struct fx_text t = {.len = 0};
    struct fx_text want = {.len = 0};
    int order[N_NAMES];
    uint64_t index;
    int i;
    int j;

    sort_names(service_names, N_NAMES, order);
    assert_int_equal(mr_kv_service_names(view, add_name, &t, &index), MR_OK);
    for (i = 0; i < N_NAMES; i++) {
        int counts[2] = {0, 0};

        for (j = 0; j < N_NODES * N_IDS; j++) {
            const struct model_service *s =
                &m->nodes[j / N_IDS].services[j % N_IDS];

            if (s->exists && s->name == order[i]) {
                counts[s->tag]++;
            }
        }
        if (counts[0] + counts[1] > 0) {
            fx_add(&want, "%c%d%s%s ", service_names[order[i]][0] | 32,
                   counts[0] + counts[1], counts[0] > 0 ? tags[0] : "",
                   counts[1] > 0 ? tags[1] : "");
        }
    }
    assert_string_equal(t.text, want.text);
    follow(m, 7, t.text, index);
}

static bool count_service(void *arg, const Mr__Service *service)
{
    (void)service;
    ((int *)arg)[1]++;
    return true;
}

static bool count_node(void *arg, const Mr__Node *node)
{
    (void)node;
    ((int *)arg)[0]++;
    return true;
}

static void check_addresses(struct model *m, struct mr_kv_view *view)
{
    int a;
    int i;

    for (a = 0; a < 3; a++) {
        int counts[2] = {0, 0};
        int want[2] = {0, 0};

        assert_int_equal(mr_kv_address_lookup(view, addresses[a], count_node,
                                              count_service, counts),
                         MR_OK);
        for (i = 0; i < N_NODES * N_IDS; i++) {
            const struct model_node *n = &m->nodes[i / N_IDS];

            want[0] += i % N_IDS == 0 && n->exists && n->address == a;
            want[1] += n->services[i % N_IDS].exists &&
                       n->services[i % N_IDS].port == a;
        }
        assert_int_equal(counts[0], want[0]);
        assert_int_equal(counts[1], want[1]);
    }
}

static void check_everything(struct model *m, struct fixture *f)
{
    struct mr_kv_view *view = fx_view(f);
    struct fx_text t;
    struct fx_text want;
    uint64_t index;
    int i;

    check_keys(m, view);
    check_states(m, view);
    check_names(m, view);
    check_addresses(m, view);
    mr_kv_view_end(view);
    for (i = 0; i < N_NAMES; i++) {
        expect_instances(m, i, &want);
        assert_string_equal(fx_instances(f, service_names[i], &t, &index),
                            want.text);
        follow(m, 12 + i, t.text, index);
    }
    fx_check_digest(f);
}

/* ------------------------------------------------------------ disturbances */

struct memory {
    uint8_t *data;
    size_t len;
    size_t at;
};

static enum mr_err write_memory(void *arg, struct mr_slice bytes)
{
    struct memory *s = arg;

    s->data = realloc(s->data, s->len + bytes.len);
    assert_non_null(s->data);
    memcpy(s->data + s->len, bytes.data, bytes.len);
    s->len += bytes.len;
    return MR_OK;
}

static enum mr_err read_memory(void *arg, void *out, size_t cap,
                               size_t *out_len)
{
    struct memory *s = arg;
    size_t n = s->len - s->at < cap ? s->len - s->at : cap;

    memcpy(out, s->data + s->at, n);
    s->at += n;
    *out_len = n;
    return MR_OK;
}

static void disturb(struct model *m)
{
    struct memory s = {NULL, 0, 0};
    struct mr_kv_view *view;

    close_batch(m);
    if (pick(m, 2) == 0) {
        mr_kv_close(m->many.kv);
        fx_open_as(&m->many, "boot");
        return;
    }
    view = fx_view(&m->one);
    assert_int_equal(mr_kv_snapshot(view, write_memory, &s), MR_OK);
    mr_kv_view_end(view);
    assert_int_equal(mr_kv_restore(m->many.kv, read_memory, &s, NULL), MR_OK);
    m->many.index = mr_kv_applied(m->many.kv, NULL);
    free(s.data);
}

static void check_both(struct model *m)
{
    close_batch(m);
    assert_int_equal(mr_kv_digest(m->one.kv, NULL).high,
                     mr_kv_digest(m->many.kv, NULL).high);
    assert_int_equal(mr_kv_digest(m->one.kv, NULL).low,
                     mr_kv_digest(m->many.kv, NULL).low);
    check_everything(m, &m->one);
    check_everything(m, &m->many);
}

static void init_keys(struct model *m)
{
    const char *sorted[N_KEYS];
    char names[N_KEYS][560];
    int i;

    for (i = 0; i < N_KEYS; i++) {
        memset(names[i], 'k', 530);
        (void)snprintf(i % 3 == 0 ? names[i] + 520 : names[i], 30, "k/%d/%d",
                       i % 4, i);
        sorted[i] = names[i];
    }
    qsort(sorted, N_KEYS, sizeof *sorted, by_text);
    for (i = 0; i < N_KEYS; i++) {
        (void)strcpy(m->keys[i].name, sorted[i]);
    }
}

static void run(uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);
    int i;

    assert_non_null(m);
    m->random = seed;
    m->revision = 1;
    init_keys(m);
    fx_init(&m->one);
    fx_init(&m->many);
    for (i = 0; i < N_STEPS; i++) {
        unsigned what = pick(m, 100);

        if (what < 30) {
            step_put(m);
        } else if (what < 42) {
            step_delete(m);
        } else if (what < 75) {
            step_register(m);
        } else if (what < 88) {
            step_deregister(m);
        } else {
            step_update(m);
        }
        if (i % CHECK_EVERY == 0) {
            check_both(m);
        }
        if (pick(m, 200) == 0) {
            disturb(m);
        }
    }
    check_both(m);
    fx_deinit(&m->one);
    fx_deinit(&m->many);
    free(m);
}

/* Both stores and the model agree for every seed; those listed have found
 * something once. */
static void stores_agree_with_the_model(void **state)
{
    static const uint64_t seeds[] = {1, 2, 3, 113, 170, 198, 242};
    const char *given = getenv("KV_SEED");
    size_t i;

    (void)state;
    if (given != NULL) {
        run(strtoull(given, NULL, 10));
        return;
    }
    for (i = 0; i < MR_ARRAY_LEN(seeds); i++) {
        print_message("seed %d\n", (int)seeds[i]);
        run(seeds[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_agree_with_the_model),
    };

    return cmocka_run_group_tests_name("kv_model", tests, NULL, NULL);
}
