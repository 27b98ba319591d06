/* SPDX-License-Identifier: Apache-2.0 */
/* Options made ready for answering. */
#include <strings.h>

#include "base/mem.h"
#include "dns/config.h"

#define COMPATIBLE_DOMAIN "consul"
#define DEFAULT_UDP_ANSWER_LIMIT 3
#define DEFAULT_SOA_REFRESH_S 3600
#define DEFAULT_SOA_RETRY_S 600
#define DEFAULT_SOA_EXPIRE_S 86400

static enum mr_err zone_init(struct dns_zone *zone, const char *domain,
                             struct mr_detail *detail)
{
    struct dns_name_builder b;
    struct dns_name name;

    dns_name_begin(&b);
    dns_name_add(&b, domain);
    dns_name_end(&b);
    if (b.failed ||
        dns_name_parse(mr_slice(b.wire, b.len), &name, NULL) != MR_OK) {
        return mr_fail(detail, MR_E_INVALID, "\"%s\" is not a DNS domain",
                       domain);
    }
    zone->len = name.len;
    memcpy(zone->wire, name.wire, name.len);
    return MR_OK;
}

static enum mr_err zones_init(struct dns_config *c,
                              const struct mr_dns_options *o,
                              struct mr_detail *detail)
{
    struct dns_zone *zone;
    const char *domain;
    enum mr_err err;

    c->zones = mr_calloc(1 + o->n_alt_domains, sizeof *c->zones);
    if (c->zones == NULL) {
        return MR_E_NOMEM;
    }
    c->reverse = c->zones;
    for (size_t i = 0; i <= o->n_alt_domains; i++) {
        zone = &c->zones[i];
        domain = i == 0 ? o->domain : o->alt_domains[i - 1];
        err = zone_init(zone, domain, detail);
        if (err != MR_OK) {
            return err;
        }
        zone->names = c->zones;
        if (strcasecmp(domain, COMPATIBLE_DOMAIN) == 0) {
            zone->names = zone;
            c->reverse = zone;
        }
        c->n_zones++;
    }
    return MR_OK;
}

static enum mr_err ttls_init(struct dns_config *c,
                             const struct mr_dns_options *o)
{
    if (o->n_service_ttls == 0) {
        return MR_OK;
    }
    c->service_ttls = mr_calloc(o->n_service_ttls, sizeof *c->service_ttls);
    if (c->service_ttls == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < o->n_service_ttls; i++) {
        c->service_ttls[i].name = mr_strdup(o->service_ttls[i].name);
        c->service_ttls[i].ttl_s = o->service_ttls[i].ttl_s;
        c->n_service_ttls++;
        if (c->service_ttls[i].name == NULL) {
            return MR_E_NOMEM;
        }
    }
    return MR_OK;
}

static uint32_t or_default(uint32_t n, uint32_t fallback)
{
    return n != 0 ? n : fallback;
}

enum mr_err dns_config_init(struct dns_config *c,
                            const struct mr_dns_options *options,
                            struct mr_detail *detail)
{
    const struct mr_dns_options *o = options;
    enum mr_err err;

    *c = (struct dns_config){
        .service_ttl_s = o->service_ttl_s,
        .node_ttl_s = o->node_ttl_s,
        .soa_refresh_s = or_default(o->soa_refresh_s, DEFAULT_SOA_REFRESH_S),
        .soa_retry_s = or_default(o->soa_retry_s, DEFAULT_SOA_RETRY_S),
        .soa_expire_s = or_default(o->soa_expire_s, DEFAULT_SOA_EXPIRE_S),
        .soa_min_ttl_s = o->soa_min_ttl_s,
        .udp_answer_limit =
            or_default(o->udp_answer_limit, DEFAULT_UDP_ANSWER_LIMIT),
        .a_record_limit = o->a_record_limit,
        .only_passing = o->only_passing,
        .enable_truncate = o->enable_truncate,
        .compress = !o->disable_compression,
        .node_meta_txt = !o->omit_node_meta_txt,
    };
    err = zones_init(c, o, detail);
    if (err == MR_OK) {
        err = ttls_init(c, o);
    }
    if (err == MR_OK) {
        c->datacenter = mr_strdup(o->datacenter);
        c->node_name = mr_strdup(o->node_name);
        if (c->datacenter == NULL || c->node_name == NULL) {
            err = MR_E_NOMEM;
        }
    }
    if (err != MR_OK) {
        dns_config_deinit(c);
    }
    return err;
}

void dns_config_deinit(struct dns_config *c)
{
    for (size_t i = 0; i < c->n_service_ttls; i++) {
        mr_free((char *)c->service_ttls[i].name);
    }
    mr_free(c->service_ttls);
    mr_free(c->node_name);
    mr_free(c->datacenter);
    mr_free(c->zones);
    *c = (struct dns_config){0};
}

const struct dns_zone *dns_config_zone(const struct dns_config *c,
                                       const struct dns_name *name)
{
    const struct dns_zone *best = NULL;
    const struct dns_zone *zone;

    for (size_t i = 0; i < c->n_zones; i++) {
        zone = &c->zones[i];
        if ((best == NULL || zone->len > best->len) &&
            dns_name_within(name, zone->wire, zone->len)) {
            best = zone;
        }
    }
    return best;
}

uint32_t dns_config_service_ttl(const struct dns_config *c, const char *name)
{
    const struct mr_dns_service_ttl *best = NULL;
    const struct mr_dns_service_ttl *t;
    size_t best_len = 0;
    size_t len;

    for (size_t i = 0; i < c->n_service_ttls; i++) {
        t = &c->service_ttls[i];
        if (strcasecmp(t->name, name) == 0) {
            return t->ttl_s;
        }
        len = strlen(t->name);
        if (len > best_len && t->name[len - 1] == '*' &&
            strncasecmp(t->name, name, len - 1) == 0) {
            best = t;
            best_len = len;
        }
    }
    return best != NULL ? best->ttl_s : c->service_ttl_s;
}
