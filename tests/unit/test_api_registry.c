/* SPDX-License-Identifier: Apache-2.0 */
/* /registry: the native API on a service with a real kv. */
#include "tests/unit/api_service.h"

#define ENDPOINT                                                               \
    "{\"name\":\"Say.Hello\",\"request\":{\"name\":\"Request\",\"type\":"      \
    "\"Request\",\"values\":[{\"name\":\"name\",\"type\":\"string\","          \
    "\"values\":null}]},\"response\":null,\"metadata\":{\"stream\":\"false\"}" \
    "}"
#define NODE(n)                                                                \
    "{\"id\":\"greeter-" #n "\",\"address\":\"10.0.0." #n                      \
    ":9090\",\"metadata\":{\"protocol\":\"http\"}}"
#define GREETER(nodes)                                                         \
    "{\"name\":\"greeter\",\"version\":\"1.0\",\"metadata\":{\"type\":"        \
    "\"api\"},\"endpoints\":[" ENDPOINT "],\"nodes\":[" nodes "]}"
#define ONE GREETER(NODE(1))
#define LIST(services) "[" services "]"

/* A request that answers 200. */
static void ask(struct service *s, const char *method, const char *target,
                const char *body)
{
    service_ask(s, method, target, body);
    if (s->status != 200) {
        fail_msg("%s %s: %d \"%s\"", method, target, s->status, s->body);
    }
}

/* The digest in the last answer, in a buffer of its own. */
static const char *digest(const struct service *s)
{
    static char text[17];
    const char *at = strstr(s->body, "\"digest\":\"");

    assert_non_null(at);
    memcpy(text, at + 10, 16);
    return text;
}

static uint64_t lease(const struct service *s)
{
    const char *at = strstr(s->body, "\"lease\":");

    assert_non_null(at);
    return strtoull(at + 8, NULL, 10);
}

/* Renew node 1 with the digest @d; expect the answer. */
static void renew(struct service *s, const char *d, const char *incarnation,
                  int status)
{
    char body[256];

    (void)snprintf(body, sizeof body,
                   "{\"nodes\":[{\"name\":\"greeter\",\"id\":\"greeter-1\","
                   "\"digest\":\"%s\"%s}]}",
                   d, incarnation);
    service_ask(s, "PUT", "/registry/renew", body);
    assert_int_equal(s->status, status);
}

static uint64_t revision(struct service *s)
{
    return mr_kv_revision(s->kv);
}

/* ------------------------------------------------------------- success */

/* What was registered comes back as it was, byte for byte. */
static void a_registration_comes_back(void **state)
{
    struct service *s = *state;

    ask(s, "POST", "/registry?ttl=30s", ONE);
    expect(s, "GET", "/registry?service=greeter", "", 200, LIST(ONE));
    expect(s, "GET", "/registry", "", 200, LIST(ONE));
    expect_part(s, "/registry?service=greeter", 200, "X-Microreg-Index: ");
    expect_part(s, "/v1/health/service/greeter?passing", 200,
                "\"Address\":\"10.0.0.1\",\"Meta\":{\"protocol\":\"http\"},"
                "\"Port\":9090");
    expect_part(s, "/v1/catalog/services", 200, "\"greeter\":[");
}

/* Unknown services are an empty list, which go-micro's cache understands. */
static void an_unknown_service_has_no_nodes(void **state)
{
    expect(*state, "GET", "/registry?service=nobody", "", 200, "[]");
    expect(*state, "GET", "/registry", "", 200, "[]");
}

/* What is empty is null, as Go writes it. */
static void empty_members_are_null(void **state)
{
    static const char bare[] =
        "{\"name\":\"x\",\"version\":\"\",\"metadata\":null,\"endpoints\":null,"
        "\"nodes\":[{\"id\":\"n\",\"address\":\"[::1]:80\",\"metadata\":null}]"
        "}";
    struct service *s = *state;

    ask(s, "POST", "/registry",
        "{\"name\":\"x\",\"nodes\":[{\"id\":\"n\","
        "\"address\":\"[::1]:80\"}]}");
    ask(s, "GET", "/registry", "");
    assert_int_equal(strlen(s->body), strlen(bare) + 2);
    assert_memory_equal(s->body + 1, bare, strlen(bare));
}

/* Without a command: the revision stays. */
static void a_repeat_renews(void **state)
{
    struct service *s = *state;
    uint64_t before;
    uint64_t id;

    ask(s, "POST", "/registry?ttl=30s", ONE);
    id = lease(s);
    assert_int_not_equal(id, 0);
    before = revision(s);
    ask(s, "POST", "/registry?ttl=30s", ONE);
    assert_int_equal(lease(s), id);
    assert_int_equal(revision(s), before);
    assert_int_equal(atomic_load(&s->renewals), 1);
}

/* Another content, TTL or incarnation is another registration. */
static void a_change_registers_again(void **state)
{
    struct service *s = *state;
    uint64_t id;

    ask(s, "POST", "/registry?ttl=30s", ONE);
    id = lease(s);
    ask(s, "POST", "/registry?ttl=40s", ONE);
    assert_true(lease(s) > id);
    id = lease(s);
    ask(s, "POST", "/registry?ttl=40s&incarnation=2", ONE);
    assert_true(lease(s) > id);
    assert_int_equal(atomic_load(&s->renewals), 0);
}

/* It has no lease, and its repetition changes nothing. */
static void without_ttl_it_stays(void **state)
{
    struct service *s = *state;
    uint64_t before;

    ask(s, "POST", "/registry", ONE);
    assert_int_equal(lease(s), 0);
    before = revision(s);
    ask(s, "POST", "/registry?ttl=0", ONE);
    renew(s, digest(s), "", 200);
    assert_int_equal(revision(s), before);
    assert_int_equal(atomic_load(&s->renewals), 0);
}

static void nodes_of_one_version_stand_together(void **state)
{
    struct service *s = *state;

    ask(s, "POST", "/registry?ttl=30s", GREETER(NODE(2)));
    ask(s, "POST", "/registry?ttl=30s", GREETER(NODE(1) "," NODE(3)));
    ask(s, "POST", "/registry?ttl=30s",
        "{\"name\":\"greeter\",\"version\":\"0.9\",\"nodes\":[{\"id\":\"old\","
        "\"address\":\"a:1\"}]}");
    expect(s, "GET", "/registry?service=greeter", "", 200,
           LIST("{\"name\":\"greeter\",\"version\":\"0.9\",\"metadata\":null,"
                "\"endpoints\":null,\"nodes\":[{\"id\":\"old\",\"address\":"
                "\"a:1\",\"metadata\":null}]}," GREETER(
                    NODE(1) "," NODE(2) "," NODE(3))));
}

static void renewals_are_told_apart(void **state)
{
    struct service *s = *state;
    char d[17];
    char body[512];

    ask(s, "POST", "/registry?ttl=30s&incarnation=5", ONE);
    strcpy(d, digest(s));
    renew(s, d, "", 200);
    assert_non_null(strstr(s->body, "\"renewed\":1,\"unknown\":[],\"fenced\":"
                                    "[]}"));
    renew(s, d, ",\"incarnation\":5", 200);
    renew(s, d, ",\"incarnation\":6", 404);
    renew(s, d, ",\"incarnation\":4", 409);
    assert_non_null(strstr(s->body, "\"renewed\":0,\"unknown\":[],\"fenced\":[{"
                                    "\"name\":\"greeter\",\"id\":\"greeter-1\""
                                    "}]}"));
    renew(s, "0000000000000001", "", 404);
    (void)snprintf(body, sizeof body,
                   "{\"nodes\":[{\"name\":\"greeter\",\"id\":\"greeter-1\","
                   "\"digest\":\"%s\"},{\"name\":\"greeter\",\"id\":\"none\","
                   "\"digest\":\"%s\"}]}",
                   d, d);
    service_ask(s, "PUT", "/registry/renew", body);
    assert_int_equal(s->status, 404);
    assert_non_null(strstr(s->body, "\"renewed\":1,\"unknown\":[{\"name\":"
                                    "\"greeter\",\"id\":\"none\"}]"));
}

/* The engine forgot a lease that the view shows: the state is asked again. */
static void a_forgotten_lease_is_unknown(void **state)
{
    struct service *s = *state;

    ask(s, "POST", "/registry?ttl=30s", ONE);
    atomic_store(&s->n_forget, 1);
    renew(s, digest(s), "", 404);
}

/* A registration whose lease is forgotten is made again until it is known. */
static void a_repeat_survives_a_forgotten_lease(void **state)
{
    struct service *s = *state;

    ask(s, "POST", "/registry?ttl=30s", ONE);
    atomic_store(&s->n_forget, 2);
    ask(s, "POST", "/registry?ttl=30s", ONE);
    atomic_store(&s->n_forget, 1000);
    service_ask(s, "POST", "/registry?ttl=30s", ONE);
    assert_int_equal(s->status, 503);
    atomic_store(&s->n_forget, 0);
}

/* A follower asks for a fresh view before it says that a node is unknown. */
static void unknown_needs_a_fresh_view(void **state)
{
    struct service *s = *state;
    unsigned before;

    ask(s, "POST", "/registry?ttl=30s", ONE);
    atomic_store(&s->raft.is_follower, true);
    before = atomic_load(&s->raft.reads);
    renew(s, digest(s), "", 200);
    assert_int_equal(atomic_load(&s->raft.reads), before);
    renew(s, "0000000000000001", "", 404);
    assert_int_equal(atomic_load(&s->raft.reads), before + 1);
}

static void removal_takes_the_node_along(void **state)
{
    struct service *s = *state;

    ask(s, "POST", "/registry?ttl=30s", GREETER(NODE(1) "," NODE(2)));
    ask(s, "DELETE", "/registry", GREETER(NODE(1)));
    expect(s, "GET", "/registry", "", 200, LIST(GREETER(NODE(2))));
    ask(s, "DELETE", "/registry", GREETER(NODE(1) "," NODE(2)));
    expect(s, "GET", "/registry", "", 200, "[]");
    ask(s, "GET", "/v1/catalog/nodes", "");
    assert_null(strstr(s->body, "registry:"));
}

/* Only what has this API's origin is removed by it. */
static void other_registrations_are_left_alone(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register",
        "{\"ID\":\"greeter-1\",\"Name\":\"greeter\"}");
    ask(s, "DELETE", "/registry", ONE);
    expect_part(s, "/v1/agent/services", 200, "greeter-1");
}

/* Tags of go-micro's consul plugin, written by Go, are understood. */
static void the_consul_plugins_services_are_seen(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register",
        "{\"ID\":\"foo-1\",\"Name\":\"foo\",\"Address\":\"10.1.1.1\",\"Port\":"
        "8080,\"Tags\":[\"other\","
        "\"t-789caa562a294acc2b2ec82f2a51b252ca28292950aa05040000ffff4f930768\""
        ",\"e={\\\"name\\\":\\\"Foo.Bar\\\",\\\"x\\\":1}\",\"e-commerce\","
        "\"v-789cca492c492d2e01040000ffff08cc028e\"],\"Meta\":{\"m\":\"1\"}}");
    expect(s, "GET", "/registry?service=foo", "", 200,
           "[{\"name\":\"foo\",\"version\":\"latest\",\"metadata\":null,"
           "\"endpoints\":[{\"name\":\"Foo.Bar\",\"request\":null,\"response\":"
           "null,\"metadata\":null}],\"nodes\":[{\"id\":\"foo-1\",\"address\":"
           "\"10.1.1.1:8080\",\"metadata\":{\"transport\":\"http\"}}]}]");
}

/* Without tags Meta is the metadata, the node's address the service's. */
static void plain_services_are_seen(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register",
        "{\"Name\":\"web\",\"Meta\":{\"m\":\"1\"}}");
    expect(s, "GET", "/registry?service=web", "", 200,
           "[{\"name\":\"web\",\"version\":\"\",\"metadata\":null,"
           "\"endpoints\":null,\"nodes\":[{\"id\":\"web\",\"address\":"
           "\"127.0.0.1\",\"metadata\":{\"m\":\"1\"}}]}]");
}

/* As the plugin hides them; a warning does not. */
static void critical_instances_are_hidden(void **state)
{
    struct service *s = *state;

    put(s, "/v1/agent/service/register",
        "{\"Name\":\"web\",\"Port\":80,\"Check\":{\"TTL\":\"30s\"}}");
    expect(s, "GET", "/registry", "", 200, "[]");
    put(s, "/v1/agent/check/warn/service:web", "");
    expect_part(s, "/registry", 200, "127.0.0.1:80");
    put(s, "/v1/agent/check/fail/service:web", "");
    expect(s, "GET", "/registry", "", 200, "[]");
}

/* A parked list wakes for a new instance and for a check's status. */
static void blocking_lists_wake(void **state)
{
    struct service *s = *state;
    char target[64];
    int fd;

    (void)snprintf(target, sizeof target, "/registry?index=%llu&wait=60s",
                   (unsigned long long)revision(s));
    fd = service_send(s, "GET", target, "");
    ask(s, "POST", "/registry?ttl=30s", ONE);
    service_receive(s, fd);
    assert_string_equal(s->body, LIST(ONE));
    put(s, "/v1/agent/service/register",
        "{\"Name\":\"web\",\"Port\":80,\"Check\":{\"TTL\":\"30s\"}}");
    (void)snprintf(target, sizeof target, "/registry?index=%llu&wait=60s",
                   (unsigned long long)revision(s));
    fd = service_send(s, "GET", target, "");
    put(s, "/v1/agent/check/pass/service:web", "");
    service_receive(s, fd);
    assert_non_null(strstr(s->body, "\"name\":\"web\""));
}

/* ------------------------------------------------------------- failure */

/* A virtual machine that was resumed cannot overwrite its successor. */
static void older_incarnations_are_fenced(void **state)
{
    struct service *s = *state;

    ask(s, "POST", "/registry?ttl=30s&incarnation=2", ONE);
    service_ask(s, "POST", "/registry?ttl=30s&incarnation=1", ONE);
    assert_int_equal(s->status, 409);
    assert_non_null(strstr(s->body, "fenced: a newer incarnation"));
    service_ask(s, "DELETE", "/registry?incarnation=1", ONE);
    assert_int_equal(s->status, 409);
    expect(s, "GET", "/registry", "", 200, LIST(ONE));
    ask(s, "DELETE", "/registry?incarnation=2", ONE);
}

static void bad_requests_change_nothing(void **state)
{
    struct service *s = *state;
    uint64_t before = revision(s);

    expect(s, "POST", "/registry?ttl=10ms", ONE, 400,
           "Invalid ttl \"10ms\": must be between 1s and 24h, or 0 for a "
           "registration that stays");
    expect(s, "POST", "/registry?incarnation=x", ONE, 400,
           "Invalid incarnation \"x\": not a number");
    expect(s, "POST", "/registry", "{", 400, "unexpected EOF");
    expect(s, "POST", "/registry", "{\"name\":\"x\"}", 400,
           "require at least one node");
    expect(s, "DELETE", "/registry", "{\"name\":\"x\"}", 400,
           "require at least one node");
    expect(s, "PUT", "/registry/renew", "{}", 400, "require at least one node");
    service_ask(s, "PUT", "/registry", ONE);
    assert_int_equal(s->status, 405);
    assert_int_equal(revision(s), before);
}

static void failures_are_reported(void **state)
{
    struct service *s = *state;
    char d[17];

    atomic_store(&s->raft.fail_propose, MR_E_NOLEADER);
    service_ask(s, "POST", "/registry?ttl=30s", ONE);
    assert_int_equal(s->status, 500);
    atomic_store(&s->raft.fail_propose, MR_OK);
    ask(s, "POST", "/registry?ttl=30s", ONE);
    strcpy(d, digest(s));
    atomic_store(&s->fail_renew, MR_E_NOLEADER);
    renew(s, d, "", 500);
    service_ask(s, "POST", "/registry?ttl=30s", ONE);
    assert_int_equal(s->status, 500);
    atomic_store(&s->fail_renew, MR_OK);
    atomic_store(&s->raft.is_follower, true);
    atomic_store(&s->raft.fail_read, MR_E_NOLEADER);
    renew(s, "0000000000000001", "", 500);
}

#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, service_start, service_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_registration_comes_back),
        TEST(an_unknown_service_has_no_nodes),
        TEST(empty_members_are_null),
        TEST(a_repeat_renews),
        TEST(a_change_registers_again),
        TEST(without_ttl_it_stays),
        TEST(nodes_of_one_version_stand_together),
        TEST(renewals_are_told_apart),
        TEST(a_forgotten_lease_is_unknown),
        TEST(a_repeat_survives_a_forgotten_lease),
        TEST(unknown_needs_a_fresh_view),
        TEST(removal_takes_the_node_along),
        TEST(other_registrations_are_left_alone),
        TEST(the_consul_plugins_services_are_seen),
        TEST(plain_services_are_seen),
        TEST(critical_instances_are_hidden),
        TEST(blocking_lists_wake),
        TEST(older_incarnations_are_fenced),
        TEST(bad_requests_change_nothing),
        TEST(failures_are_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
