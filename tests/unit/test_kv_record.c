/* SPDX-License-Identifier: Apache-2.0 */
/* What single commands are recorded as. */
#include "kv/mr_kv_history.h"

#include "tests/unit/kv_fixture.h"

/* ------------------------------------------------------------ telling */

struct told {
    struct fx_text text;
    enum mr_err err;
};

static const char *action(const struct mr_kv_change *change)
{
    static const char *const signs[] = {"+", "~", "-"};

    return signs[change->action];
}

static bool add_change(void *arg, const struct mr_kv_change *c)
{
    struct told *t = arg;

    fx_add(&t->text, "%s%s", t->text.len > 0 ? " " : "", action(c));
    switch (c->object) {
    case MR_KV_OBJECT_KEY:
        fx_add(&t->text, "%.*s", (int)c->u.key->key.len,
               (char *)c->u.key->key.data);
        break;
    case MR_KV_OBJECT_NODE:
        fx_add(&t->text, "%s", c->u.node->name);
        break;
    case MR_KV_OBJECT_CHECK:
        fx_add(&t->text, "%s/%s(%s)/%s=%s", c->u.check->node,
               c->u.check->service_id, c->u.check->service_name,
               c->u.check->check_id, c->u.check->status);
        break;
    case MR_KV_OBJECT_NAME:
        fx_add(&t->text, "%s", c->u.name->name);
        for (size_t i = 0; i < c->u.name->n_tags; i++) {
            fx_add(&t->text, ",%.*s", 8,
                   c->u.name->tags[i] + strlen(c->u.name->tags[i]) / 9 * 9);
        }
        break;
    case MR_KV_OBJECT_INSTANCE:
        fx_add(&t->text, "%s/%s(%s):%d", c->u.instance->node->name,
               c->u.instance->service->id, c->u.instance->service->name,
               (int)c->u.instance->service->port);
        for (size_t i = 0; i < c->u.instance->n_checks; i++) {
            fx_add(&t->text, "|%s=%s", c->u.instance->checks[i]->check_id,
                   c->u.instance->checks[i]->status);
        }
        for (size_t i = 0; i < c->n_twins; i++) {
            fx_add(&t->text, "&%s:%d", c->twins[i]->node->name,
                   (int)c->twins[i]->service->port);
            for (size_t n = 0; n < c->twins[i]->n_checks; n++) {
                fx_add(&t->text, "|%s=%s", c->twins[i]->checks[n]->check_id,
                       c->twins[i]->checks[n]->status);
            }
        }
        break;
    }
    return true;
}

/* What is told of @kind after @revision: "+node/id(name):port|check=status". */
static const char *tell(struct fixture *f, enum mr_kv_topic_kind kind,
                        uint64_t revision)
{
    static struct told t;
    struct mr_kv_topic topic = {kind, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, revision};
    uint64_t upto;

    t = (struct told){.err = MR_OK};
    t.err = mr_kv_history_read(f->kv, &query, add_change, &t, &upto);
    assert_int_equal(t.err, MR_OK);
    assert_int_equal(upto, mr_kv_revision(f->kv));
    return t.text.text;
}

/* ------------------------------------------------------------ commands */

/* One service with one check on the node "n", in a command of its own. */
struct registration {
    Mr__Node node;
    Mr__Service service;
    Mr__Check check;
    Mr__CheckDefinition definition;
};

static struct registration registration(void)
{
    struct registration r = {MR__NODE__INIT, MR__SERVICE__INIT, MR__CHECK__INIT,
                             MR__CHECK_DEFINITION__INIT};

    r.node.name = S("n");
    r.node.address = S("10.0.0.1");
    r.service.id = S("web1");
    r.service.name = S("web");
    r.service.port = 80;
    r.check.check_id = S("c");
    r.check.status = S("passing");
    r.check.service_id = S("web1");
    return r;
}

/* Apply @r; returns the revision before. */
static uint64_t enter(struct fixture *f, struct registration *r)
{
    uint64_t before = mr_kv_revision(f->kv);
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Service *services[] = {&r->service};
    Mr__Check *checks[] = {&r->check};

    r->check.definition = &r->definition;
    reg.node = &r->node;
    reg.services = services;
    reg.n_services = r->service.id[0] == '\0' ? 0 : 1;
    reg.checks = checks;
    reg.n_checks = r->check.check_id[0] == '\0' ? 0 : 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    assert_int_equal(fx_apply(f, &cmd).verdict, MR_KV_DONE);
    return before;
}

#define assert_told(f, kind, after, text)                                      \
    assert_string_equal(tell(f, MR_KV_TOPIC_##kind, after), text)

/* ------------------------------------------------------------ no change */

/* The first agent that registers what the catalog had, and more of it. */
static void who_registered_it_is_not_shown(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    (void)enter(f, &r);
    r.service.origin = MR__ORIGIN__AGENT;
    r.check.origin = MR__ORIGIN__AGENT;
    after = enter(f, &r);
    assert_true(mr_kv_revision(f->kv) > after);
    assert_told(f, CHECKS, after, "");
    assert_told(f, CATALOG, after, "");
}

static void a_check_is_as_before_when_its_service_changes(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    (void)enter(f, &r);
    r.service.port = 81;
    r.check.origin = MR__ORIGIN__AGENT;
    after = enter(f, &r);
    assert_told(f, CHECKS, after, "");
    assert_told(f, CATALOG, after, "~n/web1(web):81|c=passing");
}

/* Of a definition only the catalog's is shown, and not its TTL. */
static void what_of_a_definition_is_not_shown_is_no_change(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    r.definition.http = S("http://a");
    (void)enter(f, &r);
    r.definition.ttl_ns = 5000000000;
    after = enter(f, &r);
    assert_told(f, CHECKS, after, "");
    r.definition.http = S("http://b");
    after = enter(f, &r);
    assert_told(f, CHECKS, after, "~n/web1(web)/c=passing");
    r.check.origin = MR__ORIGIN__AGENT;
    after = enter(f, &r);
    assert_told(f, CHECKS, after, "~n/web1(web)/c=passing");
    r.definition.http = S("http://c");
    after = enter(f, &r);
    assert_told(f, CHECKS, after, "");
    assert_told(f, CATALOG, after, "");
}

/* ------------------------------------------------------------ changes */

/* Who watches the checks of one service sees it leave or come. */
static void a_check_leaves_a_name_with_its_service(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    (void)enter(f, &r);
    r.service.name = S("db");
    after = enter(f, &r);
    assert_told(f, CHECKS, after,
                "-n/web1(web)/c=passing +n/web1(db)/c=passing");
    assert_told(f, CATALOG, after,
                "-n/web1(web):80|c=passing +n/web1(db):80|c=passing");
    assert_told(f, SERVICES, after, "-web +db");
}

/* It keeps its ID, so a creation before the deletion would be lost. */
static void what_is_deleted_comes_first(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    (void)enter(f, &r);
    r.check.service_id = S("");
    after = enter(f, &r);
    assert_told(f, CHECKS, after, "-n/web1(web)/c=passing +n/()/c=passing");
}

static void a_node_that_is_spelled_otherwise_changes_its_checks(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    (void)enter(f, &r);
    r.node.name = S("N");
    r.service.id = S("");
    r.check.check_id = S("");
    after = enter(f, &r);
    assert_told(f, NODES, after, "~N");
    assert_told(f, CATALOG, after, "~N/web1(web):80|c=passing");
    assert_told(f, CHECKS, after, "~N/web1(web)/c=passing");
}

/* go-micro's names are exact: to who watches the one the other is not there. */
static void a_service_that_is_spelled_otherwise_is_another(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    (void)enter(f, &r);
    r.service.name = S("Web");
    after = enter(f, &r);
    assert_told(f, CATALOG, after,
                "-n/web1(web):80|c=passing +n/web1(Web):80|c=passing");
}

/* A node that is renamed leaves with its services. */
static void a_name_that_goes_and_comes_may_be_spelled_otherwise(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    r.check.check_id = S("");
    r.node.id = S("id1");
    (void)enter(f, &r);
    r.node.name = S("other");
    r.service.name = S("WEB");
    after = enter(f, &r);
    assert_told(f, SERVICES, after, "~WEB");
}

/* Long tags are not in the order of their texts. */
static void a_deleted_name_is_as_it_was(void **state)
{
    struct fixture *f = *state;
    char tags[4][400];
    char *list[4];
    struct registration r = registration();
    uint64_t after = mr_kv_revision(f->kv);
    char created[256];

    for (int i = 0; i < 4; i++) {
        memset(tags[i], 'x', sizeof tags[i]);
        tags[i][390] = (char)('0' + i);
        tags[i][391] = '\0';
        list[i] = tags[i];
    }
    r.service.tags = list;
    r.service.n_tags = 4;
    (void)enter(f, &r);
    (void)snprintf(created, sizeof created, "%s",
                   tell(f, MR_KV_TOPIC_SERVICES, after) + 1);
    after = mr_kv_revision(f->kv);
    (void)fx_deregister(f, "n", "web1", NULL);
    assert_string_equal(tell(f, MR_KV_TOPIC_SERVICES, after) + 1, created);
}

/* Each registration would be as large as all of them together. */
static void a_name_with_very_many_tags_is_forgotten_alone(void **state)
{
    struct mr_kv_topic topic = {MR_KV_TOPIC_SERVICES, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, 0};
    struct fixture *f = *state;
    struct registration r = registration();
    struct told t = {.err = MR_OK};
    char id[16];
    char *tags[] = {id};
    uint64_t upto;

    query.after = mr_kv_revision(f->kv);
    r.check.check_id = S("");
    r.service.id = id;
    r.service.tags = tags;
    r.service.n_tags = 1;
    for (int i = 0; i < 300; i++) {
        (void)snprintf(id, sizeof id, "tag%d", i);
        (void)enter(f, &r);
    }
    assert_int_equal(mr_kv_history_read(f->kv, &query, add_change, &t, &upto),
                     MR_E_NOTFOUND);
    assert_told(f, SERVICES, mr_kv_revision(f->kv), "");
    assert_told(f, CATALOG, mr_kv_revision(f->kv) - 1, "+n/tag299(web):80");
    (void)fx_deregister(f, "n", NULL, NULL);
    r.service.name = S("db");
    query.after = enter(f, &r);
    assert_told(f, SERVICES, query.after, "+db,tag299");
}

/* What is left of an ID is told with each change of one: the latest first. */
static void twins_are_told_with_an_instance(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    (void)enter(f, &r);
    r.node.name = S("m");
    r.service.name = S("WEB");
    r.service.port = 81;
    after = enter(f, &r);
    assert_told(f, CATALOG, after, "+m/web1(WEB):81|c=passing&n:80|c=passing");
    r.node.name = S("o");
    r.service.port = 82;
    r.check.check_id = S("");
    after = enter(f, &r);
    assert_told(f, CATALOG, after,
                "+o/web1(WEB):82&m:81|c=passing&n:80|c=passing");
    after = mr_kv_revision(f->kv);
    (void)fx_update(f, "n", "c", "critical", false);
    assert_told(f, CATALOG, after,
                "~n/web1(web):80|c=critical&o:82&m:81|c=passing");
    after = mr_kv_revision(f->kv);
    (void)fx_deregister(f, "m", NULL, NULL);
    assert_told(f, CATALOG, after,
                "-m/web1(WEB):81|c=passing&o:82&n:80|c=critical");
    r.node.name = S("n");
    r.service.name = S("db");
    after = enter(f, &r);
    assert_told(f, CATALOG, after,
                "-n/web1(web):80|c=critical&o:82 +n/web1(db):82|c=critical");
    (void)fx_deregister(f, "n", NULL, NULL);
    after = mr_kv_revision(f->kv);
    (void)fx_deregister(f, "o", "web1", NULL);
    assert_told(f, CATALOG, after, "-o/web1(WEB):82");
}

/* Also what was there before the server started. */
static void twins_are_known_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    uint64_t after;

    r.check.check_id = S("");
    (void)enter(f, &r);
    mr_kv_close(f->kv);
    fx_open_as(f, "boot");
    r.node.name = S("m");
    after = enter(f, &r);
    assert_told(f, CATALOG, after, "+m/web1(web):80&n:80");
}

/* ------------------------------------------------------------ failure */

/* Apply @r without the memory after @n allocations; false: that was enough. */
static bool enter_without_memory(struct fixture *f, struct registration *r,
                                 uint64_t n, uint64_t *out_before)
{
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Service *services[] = {&r->service};
    Mr__Check *checks[] = {&r->check};
    struct mr_buf b = MR_BUF_INIT;
    struct mr_kv_result result;
    bool ok;

    r->check.definition = &r->definition;
    reg.node = &r->node;
    reg.services = services;
    reg.n_services = 1;
    reg.checks = checks;
    reg.n_checks = 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    mr_kv_command_encode(&cmd, &b);
    *out_before = mr_kv_revision(f->kv);
    mr_mem_fail_after(n);
    ok = mr_kv_batch_begin(f->kv) == MR_OK &&
         mr_kv_apply(f->kv, mr_buf_slice(&b), &result) == MR_OK &&
         mr_kv_batch_commit(f->kv, f->index + 1, 1) == MR_OK;
    mr_mem_fail_after(UINT64_MAX);
    mr_buf_deinit(&b);
    return ok;
}

/* What a revision changed is told whole, or the reader is told to begin again.
 * An output of this size needs memory at every step. */
static void lack_of_memory_shows_no_half_change(void **state)
{
    struct fixture *f = *state;
    struct registration r = registration();
    char *output = malloc(300001);
    size_t n_told = 0;

    memset(output, 'x', 300000);
    output[300000] = '\0';
    r.check.output = output;
    for (uint64_t n = 0; n < 60; n++) {
        uint64_t before;

        f->index = 0;
        fx_deinit(f);
        fx_init(f);
        r.service.port = 80;
        (void)enter(f, &r);
        r.service.port = 81;
        if (enter_without_memory(f, &r, n, &before)) {
            struct mr_kv_topic topic = {MR_KV_TOPIC_CATALOG, mr_slice_str("")};
            struct mr_kv_history_query query = {&topic, 1, before};
            struct told t = {.err = MR_OK};
            uint64_t upto;

            t.err = mr_kv_history_read(f->kv, &query, add_change, &t, &upto);
            if (t.err == MR_OK) {
                assert_string_equal(t.text.text, "~n/web1(web):81|c=passing");
                n_told++;
            } else {
                assert_int_equal(t.err, MR_E_NOTFOUND);
            }
        }
    }
    assert_true(n_told > 0);
    free(output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_registered_it_is_not_shown,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(
            a_check_is_as_before_when_its_service_changes, fx_setup,
            fx_teardown),
        cmocka_unit_test_setup_teardown(
            what_of_a_definition_is_not_shown_is_no_change, fx_setup,
            fx_teardown),
        cmocka_unit_test_setup_teardown(a_check_leaves_a_name_with_its_service,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(what_is_deleted_comes_first, fx_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(
            a_node_that_is_spelled_otherwise_changes_its_checks, fx_setup,
            fx_teardown),
        cmocka_unit_test_setup_teardown(
            a_service_that_is_spelled_otherwise_is_another, fx_setup,
            fx_teardown),
        cmocka_unit_test_setup_teardown(
            a_name_that_goes_and_comes_may_be_spelled_otherwise, fx_setup,
            fx_teardown),
        cmocka_unit_test_setup_teardown(a_deleted_name_is_as_it_was, fx_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(
            a_name_with_very_many_tags_is_forgotten_alone, fx_setup,
            fx_teardown),
        cmocka_unit_test_setup_teardown(twins_are_told_with_an_instance,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(twins_are_known_after_a_restart,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(lack_of_memory_shows_no_half_change,
                                        fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests_name("kv_record", tests, NULL, NULL);
}
