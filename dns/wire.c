/* SPDX-License-Identifier: Apache-2.0 */
/* Taking DNS queries apart and putting names together. */
#include "dns/wire.h"

#define RR_FIXED_LEN 10 /* Type, class, TTL and length behind the owner. */
#define OPTION_SUBNET 8 /* RFC 7871. */
#define OPTION_FIXED_LEN 4

enum mr_err dns_name_parse(struct mr_slice bytes, struct dns_name *out_name,
                           size_t *out_used)
{
    const uint8_t *in = bytes.data;
    size_t at = 0;
    size_t n_labels = 0;
    size_t len;

    for (;;) {
        if (at >= bytes.len) {
            return MR_E_INVALID;
        }
        len = in[at];
        if (len > DNS_LABEL_MAX || at + 1 + len >= DNS_NAME_MAX + (len == 0)) {
            return MR_E_INVALID; /* RFC 1035 §2.3.4, or a pointer. */
        }
        out_name->wire[at] = (uint8_t)len;
        if (len == 0) {
            break;
        }
        if (len > bytes.len - at - 1) {
            return MR_E_INVALID;
        }
        out_name->label_at[n_labels++] = (uint8_t)at;
        for (size_t end = at + 1 + len; ++at < end;) {
            out_name->wire[at] = dns_lower(in[at]);
        }
    }
    out_name->len = (uint8_t)(at + 1);
    out_name->n_labels = (uint8_t)n_labels;
    if (out_used != NULL) {
        *out_used = at + 1;
    }
    return MR_OK;
}

/* Step over a name that may be compressed; 0 when it is cut. */
static size_t skip_name(const uint8_t *p, size_t len)
{
    size_t at = 0;

    while (at < len) {
        if (p[at] >= 0xc0) {
            return at + 2 <= len ? at + 2 : 0;
        }
        if (p[at] > DNS_LABEL_MAX) {
            return 0;
        }
        if (p[at] == 0) {
            return at + 1;
        }
        at += 1u + p[at];
    }
    return 0;
}

/* Keep a well-formed client subnet option; its scope is ours to set: 0 says
 * that the answer is the same for everybody (RFC 7871 §7.2.1). */
static void read_options(struct dns_query *q, const uint8_t *p, size_t len)
{
    size_t n;

    while (len >= OPTION_FIXED_LEN) {
        n = dns_get16(p + 2);
        if (n > len - OPTION_FIXED_LEN) {
            return;
        }
        if (dns_get16(p) == OPTION_SUBNET && n >= 4 && n <= DNS_SUBNET_MAX) {
            memcpy(q->subnet, p + OPTION_FIXED_LEN, n);
            q->subnet[3] = 0;
            q->subnet_len = (uint8_t)n;
        }
        p += OPTION_FIXED_LEN + n;
        len -= OPTION_FIXED_LEN + n;
    }
}

/* Find the first OPT record among @n_records behind the question. */
static void read_edns(struct dns_query *q, const uint8_t *p, size_t len,
                      unsigned n_records)
{
    size_t owner;
    size_t rdlen;

    for (; n_records > 0; n_records--) {
        owner = skip_name(p, len);
        if (owner == 0 || len - owner < RR_FIXED_LEN) {
            return;
        }
        rdlen = dns_get16(p + owner + 8);
        if (rdlen > len - owner - RR_FIXED_LEN) {
            return;
        }
        if (dns_get16(p + owner) == DNS_TYPE_OPT && owner == 1) {
            q->has_edns = true;
            q->edns_size = dns_get16(p + owner + 2);
            read_options(q, p + owner + RR_FIXED_LEN, rdlen);
            return;
        }
        p += owner + RR_FIXED_LEN + rdlen;
        len -= owner + RR_FIXED_LEN + rdlen;
    }
}

/* What the header alone decides. The bounds on records are those of the DNS
 * library in Consul; they also bound the search for the OPT. */
static enum dns_verdict check_header(const uint8_t *p, size_t len,
                                     enum dns_rcode *out_rcode)
{
    unsigned opcode;

    if (len < DNS_HEADER_LEN || (dns_get16(p + 2) & DNS_FLAG_QR) != 0) {
        return DNS_IGNORE;
    }
    opcode = dns_get16(p + 2) & DNS_OPCODE_MASK;
    if (opcode != DNS_OPCODE_QUERY && opcode != DNS_OPCODE_NOTIFY) {
        *out_rcode = DNS_NOTIMP;
        return DNS_REJECT;
    }
    if (dns_get16(p + 4) != 1 || dns_get16(p + 6) > 1 || dns_get16(p + 8) > 1 ||
        dns_get16(p + 10) > 2) {
        *out_rcode = DNS_FORMERR;
        return DNS_REJECT;
    }
    if (len == DNS_HEADER_LEN) {
        *out_rcode = DNS_REFUSED;
        return DNS_REJECT;
    }
    return DNS_ANSWER;
}

enum dns_verdict dns_query_parse(struct mr_slice packet,
                                 struct dns_query *out_query,
                                 enum dns_rcode *out_rcode)
{
    const uint8_t *p = packet.data;
    struct dns_query *q = out_query;
    enum dns_verdict verdict = check_header(p, packet.len, out_rcode);
    size_t rest = packet.len - DNS_HEADER_LEN;
    size_t used;

    if (verdict != DNS_ANSWER) {
        return verdict;
    }
    if (dns_name_parse(mr_slice(p + DNS_HEADER_LEN, rest), &q->name, &used) !=
            MR_OK ||
        rest - used < 4) {
        *out_rcode = DNS_FORMERR;
        return DNS_REJECT;
    }
    q->packet = p;
    q->question_len = used + 4;
    q->flags = dns_get16(p + 2);
    q->type = dns_get16(p + DNS_HEADER_LEN + used);
    q->has_edns = false;
    q->edns_size = 0;
    q->subnet_len = 0;
    read_edns(q, p + DNS_HEADER_LEN + used + 4, rest - used - 4,
              (unsigned)dns_get16(p + 6) + dns_get16(p + 8) +
                  dns_get16(p + 10));
    return DNS_ANSWER;
}

size_t dns_reject_write(const uint8_t *packet, enum dns_rcode rcode,
                        uint8_t *out)
{
    unsigned kept = dns_get16(packet + 2) & (DNS_OPCODE_MASK | DNS_FLAG_RD);

    memset(out, 0, DNS_HEADER_LEN);
    memcpy(out, packet, 2);
    dns_put16(out + 2, DNS_FLAG_QR | kept | rcode);
    return DNS_HEADER_LEN;
}

bool dns_name_within(const struct dns_name *name, const uint8_t *zone,
                     size_t zone_len)
{
    size_t at;

    if (name->len < zone_len) {
        return false;
    }
    at = name->len - zone_len;
    if (memcmp(name->wire + at, zone, zone_len) != 0) {
        return false;
    }
    /* The bytes of a zone may also end a longer label. */
    for (size_t i = name->n_labels; i > 0 && name->label_at[i - 1] >= at; i--) {
        if (name->label_at[i - 1] == at) {
            return true;
        }
    }
    return at + 1u == name->len;
}

void dns_name_begin(struct dns_name_builder *b)
{
    b->len = 0;
    b->failed = false;
}

static void add_label(struct dns_name_builder *b, const char *label, size_t len)
{
    /* One byte must stay free for the root label. */
    if (b->failed || len == 0 || len > DNS_LABEL_MAX ||
        b->len + 1 + len >= DNS_NAME_MAX) {
        b->failed = true;
        return;
    }
    b->wire[b->len++] = (uint8_t)len;
    memcpy(b->wire + b->len, label, len);
    b->len += len;
}

void dns_name_add(struct dns_name_builder *b, const char *text)
{
    const char *dot;

    while ((dot = strchr(text, '.')) != NULL) {
        add_label(b, text, (size_t)(dot - text));
        text = dot + 1;
        if (*text == '\0') {
            return;
        }
    }
    add_label(b, text, strlen(text));
}

void dns_name_add_wire(struct dns_name_builder *b, const uint8_t *wire,
                       size_t len)
{
    if (b->failed || b->len + len > DNS_NAME_MAX) {
        b->failed = true;
        return;
    }
    memcpy(b->wire + b->len, wire, len);
    b->len += len;
}

void dns_name_end(struct dns_name_builder *b)
{
    dns_name_add_wire(b, (const uint8_t *)"", 1);
}
