/* SPDX-License-Identifier: Apache-2.0 */
/* api/catalog_body: what the catalog is told directly. */
#include "api/catalog_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

struct fixture {
    struct decode d;
    Mr__Register reg;
    Mr__Deregister dereg;
    unsigned status;
};

static int set_up(void **state)
{
    static struct fixture f;

    decode_setup();
    memset(&f, 0, sizeof f);
    decode_init(&f.d);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    decode_deinit(&((struct fixture *)*state)->d);
    return 0;
}

static enum mr_err reg(struct fixture *f, const char *body)
{
    decode_deinit(&f->d);
    return catalog_register(&f->d, mr_slice_str(body), "dc1", &f->reg,
                            &f->status);
}

static enum mr_err dereg(struct fixture *f, const char *body)
{
    decode_deinit(&f->d);
    return catalog_deregister(&f->d, mr_slice_str(body), "dc1", &f->dereg,
                              &f->status);
}

/* ------------------------------------------------------------- success */

/* A node alone: metadata that was not given is null, not empty. */
static void a_node_alone_registers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(reg(f, "{\"Node\":\"ext\",\"Address\":\"1.2.3.4\"}"),
                     MR_OK);
    assert_string_equal(f->reg.node->name, "ext");
    assert_string_equal(f->reg.node->datacenter, "dc1");
    assert_false(f->reg.node->has_meta);
    assert_false(f->reg.node->has_tagged_addresses);
    assert_int_equal(f->reg.n_services, 0);
    assert_int_equal(f->reg.n_checks, 0);
    assert_int_equal(reg(f, "{\"Node\":\"ext\",\"Address\":\"1.2.3.4\","
                            "\"NodeMeta\":{}}"),
                     MR_OK);
    assert_true(f->reg.node->has_meta);
}

/* Service and checks fill in what they leave out. */
static void services_and_checks_get_defaults(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        reg(f, "{\"node\":\"ext\",\"address\":\"1.2.3.4\","
               "\"service\":{\"service\":\"redis\",\"weights\":{}},"
               "\"check\":{\"name\":\"c\"},\"checks\":[{\"checkid\":\"d\","
               "\"status\":\"odd\",\"definition\":{\"tcp\":\"x:1\","
               "\"interval\":\"90s\",\"timeout\":1000}}]}"),
        MR_OK);
    assert_string_equal(f->reg.services[0]->id, "redis");
    assert_int_equal(f->reg.services[0]->weight_passing, 1);
    assert_int_equal(f->reg.services[0]->origin, MR__ORIGIN__CATALOG);
    assert_int_equal(f->reg.n_checks, 2);
    assert_string_equal(f->reg.checks[0]->status, "odd");
    assert_string_equal(f->reg.checks[0]->type, "tcp");
    assert_int_equal(f->reg.checks[0]->definition->interval_ns, 90000000000);
    assert_int_equal(f->reg.checks[0]->definition->timeout_ns, 1000);
    assert_string_equal(f->reg.checks[1]->check_id, "c");
    assert_string_equal(f->reg.checks[1]->status, "critical");
}

/* What answers contain may be sent back. */
static void answers_may_be_sent_back(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        reg(f, "{\"Node\":\"e\",\"Address\":\"1.1.1.1\",\"Service\":{"
               "\"ID\":\"a\",\"Service\":\"a\",\"Tags\":[],\"Meta\":null,"
               "\"Proxy\":{\"MeshGateway\":{}},\"Connect\":{},"
               "\"CreateIndex\":5,\"ModifyIndex\":5},\"Check\":{"
               "\"CheckID\":\"c\",\"ServiceName\":\"a\",\"ServiceTags\":[],"
               "\"Definition\":{},\"ModifyIndex\":9}}"),
        MR_OK);
    assert_string_equal(f->reg.services[0]->id, "a");
}

static void deregistrations_decode(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(dereg(f, "{\"node\":\"ext\",\"serviceid\":\"s\","
                              "\"CheckID\":\"c\",\"Datacenter\":\"dc1\"}"),
                     MR_OK);
    assert_string_equal(f->dereg.node, "ext");
    assert_string_equal(f->dereg.service_id, "s");
    assert_string_equal(f->dereg.check_id, "c");
    assert_false(f->dereg.agent_only);
}

/* ------------------------------------------------------------- failure */

#define HEAD "{\"Node\":\"ext\",\"Address\":\"1.2.3.4\","

/* Consul's words and its status, which is 500 for what its servers find. */
static void bad_registrations_are_refused(void **state)
{
    static const struct {
        const char *body;
        unsigned status;
        const char *sentence;
    } cases[] = {
        {"", 400, "Request decode failed: EOF"},
        {HEAD "\"Bogus\":1}", 400,
         "Request decode failed: json: unknown field \"Bogus\""},
        {"{\"Node\":5}", 400,
         "Request decode failed: json: cannot unmarshal number into Go struct "
         "field RegisterRequest.Node of type string"},
        {"{}", 500, "Must provide node"},
        {"{\"Node\":\"ext\"}", 500,
         "Must provide address if SkipNodeUpdate is not set"},
        {HEAD "\"ID\":\"bogus\"}", 500,
         "Bad node ID: uuid string is wrong length"},
        {HEAD "\"Datacenter\":\"nope\"}", 500, "No path to datacenter"},
        {HEAD "\"Service\":{}}", 500,
         "failed inserting service: failed inserting service: object missing "
         "primary index"},
        {HEAD "\"Service\":{\"ID\":\"only\"}}", 500,
         "Must provide service name with ID"},
        {HEAD "\"Check\":{}}", 500,
         "failed inserting check: failed inserting check: object missing "
         "primary index on node \"ext\""},
        {HEAD "\"Check\":{\"CheckID\":\"c\",\"Node\":\"other\"}}", 500,
         "check node \"other\" does not match node \"ext\""},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        assert_int_equal(reg(f, cases[i].body), MR_E_INVALID);
        assert_string_equal(f->d.error, cases[i].sentence);
        assert_int_equal(f->status, cases[i].status);
    }
}

static void bad_deregistrations_are_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(dereg(f, "{}"), MR_E_INVALID);
    assert_string_equal(f->d.error, "Must provide node");
    assert_int_equal(f->status, 500);
    assert_int_equal(dereg(f, "{\"Node\":\"e\",\"Datacenter\":\"x\"}"),
                     MR_E_INVALID);
    assert_string_equal(f->d.error, "No path to datacenter");
    assert_int_equal(dereg(f, "{\"Node\":\"e\",\"Bogus\":1}"), MR_E_INVALID);
    assert_int_equal(f->status, 400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_node_alone_registers),
        TEST(services_and_checks_get_defaults),
        TEST(answers_may_be_sent_back),
        TEST(deregistrations_decode),
        TEST(bad_registrations_are_refused),
        TEST(bad_deregistrations_are_refused),
    };

    return cmocka_run_group_tests_name("api_catalog_body", tests, NULL, NULL);
}
