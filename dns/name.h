/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name: what a name in one of our zones asks for (consul-compatible forms).
 *
 *   [TAG.]NAME.service[.DC]   _NAME._TAG.service[.DC]   NAME.node[.DC]
 *   HEX.addr[.DC]             and nothing else
 *
 * Names and tags may contain dots, so `a.b.c.service` is service a.b.c, or b.c
 * with tag a, or c with tag a.b. Which of them exists only the state knows, so
 * the parser offers candidates, the longest first. Pure.
 */
#ifndef MR_DNS_NAME_H
#define MR_DNS_NAME_H

#include "dns/config.h"
#include "dns/wire.h"

/* At most so many labels of a service name are tried; a longer prefix is part
 * of the tag. Bounds the look-ups that one question can cause. */
#define DNS_CANDIDATES_MAX 16

enum dns_kind {
    DNS_KIND_NONE, /* Nothing we know: NXDOMAIN. */
    DNS_KIND_SERVICE,
    DNS_KIND_NODE,
    DNS_KIND_ADDRESS
};

/* What is asked. Texts are in lower case. */
struct dns_ask {
    enum dns_kind kind;
    /* NODE: the name. SERVICE: labels joined by dots, whose ends are the
     * candidates: text + candidate_at[i] is a service name, the text in front
     * of it (without the dot) the tag. */
    char text[DNS_NAME_MAX + 1];
    uint8_t candidate_at[DNS_CANDIDATES_MAX]; /* Longest name first. */
    uint8_t n_candidates;
    /* SERVICE in RFC 2782 form: the only candidate is the whole text and the
     * tag is here; empty is no tag. */
    bool is_rfc2782;
    char rfc2782_tag[DNS_LABEL_MAX + 1];
    /* ADDRESS: 4, 16, or 0 bytes when the length is that of no address. */
    uint8_t address[16];
    uint8_t address_len;
};

/* Find out what @name, which is within @zone, asks. @type
 * matters only for SRV, where the label `service` may be missing behind the
 * RFC 2782 form. */
void dns_ask_parse(const struct dns_name *name, const struct dns_zone *zone,
                   const char *datacenter, uint16_t type,
                   struct dns_ask *out_ask);

/* The address that a reverse name (in-addr.arpa, ip6.arpa) stands for, as text
 * of inet_ntop. MR_E_NOTFOUND: it stands for none. @out_text has room for
 * INET6_ADDRSTRLEN bytes. */
MR_MUST_CHECK enum mr_err dns_reverse_parse(const struct dns_name *name,
                                            char *out_text);

/* Whether @name is in the zone of reverse names, arpa. */
bool dns_name_is_reverse(const struct dns_name *name);

#endif /* MR_DNS_NAME_H */
