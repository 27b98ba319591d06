/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp: one thread that serves all TCP connections (RFC 7766).
 *
 * Limits: a connection that is idle, leaves a query unfinished or does not take
 * its answers is closed at a fixed time; a query may have 4 KiB; answers wait
 * for at most one write at a time, and nothing is read meanwhile; when all
 * places are taken the connection that has been quiet longest makes room.
 */
#ifndef MR_DNS_TCP_H
#define MR_DNS_TCP_H

#include "base/err.h"
#include "dns/responder.h"

#define DNS_TCP_CONNECTIONS 512 /* The default of tcp_max_connections. */
#define DNS_TCP_IDLE_MS 10000
#define DNS_TCP_FRAME_MS 5000 /* To finish a query, or to take an answer. */
#define DNS_TCP_QUERY_MAX 4096

struct dns_tcp;

/* Start serving the listening sockets @fds, which it owns from now on (also
 * after a failure). MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err dns_tcp_start(const struct dns_shared *shared,
                                        const int *fds, size_t n_fds,
                                        unsigned max_connections,
                                        struct dns_tcp **out_tcp);

/* Stop the thread, close everything, release it. NULL is a no-op. */
void dns_tcp_stop(struct dns_tcp *t);

/* Its counters; any thread. */
const struct dns_counters *dns_tcp_counters(const struct dns_tcp *t);

/* Open connections; any thread. */
uint64_t dns_tcp_connections(const struct dns_tcp *t);

#endif /* MR_DNS_TCP_H */
