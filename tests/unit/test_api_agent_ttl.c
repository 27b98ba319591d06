/* SPDX-License-Identifier: Apache-2.0 */
/* api/agent_ttl: results of TTL checks, on a service with a real kv. */
#include "tests/unit/api_service.h"

#define PASS "/v1/agent/check/pass/service:web"
#define FAIL "/v1/agent/check/fail/service:web"
#define UPDATE "/v1/agent/check/update/service:web"
#define NO_TTL(id) "CheckID \"" id "\" does not have associated TTL"

/* What output_rate.c allows at once. */
#define OUTPUT_BURST 10

static void register_web(struct service *s)
{
    put(s, "/v1/agent/service/register",
        "{\"Name\":\"web\",\"Port\":80,\"Check\":{\"TTL\":\"30s\"}}");
}

static unsigned renewals(struct service *s)
{
    return atomic_load(&s->renewals);
}

static uint64_t revision(struct service *s)
{
    return mr_kv_revision(s->kv);
}

static void expect_result(struct service *s, const char *status,
                          const char *output)
{
    char part[256];

    (void)snprintf(part, sizeof part,
                   "\"Status\":\"%s\",\"Notes\":\"\",\"Output\":\"%s\"", status,
                   output);
    expect_part(s, "/v1/agent/checks", 200, part);
}

/* ------------------------------------------------------------- success */

/* Only the first makes a command. */
static void a_result_as_before_renews(void **state)
{
    struct service *s = *state;
    uint64_t before;

    register_web(s);
    put(s, PASS "?note=fine", "");
    expect_result(s, "passing", "fine");
    before = revision(s);
    put(s, PASS "?note=fine", "");
    put(s, UPDATE, "{\"Status\":\"passing\",\"Output\":\"fine\"}");
    assert_int_equal(revision(s), before);
    assert_int_equal(renewals(s), 2);
}

static void another_result_is_written(void **state)
{
    struct service *s = *state;

    register_web(s);
    put(s, PASS "?note=fine", "");
    put(s, PASS, "");
    expect_result(s, "passing", "");
    put(s, "/v1/agent/check/warn/service:web?note=hm", "");
    expect_result(s, "warning", "hm");
    put(s, FAIL "?note=down", "");
    expect_result(s, "critical", "down");
    assert_int_equal(renewals(s), 0);
}

/* A critical check has no lease, and being told so again changes nothing. */
static void failing_again_does_nothing(void **state)
{
    struct service *s = *state;
    uint64_t before;

    register_web(s);
    put(s, FAIL "?note=down", "");
    before = revision(s);
    put(s, FAIL "?note=down", "");
    assert_int_equal(revision(s), before);
    assert_int_equal(renewals(s), 0);
}

/* Beyond the rate a new output only renews; a new status is always written. */
static void outputs_are_written_at_a_bounded_rate(void **state)
{
    struct service *s = *state;
    uint64_t before;
    char target[96];

    register_web(s);
    put(s, PASS, "");
    before = revision(s);
    for (int i = 0; i < 4 * OUTPUT_BURST; i++) {
        (void)snprintf(target, sizeof target, PASS "?note=%d", i);
        put(s, target, "");
    }
    assert_true(revision(s) - before >= OUTPUT_BURST);
    assert_true(revision(s) - before < 2 * OUTPUT_BURST);
    assert_true(renewals(s) > 2 * OUTPUT_BURST);
    put(s, FAIL "?note=down", "");
    expect_result(s, "critical", "down");
}

/* The lease is gone although the view has it: asked again, then written. */
static void a_forgotten_lease_is_looked_at_again(void **state)
{
    struct service *s = *state;

    register_web(s);
    put(s, PASS "?note=fine", "");
    atomic_store(&s->n_forget, 2);
    put(s, PASS "?note=fine", "");
    assert_int_equal(renewals(s), 3);
    expect_result(s, "passing", "fine");
}

/* A follower whose view is as before needs no fresh one to renew. */
static void a_renewal_needs_no_fresh_view(void **state)
{
    struct service *s = *state;
    unsigned before;

    register_web(s);
    put(s, PASS, "");
    atomic_store(&s->raft.is_follower, true);
    before = atomic_load(&s->raft.reads);
    put(s, PASS, "");
    assert_int_equal(atomic_load(&s->raft.reads), before);
    put(s, FAIL, "");
    put(s, FAIL, "");
    assert_int_equal(atomic_load(&s->raft.reads), before + 1);
}

/* Who registers again is alive: the time of its checks begins again. */
static void registering_again_renews(void **state)
{
    static const char check[] =
        "{\"ID\":\"service:web\",\"Name\":\"Service 'web' check\","
        "\"ServiceID\":\"web\",\"TTL\":\"30s\"}";
    struct service *s = *state;
    uint64_t before;

    register_web(s);
    assert_int_equal(renewals(s), 0);
    put(s, PASS "?note=fine", "");
    before = revision(s);
    register_web(s);
    assert_int_equal(renewals(s), 1);
    put(s, "/v1/agent/check/register", check);
    assert_int_equal(renewals(s), 2);
    assert_int_equal(revision(s), before);
    expect_result(s, "passing", "fine");
}

/* ------------------------------------------------------------- failure */

static void unknown_checks_are_refused(void **state)
{
    struct service *s = *state;
    unsigned before = atomic_load(&s->raft.reads);

    expect(s, "PUT", "/v1/agent/check/pass/x", "", 500, NO_TTL("x"));
    assert_int_equal(atomic_load(&s->raft.reads), before);
    atomic_store(&s->raft.is_follower, true);
    expect(s, "PUT", "/v1/agent/check/pass/x", "", 500, NO_TTL("x"));
    assert_int_equal(atomic_load(&s->raft.reads), before + 1);
    expect(s, "PUT", "/v1/agent/check/pass/serfHealth", "", 500,
           NO_TTL("serfHealth"));
    expect(s, "PUT", "/v1/agent/check/update/x", "{\"Status\":\"well\"}", 400,
           "Invalid check status: 'well'");
}

/* Nothing is said to be renewed that may not be. */
static void failures_are_reported(void **state)
{
    struct service *s = *state;

    register_web(s);
    put(s, PASS, "");
    atomic_store(&s->fail_renew, MR_E_NOLEADER);
    expect(s, "PUT", PASS, "", 500, "No cluster leader");
    atomic_store(&s->fail_renew, MR_OK);
    atomic_store(&s->n_forget, 1000);
    service_ask(s, "PUT", PASS, "");
    assert_int_equal(s->status, 503);
    atomic_store(&s->raft.fail_read, MR_E_TIMEOUT);
    service_ask(s, "PUT", PASS, "");
    assert_int_equal(s->status, 500);
}

static void a_check_without_owner_is_refused(void **state)
{
    struct service *s = *state;

    expect(s, "PUT", "/v1/agent/check/register",
           "{\"Name\":\"a\",\"TTL\":\"30s\",\"Interval\":\"5s\"}", 400,
           "Invalid check: Interval and TTL cannot both be specified");
    expect(s, "PUT", "/v1/agent/check/register",
           "{\"Name\":\"a\",\"TTL\":\"-30s\"}", 400,
           "Invalid check: TTL must be > 0 for TTL checks");
    expect(s, "PUT", "/v1/agent/check/register",
           "{\"Name\":\"a\",\"TTL\":\"soon\"}", 400,
           "Request decode failed: time: invalid duration \"soon\"");
    expect(s, "PUT", "/v1/agent/check/register",
           "{\"Name\":\"a\",\"TTL\":\"30s\",\"ServiceID\":\"none\"}", 500,
           "ServiceID \"none\" does not exist");
    expect(s, "GET", "/v1/agent/checks", "", 200, "{}");
}

#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, service_start, service_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_result_as_before_renews),
        TEST(another_result_is_written),
        TEST(failing_again_does_nothing),
        TEST(outputs_are_written_at_a_bounded_rate),
        TEST(a_forgotten_lease_is_looked_at_again),
        TEST(a_renewal_needs_no_fresh_view),
        TEST(registering_again_renews),
        TEST(unknown_checks_are_refused),
        TEST(failures_are_reported),
        TEST(a_check_without_owner_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
