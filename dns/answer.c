/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers, as Consul 1.8 gives them where it has them.
 *
 *  - outside our zones and `arpa`: REFUSED;
 *  - SOA and NS are answered for every name of a zone;
 *  - a service answers with its instances that are not critical: SRV, or their
 *    addresses; without such an instance NXDOMAIN, without a fitting record
 *    NODATA, both with the SOA;
 *  - a node answers whatever its health; its NODATA comes without the SOA;
 *  - an address that is a host name becomes a CNAME, which is followed while it
 *    stays in our own zones.
 */
#include <arpa/inet.h>

#include "dns/build.h"

#define NS_MAX 3
#define CNAME_DEPTH_MAX 3
#define SERVERS_SERVICE "consul" /* The servers register themselves in it. */

enum mr_err dns_build_add_cname(struct dns_build *b, const char *text)
{
    struct dns_record r = dns_build_answer_record(b, DNS_TYPE_CNAME);
    struct dns_name_builder target;
    const struct dns_zone *zone;
    struct dns_build inner = *b;
    struct dns_name name;
    struct dns_ask ask;

    dns_build_host_name(text, &target);
    if (target.failed) {
        return MR_OK; /* Nothing that DNS can say. */
    }
    dns_set_group(b->set, false);
    dns_set_add(b->set, &r, mr_slice(target.wire, target.len));
    b->set->is_shuffled = false; /* The CNAME stays first. */
    if (dns_name_parse(mr_slice(target.wire, target.len), &name, NULL) !=
        MR_OK) {
        return MR_OK;
    }
    zone = dns_config_zone(b->config, &name);
    if (zone == NULL || b->depth == CNAME_DEPTH_MAX) {
        return MR_OK;
    }
    b->set->is_volatile = true;
    inner.owner = DNS_OWNER_NAME;
    inner.owner_name = mr_slice(target.wire, target.len);
    inner.depth++;
    return dns_build_name(&inner, &name, zone, &ask);
}

/* ------------------------------------------------------------- nodes */

/* Metadata as answers of their own. */
static void add_meta_answers(struct dns_build *b, const Mr__Node *node)
{
    struct dns_record r = dns_build_answer_record(b, DNS_TYPE_TXT);

    for (size_t i = 0; i < node->n_meta; i++) {
        dns_set_group(b->set, false);
        dns_build_add_meta(b, &r, node->meta[i]);
    }
}

static enum mr_err build_node(struct dns_build *b)
{
    bool wants_address = b->type == DNS_TYPE_A || b->type == DNS_TYPE_AAAA;
    const Mr__Node *node = NULL;
    size_t first = b->set->n_groups;
    struct dns_address a;
    enum mr_err err;

    err = mr_kv_node_get(b->view, b->ask->text, &node, NULL);
    if (err != MR_OK || node == NULL) {
        if (b->depth == 0) {
            dns_build_negative(b, DNS_NXDOMAIN);
        }
        return err;
    }
    b->ttl_s = b->config->node_ttl_s;
    a = dns_build_address_parse(node->address);
    if (wants_address || b->type == DNS_TYPE_ANY) {
        if (a.len == 0) {
            err = dns_build_add_cname(b, node->address);
        } else if (dns_build_address_wanted(&a, b->type)) {
            dns_build_add_address(b, &a);
        }
    }
    if (b->depth > 0 || err != MR_OK) {
        return err;
    }
    if (b->type == DNS_TYPE_TXT || b->type == DNS_TYPE_ANY) {
        add_meta_answers(b, node);
    } else if (wants_address && b->config->node_meta_txt && node->n_meta > 0) {
        if (b->set->n_groups == first) {
            dns_set_group(b->set, true);
        }
        dns_build_add_node_meta(b, DNS_OWNER_QUESTION, node);
    }
    return MR_OK;
}

/* ------------------------------------------------------------- zones */

/* A server of the zone, with its address. */
static void add_ns(struct dns_build *b, const Mr__Node *node)
{
    struct dns_record r = {DNS_OWNER_ZONE, mr_slice(NULL, 0), DNS_TYPE_NS,
                           b->ttl_s};
    struct dns_address a = dns_build_address_parse(node->address);
    struct dns_name_builder name;

    dns_build_node_name(b, node, &name);
    if (name.failed) {
        return;
    }
    dns_set_group(b->set, false);
    dns_set_add_target(b->set, &r, mr_slice(name.wire, name.len), name.len);
    if (a.len > 0) {
        r = dns_build_target_record(b, dns_build_address_type(&a));
        dns_set_add(b->set, &r, mr_slice(a.bytes, a.len));
    }
}

static bool on_server(void *arg, const struct mr_kv_instance *instance)
{
    struct dns_build *b = arg;
    bool warns;

    if (dns_build_is_alive(b, instance, &warns)) {
        add_ns(b, instance->node);
    }
    return b->set->n_groups < NS_MAX;
}

/* SOA and NS: the servers of the cluster, or at least this one. */
static enum mr_err build_zone(struct dns_build *b)
{
    const Mr__Node *node = NULL;
    enum mr_err err;

    b->ttl_s = b->config->node_ttl_s;
    if (b->type == DNS_TYPE_SOA) {
        b->set->soa = DNS_SOA_ANSWER;
        b->set->groups_in_authority = true;
    }
    err = mr_kv_service_instances(b->view, SERVERS_SERVICE, on_server, b, NULL);
    if (err != MR_OK || b->set->n_groups > 0) {
        return err;
    }
    err = mr_kv_node_get(b->view, b->config->node_name, &node, NULL);
    if (err == MR_OK && node != NULL) {
        add_ns(b, node);
    }
    return err;
}

/* ------------------------------------------------------------- reverse */

static void add_ptr(struct dns_build *b, const char *name, const char *kind)
{
    struct dns_record r = dns_build_answer_record(b, DNS_TYPE_PTR);
    struct dns_name_builder target;

    dns_build_zone_name(b, name, kind, &target);
    if (!target.failed) {
        dns_set_group(b->set, false);
        dns_set_add(b->set, &r, mr_slice(target.wire, target.len));
    }
}

static bool on_node_at(void *arg, const Mr__Node *node)
{
    struct dns_build *b = arg;

    if (b->set->n_groups == 0) {
        add_ptr(b, node->name, "node");
    }
    return false;
}

static bool on_service_at(void *arg, const Mr__Service *service)
{
    struct dns_build *b = arg;

    if (b->set->n_groups == 0) {
        add_ptr(b, service->name, "service");
    }
    return false;
}

/* What has the address that @name means: a node, else a service. An address
 * that we do not know is somebody else's, and we have nobody to ask. */
static enum mr_err build_reverse(struct dns_build *b,
                                 const struct dns_name *name)
{
    char text[INET6_ADDRSTRLEN];
    enum mr_err err = MR_OK;

    if (dns_reverse_parse(name, text) == MR_OK) {
        err = mr_kv_address_lookup(b->view, text, on_node_at, NULL, b);
        if (err == MR_OK && b->set->n_groups == 0) {
            err = mr_kv_address_lookup(b->view, text, NULL, on_service_at, b);
        }
    }
    if (b->set->n_groups == 0) {
        b->set->rcode = DNS_SERVFAIL;
        b->set->flags = DNS_FLAG_RA;
    }
    return err;
}

/* ------------------------------------------------------------- entry */

/* An address that its name spells out. */
static void build_address(struct dns_build *b)
{
    struct dns_address a = {.len = b->ask->address_len};

    if (a.len > 0) {
        memcpy(a.bytes, b->ask->address, a.len);
        b->ttl_s = b->config->node_ttl_s;
        if (b->owner == DNS_OWNER_QUESTION) {
            b->owner = DNS_OWNER_LOWER;
        }
        dns_build_add_address(b, &a);
    }
}

enum mr_err dns_build_name(struct dns_build *b, const struct dns_name *name,
                           const struct dns_zone *zone, struct dns_ask *ask)
{
    b->ask = ask;
    b->host_name = NULL;
    b->is_known = false;
    dns_ask_parse(name, zone, b->config->datacenter, b->type, ask);
    switch (ask->kind) {
    case DNS_KIND_SERVICE:
        return dns_build_service(b);
    case DNS_KIND_NODE:
        return build_node(b);
    case DNS_KIND_ADDRESS:
        build_address(b);
        return MR_OK;
    case DNS_KIND_NONE:
    default:
        if (b->depth == 0) {
            dns_build_negative(b, DNS_NXDOMAIN);
        }
        return MR_OK;
    }
}

/* Say what a positive answer about a service or a node rests on. One that
 * followed a CNAME rests on more than can be told. */
static void tell_depends(const struct dns_build *b, struct dns_depends *d)
{
    enum mr_kv_topic_kind kind = MR_KV_TOPIC_NODE;
    const char *name;
    size_t last = 0;

    d->n = 0;
    if (b->set->rcode != DNS_NOERROR || b->set->is_volatile) {
        return;
    }
    if (b->ask->kind == DNS_KIND_SERVICE) {
        kind = MR_KV_TOPIC_SERVICE;
        last = b->chosen;
    } else if (b->ask->kind != DNS_KIND_NODE) {
        return;
    }
    for (size_t i = 0; i <= last; i++) {
        name = b->ask->text;
        name += kind == MR_KV_TOPIC_SERVICE ? b->ask->candidate_at[i] : 0;
        d->topics[d->n++] = (struct mr_kv_topic){kind, mr_slice_str(name)};
    }
}

enum mr_err dns_answer_build(const struct dns_config *config,
                             struct mr_kv_view *view,
                             const struct dns_query *query,
                             struct dns_set *out_set,
                             struct dns_depends *out_depends)
{
    const struct dns_zone *zone = dns_config_zone(config, &query->name);
    struct dns_build b = {.config = config,
                          .view = view,
                          .set = out_set,
                          .type = query->type,
                          .owner = DNS_OWNER_QUESTION};
    enum mr_err err = MR_OK;

    dns_set_init(out_set);
    out_depends->n = 0;
    b.zone = zone != NULL ? zone->names : config->reverse;
    out_set->zone = b.zone;
    if (zone == NULL && dns_name_is_reverse(&query->name)) {
        err = build_reverse(&b, &query->name);
    } else if (zone == NULL) {
        out_set->rcode = DNS_REFUSED;
        out_set->flags = 0;
        out_set->no_opt = true;
    } else if (query->type == DNS_TYPE_AXFR) {
        out_set->rcode = DNS_NOTIMP;
        out_set->no_opt = true;
    } else if (query->type == DNS_TYPE_SOA || query->type == DNS_TYPE_NS) {
        err = build_zone(&b);
    } else {
        err = dns_build_name(&b, &query->name, zone, &out_depends->ask);
        tell_depends(&b, out_depends);
    }
    if (err != MR_OK) {
        return err;
    }
    return dns_set_finish(out_set);
}
