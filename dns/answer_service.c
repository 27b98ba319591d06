/* SPDX-License-Identifier: Apache-2.0 */
/* Services: which one a name means, which of its instances, and what is said of
 * them. */
#include <strings.h>

#include "dns/build.h"

#define SRV_PRIORITY 1

static bool has_tag(const struct dns_build *b, const Mr__Service *service)
{
    if (b->tag.len == 0) {
        return true;
    }
    for (size_t i = 0; i < service->n_tags; i++) {
        if (strlen(service->tags[i]) == b->tag.len &&
            strncasecmp(service->tags[i], b->tag.data, b->tag.len) == 0) {
            return true;
        }
    }
    return false;
}

static unsigned weight_of(const Mr__Service *service, bool warns)
{
    int64_t weight = warns ? service->weight_warning : service->weight_passing;

    if (service->weight_passing == 0 && service->weight_warning == 0) {
        return 1; /* None was given. */
    }
    return weight < 0 ? 0 : weight > UINT16_MAX ? UINT16_MAX : (unsigned)weight;
}

/* A service record (RFC 2782): target and what helps to reach it. */
static void add_srv(struct dns_build *b, const struct mr_kv_instance *instance,
                    bool warns)
{
    const Mr__Service *service = instance->service;
    bool has_own = service->address[0] != '\0';
    const char *text = has_own ? service->address : instance->node->address;
    struct dns_record r = dns_build_answer_record(b, DNS_TYPE_SRV);
    struct dns_address a = dns_build_address_parse(text);
    struct dns_name_builder target;
    uint8_t data[6 + DNS_NAME_MAX];
    uint8_t *p = dns_put16(data, SRV_PRIORITY);

    if (a.len == 0) {
        dns_build_host_name(text, &target);
    } else if (has_own) {
        dns_build_address_name(b, &a, &target);
    } else {
        dns_build_node_name(b, instance->node, &target);
    }
    if (target.failed) {
        return;
    }
    p = dns_put16(p, weight_of(service, warns));
    p = dns_put16(p, (unsigned)(service->port & UINT16_MAX));
    (void)dns_put(p, target.wire, target.len);
    dns_set_group(b->set, false);
    dns_set_add_target(b->set, &r, mr_slice(data, 6 + target.len), target.len);
    if (a.len > 0) {
        r = dns_build_target_record(b, dns_build_address_type(&a));
        dns_set_add(b->set, &r, mr_slice(a.bytes, a.len));
    }
    if (a.len > 0 && !has_own && b->config->node_meta_txt) {
        dns_build_add_node_meta(b, DNS_OWNER_TARGET, instance->node);
    }
}

/* One instance of the service that is asked for. */
static bool on_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct dns_build *b = arg;
    const char *text = instance->service->address;
    struct dns_address a;
    bool warns;

    if (!dns_build_is_alive(b, instance, &warns) ||
        !has_tag(b, instance->service)) {
        return true;
    }
    b->is_known = true;
    if (b->type == DNS_TYPE_SRV) {
        add_srv(b, instance, warns);
        return true;
    }
    if (text[0] == '\0') {
        text = instance->node->address;
    }
    a = dns_build_address_parse(text);
    if (a.len > 0 && dns_build_address_wanted(&a, b->type)) {
        dns_build_add_address(b, &a);
    } else if (a.len == 0 && b->host_name == NULL) {
        b->host_name = text;
    }
    return true;
}

/* Choose the candidate that exists: the longest one, so that a service with a
 * dotted name is found before it is taken for a tag. */
static void choose(struct dns_build *b)
{
    const struct dns_ask *ask = b->ask;
    size_t i = 0;

    while (i + 1u < ask->n_candidates &&
           !mr_kv_service_exists(b->view, ask->text + ask->candidate_at[i])) {
        i++;
    }
    b->service = ask->text + ask->candidate_at[i];
    b->tag = mr_slice(ask->rfc2782_tag, strlen(ask->rfc2782_tag));
    if (!ask->is_rfc2782) {
        b->tag = mr_slice(ask->text, ask->candidate_at[i]);
        b->tag.len -= b->tag.len > 0 ? 1 : 0; /* The dot. */
    }
    b->chosen = i;
}

enum mr_err dns_build_service(struct dns_build *b)
{
    size_t first = b->set->n_groups;
    enum mr_err err;

    mr_assert(b->ask->n_candidates > 0);
    choose(b);
    b->ttl_s = dns_config_service_ttl(b->config, b->service);
    err = mr_kv_service_instances(b->view, b->service, on_instance, b, NULL);
    if (err != MR_OK) {
        return err;
    }
    if (b->set->n_groups == first && b->host_name != NULL) {
        err = dns_build_add_cname(b, b->host_name);
    } else if (b->depth == 0) {
        b->set->is_shuffled = true;
        b->set->is_limited = b->type != DNS_TYPE_SRV;
    }
    if (b->depth == 0 && b->set->n_groups == 0) {
        dns_build_negative(b, b->is_known ? DNS_NOERROR : DNS_NXDOMAIN);
    }
    return err;
}
