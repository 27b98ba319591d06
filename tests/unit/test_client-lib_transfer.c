/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/transfer: what reaches the system: names that hang, sockets. */
#include "client-lib/call.h"

#include <fcntl.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/client_server.h"

#define FDS_MAX 256
#define TIMEOUT_MS 400
#define SLACK_MS 300
#define WATCH_MS 1000

/* ------------------------------------------------------------- a resolver */

static pthread_mutex_t resolver_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t resolver_changed = PTHREAD_COND_INITIALIZER;
static bool resolver_is_free = true;
static int n_resolving;

/* libcurl resolves by this one instead of the system's: it hangs as long as
 * a test likes. */
int getaddrinfo(const char *name, const char *service,
                const struct addrinfo *hints, struct addrinfo **out_list)
{
    (void)name;
    (void)service;
    (void)hints;
    (void)out_list;
    pthread_mutex_lock(&resolver_lock);
    n_resolving++;
    while (!resolver_is_free) {
        pthread_cond_wait(&resolver_changed, &resolver_lock);
    }
    n_resolving--;
    pthread_cond_broadcast(&resolver_changed);
    pthread_mutex_unlock(&resolver_lock);
    return EAI_AGAIN;
}

static void hold_names(void)
{
    pthread_mutex_lock(&resolver_lock);
    resolver_is_free = false;
    pthread_mutex_unlock(&resolver_lock);
}

static void let_names_go(void)
{
    pthread_mutex_lock(&resolver_lock);
    resolver_is_free = true;
    pthread_cond_broadcast(&resolver_changed);
    while (n_resolving > 0) {
        pthread_cond_wait(&resolver_changed, &resolver_lock);
    }
    pthread_mutex_unlock(&resolver_lock);
}

static void *let_names_go_late(void *arg)
{
    struct timespec late = {3, 0}; /* So that a failing test ends. */

    (void)arg;
    (void)nanosleep(&late, NULL);
    let_names_go();
    return NULL;
}

static struct microreg *open_client(const char *addresses)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg *client;

    options.addresses = addresses;
    options.timeout_ms = TIMEOUT_MS;
    assert_int_equal(microreg_open(&options, &client, NULL), MICROREG_OK);
    return client;
}

/* ------------------------------------------------------------- success */

/* A program that the user's program starts gets none of our connections. */
static void sockets_are_closed_on_exec(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM "{\"index\":1,\"action\":\"synced\"}\n"};
    struct fake_server fake;
    struct microreg_watch *watch;
    const struct microreg_event *event;
    struct microreg *client;
    bool was_open[FDS_MAX];

    (void)state;
    fake_start(&fake, answers, 1, true);
    for (int fd = 0; fd < FDS_MAX; fd++) {
        was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    }
    client = open_client(fake.address);
    assert_int_equal(
        microreg_watch_open(client, NULL, MICROREG_MARKS, &watch, NULL),
        MICROREG_OK);
    assert_int_equal(microreg_watch_next(watch, 5000, &event, NULL),
                     MICROREG_OK);
    (void)fake_request(&fake, 1);
    for (int fd = 0; fd < FDS_MAX; fd++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;

        if (!was_open[fd] && fd != fake.connections[0] &&
            getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
            peer.sin_family == AF_INET) {
            assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        }
    }
    microreg_watch_close(watch);
    microreg_close(client);
    fake_stop(&fake);
}

/* ------------------------------------------------------------- failure */

/* A name server that says nothing costs a call its time and no more. */
static void a_name_that_hangs_ends_by_the_deadline(void **state)
{
    struct microreg *client = open_client("hangs.test");
    struct microreg_services *services;
    struct microreg_error error;
    pthread_t helper;
    uint64_t begin_ms = mrg_now_ms();
    uint64_t took_ms;

    (void)state;
    hold_names();
    (void)pthread_create(&helper, NULL, let_names_go_late, NULL);
    assert_int_equal(microreg_list_services(client, 0, &services, &error),
                     MICROREG_E_CONNECT);
    took_ms = mrg_now_ms() - begin_ms;
    assert_non_null(strstr(error.text, "hangs.test:8500"));
    assert_in_range(took_ms, TIMEOUT_MS - 1, TIMEOUT_MS + SLACK_MS);
    begin_ms = mrg_now_ms();
    microreg_close(client);
    assert_in_range(mrg_now_ms() - begin_ms, 0, SLACK_MS);
    let_names_go();
    (void)pthread_join(helper, NULL);
}

/* Nor does it hold up those who only look at a watch, or end one. */
static void a_name_that_hangs_holds_nobody_up(void **state)
{
    struct microreg *client = open_client("hangs.test");
    struct microreg_watch *watch;
    const struct microreg_event *event;
    pthread_t helper;
    uint64_t begin_ms;

    (void)state;
    hold_names();
    (void)pthread_create(&helper, NULL, let_names_go_late, NULL);
    assert_int_equal(microreg_watch_open(client, "a", 0, &watch, NULL),
                     MICROREG_OK);
    /* The stream gives its server up meanwhile. */
    begin_ms = mrg_now_ms();
    assert_int_equal(microreg_watch_next(watch, WATCH_MS, &event, NULL),
                     MICROREG_E_AGAIN);
    microreg_watch_close(watch);
    microreg_close(client);
    assert_in_range(mrg_now_ms() - begin_ms, WATCH_MS - 1, WATCH_MS + SLACK_MS);
    let_names_go();
    (void)pthread_join(helper, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_are_closed_on_exec),
        cmocka_unit_test(a_name_that_hangs_ends_by_the_deadline),
        cmocka_unit_test(a_name_that_hangs_holds_nobody_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
