/* SPDX-License-Identifier: Apache-2.0 */
/* api/shapes: nodes, services and checks in Consul's spellings. */
#include "api/shapes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

static Mr__Pair pair = {PROTOBUF_C_MESSAGE_INIT(&mr__pair__descriptor),
                        (char *)"k", (char *)"<v>"};
static Mr__Pair *pairs[] = {&pair};
static char *tags[] = {(char *)"a", (char *)"b"};

/* What @write makes is @wanted. */
#define ASSERT_JSON(write, wanted)                                             \
    do {                                                                       \
        struct mr_buf out = MR_BUF_INIT;                                       \
        struct mr_json j;                                                      \
                                                                               \
        mr_json_init(&j, &out);                                                \
        write;                                                                 \
        assert_string_equal(mr_buf_cstr(&out), wanted);                        \
        mr_buf_deinit(&out);                                                   \
    } while (0)

/* ------------------------------------------------------------- success */

/* Maps that were not given are null, empty ones are {}. */
static void nodes_tell_null_from_empty(void **state)
{
    Mr__Node node = MR__NODE__INIT;

    (void)state;
    node.name = (char *)"n";
    node.create_rev = 3;
    node.modify_rev = 4;
    ASSERT_JSON(shape_node(&j, &node),
                "{\"ID\":\"\",\"Node\":\"n\",\"Address\":\"\",\"Datacenter\":"
                "\"\",\"TaggedAddresses\":null,\"Meta\":null,\"CreateIndex\":3,"
                "\"ModifyIndex\":4}");
    node.has_meta = true;
    node.has_tagged_addresses = true;
    node.n_tagged_addresses = 1;
    node.tagged_addresses = pairs;
    ASSERT_JSON(shape_node(&j, &node),
                "{\"ID\":\"\",\"Node\":\"n\",\"Address\":\"\",\"Datacenter\":"
                "\"\",\"TaggedAddresses\":{\"k\":\"\\u003cv\\u003e\"},\"Meta\":"
                "{},\"CreateIndex\":3,\"ModifyIndex\":4}");
}

/* The same service, three ways; its empty metadata is {} or null by the way. */
static void services_have_three_spellings(void **state)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Service s = MR__SERVICE__INIT;

    (void)state;
    node.name = (char *)"n";
    s.id = (char *)"w1";
    s.name = (char *)"web";
    s.port = -1;
    s.weight_passing = 1;
    ASSERT_JSON(shape_service_agent(&j, &s, NULL),
                "{\"ID\":\"w1\",\"Service\":\"web\",\"Tags\":[],\"Meta\":{},"
                "\"Port\":-1,\"Address\":\"\",\"Weights\":{\"Passing\":1,"
                "\"Warning\":0},\"EnableTagOverride\":false}");
    ASSERT_JSON(shape_service(&j, &s),
                "{\"ID\":\"w1\",\"Service\":\"web\",\"Tags\":[],\"Address\":"
                "\"\",\"Meta\":null,\"Port\":-1,\"Weights\":{\"Passing\":1,"
                "\"Warning\":0},\"EnableTagOverride\":false,\"Proxy\":{"
                "\"MeshGateway\":{},\"Expose\":{}},\"Connect\":{},"
                "\"CreateIndex\":0,\"ModifyIndex\":0}");
    ASSERT_JSON(shape_service_flat(&j, &node, &s),
                "{\"ID\":\"\",\"Node\":\"n\",\"Address\":\"\",\"Datacenter\":"
                "\"\",\"TaggedAddresses\":null,\"NodeMeta\":null,"
                "\"ServiceKind\":\"\",\"ServiceID\":\"w1\",\"ServiceName\":"
                "\"web\",\"ServiceTags\":[],\"ServiceAddress\":\"\","
                "\"ServiceWeights\":{\"Passing\":1,\"Warning\":0},"
                "\"ServiceMeta\":{},\"ServicePort\":-1,"
                "\"ServiceEnableTagOverride\":false,\"ServiceProxy\":{"
                "\"MeshGateway\":{},\"Expose\":{}},\"ServiceConnect\":{},"
                "\"CreateIndex\":0,\"ModifyIndex\":0}");
}

/* Members that Consul leaves out appear when they say something. */
static void optional_members_appear(void **state)
{
    Mr__Service s = MR__SERVICE__INIT;
    Mr__TaggedAddress lan = MR__TAGGED_ADDRESS__INIT;
    Mr__TaggedAddress *addresses[] = {&lan};

    (void)state;
    lan.tag = (char *)"lan";
    lan.port = 5;
    s.kind = (char *)"k";
    s.n_tags = 2;
    s.tags = tags;
    s.n_meta = 1;
    s.meta = pairs;
    s.n_tagged_addresses = 1;
    s.tagged_addresses = addresses;
    s.enable_tag_override = true;
    ASSERT_JSON(shape_service_agent(&j, &s, "ab12"),
                "{\"Kind\":\"k\",\"ID\":\"\",\"Service\":\"\",\"Tags\":[\"a\","
                "\"b\"],\"Meta\":{\"k\":\"\\u003cv\\u003e\"},\"Port\":0,"
                "\"Address\":\"\",\"TaggedAddresses\":{\"lan\":{\"Address\":"
                "\"\",\"Port\":5}},\"Weights\":{\"Passing\":0,\"Warning\":0},"
                "\"EnableTagOverride\":true,\"ContentHash\":\"ab12\"}");
}

/* A definition is shown when the catalog was given it, and only what it says;
 * agents keep theirs to themselves. */
static void definitions_show_what_was_given(void **state)
{
    Mr__Check c = MR__CHECK__INIT;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    Mr__Header header = MR__HEADER__INIT;
    Mr__Header *headers[] = {&header};

    (void)state;
    header.name = (char *)"h";
    header.n_values = 2;
    header.values = tags;
    def.http = (char *)"http://x";
    def.method = (char *)"POST";
    def.body = (char *)"z";
    def.interval_ns = 90000000000;
    def.timeout_ns = 1000;
    def.tls_skip_verify = true;
    def.n_header = 1;
    def.header = headers;
    c.node = (char *)"n";
    c.check_id = (char *)"c";
    c.definition = &def;
    c.modify_rev = 7;
    c.n_service_tags = 2;
    c.service_tags = tags;
#define CHECK_HEAD                                                             \
    "{\"Node\":\"n\",\"CheckID\":\"c\",\"Name\":\"\",\"Status\":\"\","         \
    "\"Notes\":\"\",\"Output\":\"\",\"ServiceID\":\"\",\"ServiceName\":\"\","  \
    "\"ServiceTags\":"
    ASSERT_JSON(shape_check(&j, &c, SHAPE_CHECK_CATALOG),
                CHECK_HEAD "[\"a\",\"b\"],\"Type\":\"\",\"Definition\":{"
                           "\"Interval\":\"1m30s\",\"Timeout\":\"1\xc2\xb5s\","
                           "\"HTTP\":\"http://x\",\"TLSSkipVerify\":true,"
                           "\"Header\":{\"h\":[\"a\",\"b\"]},\"Method\":"
                           "\"POST\",\"Body\":\"z\"},\"CreateIndex\":0,"
                           "\"ModifyIndex\":7}");
    c.origin = MR__ORIGIN__AGENT;
    ASSERT_JSON(shape_check(&j, &c, SHAPE_CHECK_AGENT),
                CHECK_HEAD "[\"a\",\"b\"],\"Type\":\"\",\"Definition\":{},"
                           "\"CreateIndex\":0,\"ModifyIndex\":0}");
    ASSERT_JSON(shape_check(&j, &c, SHAPE_CHECK_HEALTH),
                CHECK_HEAD "null,\"Type\":\"\",\"Definition\":{\"Interval\":"
                           "\"0s\",\"Timeout\":\"0s\","
                           "\"DeregisterCriticalServiceAfter\":\"0s\",\"HTTP\":"
                           "\"\",\"Header\":null,\"Method\":\"\",\"Body\":\"\","
                           "\"TLSSkipVerify\":false,\"TCP\":\"\"},"
                           "\"CreateIndex\":0,\"ModifyIndex\":0}");
}

/* ------------------------------------------------------------- failure */

/* Without memory the buffer says so, whichever allocation it was. */
static void lack_of_memory_is_sticky(void **state)
{
    Mr__Check c = MR__CHECK__INIT;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    bool failed = true;

    (void)state;
    def.interval_ns = 1;
    c.definition = &def;
    for (uint64_t n = 0; failed; n++) {
        struct mr_buf out = MR_BUF_INIT;
        struct mr_json j;

        mr_json_init(&j, &out);
        mr_mem_fail_after(n);
        shape_check(&j, &c, SHAPE_CHECK_CATALOG);
        mr_mem_fail_after(UINT64_MAX);
        failed = mr_buf_failed(&out);
        assert_true(failed || n > 1);
        mr_buf_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_tell_null_from_empty),
        cmocka_unit_test(services_have_three_spellings),
        cmocka_unit_test(optional_members_appear),
        cmocka_unit_test(definitions_show_what_was_given),
        cmocka_unit_test(lack_of_memory_is_sticky),
    };

    return cmocka_run_group_tests_name("api_shapes", tests, NULL, NULL);
}
