/* SPDX-License-Identifier: Apache-2.0 */
/*
 * set: the records that answer a name and type, ready to be copied into
 * messages.
 *
 * A set does not depend on who asks: the ID, the flags, the case of the name,
 * the EDNS record, the order of the answers and how many of them fit are put
 * in when a message is written. So one set serves every query until the state
 * behind it changes, and writing costs little more than copying.
 *
 * A group is an answer with the additional records that belong to it: they
 * are taken or left together. Each set belongs to one thread.
 */
#ifndef MR_DNS_SET_H
#define MR_DNS_SET_H

#include "base/buf.h"
#include "dns/config.h"
#include "dns/wire.h"

/* Whose name a record carries. */
enum dns_owner {
    DNS_OWNER_QUESTION, /* The question's, as it was asked. */
    DNS_OWNER_LOWER,    /* The question's in lower case. */
    DNS_OWNER_ZONE,     /* The zone of the set. */
    DNS_OWNER_TARGET,   /* The name that the group's answer points at. */
    DNS_OWNER_NAME      /* A name of its own, in front of the record. */
};

enum dns_soa {
    DNS_SOA_NONE,
    DNS_SOA_AUTHORITY, /* Negative answers: RFC 2308 §2. */
    DNS_SOA_ANSWER
};

struct dns_set {
    enum dns_rcode rcode;
    uint16_t flags; /* DNS_FLAG_AA unless told otherwise. */
    bool no_opt;    /* Refusals carry no EDNS record. */
    enum dns_soa soa;
    bool groups_in_authority; /* The groups' records are no answers. */
    bool is_shuffled;
    bool is_limited;             /* a_record_limit applies. */
    bool is_volatile;            /* It followed a name: not to be kept. */
    const struct dns_zone *zone; /* Of the SOA and of DNS_OWNER_ZONE. */
    /* The rest is the set's own. */
    struct mr_buf bytes;
    struct mr_buf records;
    struct mr_buf groups;
    uint32_t *order;     /* A permutation of the groups, shuffled on. */
    uint32_t *target_at; /* Scratch: where each written target stands. */
    size_t n_groups;
};

/* Make an empty set. */
void dns_set_init(struct dns_set *s);

/* Release the set's memory and leave it empty. */
void dns_set_deinit(struct dns_set *s);

/* What a record is, but for its data. */
struct dns_record {
    enum dns_owner owner;
    struct mr_slice name; /* DNS_OWNER_NAME: the owner in wire form. */
    uint16_t type;
    uint32_t ttl_s;
};

/* Begin a new group. The records added next belong to it: the first is its
 * answer, unless @no_answer. */
void dns_set_group(struct dns_set *s, bool no_answer);

/* Append a record with @data. */
void dns_set_add(struct dns_set *s, const struct dns_record *r,
                 struct mr_slice data);

/* As dns_set_add(), and the data ends in a name of @target_len bytes that
 * records with DNS_OWNER_TARGET in this group are about. */
void dns_set_add_target(struct dns_set *s, const struct dns_record *r,
                        struct mr_slice data, size_t target_len);

/* Append a record with @text in character strings (RFC 1035 §3.3.14). */
void dns_set_add_text(struct dns_set *s, const struct dns_record *r,
                      struct mr_slice text);

/* The set is complete. Of groups with equal answers the first stays (RFC 2181
 * §5.2: no record twice).
 *
 * MR_E_NOMEM: it is unusable, all it can do is deinit. */
MR_MUST_CHECK enum mr_err dns_set_finish(struct dns_set *s);

/* Bytes of memory that the set holds. */
size_t dns_set_size(const struct dns_set *s);

/* A source of shuffles, not of secrets (splitmix64). */
struct dns_rng {
    uint64_t state;
};

/* A number below @n, which must be above 0. */
uint32_t dns_rng_below(struct dns_rng *rng, uint32_t n);

/* How a message is written. */
struct dns_emit {
    const struct dns_config *config;
    const struct dns_query *query;
    struct dns_rng *rng;
    size_t limit; /* Bytes that the asker takes; at least DNS_PLAIN_MAX. */
    bool is_tcp;
    bool is_stale;   /* Say so where EDNS allows it: RFC 8914, code 3. */
    uint32_t serial; /* Of the SOA: seconds since 1970. */
};

/* Write the answer to @e->query from @s into @out, which has room for @e->limit
 * bytes, and return its length, never above the limit.
 *
 * Groups that do not fit are left out whole; only the first is stripped of its
 * additional records instead, so that an answer is never cut to nothing. */
size_t dns_set_write(struct dns_set *s, const struct dns_emit *e, uint8_t *out);

#endif /* MR_DNS_SET_H */
