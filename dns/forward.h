/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward: questions that are passed on to a server, because there is no state
 * here (mr_dns_options.forward).
 *
 * A worker hands the question over and goes on; the answer comes on another
 * thread. Whoever passes a question on embeds it, with a copy of the packet.
 */
#ifndef MR_DNS_FORWARD_H
#define MR_DNS_FORWARD_H

#include <stdatomic.h>

#include "dns/responder.h"

/* Questions of one worker on their way; more are answered SERVFAIL. */
#define DNS_PASSED_MAX 512

/* The longest SERVFAIL: a header and a question. */
#define DNS_SERVFAIL_MAX (DNS_HEADER_LEN + DNS_NAME_MAX + 4)

struct dns_passed {
    struct mr_dns_forward forward;
    atomic_uint *n_passed; /* Of its worker. */
    size_t question_len;
    /* The answer, or SERVFAIL; borrowed for the call, after which the worker is
     * not waited for: what it needs must be done. Any thread. */
    void (*answered)(struct dns_passed *p, struct mr_slice answer);
};

/* Pass the question @q on, whose packet is @packet, which lives as long as @p.
 * False: it cannot be; answered will not be called. */
MR_MUST_CHECK bool dns_pass(const struct dns_shared *shared,
                            struct dns_passed *p, const struct dns_query *q,
                            struct mr_slice packet, bool is_udp);

/* Write SERVFAIL for @packet, whose question is @question_len bytes long, into
 * @out (DNS_SERVFAIL_MAX bytes); returns its length. */
size_t dns_servfail_write(const uint8_t *packet, size_t question_len,
                          uint8_t *out);

/* Wait until all of a worker's questions are answered: whoever answers them has
 * been stopped, or has a time limit. */
void dns_passed_drain(const atomic_uint *n_passed);

#endif /* MR_DNS_FORWARD_H */
