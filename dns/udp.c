/* SPDX-License-Identifier: Apache-2.0 */
/* The UDP side: batches in, batches out. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "dns/forward.h"
#include "dns/thread.h"
#include "dns/udp.h"

#define BATCH 64
#define QUERY_MAX 1232 /* Bytes of a query that are looked at. */
#define ARENA_LEN ((size_t)8 * DNS_UDP_MAX)
#define BACK_OFF_MS 10

/* Where a packet was sent to, of either family; keeps its alignment. */
#define CONTROL_LEN CMSG_SPACE(sizeof(struct in6_pktinfo))

struct dns_udp {
    struct dns_responder responder;
    pthread_t thread;
    int fd;
    bool is_any;
    atomic_bool is_stopping;
    atomic_uint n_passed; /* Questions that a server is asked. */
    unsigned n_out;
    size_t arena_used;
    struct mmsghdr in[BATCH];
    struct mmsghdr out[BATCH];
    struct iovec in_iov[BATCH];
    struct iovec out_iov[BATCH];
    struct sockaddr_storage from[BATCH];
    _Alignas(struct cmsghdr) uint8_t control[BATCH][CONTROL_LEN];
    uint8_t queries[BATCH][QUERY_MAX];
    uint8_t arena[ARENA_LEN]; /* Answers of this batch, one after another. */
};

/* Make @n slots ready to receive. */
static void prepare(struct dns_udp *u, size_t n)
{
    struct msghdr *h;

    for (size_t i = 0; i < n; i++) {
        h = &u->in[i].msg_hdr;
        u->in_iov[i] = (struct iovec){u->queries[i], QUERY_MAX};
        *h = (struct msghdr){.msg_name = &u->from[i],
                             .msg_namelen = sizeof u->from[i],
                             .msg_iov = &u->in_iov[i],
                             .msg_iovlen = 1};
        if (u->is_any) {
            h->msg_control = u->control[i];
            h->msg_controllen = CONTROL_LEN;
        }
    }
}

/* Send what the batch has so far. A message that cannot be sent is dropped; a
 * full socket buffer drops the rest, because a sender of forged queries must
 * not be able to make us wait. */
static void flush(struct dns_udp *u)
{
    unsigned at = 0;
    int n;

    while (at < u->n_out) {
        n = sendmmsg(u->fd, u->out + at, u->n_out - at, MSG_DONTWAIT);
        if (n > 0) {
            at += (unsigned)n;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            at++;
        }
    }
    u->n_out = 0;
    u->arena_used = 0;
}

/* Answer from the address that was asked, by whatever way leads there. */
static void forget_interface(struct msghdr *h)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(h);

    if (c == NULL) {
        h->msg_control = NULL;
    } else if (c->cmsg_type == IP_PKTINFO && c->cmsg_level == IPPROTO_IP) {
        ((struct in_pktinfo *)(void *)CMSG_DATA(c))->ipi_ifindex = 0;
    } else if (c->cmsg_type == IPV6_PKTINFO && c->cmsg_level == IPPROTO_IPV6) {
        struct in6_pktinfo *info = (struct in6_pktinfo *)(void *)CMSG_DATA(c);

        if (!IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr)) {
            info->ipi6_ifindex = 0;
        }
    }
}

/* Whether a packet comes from a port that answers whatever it gets (echo,
 * discard, daytime, quote, chargen): answering one starts a loop. */
static bool is_reflector(const struct sockaddr_storage *from)
{
    uint16_t port;

    if (from->ss_family == AF_INET6) {
        port =
            ntohs(((const struct sockaddr_in6 *)(const void *)from)->sin6_port);
    } else {
        port =
            ntohs(((const struct sockaddr_in *)(const void *)from)->sin_port);
    }
    return port == 0 || port == 7 || port == 9 || port == 13 || port == 17 ||
           port == 19;
}

/* A question that a server is asked, and where its answer goes. */
struct passed {
    struct dns_passed base;
    struct dns_udp *udp;
    struct msghdr header;
    struct sockaddr_storage from;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_LEN];
    size_t len;
    uint8_t query[]; /* Of len bytes. */
};

/* Any thread: sending needs no more than the socket. */
static void on_answered(struct dns_passed *base, struct mr_slice answer)
{
    struct passed *p = mr_container_of(base, struct passed, base);
    struct iovec iov = {(void *)(uintptr_t)answer.data, answer.len};

    p->header.msg_iov = &iov;
    p->header.msg_iovlen = 1;
    /* What cannot be sent at once is dropped, as datagrams may be. */
    (void)sendmsg(p->udp->fd, &p->header, MSG_DONTWAIT);
    mr_free(p);
}

static struct passed *new_passed(struct dns_udp *u, size_t i)
{
    const struct msghdr *h = &u->in[i].msg_hdr;
    size_t len = u->in[i].msg_len;
    struct passed *p = mr_calloc(1, sizeof *p + len);

    if (p == NULL) {
        return NULL;
    }
    p->base.n_passed = &u->n_passed;
    p->base.answered = on_answered;
    p->udp = u;
    p->from = u->from[i];
    p->header.msg_name = &p->from;
    p->header.msg_namelen = h->msg_namelen;
    if (h->msg_control != NULL) {
        memcpy(p->control, h->msg_control, h->msg_controllen);
        p->header.msg_control = p->control;
        p->header.msg_controllen = h->msg_controllen;
    }
    p->len = len;
    memcpy(p->query, u->queries[i], len);
    return p;
}

/* Pass packet @i on. Returns the bytes of an answer in @out that goes out at
 * once: there is none yet, or never. */
static size_t pass_one(struct dns_udp *u, size_t i, uint8_t *out)
{
    struct mr_slice packet = mr_slice(u->queries[i], u->in[i].msg_len);
    struct passed *p;
    struct dns_query q;
    size_t len;

    if (!dns_screen(&u->responder, packet, &q, out, &len)) {
        return len;
    }
    p = new_passed(u, i);
    if (p != NULL && dns_pass(u->responder.shared, &p->base, &q,
                              mr_slice(p->query, p->len), true)) {
        return 0;
    }
    mr_free(p);
    return dns_servfail_write(packet.data, q.question_len, out);
}

static size_t respond(struct dns_udp *u, size_t i, uint8_t *out)
{
    return u->responder.shared->forward != NULL
               ? pass_one(u, i, out)
               : dns_respond(&u->responder,
                             mr_slice(u->queries[i], u->in[i].msg_len), false,
                             out);
}

static void answer_one(struct dns_udp *u, size_t i)
{
    struct msghdr *h = &u->in[i].msg_hdr;
    uint8_t *out;
    size_t len;

    if (is_reflector(&u->from[i])) {
        return;
    }
    if (ARENA_LEN - u->arena_used < DNS_UDP_MAX) {
        flush(u);
    }
    if (u->is_any) {
        forget_interface(h);
    }
    out = u->arena + u->arena_used;
    len = respond(u, i, out);
    if (len == 0) {
        return;
    }
    u->out_iov[u->n_out] = (struct iovec){out, len};
    h->msg_iov = &u->out_iov[u->n_out];
    h->msg_flags = 0;
    u->out[u->n_out++].msg_hdr = *h;
    u->arena_used += len;
}

static void *run(void *arg)
{
    struct dns_udp *u = arg;
    size_t n_used = BATCH;
    int n;

    while (!atomic_load_explicit(&u->is_stopping, memory_order_relaxed)) {
        prepare(u, n_used);
        n = recvmmsg(u->fd, u->in, BATCH, MSG_WAITFORONE, NULL);
        if (n < 0) {
            n_used = BATCH;
            if (errno != EINTR && errno != EAGAIN) {
                mr_log_debug("dns", "receiving failed: errno=%d", errno);
                (void)poll(NULL, 0, BACK_OFF_MS);
            }
            continue;
        }
        n_used = (size_t)n;
        dns_responder_look(&u->responder);
        for (size_t i = 0; i < n_used; i++) {
            answer_one(u, i);
        }
        flush(u);
    }
    return NULL;
}

enum mr_err dns_udp_start(const struct dns_shared *shared, int fd, bool is_any,
                          struct dns_udp **out_udp)
{
    struct dns_udp *u = mr_malloc(sizeof *u); /* Most is never touched. */
    enum mr_err err = MR_E_NOMEM;

    if (u == NULL) {
        goto err_fd;
    }
    u->fd = fd;
    u->is_any = is_any;
    u->n_out = 0;
    u->arena_used = 0;
    atomic_init(&u->is_stopping, false);
    atomic_init(&u->n_passed, 0);
    memset(u->out, 0, sizeof u->out);
    err = dns_responder_init(&u->responder, shared);
    if (err != MR_OK) {
        goto err_memory;
    }
    err = dns_thread_start(&u->thread, "dns-udp", run, u);
    if (err != MR_OK) {
        goto err_responder;
    }
    *out_udp = u;
    return MR_OK;

err_responder:
    dns_responder_deinit(&u->responder);
err_memory:
    mr_free(u);
err_fd:
    (void)close(fd); /* Nothing was written to it. */
    return err;
}

void dns_udp_stop(struct dns_udp *u)
{
    if (u == NULL) {
        return;
    }
    atomic_store(&u->is_stopping, true);
    /* Linux wakes a receiver of an unconnected socket, and says ENOTCONN. */
    (void)shutdown(u->fd, SHUT_RDWR);
    (void)pthread_join(u->thread, NULL); /* Fails only for no thread. */
    dns_passed_drain(&u->n_passed);
    (void)close(u->fd); /* Nothing is left to lose. */
    dns_responder_deinit(&u->responder);
    mr_free(u);
}

const struct dns_counters *dns_udp_counters(const struct dns_udp *u)
{
    return &u->responder.counters;
}
