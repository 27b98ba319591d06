/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP side. What a connection does next follows from its fields:
 *
 *   out_len == 0: read; answer every whole query in the buffer in one write.
 *   passed:       a server is asked the first query in the buffer; until it has
 *                 answered nothing is read.
 *   out_len > 0:  the peer is slow to take answers. Wait until it has, and read
 *                 nothing; then go on with the queries that are left.
 *
 * A length that no query has (zero, or too large) ends the connection without
 * an answer, as does anything that the deadlines catch.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/mem.h"
#include "dns/forward.h"
#include "dns/tcp.h"
#include "dns/thread.h"

#define FRAME_HEADER_LEN 2
#define FRAME_MAX ((size_t)FRAME_HEADER_LEN + DNS_TCP_MAX)
#define SCRATCH_LEN (2 * FRAME_MAX)
#define EVENTS 64
#define TICK_MS 500 /* How late a deadline may be noticed. */
#define BACK_OFF_MS 50

/* A query that a server is asked. Given back through the queue; by then the
 * connection may be gone. */
struct passed {
    struct dns_passed base;
    struct mr_list link; /* In the queue of answers. */
    struct dns_tcp *tcp;
    struct connection *connection; /* NULL: it was closed. TCP thread. */
    struct mr_buf answer;
    size_t len;
    uint8_t query[]; /* Of len bytes. */
};

struct connection {
    struct mr_list link; /* In the list of connections, quietest first. */
    int fd;
    uint64_t deadline_ms;
    size_t have;    /* Bytes in the buffer, a query not yet answered. */
    size_t out_len; /* Bytes that wait in @out to be taken. */
    uint8_t *out;
    struct passed *passed;
    uint32_t watched; /* Events that epoll tells. */
    bool in_frame;    /* deadline_ms is that of a query, not of idling. */
    uint8_t in[FRAME_HEADER_LEN + DNS_TCP_QUERY_MAX];
};

struct dns_tcp {
    struct dns_responder responder;
    pthread_t thread;
    int epoll_fd;
    int wake_fd;
    int *fds;
    size_t n_fds;
    unsigned max_connections;
    unsigned n_connections;
    _Atomic uint64_t n_open; /* n_connections, for others to read. */
    atomic_bool is_stopping;
    atomic_uint n_passed;
    struct mr_queue answers; /* struct passed. */
    struct mr_list connections;
    uint8_t scratch[SCRATCH_LEN];
};

static uint64_t now_ms(const struct dns_tcp *t)
{
    return mr_now_ms(t->responder.shared->clock);
}

static void count_open(struct dns_tcp *t, int step)
{
    t->n_connections += (unsigned)step;
    atomic_store_explicit(&t->n_open, t->n_connections, memory_order_relaxed);
}

static void connection_close(struct dns_tcp *t, struct connection *c)
{
    if (c->passed != NULL) {
        c->passed->connection = NULL;
    }
    mr_list_remove(&c->link);
    (void)close(c->fd); /* Takes it out of epoll; nothing more is promised. */
    mr_free(c->out);
    mr_free(c);
    count_open(t, -1);
}

/* The quietest connection makes room. false: there is none. */
static bool close_quietest(struct dns_tcp *t)
{
    if (mr_list_empty(&t->connections)) {
        return false;
    }
    connection_close(
        t, mr_container_of(t->connections.next, struct connection, link));
    return true;
}

/* Start the time that the connection has for what it does now. */
static void set_deadline(struct dns_tcp *t, struct connection *c)
{
    bool in_frame = c->have > 0 || c->out_len > 0 || c->passed != NULL;

    if (in_frame && c->in_frame) {
        return; /* Single bytes do not buy time. */
    }
    c->in_frame = in_frame;
    c->deadline_ms =
        now_ms(t) + (in_frame ? DNS_TCP_FRAME_MS : DNS_TCP_IDLE_MS);
    if (!in_frame) {
        mr_list_remove(&c->link);
        mr_list_push(&t->connections, &c->link);
    }
}

/* What epoll is to tell of @c now. */
static uint32_t wanted(const struct connection *c)
{
    if (c->out_len > 0) {
        return EPOLLOUT;
    }
    return c->passed != NULL ? 0 : EPOLLIN;
}

static bool watch(const struct dns_tcp *t, struct connection *c, int op)
{
    struct epoll_event event = {.events = wanted(c), .data.ptr = c};

    c->watched = event.events;
    return epoll_ctl(t->epoll_fd, op, c->fd, &event) == 0;
}

/* Bytes of the first whole query in the buffer with its length; 0: not whole
 * yet; SIZE_MAX: the length is nonsense. */
static size_t frame_len(const struct connection *c, size_t at)
{
    size_t len;

    if (c->have - at < FRAME_HEADER_LEN) {
        return 0;
    }
    len = dns_get16(c->in + at);
    if (len < DNS_HEADER_LEN || len > DNS_TCP_QUERY_MAX) {
        return SIZE_MAX;
    }
    return c->have - at - FRAME_HEADER_LEN < len ? 0 : FRAME_HEADER_LEN + len;
}

/* ------------------------------------------------------------- passing on */

/* Any thread. */
static void on_passed(struct dns_passed *base, struct mr_slice answer)
{
    struct passed *p = mr_container_of(base, struct passed, base);

    mr_buf_add(&p->answer, answer.data, answer.len);
    /* Never closed while questions are on their way, and without a bound. */
    mr_assert(mr_queue_push(&p->tcp->answers, &p->link) == MR_OK);
}

static void passed_free(struct passed *p)
{
    mr_buf_deinit(&p->answer);
    mr_free(p);
}

/* Pass @packet on. Returns the bytes of an answer in @out, when it is known
 * already. */
static size_t pass(struct dns_tcp *t, struct connection *c,
                   struct mr_slice packet, uint8_t *out)
{
    struct passed *p;
    struct dns_query q;
    size_t len;

    if (!dns_screen(&t->responder, packet, &q, out, &len)) {
        return len;
    }
    p = mr_calloc(1, sizeof *p + packet.len);
    if (p != NULL) {
        p->base.n_passed = &t->n_passed;
        p->base.answered = on_passed;
        p->tcp = t;
        p->connection = c;
        p->len = packet.len;
        mr_list_init(&p->link);
        memcpy(p->query, packet.data, packet.len);
        c->passed = p;
        if (dns_pass(t->responder.shared, &p->base, &q,
                     mr_slice(p->query, p->len), false)) {
            return 0;
        }
        c->passed = NULL;
        passed_free(p);
    }
    return dns_servfail_write(packet.data, q.question_len, out);
}

static size_t respond(struct dns_tcp *t, struct connection *c,
                      struct mr_slice packet, uint8_t *out)
{
    return t->responder.shared->forward != NULL
               ? pass(t, c, packet, out)
               : dns_respond(&t->responder, packet, true, out);
}

/* Answer whole queries while there is room for answers. Returns the bytes of
 * answers in the scratch buffer. false: the connection must end. */
static bool answer_frames(struct dns_tcp *t, struct connection *c,
                          size_t *out_len)
{
    size_t used = 0;
    size_t at = 0;
    size_t frame;
    size_t len;

    while (SCRATCH_LEN - used >= FRAME_MAX && c->passed == NULL) {
        frame = frame_len(c, at);
        if (frame == SIZE_MAX) {
            return false;
        }
        if (frame == 0) {
            break;
        }
        len = respond(
            t, c,
            mr_slice(c->in + at + FRAME_HEADER_LEN, frame - FRAME_HEADER_LEN),
            t->scratch + used + FRAME_HEADER_LEN);
        if (len > 0) {
            dns_put16(t->scratch + used, (unsigned)len);
            used += FRAME_HEADER_LEN + len;
        }
        at += frame;
    }
    if (at > 0) {
        c->in_frame = false; /* What follows is a new query. */
    }
    c->have -= at;
    memmove(c->in, c->in + at, c->have);
    *out_len = used;
    return true;
}

/* Send as much of @data as goes; the rest is kept. false: the end. */
static bool send_or_keep(struct connection *c, const uint8_t *data, size_t len)
{
    ssize_t n;

    while (len > 0) {
        n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            return false;
        }
    }
    if (len > 0) {
        c->out = mr_malloc(len);
        if (c->out == NULL) {
            return false;
        }
        memcpy(c->out, data, len);
        c->out_len = len;
    }
    return true;
}

/* Answer what the buffer holds, until it holds no whole query or the peer does
 * not take the answers. */
static bool answer_all(struct dns_tcp *t, struct connection *c)
{
    size_t before;
    size_t len;

    do {
        before = c->have;
        if (!answer_frames(t, c, &len) || !send_or_keep(c, t->scratch, len)) {
            return false;
        }
    } while (c->have != before && c->out_len == 0 && c->passed == NULL);
    return true;
}

static bool on_readable(struct dns_tcp *t, struct connection *c)
{
    ssize_t n;

    /* The longest query fills the buffer, and a whole one does not stay. */
    mr_assert(c->have < sizeof c->in);
    n = recv(c->fd, c->in + c->have, sizeof c->in - c->have, 0);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (n == 0) {
        return false;
    }
    c->have += (size_t)n;
    return answer_all(t, c);
}

static bool on_writable(struct dns_tcp *t, struct connection *c)
{
    uint8_t *rest = c->out;
    size_t len = c->out_len;
    bool ok;

    c->out = NULL;
    c->out_len = 0;
    ok = send_or_keep(c, rest, len);
    mr_free(rest);
    if (!ok || c->out_len > 0) {
        return ok;
    }
    c->in_frame = false;
    return answer_all(t, c);
}

/* After @c did something, which went well if @ok: wait for the next. */
static void go_on(struct dns_tcp *t, struct connection *c, bool ok)
{
    if (!ok || (c->watched != wanted(c) && !watch(t, c, EPOLL_CTL_MOD))) {
        connection_close(t, c);
        return;
    }
    set_deadline(t, c);
}

static void on_event(struct dns_tcp *t, struct connection *c)
{
    if (c->passed != NULL && c->out_len == 0) {
        connection_close(t, c); /* The peer is gone: all that is told. */
        return;
    }
    go_on(t, c, c->out_len > 0 ? on_writable(t, c) : on_readable(t, c));
}

/* Send @p's answer, then go on with the queries behind it. */
static void on_answer(struct dns_tcp *t, struct passed *p)
{
    struct connection *c = p->connection;
    size_t len = p->answer.len;
    bool ok = !mr_buf_failed(&p->answer);

    if (c == NULL) {
        return;
    }
    c->passed = NULL;
    c->in_frame = false;
    if (ok) {
        dns_put16(t->scratch, (unsigned)len);
        memcpy(t->scratch + FRAME_HEADER_LEN, p->answer.data, len);
        ok = send_or_keep(c, t->scratch, FRAME_HEADER_LEN + len) &&
             (c->out_len > 0 || answer_all(t, c));
    }
    go_on(t, c, ok);
}

static void take_answers(struct dns_tcp *t)
{
    struct mr_list answers;
    struct mr_list *at;

    (void)mr_queue_take(&t->answers, &answers);
    while ((at = mr_list_pop(&answers)) != NULL) {
        struct passed *p = mr_container_of(at, struct passed, link);

        on_answer(t, p);
        passed_free(p);
    }
}

static void add_connection(struct dns_tcp *t, int fd)
{
    struct connection *c = mr_malloc(sizeof *c);

    if (c == NULL) {
        (void)close(fd); /* The peer will see it end and ask elsewhere. */
        return;
    }
    c->fd = fd;
    c->have = 0;
    c->out_len = 0;
    c->out = NULL;
    c->passed = NULL;
    c->in_frame = true;
    mr_list_init(&c->link);
    count_open(t, 1);
    set_deadline(t, c);
    if (!watch(t, c, EPOLL_CTL_ADD)) {
        connection_close(t, c);
    }
}

/* Take the connections that wait at @fd. */
static void on_accept(struct dns_tcp *t, int fd)
{
    int peer;

    for (;;) {
        peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (peer >= 0) {
            if (t->n_connections >= t->max_connections) {
                (void)close_quietest(t);
            }
            add_connection(t, peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                   errno == ENOMEM) {
            if (!close_quietest(t)) {
                (void)poll(NULL, 0, BACK_OFF_MS);
                return;
            }
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return; /* None left. */
        }
    }
}

/* End the connections whose time is up. */
static void sweep(struct dns_tcp *t)
{
    struct mr_list *at = t->connections.next;
    struct connection *c;
    uint64_t now = now_ms(t);

    while (at != &t->connections) {
        c = mr_container_of(at, struct connection, link);
        at = at->next;
        if (c->deadline_ms <= now) {
            connection_close(t, c);
        }
    }
}

/* Whether @ptr is one of the listening sockets; a connection otherwise. */
static bool is_listener(const struct dns_tcp *t, const void *ptr)
{
    const int *fd = ptr;

    return fd >= t->fds && fd < t->fds + t->n_fds;
}

static void *run(void *arg)
{
    struct dns_tcp *t = arg;
    struct epoll_event events[EVENTS];
    int n;

    while (!atomic_load(&t->is_stopping)) {
        n = epoll_wait(t->epoll_fd, events, EVENTS,
                       t->n_connections > 0 ? TICK_MS : -1);
        dns_responder_look(&t->responder);
        /* Connections first: accepting may close others. */
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr != &t->wake_fd &&
                !is_listener(t, events[i].data.ptr)) {
                on_event(t, events[i].data.ptr);
            }
        }
        for (int i = 0; i < n; i++) {
            if (is_listener(t, events[i].data.ptr)) {
                on_accept(t, *(const int *)events[i].data.ptr);
            }
        }
        if (t->responder.shared->forward != NULL) {
            uint64_t count;

            /* Nothing to read is fine too. */
            (void)!read(t->wake_fd, &count, sizeof count);
            take_answers(t);
        }
        sweep(t);
    }
    return NULL;
}

static void free_all(struct dns_tcp *t)
{
    while (close_quietest(t)) {
    }
    dns_passed_drain(&t->n_passed);
    take_answers(t);
    mr_queue_deinit(&t->answers);
    for (size_t i = 0; i < t->n_fds; i++) {
        (void)close(t->fds[i]); /* Read from only. */
    }
    if (t->wake_fd >= 0) {
        (void)close(t->wake_fd);
    }
    if (t->epoll_fd >= 0) {
        (void)close(t->epoll_fd);
    }
    dns_responder_deinit(&t->responder);
    mr_free(t->fds);
    mr_free(t);
}

static enum mr_err watch_all(struct dns_tcp *t)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &t->wake_fd};

    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->epoll_fd < 0 || t->wake_fd < 0 ||
        epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->wake_fd, &event) != 0) {
        return MR_E_IO;
    }
    for (size_t i = 0; i < t->n_fds; i++) {
        event.data.ptr = &t->fds[i];
        if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->fds[i], &event) != 0) {
            return MR_E_IO;
        }
    }
    return MR_OK;
}

/* Any thread. */
static void wake(void *arg)
{
    const struct dns_tcp *t = arg;
    uint64_t one = 1;

    /* Fails only when the counter is full, and then it is readable. */
    (void)!write(t->wake_fd, &one, sizeof one);
}

enum mr_err dns_tcp_start(const struct dns_shared *shared, const int *fds,
                          size_t n_fds, unsigned max_connections,
                          struct dns_tcp **out_tcp)
{
    struct dns_tcp *t = mr_malloc(sizeof *t); /* The scratch stays untouched. */
    int *copy = mr_calloc(n_fds, sizeof *copy);
    enum mr_err err;

    if (t == NULL || copy == NULL) {
        for (size_t i = 0; i < n_fds; i++) {
            (void)close(fds[i]); /* Read from only. */
        }
        mr_free(t);
        mr_free(copy);
        return MR_E_NOMEM;
    }
    memcpy(copy, fds, n_fds * sizeof *copy);
    t->fds = copy;
    t->n_fds = n_fds;
    t->epoll_fd = -1;
    t->wake_fd = -1;
    t->max_connections =
        max_connections != 0 ? max_connections : DNS_TCP_CONNECTIONS;
    t->n_connections = 0;
    atomic_init(&t->n_open, 0);
    atomic_init(&t->is_stopping, false);
    atomic_init(&t->n_passed, 0);
    mr_queue_init(&t->answers, 0, wake, t);
    mr_list_init(&t->connections);
    err = dns_responder_init(&t->responder, shared);
    if (err == MR_OK) {
        err = watch_all(t);
    }
    if (err == MR_OK) {
        err = dns_thread_start(&t->thread, "dns-tcp", run, t);
    }
    if (err != MR_OK) {
        free_all(t);
        return err;
    }
    *out_tcp = t;
    return MR_OK;
}

void dns_tcp_stop(struct dns_tcp *t)
{
    uint64_t one = 1;

    if (t == NULL) {
        return;
    }
    atomic_store(&t->is_stopping, true);
    if (write(t->wake_fd, &one, sizeof one) < 0) {
        mr_log_debug("dns", "cannot wake the thread: errno=%d", errno);
    }
    (void)pthread_join(t->thread, NULL); /* Fails only for no thread. */
    free_all(t);
}

const struct dns_counters *dns_tcp_counters(const struct dns_tcp *t)
{
    return &t->responder.counters;
}

uint64_t dns_tcp_connections(const struct dns_tcp *t)
{
    return atomic_load_explicit(&t->n_open, memory_order_relaxed);
}
