/* SPDX-License-Identifier: Apache-2.0 */
/* api: what a client can make grow is bounded, and what happens then. */
#include "tests/unit/http_fixture.h"

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

/* The digits of base64. */
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "abcdefghijklmnopqrstuvwxyz0123456789+/";

/* More hot answers than the cache holds are still the right ones. */
static void cache_keeps_the_right_answers(void **state)
{
    struct fixture *f = *state;
    size_t len = 400 * 1024;
    char *value = malloc(len + 1);

    value[len] = '\0';
    for (int round = 0; round < 2; round++) {
        for (int key = 0; key < 24; key++) {
            memset(value, 'a' + key + round, len);
            expect(f, "PUT", text("/v1/kv/%d", key), value, 200, "true");
        }
        for (int n = 0; n < 24 * 3; n++) {
            struct answer a =
                exchange(f, "GET", text("/v1/kv/%d", n % 24), "", NULL);
            const char *found = strstr(a.body, "\"Value\":\"");

            assert_non_null(found); /* Base64 of three equal letters. */
            memset(value, 'a' + n % 24 + round, 3);
            found += strlen("\"Value\":\"");
            assert_int_equal(
                ((uint8_t)(strchr(alphabet, found[0]) - alphabet) << 2) |
                    ((strchr(alphabet, found[1]) - alphabet) >> 4),
                value[0]);
            free(a.text);
        }
    }
    free(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_service(lack_of_memory_costs_one_request),
        with_service(large_bodies_are_refused),
        with_service(bodies_together_are_bounded),
        with_service(listening_fails_with_the_address),
        with_service(connections_of_one_client_are_limited),
        with_service(cache_keeps_the_right_answers),
    };

    return cmocka_run_group_tests_name("api_limits", tests, NULL, NULL);
}
