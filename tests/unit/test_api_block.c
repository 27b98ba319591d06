/* SPDX-License-Identifier: Apache-2.0 */
/* api: blocking queries over loopback: what wakes them and what ends them. */
#include "tests/unit/http_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

struct blocked {
    int fd;
};

static struct blocked begin_blocking(const struct fixture *f,
                                     const char *target)
{
    struct blocked b = {dial(f)};
    char request[512];
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);

    send_all(b.fd, request, (size_t)n);
    return b;
}

/* A blocking query answers when its key changes, and not when another does. */
static void blocking_query_wakes_on_its_key(void **state)
{
    struct fixture *f = *state;

    expect(f, "PUT", "/v1/kv/b", "1", 200, "true");
    struct blocked b =
        begin_blocking(f, text("/v1/kv/b?raw&index=%llu&wait=60s", rev(f, 1)));

    await_parked(f, 1);
    expect(f, "PUT", "/v1/kv/other", "1", 200, "true");
    expect(f, "PUT", "/v1/kv/b", "1", 200, "true"); /* Changes nothing. */
    expect(f, "PUT", "/v1/kv/b", "2", 200, "true");
    struct answer a = receive(b.fd, true);

    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "2");
    assert_string_equal(header(&a, "X-Consul-Index"), text("%llu", rev(f, 3)));
    free(a.text);
    close(b.fd);
    await_parked(f, 0);
}

/* The end of the wait is an answer with what there is. */
static void blocking_query_times_out_with_the_same_index(void **state)
{
    struct fixture *f = *state;

    expect(f, "PUT", "/v1/kv/b", "1", 200, "true");
    struct answer a =
        exchange(f, "GET", text("/v1/kv/b?raw&index=%llu&wait=20ms", rev(f, 1)),
                 "", NULL);

    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "1");
    assert_string_equal(header(&a, "X-Consul-Index"), text("%llu", rev(f, 1)));
    free(a.text);
    a = exchange(f, "GET", "/v1/kv/none?index=99999&wait=20ms", "", NULL);
    assert_int_equal(a.status, 404);
    free(a.text);
}

/* A client that goes away does not keep its place. */
static void blocking_query_ends_with_its_client(void **state)
{
    struct fixture *f = *state;
    struct blocked b = begin_blocking(f, "/v1/kv/b?index=9999&wait=600s");

    await_parked(f, 1);
    close(b.fd);
    await_parked(f, 0);
}

/* The kernel's timer of the server's end of @fd (/proc/net/tcp). */
static unsigned timer_of(const struct fixture *f, int fd)
{
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    FILE *file = fopen("/proc/net/tcp", "r");
    unsigned timer = 0;
    char line[512];

    assert_non_null(file);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned local;
        unsigned peer;
        unsigned kind;

        if (sscanf(line, "%*d: %*x:%x %*x:%x %*x %*x:%*x %x:", &local, &peer,
                   &kind) == 3 &&
            local == mr_api_port(f->api) && peer == ntohs(own.sin_port)) {
            timer = kind;
        }
    }
    (void)fclose(file);
    return timer;
}

/* One that vanishes without a word is asked by the system now and then. */
static void silent_client_is_asked_whether_it_is_there(void **state)
{
    static const unsigned keepalive = 2; /* In include/net/tcp.h's words. */
    struct fixture *f = *state;
    struct blocked b = begin_blocking(f, "/v1/kv/b?index=9999&wait=600s");

    await_parked(f, 1);
    assert_int_equal(timer_of(f, b.fd), keepalive);
    close(b.fd);
    await_parked(f, 0);
}

/* Clients that leave together, by reset or in order, leave nothing behind. */
static void leaving_crowd_leaves_nothing_behind(void **state)
{
    static const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct fixture *f = *state;
    struct blocked b[150];

    for (size_t i = 0; i < MR_ARRAY_LEN(b); i++) {
        b[i] = begin_blocking(f, "/v1/kv/b?index=9999&wait=600s");
    }
    await_parked(f, MR_ARRAY_LEN(b));
    for (size_t i = 0; i < MR_ARRAY_LEN(b); i++) {
        if (i % 2 == 0) {
            (void)setsockopt(b[i].fd, SOL_SOCKET, SO_LINGER, &reset,
                             sizeof reset);
        }
        close(b[i].fd);
    }
    await_parked(f, 0);
    expect(f, "PUT", "/v1/kv/b", "1", 200, "true");
    expect(f, "PUT", "/v1/kv/b", "2", 200, "true");
}

/* What changes the index but not the answer does not end the wait: the answer
 * has the index of the change that did. */
static void answer_as_before_does_not_end_the_wait(void **state)
{
    struct fixture *f = *state;
    const char *path = "/v1/catalog/register";

    expect(f, "PUT", path,
           "{\"Node\":\"n\",\"Address\":\"10.0.0.1\",\"Service\":"
           "{\"Service\":\"a\",\"Port\":1}}",
           200, "true");
    struct blocked b = begin_blocking(
        f, text("/v1/catalog/services?index=%llu&wait=600s", rev(f, 1)));

    await_parked(f, 1);
    expect(f, "PUT", path,
           "{\"Node\":\"n\",\"Address\":\"10.0.0.1\",\"Service\":"
           "{\"Service\":\"a\",\"Port\":2}}",
           200, "true");
    expect(f, "PUT", path,
           "{\"Node\":\"n\",\"Address\":\"10.0.0.1\",\"Service\":"
           "{\"Service\":\"b\",\"Port\":1}}",
           200, "true");
    struct answer a = receive(b.fd, true);

    assert_string_equal(header(&a, "X-Consul-Index"), text("%llu", rev(f, 3)));
    assert_non_null(strstr(a.body, "\"b\""));
    free(a.text);
    close(b.fd);
}

/* Who asks with the index of before other changes waits as well. */
static void old_index_of_an_answer_as_before_waits(void **state)
{
    static const char *const targets[] = {
        "/v1/kv/none?",
        "/v1/kv/none/?recurse&",
        "/v1/health/service/none?",
        "/v1/health/checks/none?",
    };
    struct fixture *f = *state;
    struct blocked b[MR_ARRAY_LEN(targets)];

    expect(f, "PUT", "/v1/kv/a", "1", 200, "true");
    expect(f, "PUT", "/v1/kv/a", "2", 200, "true");
    expect(f, "PUT", "/v1/catalog/register",
           "{\"Node\":\"n\",\"Address\":\"10.0.0.1\",\"Service\":"
           "{\"Service\":\"a\",\"Port\":1}}",
           200, "true");
    /* 1 is no answer's index. The second answer is a ready one. */
    for (size_t i = 0; i < 2 * MR_ARRAY_LEN(targets); i++) {
        struct answer a = exchange(
            f, "GET", text("%sindex=1&wait=1ms", targets[i / 2]), "", NULL);

        free(a.text);
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(targets); i++) {
        b[i] = begin_blocking(
            f, text("%sindex=%llu&wait=600s", targets[i], rev(f, 1)));
    }
    await_parked(f, MR_ARRAY_LEN(targets));
    expect(f, "PUT", "/v1/kv/none", "1", 200, "true");
    expect(f, "PUT", "/v1/kv/none/x", "1", 200, "true");
    expect(f, "PUT", "/v1/catalog/register",
           "{\"Node\":\"n\",\"Address\":\"10.0.0.1\",\"Service\":"
           "{\"Service\":\"none\"},\"Check\":"
           "{\"CheckID\":\"c\",\"ServiceID\":\"none\"}}",
           200, "true");
    for (size_t i = 0; i < MR_ARRAY_LEN(targets); i++) {
        struct answer a = receive(b[i].fd, true);

        assert_int_equal(a.status, 200);
        assert_int_not_equal(strlen(a.body), 2);
        free(a.text);
        close(b[i].fd);
    }
}

/* A query with the index from before a change. */
struct late {
    const char *target;
    const char *change; /* A registration. */
    bool is_shown;
};

#define ON_N(more) "{\"Node\":\"n\",\"Address\":\"10.0.0.1\"" more "}"
#define ON_M(more) "{\"Node\":\"m\",\"Address\":\"10.0.0.2\"" more "}"
#define CHECK(id, of, status)                                                  \
    ",\"Check\":{\"CheckID\":\"" id "\",\"ServiceID\":\"" of                   \
    "\",\"Status\":\"" status "\"}"
#define SERVICE(name, more) ",\"Service\":{\"Service\":\"" name "\"" more "}"

/* Ask with an index of before the change of @late. */
static void ask_with(const struct fixture *f, const struct late *late,
                     unsigned long long index)
{
    static const struct timeval patience = {.tv_sec = 20};
    struct blocked b =
        begin_blocking(f, text("%sindex=%llu&wait=600s", late->target, index));

    if (late->is_shown) {
        (void)setsockopt(b.fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
                         sizeof patience);
        struct answer a = receive(b.fd, true);

        if (a.status != 200) {
            print_message("%s after %s\n", late->target, late->change);
        }
        assert_int_equal(a.status, 200);
        assert_string_equal(header(&a, "X-Consul-Index"),
                            text("%llu", index + 1));
        free(a.text);
    } else {
        await_parked(f, 1);
    }
    close(b.fd);
    await_parked(f, 0);
}

/* Make the change, and ask with the index of before. */
static void ask_late(const struct fixture *f, const struct late *late)
{
    unsigned long long before = mr_kv_revision(f->kv);

    expect(f, "PUT", "/v1/catalog/register", late->change, 200, "true");
    ask_with(f, late, before);
    for (int i = 0; i < 2; i++) { /* From now on there is a ready answer. */
        struct answer a = exchange(
            f, "GET", text("%sindex=1&wait=1ms", late->target), "", NULL);

        free(a.text);
    }
    ask_with(f, late, before);
}

/* Who asks with the index of before a change is answered at once if the answer
 * shows the change, and waits if it does not. */
static void old_index_is_answered_when_the_answer_changed(void **state)
{
    static const struct late cases[] = {
        {"/v1/health/checks/a?", ON_N(CHECK("c", "a", "warning")), true},
        {"/v1/health/checks/a?", ON_M(CHECK("d", "b", "warning")), false},
        {"/v1/health/checks/a?", ON_N(SERVICE("a", ",\"Port\":2")), false},
        {"/v1/health/checks/a?", ON_N(SERVICE("a", ",\"Tags\":[\"t\"]")), true},
        {"/v1/health/state/warning?", ON_N(CHECK("c", "a", "passing")), true},
        {"/v1/health/state/warning?", ON_M(CHECK("d", "b", "critical")), true},
        {"/v1/health/state/warning?", ON_M(CHECK("d", "b", "passing")), false},
        {"/v1/health/state/any?", ON_M(CHECK("d", "b", "critical")), true},
        {"/v1/health/node/n?", ON_N(CHECK("c", "a", "warning")), true},
        {"/v1/health/node/n?", ON_M(CHECK("d", "b", "passing")), false},
        {"/v1/health/service/a?", ON_N(CHECK("c", "a", "critical")), true},
        {"/v1/health/service/a?passing&", ON_N(CHECK("c", "a", "warning")),
         false},
        {"/v1/health/service/a?passing&", ON_N(CHECK("c", "a", "passing")),
         true},
        {"/v1/health/service/a?passing&", ON_N(CHECK("c", "a", "critical")),
         true},
        {"/v1/catalog/service/a?", ON_N(CHECK("c", "a", "passing")), false},
        {"/v1/catalog/service/a?", ON_N(SERVICE("a", ",\"Port\":3")), true},
        {"/v1/catalog/service/a?", ON_N(",\"NodeMeta\":{\"k\":\"1\"}"), true},
        {"/v1/catalog/node/n?", ON_N(SERVICE("a", ",\"Port\":4")), true},
        {"/v1/catalog/node/n?", ON_N(SERVICE("more", "")), true},
        {"/v1/catalog/node/m?", ON_M(",\"NodeMeta\":{\"k\":\"2\"}"), true},
        {"/v1/catalog/node/n?", ON_N(CHECK("c", "a", "warning")), false},
        {"/v1/catalog/node/n?", ON_M(SERVICE("b", ",\"Port\":5")), false},
        {"/v1/catalog/node-services/n?", ON_N(SERVICE("more", ",\"Port\":1")),
         true},
        {"/v1/catalog/node-services/n?", ON_M(SERVICE("b", ",\"Port\":6")),
         false},
        {"/v1/catalog/nodes?", ON_M(",\"NodeMeta\":{\"k\":\"3\"}"), true},
        {"/v1/catalog/nodes?", ON_N(SERVICE("a", ",\"Port\":7")), false},
        {"/v1/catalog/services?", ON_N(SERVICE("a", ",\"Tags\":[\"u\"]")),
         true},
        {"/v1/catalog/services?",
         ON_N(SERVICE("a", ",\"Port\":8,\"Tags\":[\"u\"]")), false},
        {"/v1/catalog/connect/a?", ON_N(SERVICE("a", ",\"Port\":9")), false},
        {"/registry?service=a&", ON_N(SERVICE("a", ",\"Port\":10")), true},
        {"/registry?service=a&", ON_N(CHECK("c", "a", "passing")), false},
        {"/registry?service=a&", ON_N(CHECK("c", "a", "critical")), true},
    };
    struct fixture *f = *state;

    expect(f, "PUT", "/v1/catalog/register",
           ON_N(SERVICE("a", ",\"Port\":1") CHECK("c", "a", "passing")), 200,
           "true");
    expect(f, "PUT", "/v1/catalog/register",
           ON_M(SERVICE("b", ",\"Port\":1") CHECK("d", "b", "passing")), 200,
           "true");
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        ask_late(f, &cases[i]);
    }
}

/* Changes without a pause that no answer here shows, until told to end. */
struct noise {
    const struct fixture *f;
    atomic_bool is_ending;
};

static void *make_noise(void *arg)
{
    static const char *const changes[] = {
        ON_M(CHECK("d", "b", "critical")),
        ON_M(CHECK("d", "b", "warning")),
    };
    struct noise *noise = arg;

    for (size_t i = 0; !atomic_load(&noise->is_ending); i++) {
        expect(noise->f, "PUT", "/v1/catalog/register", changes[i % 2], 200,
               "true");
    }
    return NULL;
}

/* A list that takes longer to render than the next change takes to come keeps
 * neither its worker nor its client for ever. */
static void topic_without_rest_does_not_keep_a_worker(void **state)
{
    static const struct timeval patience = {.tv_sec = 20};
    struct fixture *f = *state;
    struct noise noise = {.f = f};
    struct mr_buf body = MR_BUF_INIT;
    pthread_t threads[4];

    expect(f, "PUT", "/v1/catalog/register",
           ON_M(SERVICE("b", "") CHECK("d", "b", "warning")), 200, "true");
    mr_buf_str(&body, "{\"Node\":\"n\",\"Address\":\"10.0.0.1\",\"Checks\":[");
    for (int i = 0; i < 5000; i++) {
        mr_buf_printf(&body, "%s{\"CheckID\":\"%d\",\"Status\":\"passing\"}",
                      i == 0 ? "" : ",", i);
    }
    mr_buf_str(&body, "]}");
    expect(f, "PUT", "/v1/catalog/register", mr_buf_cstr(&body), 200, "true");
    mr_buf_deinit(&body);
    for (size_t i = 0; i < MR_ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, make_noise, &noise),
                         0);
    }
    struct blocked b = begin_blocking(
        f, text("/v1/health/state/passing?index=%llu&wait=100ms", rev(f, 2)));

    (void)setsockopt(b.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct answer a = receive(b.fd, true);

    atomic_store(&noise.is_ending, true);
    for (size_t i = 0; i < MR_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(a.status, 200);
    free(a.text);
    close(b.fd);
    await_parked(f, 0);
}

/* Many waiters of one key are all answered by one change. */
static void all_waiters_of_a_key_are_woken(void **state)
{
    struct fixture *f = *state;
    struct blocked b[100];

    expect(f, "PUT", "/v1/kv/b", "1", 200, "true");
    for (size_t i = 0; i < MR_ARRAY_LEN(b); i++) {
        b[i] = begin_blocking(
            f, text("/v1/kv/b?raw&index=%llu&wait=600s", rev(f, 1)));
    }
    await_parked(f, MR_ARRAY_LEN(b));
    expect(f, "PUT", "/v1/kv/b", "2", 200, "true");
    for (size_t i = 0; i < MR_ARRAY_LEN(b); i++) {
        struct answer a = receive(b[i].fd, true);

        assert_string_equal(a.body, "2");
        free(a.text);
        close(b[i].fd);
    }
}

/* Ending the service answers those who wait, and refuses the next. */
static void quiescing_ends_waits_with_503(void **state)
{
    struct fixture *f = *state;
    struct blocked b = begin_blocking(f, "/v1/kv/b?index=9999&wait=600s");

    await_parked(f, 1);
    mr_api_quiesce(f->api);
    struct answer a = receive(b.fd, true);

    assert_int_equal(a.status, 503);
    free(a.text);
    close(b.fd);
    a = exchange(f, "GET", "/v1/kv/b", "", NULL);
    assert_int_equal(a.status, 503);
    assert_string_equal(header(&a, "Retry-After"), "1");
    free(a.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_service(blocking_query_wakes_on_its_key),
        with_service(blocking_query_times_out_with_the_same_index),
        with_service(blocking_query_ends_with_its_client),
        with_service(silent_client_is_asked_whether_it_is_there),
        with_service(leaving_crowd_leaves_nothing_behind),
        with_service(answer_as_before_does_not_end_the_wait),
        with_service(old_index_of_an_answer_as_before_waits),
        with_service(old_index_is_answered_when_the_answer_changed),
        with_service(topic_without_rest_does_not_keep_a_worker),
        with_service(all_waiters_of_a_key_are_woken),
        with_service(quiescing_ends_waits_with_503),
    };

    return cmocka_run_group_tests_name("api_block", tests, NULL, NULL);
}
