/* SPDX-License-Identifier: Apache-2.0 */
/* The index of each query: what moves it, and what leaves it alone. */
#include "tests/unit/kv_fixture.h"

static bool ignore_node(void *arg, const Mr__Node *node)
{
    (void)arg;
    (void)node;
    return true;
}

static bool ignore_name(void *arg, const struct mr_kv_service_name *name)
{
    (void)arg;
    (void)name;
    return true;
}

static bool ignore_check(void *arg, const Mr__Check *check)
{
    (void)arg;
    (void)check;
    return true;
}

static bool ignore_service(void *arg, const Mr__Service *service)
{
    (void)arg;
    (void)service;
    return true;
}

static bool ignore_instance(void *arg, const struct mr_kv_instance *instance)
{
    (void)arg;
    (void)instance;
    return true;
}

struct indexes {
    uint64_t nodes;
    uint64_t names;
    uint64_t web;
    uint64_t db;
    uint64_t absent;
    uint64_t node; /* Of n1: its services. */
    uint64_t state;
};

static struct indexes look(struct fixture *f)
{
    struct mr_kv_view *v = fx_view(f);
    struct indexes i;

    assert_int_equal(mr_kv_node_list(v, ignore_node, NULL, &i.nodes), MR_OK);
    assert_int_equal(mr_kv_service_names(v, ignore_name, NULL, &i.names),
                     MR_OK);
    assert_int_equal(
        mr_kv_service_instances(v, "web", ignore_instance, NULL, &i.web),
        MR_OK);
    assert_int_equal(
        mr_kv_service_instances(v, "db", ignore_instance, NULL, &i.db), MR_OK);
    assert_int_equal(
        mr_kv_service_instances(v, "absent", ignore_instance, NULL, &i.absent),
        MR_OK);
    assert_int_equal(
        mr_kv_node_services(v, "n1", ignore_service, NULL, &i.node), MR_OK);
    assert_int_equal(mr_kv_state_checks(v, "any", ignore_check, NULL, &i.state),
                     MR_OK);
    mr_kv_view_end(v);
    return i;
}

/* web on n1 with a check, db on n2 without. */
static void fill(struct fixture *f)
{
    (void)fx_register(f, (struct fx_reg){.node = "n1",
                                         .service = "web",
                                         .check = "c",
                                         .status = "passing",
                                         .check_service = "web"});
    (void)fx_register(f, (struct fx_reg){.node = "n2", .service = "db"});
}

/* ------------------------------------------------------------ success */

/* Before anything happened every index is 1. */
static void indexes_are_at_least_one(void **state)
{
    struct indexes i = look(*state);

    assert_int_equal(i.nodes, 1);
    assert_int_equal(i.names, 1);
    assert_int_equal(i.absent, 1);
    assert_int_equal(i.node, 1);
    assert_int_equal(i.state, 1);
}

/* A service has an index of its own, which others do not move. */
static void other_services_do_not_move_a_service(void **state)
{
    struct fixture *f = *state;
    struct indexes i;

    fill(f);
    i = look(f);
    assert_int_equal(i.web, 2);
    assert_int_equal(i.db, 3);
    assert_int_equal(i.names, 3);
    assert_int_equal(i.absent, 3); /* Nodes or services, until one ends. */
}

/* A change of status moves the service, the checks and nothing else. */
static void status_moves_its_service_and_checks(void **state)
{
    struct fixture *f = *state;
    struct indexes i;

    fill(f);
    (void)fx_update(f, "n1", "c", "warning", false);
    i = look(f);
    assert_int_equal(i.web, 4);
    assert_int_equal(i.state, 4);
    assert_int_equal(i.db, 3);
    assert_int_equal(i.names, 3);
    assert_int_equal(i.nodes, 3);
    (void)fx_update(f, "n1", "c", "warning", false);
    assert_int_equal(look(f).web, 4);
}

/* A check of the node moves every service on it. */
static void node_check_moves_services_of_its_node(void **state)
{
    struct fixture *f = *state;
    struct indexes i;

    fill(f);
    (void)fx_register(f, (struct fx_reg){.node = "n1",
                                         .check = "serfHealth",
                                         .status = "passing"});
    i = look(f);
    assert_int_equal(i.web, 4);
    assert_int_equal(i.db, 3);
    (void)fx_deregister(f, "n1", NULL, "serfHealth");
    i = look(f);
    assert_int_equal(i.web, 5);
    assert_int_equal(i.db, 3);
}

/* A change of the node moves the nodes and the services on it. */
static void node_change_moves_nodes_and_its_services(void **state)
{
    struct fixture *f = *state;
    struct indexes i;

    fill(f);
    (void)fx_register(f, (struct fx_reg){.node = "n1", .address = "9.9.9.9"});
    i = look(f);
    assert_int_equal(i.nodes, 4);
    assert_int_equal(i.web, 4);
    assert_int_equal(i.db, 3);
    assert_int_equal(i.names, 3);
}

/* Services and checks leave the list of nodes alone. */
static void services_do_not_move_nodes(void **state)
{
    struct fixture *f = *state;

    fill(f);
    (void)fx_register(f, (struct fx_reg){.node = "n1", .service = "more"});
    (void)fx_deregister(f, "n1", "more", NULL);
    assert_int_equal(look(f).nodes, 3);
    assert_int_equal(look(f).names, 5);
}

/* When a last instance goes, that is the index of all that have none. */
static void extinction_is_the_index_of_the_absent(void **state)
{
    struct fixture *f = *state;
    struct indexes i;

    fill(f);
    (void)fx_deregister(f, "n2", "db", NULL);
    (void)fx_register(f, (struct fx_reg){.node = "n1", .service = "more"});
    i = look(f);
    assert_int_equal(i.db, 4);
    assert_int_equal(i.absent, 4);
    assert_int_equal(i.web, 2);
}

/* Removing one of several instances moves the service. */
static void removal_moves_the_service(void **state)
{
    struct fixture *f = *state;

    fill(f);
    (void)fx_register(f, (struct fx_reg){.node = "n2", .service = "web"});
    (void)fx_deregister(f, "n1", NULL, NULL);
    assert_int_equal(look(f).web, 5);
    assert_int_equal(look(f).nodes, 5);
    assert_int_equal(look(f).node, 1); /* n1 is unknown now. */
}

/* An unknown node has index 1, a known one that of nodes and services. */
static void node_has_index_of_nodes_and_services(void **state)
{
    struct fixture *f = *state;

    (void)fx_register(f, (struct fx_reg){.node = "n2", .service = "db"});
    assert_int_equal(look(f).node, 1);
    (void)fx_register(f, (struct fx_reg){.node = "n1"});
    (void)fx_register(f, (struct fx_reg){.node = "n2", .service = "more"});
    assert_int_equal(look(f).node, 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(indexes_are_at_least_one),
        TEST(other_services_do_not_move_a_service),
        TEST(status_moves_its_service_and_checks),
        TEST(node_check_moves_services_of_its_node),
        TEST(node_change_moves_nodes_and_its_services),
        TEST(services_do_not_move_nodes),
        TEST(extinction_is_the_index_of_the_absent),
        TEST(removal_moves_the_service),
        TEST(node_has_index_of_nodes_and_services),
    };

    return cmocka_run_group_tests_name("kv_index", tests, NULL, NULL);
}
