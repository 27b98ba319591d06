/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, names and records that answers share. */
#include <arpa/inet.h>
#include <strings.h>

#include "dns/build.h"

/* States of checks, in Consul's words. */
#define CRITICAL "critical"
#define PASSING "passing"
#define WARNING "warning"

#define META_PLAIN_PREFIX "rfc1035-" /* Only the value is a TXT record. */

struct dns_address dns_build_address_parse(const char *text)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct dns_address a = {.len = 0};

    if (inet_pton(AF_INET, text, a.bytes) == 1) {
        a.len = 4;
    } else if (inet_pton(AF_INET6, text, a.bytes) == 1) {
        a.len = 16;
        if (memcmp(a.bytes, mapped, sizeof mapped) == 0) {
            memmove(a.bytes, a.bytes + sizeof mapped, 4);
            a.len = 4;
        }
    }
    return a;
}

uint16_t dns_build_address_type(const struct dns_address *a)
{
    return a->len == 4 ? DNS_TYPE_A : DNS_TYPE_AAAA;
}

bool dns_build_address_wanted(const struct dns_address *a, uint16_t type)
{
    return type == dns_build_address_type(a) || type == DNS_TYPE_ANY ||
           type == DNS_TYPE_TXT;
}

struct dns_record dns_build_answer_record(const struct dns_build *b,
                                          uint16_t type)
{
    return (struct dns_record){b->owner, b->owner_name, type, b->ttl_s};
}

struct dns_record dns_build_target_record(const struct dns_build *b,
                                          uint16_t type)
{
    return (struct dns_record){DNS_OWNER_TARGET, mr_slice(NULL, 0), type,
                               b->ttl_s};
}

void dns_build_negative(struct dns_build *b, enum dns_rcode rcode)
{
    b->set->rcode = rcode;
    b->set->soa = DNS_SOA_AUTHORITY;
}

void dns_build_zone_name(const struct dns_build *b, const char *name,
                         const char *kind, struct dns_name_builder *out)
{
    dns_name_begin(out);
    dns_name_add(out, name);
    dns_name_add(out, kind);
    dns_name_add(out, b->config->datacenter);
    dns_name_add_wire(out, b->zone->wire, b->zone->len);
}

void dns_build_address_name(const struct dns_build *b,
                            const struct dns_address *a,
                            struct dns_name_builder *out)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * sizeof a->bytes + 1];

    for (size_t i = 0; i < a->len; i++) {
        hex[2 * i] = digits[a->bytes[i] >> 4];
        hex[2 * i + 1] = digits[a->bytes[i] & 15];
    }
    hex[2 * (size_t)a->len] = '\0';
    dns_build_zone_name(b, hex, "addr", out);
}

void dns_build_node_name(const struct dns_build *b, const Mr__Node *node,
                         struct dns_name_builder *out)
{
    struct dns_address a;

    dns_build_zone_name(b, node->name, "node", out);
    a = dns_build_address_parse(node->address);
    if (out->failed && a.len > 0) {
        dns_build_address_name(b, &a, out);
    }
}

void dns_build_host_name(const char *text, struct dns_name_builder *out)
{
    dns_name_begin(out);
    dns_name_add(out, text);
    dns_name_end(out);
}

void dns_build_add_meta(struct dns_build *b, const struct dns_record *r,
                        const Mr__Pair *pair)
{
    struct mr_buf text = MR_BUF_INIT;
    size_t prefix_len = sizeof META_PLAIN_PREFIX - 1;

    if (strncasecmp(pair->key, META_PLAIN_PREFIX, prefix_len) != 0) {
        mr_buf_str(&text, pair->key);
        mr_buf_byte(&text, '=');
    }
    mr_buf_str(&text, pair->value);
    if (mr_buf_failed(&text)) {
        b->set->bytes.failed = true;
    } else {
        dns_set_add_text(b->set, r, mr_buf_slice(&text));
    }
    mr_buf_deinit(&text);
}

void dns_build_add_node_meta(struct dns_build *b, enum dns_owner owner,
                             const Mr__Node *node)
{
    struct dns_record r = dns_build_answer_record(b, DNS_TYPE_TXT);

    r.owner = owner;
    for (size_t i = 0; i < node->n_meta; i++) {
        dns_build_add_meta(b, &r, node->meta[i]);
    }
}

void dns_build_add_address(struct dns_build *b, const struct dns_address *a)
{
    struct dns_record r = dns_build_answer_record(b, dns_build_address_type(a));

    dns_set_group(b->set, false);
    dns_set_add(b->set, &r, mr_slice(a->bytes, a->len));
}

bool dns_build_is_alive(const struct dns_build *b,
                        const struct mr_kv_instance *instance, bool *out_warns)
{
    const char *status;

    *out_warns = false;
    for (size_t i = 0; i < instance->n_checks; i++) {
        status = instance->checks[i]->status;
        if (strcmp(status, CRITICAL) == 0 ||
            (b->config->only_passing && strcmp(status, PASSING) != 0)) {
            return false;
        }
        *out_warns = *out_warns || strcmp(status, WARNING) == 0;
    }
    return true;
}
