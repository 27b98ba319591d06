/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp: a thread that answers the datagrams of one socket, in batches.
 *
 * In steady state a batch costs one recvmmsg() and one sendmmsg(), and no
 * allocation. Nothing here waits for a peer: what cannot be sent at once is
 * dropped, as datagrams may be.
 */
#ifndef MR_DNS_UDP_H
#define MR_DNS_UDP_H

#include "base/err.h"
#include "dns/responder.h"

struct dns_udp;

/* Start a thread on the bound socket @fd, which it owns from now on (also
 * after a failure). @is_any: it is bound to every address of the machine, so
 * each answer must name the one it comes from.
 *
 * MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err dns_udp_start(const struct dns_shared *shared, int fd,
                                        bool is_any, struct dns_udp **out_udp);

/* Stop the thread, close the socket, release everything. NULL is a no-op. */
void dns_udp_stop(struct dns_udp *u);

/* Its counters; any thread. */
const struct dns_counters *dns_udp_counters(const struct dns_udp *u);

#endif /* MR_DNS_UDP_H */
