/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/keep, register, session: what is kept alive, and for how long a call
 * may take while a server says nothing. */
#include "client-lib/client.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/client_server.h"

#define N_OF(array) ((int)(sizeof(array) / sizeof *(array)))
#define TIMEOUT_MS 600
#define SLACK_MS 250
#define TTL_MS 1000
#define SILENCE "" /* Of a server that holds its connections. */
/* An answer that ends although its connection does not. */
#define HEAD(status) "HTTP/1.1 " status "\r\nConnection: close\r\n"
#define REGISTERED                                                             \
    HEAD("200 OK")                                                             \
    "Content-Length: 46\r\n\r\n"                                               \
    "{\"index\":7,\"nodes\":[{\"id\":\"x\",\"digest\":\"dx\"}]}"
#define REGISTERED_BOTH                                                        \
    HEAD("200 OK")                                                             \
    "Content-Length: 71\r\n\r\n"                                               \
    "{\"index\":7,\"nodes\":[{\"id\":\"x\",\"digest\":\"dx\"},"                \
    "{\"id\":\"y\",\"digest\":\"dy\"}]}"
#define RENEWED                                                                \
    HEAD("200 OK")                                                             \
    "Content-Length: 48\r\n\r\n"                                               \
    "{\"index\":7,\"renewed\":1,\"unknown\":[],\"fenced\":[]}"
#define UNKNOWN_BOTH                                                           \
    HEAD("404 Not Found")                                                      \
    "Content-Length: 91\r\n\r\n"                                               \
    "{\"index\":7,\"renewed\":0,\"unknown\":[{\"name\":\"a\",\"id\":\"x\"},"   \
    "{\"name\":\"a\",\"id\":\"y\"}],\"fenced\":[]}"
#define SESSION HEAD("200 OK") "Content-Length: 12\r\n\r\n{\"ID\":\"s-1\"}"

#define NODE(id, address) "{\"id\":\"" id "\",\"address\":\"" address "\"}"
#define SERVICE(nodes)                                                         \
    "{\"name\":\"a\",\"version\":\"1\",\"nodes\":[" nodes "]}"

/* How long the machine has slept. */
static atomic_long slept_s;

/* The library asks this one: a machine that sleeps, without sleep. */
int clock_gettime(clockid_t clock, struct timespec *out_now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, out_now);

    if (failed == 0 && clock == CLOCK_BOOTTIME) {
        out_now->tv_sec += atomic_load(&slept_s);
    }
    return failed;
}

struct fixture {
    struct fake_server fake;
    struct microreg *client;
    struct microreg_error error;
};

static void begin(struct fixture *f, const char *const *answers, int n)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;

    memset(&f->error, 0, sizeof f->error);
    fake_start(&f->fake, answers, n, true);
    options.addresses = f->fake.address;
    options.timeout_ms = TIMEOUT_MS;
    assert_int_equal(microreg_open(&options, &f->client, &f->error),
                     MICROREG_OK);
}

static void end(struct fixture *f)
{
    microreg_close(f->client);
    fake_stop(&f->fake);
}

static int put(struct fixture *f, const char *json)
{
    return microreg_register_json(f->client, json, strlen(json), TTL_MS,
                                  MICROREG_KEEP_ALIVE, &f->error);
}

static void *put_beside(void *arg)
{
    struct fixture *f = arg;
    static const char json[] = SERVICE(NODE("x", "h:1"));

    assert_int_equal(microreg_register_json(f->client, json, strlen(json),
                                            TTL_MS, MICROREG_KEEP_ALIVE, NULL),
                     MICROREG_E_TIMEOUT);
    return NULL;
}

/* ------------------------------------------------------------- success */

/* When it is not known what a server has of one node, that one is registered as
 * a whole, and the renewals of the others go on. */
static void a_lost_answer_spoils_no_other_renewal(void **state)
{
    static const char *const answers[] = {REGISTERED_BOTH, SILENCE, RENEWED,
                                          REGISTERED, RENEWED};
    struct fixture f;
    int n_wholes = 0;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(put(&f, SERVICE(NODE("x", "h:1") "," NODE("y", "h:1"))),
                     MICROREG_OK);
    assert_int_equal(put(&f, SERVICE(NODE("x", "h:2"))), MICROREG_E_TIMEOUT);
    for (int n = 3; n <= 6; n++) {
        const char *request = fake_request(&f.fake, n);

        assert_null(strstr(request, "\"digest\":\"\""));
        n_wholes += strncmp(request, "POST", 4) == 0;
    }
    assert_int_equal(n_wholes, 1);
    end(&f);
}

/* ------------------------------------------------------------- failure */

/* What is to go is not kept alive, whatever becomes of the request. */
static void what_is_removed_is_not_renewed(void **state)
{
    static const char *const answers[] = {REGISTERED_BOTH, UNKNOWN_BOTH,
                                          SILENCE};
    static const char y[] = SERVICE(NODE("y", "h:1"));
    struct fixture f;
    uint64_t begin_ms;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(put(&f, SERVICE(NODE("x", "h:1") "," NODE("y", "h:1"))),
                     MICROREG_OK);
    (void)fake_request(&f.fake, 3); /* One of them is registered again. */
    begin_ms = mrg_now_ms();
    assert_int_equal(microreg_deregister_json(f.client, y, strlen(y), &f.error),
                     MICROREG_E_TIMEOUT);
    assert_in_range(mrg_now_ms() - begin_ms, 0, TIMEOUT_MS + SLACK_MS);
    for (int n = fake_count(&f.fake) + 1, last = n + 2; n <= last; n++) {
        assert_null(strstr(fake_request(&f.fake, n), "\"y\""));
    }
    end(&f);
}

/* All steps of a call together end by its deadline. */
static void a_call_that_waits_for_another_ends_in_time(void **state)
{
    static const char *const answers[] = {SILENCE};
    struct fixture f;
    pthread_t other;
    uint64_t begin_ms;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(pthread_create(&other, NULL, put_beside, &f), 0);
    (void)fake_request(&f.fake, 1);
    (void)poll(NULL, 0, TIMEOUT_MS / 2); /* Half of its time is over. */
    begin_ms = mrg_now_ms();
    assert_int_equal(put(&f, SERVICE(NODE("x", "h:2"))), MICROREG_E_TIMEOUT);
    assert_in_range(mrg_now_ms() - begin_ms, 0, TIMEOUT_MS + SLACK_MS);
    (void)pthread_join(other, NULL);
    end(&f);
}

/* A renewal that has no answer is not waited for. */
static void a_session_is_closed_in_time(void **state)
{
    static const char *const answers[] = {SESSION, SILENCE};
    const struct microreg_session_options options = {.ttl_ms = TTL_MS};
    struct microreg_session *session;
    struct fixture f;
    uint64_t begin_ms;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(
        microreg_session_open(f.client, &options, &session, &f.error),
        MICROREG_OK);
    assert_non_null(
        strstr(fake_request(&f.fake, 2), "PUT /v1/session/renew/s-1 "));
    begin_ms = mrg_now_ms();
    microreg_session_close(session);
    assert_in_range(mrg_now_ms() - begin_ms, 0, TIMEOUT_MS + SLACK_MS);
    end(&f);
}

/* A session that ended while the machine slept is not taken for alive. */
static void a_session_does_not_outlive_sleep(void **state)
{
    static const char *const answers[] = {SESSION, SILENCE};
    const struct microreg_session_options options = {.ttl_ms = 60000};
    struct microreg_session *session;
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(
        microreg_session_open(f.client, &options, &session, &f.error),
        MICROREG_OK);
    assert_true(microreg_session_alive(session));
    atomic_store(&slept_s, 61);
    assert_false(microreg_session_alive(session));
    atomic_store(&slept_s, 0);
    assert_false(microreg_session_alive(session));
    microreg_session_close(session);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_answer_spoils_no_other_renewal),
        cmocka_unit_test(what_is_removed_is_not_renewed),
        cmocka_unit_test(a_call_that_waits_for_another_ends_in_time),
        cmocka_unit_test(a_session_is_closed_in_time),
        cmocka_unit_test(a_session_does_not_outlive_sleep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
