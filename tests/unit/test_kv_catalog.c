/* SPDX-License-Identifier: Apache-2.0 */
/* Catalog: registration, merging, removal, and what the queries answer. */
#include "tests/unit/kv_fixture.h"

#define ID_A "40e4a748-2192-161a-0510-9bf59fe950b5"
#define ID_B "40e4a748-2192-161a-0510-9bf59fe950b6"

static bool add_node(void *arg, const Mr__Node *node)
{
    fx_add(arg, "%s(%s) ", node->name, node->address);
    return true;
}

static bool add_service(void *arg, const Mr__Service *service)
{
    fx_add(arg, "%s/%s:%s ", service->node, service->id, service->name);
    return true;
}

static bool add_check(void *arg, const Mr__Check *check)
{
    fx_add(arg, "%s/%s=%s@%s%s%s ", check->node, check->check_id, check->status,
           check->service_name, check->n_service_tags > 0 ? "#" : "",
           check->n_service_tags > 0 ? check->service_tags[0] : "");
    return true;
}

static bool add_name(void *arg, const struct mr_kv_service_name *name)
{
    size_t i;

    fx_add(arg, "%s:%d[", name->name, (int)name->n_instances);
    for (i = 0; i < name->n_tags; i++) {
        fx_add(arg, "%s%s", i == 0 ? "" : ",", name->tags[i]);
    }
    fx_add(arg, "] ");
    return true;
}

static const char *nodes(struct fixture *f, struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(f);

    *t = (struct fx_text){.len = 0};
    assert_int_equal(mr_kv_node_list(view, add_node, t, NULL), MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

static const char *names(struct fixture *f, struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(f);

    *t = (struct fx_text){.len = 0};
    assert_int_equal(mr_kv_service_names(view, add_name, t, NULL), MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

static const char *state_checks(struct fixture *f, const char *status,
                                struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(f);

    *t = (struct fx_text){.len = 0};
    assert_int_equal(mr_kv_state_checks(view, status, add_check, t, NULL),
                     MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

static const char *node_checks(struct fixture *f, const char *node,
                               struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(f);

    *t = (struct fx_text){.len = 0};
    assert_int_equal(mr_kv_node_checks(view, node, add_check, t, NULL), MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

static const char *node_services(struct fixture *f, const char *node,
                                 struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(f);

    *t = (struct fx_text){.len = 0};
    assert_int_equal(mr_kv_node_services(view, node, add_service, t, NULL),
                     MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

static const char *at_address(struct fixture *f, const char *address,
                              struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(f);

    *t = (struct fx_text){.len = 0};
    assert_int_equal(
        mr_kv_address_lookup(view, address, add_node, add_service, t), MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

/* ------------------------------------------------------------ success */

/* An instance is listed with the node's checks first, then its own. */
static void instance_lists_node_checks_first(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;
    uint64_t index;

    (void)fx_register(f, (struct fx_reg){.node = "N1",
                                         .service = "web",
                                         .port = 80,
                                         .check = "z-node",
                                         .status = "passing"});
    (void)fx_register(f, (struct fx_reg){.node = "n1",
                                         .skip_node = true,
                                         .check = "a-own",
                                         .check_service = "web"});
    assert_string_equal(fx_instances(f, "WEB", &t, &index),
                        "N1/web:80[z-node=passing,a-own=critical] ");
    assert_int_equal(index, 3);
    fx_check_digest(f);
}

/* Instances come by node, then ID, each node's checks with each of them. */
static void instances_are_ordered_by_node_and_id(void **state)
{
    static const char *const ids[] = {"b", "a", "c"};
    struct fixture *f = *state;
    struct fx_text t;
    int i;

    for (i = 0; i < 3; i++) {
        (void)fx_register(f, (struct fx_reg){.node = i == 1 ? "n2" : "n1",
                                             .service = "web",
                                             .id = ids[i],
                                             .check = ids[i],
                                             .check_service = ids[i]});
    }
    (void)fx_register(f, (struct fx_reg){.node = "n1", .check = "up"});
    (void)fx_register(
        f, (struct fx_reg){.node = "n1", .service = "web", .id = "a1"});
    assert_string_equal(fx_instances(f, "web", &t, NULL),
                        "n1/a1:0[up=critical] "
                        "n1/b:0[up=critical,b=critical] "
                        "n1/c:0[up=critical,c=critical] "
                        "n2/a:0[a=critical] ");
}

/* Registering the same thing again takes no revision. */
static void same_registration_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct fx_reg r = {.node = "n",
                       .node_id = ID_A,
                       .service = "web",
                       .tag = "t",
                       .check = "c",
                       .check_service = "web"};

    assert_true(fx_register(f, r).changed);
    assert_false(fx_register(f, r).changed);
    r.port = 1;
    assert_true(fx_register(f, r).changed);
    assert_int_equal(mr_kv_revision(f->kv), 3);
}

/* A registration replaces the node's fields and keeps other services and
 * checks. */
static void registration_merges(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "a",
                                         .check = "ca",
                                         .check_service = "a"});
    (void)fx_register(
        f, (struct fx_reg){.node = "n", .address = "1.1.1.1", .service = "b"});
    assert_string_equal(nodes(f, &t), "n(1.1.1.1) ");
    assert_string_equal(node_services(f, "N", &t), "n/a:a n/b:b ");
    assert_string_equal(node_checks(f, "n", &t), "n/ca=critical@a ");
}

/* With skip_node_update an existing node stays as it is, and an unknown one is
 * created. */
static void skip_node_update_leaves_the_node(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n", .address = "1.1.1.1"});
    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .address = "2.2.2.2",
                                         .service = "s",
                                         .skip_node = true});
    (void)fx_register(
        f, (struct fx_reg){.node = "new", .address = "", .skip_node = true});
    assert_string_equal(nodes(f, &t), "n(1.1.1.1) new() ");
}

/* The same ID under another name renames the node, with nothing left of the
 * old one but its creation. */
static void same_id_renames_the_node(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    const Mr__Node *node;
    struct fx_text t;

    (void)fx_register(
        f, (struct fx_reg){
               .node = "old", .node_id = ID_A, .service = "web", .check = "c"});
    (void)fx_register(f, (struct fx_reg){.node = "new", .node_id = ID_A});
    assert_string_equal(nodes(f, &t), "new(10.0.0.1) ");
    assert_string_equal(fx_instances(f, "web", &t, NULL), "");
    view = fx_view(f);
    assert_int_equal(mr_kv_node_get(view, "NEW", &node, NULL), MR_OK);
    assert_int_equal(node->create_rev, 2);
    assert_int_equal(node->modify_rev, 3);
    mr_kv_view_end(view);
    fx_check_digest(f);
}

/* Another case of the name is the same node. */
static void other_case_keeps_services(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(
        f, (struct fx_reg){.node = "node", .node_id = ID_A, .service = "web"});
    (void)fx_register(f, (struct fx_reg){.node = "NODE", .node_id = ID_A});
    assert_string_equal(fx_instances(f, "web", &t, NULL), "NODE/web:0[] ");
}

/* Another ID takes over the name of a node that nobody watches, and of one
 * that failed, but not of a live member. */
static void live_member_keeps_its_name(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_result r;

    (void)fx_register(f, (struct fx_reg){.node = "n1", .node_id = ID_A});
    r = fx_register(f, (struct fx_reg){.node = "n1", .node_id = ID_B});
    assert_int_equal(r.verdict, MR_KV_DONE);
    (void)fx_register(f, (struct fx_reg){.node = "n1",
                                         .node_id = ID_B,
                                         .check = "serfHealth",
                                         .status = "passing"});
    r = fx_register(f, (struct fx_reg){.node = "n1", .node_id = ID_A});
    assert_int_equal(r.verdict, MR_KV_REFUSED);
    assert_false(r.changed);
    assert_string_equal(
        r.text, "failed inserting node: Error while renaming Node ID: \"" ID_A
                "\": Node name n1 is reserved by node " ID_B
                " with name n1 (10.0.0.1)");
    (void)fx_register(f, (struct fx_reg){.node = "n2", .node_id = ID_A});
    r = fx_register(f, (struct fx_reg){.node = "n1", .node_id = ID_A});
    assert_string_equal(
        r.text, "failed inserting node: Error while renaming Node ID: \"" ID_A
                "\" (10.0.0.1): Node name n1 is reserved by node " ID_B
                " with name n1 (10.0.0.1)");
    (void)fx_update(f, "n1", "serfHealth", "critical", false);
    r = fx_register(f, (struct fx_reg){.node = "n1", .node_id = ID_A});
    assert_int_equal(r.verdict, MR_KV_DONE);
    fx_check_digest(f);
}

/* A service ID that gets another name moves, and keeps its checks. */
static void service_can_change_its_name(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "old",
                                         .id = "s1",
                                         .tag = "t",
                                         .service_address = "1.2.3.4",
                                         .check = "c",
                                         .check_service = "s1"});
    (void)fx_register(
        f, (struct fx_reg){.node = "n", .service = "new", .id = "s1"});
    assert_string_equal(fx_instances(f, "old", &t, NULL), "");
    assert_string_equal(fx_instances(f, "new", &t, NULL),
                        "n/s1:0[c=critical] ");
    assert_string_equal(names(f, &t), "new:1[] ");
    assert_string_equal(node_checks(f, "n", &t), "n/c=critical@new ");
    assert_string_equal(at_address(f, "1.2.3.4", &t), "");
    fx_check_digest(f);
}

/* A check's service name and tags are those that the service has now. */
static void checks_follow_their_service(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "web",
                                         .tag = "a",
                                         .check = "c",
                                         .check_service = "web"});
    assert_string_equal(state_checks(f, "critical", &t), "n/c=critical@web#a ");
    (void)fx_register(
        f, (struct fx_reg){.node = "n", .service = "web", .tag = "b"});
    assert_string_equal(state_checks(f, NULL, &t), "n/c=critical@web#b ");
}

/* A check ID that moves to another service leaves the first. */
static void check_can_move_between_services(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_stats stats;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "a",
                                         .check = "c",
                                         .check_service = "a"});
    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "b",
                                         .check = "c",
                                         .check_service = "b"});
    assert_string_equal(fx_instances(f, "a", &t, NULL), "n/a:0[] ");
    assert_string_equal(fx_instances(f, "b", &t, NULL), "n/b:0[c=critical] ");
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.checks, 1);
    fx_check_digest(f);
}

/* Any status text is stored, none is critical, and listing by state finds
 * each. */
static void checks_are_listed_by_state(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n", .check = "a"});
    (void)fx_register(
        f, (struct fx_reg){.node = "n", .check = "b", .status = "bogus"});
    (void)fx_register(
        f, (struct fx_reg){.node = "n", .check = "c", .status = "passing"});
    (void)fx_register(
        f, (struct fx_reg){.node = "m", .check = "d", .status = "warning"});
    (void)fx_register(
        f, (struct fx_reg){.node = "m", .check = "e", .status = "other"});
    assert_string_equal(state_checks(f, "critical", &t), "n/a=critical@ ");
    assert_string_equal(state_checks(f, "passing", &t), "n/c=passing@ ");
    assert_string_equal(state_checks(f, "warning", &t), "m/d=warning@ ");
    assert_string_equal(state_checks(f, "bogus", &t), "n/b=bogus@ ");
    assert_string_equal(state_checks(f, NULL, &t),
                        "m/d=warning@ m/e=other@ n/a=critical@ n/b=bogus@ "
                        "n/c=passing@ ");
    (void)fx_update(f, "n", "a", "passing", false);
    assert_string_equal(state_checks(f, "critical", &t), "");
}

/* The checks of a service come by node and check ID, without the nodes'. */
static void service_checks_are_sorted_by_check_id(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    struct fx_text t = {.len = 0};

    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "web",
                                         .id = "w1",
                                         .check = "z",
                                         .check_service = "w1"});
    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "web",
                                         .id = "w2",
                                         .check = "a",
                                         .check_service = "w2"});
    (void)fx_register(f, (struct fx_reg){.node = "n", .check = "node"});
    (void)fx_register(f, (struct fx_reg){.node = "m",
                                         .service = "web",
                                         .check = "q",
                                         .check_service = "web"});
    view = fx_view(f);
    assert_int_equal(mr_kv_service_checks(view, "Web", add_check, &t, NULL),
                     MR_OK);
    assert_string_equal(t.text,
                        "m/q=critical@web n/a=critical@web n/z=critical@web ");
    mr_kv_view_end(view);
}

/* Names list the union of tags, each once, as long as an instance has it. */
static void names_unite_tags(void **state)
{
    struct fixture *f = *state;
    char long_tag[1000];
    struct fx_text t;

    (void)fx_register(
        f, (struct fx_reg){.node = "a", .service = "Web", .tag = "v2"});
    (void)fx_register(
        f, (struct fx_reg){.node = "b", .service = "web", .tag = "v1"});
    (void)fx_register(
        f, (struct fx_reg){.node = "c", .service = "web", .tag = "v1"});
    (void)fx_register(f, (struct fx_reg){.node = "c", .service = "api"});
    assert_string_equal(names(f, &t), "api:1[] Web:3[v1,v2] ");
    (void)fx_deregister(f, "a", "Web", NULL);
    (void)fx_deregister(f, "b", "web", NULL);
    assert_string_equal(names(f, &t), "api:1[] Web:1[v1] ");
    memset(long_tag, 't', sizeof long_tag);
    long_tag[sizeof long_tag - 1] = '\0';
    (void)fx_register(
        f, (struct fx_reg){.node = "c", .service = "web", .tag = long_tag});
    assert_non_null(strstr(names(f, &t), long_tag));
    (void)fx_deregister(f, "c", NULL, NULL);
    assert_string_equal(names(f, &t), "");
}

/* An address finds its nodes and services, in any notation. */
static void address_finds_nodes_and_services(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .address = "10.0.0.7",
                                         .service = "web",
                                         .service_address = "2001:db8::1"});
    (void)fx_register(f, (struct fx_reg){.node = "m",
                                         .address = "host.example",
                                         .service = "web",
                                         .service_address = "10.0.0.7"});
    assert_string_equal(at_address(f, "10.0.0.7", &t),
                        "n(10.0.0.7) m/web:web ");
    assert_string_equal(at_address(f, "2001:DB8:0::1", &t), "n/web:web ");
    assert_string_equal(at_address(f, "host.example", &t), "");
    (void)fx_register(f, (struct fx_reg){.node = "n", .address = "10.0.0.8"});
    assert_string_equal(at_address(f, "10.0.0.7", &t), "m/web:web ");
}

/* Removing the service takes its checks along and leaves the node. */
static void deregister_removes_service_and_its_checks(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_stats stats;
    struct fx_text t;

    (void)fx_register(f, (struct fx_reg){.node = "n1",
                                         .service = "web",
                                         .check = "c",
                                         .check_service = "web"});
    assert_true(fx_deregister(f, "n1", "web", NULL).changed);
    assert_false(fx_deregister(f, "n1", "web", NULL).changed);
    assert_string_equal(fx_instances(f, "web", &t, NULL), "");
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.nodes, 1);
    assert_int_equal(stats.instances, 0);
    assert_int_equal(stats.services, 0);
    assert_int_equal(stats.checks, 0);
    fx_check_digest(f);
}

/* The service wins over the check, the check over the node; what is absent
 * deregisters fine. */
static void deregister_takes_the_most_precise(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_stats stats;
    struct fx_text t;

    (void)fx_register(
        f, (struct fx_reg){.node = "n", .service = "s", .check = "c"});
    (void)fx_deregister(f, "n", "s", "c");
    assert_string_equal(node_checks(f, "n", &t), "n/c=critical@ ");
    (void)fx_deregister(f, "N", NULL, "c");
    assert_string_equal(nodes(f, &t), "n(10.0.0.1) ");
    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "s",
                                         .check = "c",
                                         .check_service = "s"});
    assert_true(fx_deregister(f, "n", NULL, NULL).changed);
    assert_false(fx_deregister(f, "n", NULL, NULL).changed);
    assert_int_equal(fx_deregister(f, "x", "y", "z").verdict, MR_KV_DONE);
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.nodes + stats.instances + stats.checks, 0);
    fx_check_digest(f);
}

static void deregister_agent(struct fixture *f, const char *service,
                             const char *check)
{
    Mr__Deregister dereg = MR__DEREGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    dereg.node = S("n");
    dereg.service_id = S(service);
    dereg.check_id = S(check);
    dereg.agent_only = 1;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &dereg;
    (void)fx_apply(f, &cmd);
}

/* The agent's own API takes away only what agents registered. */
static void agent_only_spares_the_catalog(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    (void)fx_register(
        f, (struct fx_reg){.node = "n", .service = "cat", .check = "cc"});
    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "agent",
                                         .check = "ac",
                                         .is_agent = true});
    deregister_agent(f, "cat", "");
    deregister_agent(f, "", "cc");
    assert_string_equal(node_services(f, "n", &t), "n/agent:agent n/cat:cat ");
    deregister_agent(f, "", "");
    assert_string_equal(node_services(f, "n", &t), "n/cat:cat ");
    assert_string_equal(node_checks(f, "n", &t), "n/cc=critical@ ");
}

/* With replace_checks a service keeps only the checks that came along. */
static void replace_checks_drops_the_others(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;
    struct fx_reg r = {
        .node = "n", .service = "s", .check = "a", .check_service = "s"};

    (void)fx_register(f, r);
    r.check = "b";
    (void)fx_register(f, r);
    assert_string_equal(fx_instances(f, "s", &t, NULL),
                        "n/s:0[a=critical,b=critical] ");
    r.check = "c";
    r.replace_checks = true;
    (void)fx_register(f, r);
    assert_string_equal(fx_instances(f, "s", &t, NULL), "n/s:0[c=critical] ");
}

static struct mr_kv_result register_keeping(struct fixture *f, const char *type,
                                            const char *status)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Check check = MR__CHECK__INIT;
    Mr__Check *checks[] = {&check};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    node.name = S("n");
    check.check_id = S("c");
    check.type = S(type);
    check.status = S(status);
    reg.node = &node;
    reg.checks = checks;
    reg.n_checks = 1;
    reg.keep_check_state = 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    return fx_apply(f, &cmd);
}

/* A repeated registration leaves the result of a known check alone. */
static void known_checks_can_keep_their_state(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;

    assert_true(register_keeping(f, "ttl", "critical").changed);
    (void)fx_update(f, "n", "c", "passing", true);
    assert_false(register_keeping(f, "ttl", "critical").changed);
    assert_string_equal(node_checks(f, "n", &t), "n/c=passing@ ");
    assert_true(register_keeping(f, "http", "critical").changed);
    assert_string_equal(node_checks(f, "n", &t), "n/c=critical@ ");
}

/* Single rows are found by node and ID. */
static void rows_are_found_by_id(void **state)
{
    struct fixture *f = *state;
    const Mr__Service *service;
    const Mr__Check *check;
    const Mr__Node *node;
    struct mr_kv_view *view;

    (void)fx_register(f, (struct fx_reg){.node = "N",
                                         .service = "Web",
                                         .id = "w1",
                                         .check = "c",
                                         .check_service = "w1"});
    view = fx_view(f);
    assert_int_equal(mr_kv_service_get(view, "n", "w1", &service), MR_OK);
    assert_string_equal(service->name, "Web");
    assert_string_equal(service->node, "N");
    assert_int_equal(mr_kv_check_get(view, "n", "c", &check), MR_OK);
    assert_string_equal(check->service_name, "Web");
    assert_string_equal(check->service_id, "w1");
    assert_int_equal(mr_kv_service_get(view, "n", "w2", &service), MR_OK);
    assert_null(service);
    assert_int_equal(mr_kv_check_get(view, "m", "c", &check), MR_OK);
    assert_null(check);
    assert_int_equal(mr_kv_node_get(view, "m", &node, NULL), MR_OK);
    assert_null(node);
    assert_true(mr_kv_service_exists(view, "wEB"));
    assert_false(mr_kv_service_exists(view, "we"));
    mr_kv_view_end(view);
}

/* ------------------------------------------------------------ failure */

static void refused(struct fixture *f, struct fx_reg r, const char *text)
{
    struct mr_hash128 before = mr_kv_digest(f->kv, NULL);
    struct mr_kv_result result = fx_register(f, r);

    assert_int_equal(result.verdict, MR_KV_REFUSED);
    assert_string_equal(result.text, text);
    assert_int_equal(mr_kv_digest(f->kv, NULL).low, before.low);
}

/* What Consul refuses is refused in its words, and nothing of it is done. */
static void impossible_registrations_are_refused(void **state)
{
    struct fixture *f = *state;

    refused(f, (struct fx_reg){.node = ""}, "Must provide node");
    refused(f, (struct fx_reg){.node = "n", .service = ""},
            "failed inserting service: failed inserting service: object "
            "missing primary index");
    refused(f, (struct fx_reg){.node = "n", .service = "s", .check = ""},
            "failed inserting check: failed inserting check: object missing "
            "primary index on node \"n\"");
    refused(f,
            (struct fx_reg){.node = "n",
                            .service = "s",
                            .check = "c",
                            .check_service = "other"},
            "failed inserting check: Missing service registration on node "
            "\"n\"");
    assert_int_equal(fx_deregister(f, "", NULL, NULL).verdict, MR_KV_REFUSED);
}

/* Names beyond what a key can hold are refused. */
static void long_names_are_refused(void **state)
{
    struct fixture *f = *state;
    char name[300];

    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    refused(f, (struct fx_reg){.node = name},
            "Node name is too long (limit: 180 bytes)");
    refused(f, (struct fx_reg){.node = "n", .service = name, .id = "i"},
            "Service name is too long (limit: 160 bytes)");
    refused(f, (struct fx_reg){.node = "n", .service = "s", .id = name},
            "Service ID is too long (limit: 150 bytes)");
    refused(f, (struct fx_reg){.node = "n", .check = name},
            "Check ID is too long (limit: 178 bytes)");
    name[180] = '\0';
    assert_true(fx_register(f, (struct fx_reg){.node = name,
                                               .service = name + 20,
                                               .id = name + 30,
                                               .check = name + 2,
                                               .check_service = name + 30})
                    .changed);
    fx_check_digest(f);
    assert_true(fx_deregister(f, name, NULL, NULL).changed);
}

/* An update needs a check, and with ttl_only one with a TTL. */
static void updates_need_a_fitting_check(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_result r;

    r = fx_update(f, "n", "x", "passing", true);
    assert_int_equal(r.verdict, MR_KV_REFUSED);
    assert_string_equal(r.text, "CheckID \"x\" does not have associated TTL");
    r = fx_update(f, "n", "x", "passing", false);
    assert_string_equal(r.text, "Unknown check \"x\"");
    (void)fx_register(f, (struct fx_reg){.node = "n", .check = "x"});
    assert_int_equal(fx_update(f, "n", "x", "passing", true).verdict,
                     MR_KV_REFUSED);
    (void)fx_register(
        f, (struct fx_reg){.node = "n", .check = "t", .is_ttl = true});
    assert_true(fx_update(f, "N", "t", "passing", true).changed);
    assert_false(fx_update(f, "n", "t", "passing", true).changed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(instance_lists_node_checks_first),
        TEST(instances_are_ordered_by_node_and_id),
        TEST(same_registration_changes_nothing),
        TEST(registration_merges),
        TEST(skip_node_update_leaves_the_node),
        TEST(same_id_renames_the_node),
        TEST(other_case_keeps_services),
        TEST(live_member_keeps_its_name),
        TEST(service_can_change_its_name),
        TEST(checks_follow_their_service),
        TEST(check_can_move_between_services),
        TEST(checks_are_listed_by_state),
        TEST(service_checks_are_sorted_by_check_id),
        TEST(names_unite_tags),
        TEST(address_finds_nodes_and_services),
        TEST(deregister_removes_service_and_its_checks),
        TEST(deregister_takes_the_most_precise),
        TEST(agent_only_spares_the_catalog),
        TEST(replace_checks_drops_the_others),
        TEST(known_checks_can_keep_their_state),
        TEST(rows_are_found_by_id),
        TEST(impossible_registrations_are_refused),
        TEST(long_names_are_refused),
        TEST(updates_need_a_fitting_check),
    };

    return cmocka_run_group_tests_name("kv_catalog", tests, NULL, NULL);
}
