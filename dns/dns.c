/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service: sockets for every address, and the threads over them.
 *
 * The TCP socket of an address is bound first and for itself alone: UDP
 * workers share their port (SO_REUSEPORT), so only TCP tells whether another
 * server of ours is there already.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "dns/mr_dns.h"
#include "dns/responder.h"
#include "dns/tcp.h"
#include "dns/udp.h"

#define WORKERS_MAX 16
#define ADDRESSES_MAX 16
#define TCP_BACKLOG 128
#define UDP_RECEIVE_BYTES (1 << 20) /* The kernel may allow less. */
#define PORT_TRIES 16
#define ASKED_MAX 4

/* Sockets on their way to the threads that will own them. */
struct sockets {
    size_t n_tcp;
    size_t n_udp;
    int tcp[ADDRESSES_MAX];
    int udp[ADDRESSES_MAX * WORKERS_MAX];
    bool is_any[ADDRESSES_MAX * WORKERS_MAX]; /* Beside udp. */
};

/* A responder for questions that come otherwise than by packet. */
struct asked {
    pthread_mutex_t lock;
    bool is_made; /* Guarded by lock, as the responder. */
    struct dns_responder responder;
};

struct mr_dns {
    struct dns_shared shared;
    uint16_t port;
    struct dns_tcp *tcp;
    struct dns_udp **udp;
    size_t n_udp;
    struct asked asked[ASKED_MAX]; /* For mr_dns_answer(). */
    atomic_uint next_asked;
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static enum mr_err address_parse(const char *text, uint16_t port,
                                 union address *out, struct mr_detail *detail)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        return MR_OK;
    }
    if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        return MR_OK;
    }
    return mr_fail(detail, MR_E_ADDRESS, "DNS address \"%s\" is no IP address",
                   text);
}

static bool address_is_any(const union address *a)
{
    if (a->any.sa_family == AF_INET6) {
        return IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr);
    }
    return a->v4.sin_addr.s_addr == htonl(INADDR_ANY);
}

static uint16_t address_port(const union address *a)
{
    return ntohs(a->any.sa_family == AF_INET6 ? a->v6.sin6_port
                                              : a->v4.sin_port);
}

static void set_option(int fd, int level, int name, int value)
{
    if (setsockopt(fd, level, name, &value, sizeof value) != 0) {
        mr_log_debug("dns", "socket option not set: level=%d name=%d errno=%d",
                     level, name, errno);
    }
}

/* Take no path MTU from the network: anyone can forge one to make us send
 * fragments (RFC 9715 §3.1). */
static void ignore_path_mtu(int fd, int family)
{
    if (family == AF_INET6) {
        set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT);
    } else {
        set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT);
    }
}

static enum mr_err bind_failed(const char *text, uint16_t port, int error,
                               struct mr_detail *detail)
{
    if (error == EADDRINUSE) {
        return mr_fail(detail, MR_E_INUSE,
                       "DNS port %u of %s is in use by another program", port,
                       text);
    }
    if (error == EADDRNOTAVAIL) {
        return mr_fail(detail, MR_E_ADDRESS,
                       "DNS address %s is not one of this machine's", text);
    }
    return mr_fail(detail, MR_E_IO, "cannot listen for DNS on %s port %u: %s",
                   text, port, strerror(error));
}

/* A socket of @type bound to @a; *@out_fd is the caller's. */
static enum mr_err socket_open(const union address *a, int type, int *out_fd)
{
    socklen_t len = a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
    int flags = SOCK_CLOEXEC | (type == SOCK_STREAM ? SOCK_NONBLOCK : 0);
    int fd = socket(a->any.sa_family, type | flags, 0);

    if (fd < 0) {
        return MR_E_IO;
    }
    if (a->any.sa_family == AF_INET6) {
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    }
    if (type == SOCK_STREAM) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    } else {
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
        set_option(fd, SOL_SOCKET, SO_RCVBUF, UDP_RECEIVE_BYTES);
        ignore_path_mtu(fd, a->any.sa_family);
        if (address_is_any(a) && a->any.sa_family == AF_INET6) {
            set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        } else if (address_is_any(a)) {
            set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
        }
    }
    if (bind(fd, &a->any, len) != 0 ||
        (type == SOCK_STREAM && listen(fd, TCP_BACKLOG) != 0)) {
        int error = errno;

        (void)close(fd); /* It was never used. */
        errno = error;
        return MR_E_IO;
    }
    *out_fd = fd;
    return MR_OK;
}

/* The port that the system gave to @fd. */
static uint16_t bound_port(int fd)
{
    union address a = {.v4 = {0}};
    socklen_t len = sizeof a;

    if (getsockname(fd, &a.any, &len) != 0) {
        return 0;
    }
    return address_port(&a);
}

static void sockets_close(struct sockets *s)
{
    while (s->n_tcp > 0) {
        (void)close(s->tcp[--s->n_tcp]); /* Never used. */
    }
    while (s->n_udp > 0) {
        (void)close(s->udp[--s->n_udp]); /* Never used. */
    }
}

/* Sockets of one address: TCP, then one of UDP for each worker. A *@port of 0
 * becomes the port that the system chose. */
static enum mr_err open_address(struct sockets *s, const char *text,
                                uint16_t *port, unsigned n_workers,
                                struct mr_detail *detail)
{
    union address a = {.v4 = {0}};
    enum mr_err err = address_parse(text, *port, &a, detail);

    if (err != MR_OK) {
        return err;
    }
    if (socket_open(&a, SOCK_STREAM, &s->tcp[s->n_tcp]) != MR_OK) {
        return bind_failed(text, *port, errno, detail);
    }
    if (*port == 0) {
        *port = bound_port(s->tcp[s->n_tcp]);
        err = address_parse(text, *port, &a, detail);
    }
    s->n_tcp++;
    for (unsigned i = 0; i < n_workers && err == MR_OK; i++) {
        if (socket_open(&a, SOCK_DGRAM, &s->udp[s->n_udp]) != MR_OK) {
            return bind_failed(text, *port, errno, detail);
        }
        s->is_any[s->n_udp++] = address_is_any(&a);
    }
    return err;
}

/* Sockets of all addresses. A port that the system chose for TCP may be taken
 * for UDP or on another address: then it chooses again. */
static enum mr_err sockets_open(struct sockets *s,
                                const struct mr_dns_options *o,
                                unsigned n_workers, uint16_t *out_port,
                                struct mr_detail *detail)
{
    enum mr_err err = MR_E_INVALID;
    uint16_t port;

    if (o->n_addresses == 0 || o->n_addresses > ADDRESSES_MAX) {
        return mr_fail(detail, err, "between 1 and %d DNS addresses are needed",
                       ADDRESSES_MAX);
    }
    for (unsigned tries = 0; tries < PORT_TRIES; tries++) {
        s->n_tcp = 0;
        s->n_udp = 0;
        port = o->port;
        err = MR_OK;
        for (size_t i = 0; i < o->n_addresses && err == MR_OK; i++) {
            err = open_address(s, o->addresses[i], &port, n_workers, detail);
        }
        if (err == MR_OK) {
            *out_port = port;
            return MR_OK;
        }
        sockets_close(s);
        if (err != MR_E_INUSE || o->port != 0) {
            break;
        }
    }
    return err;
}

/* Hand the sockets to threads. What has none yet is closed. */
static enum mr_err threads_start(struct mr_dns *dns, struct sockets *s,
                                 unsigned max_connections)
{
    enum mr_err err = MR_OK;
    size_t n_udp = s->n_udp;
    size_t n_tcp = s->n_tcp;

    dns->udp = mr_calloc(n_udp, sizeof(struct dns_udp *));
    if (dns->udp == NULL) {
        return MR_E_NOMEM;
    }
    while (s->n_udp > 0 && err == MR_OK) {
        s->n_udp--; /* The call owns the socket, whatever comes of it. */
        err = dns_udp_start(&dns->shared, s->udp[s->n_udp], s->is_any[s->n_udp],
                            &dns->udp[dns->n_udp]);
        dns->n_udp += err == MR_OK ? 1 : 0;
    }
    if (err == MR_OK) {
        s->n_tcp = 0;
        err = dns_tcp_start(&dns->shared, s->tcp, n_tcp, max_connections,
                            &dns->tcp);
    }
    return err;
}

static unsigned count_workers(unsigned wanted)
{
    long n = wanted;

    if (n == 0) {
        n = sysconf(_SC_NPROCESSORS_ONLN);
    }
    return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned)n;
}

enum mr_err mr_dns_start(const struct mr_dns_options *options,
                         struct mr_dns **out_dns, struct mr_detail *detail)
{
    const struct mr_dns_options *o = options;
    struct sockets sockets = {.n_tcp = 0};
    struct mr_dns *dns = mr_calloc(1, sizeof *dns);
    enum mr_err err;

    if (dns == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < ASKED_MAX; i++) {
        (void)pthread_mutex_init(&dns->asked[i].lock, NULL); /* Never fails. */
    }
    dns->shared = (struct dns_shared){.kv = o->kv,
                                      .clock = o->clock,
                                      .random = o->random,
                                      .has_leader = o->has_leader,
                                      .forward = o->forward,
                                      .arg = o->arg};
    err = dns_config_init(&dns->shared.config, o, detail);
    if (err == MR_OK) {
        err = sockets_open(&sockets, o, count_workers(o->n_workers), &dns->port,
                           detail);
    }
    if (err == MR_OK) {
        err = threads_start(dns, &sockets, o->tcp_max_connections);
    }
    if (err != MR_OK) {
        sockets_close(&sockets);
        mr_dns_stop(dns);
        return err;
    }
    *out_dns = dns;
    return MR_OK;
}

void mr_dns_stop(struct mr_dns *dns)
{
    if (dns == NULL) {
        return;
    }
    dns_tcp_stop(dns->tcp);
    for (size_t i = 0; i < dns->n_udp; i++) {
        dns_udp_stop(dns->udp[i]);
    }
    mr_free(dns->udp);
    for (size_t i = 0; i < ASKED_MAX; i++) {
        if (dns->asked[i].is_made) {
            dns_responder_deinit(&dns->asked[i].responder);
        }
        (void)pthread_mutex_destroy(&dns->asked[i].lock);
    }
    dns_config_deinit(&dns->shared.config);
    mr_free(dns);
}

bool mr_dns_answer(struct mr_dns *dns, struct mr_slice query, bool is_udp,
                   struct mr_buf *out)
{
    unsigned i = atomic_fetch_add(&dns->next_asked, 1) % ASKED_MAX;
    struct asked *asked = &dns->asked[i];
    size_t before = out->len;
    size_t len = 0;
    uint8_t *room = mr_buf_grow(out, is_udp ? DNS_UDP_MAX : DNS_TCP_MAX);

    if (room == NULL) {
        return false;
    }
    (void)pthread_mutex_lock(&asked->lock); /* Never fails. */
    if (!asked->is_made) {
        asked->is_made =
            dns_responder_init(&asked->responder, &dns->shared) == MR_OK;
    }
    if (asked->is_made) {
        dns_responder_look(&asked->responder);
        len = dns_respond(&asked->responder, query, !is_udp, room);
    }
    (void)pthread_mutex_unlock(&asked->lock);
    out->len = before + len;
    return len > 0;
}

uint16_t mr_dns_port(const struct mr_dns *dns)
{
    return dns->port;
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_counters(struct mr_dns_stats *stats,
                         const struct dns_counters *c)
{
    stats->cache_hits += get(&c->cache_hits);
    stats->malformed += get(&c->malformed);
    stats->refused += get(&c->refused);
    stats->nxdomain += get(&c->nxdomain);
    stats->servfail += get(&c->servfail);
}

void mr_dns_stats(const struct mr_dns *dns, struct mr_dns_stats *out_stats)
{
    struct mr_dns_stats stats = {.tcp_connections =
                                     dns_tcp_connections(dns->tcp)};

    stats.tcp_queries = get(&dns_tcp_counters(dns->tcp)->queries);
    add_counters(&stats, dns_tcp_counters(dns->tcp));
    for (size_t i = 0; i < dns->n_udp; i++) {
        stats.udp_queries += get(&dns_udp_counters(dns->udp[i])->queries);
        add_counters(&stats, dns_udp_counters(dns->udp[i]));
    }
    *out_stats = stats;
}
