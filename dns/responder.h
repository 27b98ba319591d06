/* SPDX-License-Identifier: Apache-2.0 */
/*
 * responder: a packet in, a packet out. What the UDP and the TCP side share;
 * each thread has its own, with its own cache and source of shuffles.
 */
#ifndef MR_DNS_RESPONDER_H
#define MR_DNS_RESPONDER_H

#include <stdatomic.h>

#include "base/clock.h"
#include "dns/cache.h"
#include "dns/config.h"
#include "dns/mr_dns.h"

/* The largest UDP answer, whatever the asker claims to take. */
#define DNS_UDP_MAX 16384
#define DNS_TCP_MAX 65535

/* What the threads of a service share; read only, but for the counters. */
struct dns_shared {
    struct dns_config config;
    struct mr_kv *kv;
    const struct mr_clock *clock;
    const struct mr_random *random;
    bool (*has_leader)(void *arg);
    bool (*forward)(void *arg, struct mr_dns_forward *forward);
    void *arg;
};

/* Counters of one responder: written by its thread, read by any. */
struct dns_counters {
    _Atomic uint64_t queries;
    _Atomic uint64_t cache_hits;
    _Atomic uint64_t malformed;
    _Atomic uint64_t refused;
    _Atomic uint64_t nxdomain;
    _Atomic uint64_t servfail;
};

struct dns_responder {
    const struct dns_shared *shared; /* Borrowed. */
    struct dns_cache *cache;
    struct dns_rng rng;
    struct dns_counters counters;
    bool is_stale; /* As of dns_responder_look(). */
};

/* Set up a responder over @shared, which must outlive it. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err dns_responder_init(struct dns_responder *r,
                                             const struct dns_shared *shared);

/* Release it. A zeroed responder is fine. */
void dns_responder_deinit(struct dns_responder *r);

/* Look whether there is a leader: once for every few packets. */
void dns_responder_look(struct dns_responder *r);

/* For a service that passes questions on: whether @packet is one, which is then
 * in *@out_query. Else *@out_len bytes in @out, which has room for
 * DNS_HEADER_LEN, are the answer; 0: send nothing. */
bool dns_screen(struct dns_responder *r, struct mr_slice packet,
                struct dns_query *out_query, uint8_t *out, size_t *out_len);

/* Answer @packet. @out has room for DNS_TCP_MAX or DNS_UDP_MAX bytes. Returns
 * the length of the answer; 0: send nothing. */
size_t dns_respond(struct dns_responder *r, struct mr_slice packet, bool is_tcp,
                   uint8_t *out);

#endif /* MR_DNS_RESPONDER_H */
