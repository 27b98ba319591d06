/* SPDX-License-Identifier: Apache-2.0 */
/* Names in our zones and reverse names, from labels to meaning. */
#include <arpa/inet.h>
#include <strings.h>
#include <sys/types.h>

#include "base/mem.h"
#include "dns/name.h"

#define V4_LABELS 4
#define V6_LABELS 32

/* A label as bytes. */
static struct mr_slice label_get(const struct dns_name *name, size_t i)
{
    const uint8_t *p = name->wire + name->label_at[i];

    return mr_slice(p + 1, p[0]);
}

static bool label_is(const struct dns_name *name, size_t i, const char *text)
{
    return mr_slice_eq(label_get(name, i), mr_slice_str(text));
}

static bool label_begins(const struct dns_name *name, size_t i, char c)
{
    return name->wire[name->label_at[i] + 1] == (uint8_t)c;
}

/* Join the labels [0, n) with dots. false when a label holds a byte that a
 * joined text cannot tell from a dot or from the end. */
static bool join(const struct dns_name *name, size_t n, char *out)
{
    struct mr_slice label;
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        label = label_get(name, i);
        if (memchr(label.data, '\0', label.len) != NULL ||
            memchr(label.data, '.', label.len) != NULL) {
            return false;
        }
        if (i > 0) {
            out[at++] = '.';
        }
        memcpy(out + at, label.data, label.len);
        at += label.len;
    }
    out[at] = '\0';
    return true;
}

/* Labels [0, n) name a service in one of the dotted forms. In the text, label i
 * starts where it does on the wire: a dot takes the place of a length byte. */
static void parse_service(const struct dns_name *name, size_t n,
                          struct dns_ask *ask)
{
    size_t first = n > DNS_CANDIDATES_MAX ? n - DNS_CANDIDATES_MAX : 0;

    if (n == 0 || !join(name, n, ask->text)) {
        return;
    }
    ask->kind = DNS_KIND_SERVICE;
    for (size_t i = first; i < n; i++) {
        ask->candidate_at[ask->n_candidates++] = name->label_at[i];
    }
}

/* RFC 2782: _NAME._TAG, where NAME may have dots and _tcp is no tag. */
static void parse_rfc2782(const struct dns_name *name, size_t n,
                          struct dns_ask *ask)
{
    struct mr_slice tag = label_get(name, n - 1);

    if (!join(name, n, ask->text)) {
        return;
    }
    /* The name begins behind its underscore and ends before the tag's dot. */
    ask->text[name->label_at[n - 1] - 1] = '\0';
    ask->kind = DNS_KIND_SERVICE;
    ask->is_rfc2782 = true;
    ask->candidate_at[ask->n_candidates++] = 1;
    if (!label_is(name, n - 1, "_tcp")) {
        memcpy(ask->rfc2782_tag, (const char *)tag.data + 1, tag.len - 1);
    }
    ask->rfc2782_tag[label_is(name, n - 1, "_tcp") ? 0 : tag.len - 1] = '\0';
}

static bool is_rfc2782(const struct dns_name *name, size_t n)
{
    return n >= 2 && label_begins(name, 0, '_') &&
           label_begins(name, n - 1, '_');
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Like Consul: half the label's length decides what it is, and then all of it
 * must be digits; any other length is a name without records. */
static void parse_address(const struct dns_name *name, size_t n,
                          struct dns_ask *ask)
{
    struct mr_slice label;
    const uint8_t *p;
    int high;
    int low;

    if (n != 1) {
        return;
    }
    label = label_get(name, 0);
    p = label.data;
    if (label.len / 2 == 4 || label.len / 2 == 16) {
        if (label.len % 2 != 0) {
            return;
        }
        for (size_t i = 0; i < label.len / 2; i++) {
            high = hex_digit(p[2 * i]);
            low = hex_digit(p[2 * i + 1]);
            if (high < 0 || low < 0) {
                return;
            }
            ask->address[i] = (uint8_t)(high << 4 | low);
        }
        ask->address_len = (uint8_t)(label.len / 2);
    }
    ask->kind = DNS_KIND_ADDRESS;
}

/* Whether labels [from, to) are nothing or our datacenter. */
static bool check_suffix(const struct dns_name *name, size_t from, size_t to,
                         const char *datacenter)
{
    struct mr_slice label;

    if (from == to) {
        return true;
    }
    label = label_get(name, from);
    return to - from == 1 && label.len == strlen(datacenter) &&
           strncasecmp(label.data, datacenter, label.len) == 0;
}

/* Labels of @name in front of @zone. */
static size_t count_labels(const struct dns_name *name,
                           const struct dns_zone *zone)
{
    size_t n = name->n_labels;
    size_t zone_at = name->len - (size_t)zone->len;

    while (n > 0 && name->label_at[n - 1] >= zone_at) {
        n--;
    }
    return n;
}

/* The last label that says what is asked for, or -1. */
static ssize_t find_kind(const struct dns_name *name, size_t n, uint16_t type)
{
    static const char *const kinds[] = {"service", "node",    "addr",
                                        "connect", "ingress", "query"};

    for (size_t i = n; i-- > 0;) {
        for (size_t k = 0; k < MR_ARRAY_LEN(kinds); k++) {
            if (label_is(name, i, kinds[k])) {
                return (ssize_t)i;
            }
        }
        if (type == DNS_TYPE_SRV && label_begins(name, i, '_')) {
            return (ssize_t)i;
        }
    }
    return -1;
}

void dns_ask_parse(const struct dns_name *name, const struct dns_zone *zone,
                   const char *datacenter, uint16_t type,
                   struct dns_ask *out_ask)
{
    size_t n = count_labels(name, zone);
    ssize_t found = find_kind(name, n, type);
    size_t i = (size_t)found;

    out_ask->kind = DNS_KIND_NONE;
    out_ask->n_candidates = 0;
    out_ask->is_rfc2782 = false;
    out_ask->address_len = 0;
    if (found < 0) {
        return;
    }
    if (label_is(name, i, "addr")) {
        /* Says all by itself, so any one datacenter will do. */
        if (n - i <= 2) {
            parse_address(name, i, out_ask);
        }
        return;
    }
    if (!check_suffix(name, i + 1, n, datacenter)) {
        return;
    }
    if (label_begins(name, i, '_') && is_rfc2782(name, i + 1)) {
        parse_rfc2782(name, i + 1, out_ask);
    } else if (label_is(name, i, "service") && is_rfc2782(name, i)) {
        parse_rfc2782(name, i, out_ask);
    } else if (label_is(name, i, "service")) {
        parse_service(name, i, out_ask);
    } else if (label_is(name, i, "node") && i > 0 &&
               join(name, i, out_ask->text)) {
        out_ask->kind = DNS_KIND_NODE;
    }
}

bool dns_name_is_reverse(const struct dns_name *name)
{
    return name->n_labels > 0 && label_is(name, name->n_labels - 1u, "arpa");
}

/* Four numbers, the last byte first. */
static bool read_v4(const struct dns_name *name, uint8_t *out)
{
    struct mr_slice label;
    unsigned n;

    for (size_t i = 0; i < V4_LABELS; i++) {
        label = label_get(name, i);
        n = 0;
        for (size_t k = 0; k < label.len; k++) {
            uint8_t c = ((const uint8_t *)label.data)[k];

            if (k == 3 || c < '0' || c > '9') {
                return false;
            }
            n = n * 10 + c - '0';
        }
        if (n > UINT8_MAX) {
            return false;
        }
        out[V4_LABELS - 1 - i] = (uint8_t)n;
    }
    return true;
}

/* Thirty-two hexadecimal digits, the last one first. */
static bool read_v6(const struct dns_name *name, uint8_t *out)
{
    struct mr_slice label;
    int digit;

    memset(out, 0, V6_LABELS / 2);
    for (size_t i = 0; i < V6_LABELS; i++) {
        label = label_get(name, i);
        digit = hex_digit(*(const uint8_t *)label.data);
        if (label.len != 1 || digit < 0) {
            return false;
        }
        out[15 - i / 2] |= (uint8_t)(i % 2 == 0 ? digit : digit << 4);
    }
    return true;
}

enum mr_err dns_reverse_parse(const struct dns_name *name, char *out_text)
{
    uint8_t bytes[16];
    size_t n = name->n_labels;

    if (n == V4_LABELS + 2 && label_is(name, V4_LABELS, "in-addr") &&
        read_v4(name, bytes)) {
        (void)inet_ntop(AF_INET, bytes, out_text, INET6_ADDRSTRLEN);
        return MR_OK;
    }
    if (n == V6_LABELS + 2 && label_is(name, V6_LABELS, "ip6") &&
        read_v6(name, bytes)) {
        (void)inet_ntop(AF_INET6, bytes, out_text, INET6_ADDRSTRLEN);
        return MR_OK;
    }
    return MR_E_NOTFOUND;
}
