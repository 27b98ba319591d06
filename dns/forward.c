/* SPDX-License-Identifier: Apache-2.0 */
/* Questions that are passed on, and the answer when there is none. */
#include "dns/forward.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"

size_t dns_servfail_write(const uint8_t *packet, size_t question_len,
                          uint8_t *out)
{
    unsigned kept = dns_get16(packet + 2) & (DNS_OPCODE_MASK | DNS_FLAG_RD);

    mr_assert(question_len <= DNS_SERVFAIL_MAX - DNS_HEADER_LEN);
    memset(out, 0, DNS_HEADER_LEN);
    memcpy(out, packet, 2);
    dns_put16(out + 2, DNS_FLAG_QR | DNS_FLAG_AA | kept | DNS_SERVFAIL);
    dns_put16(out + 4, 1);
    memcpy(out + DNS_HEADER_LEN, packet + DNS_HEADER_LEN, question_len);
    return DNS_HEADER_LEN + question_len;
}

/* Whether @answer is one to the question @packet. */
static bool fits(struct mr_slice packet, struct mr_slice answer)
{
    return answer.len >= DNS_HEADER_LEN && answer.len <= DNS_TCP_MAX &&
           memcmp(answer.data, packet.data, 2) == 0;
}

static void on_done(struct mr_dns_forward *forward, struct mr_slice answer)
{
    struct dns_passed *p = mr_container_of(forward, struct dns_passed, forward);
    atomic_uint *n_passed = p->n_passed;
    uint8_t servfail[DNS_SERVFAIL_MAX];

    if (!fits(forward->query, answer)) {
        answer =
            mr_slice(servfail, dns_servfail_write(forward->query.data,
                                                  p->question_len, servfail));
    }
    p->answered(p, answer); /* Frees it, perhaps. */
    atomic_fetch_sub(n_passed, 1);
}

bool dns_pass(const struct dns_shared *shared, struct dns_passed *p,
              const struct dns_query *q, struct mr_slice packet, bool is_udp)
{
    if (atomic_fetch_add(p->n_passed, 1) < DNS_PASSED_MAX) {
        p->question_len = q->question_len;
        p->forward.query = packet;
        p->forward.is_udp = is_udp;
        p->forward.done = on_done;
        if (shared->forward(shared->arg, &p->forward)) {
            return true;
        }
    }
    atomic_fetch_sub(p->n_passed, 1);
    return false;
}

void dns_passed_drain(const atomic_uint *n_passed)
{
    while (atomic_load(n_passed) > 0) {
        (void)usleep(1000); /* The last answers are being sent. */
    }
}
