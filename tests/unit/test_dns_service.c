/* SPDX-License-Identifier: Apache-2.0 */
/* dns/dns, dns/udp, dns/tcp: the service on real sockets and threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "dns/mr_dns.h"
#include "dns/tcp.h"
#include "tests/unit/dns_message.h"
#include "tests/unit/dns_store.h"

#define TIMEOUT_S 10 /* Of a test that fails; none waits for it otherwise. */

struct fixture {
    struct store store;
    struct mr_dns *dns;
    struct mr_dns_options options;
    struct sockaddr_in address;
    uint8_t in[70000];
    size_t len;
    struct msg msg;
};

static _Atomic uint64_t fake_ms;

static uint64_t clock_ms(const struct mr_clock *clock)
{
    (void)clock;
    return atomic_load(&fake_ms);
}

static const struct mr_clock fake_clock = {clock_ms, clock_ms};

static bool has_leader(void *arg)
{
    (void)arg;
    return true;
}

static bool fill(struct store *s)
{
    char node[32];
    char address[32];

    for (int i = 0; i < 1000; i++) {
        struct reg r = {.node = node,
                        .address = address,
                        .service = i < 3 ? "web" : "huge",
                        .port = i};

        sprintf(node, "a-node-with-a-name-%d", i);
        sprintf(address, "10.0.%d.%d", i / 256, i % 256);
        if (!store_register(s, &r)) {
            return false;
        }
    }
    return true;
}

static int open_store(void **state)
{
    static struct store store;

    *state = &store;
    return store_open(&store) && fill(&store) ? 0 : -1;
}

static int close_store(void **state)
{
    store_close(*state);
    return 0;
}

static void *group_state; /* The store; each case has a fixture over it. */

static int set_up(void **state)
{
    static const char *const addresses[] = {"127.0.0.1"};
    static const char *const alt[] = {"consul"};
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return -1;
    }
    group_state = *state;
    f->store = *(struct store *)group_state;
    f->options = (struct mr_dns_options){.addresses = addresses,
                                         .n_addresses = 1,
                                         .n_workers = 2,
                                         .domain = "micro",
                                         .alt_domains = alt,
                                         .n_alt_domains = 1,
                                         .datacenter = "dc1",
                                         .node_name = "n1",
                                         .tcp_max_connections = 4,
                                         .kv = f->store.kv,
                                         .clock = &fake_clock,
                                         .random = mr_random_system(),
                                         .has_leader = has_leader};
    *state = f;
    if (mr_dns_start(&f->options, &f->dns, NULL) != MR_OK) {
        return -1;
    }
    f->address.sin_family = AF_INET;
    f->address.sin_port = htons(mr_dns_port(f->dns));
    f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    mr_dns_stop(f->dns);
    free(f);
    *state = group_state;
    return 0;
}

static int connect_to(struct fixture *f, int type)
{
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    int fd = socket(AF_INET, type, 0);

    assert_true(fd >= 0);
    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(
        connect(fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
    return fd;
}

/* A query with its length in front; the bytes in all. */
static size_t framed(const char *name, uint16_t type, uint8_t *out)
{
    struct ask a = {.name = name, .type = type};
    size_t len = msg_query(&a, out + 2);

    msg_put16(out, (unsigned)len);
    return len + 2;
}

static void send_all(int fd, const void *data, size_t len)
{
    assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

/* Read one answer with its length in front. false: the connection ended. */
static bool receive(struct fixture *f, int fd)
{
    size_t want = 2;
    ssize_t n;

    for (f->len = 0; f->len < want; f->len += (size_t)n) {
        n = recv(fd, f->in + f->len, want - f->len, 0);
        if (n <= 0) {
            assert_true(n == 0 || errno == ECONNRESET);
            return false;
        }
        if (f->len < 2 && f->len + (size_t)n >= 2) {
            want = 2 + msg_get16(f->in);
        }
    }
    assert_true(msg_parse(f->in + 2, f->len - 2, &f->msg));
    return true;
}

/* ------------------------------------------------------------- success */

/* A datagram is answered to its sender, by whichever worker. */
static void udp_answers_its_sender(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro", .type = 33};
    struct mr_dns_stats stats;
    uint8_t packet[512];
    size_t len = msg_query(&a, packet);

    for (int i = 0; i < 16; i++) {
        int fd = connect_to(f, SOCK_DGRAM);
        ssize_t n;

        send_all(fd, packet, len);
        n = recv(fd, f->in, sizeof f->in, 0);
        assert_true(n > 0);
        assert_true(msg_parse(f->in, (size_t)n, &f->msg));
        assert_int_equal(f->msg.counts[1], 3);
        (void)close(fd);
    }
    mr_dns_stats(f->dns, &stats);
    assert_int_equal(stats.udp_queries, 16);
    assert_true(stats.cache_hits >= 14);
}

/* A socket on every address answers from the one that was asked: a connected
 * client would not see an answer from another. */
static void a_wildcard_socket_answers_from_the_address_asked(void **state)
{
    struct fixture *f = *state;
    static const char *const any[] = {"0.0.0.0", "::"};
    struct ask a = {.name = "web.service.micro", .type = 33};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6,
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    uint8_t packet[512];
    size_t len = msg_query(&a, packet);
    int fd;

    mr_dns_stop(f->dns);
    f->dns = NULL;
    f->options.addresses = any;
    f->options.n_addresses = 2;
    if (mr_dns_start(&f->options, &f->dns, NULL) != MR_OK) {
        f->options.n_addresses = 1; /* A machine without IPv6. */
        assert_int_equal(mr_dns_start(&f->options, &f->dns, NULL), MR_OK);
    }
    f->address.sin_port = htons(mr_dns_port(f->dns));
    f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 7);
    fd = connect_to(f, SOCK_DGRAM);
    send_all(fd, packet, len);
    assert_true(recv(fd, f->in, sizeof f->in, 0) > 0);
    (void)close(fd);
    if (f->options.n_addresses == 1) {
        return;
    }
    six.sin6_port = f->address.sin_port;
    fd = socket(AF_INET6, SOCK_DGRAM, 0);
    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&six, sizeof six), 0);
    send_all(fd, packet, len);
    assert_true(recv(fd, f->in, sizeof f->in, 0) > 0);
    (void)close(fd);
}

/* Several queries in one segment get as many answers. */
static void tcp_answers_a_pipeline(void **state)
{
    struct fixture *f = *state;
    uint8_t data[2048];
    size_t len = 0;
    int fd = connect_to(f, SOCK_STREAM);

    for (int i = 0; i < 20; i++) {
        len += framed(i % 2 ? "web.service.micro" : "x.micro", 33, data + len);
    }
    send_all(fd, data, len);
    for (int i = 0; i < 20; i++) {
        assert_true(receive(f, fd));
        assert_int_equal(f->msg.counts[1], i % 2 ? 3 : 0);
    }
    (void)close(fd);
}

/* A query may come byte by byte. */
static void tcp_takes_half_frames(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    size_t len = framed("web.service.micro", 33, data);
    int fd = connect_to(f, SOCK_STREAM);

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < len; i++) {
            send_all(fd, data + i, 1);
        }
        assert_true(receive(f, fd));
        assert_int_equal(f->msg.counts[1], 3);
    }
    (void)close(fd);
}

/* A peer that does not read is waited for, and then gets every answer. */
static void tcp_waits_for_a_peer_that_does_not_read(void **state)
{
    struct fixture *f = *state;
    enum { N = 200 }; /* Times 64 KiB: beyond what the kernel keeps. */
    uint8_t data[N * 64];
    size_t len = 0;
    int fd = connect_to(f, SOCK_STREAM);

    for (int i = 0; i < N; i++) {
        len += framed("huge.service.micro", 33, data + len);
    }
    send_all(fd, data, len);
    for (int i = 0; i < N; i++) {
        assert_true(receive(f, fd));
        assert_true(f->msg.counts[1] > 500);
    }
    (void)close(fd);
}

/* A peer that says it has no more to ask still gets its answer. */
static void tcp_answers_after_a_half_close(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    size_t len = framed("web.service.micro", 33, data);
    int fd = connect_to(f, SOCK_STREAM);

    send_all(fd, data, len);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_true(receive(f, fd));
    assert_false(receive(f, fd));
    (void)close(fd);
}

/* ------------------------------------------------------------- failure */

/* A query from a port that answers everything gets no answer. One worker: the
 * second answer proves that the first query was seen. */
static void reflectors_get_no_answer(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.name = "web.service.micro", .type = 33};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(19)};
    uint8_t packet[512];
    size_t len = msg_query(&a, packet);
    int reflector = socket(AF_INET, SOCK_DGRAM, 0);
    int other;

    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(reflector, (struct sockaddr *)&from, sizeof from) != 0) {
        (void)close(reflector);
        skip(); /* Low ports are for root. */
    }
    mr_dns_stop(f->dns);
    f->dns = NULL;
    f->options.n_workers = 1;
    assert_int_equal(mr_dns_start(&f->options, &f->dns, NULL), MR_OK);
    f->address.sin_port = htons(mr_dns_port(f->dns));
    assert_int_equal(sendto(reflector, packet, len, 0,
                            (struct sockaddr *)&f->address, sizeof f->address),
                     len);
    other = connect_to(f, SOCK_DGRAM);
    send_all(other, packet, len);
    assert_true(recv(other, f->in, sizeof f->in, 0) > 0);
    assert_int_equal(recv(reflector, f->in, sizeof f->in, MSG_DONTWAIT), -1);
    (void)close(other);
    (void)close(reflector);
}

/* Lengths that no query has end the connection without an answer. */
static void tcp_ends_at_a_length_that_is_nonsense(void **state)
{
    static const char *const bad[] = {"\0\0", "\0\13xxxxxxxxxxx", "\377\377",
                                      "\20\1"};
    static const size_t lens[] = {2, 13, 2, 2};
    struct fixture *f = *state;

    for (size_t i = 0; i < 4; i++) {
        int fd = connect_to(f, SOCK_STREAM);

        send_all(fd, bad[i], lens[i]);
        assert_false(receive(f, fd));
        (void)close(fd);
    }
}

/* Make the TCP thread look at its deadlines now. */
static void knock(struct fixture *f)
{
    uint8_t data[512];
    size_t len = framed("web.service.micro", 33, data);
    int fd = connect_to(f, SOCK_STREAM);

    send_all(fd, data, len);
    assert_true(receive(f, fd));
    (void)close(fd);
}

/* Idle connections end, and so do those that feed a query in drops. */
static void tcp_ends_the_idle_and_the_slow(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    size_t len = framed("web.service.micro", 33, data);
    int idle = connect_to(f, SOCK_STREAM);
    int slow = connect_to(f, SOCK_STREAM);

    send_all(slow, data, len);
    assert_true(receive(f, slow));
    knock(f);
    send_all(slow, data, 5);
    knock(f);
    atomic_fetch_add(&fake_ms, DNS_TCP_FRAME_MS - 1000);
    send_all(slow, data + 5, 1);
    knock(f);
    atomic_fetch_add(&fake_ms, 1001);
    knock(f);
    assert_false(receive(f, slow));
    send_all(idle, data, len);
    assert_true(receive(f, idle));
    knock(f);
    atomic_fetch_add(&fake_ms, DNS_TCP_IDLE_MS);
    knock(f);
    assert_false(receive(f, idle));
    (void)close(idle);
    (void)close(slow);
}

/* When all places are taken, the quietest connection makes room. */
static void tcp_gives_the_quietest_place_away(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    size_t len = framed("web.service.micro", 33, data);
    struct mr_dns_stats stats;
    int fds[6];

    for (int i = 0; i < 6; i++) {
        fds[i] = connect_to(f, SOCK_STREAM);
        send_all(fds[i], data, len);
        assert_true(receive(f, fds[i]));
        if (i == 3) { /* The first is no longer the quietest. */
            send_all(fds[0], data, len);
            assert_true(receive(f, fds[0]));
        }
    }
    assert_false(receive(f, fds[1]));
    assert_false(receive(f, fds[2]));
    send_all(fds[0], data, len);
    assert_true(receive(f, fds[0]));
    mr_dns_stats(f->dns, &stats);
    assert_int_equal(stats.tcp_connections, 4);
    for (int i = 0; i < 6; i++) {
        (void)close(fds[i]);
    }
}

/* A port that is taken, an address that is not ours, and texts that are none:
 * each has its own error and sentence. */
static void what_cannot_be_bound_is_told_apart(void **state)
{
    struct fixture *f = *state;
    const char *address = "127.0.0.1";
    struct mr_dns_options o = f->options;
    struct mr_dns *dns = NULL;
    struct mr_detail detail;
    char text[128];

    o.port = mr_dns_port(f->dns);
    o.addresses = &address;
    assert_int_equal(mr_dns_start(&o, &dns, &detail), MR_E_INUSE);
    snprintf(text, sizeof text,
             "DNS port %u of 127.0.0.1 is in use by another program", o.port);
    assert_string_equal(detail.text, text);
    address = "192.0.2.1";
    assert_int_equal(mr_dns_start(&o, &dns, &detail), MR_E_ADDRESS);
    address = "localhost";
    assert_int_equal(mr_dns_start(&o, &dns, &detail), MR_E_ADDRESS);
    address = "127.0.0.1";
    o.domain = "-..-";
    assert_int_equal(mr_dns_start(&o, &dns, &detail), MR_E_INVALID);
    o = f->options;
    o.n_addresses = 0;
    assert_int_equal(mr_dns_start(&o, &dns, &detail), MR_E_INVALID);
    assert_null(dns);
}

/* Open descriptors of this process. */
static unsigned count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

/* Whichever allocation of the start fails, it leaves nothing behind. */
static void every_allocation_of_the_start_may_fail(void **state)
{
    struct fixture *f = *state;
    struct mr_dns *dns = NULL;
    unsigned n_fds = count_fds();
    enum mr_err err = MR_E_NOMEM;
    unsigned n = 0;

    for (; err != MR_OK; n++) {
        mr_mem_fail_after(n);
        err = mr_dns_start(&f->options, &dns, NULL);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        assert_true(err == MR_OK || count_fds() == n_fds);
    }
    assert_true(n > 8);
    mr_dns_stop(dns);
    assert_int_equal(count_fds(), n_fds);
}

/* ------------------------------------------------------------- together */

static atomic_bool is_done;
static atomic_int committed; /* The last port whose commit has returned. */

static bool set_port(struct store *s, int port)
{
    struct reg r = {.node = "a-node-with-a-name-1",
                    .address = "10.0.0.1",
                    .service = "web",
                    .port = port};

    return store_register(s, &r);
}

/* Count the service's port up as fast as the store takes it. */
static void *change(void *arg)
{
    for (int i = 1; !atomic_load(&is_done) && i < UINT16_MAX; i++) {
        if (!set_port(arg, i)) {
            break;
        }
        atomic_store(&committed, i);
    }
    return NULL;
}

/* The port in the answer's record for the node that changes. */
static int port_in(const struct msg *m)
{
    int port = -1;

    for (size_t i = 0; i < m->n_lines; i++) {
        (void)sscanf(m->lines[i],
                     "web.service.micro. 0 SRV 1 1 %d a-node-with-a-name-1.",
                     &port);
        if (strstr(m->lines[i], "name-1.") != NULL) {
            return port;
        }
    }
    return -1;
}

/* An answer is never older than what was committed before the question, and
 * always whole, however fast the state changes. For ThreadSanitizer too. */
static void answers_are_never_older_than_the_question(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    size_t len = framed("web.service.micro", 33, data);
    int tcp = connect_to(f, SOCK_STREAM);
    pthread_t writer;
    int before;

    atomic_store(&is_done, false);
    atomic_store(&committed, 0);
    assert_int_equal(pthread_create(&writer, NULL, change, &f->store), 0);
    for (int i = 0; i < 1000; i++) {
        int udp = connect_to(f, SOCK_DGRAM);
        ssize_t n;

        before = atomic_load(&committed);
        send_all(udp, data + 2, len - 2);
        send_all(tcp, data, len);
        n = recv(udp, f->in, sizeof f->in, 0);
        assert_true(n > 0);
        assert_true(msg_parse(f->in, (size_t)n, &f->msg));
        assert_int_equal(f->msg.counts[1], 3);
        assert_true(i == 0 || port_in(&f->msg) >= before);
        assert_true(receive(f, tcp));
        assert_int_equal(f->msg.counts[1], 3);
        assert_true(i == 0 || port_in(&f->msg) >= before);
        (void)close(udp);
    }
    atomic_store(&is_done, true);
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_true(atomic_load(&committed) > 0);
    ((struct store *)group_state)->index = f->store.index;
    (void)close(tcp);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(udp_answers_its_sender),
        CASE(a_wildcard_socket_answers_from_the_address_asked),
        CASE(tcp_answers_a_pipeline),
        CASE(tcp_takes_half_frames),
        CASE(tcp_waits_for_a_peer_that_does_not_read),
        CASE(tcp_answers_after_a_half_close),
        CASE(reflectors_get_no_answer),
        CASE(tcp_ends_at_a_length_that_is_nonsense),
        CASE(tcp_ends_the_idle_and_the_slow),
        CASE(tcp_gives_the_quietest_place_away),
        CASE(what_cannot_be_bound_is_told_apart),
        CASE(every_allocation_of_the_start_may_fail),
        CASE(answers_are_never_older_than_the_question),
    };

    return cmocka_run_group_tests_name("dns_service", tests, open_store,
                                       close_store);
}
