/* SPDX-License-Identifier: Apache-2.0 */
/* api/define: what agents are told about services and checks. */
#include "api/define.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "health/mr_check.h"

struct fixture {
    struct decode d;
    struct define_service service;
    Mr__Check check;
    Mr__CheckUpdate update;
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
    mr_mem_fail_after(UINT64_MAX);
    decode_deinit(&((struct fixture *)*state)->d);
    return 0;
}

static enum mr_err service(struct fixture *f, const char *body)
{
    decode_deinit(&f->d);
    return define_service(&f->d, mr_slice_str(body), &f->service);
}

static enum mr_err check(struct fixture *f, const char *body)
{
    decode_deinit(&f->d);
    return define_check(&f->d, mr_slice_str(body), &f->check);
}

static enum mr_err update(struct fixture *f, const char *body)
{
    decode_deinit(&f->d);
    return define_update(&f->d, mr_slice_str(body), &f->update);
}

/* ------------------------------------------------------------- success */

/* A name is enough: it is the ID, and the weights are 1. */
static void a_name_is_enough(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(service(f, "{\"Name\":\"web\"}"), MR_OK);
    assert_string_equal(f->service.service.id, "web");
    assert_string_equal(f->service.service.name, "web");
    assert_int_equal(f->service.service.weight_passing, 1);
    assert_int_equal(f->service.service.weight_warning, 1);
    assert_int_equal(f->service.service.origin, MR__ORIGIN__AGENT);
    assert_int_equal(f->service.n_checks, 0);
}

/* An IP address is known under its family, beside what was given. */
static void ip_addresses_are_tagged(void **state)
{
    struct fixture *f = *state;
    const Mr__Service *s = &f->service.service;

    assert_int_equal(
        service(f, "{\"Name\":\"a\",\"Address\":\"10.0.0.1\",\"Port\":80,"
                   "\"TaggedAddresses\":{\"wan\":{\"Address\":\"1.2.3.4\","
                   "\"Port\":9},\"lan_ipv4\":{\"Address\":\"x\"}}}"),
        MR_OK);
    assert_int_equal(s->n_tagged_addresses, 3);
    assert_string_equal(s->tagged_addresses[0]->tag, "lan_ipv4");
    assert_string_equal(s->tagged_addresses[0]->address, "x");
    assert_string_equal(s->tagged_addresses[1]->tag, "wan");
    assert_string_equal(s->tagged_addresses[2]->tag, "wan_ipv4");
    assert_string_equal(s->tagged_addresses[2]->address, "10.0.0.1");
    assert_int_equal(s->tagged_addresses[2]->port, 80);
    assert_int_equal(service(f, "{\"Name\":\"a\",\"Address\":\"fd00::1\"}"),
                     MR_OK);
    assert_string_equal(s->tagged_addresses[0]->tag, "lan_ipv6");
    assert_int_equal(service(f, "{\"Name\":\"a\",\"Address\":\"h.example\"}"),
                     MR_OK);
    assert_int_equal(s->n_tagged_addresses, 0);
}

/* One check is named after the service, several are numbered by position, and
 * "Check" comes after "Checks". */
static void checks_are_named_by_position(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(service(f, "{\"Name\":\"db\",\"Check\":{\"TTL\":\"9s\"}}"),
                     MR_OK);
    assert_int_equal(f->service.n_checks, 1);
    assert_string_equal(f->service.checks[0]->check_id, "service:db");
    assert_string_equal(f->service.checks[0]->name, "Service 'db' check");
    assert_string_equal(f->service.checks[0]->service_id, "db");
    assert_string_equal(f->service.checks[0]->status, "critical");
    assert_string_equal(f->service.checks[0]->type, "ttl");
    assert_int_equal(
        service(f, "{\"Name\":\"db\",\"Check\":{\"TTL\":\"9s\"},\"Checks\":["
                   "{\"TTL\":\"1s\"},{\"CheckID\":\"own\",\"TTL\":\"2s\"}]}"),
        MR_OK);
    assert_int_equal(f->service.n_checks, 3);
    assert_string_equal(f->service.checks[0]->check_id, "service:db:1");
    assert_string_equal(f->service.checks[1]->check_id, "own");
    assert_string_equal(f->service.checks[2]->check_id, "service:db:3");
    assert_int_equal(f->service.checks[2]->definition->ttl_ns, 9000000000);
}

/* A "Check" that says nothing is no check. */
static void empty_checks_are_dropped(void **state)
{
    static const char *const bodies[] = {
        "{\"Name\":\"x\",\"Check\":{}}",
        "{\"Name\":\"x\",\"Check\":{\"TTL\":\"0s\"}}",
        "{\"Name\":\"x\",\"Check\":null,\"Checks\":[]}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(bodies); i++) {
        assert_int_equal(service(f, bodies[i]), MR_OK);
        assert_int_equal(f->service.n_checks, 0);
    }
}

/* The members a check is given with decide its type. */
static void types_follow_the_members(void **state)
{
    static const char *const cases[][2] = {
        {"\"TTL\":\"5s\"", "ttl"},
        {"\"HTTP\":\"http://x\",\"Interval\":\"5s\"", "http"},
        {"\"TCP\":\"x:1\",\"Interval\":\"5s\"", "tcp"},
        {"\"GRPC\":\"x:1\",\"Interval\":\"5s\"", "grpc"},
        {"\"AliasService\":\"a\"", "alias"},
        {"\"Args\":[\"a\"],\"Interval\":\"5s\"", "script"},
        {"\"script_args\":[\"a\"],\"docker_container_id\":\"c\","
         "\"Interval\":\"5s\"",
         "docker"},
    };
    struct fixture *f = *state;
    char body[200];

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        (void)snprintf(body, sizeof body, "{\"Name\":\"c\",%s}", cases[i][0]);
        assert_int_equal(check(f, body), MR_OK);
        assert_string_equal(f->check.type, cases[i][1]);
        assert_int_equal(mr_check_is_script(&f->check), i >= 5);
    }
}

/* check/register takes ID; a check's own name is its ID without one. */
static void checks_default_to_their_name(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(check(f, "{\"name\":\"mem\",\"ttl\":\"60s\","
                              "\"service_id\":\"w\",\"status\":\"passing\"}"),
                     MR_OK);
    assert_string_equal(f->check.check_id, "mem");
    assert_string_equal(f->check.service_id, "w");
    assert_string_equal(f->check.status, "passing");
    assert_int_equal(check(f, "{\"ID\":\"i\",\"Name\":\"mem\",\"TTL\":1}"),
                     MR_OK);
    assert_string_equal(f->check.check_id, "i");
}

/* Outputs are kept up to 4096 bytes, whole characters, with a remark. */
static void long_outputs_are_cut(void **state)
{
    static char output[6001];
    struct fixture *f = *state;
    const char *kept;

    memset(output, 'y', 6000);
    kept = define_output(&f->d, output);
    assert_int_equal(strspn(kept, "y"), 4096);
    assert_string_equal(kept + 4096, " ... (captured 4096 of 6000 bytes)");
    memcpy(output + 4095, "\xc3\xa9", 2);
    kept = define_output(&f->d, output);
    assert_int_equal(strspn(kept, "y"), 4095);
    assert_string_equal(kept + 4095, " ... (captured 4096 of 6000 bytes)");
    assert_string_equal(define_output(&f->d, "short"), "short");
}

/* ------------------------------------------------------------- failure */

struct refusal {
    const char *body;
    const char *sentence;
};

static void all_refused(struct fixture *f,
                        enum mr_err (*give)(struct fixture *f,
                                            const char *body),
                        const struct refusal *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (give(f, cases[i].body) != MR_E_INVALID ||
            strcmp(f->d.error, cases[i].sentence) != 0) {
            fail_msg("%s: \"%s\"", cases[i].body, f->d.error);
        }
    }
}

/* A service that cannot be is refused in Consul's words. */
static void bad_services_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {"", "Request decode failed: EOF"},
        {"{}", "Missing service name"},
        {"null", "Missing service name"},
        {"{\"ID\":\"x\",\"Name\":\"\"}", "Missing service name"},
        {"{\"Name\":\"x\",\"Service\":\"y\"}",
         "Request decode failed: json: unknown field \"Service\""},
        {"{\"Name\":\"x\",\"Check\":{\"ID\":\"y\"}}",
         "Request decode failed: json: unknown field \"ID\""},
        {"{\"Name\":\"x\",\"Check\":{\"Script\":\"y\"}}",
         "Request decode failed: json: unknown field \"Script\""},
        {"{\"Name\":\"x\",\"Address\":\"0.0.0.0\"}", "Invalid service address"},
        {"{\"Name\":\"x\",\"Address\":\"[::]\"}", "Invalid service address"},
        {"{\"Name\":\"x\",\"Weights\":{}}",
         "Invalid Weights: Passing must be greater than 0"},
        {"{\"Name\":\"x\",\"Weights\":{\"Passing\":1,\"Warning\":-1}}",
         "Invalid Weights: Warning must be greater or equal than 0"},
        {"{\"Name\":\"x\",\"Weights\":{\"Passing\":70000}}",
         "Invalid Weights: DNS Weight must be between 0 and 65535"},
        {"{\"Name\":\"x\",\"Meta\":{\"a b\":\"1\"}}",
         "Invalid Service Meta: Couldn't load metadata pair ('a b', '1'): Key "
         "contains invalid characters"},
        {"{\"Name\":\"x\",\"Meta\":{\"\":\"1\"}}",
         "Invalid Service Meta: Couldn't load metadata pair ('', '1'): Key "
         "cannot be blank"},
        {"{\"Name\":\"x\",\"Meta\":{\"consul-foo\":\"1\"}}",
         "Invalid Service Meta: Couldn't load metadata pair ('consul-foo', "
         "'1'): Key prefix 'consul-' is reserved for internal use"},
        {"{\"Name\":\"x\",\"Checks\":[{\"Name\":\"foo\"}]}",
         "Invalid check: TTL must be > 0 for TTL checks"},
        {"{\"Name\":\"x\",\"Check\":{\"Interval\":\"10s\"}}",
         "Invalid check: TTL must be > 0 for TTL checks"},
        {"{\"Name\":\"x\",\"Check\":{\"HTTP\":\"http://x\"}}",
         "Invalid check: Interval must be > 0 for Script, HTTP, or TCP "
         "checks"},
        {"{\"Name\":\"x\",\"Check\":{\"TTL\":\"1s\",\"Interval\":\"1s\"}}",
         "Invalid check: Interval and TTL cannot both be specified"},
        {"{\"Name\":\"x\",\"Check\":{\"TTL\":\"1s\",\"Status\":\"up\"}}",
         "Status for checks must 'passing', 'warning', 'critical'"},
        {"{\"Name\":\"x\",\"Kind\":\"connect-proxy\"}",
         "2 errors occurred:\n\t* Proxy.DestinationServiceName must be "
         "non-empty for Connect proxy services\n\t* Port must be set for a "
         "Connect proxy\n\n"},
    };

    all_refused(*state, service, cases, MR_ARRAY_LEN(cases));
}

static void bad_checks_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {"{}", "Missing check name"},
        {"{\"ID\":\"c\",\"TTL\":\"30s\"}", "Missing check name"},
        {"{\"Name\":\"c\",\"CheckID\":\"d\",\"TTL\":\"5s\"}",
         "Request decode failed: json: unknown field \"CheckID\""},
        {"{\"Name\":\"c\",\"TTL\":\"5\"}",
         "Request decode failed: time: missing unit in duration \"5\""},
        {"{\"Name\":\"c\",\"TTL\":\"30s\",\"Status\":\"up\"}",
         "Bad check status"},
        {"{\"Name\":\"c\"}", "Invalid check: TTL must be > 0 for TTL checks"},
        {"{\"Name\":\"c\",\"TTL\":\"-1s\"}",
         "Invalid check: TTL must be > 0 for TTL checks"},
        {"{\"Name\":\"c\",\"AliasNode\":\"n1\",\"TTL\":\"5s\"}",
         "Invalid check: TTL must be not be set for Alias checks"},
        {"{\"Name\":\"c\",\"OutputMaxSize\":-5,\"TTL\":\"5s\"}",
         "Invalid check: MaxOutputMaxSize must be positive"},
    };

    all_refused(*state, check, cases, MR_ARRAY_LEN(cases));
}

static void bad_updates_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {"", "Request decode failed: EOF"},
        {"{}", "Invalid check status: ''"},
        {"{\"Status\":\"bogus\"}", "Invalid check status: 'bogus'"},
        {"{\"Status\":\"passing\",\"Bogus\":1}",
         "Request decode failed: json: unknown field \"Bogus\""},
    };

    all_refused(*state, update, cases, MR_ARRAY_LEN(cases));
}

/* Metadata has limits: keys, values and pairs. */
static void metadata_is_bounded(void **state)
{
    static char body[4000];
    struct fixture *f = *state;
    char key[130];
    size_t len;

    memset(key, 'k', 129);
    key[129] = '\0';
    (void)snprintf(body, sizeof body, "{\"Name\":\"x\",\"Meta\":{\"%s\":\"\"}}",
                   key);
    assert_int_equal(service(f, body), MR_E_INVALID);
    assert_non_null(strstr(f->d.error, "Key is too long (limit: 128"));
    (void)snprintf(body, sizeof body,
                   "{\"Name\":\"x\",\"Meta\":{\"k\":\"%0513d\"}}", 0);
    assert_int_equal(service(f, body), MR_E_INVALID);
    assert_non_null(strstr(f->d.error, "Value is too long (limit: 512"));
    len = (size_t)snprintf(body, sizeof body, "{\"Name\":\"x\",\"Meta\":{");
    for (int i = 0; i < 65; i++) {
        len += (size_t)snprintf(body + len, sizeof body - len,
                                "%s\"k%d\":\"v\"", i == 0 ? "" : ",", i);
    }
    (void)snprintf(body + len, sizeof body - len, "}}");
    assert_int_equal(service(f, body), MR_E_INVALID);
    assert_string_equal(f->d.error,
                        "Invalid Service Meta: Node metadata cannot contain "
                        "more than 64 key/value pairs");
}

/* Whichever allocation fails, nothing is defined and nothing leaks. */
static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    enum mr_err err = MR_E_NOMEM;
    uint64_t n;

    for (n = 0; err != MR_OK && n < 1000; n++) {
        decode_deinit(&f->d);
        mr_mem_fail_after(n);
        err = service(f, "{\"Name\":\"web\",\"Address\":\"1.1.1.1\","
                         "\"Checks\":[{\"TTL\":\"1s\"}],"
                         "\"Check\":{\"TTL\":\"1s\"}}");
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
    }
    assert_int_equal(err, MR_OK);
    assert_true(n > 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_is_enough),
        TEST(ip_addresses_are_tagged),
        TEST(checks_are_named_by_position),
        TEST(empty_checks_are_dropped),
        TEST(types_follow_the_members),
        TEST(checks_default_to_their_name),
        TEST(long_outputs_are_cut),
        TEST(bad_services_are_refused),
        TEST(bad_checks_are_refused),
        TEST(bad_updates_are_refused),
        TEST(metadata_is_bounded),
        TEST(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("api_define", tests, NULL, NULL);
}
