/* SPDX-License-Identifier: Apache-2.0 */
/* api: requests over loopback, and what each is answered. */
#include "tests/unit/http_fixture.h"

#include <zlib.h>

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dev_mode_indents_and_has_the_page,
                                        start_dev, stop),
        with_service(put_then_get_returns_value),
        with_service(cached_answer_is_current),
        with_service(pipelined_requests_are_answered_in_order),
        with_service(modes_ask_as_much_as_they_promise),
        with_service(page_is_absent_unless_enabled),
        with_service(absent_features_answer_truthfully),
        with_service(operator_endpoints_answer),
        with_service(write_errors_are_told_truthfully),
        with_service(reads_without_leader_fail),
        with_service(bad_input_is_refused_in_consuls_words),
        with_service(unclean_paths_are_redirected),
        with_service(compressed_answers_are_the_plain_ones),
        with_service(methods_and_encoding_are_negotiated),
    };

    return cmocka_run_group_tests_name("api_http", tests, NULL, NULL);
}
