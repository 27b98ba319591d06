/* SPDX-License-Identifier: Apache-2.0 */
/* api: requests over loopback to a service with a real kv. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zlib.h>

#include <cmocka.h>

#include "tests/unit/fake_raft.h"

#define ANSWER_MAX (2 * 1024 * 1024)

struct fixture {
    char dir[64];
    struct mr_kv *kv;
    struct mr_raft raft;
    struct mr_api *api;
    uint64_t start_rev; /* Of the empty store. */
};

struct answer {
    int status;
    char *head; /* In text. */
    char *body;
    size_t body_len;
    char *text; /* Owned. */
};

static void no_json(void *arg, struct mr_buf *out)
{
    (void)arg;
    mr_buf_str(out, "{}");
}

static int start_with(void **state, bool is_dev)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *const addresses[] = {"127.0.0.1"};
    struct mr_detail detail;

    strcpy(f->dir, "/tmp/mr-test-api-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    struct mr_kv_options kv = {.dir = f->dir, .boot_id = "boot"};

    assert_int_equal(mr_kv_open(&kv, &f->kv, &detail), MR_OK);
    f->start_rev = mr_kv_revision(f->kv);
    fake_raft_start(&f->raft, f->kv);
    struct mr_api_options o = {
        .addresses = addresses,
        .n_addresses = 1,
        .pretty_always = is_dev,
        .enable_ui = is_dev,
        .agent = {.node_name = "n1", .datacenter = "dc1"},
        .host = {.metrics_json = no_json, .metrics_prometheus = no_json},
        .kv = f->kv,
        .raft = &f->raft,
        .clock = mr_clock_system(),
        .random = mr_random_system(),
    };

    assert_int_equal(mr_api_start(&o, &f->api, &detail), MR_OK);
    *state = f;
    return 0;
}

static int start(void **state)
{
    return start_with(state, false);
}

static int start_dev(void **state)
{
    return start_with(state, true);
}

static int stop(void **state)
{
    struct fixture *f = *state;
    char command[128];

    mr_api_quiesce(f->api);
    fake_raft_stop(&f->raft);
    mr_api_stop(f->api);
    mr_kv_close(f->kv);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* ------------------------------------------------------------- a client */

static int dial(const struct fixture *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(mr_api_port(f->api)),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        assert_true(n > 0);
        data += n;
        len -= (size_t)n;
    }
}

/* The value of the header @name, or NULL; valid until the next call. */
static const char *header(const struct answer *a, const char *name)
{
    static char value[512];
    size_t len = strlen(name);

    for (const char *line = a->head; line != NULL;) {
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            (void)snprintf(value, sizeof value, "%.*s",
                           (int)strcspn(line + len + 2, "\r"), line + len + 2);
            return value;
        }
        line = strstr(line, "\r\n");
        line = line == NULL ? NULL : line + 2;
    }
    return NULL;
}

/* Read one answer from @fd. */
static struct answer receive(int fd, bool has_body)
{
    struct answer a = {.text = calloc(1, ANSWER_MAX)};
    size_t len = 0;
    char *end = NULL;

    while (end == NULL ||
           (has_body && (size_t)(a.text + len - end - 4) < a.body_len)) {
        ssize_t n = recv(fd, a.text + len, ANSWER_MAX - 1 - len, 0);

        if (n <= 0) {
            break;
        }
        len += (size_t)n;
        if (end == NULL && (end = strstr(a.text, "\r\n\r\n")) != NULL) {
            *end = '\0';
            a.head = a.text;
            a.body = end + 4;
            a.status = atoi(a.text + strlen("HTTP/1.1 "));
            const char *length = header(&a, "Content-Length");

            a.body_len = length == NULL ? 0 : (size_t)atol(length);
        }
    }
    return a;
}

static struct answer exchange(const struct fixture *f, const char *method,
                              const char *target, const char *headers,
                              const char *body)
{
    int fd = dial(f);
    struct mr_buf b = MR_BUF_INIT;

    mr_buf_printf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n%s", method, target,
                  headers);
    if (body != NULL) {
        mr_buf_printf(&b, "Content-Length: %zu\r\n", strlen(body));
    }
    mr_buf_printf(&b, "\r\n%s", body == NULL ? "" : body);
    send_all(fd, (const char *)b.data, b.len);
    struct answer a = receive(fd, strcmp(method, "HEAD") != 0);

    close(fd);
    mr_buf_deinit(&b);
    return a;
}

/* The request answers with @status and exactly @body. */
static void expect(const struct fixture *f, const char *method,
                   const char *target, const char *body, int status,
                   const char *answer)
{
    struct answer a = exchange(f, method, target, "", body);

    assert_int_equal(a.status, status);
    assert_string_equal(a.body, answer);
    free(a.text);
}

/* A formatted text, valid until the next call. */
static const char *text(const char *fmt, ...) MR_PRINTF(1, 2);

static const char *text(const char *fmt, ...)
{
    static char out[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(out, sizeof out, fmt, args);
    va_end(args);
    return out;
}

/* The revision of the @n-th change. */
static unsigned long long rev(const struct fixture *f, int n)
{
    return (unsigned long long)f->start_rev + (unsigned long long)n;
}

/* ------------------------------------------------------------- success */

/* What was put is read back, with its indexes. */
static void put_then_get_returns_value(void **state)
{
    struct fixture *f = *state;

    expect(f, "PUT", "/v1/kv/a?flags=7", "hello", 200, "true");
    struct answer a = exchange(f, "GET", "/v1/kv/a", "", NULL);

    assert_int_equal(a.status, 200);
    assert_string_equal(a.body,
                        text("[{\"LockIndex\":0,\"Key\":\"a\",\"Flags\":7,"
                             "\"Value\":\"aGVsbG8=\",\"CreateIndex\":%llu,"
                             "\"ModifyIndex\":%llu}]",
                             rev(f, 1), rev(f, 1)));
    assert_string_equal(header(&a, "X-Consul-Index"), text("%llu", rev(f, 1)));
    assert_string_equal(header(&a, "X-Consul-KnownLeader"), "true");
    assert_string_equal(header(&a, "X-Consul-LastContact"), "0");
    assert_string_equal(header(&a, "Vary"), "Accept-Encoding");
    assert_string_equal(header(&a, "Content-Type"), "application/json");
    free(a.text);
    expect(f, "GET", "/v1/kv/a?raw", NULL, 200, "hello");
    expect(f, "GET", "/v1/kv/?keys", NULL, 200, "[\"a\"]");
    expect(f, "DELETE", "/v1/kv/a", NULL, 200, "true");
    expect(f, "GET", "/v1/kv/a", NULL, 404, "");
}

/* A hot answer comes from the cache and is never older than a write that was
 * acknowledged. */
static void cached_answer_is_current(void **state)
{
    struct fixture *f = *state;
    struct mr_api_stats stats;
    char value[16];

    for (int i = 0; i < 50; i++) {
        (void)snprintf(value, sizeof value, "%d", i);
        expect(f, "PUT", "/v1/kv/hot", value, 200, "true");
        for (int j = 0; j < 4; j++) {
            struct answer a = exchange(f, "GET", "/v1/kv/hot", "", NULL);

            assert_non_null(
                strstr(a.body, text("\"ModifyIndex\":%llu}]", rev(f, i + 1))));
            free(a.text);
        }
    }
    mr_api_stats(f->api, &stats);
    assert_true(stats.cache_hits > 50);
}

/* Several requests on one connection, pipelined, are answered in order. */
static void pipelined_requests_are_answered_in_order(void **state)
{
    static const char two[] =
        "PUT /v1/kv/p HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nv"
        "GET /v1/kv/p?raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct fixture *f = *state;
    int fd = dial(f);
    char answers[4096] = "";
    size_t len = 0;
    ssize_t n;

    send_all(fd, two, strlen(two));
    while ((n = recv(fd, answers + len, sizeof answers - 1 - len, 0)) > 0) {
        len += (size_t)n;
    }
    close(fd);
    const char *first = strstr(answers, "\r\n\r\ntrue");

    assert_non_null(first);
    assert_non_null(strstr(first, "\r\n\r\nv"));
}

/* A follower asks before default reads, not before stale ones, and says how
 * old those may be. */
static void modes_ask_as_much_as_they_promise(void **state)
{
    struct fixture *f = *state;

    expect(f, "PUT", "/v1/kv/m", "v", 200, "true");
    expect(f, "GET", "/v1/kv/m?raw", NULL, 200, "v");
    assert_int_equal(atomic_load(&f->raft.reads), 0);
    expect(f, "GET", "/v1/kv/m?raw&consistent", NULL, 200, "v");
    assert_int_equal(atomic_load(&f->raft.reads), 1);
    atomic_store(&f->raft.is_follower, true);
    expect(f, "GET", "/v1/kv/m?raw", NULL, 200, "v");
    assert_int_equal(atomic_load(&f->raft.reads), 2);
    for (int i = 0; i < 4; i++) { /* The later ones from the cache. */
        struct answer a = exchange(f, "GET", "/v1/kv/m?stale", "", NULL);

        assert_int_equal(a.status, 200);
        assert_string_equal(header(&a, "X-Consul-LastContact"), "12");
        free(a.text);
    }
    assert_int_equal(atomic_load(&f->raft.reads), 2);
    expect(f, "GET", "/v1/kv/m?raw&max_stale=5ms", NULL, 200, "v");
    assert_int_equal(atomic_load(&f->raft.reads), 3);
}

/* With -dev every answer is indented and the page is there; without, neither. */
static void dev_mode_indents_and_has_the_page(void **state)
{
    struct fixture *f = *state;

    expect(f, "PUT", "/v1/kv/a", "v", 200, "true\n");
    expect(f, "GET", "/v1/kv/a?raw", NULL, 200, "v");
    expect(f, "GET", "/v1/kv/?keys", NULL, 200, "[\n    \"a\"\n]\n");
    expect(f, "GET", "/", NULL, 301,
           "<a href=\"/ui/\">Moved Permanently</a>.\n\n");
    struct answer a = exchange(f, "GET", "/ui/", "", NULL);

    assert_int_equal(a.status, 200);
    assert_string_equal(header(&a, "Content-Type"), "text/html; charset=utf-8");
    free(a.text);
}

/* Without the page, / names the agent and /ui/ is unknown. */
static void page_is_absent_unless_enabled(void **state)
{
    struct fixture *f = *state;

    expect(f, "GET", "/", NULL, 200, "Consul Agent");
    expect(f, "GET", "/ui/", NULL, 404, "");
}

/* Endpoints that are not there say so and how they might be. */
static void absent_features_answer_truthfully(void **state)
{
    struct fixture *f = *state;

    expect(f, "GET", "/v1/acl/tokens", NULL, 401, "ACL support disabled");
    expect(f, "PUT", "/v1/txn", "[]", 501, "This endpoint is not implemented");
    expect(f, "GET", "/v1/connect/intentions", NULL, 200, "[]");
    expect(f, "GET", "/v1/config/bogus", NULL, 500,
           "invalid config entry kind: bogus");
}

/* What operators ask for: the servers, the digest, the figures. */
static void operator_endpoints_answer(void **state)
{
    struct fixture *f = *state;

    expect(f, "GET", "/v1/status/peers", NULL, 200, "[\"127.0.0.1:8300\"]");
    expect(f, "GET", "/v1/agent/metrics", NULL, 200, "{}");
    struct mr_hash128 digest = mr_kv_digest(f->kv, NULL);

    expect(f, "GET", "/v1/operator/digest", NULL, 200,
           text("{\"Revision\":%llu,\"AppliedIndex\":0,\"Digest\":"
                "\"%016llx%016llx\"}",
                rev(f, 0), (unsigned long long)digest.high,
                (unsigned long long)digest.low));
    expect(f, "DELETE", "/v1/operator/raft/peer?id=x", NULL, 500,
           "id \"x\" was not found in the Raft configuration");
    expect(f, "DELETE", "/v1/operator/raft/peer?address=127.0.0.1:8300", NULL,
           500, "it would leave no voter");
}

/* ------------------------------------------------------------- blocking */

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

/* Wait until @n queries are parked. */
static void await_parked(const struct fixture *f, uint64_t n)
{
    struct mr_api_stats stats;

    do {
        mr_api_stats(f->api, &stats);
    } while (stats.parked != n);
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

/* ------------------------------------------------------------- failure */

/* What raft says about a write is what the client hears. */
static void write_errors_are_told_truthfully(void **state)
{
    static const struct {
        enum mr_err err;
        int status;
        const char *answer;
    } cases[] = {
        {MR_E_NOLEADER, 500, "No cluster leader"},
        {MR_E_UNKNOWN, 500,
         "The leader changed while this was decided: it may or may not have "
         "been applied"},
        {MR_E_BUSY, 503, "Too many requests are waiting, nothing was changed"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        atomic_store(&f->raft.fail_propose, (int)cases[i].err);
        expect(f, "PUT", "/v1/kv/a", "v", cases[i].status, cases[i].answer);
        atomic_store(&f->raft.fail_propose, MR_OK);
        atomic_store(&f->raft.refuse_propose, (int)cases[i].err);
        expect(f, "DELETE", "/v1/kv/a", NULL, cases[i].status, cases[i].answer);
        atomic_store(&f->raft.refuse_propose, MR_OK);
    }
    expect(f, "GET", "/v1/kv/a", NULL, 404, "");
}

/* When the n-th allocation of a request fails, it gets a 503 or its connection
 * is closed, and the next request is answered. */
static void lack_of_memory_costs_one_request(void **state)
{
    static const char *const targets[] = {"/v1/kv/a", "/v1/kv/?recurse&pretty",
                                          "/v1/kv//a", "/v1/kv/a?wait=x",
                                          "/v1/kv/a?index=99&wait=1ms"};
    struct fixture *f = *state;

    expect(f, "PUT", "/v1/kv/a", "v", 200, "true");
    for (size_t i = 0; i < MR_ARRAY_LEN(targets); i++) {
        for (uint64_t n = 0; n < 12; n++) {
            int fd = dial(f);
            struct mr_buf b = MR_BUF_INIT;

            mr_buf_printf(&b, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", targets[i]);
            mr_mem_fail_after(n);
            send_all(fd, (const char *)b.data, b.len);
            struct answer a = receive(fd, true);

            mr_mem_fail_after(UINT64_MAX);
            assert_true(a.status == 0 || a.status == 200 || a.status == 301 ||
                        a.status == 400 || a.status == 503);
            free(a.text);
            close(fd);
            mr_buf_deinit(&b);
        }
        expect(f, "GET", "/v1/kv/a?raw", NULL, 200, "v");
    }
}

/* Without a leader default reads fail, and stale ones too if there never was
 * one. */
static void reads_without_leader_fail(void **state)
{
    struct fixture *f = *state;

    atomic_store(&f->raft.never_led, true);
    atomic_store(&f->raft.fail_read, MR_E_NOLEADER);
    expect(f, "GET", "/v1/kv/a", NULL, 500, "No cluster leader");
    expect(f, "GET", "/v1/kv/a?stale", NULL, 500, "No cluster leader");
    expect(f, "GET", "/v1/status/leader", NULL, 200, "\"\"");
}

/* Bad input gets Consul's status and text and changes nothing. */
static void bad_input_is_refused_in_consuls_words(void **state)
{
    static const struct {
        const char *method;
        const char *target;
        int status;
        const char *answer;
    } cases[] = {
        {"GET", "/v1/kv/", 400, "Missing key name"},
        {"GET", "/v1/nosuch", 404, ""},
        {"GET", "/v1/kv/a%0Ab", 400, ""},
        {"GET", "/v1/kv/a%zz", 400, "400 Bad Request"},
        {"GET", "/v1/kv/a?%zz", 500, ""},
        {"GET", "/v1/kv/a?index=x", 400, "Invalid index"},
        {"GET", "/v1/kv/a?wait=10", 400, "Invalid wait time"},
        {"GET", "/v1/kv/a?dc=x", 500, "No path to datacenter"},
        {"PUT", "/v1/kv/a?dc=x", 500, "No path to datacenter"},
        {"PUT", "/v1/kv/a?flags=-1", 500,
         "strconv.ParseUint: parsing \"-1\": invalid syntax"},
        {"PUT", "/v1/kv/a?cas=1&acquire=x", 400,
         "Conflicting flags: acquire=x&cas=1"},
        {"PUT", "/v1/kv/a?acquire=11111111-2222-3333-4444-555555555555", 500,
         "invalid session \"11111111-2222-3333-4444-555555555555\""},
        {"DELETE", "/v1/kv/a?recurse&cas=1", 400,
         "Conflicting flags: cas=1&recurse="},
        {"POST", "/v1/kv/a", 405, "method POST not allowed"},
        {"get", "/v1/kv/a", 405, "method get not allowed"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        expect(f, cases[i].method, cases[i].target, NULL, cases[i].status,
               cases[i].answer);
    }
    assert_int_equal(mr_kv_revision(f->kv), f->start_rev);
}

/* A body that is too large is refused before it is read, or while. */
static void large_bodies_are_refused(void **state)
{
    struct fixture *f = *state;
    struct answer a = exchange(f, "PUT", "/v1/kv/a",
                               "Expect: 100-continue\r\n"
                               "Content-Length: 524289\r\n",
                               NULL);

    assert_int_equal(a.status, 413);
    assert_string_equal(header(&a, "Connection"), "close");
    free(a.text);

    int fd = dial(f);
    static const char head[] = "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    char chunk[8 + 65536 + 2];

    memcpy(chunk, "010000\r\n", 8);
    memset(chunk + 8, 'x', 65536);
    memcpy(chunk + 8 + 65536, "\r\n", 2);
    send_all(fd, head, strlen(head));
    for (int i = 0; i < 13; i++) {
        send_all(fd, chunk, sizeof chunk);
    }
    send_all(fd, "0\r\n\r\n", 5);
    a = receive(fd, true);
    assert_int_equal(a.status, 413);
    free(a.text);
    close(fd);
    assert_int_equal(mr_kv_revision(f->kv), f->start_rev);
}

/* Bodies that arrive slowly take only so much memory together; the next one is
 * told to come back, and may when they have gone. */
static void bodies_together_are_bounded(void **state)
{
    static const char head[] = "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\n"
                               "Content-Length: 524288\r\n\r\nx";
    struct fixture *f = *state;
    struct mr_api_stats stats;
    int fds[128]; /* Of 512 KiB: 64 MiB. */
    int status;

    for (size_t i = 0; i < MR_ARRAY_LEN(fds); i++) {
        fds[i] = dial(f);
        send_all(fds[i], head, strlen(head));
    }
    do { /* Until all of them have arrived. */
        struct answer a = exchange(f, "PUT", "/v1/kv/b", "", "v");

        status = a.status;
        assert_true(status == 200 || status == 503);
        if (status == 503) {
            assert_string_equal(header(&a, "Retry-After"), "1");
        }
        free(a.text);
    } while (status == 200);
    for (size_t i = 0; i < MR_ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    do {
        mr_api_stats(f->api, &stats);
    } while (stats.connections > 0);
    expect(f, "PUT", "/v1/kv/b", "v", 200, "true");
}

/* Paths that are not clean, and prefixes without slash, are redirected and
 * nothing is executed. */
static void unclean_paths_are_redirected(void **state)
{
    static const char *const cases[][2] = {
        {"/v1/kv", "/v1/kv/"},
        {"/v1//kv/a?x=1", "/v1/kv/a?x=1"},
        {"/v1/kv/%2Flead%20x", "/v1/kv/lead%20x"},
        {"/v1/kv/a/../b", "/v1/kv/b"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        struct answer a = exchange(f, "PUT", cases[i][0], "", "v");

        assert_int_equal(a.status, 301);
        assert_string_equal(header(&a, "Location"), cases[i][1]);
        assert_null(header(&a, "Vary"));
        free(a.text);
    }
    assert_int_equal(mr_kv_revision(f->kv), f->start_rev);
    expect(f, "GET", "/v1/kv", NULL, 301,
           "<a href=\"/v1/kv/\">Moved Permanently</a>.\n\n");
}

/* An address that is taken, or none, is told by name. */
static void listening_fails_with_the_address(void **state)
{
    struct fixture *f = *state;
    const char *addresses[] = {"127.0.0.1"};
    struct mr_detail detail;
    struct mr_api *api = NULL;
    struct mr_api_options o = {
        .addresses = addresses,
        .n_addresses = 1,
        .port = mr_api_port(f->api),
        .agent = {.node_name = "n1", .datacenter = "dc1"},
        .kv = f->kv,
        .raft = &f->raft,
        .clock = mr_clock_system(),
        .random = mr_random_system(),
    };

    assert_int_equal(mr_api_start(&o, &api, &detail), MR_E_INUSE);
    assert_non_null(strstr(detail.text, "127.0.0.1"));
    addresses[0] = "localhost";
    assert_int_equal(mr_api_start(&o, &api, &detail), MR_E_ADDRESS);
    addresses[0] = "203.0.113.1";
    assert_int_equal(mr_api_start(&o, &api, &detail), MR_E_ADDRESS);
    assert_null(api);
    for (uint64_t n = 0; n < 20; n++) {
        mr_mem_fail_after(n);
        addresses[0] = "localhost";
        assert_int_not_equal(mr_api_start(&o, &api, &detail), MR_OK);
        mr_mem_fail_after(UINT64_MAX);
    }
}

/* Beyond the limit a client's connections are closed without an answer, and
 * counted. */
static void connections_of_one_client_are_limited(void **state)
{
    struct fixture *f = *state;
    struct mr_api_stats stats;
    int fds[200];
    char byte;

    for (size_t i = 0; i < MR_ARRAY_LEN(fds); i++) {
        fds[i] = dial(f);
    }
    do {
        mr_api_stats(f->api, &stats);
    } while (stats.connections < MR_ARRAY_LEN(fds));
    int fd = dial(f);

    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    mr_api_stats(f->api, &stats);
    assert_int_equal(stats.refused_connections, 1);
    for (size_t i = 0; i < MR_ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
}

/* A compressed answer is the plain one, also from the cache. */
static void compressed_answers_are_the_plain_ones(void **state)
{
    struct fixture *f = *state;
    char value[2000];

    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    expect(f, "PUT", "/v1/kv/z", value, 200, "true");
    for (int i = 0; i < 3; i++) {
        struct answer a = exchange(f, "GET", "/v1/kv/z?raw",
                                   "Accept-Encoding: gzip\r\n", NULL);
        char plain[4096];
        z_stream z = {0};

        assert_true(a.body_len < 200);
        assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
        z.next_in = (Bytef *)a.body;
        z.avail_in = (uInt)a.body_len;
        z.next_out = (Bytef *)plain;
        z.avail_out = sizeof plain;
        assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
        assert_int_equal(z.total_out, sizeof value - 1);
        assert_memory_equal(plain, value, sizeof value - 1);
        inflateEnd(&z);
        free(a.text);
    }
}

/* OPTIONS tells the methods, HEAD is refused, gzip is used when it is asked
 * for. */
static void methods_and_encoding_are_negotiated(void **state)
{
    struct fixture *f = *state;
    struct answer a = exchange(f, "OPTIONS", "/v1/kv/a", "", NULL);

    assert_int_equal(a.status, 200);
    assert_string_equal(header(&a, "Allow"), "OPTIONS,GET,PUT,DELETE");
    free(a.text);
    a = exchange(f, "HEAD", "/v1/kv/a", "", NULL);
    assert_int_equal(a.status, 405);
    free(a.text);
    a = exchange(f, "GET", "/v1/status/leader", "Accept-Encoding: gzip\r\n",
                 NULL);
    assert_int_equal(a.status, 200);
    assert_string_equal(header(&a, "Content-Encoding"), "gzip");
    assert_int_equal((uint8_t)a.body[0], 0x1f);
    assert_int_equal((uint8_t)a.body[1], 0x8b);
    free(a.text);
    expect(f, "GET", "/v1/status/leader?pretty=false", NULL, 200,
           "\"127.0.0.1:8300\"\n");
}

int main(void)
{
#define with_service(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        with_service(put_then_get_returns_value),
        with_service(cached_answer_is_current),
        with_service(pipelined_requests_are_answered_in_order),
        with_service(modes_ask_as_much_as_they_promise),
        cmocka_unit_test_setup_teardown(dev_mode_indents_and_has_the_page,
                                        start_dev, stop),
        with_service(page_is_absent_unless_enabled),
        with_service(absent_features_answer_truthfully),
        with_service(operator_endpoints_answer),
        with_service(blocking_query_wakes_on_its_key),
        with_service(blocking_query_times_out_with_the_same_index),
        with_service(blocking_query_ends_with_its_client),
        with_service(leaving_crowd_leaves_nothing_behind),
        with_service(all_waiters_of_a_key_are_woken),
        with_service(quiescing_ends_waits_with_503),
        with_service(write_errors_are_told_truthfully),
        with_service(lack_of_memory_costs_one_request),
        with_service(reads_without_leader_fail),
        with_service(bad_input_is_refused_in_consuls_words),
        with_service(large_bodies_are_refused),
        with_service(bodies_together_are_bounded),
        with_service(unclean_paths_are_redirected),
        with_service(listening_fails_with_the_address),
        with_service(connections_of_one_client_are_limited),
        with_service(compressed_answers_are_the_plain_ones),
        with_service(methods_and_encoding_are_negotiated),
    };

    return cmocka_run_group_tests_name("api_http", tests, NULL, NULL);
}
