/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: DNS messages as bytes (RFC 1035 §4, RFC 6891). Pure: no clock, no
 * state, no allocation.
 *
 * A query is taken apart once: its question, in lower case and cut in labels,
 * and what matters of its EDNS record. Names in a question must not be
 * compressed: there is nothing in front of them that a pointer could mean.
 */
#ifndef MR_DNS_WIRE_H
#define MR_DNS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/slice.h"

#define DNS_HEADER_LEN 12
#define DNS_NAME_MAX 255 /* Bytes of a name with its root label. */
#define DNS_LABEL_MAX 63 /* RFC 1035 §2.3.4. */
#define DNS_LABELS_MAX 127
#define DNS_PLAIN_MAX 512 /* UDP without EDNS, RFC 1035 §4.2.1. */
#define DNS_SUBNET_MAX 20 /* Client subnet: 4 bytes and an address. */

enum dns_type {
    DNS_TYPE_A = 1,
    DNS_TYPE_NS = 2,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_SOA = 6,
    DNS_TYPE_PTR = 12,
    DNS_TYPE_TXT = 16,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_SRV = 33,
    DNS_TYPE_OPT = 41,
    DNS_TYPE_AXFR = 252,
    DNS_TYPE_ANY = 255
};

enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5
};

/* Bits of the header's second word. */
#define DNS_FLAG_QR 0x8000u
#define DNS_FLAG_AA 0x0400u
#define DNS_FLAG_TC 0x0200u
#define DNS_FLAG_RD 0x0100u
#define DNS_FLAG_RA 0x0080u
#define DNS_FLAG_CD 0x0010u
#define DNS_OPCODE_MASK 0x7800u
#define DNS_OPCODE_QUERY 0u
#define DNS_OPCODE_NOTIFY 0x2000u

/* A name on the wire, cut in labels. */
struct dns_name {
    uint8_t len;                      /* With the root label; at least 1. */
    uint8_t n_labels;                 /* Without the root label. */
    uint8_t label_at[DNS_LABELS_MAX]; /* Where each label's length byte is. */
    uint8_t wire[DNS_NAME_MAX];
};

/* A question that can be answered, and how the asker wants it. */
struct dns_query {
    const uint8_t *packet; /* Borrowed; holds the question as it was asked. */
    size_t question_len;   /* Bytes of the question, from DNS_HEADER_LEN. */
    uint16_t flags;        /* Second word of the header. */
    uint16_t type;
    struct dns_name name; /* In lower case. */
    bool has_edns;
    uint16_t edns_size; /* As sent; may be below DNS_PLAIN_MAX. */
    uint8_t subnet_len; /* Client subnet option (RFC 7871), or 0. */
    uint8_t subnet[DNS_SUBNET_MAX];
};

/* What to do with a packet. */
enum dns_verdict {
    DNS_ANSWER, /* *out_query is filled. */
    DNS_IGNORE, /* Send nothing. */
    DNS_REJECT  /* Send a bare header with *out_rcode. */
};

/* Take the query in @packet apart. It may be anything.
 *
 * Records behind the question are looked at for the first OPT only; a record
 * that is cut ends the search and is no error, as with Consul. */
MR_MUST_CHECK enum dns_verdict dns_query_parse(struct mr_slice packet,
                                               struct dns_query *out_query,
                                               enum dns_rcode *out_rcode);

/* Write a reply without question to the query header @packet (at least
 * DNS_HEADER_LEN bytes) into @out (as long) and return its length. */
size_t dns_reject_write(const uint8_t *packet, enum dns_rcode rcode,
                        uint8_t *out);

/* Whether the last labels of @name are @zone (wire form, lower case). */
bool dns_name_within(const struct dns_name *name, const uint8_t *zone,
                     size_t zone_len);

/* Parse a name in wire form into labels, in lower case. MR_E_INVALID: it is
 * compressed, too long or cut. @out_used may be NULL. */
MR_MUST_CHECK enum mr_err dns_name_parse(struct mr_slice bytes,
                                         struct dns_name *out_name,
                                         size_t *out_used);

/* A name being put together. A label that does not fit makes it fail, and it
 * stays failed. */
struct dns_name_builder {
    size_t len; /* Without the root label. */
    bool failed;
    uint8_t wire[DNS_NAME_MAX];
};

/* Start an empty name. */
void dns_name_begin(struct dns_name_builder *b);

/* Append the labels of @text, separated by dots; one dot may end it. */
void dns_name_add(struct dns_name_builder *b, const char *text);

/* Append labels in wire form with their root label: the name is complete. */
void dns_name_add_wire(struct dns_name_builder *b, const uint8_t *wire,
                       size_t len);

/* Append the root label: the name is complete. */
void dns_name_end(struct dns_name_builder *b);

/* Read and write numbers in network order. */
static inline uint16_t dns_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* As dns_get16(). */
static inline uint8_t *dns_put16(uint8_t *p, unsigned n)
{
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    return p + 2;
}

/* As dns_get16(). */
static inline uint8_t *dns_put32(uint8_t *p, uint32_t n)
{
    return dns_put16(dns_put16(p, n >> 16), n & 0xffff);
}

/* Copy bytes and return the place behind them. */
static inline uint8_t *dns_put(uint8_t *p, const void *data, size_t len)
{
    memcpy(p, data, len);
    return p + len;
}

/* One byte in lower case (ASCII only, RFC 4343). */
static inline uint8_t dns_lower(uint8_t c)
{
    return (uint8_t)(c - 'A') < 26 ? (uint8_t)(c | 0x20) : c;
}

#endif /* MR_DNS_WIRE_H */
