/* SPDX-License-Identifier: Apache-2.0 */
/* Registrations with deadlines, their leases, and what the hooks were told. */
#ifndef MR_TEST_KV_LEASE_FIXTURE_H
#define MR_TEST_KV_LEASE_FIXTURE_H

#include "tests/unit/kv_fixture.h"

#define SECOND ((int64_t)1000000000)

/* A store that keeps what its hooks are told. */
struct lease_store {
    struct fixture f;
    struct fx_text changes; /* "+ID:TTL" and "-ID". */
    struct fx_text events;
    size_t n_changes;
    uint64_t places[16]; /* By lease ID. */
};

FIXTURE void ls_leases(void *arg, const struct mr_kv_lease_change *changes,
                       size_t n)
{
    struct lease_store *s = arg;
    size_t i;

    for (i = 0; i < n; i++) {
        s->n_changes++;
        if (changes[i].is_new) {
            s->places[changes[i].id % 16] = changes[i].place;
            fx_add(&s->changes, "+%d:%d ", (int)changes[i].id,
                   (int)changes[i].ttl_ms);
        } else {
            fx_add(&s->changes, "-%d ", (int)changes[i].id);
        }
    }
}

FIXTURE void ls_reset(void *arg)
{
    struct lease_store *s = arg;

    fx_add(&s->changes, "reset ");
}

FIXTURE void ls_event(void *arg, const struct mr_kv_event *e)
{
    static const char *const kinds[] = {"registered", "changed", "deregistered",
                                        "status", "ended"};
    static const char *const subjects[] = {"node", "service", "check",
                                           "session"};
    struct lease_store *s = arg;

    fx_add(&s->events, "%s %s %s/%s", subjects[e->subject], kinds[e->kind],
           e->node, e->id);
    if (e->service[0] != '\0') {
        fx_add(&s->events, "@%s", e->service);
    }
    if (e->status[0] != '\0') {
        fx_add(&s->events, "=%s", e->status);
    }
    if (e->kind == MR_KV_EVENT_ENDED) {
        fx_add(&s->events, " lease %d kind %d silent %d gaps %d by %s/%d",
               (int)e->lease_id, (int)e->lease_kind, (int)e->silent_ms,
               e->n_gaps == 0 ? -1 : (int)e->gaps_ms[0], e->leader,
               (int)e->term);
    }
    if (e->by[0] != '\0') {
        fx_add(&s->events, " %s at %llu", e->by,
               (unsigned long long)e->time_ms);
    }
    fx_add(&s->events, "\n");
}

FIXTURE int ls_setup(void **state)
{
    struct lease_store *s = calloc(1, sizeof *s);

    assert_non_null(s);
    s->f.hooks = (struct mr_kv_hooks){s, ls_leases, ls_reset, ls_event};
    fx_init(&s->f);
    *state = s;
    return 0;
}

FIXTURE int ls_teardown(void **state)
{
    struct lease_store *s = *state;

    fx_check_digest(&s->f);
    fx_deinit(&s->f);
    free(s);
    return 0;
}

/* What the hooks were told since the last call. */
FIXTURE void ls_forget(struct lease_store *s)
{
    s->changes = (struct fx_text){.len = 0};
    s->events = (struct fx_text){.len = 0};
    s->n_changes = 0;
}

/* A registration with deadlines; what is 0 or NULL is left out. */
struct ls_reg {
    const char *node;
    uint64_t node_ttl_ms;
    uint64_t reap_ms;
    const char *service; /* Its ID is the same. */
    uint64_t ttl_ms;
    uint64_t digest;
    uint64_t incarnation;
    const char *check; /* Of the service, or of the node. */
    const char *status;
    const char *output;
    int64_t check_ttl;
    int64_t deregister_after;
    int64_t port;
    bool is_registry;
};

FIXTURE struct mr_kv_result ls_register(struct lease_store *s, struct ls_reg r)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service};
    Mr__CheckDefinition definition = MR__CHECK_DEFINITION__INIT;
    Mr__Check check = MR__CHECK__INIT;
    Mr__Check *checks[] = {&check};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    node.name = S(r.node);
    node.address = S("10.0.0.1");
    node.ttl_ms = r.node_ttl_ms;
    node.reap_ms = r.reap_ms;
    reg.node = &node;
    if (r.service != NULL) {
        service.name = service.id = check.service_id = S(r.service);
        service.ttl_ms = r.ttl_ms;
        service.digest = r.digest;
        service.incarnation = r.incarnation;
        service.port = r.port;
        service.origin =
            r.is_registry ? MR__ORIGIN__REGISTRY : MR__ORIGIN__CATALOG;
        reg.services = services;
        reg.n_services = 1;
    }
    if (r.check != NULL) {
        check.check_id = S(r.check);
        check.status = S(r.status == NULL ? "passing" : r.status);
        check.output = S(r.output == NULL ? "" : r.output);
        definition.ttl_ns = r.check_ttl;
        definition.deregister_after_ns = r.deregister_after;
        check.definition = &definition;
        reg.checks = checks;
        reg.n_checks = 1;
    }
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    return fx_apply(&s->f, &cmd);
}

/* Deregister from the native registry. */
FIXTURE struct mr_kv_result ls_deregister(struct lease_store *s,
                                          const char *node, const char *id,
                                          uint64_t incarnation)
{
    Mr__Deregister dereg = MR__DEREGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    dereg.node = S(node);
    dereg.service_id = S(id);
    dereg.registry_only = 1;
    dereg.incarnation = incarnation;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &dereg;
    return fx_apply(&s->f, &cmd);
}

/* End the leases @ids, n of them. */
FIXTURE struct mr_kv_result ls_end_all(struct lease_store *s,
                                       const uint64_t *ids, size_t n)
{
    Mr__LeaseEnd__Ended ended[16];
    Mr__LeaseEnd__Ended *list[16];
    uint32_t gaps[] = {10, 20};
    Mr__LeaseEnd end = MR__LEASE_END__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    size_t i;

    assert_true(n <= 16);
    for (i = 0; i < n; i++) {
        mr__lease_end__ended__init(&ended[i]);
        ended[i].id = ids[i];
        ended[i].silent_ms = 4000;
        ended[i].gaps_ms = gaps;
        ended[i].n_gaps_ms = 2;
        list[i] = &ended[i];
    }
    end.leases = list;
    end.n_leases = n;
    end.leader = S("n1");
    end.term = 7;
    cmd.op_case = MR__COMMAND__OP_LEASE_END;
    cmd.lease_end = &end;
    return fx_apply(&s->f, &cmd);
}

FIXTURE struct mr_kv_result ls_end(struct lease_store *s, uint64_t id)
{
    return ls_end_all(s, &id, 1);
}

FIXTURE struct mr_kv_lease_ref ls_find(struct lease_store *s,
                                       enum mr_kv_subject subject,
                                       const char *node, const char *id)
{
    struct mr_kv_view *view = fx_view(&s->f);
    struct mr_kv_lease_ref ref;

    assert_int_equal(mr_kv_lease_find(view, subject, node, id, &ref), MR_OK);
    mr_kv_view_end(view);
    return ref;
}

FIXTURE bool ls_add_lease(void *arg, const Mr__Lease *lease)
{
    static const char *const kinds[] = {
        "check", "critical", "registration", "node",
        "reap",  "session",  "lock-delay",   "left"};

    fx_add(arg, "%d:%s %s/%s%.*s %llu ", (int)lease->id, kinds[lease->kind],
           lease->node, lease->name, (int)lease->key.len,
           (const char *)lease->key.data, (unsigned long long)lease->ttl_ms);
    return true;
}

/* All leases as one text. */
FIXTURE const char *ls_list(struct lease_store *s, struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(&s->f);

    *t = (struct fx_text){.len = 0};
    assert_int_equal(mr_kv_lease_list(view, ls_add_lease, t), MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

#endif /* MR_TEST_KV_LEASE_FIXTURE_H */
