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
#include <strings.h>

#include "base/mem.h"
#include "dns/answer.h"

#define SRV_PRIORITY 1
#define NS_MAX 3
#define CNAME_DEPTH_MAX 3
#define SERVERS_SERVICE "consul" /* The servers register themselves in it. */
#define CRITICAL "critical"
#define PASSING "passing"
#define WARNING "warning"
#define META_PLAIN_PREFIX "rfc1035-" /* Only the value is a TXT record. */

/* One question being answered. */
struct build {
    const struct dns_config *config;
    struct mr_kv_view *view;
    struct dns_set *set;
    const struct dns_zone *zone; /* Of the names inside the answer. */
    const struct dns_ask *ask;
    uint16_t type;
    enum dns_owner owner;       /* Of the answers. */
    struct mr_slice owner_name; /* For DNS_OWNER_NAME. */
    unsigned depth;             /* CNAMEs followed to get here. */
    uint32_t ttl_s;
    /* Of the walk over instances. */
    const char *service;
    struct mr_slice tag;
    bool is_known;         /* Something by this name is alive. */
    const char *host_name; /* The first address that is a name. */
};

/* An IP address; len 0 when the text was none. */
struct address {
    uint8_t bytes[16];
    uint8_t len;
};

static struct address address_parse(const char *text)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct address a = {.len = 0};

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

static uint16_t address_type(const struct address *a)
{
    return a->len == 4 ? DNS_TYPE_A : DNS_TYPE_AAAA;
}

/* Whether a question of @type wants the address. TXT of a service counts as
 * ANY, as with Consul. */
static bool address_wanted(const struct address *a, uint16_t type)
{
    return type == address_type(a) || type == DNS_TYPE_ANY ||
           type == DNS_TYPE_TXT;
}

static struct dns_record answer_record(const struct build *b, uint16_t type)
{
    return (struct dns_record){b->owner, b->owner_name, type, b->ttl_s};
}

static struct dns_record target_record(const struct build *b, uint16_t type)
{
    return (struct dns_record){DNS_OWNER_TARGET, mr_slice(NULL, 0), type,
                               b->ttl_s};
}

static void negative(struct build *b, enum dns_rcode rcode)
{
    b->set->rcode = rcode;
    b->set->soa = DNS_SOA_AUTHORITY;
}

/* ------------------------------------------------------------- names */

/* NAME.KIND.DATACENTER.ZONE. */
static void name_in_zone(const struct build *b, const char *name,
                         const char *kind, struct dns_name_builder *out)
{
    dns_name_begin(out);
    dns_name_add(out, name);
    dns_name_add(out, kind);
    dns_name_add(out, b->config->datacenter);
    dns_name_add_wire(out, b->zone->wire, b->zone->len);
}

static void address_name(const struct build *b, const struct address *a,
                         struct dns_name_builder *out)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * sizeof a->bytes + 1];

    for (size_t i = 0; i < a->len; i++) {
        hex[2 * i] = digits[a->bytes[i] >> 4];
        hex[2 * i + 1] = digits[a->bytes[i] & 15];
    }
    hex[2 * (size_t)a->len] = '\0';
    name_in_zone(b, hex, "addr", out);
}

/* The name of a node, or of its address when its own cannot be a DNS name. */
static void node_name(const struct build *b, const Mr__Node *node,
                      struct dns_name_builder *out)
{
    struct address a;

    name_in_zone(b, node->name, "node", out);
    a = address_parse(node->address);
    if (out->failed && a.len > 0) {
        address_name(b, &a, out);
    }
}

static void host_name(const char *text, struct dns_name_builder *out)
{
    dns_name_begin(out);
    dns_name_add(out, text);
    dns_name_end(out);
}

/* ------------------------------------------------------------- records */

static void add_meta(struct build *b, const struct dns_record *r,
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

/* The node's metadata as additional records of the newest group. */
static void add_node_meta(struct build *b, enum dns_owner owner,
                          const Mr__Node *node)
{
    struct dns_record r = answer_record(b, DNS_TYPE_TXT);

    r.owner = owner;
    for (size_t i = 0; i < node->n_meta; i++) {
        add_meta(b, &r, node->meta[i]);
    }
}

/* An address as an answer of its own. */
static void add_address(struct build *b, const struct address *a)
{
    struct dns_record r = answer_record(b, address_type(a));

    dns_set_group(b->set, false);
    dns_set_add(b->set, &r, mr_slice(a->bytes, a->len));
}

static enum mr_err build_name(struct build *b, const struct dns_name *name,
                              const struct dns_zone *zone, struct dns_ask *ask);

/* Answer with a CNAME to @text and, if that is a name of ours, with what it
 * stands for. */
static enum mr_err add_cname(struct build *b, const char *text)
{
    struct dns_record r = answer_record(b, DNS_TYPE_CNAME);
    struct dns_name_builder target;
    const struct dns_zone *zone;
    struct build inner = *b;
    struct dns_name name;
    struct dns_ask ask;

    host_name(text, &target);
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
    return build_name(&inner, &name, zone, &ask);
}

/* ------------------------------------------------------------- services */

/* Whether DNS may name the instance; *@out_warns: it is in warning state. */
static bool is_alive(const struct build *b,
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

static bool has_tag(const struct build *b, const Mr__Service *service)
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
static void add_srv(struct build *b, const struct mr_kv_instance *instance,
                    bool warns)
{
    const Mr__Service *service = instance->service;
    bool has_own = service->address[0] != '\0';
    const char *text = has_own ? service->address : instance->node->address;
    struct dns_record r = answer_record(b, DNS_TYPE_SRV);
    struct address a = address_parse(text);
    struct dns_name_builder target;
    uint8_t data[6 + DNS_NAME_MAX];
    uint8_t *p = dns_put16(data, SRV_PRIORITY);

    if (a.len == 0) {
        host_name(text, &target);
    } else if (has_own) {
        address_name(b, &a, &target);
    } else {
        node_name(b, instance->node, &target);
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
        r = target_record(b, address_type(&a));
        dns_set_add(b->set, &r, mr_slice(a.bytes, a.len));
    }
    if (a.len > 0 && !has_own && b->config->node_meta_txt) {
        add_node_meta(b, DNS_OWNER_TARGET, instance->node);
    }
}

/* One instance of the service that is asked for. */
static bool on_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct build *b = arg;
    const char *text = instance->service->address;
    struct address a;
    bool warns;

    if (!is_alive(b, instance, &warns) || !has_tag(b, instance->service)) {
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
    a = address_parse(text);
    if (a.len > 0 && address_wanted(&a, b->type)) {
        add_address(b, &a);
    } else if (a.len == 0 && b->host_name == NULL) {
        b->host_name = text;
    }
    return true;
}

/* Choose the candidate that exists: the longest one, so that a service with a
 * dotted name is found before it is taken for a tag. Returns its number. */
static size_t choose(struct build *b)
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
    return i;
}

static enum mr_err build_service(struct build *b)
{
    size_t first = b->set->n_groups;
    enum mr_err err;

    (void)choose(b);
    b->ttl_s = dns_config_service_ttl(b->config, b->service);
    err = mr_kv_service_instances(b->view, b->service, on_instance, b, NULL);
    if (err != MR_OK) {
        return err;
    }
    if (b->set->n_groups == first && b->host_name != NULL) {
        return add_cname(b, b->host_name);
    }
    if (b->depth == 0) {
        b->set->is_shuffled = true;
        b->set->is_limited = b->type != DNS_TYPE_SRV;
        if (!b->is_known) {
            negative(b, DNS_NXDOMAIN);
        } else if (b->set->n_groups == 0) {
            negative(b, DNS_NOERROR);
        }
    }
    return MR_OK;
}

/* ------------------------------------------------------------- nodes */

/* Metadata as answers of their own. */
static void add_meta_answers(struct build *b, const Mr__Node *node)
{
    struct dns_record r = answer_record(b, DNS_TYPE_TXT);

    for (size_t i = 0; i < node->n_meta; i++) {
        dns_set_group(b->set, false);
        add_meta(b, &r, node->meta[i]);
    }
}

static enum mr_err build_node(struct build *b)
{
    bool wants_address = b->type == DNS_TYPE_A || b->type == DNS_TYPE_AAAA;
    const Mr__Node *node = NULL;
    size_t first = b->set->n_groups;
    struct address a;
    enum mr_err err;

    err = mr_kv_node_get(b->view, b->ask->text, &node, NULL);
    if (err != MR_OK || node == NULL) {
        if (b->depth == 0) {
            negative(b, DNS_NXDOMAIN);
        }
        return err;
    }
    b->ttl_s = b->config->node_ttl_s;
    a = address_parse(node->address);
    if (wants_address || b->type == DNS_TYPE_ANY) {
        if (a.len == 0) {
            err = add_cname(b, node->address);
        } else if (address_wanted(&a, b->type)) {
            add_address(b, &a);
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
        add_node_meta(b, DNS_OWNER_QUESTION, node);
    }
    return MR_OK;
}

/* ------------------------------------------------------------- zones */

/* A server of the zone, with its address. */
static void add_ns(struct build *b, const Mr__Node *node)
{
    struct dns_record r = {DNS_OWNER_ZONE, mr_slice(NULL, 0), DNS_TYPE_NS,
                           b->ttl_s};
    struct address a = address_parse(node->address);
    struct dns_name_builder name;

    node_name(b, node, &name);
    if (name.failed) {
        return;
    }
    dns_set_group(b->set, false);
    dns_set_add_target(b->set, &r, mr_slice(name.wire, name.len), name.len);
    if (a.len > 0) {
        r = target_record(b, address_type(&a));
        dns_set_add(b->set, &r, mr_slice(a.bytes, a.len));
    }
}

static bool on_server(void *arg, const struct mr_kv_instance *instance)
{
    struct build *b = arg;
    bool warns;

    if (is_alive(b, instance, &warns)) {
        add_ns(b, instance->node);
    }
    return b->set->n_groups < NS_MAX;
}

/* SOA and NS: the servers of the cluster, or at least this one. */
static enum mr_err build_zone(struct build *b)
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

static void add_ptr(struct build *b, const char *name, const char *kind)
{
    struct dns_record r = answer_record(b, DNS_TYPE_PTR);
    struct dns_name_builder target;

    name_in_zone(b, name, kind, &target);
    if (!target.failed) {
        dns_set_group(b->set, false);
        dns_set_add(b->set, &r, mr_slice(target.wire, target.len));
    }
}

static bool on_node_at(void *arg, const Mr__Node *node)
{
    struct build *b = arg;

    if (b->set->n_groups == 0) {
        add_ptr(b, node->name, "node");
    }
    return false;
}

static bool on_service_at(void *arg, const Mr__Service *service)
{
    struct build *b = arg;

    if (b->set->n_groups == 0) {
        add_ptr(b, service->name, "service");
    }
    return false;
}

/* What has the address that @name means: a node, else a service. An address
 * that we do not know is somebody else's, and we have nobody to ask. */
static enum mr_err build_reverse(struct build *b, const struct dns_name *name)
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
static void build_address(struct build *b)
{
    struct address a = {.len = b->ask->address_len};

    if (a.len > 0) {
        memcpy(a.bytes, b->ask->address, a.len);
        b->ttl_s = b->config->node_ttl_s;
        if (b->owner == DNS_OWNER_QUESTION) {
            b->owner = DNS_OWNER_LOWER;
        }
        add_address(b, &a);
    }
}

/* Answer for a name in one of our zones, but for SOA and NS. */
static enum mr_err build_name(struct build *b, const struct dns_name *name,
                              const struct dns_zone *zone, struct dns_ask *ask)
{
    b->ask = ask;
    b->host_name = NULL;
    b->is_known = false;
    dns_ask_parse(name, zone, b->config->datacenter, b->type, ask);
    switch (ask->kind) {
    case DNS_KIND_SERVICE:
        return build_service(b);
    case DNS_KIND_NODE:
        return build_node(b);
    case DNS_KIND_ADDRESS:
        build_address(b);
        return MR_OK;
    case DNS_KIND_NONE:
    default:
        if (b->depth == 0) {
            negative(b, DNS_NXDOMAIN);
        }
        return MR_OK;
    }
}

/* Say what a positive answer about a service or a node rests on. One that
 * followed a CNAME rests on more than can be told. */
static void tell_depends(const struct build *b, struct dns_depends *d)
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
        while (b->ask->text + b->ask->candidate_at[last] != b->service) {
            last++;
        }
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
    struct build b = {.config = config,
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
        err = build_name(&b, &query->name, zone, &out_depends->ask);
        tell_depends(&b, out_depends);
    }
    if (err != MR_OK) {
        return err;
    }
    return dns_set_finish(out_set);
}
