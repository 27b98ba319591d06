/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: errors that name the address. */
#include "api/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096

/* A client that says nothing is asked whether it is still there, and is gone
 * after about two minutes: a blocking query would keep its place for ten. */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES 6

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Fill @a; its length, or 0 when @host is no IP literal. */
static socklen_t make_address(const char *host, uint16_t port, union address *a)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
        return sizeof a->v4;
    }
    if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(port);
        return sizeof a->v6;
    }
    return 0;
}

static enum mr_err fail(struct mr_detail *detail, const char *host,
                        uint16_t port, int fd)
{
    int error = errno;

    if (fd >= 0) {
        close(fd);
    }
    return mr_fail(detail,
                   error == EADDRINUSE      ? MR_E_INUSE
                   : error == EADDRNOTAVAIL ? MR_E_ADDRESS
                                            : MR_E_IO,
                   "cannot listen for HTTP on %s port %u: %s", host,
                   (unsigned)port, strerror(error));
}

/* What connections inherit. */
static bool set_keepalive(int fd)
{
    static const int one = 1;
    static const int idle_s = KEEPALIVE_IDLE_S;
    static const int interval_s = KEEPALIVE_INTERVAL_S;
    static const int probes = KEEPALIVE_PROBES;

    return setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s) ==
               0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s,
                      sizeof interval_s) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes) ==
               0;
}

enum mr_err api_listen(const char *host, uint16_t *port, int *out_fd,
                       struct mr_detail *detail)
{
    union address a;
    socklen_t len = make_address(host, *port, &a);
    int one = 1;

    if (len == 0) {
        return mr_fail(detail, MR_E_ADDRESS, "\"%s\" is not an IP address",
                       host);
    }
    int fd =
        socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        !set_keepalive(fd) ||
        (a.any.sa_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0) ||
        bind(fd, &a.any, len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, &a.any, &len) != 0) {
        return fail(detail, host, *port, fd);
    }
    *port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    *out_fd = fd;
    return MR_OK;
}
