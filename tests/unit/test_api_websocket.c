/* SPDX-License-Identifier: Apache-2.0 */
/* api: WebSockets on /registry over loopback (RFC 6455, docs/watch.md). */
#include "tests/unit/http_fixture.h"

#include <poll.h>

#include "api/websocket_handshake.h"
#include "api/websocket_message.h"
#include "base/mem.h"

#define WAIT_MS 20000
#define TEXT 1
#define CLOSE 8
#define PING 9
#define PONG 10

/* RFC 6455 §1.3 has this example. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

#define HELLO                                                                  \
    "Host: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"     \
    "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n"

struct frame {
    int opcode;
    size_t len;
    char data[70000];
};

/* ------------------------------------------------------------- a client */

/* Exactly @len bytes; false: the connection ended. */
static bool read_bytes(int fd, void *out, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    size_t at = 0;

    while (at < len) {
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        ssize_t n = recv(fd, (char *)out + at, len - at, 0);

        if (n <= 0) {
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

/* Send @request and read the head of the answer. */
static int shake_hands(const struct fixture *f, const char *request, char *head,
                       size_t cap)
{
    int fd = dial(f);
    size_t at = 0;

    send_all(fd, request, strlen(request));
    while (at + 1 < cap && (at < 4 || memcmp(head + at - 4, "\r\n\r\n", 4))) {
        assert_true(read_bytes(fd, head + at, 1));
        at++;
    }
    head[at] = '\0';
    return fd;
}

static int open_socket(const struct fixture *f, const char *target)
{
    char request[1024];
    char head[2048];

    (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HELLO,
                   target);
    int fd = shake_hands(f, request, head, sizeof head);

    assert_memory_equal(head, "HTTP/1.1 101 ", 13);
    assert_non_null(strstr(head, "Sec-WebSocket-Accept: " ACCEPT "\r\n"));
    assert_non_null(strcasestr(head, "Upgrade: websocket\r\n"));
    assert_non_null(strcasestr(head, "Connection: Upgrade\r\n"));
    return fd;
}

/* A masked frame of at most 125 bytes, complete. */
static void send_frame(int fd, int opcode, const char *data)
{
    unsigned char frame[256] = {(unsigned char)(0x80 | opcode),
                                (unsigned char)(0x80 | strlen(data)),
                                1,
                                2,
                                3,
                                4};
    size_t len = strlen(data);

    for (size_t i = 0; i < len; i++) {
        frame[6 + i] = (unsigned char)data[i] ^ frame[2 + i % 4];
    }
    send_all(fd, (const char *)frame, len + 6);
}

/* The next frame, which a server does not mask. False: it ended. */
static bool read_frame(int fd, struct frame *out)
{
    unsigned char head[10];

    if (!read_bytes(fd, head, 2)) {
        return false;
    }
    assert_int_equal(head[0] & 0xf0, 0x80);
    assert_int_equal(head[1] & 0x80, 0);
    out->opcode = head[0] & 15;
    out->len = head[1];
    if (out->len == 126) {
        assert_true(read_bytes(fd, head, 2));
        out->len = (size_t)head[0] << 8 | head[1];
    }
    assert_true(out->len < sizeof out->data);
    assert_true(read_bytes(fd, out->data, out->len));
    out->data[out->len] = '\0';
    return true;
}

static void expect_text(int fd, const char *part)
{
    static struct frame frame;

    assert_true(read_frame(fd, &frame));
    assert_int_equal(frame.opcode, TEXT);
    if (strstr(frame.data, part) == NULL) {
        fail_msg("no %s in %s", part, frame.data);
    }
}

/* The server's goodbye with @code; 0: with whatever code. */
static void expect_close(int fd, int code)
{
    static struct frame frame;

    do {
        assert_true(read_frame(fd, &frame));
    } while (frame.opcode == TEXT);
    assert_int_equal(frame.opcode, CLOSE);
    if (code == 0) {
        return;
    }
    assert_true(frame.len >= 2);
    assert_int_equal(
        (unsigned char)frame.data[0] << 8 | (unsigned char)frame.data[1], code);
}

static void expect_end(int fd)
{
    static struct frame frame;

    while (read_frame(fd, &frame)) {
        assert_int_not_equal(frame.opcode, TEXT);
    }
    close(fd);
}

static void register_node(const struct fixture *f, const char *service,
                          const char *id)
{
    const char *body =
        text("{\"name\":\"%s\",\"version\":\"1\",\"nodes\":[{\"id\":\"%s\","
             "\"address\":\"10.0.0.1:80\"}]}",
             service, id);
    struct answer a = exchange(f, "POST", "/registry", "", body);

    assert_int_equal(a.status, 200);
    free(a.text);
}

/* ------------------------------------------------------------- success */

/* What there is comes first, then what happens. */
static void a_watcher_gets_the_snapshot_and_changes(void **state)
{
    const struct fixture *f = *state;

    register_node(f, "one", "one-1");
    int fd = open_socket(f, "/registry");

    expect_text(fd, "{\"Action\":\"create\",\"Service\":{\"name\":\"one\"");
    register_node(f, "two", "two-1");
    expect_text(fd, "{\"Action\":\"create\",\"Service\":{\"name\":\"two\"");
    close(fd);
}

/* ?service= leaves the others out. */
static void a_watcher_of_one_service_hears_of_it_only(void **state)
{
    const struct fixture *f = *state;
    int fd = open_socket(f, "/registry?service=two");

    register_node(f, "one", "one-1");
    register_node(f, "two", "two-1");
    expect_text(fd, "\"name\":\"two\"");
    close(fd);
}

/* go-micro's client drops who does not answer. */
static void pings_are_answered(void **state)
{
    static struct frame frame;
    int fd = open_socket(*state, "/registry");

    send_frame(fd, PING, "are you there");
    assert_true(read_frame(fd, &frame));
    assert_int_equal(frame.opcode, PONG);
    assert_string_equal(frame.data, "are you there");
    close(fd);
}

/* Nothing that a client says means anything. */
static void messages_of_clients_are_ignored(void **state)
{
    const struct fixture *f = *state;
    int fd = open_socket(f, "/registry");

    send_frame(fd, TEXT, "hello");
    send_frame(fd, 2, "binary");
    register_node(f, "one", "one-1");
    expect_text(fd, "\"name\":\"one\"");
    close(fd);
}

/* Pieces are dropped as they come, and a ping may come between them (RFC 6455
 * §5.4). */
static void a_message_in_pieces_is_ignored(void **state)
{
    static const char first[] = "\x02\x80\x01\x01\x01\x01";
    static char piece[8 + 4096] = "\x00\xfe\x10\x00\x01\x02\x03\x04";
    static struct frame frame;
    int fd = open_socket(*state, "/registry");

    send_all(fd, first, sizeof first - 1);
    for (size_t i = 0; i < 100; i++) {
        send_all(fd, piece, sizeof piece);
    }
    send_frame(fd, PING, "between");
    assert_true(read_frame(fd, &frame));
    assert_int_equal(frame.opcode, PONG);
    assert_string_equal(frame.data, "between");
    close(fd);
}

/* The client begins: its code comes back, and the connection ends. */
static void a_close_is_answered(void **state)
{
    int fd = open_socket(*state, "/registry");

    send_frame(fd, CLOSE, "\x03\xe8");
    expect_close(fd, 1000);
    expect_end(fd);
}

/* Frames may come in the same packet as the request. */
static void frames_behind_the_handshake_are_read(void **state)
{
    char head[2048];
    static const char ping[] = "\x89\x82\x01\x02\x03\x04\x69\x6b"; /* "hi" */
    char request[1024];
    static struct frame frame;

    (void)snprintf(request, sizeof request,
                   "GET /registry HTTP/1.1\r\n" HELLO "%s", ping);
    int fd = shake_hands(*state, request, head, sizeof head);

    assert_true(read_frame(fd, &frame));
    assert_int_equal(frame.opcode, PONG);
    assert_string_equal(frame.data, "hi");
    close(fd);
}

/* Who stops says so: only then the plugin's watcher knows. */
static void the_service_says_goodbye_when_it_ends(void **state)
{
    struct fixture *f = *state;
    int fds[20];

    for (size_t i = 0; i < MR_ARRAY_LEN(fds); i++) {
        fds[i] = open_socket(f, "/registry");
    }
    assert_int_equal(stop(state), 0);
    assert_int_equal(start(state), 0);
    for (size_t i = 0; i < MR_ARRAY_LEN(fds); i++) {
        expect_close(fds[i], 1001);
        expect_end(fds[i]);
    }
}

/* Streams are counted, and are not any more when their clients are gone. */
static void watchers_are_counted(void **state)
{
    const struct fixture *f = *state;
    struct mr_api_stats stats;
    int fd = open_socket(f, "/registry");

    mr_api_stats(f->api, &stats);
    assert_int_equal(stats.streams, 1);
    close(fd);
    do {
        mr_api_stats(f->api, &stats);
    } while (stats.streams != 0 || stats.connections != 0);
}

/* Without the upgrade it is the list that it always was. */
static void other_requests_get_the_list(void **state)
{
    expect(*state, "GET", "/registry", NULL, 200, "[]");
}

/* The plugin's reader ends at a longer message. */
static void a_message_that_is_too_long_loses_its_endpoints(void **state)
{
    struct mr_buf message = MR_BUF_INIT;
    struct mr_buf shortened = MR_BUF_INIT;
    struct mr_slice out;

    (void)state;
    mr_buf_str(&message, "{\"Action\":\"create\",\"Service\":{\"name\":\"a\","
                         "\"endpoints\":[\"");
    for (size_t i = 0; i < WEBSOCKET_MESSAGE_MAX; i++) {
        mr_buf_byte(&message, 'e');
    }
    mr_buf_str(&message, "\"],\"nodes\":[]}}");
    assert_int_equal(
        websocket_message_fit(mr_buf_slice(&message), &shortened, &out), MR_OK);
    mr_buf_byte(&shortened, 0);
    assert_string_equal(shortened.data, "{\"Action\":\"create\",\"Service\":"
                                        "{\"name\":\"a\",\"nodes\":[]}}");
    mr_buf_deinit(&message);
    mr_buf_deinit(&shortened);
}

/* ------------------------------------------------------------- failure */

static void a_message_that_stays_too_long_is_refused(void **state)
{
    struct mr_buf message = MR_BUF_INIT;
    struct mr_buf shortened = MR_BUF_INIT;
    struct mr_slice out;

    (void)state;
    mr_buf_str(&message, "{\"Service\":{\"name\":\"");
    for (size_t i = 0; i < WEBSOCKET_MESSAGE_MAX; i++) {
        mr_buf_byte(&message, 'n');
    }
    mr_buf_str(&message, "\"}}");
    assert_int_equal(
        websocket_message_fit(mr_buf_slice(&message), &shortened, &out),
        MR_E_TOOBIG);
    mr_buf_deinit(&message);
    mr_buf_deinit(&shortened);
}

static void expect_refusal(const struct fixture *f, const char *headers,
                           const char *status)
{
    char request[1024];
    char head[2048];

    (void)snprintf(request, sizeof request,
                   "GET /registry HTTP/1.1\r\nHost: x\r\n"
                   "Upgrade: websocket\r\n%s\r\n",
                   headers);
    int fd = shake_hands(f, request, head, sizeof head);

    assert_memory_equal(head, status, strlen(status));
    close(fd);
}

static void a_wrong_handshake_is_refused(void **state)
{
    const struct fixture *f = *state;

    expect_refusal(f, "", "HTTP/1.1 400");
    expect_refusal(f, "Connection: Upgrade\r\n", "HTTP/1.1 426");
    expect_refusal(f,
                   "Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
                   "Sec-WebSocket-Key: " KEY "\r\n",
                   "HTTP/1.1 426");
    expect_refusal(f, "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
                   "HTTP/1.1 400");
    expect_refusal(f,
                   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: c2hvcnQ=\r\n",
                   "HTTP/1.1 400");
}

/* Upgrades are not of HTTP/1.0 (RFC 9110 §7.8): they are not seen. */
static void an_old_request_gets_the_list(void **state)
{
    static const char request[] = "GET /registry HTTP/1.0\r\n" HELLO;
    int fd = dial(*state);

    send_all(fd, request, strlen(request));
    struct answer a = receive(fd, true);

    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "[]");
    free(a.text);
    close(fd);
}

/* When the n-th allocation fails the handshake is refused or the connection
 * ends, and the next client is served. */
static void a_lack_of_memory_costs_one_websocket(void **state)
{
    static const char request[] = "GET /registry HTTP/1.1\r\n" HELLO;
    struct fixture *f = *state;
    struct mr_api_stats stats;

    register_node(f, "one", "one-1");
    for (uint64_t n = 0; n < 40; n++) {
        int fd = dial(f);
        struct pollfd p = {.fd = fd, .events = POLLIN};

        mr_mem_fail_after(n);
        send_all(fd, request, strlen(request));
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        mr_mem_fail_after(UINT64_MAX);
        close(fd);
        do {
            mr_api_stats(f->api, &stats);
        } while (stats.streams != 0 || stats.connections != 0);
    }
    int fd = open_socket(f, "/registry");

    expect_text(fd, "\"name\":\"one\"");
    close(fd);
}

static void tokens_are_whole_words(void **state)
{
    (void)state;
    assert_true(websocket_has_token("a, UPGRADE ,b", "upgrade"));
    assert_false(websocket_has_token("upgrades, up", "upgrade"));
    assert_false(websocket_has_token("", "upgrade"));
    assert_false(websocket_has_token(NULL, "upgrade"));
}

/* Frames of clients must be masked (RFC 6455 §5.1), and make sense. */
static void garbage_is_answered_with_a_close(void **state)
{
    static const char *const garbage[] = {
        "\x81\x02hi",               /* Not masked. */
        "\xf1\x80\x01\x01\x01\x01", /* Reserved bits. */
        "\x83\x80\x01\x01\x01\x01", /* Reserved opcode. */
        "\x09\x80\x01\x01\x01\x01", /* A fragmented ping. */
    };

    for (size_t i = 0; i < MR_ARRAY_LEN(garbage); i++) {
        int fd = open_socket(*state, "/registry");

        send_all(fd, garbage[i], strlen(garbage[i]));
        expect_close(fd, 0);
        expect_end(fd);
    }
}

/* A frame is bounded, and refused by its head. */
static void a_frame_of_a_client_that_is_too_long_ends_it(void **state)
{
    /* 1 MiB is announced. */
    static const char head[] = "\x82\xff\0\0\0\0\0\x10\0\0\x01\x02\x03\x04x";
    int fd = open_socket(*state, "/registry");

    send_all(fd, head, sizeof head - 1);
    expect_close(fd, 1009);
    close(fd);
}

/* Thousands of pings whose answers nobody reads: the server stops reading. */
static void a_client_that_only_asks_is_not_read_from(void **state)
{
    static const char ping[] = "\x89\x80\x01\x02\x03\x04";
    const struct fixture *f = *state;
    int fd = open_socket(f, "/registry");
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int small = 16384; /* The system would hold millions of answers for us. */
    size_t n = 0;

    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    while (n < 64 * 1024 * 1024 && poll(&p, 1, 300) == 1) {
        ssize_t sent = send(fd, ping, 6, MSG_DONTWAIT | MSG_NOSIGNAL);

        n += sent > 0 ? (size_t)sent : 0;
    }
    assert_true(n < 64 * 1024 * 1024);
    expect(f, "GET", "/registry", NULL, 200, "[]"); /* Others are served. */
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_watcher_gets_the_snapshot_and_changes,
                                        start, stop),
        cmocka_unit_test_setup_teardown(
            a_watcher_of_one_service_hears_of_it_only, start, stop),
        cmocka_unit_test_setup_teardown(pings_are_answered, start, stop),
        cmocka_unit_test_setup_teardown(messages_of_clients_are_ignored, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_message_in_pieces_is_ignored, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_close_is_answered, start, stop),
        cmocka_unit_test_setup_teardown(frames_behind_the_handshake_are_read,
                                        start, stop),
        cmocka_unit_test_setup_teardown(the_service_says_goodbye_when_it_ends,
                                        start, stop),
        cmocka_unit_test_setup_teardown(watchers_are_counted, start, stop),
        cmocka_unit_test_setup_teardown(other_requests_get_the_list, start,
                                        stop),
        cmocka_unit_test(a_message_that_is_too_long_loses_its_endpoints),
        cmocka_unit_test(a_message_that_stays_too_long_is_refused),
        cmocka_unit_test_setup_teardown(a_wrong_handshake_is_refused, start,
                                        stop),
        cmocka_unit_test_setup_teardown(an_old_request_gets_the_list, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_lack_of_memory_costs_one_websocket,
                                        start, stop),
        cmocka_unit_test(tokens_are_whole_words),
        cmocka_unit_test_setup_teardown(garbage_is_answered_with_a_close, start,
                                        stop),
        cmocka_unit_test_setup_teardown(
            a_frame_of_a_client_that_is_too_long_ends_it, start, stop),
        cmocka_unit_test_setup_teardown(
            a_client_that_only_asks_is_not_read_from, start, stop),
    };

    return cmocka_run_group_tests_name("api_websocket", tests, NULL, NULL);
}
