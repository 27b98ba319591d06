/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: the options in the form that answering needs: zones in wire form,
 * defaults filled in. Immutable once made, so every thread reads it freely.
 *
 * Which zone the names inside an answer are in: the zone that was asked, when
 * it is the main one or `consul`; the main zone for every other alternate
 * domain (as Consul does). Reverse lookups name things in `consul` while it is
 * served, because that is what existing tools match on, else in the main zone.
 */
#ifndef MR_DNS_CONFIG_H
#define MR_DNS_CONFIG_H

#include "base/err.h"
#include "dns/mr_dns.h"
#include "dns/wire.h"

struct dns_zone {
    uint8_t len;
    uint8_t wire[DNS_NAME_MAX];   /* In lower case. */
    const struct dns_zone *names; /* The zone of names inside answers. */
};

struct dns_config {
    struct dns_zone *zones; /* Owned. The main zone first. */
    size_t n_zones;
    const struct dns_zone *reverse;          /* The zone of PTR answers. */
    char *datacenter;                        /* Owned. */
    char *node_name;                         /* Owned. */
    struct mr_dns_service_ttl *service_ttls; /* Owned, with its names. */
    size_t n_service_ttls;
    uint32_t service_ttl_s;
    uint32_t node_ttl_s;
    uint32_t soa_refresh_s;
    uint32_t soa_retry_s;
    uint32_t soa_expire_s;
    uint32_t soa_min_ttl_s;
    unsigned udp_answer_limit;
    unsigned a_record_limit;
    bool only_passing;
    bool enable_truncate;
    bool compress;
    bool node_meta_txt;
};

/* Make a configuration of @options; release it with dns_config_deinit().
 *
 * MR_E_INVALID: a domain is not a DNS name. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err dns_config_init(struct dns_config *c,
                                          const struct mr_dns_options *options,
                                          struct mr_detail *detail);

/* Release what @c owns. A zeroed or half-made configuration is fine. */
void dns_config_deinit(struct dns_config *c);

/* The zone that @name is in (the longest), or NULL. */
const struct dns_zone *dns_config_zone(const struct dns_config *c,
                                       const struct dns_name *name);

/* The TTL of records of the service @name. */
uint32_t dns_config_service_ttl(const struct dns_config *c, const char *name);

#endif /* MR_DNS_CONFIG_H */
