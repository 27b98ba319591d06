/* SPDX-License-Identifier: Apache-2.0 */
/* raft/transport: two ends on real sockets, and strangers who speak rubbish. */
#include "raft/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "raft_fixture.h"

#include "base/log.h"

#define WAIT_MS 10000

struct end {
    struct transport *t;
    struct frame_hello self;
    char address[64];
    unsigned n_up;
    unsigned n_down;
    unsigned n_messages;
    uint64_t last_seq;
    bool is_in_order;
    unsigned n_gossip;
    unsigned n_hello;
    struct frame_server last_hello;
    unsigned n_probed;
    enum mr_err probe_err;
    enum frame_refusal probe_refusal;
    unsigned n_snapshots;
    unsigned n_opaque;
    char opaque[16]; /* The last. */
    int http_fd;     /* The last that was handed over; 0: none. */
    bool is_closed;
};

static char too_long[MR_RAFT_MESSAGE_MAX + 1];

struct world {
    uv_loop_t loop;
    uv_timer_t timer;
    struct end ends[2];
};

static void get_hello(void *arg, struct frame_hello *out)
{
    struct end *e = arg;

    *out = e->self;
}

static void on_hello(void *arg, const struct frame_hello *hello)
{
    struct end *e = arg;

    e->n_hello++;
    e->last_hello = hello->self;
}

static void on_up(void *arg, uint64_t peer)
{
    (void)peer;
    ((struct end *)arg)->n_up++;
}

static void on_down(void *arg, uint64_t peer)
{
    (void)peer;
    ((struct end *)arg)->n_down++;
}

static void on_message(void *arg, uint64_t peer,
                       const struct driver_message *msg)
{
    struct end *e = arg;

    (void)peer;
    e->is_in_order = e->is_in_order && msg->forward.prev_seq == e->last_seq + 1;
    e->last_seq = msg->forward.prev_seq;
    e->n_messages++;
}

static void on_gossip(void *arg, uint64_t peer, const struct frame_gossip *g)
{
    (void)peer;
    (void)g;
    ((struct end *)arg)->n_gossip++;
}

static void on_promise(void *arg, uint64_t peer, const struct frame *f)
{
    (void)arg;
    (void)peer;
    (void)f;
}

static void on_probed(void *arg, const char *address, enum mr_err err,
                      enum frame_refusal refusal)
{
    struct end *e = arg;

    (void)address;
    e->n_probed++;
    e->probe_err = err;
    e->probe_refusal = refusal;
}

static void on_snapshot(void *arg, uint64_t peer, int fd)
{
    (void)peer;
    (void)close(fd);
    ((struct end *)arg)->n_snapshots++;
}

static void on_http(void *arg, int fd)
{
    ((struct end *)arg)->http_fd = fd;
}

static void on_opaque(void *arg, uint64_t peer, struct mr_slice bytes)
{
    struct end *e = arg;

    (void)peer;
    (void)snprintf(e->opaque, sizeof e->opaque, "%.*s", (int)bytes.len,
                   (const char *)bytes.data);
    e->n_opaque++;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* Makes the loop come round. */
}

#define WAIT_FOR(w, cond)                                                      \
    do {                                                                       \
        uint64_t until_ = mr_now_ms(mr_clock_system()) + WAIT_MS;              \
        while (!(cond)) {                                                      \
            if (mr_now_ms(mr_clock_system()) > until_) {                       \
                fail_msg("waited in vain for %s", #cond);                      \
            }                                                                  \
            (void)uv_run(&(w)->loop, UV_RUN_ONCE);                             \
        }                                                                      \
    } while (0)

static void open_end(struct world *w, unsigned i)
{
    struct end *e = &w->ends[i];
    struct transport_options o = {
        .loop = &w->loop,
        .clock = mr_clock_system(),
        .random = mr_random_system(),
        .bind_host = "127.0.0.1",
        .arg = e,
        .get_hello = get_hello,
        .on_hello = on_hello,
        .on_up = on_up,
        .on_down = on_down,
        .on_message = on_message,
        .on_gossip = on_gossip,
        .on_promise = on_promise,
        .on_probed = on_probed,
        .on_snapshot = on_snapshot,
        .on_http = on_http,
        .on_opaque = on_opaque,
    };

    e->is_in_order = true;
    assert_int_equal(transport_open(&o, &e->t, NULL), MR_OK);
    (void)snprintf(e->address, sizeof e->address, "127.0.0.1:%u",
                   (unsigned)transport_port(e->t));
    e->self.self.id = i + 1;
    e->self.cluster_id = 7;
    (void)snprintf(e->self.self.node_id, sizeof e->self.self.node_id, "%s",
                   FX_UUID);
    (void)snprintf(e->self.self.name, sizeof e->self.self.name, "n%u", i);
    memcpy(e->self.self.address, e->address, sizeof e->address);
    (void)snprintf(e->self.datacenter, sizeof e->self.datacenter, "dc1");
    transport_set_cluster(e->t, 7);
}

static void on_closed(void *arg)
{
    ((struct end *)arg)->is_closed = true;
}

static void close_end(struct world *w, unsigned i)
{
    w->ends[i].is_closed = false;
    transport_close(w->ends[i].t, on_closed, &w->ends[i]);
    WAIT_FOR(w, w->ends[i].is_closed);
    w->ends[i].t = NULL;
}

static int setup(void **state)
{
    struct world *w = mr_calloc(1, sizeof *w);

    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_timer_init(&w->loop, &w->timer), 0);
    assert_int_equal(uv_timer_start(&w->timer, on_tick, 10, 10), 0);
    open_end(w, 0);
    open_end(w, 1);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < 2; i++) {
        if (w->ends[i].t != NULL) {
            close_end(w, i);
        }
    }
    uv_close((uv_handle_t *)&w->timer, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    mr_free(w);
    return 0;
}

static void connect_ends(struct world *w)
{
    assert_int_equal(transport_keep(w->ends[0].t, 2, w->ends[1].address),
                     MR_OK);
    WAIT_FOR(w, w->ends[0].n_up == 1);
}

/* Send one forward with @bytes of commands; false when it was dropped. */
static bool send_one(struct world *w, uint64_t seq, size_t bytes)
{
    static char data[1 << 20];
    struct mr_buf *out = transport_out(w->ends[0].t, 2);
    struct driver_message msg = {.type = DRIVER_MSG_FORWARD, .term = 1};

    if (out == NULL) {
        return false;
    }
    msg.forward.prev_seq = seq;
    msg.forward.data = mr_slice(data, bytes);
    frame_put_message(out, &msg);
    return true;
}

/* A stranger's blocking socket to the first end. */
static int stranger(struct world *w)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    addr.sin_port = htons(transport_port(w->ends[0].t));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Whether the first end has closed @fd; what it sent is thrown away. */
static bool is_ended(int fd)
{
    char buf[4096];
    ssize_t n = recv(fd, buf, sizeof buf, 0);

    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* ------------------------------------------------------------- success */

/* What is sent arrives, once and in order, large and small. */
static void messages_arrive_in_order(void **state)
{
    struct world *w = *state;
    uint64_t seq = 0;

    connect_ends(w);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 20; i++) {
            size_t bytes = i == 7 ? 200000 : i * 10;

            while (!send_one(w, seq + 1, bytes)) {
                transport_flush(w->ends[0].t);
                (void)uv_run(&w->loop, UV_RUN_ONCE);
            }
            seq++;
        }
        transport_flush(w->ends[0].t);
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    WAIT_FOR(w, w->ends[1].n_messages == seq);
    assert_true(w->ends[1].is_in_order);
    assert_int_equal(w->ends[0].last_hello.id, 2);
    assert_int_equal(w->ends[1].last_hello.id, 1);
}

/* A peer that goes and comes back is connected again. */
static void lost_peer_is_dialled_again(void **state)
{
    struct world *w = *state;

    connect_ends(w);
    close_end(w, 1);
    WAIT_FOR(w, w->ends[0].n_down == 1);
    assert_null(transport_out(w->ends[0].t, 2));
    memset(&w->ends[1], 0, sizeof w->ends[1]);
    open_end(w, 1);
    assert_int_equal(transport_keep(w->ends[0].t, 2, w->ends[1].address),
                     MR_OK);
    WAIT_FOR(w, w->ends[0].n_up == 2);
}

/* A probe tells who is there and becomes the connection. */
static void probe_becomes_the_connection(void **state)
{
    struct world *w = *state;

    transport_probe(w->ends[0].t, w->ends[1].address, "two");
    WAIT_FOR(w, w->ends[0].n_probed == 1);
    assert_int_equal(w->ends[0].probe_err, MR_OK);
    assert_int_equal(w->ends[0].n_up, 1);
    assert_true(transport_is_up(w->ends[0].t, 2));
}

/* ------------------------------------------------------------- failure */

/* Nobody listens there. */
static void probe_of_nobody_fails(void **state)
{
    struct world *w = *state;

    transport_probe(w->ends[0].t, "127.0.0.1:1", "nobody");
    WAIT_FOR(w, w->ends[0].n_probed == 1);
    assert_int_equal(w->ends[0].probe_err, MR_E_UNREACHABLE);
}

/* A server that dials itself learns that. */
static void calling_oneself_is_told(void **state)
{
    struct world *w = *state;

    transport_probe(w->ends[0].t, w->ends[0].address, "me");
    WAIT_FOR(w, w->ends[0].n_probed == 1);
    assert_int_equal(w->ends[0].probe_refusal, FRAME_IS_SELF);
    assert_int_equal(w->ends[0].n_up, 0);
}

/* Another cluster is refused, with a reason, and counted. */
static void other_cluster_is_refused(void **state)
{
    struct world *w = *state;
    struct transport_stats stats;

    w->ends[1].self.cluster_id = 8;
    transport_set_cluster(w->ends[1].t, 8);
    transport_probe(w->ends[0].t, w->ends[1].address, "two");
    WAIT_FOR(w, w->ends[0].n_probed == 1);
    assert_int_equal(w->ends[0].probe_refusal, FRAME_OTHER_CLUSTER);
    transport_stats(w->ends[1].t, &stats);
    assert_int_equal(stats.refused, 1);
}

/* Another server answers where one was expected. */
static void wrong_server_is_not_taken(void **state)
{
    struct world *w = *state;
    struct transport_stats stats = {0};

    assert_int_equal(transport_keep(w->ends[0].t, 99, w->ends[1].address),
                     MR_OK);
    while (stats.refused == 0) {
        (void)uv_run(&w->loop, UV_RUN_ONCE);
        transport_stats(w->ends[1].t, &stats);
    }
    assert_int_equal(w->ends[0].n_up, 0);
}

/* A member of no cluster yet may gossip; its raft messages are dropped. */
static void messages_of_outsiders_are_dropped(void **state)
{
    struct world *w = *state;
    struct frame_gossip g;

    w->ends[0].self.cluster_id = 0;
    connect_ends(w);
    assert_true(send_one(w, 1, 10));
    memset(&g, 0, sizeof g);
    frame_put_gossip(transport_out(w->ends[0].t, 2), &g);
    transport_flush(w->ends[0].t);
    WAIT_FOR(w, w->ends[1].n_gossip == 1);
    assert_int_equal(w->ends[1].n_messages, 0);
    g.cluster_id = 7;
    frame_put_gossip(transport_out(w->ends[0].t, 2), &g);
    assert_true(send_one(w, 1, 10));
    transport_flush(w->ends[0].t);
    WAIT_FOR(w, w->ends[1].n_messages == 1);
}

/* Rubbish, of any length, ends the connection and nothing else. */
static void rubbish_ends_the_connection(void **state)
{
    static const char *const texts[] = {
        "get / http/1.1\r\n\r\n",
        "mregrpc1\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        "mregrpc1\0\0\0\x08\0\x40\0\0\0\0\0\0",
        "mregrpc1\0\0\0\x0c\0\x40\0\0\0\0\0\x04\xff\xff\xff\xff",
        "mregrpc1\0\0\0\x08\0\x01\0\0\0\0\0\0",
    };
    static const size_t lens[] = {18, 20, 20, 24, 20};
    struct world *w = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        int fd = stranger(w);

        assert_int_equal(send(fd, texts[i], lens[i], MSG_NOSIGNAL), lens[i]);
        WAIT_FOR(w, is_ended(fd));
        (void)close(fd);
    }
    connect_ends(w);
}

/* Who speaks HTTP is handed over, and nothing of what it said is missing. */
static void http_is_handed_over_untouched(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\n\r\n";
    struct world *w = *state;
    char heard[64] = "";
    int fd = stranger(w);

    assert_int_equal(send(fd, text, sizeof text - 1, MSG_NOSIGNAL),
                     sizeof text - 1);
    WAIT_FOR(w, w->ends[0].http_fd != 0);
    assert_int_equal(recv(w->ends[0].http_fd, heard, sizeof heard, 0),
                     sizeof text - 1);
    assert_string_equal(heard, text);
    assert_int_equal(send(w->ends[0].http_fd, "hello", 5, MSG_NOSIGNAL), 5);
    assert_int_equal(recv(fd, heard, sizeof heard, 0), 5);
    (void)close(w->ends[0].http_fd);
    (void)close(fd);
    connect_ends(w);
}

/* Who comes while very many say nothing waits, and is not turned away. */
static void crowd_makes_others_wait(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\n\r\n";
    struct world *w = *state;
    int silent[256];
    int fd;

    for (size_t i = 0; i < MR_ARRAY_LEN(silent); i++) {
        silent[i] = stranger(w);
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    fd = stranger(w);
    assert_int_equal(send(fd, text, sizeof text - 1, MSG_NOSIGNAL),
                     sizeof text - 1);
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(w->ends[0].http_fd, 0);
    assert_false(is_ended(fd));
    (void)close(silent[0]);
    WAIT_FOR(w, w->ends[0].http_fd != 0);
    (void)close(w->ends[0].http_fd);
    (void)close(fd);
    for (size_t i = 1; i < MR_ARRAY_LEN(silent); i++) {
        (void)close(silent[i]);
    }
    connect_ends(w);
}

/* The owner's messages arrive as they are; one that is too long ends the
 * connection. */
static void opaque_messages_arrive_whole(void **state)
{
    struct world *w = *state;
    struct mr_buf *out;

    connect_ends(w);
    out = transport_out(w->ends[0].t, 2);
    assert_non_null(out);
    frame_put_opaque(out, mr_slice_str("first"));
    frame_put_opaque(out, mr_slice_str("second"));
    transport_flush(w->ends[0].t);
    WAIT_FOR(w, w->ends[1].n_opaque == 2);
    assert_string_equal(w->ends[1].opaque, "second");
    out = transport_out(w->ends[0].t, 2);
    assert_non_null(out);
    frame_put_opaque(out, mr_slice(too_long, sizeof too_long));
    transport_flush(w->ends[0].t);
    WAIT_FOR(w, w->ends[0].n_down > 0);
    assert_int_equal(w->ends[1].n_opaque, 2);
}

/* A Hello that comes byte by byte is understood. */
static void slow_hello_is_understood(void **state)
{
    struct world *w = *state;
    struct mr_buf b = MR_BUF_INIT;
    struct frame_hello hello = w->ends[1].self;
    int fd = stranger(w);

    hello.version = hello.min_version = 1;
    hello.purpose = FRAME_FOR_PEER;
    mr_buf_add(&b, FRAME_PREFACE, FRAME_PREFACE_LEN);
    frame_put_hello(&b, &hello);
    for (size_t i = 0; i < b.len; i++) {
        assert_int_equal(w->ends[0].n_hello, 0);
        assert_int_equal(send(fd, b.data + i, 1, MSG_NOSIGNAL), 1);
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    WAIT_FOR(w, w->ends[0].n_hello == 1);
    (void)close(fd);
    mr_buf_deinit(&b);
}

/* A peer that accepts but does not read: what is kept for it is bounded. */
static void slow_reader_is_bounded(void **state)
{
    struct world *w = *state;
    struct mr_buf b = MR_BUF_INIT;
    struct frame_welcome welcome;
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    char address[64];
    uint64_t sent = 0;
    int fd = -1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u",
                   (unsigned)ntohs(addr.sin_port));
    assert_int_equal(transport_keep(w->ends[0].t, 2, address), MR_OK);
    WAIT_FOR(w, (fd = accept(listener, NULL, NULL)) >= 0);
    memset(&welcome, 0, sizeof welcome);
    welcome.hello = w->ends[1].self;
    welcome.hello.version = welcome.hello.min_version = 1;
    frame_put_welcome(&b, &welcome);
    assert_int_equal(send(fd, b.data, b.len, MSG_NOSIGNAL), b.len);
    WAIT_FOR(w, w->ends[0].n_up == 1);
    while (send_one(w, sent, 1 << 20)) {
        transport_flush(w->ends[0].t);
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
        sent++;
        assert_true(sent < 100);
    }
    assert_true(sent > 2);
    (void)close(fd);
    (void)close(listener);
    mr_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_arrive_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lost_peer_is_dialled_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(probe_becomes_the_connection, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(probe_of_nobody_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(calling_oneself_is_told, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(other_cluster_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(wrong_server_is_not_taken, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(messages_of_outsiders_are_dropped,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(rubbish_ends_the_connection, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(http_is_handed_over_untouched, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(crowd_makes_others_wait, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(opaque_messages_arrive_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(slow_hello_is_understood, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(slow_reader_is_bounded, setup,
                                        teardown),
    };

    mr_log_set_level(MR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
