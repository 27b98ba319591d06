/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns: answers DNS questions (RFC 1035, 2782, 6891) from views of the state.
 *
 * A worker thread owns one UDP socket (SO_REUSEPORT, recvmmsg and sendmmsg)
 * and its own cache of rendered answers; one more thread serves TCP. Nothing
 * here waits for the cluster: with the quorum lost, answers go on and say that
 * they may be stale (RFC 8914, extended error 3).
 *
 * May use: base, kv.
 */
#ifndef MR_DNS_H
#define MR_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "kv/mr_kv.h"

struct mr_dns; /* The service: its sockets and threads. */

/* The TTL of services by name: "web", all that begin alike ("db*"), or "*". */
struct mr_dns_service_ttl {
    const char *name;
    uint32_t ttl_s;
};

/* A question that is passed on to a server. Kept until done is called. */
struct mr_dns_forward {
    struct mr_slice query; /* The packet. */
    bool is_udp;           /* How it came: sets the answer's size. */
    /* Any thread, once, also from within the call; @answer is borrowed, empty
     * when nobody answered. */
    void (*done)(struct mr_dns_forward *forward, struct mr_slice answer);
};

struct mr_dns_options {
    const char *const *addresses; /* IP literals to listen on. */
    size_t n_addresses;
    uint16_t port;                  /* UDP and TCP. 0 picks one (tests). */
    unsigned n_workers;             /* UDP threads; 0: one per processor. */
    const char *domain;             /* "micro": without dots at the ends. */
    const char *const *alt_domains; /* Answered as well; "consul". */
    size_t n_alt_domains;
    const char *datacenter; /* "dc1". */
    const char *node_name;  /* This server's node: answers NS and SOA. */
    bool only_passing;      /* Leave out instances that warn. */
    uint32_t node_ttl_s;
    uint32_t service_ttl_s;
    /* Overrides of service_ttl_s: the exact name, else the longest prefix. */
    const struct mr_dns_service_ttl *service_ttls;
    size_t n_service_ttls;
    /* SOA record; 0 is the default: 3600, 600, 86400 and 0 seconds. */
    uint32_t soa_refresh_s;
    uint32_t soa_retry_s;
    uint32_t soa_expire_s;
    uint32_t soa_min_ttl_s;
    unsigned udp_answer_limit; /* Answers without EDNS; 3. */
    unsigned a_record_limit;   /* 0: none. */
    bool enable_truncate;      /* Set TC when UDP dropped answers. */
    bool disable_compression;
    bool omit_node_meta_txt;      /* No metadata in the additional section. */
    unsigned tcp_max_connections; /* 0: default. */
    struct mr_kv *kv;             /* Borrowed; outlives the service. */
    const struct mr_clock *clock;
    const struct mr_random *random;
    /* Whether the cluster has a leader, as far as this server knows; any
     * thread, must not block. */
    bool (*has_leader)(void *arg);
    /* Agents without the state only, else NULL: get @forward answered by a
     * server, within a few seconds. False: not possible, done will not be
     * called. Any thread; must not block. */
    bool (*forward)(void *arg, struct mr_dns_forward *forward);
    void *arg;
};

/* Bind the sockets and start the threads. @options is copied, with its texts.
 * On success the caller owns *@out_dns and releases it with mr_dns_stop().
 *
 * MR_E_INUSE:   another program holds the port (the detail names it).
 * MR_E_ADDRESS: an address is not an IP literal of this machine.
 * MR_E_INVALID: a domain is not a DNS name.
 * MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err mr_dns_start(const struct mr_dns_options *options,
                                       struct mr_dns **out_dns,
                                       struct mr_detail *detail);

/* Stop the threads, close the sockets, release everything. NULL is a no-op. */
void mr_dns_stop(struct mr_dns *dns);

/* Answer the packet @query as if it had come over UDP or TCP, at the end of
 * @out; false: it gets no answer. Any thread. */
bool mr_dns_answer(struct mr_dns *dns, struct mr_slice query, bool is_udp,
                   struct mr_buf *out);

/* The port in use, for tests that asked for 0. */
uint16_t mr_dns_port(const struct mr_dns *dns);

struct mr_dns_stats {
    uint64_t udp_queries;
    uint64_t tcp_queries;
    uint64_t cache_hits;
    uint64_t malformed; /* Dropped or answered FORMERR. */
    uint64_t refused;   /* Questions outside our zones. */
    uint64_t nxdomain;
    uint64_t servfail;
    uint64_t tcp_connections; /* Open now. */
};

/* Counters since the start. Any thread. */
void mr_dns_stats(const struct mr_dns *dns, struct mr_dns_stats *out_stats);

#endif /* MR_DNS_H */
