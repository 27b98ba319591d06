/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long until all of many waiting readers of one key know of a change.
 *
 *   bench_watch ADDRESS:PORT READERS ROUNDS [blocking|stream] [KEY]
 *
 * Opens READERS connections, each with a blocking query (or a watch stream) of
 * one key, from 200 client addresses (servers bound the connections of one).
 * A round is one PUT; a reader's time is from the moment before the PUT is sent
 * until its answer has arrived. Prints the median, the 99% and the worst of each
 * round as JSON. Without rounds the readers wait until the input ends, and
 * "parked" is printed when they do. One thread, epoll; it shares the machine
 * with the server, so it looks every half a millisecond only: woken by every
 * answer it would take a quarter of the machine from those it measures, and a
 * time is that much too long at most.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define N_EVENTS 512
#define N_ADDRESSES 200
#define ROUND_LIMIT_MS 20000
#define LOOK_US 500
#define QUIET_MS 600
#define QUIET_HELD_MS 2000

enum kind { BLOCKING, STREAM };

struct reader {
    int fd;
    bool is_parked;
    uint64_t woken_us;
};

static struct {
    struct sockaddr_in server;
    const char *key;
    enum kind kind;
    int epoll_fd;
    size_t n;
    struct reader *readers;
    uint64_t index;
} bench;

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_watch: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* A connection from one of many addresses of the loopback network. */
static int connect_from(size_t i)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        die("socket");
    }
    from.sin_addr.s_addr = htonl(0x7f640001u + (uint32_t)(i % N_ADDRESSES));
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0) {
        die("bind");
    }
    if (connect(fd, (struct sockaddr *)&bench.server, sizeof bench.server) !=
        0) {
        die("connect");
    }
    return fd;
}

static void send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            die("send");
        }
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
}

static void ask(struct reader *r)
{
    char text[512];
    int len;

    if (bench.kind == STREAM) {
        len = snprintf(text, sizeof text,
                       "GET /v1/watch/key/%s HTTP/1.1\r\nHost: b\r\n\r\n",
                       bench.key);
    } else {
        len = snprintf(text, sizeof text,
                       "GET /v1/kv/%s?index=%llu&wait=10m HTTP/1.1\r\n"
                       "Host: b\r\n\r\n",
                       bench.key, (unsigned long long)bench.index);
    }
    send_all(r->fd, text, (size_t)len);
    r->is_parked = true;
}

/* Send a request on a connection of its own. */
static void send_request(int fd, const char *method, const char *body)
{
    char text[512];
    int len = snprintf(text, sizeof text,
                       "%s /v1/kv/%s HTTP/1.1\r\nHost: b\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       method, bench.key, strlen(body), body);

    send_all(fd, text, (size_t)len);
}

/* Receive its answer in full; the index header. */
static uint64_t receive_answer(int fd)
{
    char text[4096];
    size_t have = 0;

    for (;;) {
        ssize_t n = recv(fd, text + have, sizeof text - 1 - have, 0);

        if (n <= 0) {
            die("recv");
        }
        have += (size_t)n;
        text[have] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        const char *length = strcasestr(text, "\r\nContent-Length:");

        if (end != NULL && length != NULL && length < end &&
            have >= (size_t)(end + 4 - text) + strtoul(length + 17, NULL, 10)) {
            break;
        }
    }
    const char *index = strcasestr(text, "X-Consul-Index:");

    return index == NULL ? 0 : strtoull(index + 15, NULL, 10);
}

static uint64_t request(int fd, const char *method, const char *body)
{
    send_request(fd, method, body);
    return receive_answer(fd);
}

/* Take what came to the reader; true: it is news. */
static bool take(struct reader *r)
{
    char bytes[8192];
    ssize_t n = recv(r->fd, bytes, sizeof bytes, MSG_DONTWAIT);

    if (n == 0) {
        errno = ECONNRESET;
        die("a reader");
    }
    return n > 0;
}

static void rest(void)
{
    struct timespec t = {0, LOOK_US * 1000};

    (void)nanosleep(&t, NULL);
}

/* Wait until @n_expected readers have heard something, or @limit_ms passed. */
static size_t hear(size_t n_expected, int limit_ms)
{
    struct epoll_event events[N_EVENTS];
    uint64_t end = now_us() + (uint64_t)limit_ms * 1000;
    size_t n_heard = 0;

    while (n_heard < n_expected && now_us() < end) {
        int n = epoll_wait(bench.epoll_fd, events, N_EVENTS, 0);
        uint64_t now = now_us();

        if (n == 0) {
            rest();
        }
        for (int i = 0; i < n; i++) {
            struct reader *r = events[i].data.ptr;

            if (take(r) && r->is_parked) {
                r->woken_us = now;
                r->is_parked = false;
                n_heard++;
            }
        }
    }
    return n_heard;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void open_readers(void)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    for (size_t i = 0; i < bench.n; i++) {
        struct reader *r = &bench.readers[i];

        r->fd = connect_from(i);
        event.data.ptr = r;
        ask(r);
        if (epoll_ctl(bench.epoll_fd, EPOLL_CTL_ADD, r->fd, &event) != 0) {
            die("epoll_ctl");
        }
    }
    if (bench.kind == STREAM) {
        (void)hear(bench.n, ROUND_LIMIT_MS); /* What they begin with. */
    }
}

/* Let the server come to rest. */
static void settle(int quiet_ms)
{
    while (hear(1, quiet_ms) > 0) {
    }
}

static void round_of(int writer, unsigned number, uint64_t *times)
{
    char body[64];

    for (size_t i = 0; i < bench.n; i++) {
        bench.readers[i].is_parked = true;
    }
    (void)snprintf(body, sizeof body, "value-%u", number);
    uint64_t began = now_us();

    /* Readers may know before the writer does. */
    send_request(writer, "PUT", body);
    size_t n_heard = hear(bench.n, ROUND_LIMIT_MS);

    (void)receive_answer(writer);

    if (n_heard != bench.n) {
        fprintf(stderr, "bench_watch: %zu of %zu heard of the change\n",
                n_heard, bench.n);
        exit(1);
    }
    for (size_t i = 0; i < bench.n; i++) {
        times[i] = bench.readers[i].woken_us - began;
    }
    qsort(times, bench.n, sizeof *times, by_time);
}

static void park_again(int writer)
{
    if (bench.kind == BLOCKING) {
        bench.index = request(writer, "GET", "");
        for (size_t i = 0; i < bench.n; i++) {
            ask(&bench.readers[i]);
        }
    }
    settle(QUIET_MS);
}

static void parse(int argc, char **argv)
{
    struct rlimit files;
    char *colon = argc < 4 ? NULL : strchr(argv[1], ':');

    if (colon == NULL) {
        fprintf(stderr, "usage: bench_watch ADDRESS:PORT READERS ROUNDS "
                        "[blocking|stream] [KEY]\n");
        exit(2);
    }
    *colon = '\0';
    bench.server.sin_family = AF_INET;
    bench.server.sin_port = htons((uint16_t)atoi(colon + 1));
    (void)inet_pton(AF_INET, argv[1], &bench.server.sin_addr);
    bench.n = strtoul(argv[2], NULL, 10);
    bench.kind = argc > 4 && strcmp(argv[4], "stream") == 0 ? STREAM : BLOCKING;
    bench.key = argc > 5 ? argv[5] : "bench/watch";
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    bench.readers = calloc(bench.n, sizeof *bench.readers);
    bench.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
}

/* Keep the readers until the input ends; then let them hear of a change: none may
 * wait when we end, because Consul keeps what waits for a client that has gone,
 * descriptor and all. */
static int hold(int writer)
{
    char byte;

    puts("parked");
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    if (bench.kind == BLOCKING) {
        (void)request(writer, "PUT", "end");
        (void)hear(bench.n, ROUND_LIMIT_MS);
    }
    return 0;
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    unsigned rounds = (unsigned)strtoul(argv[3], NULL, 10);
    uint64_t *times = calloc(bench.n, sizeof *times);
    int writer = connect_from(0);

    (void)request(writer, "PUT", "value");
    bench.index = request(writer, "GET", "");
    open_readers();
    settle(rounds == 0 ? QUIET_HELD_MS : QUIET_MS);
    if (rounds == 0) {
        return hold(writer);
    }
    printf("{\"readers\": %zu, \"rounds\": [", bench.n);
    for (unsigned i = 0; i < rounds; i++) {
        round_of(writer, i, times);
        printf("%s{\"median_ms\": %.1f, \"p99_ms\": %.1f, \"max_ms\": %.1f}",
               i == 0 ? "" : ", ", (double)times[bench.n / 2] / 1000,
               (double)times[bench.n * 99 / 100] / 1000,
               (double)times[bench.n - 1] / 1000);
        (void)fflush(stdout);
        if (i + 1 < rounds) {
            park_again(writer);
        }
    }
    printf("]}\n");
    return 0;
}
