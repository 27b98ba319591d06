/* SPDX-License-Identifier: Apache-2.0 */
/* Catalog: registration, merging, removal, and what the queries answer. */
#include "tests/unit/kv_fixture.h"

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
    assert_int_equal(index, 2);
    fx_check_digest(f);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(instance_lists_node_checks_first,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(
            deregister_removes_service_and_its_checks, fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests_name("kv_catalog", tests, NULL, NULL);
}
