/* SPDX-License-Identifier: Apache-2.0 */
/* api: streams through an agent without -server; the servers are the test's own
 * sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/mr_api.h"
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
    struct mr_clock clock;
    atomic_uint_fast64_t ahead_ms; /* Of the system's clock. */
};

static uint64_t now_ms(const struct mr_clock *clock)
{
    const struct relaying *r = mr_container_of(clock, struct relaying, clock);

    return mr_now_ms(mr_clock_system()) + atomic_load(&r->ahead_ms);
}

static uint64_t wall_ms(const struct mr_clock *clock)
{
    (void)clock;
    return mr_clock_system()->wall_ms(mr_clock_system());
}

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

    r->clock = (struct mr_clock){now_ms, wall_ms};
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
        .clock = &r->clock,
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

/* The agent's next connection to whichever server. */
static int take_any(const struct relaying *r)
{
    struct pollfd p[N_SERVERS];

    for (size_t i = 0; i < N_SERVERS; i++) {
        p[i] = (struct pollfd){.fd = r->listeners[i], .events = POLLIN};
    }
    assert_true(poll(p, N_SERVERS, WAIT_MS) > 0);
    return take(r, p[0].revents != 0 ? 0 : 1);
}

/* Whether the request that comes on @fd, if one does, has @part. */
static bool asks_for(int fd, const char *part)
{
    char request[2048];
    size_t len = 0;
    ssize_t n;

    do {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        n = recv(fd, request + len, sizeof request - 1 - len, 0);
        len += n > 0 ? (size_t)n : 0;
        request[len] = '\0';
    } while (n > 0 && strstr(request, "\r\n\r\n") == NULL);
    return strstr(request, part) != NULL;
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

/* Answer on @server, and go on until nobody takes any more of it. */
static void say_more_than_is_read(int server)
{
    static char chunk[0x1000 + 8];
    struct pollfd p = {.fd = server, .events = POLLOUT};
    size_t n = 0;

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
}

/* A client that does not read is not read for. */
static void a_slow_reader_stops_its_server(void **state)
{
    struct relaying *r = *state;
    int client = dial(r);

    say(client, GET);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say_more_than_is_read(server);
    close(client);
    hear_end(server);
}

/* What the reader did not let it say is no silence of the server. */
static void a_server_is_not_left_because_its_reader_was_slow(void **state)
{
    struct relaying *r = *state;
    struct pollfd p = {.events = POLLOUT};
    int client = dial(r);
    char bytes[65536];

    say(client, "GET /v1/watch/nodes?progress=10m HTTP/1.1\r\nHost: x\r\n\r\n");
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say_more_than_is_read(server);
    atomic_store(&r->ahead_ms, 1300000); /* Twice its progress time is over. */
    p.fd = server;
    while (poll(&p, 1, 0) == 0) {
        assert_true(recv(client, bytes, sizeof bytes, 0) > 0);
    }
    assert_int_equal(p.revents, POLLOUT);
    assert_int_equal(atomic_load(&r->in_use), 0);
    close(client);
    close(server);
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

/* Descriptors are the agent's to lack: a server that is well is not left. */
static void a_lack_of_descriptors_is_not_the_servers_fault(void **state)
{
    struct relaying *r = *state;
    struct rlimit before;
    int fds[64];
    size_t n = 0;
    int client = dial(r);

    say(client, "GET /no HTTP/1.1\r\nHost: x\r\n\r\n");
    (void)hear(client, "\r\n\r\n"); /* It has been accepted. */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit less = {MR_ARRAY_LEN(fds), before.rlim_max};

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
    while ((fds[n] = open("/dev/null", O_RDONLY)) >= 0) {
        n++;
    }
    say(client, GET);
    const char *answer = hear(client, "Too many requests");

    assert_non_null(strstr(answer, "HTTP/1.1 503 "));
    while (n > 0) {
        close(fds[--n]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(atomic_load(&r->in_use), 0);
    close(client);
}

/* The n-th allocation fails: an error, a closed connection, or a server that is
 * asked; the next stream is served. */
static void a_lack_of_memory_costs_one_stream(void **state)
{
    static const char *const requests[] = {GET, UPGRADE};
    struct relaying *r = *state;
    struct pollfd p[2];

    for (uint64_t i = 0; i < 2 * 24; i++) {
        int client = dial(r);

        mr_mem_fail_after(i / 2);
        say(client, requests[i % 2]);
        p[0] = (struct pollfd){.fd = client, .events = POLLIN};
        p[1] = (struct pollfd){.fd = r->listeners[atomic_load(&r->in_use)],
                               .events = POLLIN};
        assert_true(poll(p, 2, WAIT_MS) > 0);
        mr_mem_fail_after(UINT64_MAX);
        close(client);
        await_streams(r, 0);
    }
    int client = dial(r);
    int server;

    say(client, "GET /v1/watch/key/last HTTP/1.1\r\nHost: x\r\n\r\n");
    while (!asks_for(server = take_any(r), "/v1/watch/key/last")) {
        close(server); /* Of those before, whom nobody waits for. */
    }
    say(server, OK "4\r\none\n\r\n");
    (void)hear(client, "one\n");
    close(client);
    close(server);
}

/* An end in order comes after a whole line only. */
static void half_a_line_does_not_end_in_order(void **state)
{
    struct relaying *r = *state;
    struct pollfd p = {.events = POLLIN};
    int client = dial(r);
    char bytes[4096];
    ssize_t n;

    say(client, GET);
    int server = take(r, 0);

    (void)hear(server, "\r\n\r\n");
    say(server, OK "3\r\none\r\n");
    (void)hear(client, "one\r\n");
    mr_api_quiesce(r->api);
    p.fd = client;
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    n = recv(client, bytes, sizeof bytes, 0);
    assert_true(n <= 0);
    close(client);
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
        with_agent(a_server_is_not_left_because_its_reader_was_slow),
        with_agent(a_websocket_goes_on_at_the_next_server),
        with_agent(a_reset_becomes_updates),
        with_agent(without_a_server_there_is_an_error),
        with_agent(a_websocket_that_cannot_go_on_is_closed),
        with_agent(garbage_of_a_server_is_not_passed_on),
        with_agent(a_lack_of_descriptors_is_not_the_servers_fault),
        with_agent(a_lack_of_memory_costs_one_stream),
        with_agent(half_a_line_does_not_end_in_order),
        with_agent(quiescing_ends_relays),
    };

    return cmocka_run_group_tests_name("api_relay", tests, NULL, NULL);
}
