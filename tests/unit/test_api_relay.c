/* SPDX-License-Identifier: Apache-2.0 */
/* api: streams through an agent without -server; the servers are the test's own
 * sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/mr_api.h"
#include "api/relay_answer.h"
#include "base/mem.h"

#define WAIT_MS 20000
#define N_SERVERS 2

#define OK                                                                     \
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"                \
    "X-Consul-Index: 7\r\nTransfer-Encoding: chunked\r\n\r\n"

#define UPGRADE                                                                \
    "GET /registry?service=a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"    \
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"                     \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

struct relaying {
    char dir[64];
    struct mr_kv *kv;
    struct mr_api *api;
    int listeners[N_SERVERS];
    uint16_t ports[N_SERVERS];
    atomic_uint in_use; /* N_SERVERS: none. */
};

/* ------------------------------------------------------------- the agent */

static bool upstream(void *arg, struct mr_api_upstream *out)
{
    struct relaying *r = arg;
    unsigned i = atomic_load(&r->in_use);

    if (i >= N_SERVERS) {
        return false;
    }
    memset(out, 0, sizeof *out);
    out->address.v4.sin_family = AF_INET;
    out->address.v4.sin_port = htons(r->ports[i]);
    out->address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    out->address_len = sizeof out->address.v4;
    strcpy(out->host, "server:1");
    strcpy(out->cluster, "00000000000000aa");
    return true;
}

/* The next one is taken, as the link would do it. */
static void doubt(void *arg)
{
    struct relaying *r = arg;

    atomic_store(&r->in_use, (atomic_load(&r->in_use) + 1) % N_SERVERS);
}

static enum mr_err forward(void *arg, struct mr_api_forward *f)
{
    (void)arg;
    (void)f;
    return MR_E_UNREACHABLE;
}

static int listen_somewhere(uint16_t *out_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *out_port = ntohs(at.sin_port);
    return fd;
}

static int start(void **state)
{
    struct relaying *r = calloc(1, sizeof *r);
    const char *const addresses[] = {"127.0.0.1"};
    struct mr_detail detail;

    strcpy(r->dir, "/tmp/mr-test-relay-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    struct mr_kv_options kv = {.dir = r->dir, .boot_id = "boot"};

    assert_int_equal(mr_kv_open(&kv, &r->kv, &detail), MR_OK);
    for (size_t i = 0; i < N_SERVERS; i++) {
        r->listeners[i] = listen_somewhere(&r->ports[i]);
    }
    struct mr_api_options o = {
        .addresses = addresses,
        .n_addresses = 1,
        .agent = {.node_name = "agent", .datacenter = "dc1"},
        .host = {.arg = r,
                 .forward = forward,
                 .upstream = upstream,
                 .doubt = doubt},
        .kv = r->kv,
        .clock = mr_clock_system(),
        .random = mr_random_system(),
    };

    assert_int_equal(mr_api_start(&o, &r->api, &detail), MR_OK);
    *state = r;
    return 0;
}

static int stop(void **state)
{
    struct relaying *r = *state;
    char command[128];

    mr_api_stop(r->api);
    mr_kv_close(r->kv);
    for (size_t i = 0; i < N_SERVERS; i++) {
        close(r->listeners[i]);
    }
    (void)snprintf(command, sizeof command, "rm -rf '%s'", r->dir);
    assert_int_equal(system(command), 0);
    free(r);
    return 0;
}

/* ------------------------------------------------------------- both ends */

static int dial(const struct relaying *r)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(mr_api_port(r->api)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    size_t len = strlen(text);

    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
}

/* Read until @part has come; what was read. */
static const char *hear(int fd, const char *part)
{
    static char heard[65536];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    size_t len = 0;

    heard[0] = '\0';
    while (strstr(heard, part) == NULL) {
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        ssize_t n = recv(fd, heard + len, sizeof heard - 1 - len, 0);

        if (n <= 0) {
            fail_msg("no %s in %s", part, heard);
        }
        /* Frames have NULs. */
        for (ssize_t i = 0; i < n; i++) {
            heard[len + (size_t)i] =
                heard[len + (size_t)i] == '\0' ? '0' : heard[len + (size_t)i];
        }
        len += (size_t)n;
        heard[len] = '\0';
    }
    return heard;
}

static void hear_end(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char bytes[4096];

    do {
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    } while (recv(fd, bytes, sizeof bytes, 0) > 0);
    close(fd);
}

/* The agent's next connection to the server @i. */
static int take(const struct relaying *r, size_t i)
{
    struct pollfd p = {.fd = r->listeners[i], .events = POLLIN};

    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    return accept(r->listeners[i], NULL, NULL);
}

static void await_streams(const struct relaying *r, uint64_t n)
{
    struct mr_api_stats stats;

    do {
        mr_api_stats(r->api, &stats);
    } while (stats.streams != n);
}

#define GET "GET /v1/watch/nodes HTTP/1.1\r\nHost: x\r\n\r\n"

/* ------------------------------------------------------------- success */

/* The request goes as it came, and so does the answer. */
static void a_stream_is_passed_on_as_it_comes(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, "GET /v1/watch/key/a?index=3 HTTP/1.1\r\nHost: x\r\n"
                "Accept: text/event-stream\r\nLast-Event-ID: 5\r\n\r\n");
    int server = take(r, 0);
    const char *request = hear(server, "\r\n\r\n");

    assert_memory_equal(request, "GET /v1/watch/key/a?index=3 HTTP/1.1\r\n",
                        37);
    assert_non_null(strstr(request, "Accept: text/event-stream\r\n"));
    assert_non_null(strstr(request, "Last-Event-ID: 5\r\n"));
    assert_non_null(
        strstr(request, "X-Microreg-Cluster: 00000000000000aa\r\n"));
    assert_non_null(strstr(request, "X-Microreg-Agent: agent\r\n"));
    say(server, OK "4\r\none\n\r\n");
    const char *answer = hear(client, "one\n");

    assert_non_null(strstr(answer, "X-Consul-Index: 7\r\n"));
    assert_non_null(strstr(answer, "Content-Type: application/x-ndjson\r\n"));
    say(server, "4\r\ntwo\n\r\n");
    (void)hear(client, "two\n");
    await_streams(r, 1);
    close(client);
    hear_end(server); /* Nobody reads it any more. */
    await_streams(r, 0);
}

/* The body of a POST goes along. */
static void a_body_is_passed_on(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, "POST /registry/watch HTTP/1.1\r\nHost: x\r\n"
                "Content-Length: 13\r\n\r\n{\"services\":1}");
    int server = take(r, 0);

    (void)hear(server, "Content-Length: 13\r\n\r\n{\"services\":1");
    say(server, OK "0\r\n\r\n");
    (void)hear(client, "0\r\n\r\n"); /* An end in order. */
    close(client);
    close(server);
}

/* What a server refuses is its answer. */
static void a_refusal_is_an_ordinary_answer(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, GET);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say(server, "HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nInvalid");
    (void)poll(NULL, 0, 20); /* The pieces are better seen apart. */
    say(server, " x");
    const char *answer = hear(client, "Invalid x");

    assert_memory_equal(answer, "HTTP/1.1 400 ", 13);
    assert_non_null(strstr(answer, "Content-Length: 9\r\n"));
    close(client);
    close(server);
}

/* Before it answers a server may go: the next one is asked. */
static void a_server_that_dies_before_the_answer_is_replaced(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, GET);
    close(take(r, 0));
    int server = take(r, 1);

    (void)hear(server, "\r\n\r\n");
    say(server, OK "4\r\none\n\r\n");
    (void)hear(client, "one\n");
    close(client);
    close(server);
}

/* The client knows where to go on: it is told that it must. */
static void a_server_that_dies_ends_the_stream(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, GET);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say(server, OK "4\r\none\n\r\n");
    (void)hear(client, "one\n");
    close(server);
    hear_end(client);
    assert_int_equal(atomic_load(&r->in_use), 1);
}

/* One that hangs says nothing, not even that nothing happens. */
static void a_server_that_is_silent_ends_the_stream(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client,
        "GET /v1/watch/nodes?progress=100ms HTTP/1.1\r\nHost: x\r\n\r\n");
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say(server, OK "4\r\none\n\r\n");
    (void)hear(client, "one\n");
    hear_end(client);
    close(server);
}

/* A client that does not read is not read for. */
static void a_slow_reader_stops_its_server(void **state)
{
    static char chunk[0x1000 + 8];
    struct relaying *r = *state;
    int client = dial(r);
    size_t n = 0;

    say(client, GET);
    int server = take(r, 0);
    struct pollfd p = {.fd = server, .events = POLLOUT};

    (void)hear(server, "\r\n\r\n");
    say(server, OK);
    memset(chunk, 'x', sizeof chunk);
    memcpy(chunk, "1000\r\n", 6);
    memcpy(chunk + sizeof chunk - 2, "\r\n", 2);
    while (n < ((size_t)256 << 20) && poll(&p, 1, 500) == 1) {
        ssize_t sent =
            send(server, chunk + n % sizeof chunk,
                 sizeof chunk - n % sizeof chunk, MSG_DONTWAIT | MSG_NOSIGNAL);

        n += sent > 0 ? (size_t)sent : 0;
    }
    assert_true(n < (size_t)256 << 20);
    close(client);
    hear_end(server);
}

#define LINE(index, action, more, name)                                        \
    "{\"index\":" index ",\"action\":\"" action "\"" more                      \
    ",\"service\":{\"name\":\"" name "\"}}\n"

/* Lines become messages, and a server that dies is not noticed. */
static void a_websocket_goes_on_at_the_next_server(void **state)
{
    static const char first[] = LINE("7", "create", ",\"more\":true", "a1");
    static const char second[] = LINE("9", "update", "", "a2");
    struct relaying *r = *state;
    char text[512];
    int client = dial(r);

    say(client, UPGRADE);
    int server = take(r, 0);

    (void)hear(server, "GET /registry/watch?progress=5s&service=a HTTP/1.1");
    (void)snprintf(text, sizeof text, OK "%zx\r\n%s\r\n%zx\r\n%s\r\n",
                   sizeof first - 1, first,
                   strlen("{\"index\":8,\"action\":\"synced\"}\n"),
                   "{\"index\":8,\"action\":\"synced\"}\n");
    say(server, text);
    (void)hear(client, "{\"Action\":\"create\",\"Service\":{\"name\":\"a1\"}}");
    close(server);
    server = take(r, 1);
    (void)hear(server,
               "GET /registry/watch?progress=5s&index=8&service=a HTTP/1.1");
    (void)snprintf(text, sizeof text, OK "%zx\r\n%s\r\n", sizeof second - 1,
                   second);
    say(server, text);
    (void)hear(client, "{\"Action\":\"update\",\"Service\":{\"name\":\"a2\"}}");
    close(client);
    hear_end(server);
}

/* After a reset the watcher has seen some of it: what is there is an update. */
static void a_reset_becomes_updates(void **state)
{
    static const char lines[] = "{\"index\":7,\"action\":\"reset\"}\n" LINE(
        "7", "create", ",\"more\":true",
        "a1") "{\"index\":7,\"action\":\"synced\"}\n" LINE("8", "create", "",
                                                           "a2");
    struct relaying *r = *state;
    char text[1024];
    int client = dial(r);

    say(client, UPGRADE);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    (void)snprintf(text, sizeof text, OK "%zx\r\n%s\r\n", sizeof lines - 1,
                   lines);
    say(server, text);
    const char *heard =
        hear(client, "{\"Action\":\"create\",\"Service\":{\"name\":\"a2\"}}");

    assert_non_null(
        strstr(heard, "{\"Action\":\"update\",\"Service\":{\"name\":\"a1\"}}"));
    close(client);
    close(server);
}

/* ------------------------------------------------------------- failure */

static void without_a_server_there_is_an_error(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    atomic_store(&r->in_use, N_SERVERS);
    say(client, GET);
    const char *answer = hear(client, "No known Consul servers");

    assert_memory_equal(answer, "HTTP/1.1 500 ", 13);
    close(client);
}

/* Only a Close lets go-micro's watcher watch again. */
static void a_websocket_that_cannot_go_on_is_closed(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, UPGRADE);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say(server, OK "0\r\n\r\n"); /* Ended before it said anything. */
    (void)hear(client, "watch again");
    close(client);
    close(server);
}

/* An answer that is none is nobody's; one that turns out so ends the stream. */
static void garbage_of_a_server_is_not_passed_on(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, GET);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say(server, "SSH-2.0-x\r\n");
    hear_end(server);
    server = take(r, 1);
    (void)hear(server, "\r\n\r\n");
    say(server, OK);
    (void)hear(client, "200 OK");
    say(server, "zz\r\n");
    hear_end(client);
    close(server);
}

static void quiescing_ends_relays(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);
    int watcher = dial(r);

    say(client, GET);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say(server, OK "4\r\none\n\r\n");
    (void)hear(client, "one\n");
    say(watcher, UPGRADE);
    (void)hear(watcher, "101");
    mr_api_quiesce(r->api);
    (void)hear(client, "0\r\n\r\n");
    assert_int_equal(stop(state), 0);
    (void)hear(watcher, "the server stops");
    close(client);
    close(watcher);
    close(server);
    assert_int_equal(start(state), 0);
}

/* ------------------------------------------------------------- answers */

/* Feed @text in pieces of @size; the body. */
static enum mr_err feed(const char *text, size_t size, struct mr_buf *out,
                        struct relay_answer *answer)
{
    enum mr_err err = MR_OK;

    relay_answer_init(answer);
    for (size_t at = 0; err == MR_OK && at < strlen(text); at += size) {
        size_t left = strlen(text) - at;

        err = relay_answer_feed(
            answer, mr_slice(text + at, left < size ? left : size), out);
    }
    return err;
}

static void answers_may_come_in_any_pieces(void **state)
{
    static const char text[] =
        "HTTP/1.1 100 Continue\r\n\r\n" OK
        "a;ext=1\r\n0123456789\r\n1\r\nX\r\n0\r\nTrailer: t\r\n\r\n";

    (void)state;
    for (size_t size = 1; size < sizeof text; size++) {
        struct mr_buf out = MR_BUF_INIT;
        struct relay_answer answer;

        assert_int_equal(feed(text, size, &out, &answer), MR_OK);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.part, RELAY_DONE);
        mr_buf_byte(&out, 0);
        assert_string_equal(out.data, "0123456789X");
        assert_string_equal(mr_buf_cstr(&answer.headers),
                            "Content-Type: application/x-ndjson\n"
                            "X-Consul-Index: 7\n");
        mr_buf_deinit(&out);
        relay_answer_deinit(&answer);
    }
}

static void wrong_answers_are_refused(void **state)
{
    static const char *const texts[] = {
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 999 No\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
        OK "\r\n",
        OK "x\r\n",
        OK "1000000000000000\r\n",
        OK "1\r\nab\r\n",
        "HTTP/1.1 204 No\r\n\r\nmore",
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        struct mr_buf out = MR_BUF_INIT;
        struct relay_answer answer;

        if (feed(texts[i], 7, &out, &answer) != MR_E_INVALID) {
            fail_msg("accepted: %s", texts[i]);
        }
        mr_buf_deinit(&out);
        relay_answer_deinit(&answer);
    }
}

static void a_head_without_an_end_is_refused(void **state)
{
    static char text[3 * RELAY_HEAD_MAX];
    struct mr_buf out = MR_BUF_INIT;
    struct relay_answer answer;

    (void)state;
    memset(text, 'h', sizeof text - 1);
    memcpy(text, "HTTP/1.1 200 OK\r\nX: ", 20);
    assert_int_equal(feed(text, 1000, &out, &answer), MR_E_TOOBIG);
    mr_buf_deinit(&out);
    relay_answer_deinit(&answer);
}

#define with_agent(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_agent(a_stream_is_passed_on_as_it_comes),
        with_agent(a_body_is_passed_on),
        with_agent(a_refusal_is_an_ordinary_answer),
        with_agent(a_server_that_dies_before_the_answer_is_replaced),
        with_agent(a_server_that_dies_ends_the_stream),
        with_agent(a_server_that_is_silent_ends_the_stream),
        with_agent(a_slow_reader_stops_its_server),
        with_agent(a_websocket_goes_on_at_the_next_server),
        with_agent(a_reset_becomes_updates),
        with_agent(without_a_server_there_is_an_error),
        with_agent(a_websocket_that_cannot_go_on_is_closed),
        with_agent(garbage_of_a_server_is_not_passed_on),
        with_agent(quiescing_ends_relays),
        cmocka_unit_test(answers_may_come_in_any_pieces),
        cmocka_unit_test(wrong_answers_are_refused),
        cmocka_unit_test(a_head_without_an_end_is_refused),
    };

    return cmocka_run_group_tests_name("api_relay", tests, NULL, NULL);
}
