/* SPDX-License-Identifier: Apache-2.0 */
/* api: what a session's body becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/session_body.h"
#include "base/mem.h"

/* Decode @text; the caller releases @d. */
static enum mr_err decode(struct decode *d, const char *text, Mr__Session *out)
{
    unsigned status;

    decode_init(d);
    return session_body(d, mr_slice_str(text), "n1", out, &status);
}

/* The body takes the lock-delay @delay_ms from @text. */
static void expect_delay(const char *text, uint64_t delay_ms)
{
    Mr__Session session;
    struct decode d;

    assert_int_equal(decode(&d, text, &session), MR_OK);
    assert_int_equal(session.lock_delay_ms, delay_ms);
    decode_deinit(&d);
}

/* ------------------------------------------------------------- success */

/* Numbers below 1000 are seconds, others nanoseconds, texts what they say. */
static void lock_delays_are_read_as_consul_does(void **state)
{
    (void)state;
    expect_delay("", 15000);
    expect_delay("{\"LockDelay\":null}", 15000);
    expect_delay("{\"LockDelay\":0}", 0);
    expect_delay("{\"LockDelay\":\"0s\"}", 0);
    expect_delay("{\"LockDelay\":999}", 999000);
    expect_delay("{\"LockDelay\":1000}", 1); /* Some delay is wanted. */
    expect_delay("{\"LockDelay\":2000000}", 2);
    expect_delay("{\"LockDelay\":\"61s\"}", 61000);
    expect_delay("{\"LockDelay\":9223372036854775807}", 9223372036854);
}

/* A TTL is kept exactly, and as it was written. */
static void ttls_are_kept(void **state)
{
    static const struct {
        const char *text;
        uint64_t ttl_ms;
    } cases[] = {{"", 0},        {"0s", 0},          {"1s", 1000},
                 {"1.5s", 1500}, {"1000.1ms", 1001}, {"24h", 86400000},
                 {"1m1s", 61000}};
    char body[64];

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        Mr__Session session;
        struct decode d;

        (void)snprintf(body, sizeof body, "{\"TTL\":\"%s\"}", cases[i].text);
        assert_int_equal(decode(&d, body, &session), MR_OK);
        assert_int_equal(session.ttl_ms, cases[i].ttl_ms);
        assert_string_equal(session.ttl_text, cases[i].text);
        decode_deinit(&d);
    }
}

/* Checks of both names are bound; none is not the default. */
static void checks_of_both_names_are_bound(void **state)
{
    Mr__Session session;
    struct decode d;

    (void)state;
    assert_int_equal(decode(&d,
                            "{\"Checks\":[\"a\"],\"NodeChecks\":[\"b\"],"
                            "\"ServiceChecks\":[{\"ID\":\"c\"}]}",
                            &session),
                     MR_OK);
    assert_int_equal(session.n_node_checks, 2);
    assert_string_equal(session.node_checks[0], "b");
    assert_string_equal(session.node_checks[1], "a");
    assert_int_equal(session.n_service_checks, 1);
    assert_string_equal(session.service_checks[0], "c");
    decode_deinit(&d);
    assert_int_equal(decode(&d, "{\"Checks\":[]}", &session), MR_OK);
    assert_int_equal(session.n_node_checks, 0);
    decode_deinit(&d);
}

/* ------------------------------------------------------------- failure */

/* Wherever memory ends, that is what is told. */
static void failing_memory_is_reported(void **state)
{
    enum mr_err err = MR_E_NOMEM;
    uint64_t n = 0;

    (void)state;
    decode_setup();
    for (; err == MR_E_NOMEM; n++) {
        Mr__Session session;
        struct decode d;

        mr_mem_fail_after(n);
        err = decode(&d,
                     "{\"Name\":\"s\",\"Checks\":[\"a\"],\"TTL\":\"1s\","
                     "\"ServiceChecks\":[{\"ID\":\"c\"}]}",
                     &session);
        mr_mem_fail_after(UINT64_MAX);
        decode_deinit(&d);
    }
    assert_int_equal(err, MR_OK);
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lock_delays_are_read_as_consul_does),
        cmocka_unit_test(ttls_are_kept),
        cmocka_unit_test(checks_of_both_names_are_bound),
        cmocka_unit_test(failing_memory_is_reported),
    };

    return cmocka_run_group_tests_name("api_session_body", tests, NULL, NULL);
}
