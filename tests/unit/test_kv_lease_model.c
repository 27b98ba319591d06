/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random commands on what has deadlines, from a seed: KV_SEED=n repeats one.
 *
 * Two stores get the same commands, one in batches of one and the other in
 * random batches with restarts and restores in between; they must agree by
 * digest. After each step of the first one every lease must follow from the rows
 * (which check, registration, node, session, left member has which), the hooks
 * must have told exactly those, and the keys must be held as a naive model of
 * locks says.
 */
#include "tests/unit/kv_lease_fixture.h"

#define N_NODES 3
#define N_IDS 3
#define N_CHECKS 3
#define N_SESSIONS 6
#define N_KEYS 4
#define N_STEPS 2500
#define LEASES_MAX 4096

static const char *const nodes[N_NODES] = {"alpha", "Beta", "registry:Web"};
static const char *const ids[N_IDS] = {"i1", "i2", "i3"};
static const char *const checks[N_CHECKS] = {"serfHealth", "c1", "c2"};
static const char *const statuses[] = {"passing", "warning", "critical"};
static const char *const sessions[N_SESSIONS] = {"s0", "S1", "s2",
                                                 "s3", "s4", "s5"};
static const char *const keys[N_KEYS] = {"k0", "k1", "k1/x", "k2"};

struct model_key {
    bool exists;
    bool is_delayed;
    int value;
    int holder; /* Of sessions[], or -1. */
    uint64_t lock_index;
    uint64_t fence;
};

struct model_session {
    bool exists;
    bool is_delete;
    bool has_delay;
};

struct model {
    struct fixture one;  /* One command a batch. */
    struct fixture many; /* Random batches. */
    bool is_open;        /* many's batch. */
    uint64_t random;
    uint64_t live[LEASES_MAX]; /* TTLs of leases by ID, as the hook told. */
    uint64_t last_lease;
    size_t n_live;
    struct model_key keys[N_KEYS];
    struct model_session sessions[N_SESSIONS];
};

static unsigned pick(struct model *m, unsigned n)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(m->random >> 33) % n;
}

static void on_leases(void *arg, const struct mr_kv_lease_change *changes,
                      size_t n)
{
    struct model *m = arg;
    size_t i;

    for (i = 0; i < n; i++) {
        uint64_t id = changes[i].id;

        assert_in_range(id, 1, LEASES_MAX - 1);
        if (changes[i].is_new) {
            assert_true(id > m->last_lease); /* None is used twice. */
            assert_true(changes[i].ttl_ms > 0);
            m->last_lease = id;
            m->live[id] = changes[i].ttl_ms;
            m->n_live++;
        } else {
            assert_true(m->live[id] > 0);
            m->live[id] = 0;
            m->n_live--;
        }
    }
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

static struct mr_kv_result apply(struct model *m, Mr__Command *cmd)
{
    struct mr_kv_result r = fx_apply(&m->one, cmd);
    struct mr_kv_result s;

    if (!m->is_open) {
        assert_int_equal(mr_kv_batch_begin(m->many.kv), MR_OK);
        m->is_open = true;
    }
    s = fx_step(&m->many, cmd);
    assert_int_equal(r.verdict, s.verdict);
    assert_int_equal(r.changed, s.changed);
    assert_int_equal(r.revision, s.revision);
    assert_int_equal(r.fence, s.fence);
    assert_string_equal(r.text, s.text);
    if (pick(m, 5) == 0) {
        close_batch(m);
    }
    return r;
}

/* ------------------------------------------------------------ catalog steps */

static void step_register(struct model *m)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service};
    Mr__CheckDefinition definition = MR__CHECK_DEFINITION__INIT;
    Mr__Check check = MR__CHECK__INIT;
    Mr__Check *list[] = {&check};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    node.name = S(nodes[pick(m, N_NODES)]);
    node.address = S(pick(m, 4) == 0 ? "10.0.0.2" : "10.0.0.1");
    if (pick(m, 3) == 0) {
        node.ttl_ms = 4000;
        node.reap_ms = pick(m, 3) == 0 ? 0 : 9000;
    }
    reg.node = &node;
    if (pick(m, 2) == 0) {
        service.id = S(ids[pick(m, N_IDS)]);
        service.name = S(pick(m, 4) == 0 ? "db" : "web");
        service.port = pick(m, 2);
        service.ttl_ms = pick(m, 2) * 3000;
        service.incarnation = pick(m, 4);
        service.origin = (Mr__Origin)pick(m, 3);
        reg.services = services;
        reg.n_services = 1;
    }
    if (pick(m, 2) == 0) {
        check.check_id = S(checks[pick(m, N_CHECKS)]);
        check.status = S(statuses[pick(m, 3)]);
        check.service_id = S(pick(m, 3) == 0 ? "" : ids[pick(m, N_IDS)]);
        definition.ttl_ns = pick(m, 2) * 7 * SECOND / 2;
        definition.deregister_after_ns = pick(m, 2) * 60 * SECOND;
        check.definition = pick(m, 5) == 0 ? NULL : &definition;
        reg.checks = list;
        reg.n_checks = 1;
    }
    reg.replace_checks = pick(m, 10) == 0;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    (void)apply(m, &cmd);
}

static void step_deregister(struct model *m)
{
    Mr__Deregister dereg = MR__DEREGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    unsigned what = pick(m, 8);

    dereg.node = S(nodes[pick(m, N_NODES)]);
    if (what < 4) {
        dereg.service_id = S(ids[pick(m, N_IDS)]);
        dereg.registry_only = what == 3;
        dereg.incarnation = pick(m, 3);
    } else if (what < 7) {
        dereg.check_id = S(checks[pick(m, N_CHECKS)]);
    } else {
        dereg.left = pick(m, 2) == 0;
        dereg.left_ms = pick(m, 2) * 5000;
    }
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &dereg;
    (void)apply(m, &cmd);
}

static void step_update(struct model *m)
{
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    update.node = S(nodes[pick(m, N_NODES)]);
    update.check_id = S(checks[pick(m, N_CHECKS)]);
    update.status = S(statuses[pick(m, 3)]);
    update.output = S(pick(m, 2) == 0 ? "" : "out");
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &update;
    (void)apply(m, &cmd);
}

static void step_end(struct model *m)
{
    Mr__LeaseEnd__Ended ended[8];
    Mr__LeaseEnd__Ended *list[8];
    Mr__LeaseEnd end = MR__LEASE_END__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    bool is_any = false;
    size_t n = 1 + pick(m, 8);
    size_t i;

    for (i = 0; i < n; i++) {
        uint64_t back = pick(m, 12); /* The newest ones mostly live. */

        mr__lease_end__ended__init(&ended[i]);
        ended[i].id = m->last_lease > back ? m->last_lease - back : 77777;
        is_any |= ended[i].id != 77777 && m->live[ended[i].id] > 0;
        list[i] = &ended[i];
    }
    end.leases = list;
    end.n_leases = n;
    cmd.op_case = MR__COMMAND__OP_LEASE_END;
    cmd.lease_end = &end;
    assert_int_equal(apply(m, &cmd).changed, is_any);
}

/* ------------------------------------------------------------ lock steps */

static void step_create(struct model *m)
{
    unsigned i = pick(m, N_SESSIONS);
    Mr__Session session = MR__SESSION__INIT;
    Mr__SessionCreate create = MR__SESSION_CREATE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    char *bound[] = {S(checks[pick(m, N_CHECKS)])};

    session.id = S(sessions[i]);
    session.node = S(nodes[pick(m, N_NODES)]);
    session.ttl_ms = pick(m, 2) * 8000;
    session.lock_delay_ms = pick(m, 2) * 15000;
    session.behavior = pick(m, 3) == 0 ? MR__SESSION_BEHAVIOR__DELETE
                                       : MR__SESSION_BEHAVIOR__RELEASE;
    session.node_checks = bound;
    session.n_node_checks = pick(m, 2);
    cmd.op_case = MR__COMMAND__OP_SESSION_CREATE;
    cmd.session_create = &create;
    create.session = &session;
    if (apply(m, &cmd).verdict == MR_KV_DONE) {
        assert_false(m->sessions[i].exists);
        m->sessions[i].exists = true;
        m->sessions[i].is_delete =
            session.behavior == MR__SESSION_BEHAVIOR__DELETE;
        m->sessions[i].has_delay = session.lock_delay_ms > 0;
    }
}

static void step_destroy(struct model *m)
{
    unsigned i = pick(m, N_SESSIONS);
    Mr__SessionDestroy destroy = MR__SESSION_DESTROY__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    destroy.id = S(sessions[i]);
    cmd.op_case = MR__COMMAND__OP_SESSION_DESTROY;
    cmd.session_destroy = &destroy;
    assert_int_equal(apply(m, &cmd).changed, m->sessions[i].exists);
}

/* What an acquisition, a release or neither (@how 0, 1, 2) of @k by session @i
 * is answered. */
static enum mr_kv_verdict expect_put(const struct model *m,
                                     const struct model_key *k, unsigned how,
                                     unsigned i, bool is_fenced)
{
    if (is_fenced) {
        return MR_KV_MISMATCH;
    }
    if (how == 0) {
        return k->is_delayed            ? MR_KV_MISMATCH
               : !m->sessions[i].exists ? MR_KV_REFUSED
               : k->holder < 0          ? MR_KV_DONE
               : k->holder == (int)i    ? MR_KV_DONE
                                        : MR_KV_MISMATCH;
    }
    return how == 1 && k->holder != (int)i ? MR_KV_MISMATCH : MR_KV_DONE;
}

static void model_put(struct model_key *k, unsigned how, unsigned i, int value,
                      uint64_t revision)
{
    k->lock_index = how == 2 || !k->exists ? 0 : k->lock_index;
    k->exists = true;
    k->value = value;
    if (how == 0 && k->holder < 0) {
        k->holder = (int)i;
        k->lock_index++;
        k->fence = revision;
    } else if (how == 1) {
        k->holder = -1;
        k->fence = 0;
    }
}

static void step_put(struct model *m)
{
    unsigned at = pick(m, N_KEYS);
    unsigned fenced = pick(m, N_KEYS);
    unsigned i = pick(m, N_SESSIONS);
    unsigned how = pick(m, 3);
    int value = (int)pick(m, 2);
    struct model_key *k = &m->keys[at];
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    enum mr_kv_verdict want;
    struct mr_kv_result r;

    put.key = fx_bytes(keys[at]);
    put.value = fx_bytes(value == 0 ? "0" : "1");
    put.acquire = S(how == 0 ? sessions[i] : "");
    put.release = S(how == 1 ? sessions[i] : "");
    if (pick(m, 4) == 0) {
        put.fence_key = fx_bytes(keys[fenced]);
        put.fence = pick(m, 3) == 0 ? 3 : m->keys[fenced].fence;
    }
    want = expect_put(m, k, how, i,
                      put.fence != 0 && put.fence != m->keys[fenced].fence);
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    r = apply(m, &cmd);
    assert_int_equal(r.verdict, want);
    if (want == MR_KV_DONE) {
        model_put(k, how, i, value, r.revision);
        assert_int_equal(r.fence, how == 0 ? k->fence : 0);
    }
}

static void model_delete(struct model_key *k)
{
    k->exists = false;
    k->holder = -1;
    k->lock_index = 0;
    k->fence = 0;
}

static void step_delete(struct model *m)
{
    unsigned at = pick(m, N_KEYS);
    bool recurse = pick(m, 4) == 0;
    int i;

    for (i = 0; i < N_KEYS; i++) {
        if (i == (int)at ||
            (recurse && strncmp(keys[i], keys[at], strlen(keys[at])) == 0)) {
            model_delete(&m->keys[i]);
        }
    }
    {
        Mr__KeyDelete del = MR__KEY_DELETE__INIT;
        Mr__Command cmd = MR__COMMAND__INIT;

        del.key = fx_bytes(keys[at]);
        del.recurse = recurse;
        cmd.op_case = MR__COMMAND__OP_KEY_DELETE;
        cmd.key_delete = &del;
        (void)apply(m, &cmd);
    }
}

/* ------------------------------------------------------------ sessions end */

/* Sessions end for many reasons: see which did, and do to the keys what has to
 * follow. */
static void follow_sessions(struct model *m, struct mr_kv_view *view)
{
    int i;
    int j;

    for (i = 0; i < N_SESSIONS; i++) {
        struct model_session *s = &m->sessions[i];
        const Mr__Session *found;

        assert_int_equal(mr_kv_session_get(view, sessions[i], &found, NULL),
                         MR_OK);
        if (!s->exists || found != NULL) {
            assert_int_equal(s->exists, found != NULL);
            continue;
        }
        s->exists = false;
        for (j = 0; j < N_KEYS; j++) {
            struct model_key *k = &m->keys[j];

            if (k->holder != i) {
                continue;
            }
            k->is_delayed = s->has_delay;
            k->holder = -1;
            k->fence = 0;
            if (s->is_delete) {
                model_delete(k);
            }
        }
    }
}

static void check_key(const struct model *m, struct mr_kv_view *view, int i)
{
    const struct model_key *k = &m->keys[i];
    const Mr__Key *key;

    assert_int_equal(mr_kv_key_get(view, mr_slice_str(keys[i]), &key, NULL),
                     MR_OK);
    assert_int_equal(k->exists, key != NULL);
    if (key != NULL) {
        assert_string_equal(key->session,
                            k->holder < 0 ? "" : sessions[k->holder]);
        assert_int_equal(key->lock_index, k->lock_index);
        assert_int_equal(key->fence, k->fence);
        assert_int_equal(key->value.data[0], '0' + k->value);
    }
}

/* ------------------------------------------------------------ leases follow */

/* Leases seen so far; each must be of one row. */
struct look {
    struct model *m;
    struct mr_kv_view *view;
    size_t n; /* Leases that rows name. */
};

/* The row that names @id has to have a lease of @kind and @ttl_ms, or, if that
 * is 0, none. */
static void expect_lease(struct look *look, uint64_t id, Mr__LeaseKind kind,
                         uint64_t ttl_ms, const char *name)
{
    const Mr__Lease *lease = NULL;

    if (ttl_ms == 0) {
        assert_int_equal(id, 0);
        return;
    }
    assert_int_equal(mr_kv_lease_get(look->view, id, &lease), MR_OK);
    assert_non_null(lease);
    assert_int_equal(lease->kind, kind);
    assert_int_equal(lease->ttl_ms, ttl_ms);
    assert_string_equal(lease->name, name);
    assert_int_equal(look->m->live[id], ttl_ms);
    look->n++;
}

static bool is_dead(struct look *look, const Mr__Node *node)
{
    struct mr_kv_lease_ref ref;

    assert_int_equal(
        mr_kv_lease_find(look->view, MR_KV_SUBJECT_NODE, node->name, "", &ref),
        MR_OK);
    return node->ttl_ms > 0 && ref.lease_id == 0;
}

static bool look_service(void *arg, const Mr__Service *service)
{
    expect_lease(arg, service->lease_id, MR__LEASE_KIND__LEASE_REGISTRATION,
                 service->ttl_ms, service->id);
    return true;
}

static bool look_check(void *arg, const Mr__Check *check)
{
    struct look *look = arg;
    const Mr__CheckDefinition *d = check->definition;
    bool is_critical = strcmp(check->status, "critical") == 0;
    const Mr__Node *node;

    assert_int_equal(mr_kv_node_get(look->view, check->node, &node, NULL),
                     MR_OK);
    if (d != NULL && d->ttl_ns > 0 && !is_critical) {
        expect_lease(look, check->lease_id, MR__LEASE_KIND__LEASE_CHECK, 3500,
                     check->check_id);
    } else {
        expect_lease(look, check->lease_id, MR__LEASE_KIND__LEASE_CRITICAL,
                     d != NULL && d->deregister_after_ns > 0 &&
                             check->service_id[0] != '\0' &&
                             (is_critical || is_dead(look, node))
                         ? 60000
                         : 0,
                     check->check_id);
    }
    return true;
}

static bool look_node(void *arg, const Mr__Node *node)
{
    struct look *look = arg;

    if (is_dead(look, node)) {
        expect_lease(look, node->lease_id, MR__LEASE_KIND__LEASE_NODE_REAP,
                     node->reap_ms, "");
    } else {
        expect_lease(look, node->lease_id, MR__LEASE_KIND__LEASE_NODE,
                     node->ttl_ms, "");
    }
    assert_int_equal(
        mr_kv_node_services(look->view, node->name, look_service, look, NULL),
        MR_OK);
    return true;
}

/* A session has its node and its checks, none of them critical. */
static bool look_session(void *arg, const Mr__Session *session)
{
    struct look *look = arg;
    const Mr__Check *check;
    const Mr__Node *node;
    size_t i;

    expect_lease(look, session->lease_id, MR__LEASE_KIND__LEASE_SESSION,
                 session->ttl_ms, session->id);
    assert_int_equal(mr_kv_node_get(look->view, session->node, &node, NULL),
                     MR_OK);
    assert_non_null(node);
    for (i = 0; i < session->n_node_checks; i++) {
        assert_int_equal(mr_kv_check_get(look->view, session->node,
                                         session->node_checks[i], &check),
                         MR_OK);
        assert_non_null(check);
        assert_string_not_equal(check->status, "critical");
    }
    return true;
}

static bool look_left(void *arg, const Mr__Left *left)
{
    struct look *look = arg;
    const Mr__Node *node;

    expect_lease(look, left->lease_id, MR__LEASE_KIND__LEASE_LEFT,
                 left->lease_id == 0 ? 0 : 5000, "");
    assert_int_equal(mr_kv_node_get(look->view, left->node->name, &node, NULL),
                     MR_OK);
    assert_null(node); /* Or it is back. */
    return true;
}

/* A lock-delay that is over is one whose lease is gone. */
static bool look_delay(void *arg, const Mr__Lease *lease)
{
    struct look *look = arg;
    int i;

    for (i = 0; i < N_KEYS; i++) {
        if (lease->kind == MR__LEASE_KIND__LEASE_LOCK_DELAY &&
            lease->key.len == strlen(keys[i]) &&
            memcmp(lease->key.data, keys[i], lease->key.len) == 0) {
            assert_true(look->m->keys[i].is_delayed);
            look->n++;
            look->m->keys[i].lock_index |= (uint64_t)1 << 63;
        }
    }
    return true;
}

static void check_delays(struct look *look)
{
    const uint64_t mark = (uint64_t)1 << 63;
    int i;

    assert_int_equal(mr_kv_lease_list(look->view, look_delay, look), MR_OK);
    for (i = 0; i < N_KEYS; i++) {
        struct model_key *k = &look->m->keys[i];

        k->is_delayed = (k->lock_index & mark) != 0;
        k->lock_index &= ~mark;
    }
}

static void check_everything(struct model *m)
{
    struct look look = {m, fx_view(&m->one), 0};
    struct mr_kv_stats stats;
    int i;

    follow_sessions(m, look.view);
    check_delays(&look);
    for (i = 0; i < N_KEYS; i++) {
        check_key(m, look.view, i);
    }
    assert_int_equal(mr_kv_node_list(look.view, look_node, &look, NULL), MR_OK);
    assert_int_equal(
        mr_kv_state_checks(look.view, NULL, look_check, &look, NULL), MR_OK);
    assert_int_equal(
        mr_kv_session_list(look.view, NULL, look_session, &look, NULL), MR_OK);
    assert_int_equal(mr_kv_left_list(look.view, look_left, &look), MR_OK);
    mr_kv_view_end(look.view);
    mr_kv_stats(m->one.kv, &stats);
    assert_int_equal(look.n, m->n_live);
    assert_int_equal(stats.leases, m->n_live);
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

static void compare(struct model *m)
{
    close_batch(m);
    assert_int_equal(mr_kv_digest(m->one.kv, NULL).high,
                     mr_kv_digest(m->many.kv, NULL).high);
    assert_int_equal(mr_kv_digest(m->one.kv, NULL).low,
                     mr_kv_digest(m->many.kv, NULL).low);
    fx_check_digest(&m->one);
}

static void step(struct model *m)
{
    unsigned what = pick(m, 100);

    if (what < 25) {
        step_register(m);
    } else if (what < 35) {
        step_deregister(m);
    } else if (what < 45) {
        step_update(m);
    } else if (what < 57) {
        step_end(m);
    } else if (what < 67) {
        step_create(m);
    } else if (what < 70) {
        step_destroy(m);
    } else if (what < 96) {
        step_put(m);
    } else {
        step_delete(m);
    }
}

static void run(uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);
    int i;

    assert_non_null(m);
    m->random = seed;
    for (i = 0; i < N_KEYS; i++) {
        m->keys[i].holder = -1;
    }
    m->one.hooks = (struct mr_kv_hooks){.arg = m, .leases = on_leases};
    fx_init(&m->one);
    fx_init(&m->many);
    for (i = 0; i < N_STEPS; i++) {
        step(m);
        check_everything(m);
        if (i % 50 == 0) {
            compare(m);
        }
        if (pick(m, 100) == 0) {
            disturb(m);
        }
    }
    compare(m);
    fx_deinit(&m->one);
    fx_deinit(&m->many);
    free(m);
}

/* Leases follow from rows, and locks from sessions, for every seed. */
static void deadlines_follow_from_the_rows(void **state)
{
    static const uint64_t seeds[] = {1, 2, 3, 4};
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
        cmocka_unit_test(deadlines_follow_from_the_rows),
    };

    return cmocka_run_group_tests_name("kv_lease_model", tests, NULL, NULL);
}
