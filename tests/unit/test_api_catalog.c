/* SPDX-License-Identifier: Apache-2.0 */
/* api: catalog, health and agent endpoints over a real kv. */
#include "tests/unit/api_service.h"

#define NODE_JSON                                                              \
    "{\"ID\":\"" NODE_ID "\",\"Node\":\"n1\",\"Address\":\"127.0.0.1\","       \
    "\"Datacenter\":\"dc1\",\"TaggedAddresses\":{\"lan\":\"127.0.0.1\","       \
    "\"lan_ipv4\":\"127.0.0.1\",\"wan\":\"127.0.0.1\","                        \
    "\"wan_ipv4\":\"127.0.0.1\"},\"Meta\":{\"consul-network-segment\":\"\","   \
    "\"rack\":\"a\"},\"CreateIndex\":2,\"ModifyIndex\":2}"

/* ------------------------------------------------------------- success */

/* A server has its node, its health and the service consul in the catalog, and
 * none of it among its agent's registrations. */
static void a_server_registers_itself(void **state)
{
    struct service *s = *state;

    expect(s, "GET", "/v1/catalog/nodes", "", 200, "[" NODE_JSON "]");
    expect(s, "GET", "/v1/catalog/services", "", 200, "{\"consul\":[]}");
    expect_part(s, "/v1/health/service/consul?passing", 200,
                "\"CheckID\":\"serfHealth\"");
    expect_part(s, "/v1/catalog/service/consul", 200, "\"ServicePort\":8300");
    expect(s, "GET", "/v1/agent/services", "", 200, "{}");
    expect(s, "GET", "/v1/agent/checks", "", 200, "{}");
}

/* A registration shows in all spellings. */
static void a_registration_shows_everywhere(void **state)
{
    struct service *s = *state;

    expect(s, "PUT", "/v1/agent/service/register",
           "{\"Name\":\"web\",\"ID\":\"w1\",\"Tags\":[\"v1\"],\"Port\":80,"
           "\"Check\":{\"TTL\":\"60s\",\"Status\":\"passing\"}}",
           200, "");
    expect(s, "GET", "/v1/agent/services", "", 200,
           "{\"w1\":{\"ID\":\"w1\",\"Service\":\"web\",\"Tags\":[\"v1\"],"
           "\"Meta\":{},\"Port\":80,\"Address\":\"\",\"Weights\":{\"Passing\":"
           "1,\"Warning\":1},\"EnableTagOverride\":false}}");
    expect_part(s, "/v1/agent/service/w1", 200, "X-Consul-Contenthash: ");
    expect(s, "GET", "/v1/agent/checks", "", 200,
           "{\"service:w1\":{\"Node\":\"n1\",\"CheckID\":\"service:w1\","
           "\"Name\":\"Service 'web' check\",\"Status\":\"passing\","
           "\"Notes\":\"\",\"Output\":\"\",\"ServiceID\":\"w1\","
           "\"ServiceName\":\"web\",\"ServiceTags\":[\"v1\"],\"Type\":\"ttl\","
           "\"Definition\":{},\"CreateIndex\":0,\"ModifyIndex\":0}}");
    expect(s, "GET", "/v1/catalog/services", "", 200,
           "{\"consul\":[],\"web\":[\"v1\"]}");
    expect_part(s, "/v1/catalog/service/WEB?tag=V1", 200,
                "\"ServiceName\":\"web\"");
    expect(s, "GET", "/v1/catalog/service/web?tag=v2", "", 200, "[]");
    expect_part(s, "/v1/health/service/web?passing&filter=Service.Port==80",
                200, "\"Checks\":[{\"Node\":\"n1\",\"CheckID\":\"serfHealth\"");
    expect_part(s, "/v1/catalog/node/N1", 200, "\"w1\":{\"ID\":\"w1\"");
    expect_part(s, "/v1/catalog/node-services/n1?filter=Service==web", 200,
                "\"Services\":[{\"ID\":\"w1\"");
    expect(s, "PUT", "/v1/agent/service/deregister/w1", "", 200, "");
    expect(s, "GET", "/v1/agent/checks", "", 200, "{}");
    expect(s, "GET", "/v1/health/service/web", "", 200, "[]");
}

/* A client that registers again and again does not make its service flap, and
 * the same registration changes nothing. */
static void repeated_registrations_keep_the_checks(void **state)
{
    static const char body[] = "{\"Name\":\"web\",\"Check\":{\"TTL\":\"9s\"}}";
    struct service *s = *state;
    uint64_t revision;

    put(s, "/v1/agent/service/register", body);
    expect(s, "GET", "/v1/health/service/web?passing", "", 200, "[]");
    put(s, "/v1/agent/check/pass/service:web?note=fine", "");
    revision = mr_kv_revision(s->kv);
    put(s, "/v1/agent/service/register", body);
    assert_int_equal(mr_kv_revision(s->kv), revision);
    expect_part(s, "/v1/health/service/web?passing", 200,
                "\"Status\":\"passing\",\"Notes\":\"\",\"Output\":\"fine\"");
}

/* Old checks stay unless they are to be replaced. */
static void checks_are_replaced_on_request(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register",
        "{\"Name\":\"a\",\"Checks\":[{\"TTL\":\"1s\"},{\"TTL\":\"2s\"}]}");
    put(s, "/v1/agent/service/register?replace-existing-checks=false",
        "{\"Name\":\"a\",\"Check\":{\"TTL\":\"3s\"}}");
    expect_part(s, "/v1/agent/checks", 200, "\"service:a:2\"");
    put(s, "/v1/agent/service/register?replace-existing-checks",
        "{\"Name\":\"a\",\"Check\":{\"TTL\":\"3s\"}}");
    service_ask(s, "GET", "/v1/agent/checks", "");
    assert_null(strstr(s->body, "\"service:a:"));
    assert_non_null(strstr(s->body, "\"service:a\""));
}

/* TTL checks take results; the node's own check counts for its services. */
static void checks_take_results(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register", "{\"Name\":\"a\",\"Port\":1}");
    put(s, "/v1/agent/check/register",
        "{\"ID\":\"m\",\"Name\":\"mem\",\"TTL\":\"60s\"}");
    expect(s, "GET", "/v1/health/service/a?passing", "", 200, "[]");
    put(s, "/v1/agent/check/warn/m?note=hmm", "");
    expect_part(s, "/v1/health/state/warning", 200, "\"Output\":\"hmm\"");
    put(s, "/v1/agent/check/update/m",
        "{\"status\":\"passing\",\"output\":\"ok\"}");
    expect_part(s, "/v1/health/service/a?passing", 200, "\"Output\":\"ok\"");
    put(s, "/v1/agent/check/fail/m", "");
    expect_part(s, "/v1/health/node/n1?filter=CheckID==m", 200,
                "\"Status\":\"critical\"");
    put(s, "/v1/agent/check/deregister/m", "");
    expect_part(s, "/v1/health/service/a?passing", 200, "\"ID\":\"a\"");
    put(s, "/v1/agent/check/deregister/m", "");
    put(s, "/v1/agent/check/deregister/serfHealth", "");
    expect_part(s, "/v1/health/node/n1", 200, "serfHealth");
}

/* Maintenance is a critical check; the first reason stays. */
static void maintenance_takes_services_out(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register", "{\"Name\":\"a\"}");
    put(s, "/v1/agent/service/maintenance/a?enable=true&reason=one", "");
    put(s, "/v1/agent/service/maintenance/a?enable=true&reason=two", "");
    expect_part(s, "/v1/agent/checks", 200, "\"Notes\":\"one\"");
    expect_part(s, "/v1/agent/health/service/id/a", 503,
                "\"AggregatedStatus\":\"maintenance\"");
    expect(s, "GET", "/v1/health/service/a?passing", "", 200, "[]");
    put(s, "/v1/agent/service/maintenance/a?enable=false", "");
    expect(s, "GET", "/v1/agent/checks", "", 200, "{}");
    put(s, "/v1/agent/maintenance?enable=T", "");
    expect_part(s, "/v1/agent/checks", 200, "for this node, but no reason");
    put(s, "/v1/agent/maintenance?enable=F", "");
    expect(s, "GET", "/v1/agent/checks", "", 200, "{}");
}

/* Local health is told by the status code as well; the worst decides. */
static void local_health_has_status_codes(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register",
        "{\"ID\":\"a1\",\"Name\":\"a\",\"Check\":{\"TTL\":\"9s\","
        "\"Status\":\"passing\"}}");
    expect(s, "GET", "/v1/agent/health/service/id/a1?format=text", "", 200,
           "passing");
    put(s, "/v1/agent/service/register",
        "{\"ID\":\"a2\",\"Name\":\"a\",\"Check\":{\"TTL\":\"9s\","
        "\"Status\":\"warning\"}}");
    expect_part(s, "/v1/agent/health/service/name/a", 429,
                "X-Consul-Reason: warning");
    put(s, "/v1/agent/check/fail/service:a1", "");
    expect(s, "GET", "/v1/agent/health/service/name/a?format=text", "", 503,
           "critical");
    expect(s, "GET", "/v1/agent/health/service/name/b", "", 404, "[]");
    expect(s, "GET", "/v1/agent/health/service/id/b?format=text", "", 404,
           "\"ServiceId b not found\"");
}

/* External nodes live beside the agents', and only in the catalog. */
static void external_nodes_register(void **state)
{
    struct service *s = *state;

    expect(s, "PUT", "/v1/catalog/register",
           "{\"Node\":\"ext\",\"Address\":\"1.2.3.4\",\"NodeMeta\":{\"rack\":"
           "\"b\"},\"Service\":{\"Service\":\"db\",\"Tags\":[\"x\",\"y\"]},"
           "\"Check\":{\"CheckID\":\"c\",\"Status\":\"passing\","
           "\"ServiceID\":\"db\",\"Definition\":{\"TCP\":\"x:1\","
           "\"Interval\":\"90s\"}}}",
           200, "true");
    expect(s, "GET", "/v1/catalog/services?node-meta=rack:b", "", 200,
           "{\"db\":[\"x\",\"y\"]}");
    expect(s, "GET", "/v1/catalog/services?node-meta=rack:c", "", 200, "{}");
    expect_part(s, "/v1/health/checks/db?node-meta=rack:b", 200,
                "\"Type\":\"tcp\",\"Definition\":{\"Interval\":\"1m30s\","
                "\"TCP\":\"x:1\"}");
    expect(s, "GET", "/v1/health/state/any?node-meta=rack:c", "", 200, "[]");
    expect_part(s, "/v1/catalog/nodes?filter=Meta.rack==b", 200,
                "\"Node\":\"ext\"");
    expect(s, "PUT", "/v1/catalog/deregister", "{\"Node\":\"ext\"}", 200,
           "true");
    expect(s, "GET", "/v1/catalog/node/ext", "", 200, "null");
}

/* The agent knows itself and its peers. */
static void the_agent_describes_itself(void **state)
{
    struct service *s = *state;

    expect_part(s, "/v1/agent/self", 200,
                "{\"Config\":{\"Datacenter\":\"dc1\",\"NodeName\":\"n1\","
                "\"NodeID\":\"" NODE_ID "\",\"Revision\":\"\",\"Server\":true,"
                "\"Version\":\"1.8.7\"},\"DebugConfig\":{},\"Coord\":");
    expect_part(s, "/v1/agent/members", 200,
                "[{\"Name\":\"n1\",\"Addr\":\"127.0.0.1\",\"Port\":8300,"
                "\"Tags\":{\"acls\":\"0\",\"bootstrap\":\"1\",\"build\":"
                "\"1.8.7:\",\"dc\":\"dc1\",\"ft_fs\":\"1\",\"id\":\"" NODE_ID
                "\",\"port\":\"8300\"");
    expect_part(s, "/v1/agent/members?wan=1", 200, "\"Name\":\"n1.dc1\"");
    expect_part(s, "/v1/agent/host", 200, "\"Memory\":{\"total\":");
    expect(s, "GET", "/v1/catalog/datacenters", "", 200, "[\"dc1\"]");
    expect(s, "PUT", "/v1/agent/reload", "", 200, "");
    expect(s, "PUT", "/v1/agent/join/127.0.0.1", "", 200, "");
    expect(s, "PUT", "/v1/agent/force-leave/n1", "", 200, "");
}

/* Wait until the one blocking query is parked. */
static void await_parked(struct service *s)
{
    struct mr_api_stats stats;

    do {
        mr_api_stats(s->api, &stats);
    } while (stats.parked != 1);
}

/* A reader that waits on a service wakes with its registration. */
static void blocking_reads_wake(void **state)
{
    struct service *s = *state;
    char target[128];
    int fd;

    expect_part(s, "/v1/health/service/new", 200, "X-Consul-Index: ");
    (void)snprintf(
        target, sizeof target, "/v1/health/service/new?index=%lu&wait=60s",
        strtoul(strstr(s->answer, "X-Consul-Index: ") + 16, NULL, 10));
    fd = service_send(s, "GET", target, "");
    await_parked(s);
    put(s, "/v1/agent/service/register", "{\"Name\":\"other\"}");
    put(s, "/v1/agent/service/register", "{\"Name\":\"new\"}");
    service_receive(s, fd);
    assert_int_equal(s->status, 200);
    assert_non_null(strstr(s->body, "\"Service\":\"new\""));
}

/* And one that waits on a definition by its hash, when that changes. */
static void hash_reads_wake(void **state)
{
    struct service *s = *state;
    char target[128];
    int fd;

    put(s, "/v1/agent/service/register", "{\"Name\":\"h\",\"Port\":1}");
    service_ask(s, "GET", "/v1/agent/service/h", "");
    (void)snprintf(target, sizeof target,
                   "/v1/agent/service/h?hash=%.*s&wait=60s",
                   (int)strcspn(strstr(s->body, "ContentHash") + 14, "\""),
                   strstr(s->body, "ContentHash") + 14);
    fd = service_send(s, "GET", target, "");
    await_parked(s);
    put(s, "/v1/agent/service/register", "{\"Name\":\"h\",\"Port\":2}");
    service_receive(s, fd);
    assert_non_null(strstr(s->body, "\"Port\":2"));
}

/* ------------------------------------------------------------- failure */

struct refusal {
    const char *method;
    const char *target;
    const char *body;
    int status;
    const char *answer;
};

/* Wrong requests get Consul's status and words, and change nothing. */
static void bad_requests_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {"PUT", "/v1/agent/service/register", "", 400,
         "Request decode failed: EOF"},
        {"PUT", "/v1/agent/service/register", "{}", 400,
         "Missing service name"},
        {"PUT", "/v1/agent/service/register",
         "{\"Name\":\"x\",\"Check\":{\"Args\":[\"a\"],\"Interval\":\"1s\"}}",
         500,
         "Scripts are disabled on this agent from remote calls; to enable, "
         "configure 'enable_script_checks' to true"},
        {"PUT", "/v1/agent/service/register?replace-existing-checks=x",
         "{\"Name\":\"x\"}", 400,
         "Invalid value for replace-existing-checks: \"x\""},
        {"PUT", "/v1/agent/service/deregister/", "", 500, "ServiceID missing"},
        {"PUT", "/v1/agent/check/register",
         "{\"Name\":\"c\",\"TTL\":\"1s\",\"ServiceID\":\"no\"}", 500,
         "ServiceID \"no\" does not exist"},
        {"PUT", "/v1/agent/check/deregister/", "", 500, "CheckID missing"},
        {"PUT", "/v1/agent/check/pass/no", "", 500,
         "CheckID \"no\" does not have associated TTL"},
        {"PUT", "/v1/agent/check/pass/serfHealth", "", 500,
         "CheckID \"serfHealth\" does not have associated TTL"},
        {"PUT", "/v1/agent/check/update/x", "{}", 400,
         "Invalid check status: ''"},
        {"PUT", "/v1/agent/maintenance", "", 400, "Missing value for enable"},
        {"PUT", "/v1/agent/maintenance?enable=yes", "", 400,
         "Invalid value for enable: \"yes\""},
        {"PUT", "/v1/agent/service/maintenance/?enable=1", "", 400,
         "Missing service ID"},
        {"PUT", "/v1/agent/service/maintenance/no?enable=1", "", 404,
         "No service registered with ID \"no\""},
        {"PUT", "/v1/agent/force-leave/no", "", 500,
         "agent: No node found with name 'no'"},
        {"PUT", "/v1/agent/join/:", "", 500,
         "1 error occurred:\n\t* Failed to join :: bad address \":\": the host "
         "must have 1 to 255 characters\n\n"},
        {"PUT", "/v1/agent/leave", "", 500, "This agent cannot leave"},
        {"GET", "/v1/agent/service/no", "", 404, "unknown service ID: no"},
        {"GET", "/v1/agent/service/consul", "", 404,
         "unknown service ID: consul"},
        {"GET", "/v1/agent/members?segment=x", "", 500,
         "Network segments are not supported in this version of Consul"},
        {"GET", "/v1/agent/monitor?loglevel=bogus", "", 400,
         "Bad request: Unknown log level: bogus"},
        {"GET", "/v1/agent/health/service/id/", "", 500,
         "Bad request: Missing serviceID"},
        {"GET", "/v1/catalog/service/", "", 400, "Missing service name"},
        {"GET", "/v1/catalog/node/", "", 400, "Missing node name"},
        {"GET", "/v1/health/state/", "", 400, "Missing check state"},
        {"GET", "/v1/health/service/x?passing=maybe", "", 400,
         "Invalid value for ?passing"},
        {"PUT", "/v1/catalog/register", "{\"Node\":\"e\"}", 500,
         "Must provide address if SkipNodeUpdate is not set"},
        {"PUT", "/v1/catalog/register",
         "{\"Node\":\"e\",\"Address\":\"1.1.1.1\",\"Check\":{\"CheckID\":\"c\","
         "\"ServiceID\":\"no\"}}",
         500,
         "failed inserting check: Missing service registration on node \"e\""},
        {"PUT", "/v1/catalog/deregister", "{}", 500, "Must provide node"},
    };
    struct service *s = *state;
    uint64_t revision = mr_kv_revision(s->kv);

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        expect(s, cases[i].method, cases[i].target, cases[i].body,
               cases[i].status, cases[i].answer);
    }
    assert_int_equal(mr_kv_revision(s->kv), revision);
}

/* Names end in keys of the state, so they have limits, and no part of a
 * registration that is over one is kept. */
static void long_names_are_refused(void **state)
{
    struct service *s = *state;
    uint64_t revision = mr_kv_revision(s->kv);
    char body[700];

    (void)snprintf(body, sizeof body, "{\"Name\":\"%0300d\"}", 0);
    service_ask(s, "PUT", "/v1/agent/service/register", body);
    assert_int_equal(s->status, 500);
    assert_non_null(strstr(s->body, "Service name is too long (limit: "));
    (void)snprintf(body, sizeof body, "{\"Name\":\"%0300d\",\"TTL\":\"1s\"}",
                   0);
    service_ask(s, "PUT", "/v1/agent/check/register", body);
    assert_int_equal(s->status, 500);
    assert_non_null(strstr(s->body, "Check ID is too long (limit: "));
    (void)snprintf(body, sizeof body,
                   "{\"Node\":\"%0300d\",\"Address\":\"1.1.1.1\"}", 0);
    service_ask(s, "PUT", "/v1/catalog/register", body);
    assert_int_equal(s->status, 500);
    assert_non_null(strstr(s->body, "Node name is too long (limit: "));
    assert_int_equal(mr_kv_revision(s->kv), revision);
}

/* A bad filter is found by Consul's servers, so index headers come with it. */
static void bad_filters_are_refused(void **state)
{
    struct service *s = *state;

    expect_part(s, "/v1/catalog/nodes?filter=Bogus==1", 500,
                "Failed to create boolean expression evaluator: Selector "
                "\"Bogus\" is not valid");
    assert_non_null(strstr(s->answer, "X-Consul-Index: 1\r\n"));
    expect_part(s, "/v1/agent/services?filter=((", 500, "no match found");
    /* agent/checks looks at it only when there is a check. */
    expect(s, "GET", "/v1/agent/checks?filter=Bogus==1", "", 200, "{}");
    put(s, "/v1/agent/check/register", "{\"Name\":\"c\",\"TTL\":\"9s\"}");
    expect(s, "GET", "/v1/agent/checks?filter=Bogus==1", "", 500,
           "Selector \"Bogus\" is not valid");
    expect_part(s, "/v1/agent/checks?filter=((", 500,
                "Failed to create boolean expression evaluator: 1:3 (2): ");
}

/* A write that raft refuses or loses is not reported as done. */
static void failed_writes_are_reported(void **state)
{
    struct service *s = *state;

    atomic_store(&s->raft.refuse_propose, MR_E_BUSY);
    service_ask(s, "PUT", "/v1/agent/service/register", "{\"Name\":\"x\"}");
    assert_int_equal(s->status, 503);
    atomic_store(&s->raft.refuse_propose, MR_OK);
    atomic_store(&s->raft.fail_propose, MR_E_NOLEADER);
    service_ask(s, "PUT", "/v1/agent/check/deregister/x", "");
    assert_int_equal(s->status, 500);
    assert_string_equal(s->body, "No cluster leader");
    atomic_store(&s->raft.fail_propose, MR_OK);
}

#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, service_start, service_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_server_registers_itself),
        TEST(a_registration_shows_everywhere),
        TEST(repeated_registrations_keep_the_checks),
        TEST(checks_are_replaced_on_request),
        TEST(checks_take_results),
        TEST(maintenance_takes_services_out),
        TEST(local_health_has_status_codes),
        TEST(external_nodes_register),
        TEST(the_agent_describes_itself),
        TEST(blocking_reads_wake),
        TEST(hash_reads_wake),
        TEST(bad_requests_are_refused),
        TEST(long_names_are_refused),
        TEST(bad_filters_are_refused),
        TEST(failed_writes_are_reported),
    };

    return cmocka_run_group_tests_name("api_catalog", tests, NULL, NULL);
}
