/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the catalog as Consul's JSON. */
#include "api/shapes.h"

#include "base/text.h"

void shape_texts(struct mr_json *j, const char *const *texts, size_t n)
{
    mr_json_array(j);
    for (size_t i = 0; i < n; i++) {
        mr_json_str(j, texts[i]);
    }
    mr_json_array_end(j);
}

void shape_pairs(struct mr_json *j, Mr__Pair *const *pairs, size_t n)
{
    mr_json_object(j);
    for (size_t i = 0; i < n; i++) {
        mr_json_kstr(j, pairs[i]->key, pairs[i]->value);
    }
    mr_json_object_end(j);
}

static void pairs_or_null(struct mr_json *j, const char *key, bool is_there,
                          Mr__Pair *const *pairs, size_t n)
{
    mr_json_key(j, key);
    if (is_there) {
        shape_pairs(j, pairs, n);
    } else {
        mr_json_null(j);
    }
}

static void texts_member(struct mr_json *j, const char *key, char *const *texts,
                         size_t n)
{
    mr_json_key(j, key);
    shape_texts(j, (const char *const *)texts, n);
}

static void revisions(struct mr_json *j, uint64_t create_rev,
                      uint64_t modify_rev)
{
    mr_json_ku64(j, "CreateIndex", create_rev);
    mr_json_ku64(j, "ModifyIndex", modify_rev);
}

/* ID, Node, Address, Datacenter, TaggedAddresses: how two shapes begin. */
static void node_head(struct mr_json *j, const Mr__Node *node)
{
    mr_json_kstr(j, "ID", node->id);
    mr_json_kstr(j, "Node", node->name);
    mr_json_kstr(j, "Address", node->address);
    mr_json_kstr(j, "Datacenter", node->datacenter);
    pairs_or_null(j, "TaggedAddresses", node->has_tagged_addresses,
                  node->tagged_addresses, node->n_tagged_addresses);
}

void shape_node(struct mr_json *j, const Mr__Node *node)
{
    mr_json_object(j);
    node_head(j, node);
    pairs_or_null(j, "Meta", node->has_meta, node->meta, node->n_meta);
    revisions(j, node->create_rev, node->modify_rev);
    mr_json_object_end(j);
}

/* ------------------------------------------------------------- services */

/* The member @key, which Consul leaves out when there are none. */
static void tagged_addresses(struct mr_json *j, const char *key,
                             const Mr__Service *service)
{
    if (service->n_tagged_addresses == 0) {
        return;
    }
    mr_json_key(j, key);
    mr_json_object(j);
    for (size_t i = 0; i < service->n_tagged_addresses; i++) {
        const Mr__TaggedAddress *at = service->tagged_addresses[i];

        mr_json_key(j, at->tag);
        mr_json_object(j);
        mr_json_kstr(j, "Address", at->address);
        mr_json_ki64(j, "Port", at->port);
        mr_json_object_end(j);
    }
    mr_json_object_end(j);
}

static void weights(struct mr_json *j, const char *key,
                    const Mr__Service *service)
{
    mr_json_key(j, key);
    mr_json_object(j);
    mr_json_ki64(j, "Passing", service->weight_passing);
    mr_json_ki64(j, "Warning", service->weight_warning);
    mr_json_object_end(j);
}

/* The members about Connect, which is not there. */
static void no_connect(struct mr_json *j, const char *proxy,
                       const char *connect)
{
    static const char empty_proxy[] = "{\"MeshGateway\":{},\"Expose\":{}}";

    mr_json_key(j, proxy);
    mr_json_raw(j, mr_slice(empty_proxy, sizeof empty_proxy - 1));
    mr_json_key(j, connect);
    mr_json_raw(j, mr_slice("{}", 2));
}

/* Kind, ID, Service, Tags: how two shapes begin. */
static void service_head(struct mr_json *j, const Mr__Service *service)
{
    if (service->kind[0] != '\0') {
        mr_json_kstr(j, "Kind", service->kind);
    }
    mr_json_kstr(j, "ID", service->id);
    mr_json_kstr(j, "Service", service->name);
    texts_member(j, "Tags", service->tags, service->n_tags);
}

void shape_service_agent(struct mr_json *j, const Mr__Service *service,
                         const char *content_hash)
{
    mr_json_object(j);
    service_head(j, service);
    pairs_or_null(j, "Meta", true, service->meta, service->n_meta);
    mr_json_ki64(j, "Port", service->port);
    mr_json_kstr(j, "Address", service->address);
    tagged_addresses(j, "TaggedAddresses", service);
    weights(j, "Weights", service);
    mr_json_kbool(j, "EnableTagOverride", service->enable_tag_override);
    if (content_hash != NULL) {
        mr_json_kstr(j, "ContentHash", content_hash);
    }
    mr_json_object_end(j);
}

void shape_service(struct mr_json *j, const Mr__Service *service)
{
    mr_json_object(j);
    service_head(j, service);
    mr_json_kstr(j, "Address", service->address);
    tagged_addresses(j, "TaggedAddresses", service);
    pairs_or_null(j, "Meta", service->n_meta > 0, service->meta,
                  service->n_meta);
    mr_json_ki64(j, "Port", service->port);
    weights(j, "Weights", service);
    mr_json_kbool(j, "EnableTagOverride", service->enable_tag_override);
    no_connect(j, "Proxy", "Connect");
    revisions(j, service->create_rev, service->modify_rev);
    mr_json_object_end(j);
}

void shape_service_flat(struct mr_json *j, const Mr__Node *node,
                        const Mr__Service *service)
{
    mr_json_object(j);
    node_head(j, node);
    pairs_or_null(j, "NodeMeta", node->has_meta, node->meta, node->n_meta);
    mr_json_kstr(j, "ServiceKind", service->kind);
    mr_json_kstr(j, "ServiceID", service->id);
    mr_json_kstr(j, "ServiceName", service->name);
    texts_member(j, "ServiceTags", service->tags, service->n_tags);
    mr_json_kstr(j, "ServiceAddress", service->address);
    tagged_addresses(j, "ServiceTaggedAddresses", service);
    weights(j, "ServiceWeights", service);
    pairs_or_null(j, "ServiceMeta", true, service->meta, service->n_meta);
    mr_json_ki64(j, "ServicePort", service->port);
    mr_json_kbool(j, "ServiceEnableTagOverride", service->enable_tag_override);
    no_connect(j, "ServiceProxy", "ServiceConnect");
    revisions(j, service->create_rev, service->modify_rev);
    mr_json_object_end(j);
}

/* ------------------------------------------------------------- checks */

static void duration_member(struct mr_json *j, const char *key, int64_t ns)
{
    char text[40];
    struct mr_buf out;

    if (ns == 0) {
        return;
    }
    mr_buf_init(&out, sizeof text);
    mr_duration_format(&out, ns);
    mr_json_key(j, key);
    mr_json_strn(j, mr_buf_cstr(&out), out.len);
    if (mr_buf_failed(&out)) {
        j->out->failed = true;
    }
    mr_buf_deinit(&out);
}

static void text_member(struct mr_json *j, const char *key, const char *text)
{
    if (text[0] != '\0') {
        mr_json_kstr(j, key, text);
    }
}

static void header_member(struct mr_json *j, const Mr__CheckDefinition *def)
{
    if (def->n_header == 0) {
        return;
    }
    mr_json_key(j, "Header");
    mr_json_object(j);
    for (size_t i = 0; i < def->n_header; i++) {
        texts_member(j, def->header[i]->name, def->header[i]->values,
                     def->header[i]->n_values);
    }
    mr_json_object_end(j);
}

/* What the catalog was told about how a check is run; the agents' own checks
 * keep that to themselves. */
static void definition(struct mr_json *j, const Mr__Check *check)
{
    const Mr__CheckDefinition *def = check->definition;

    mr_json_object(j);
    if (def != NULL && check->origin == MR__ORIGIN__CATALOG) {
        duration_member(j, "Interval", def->interval_ns);
        duration_member(j, "Timeout", def->timeout_ns);
        duration_member(j, "DeregisterCriticalServiceAfter",
                        def->deregister_after_ns);
        text_member(j, "HTTP", def->http);
        if (def->tls_skip_verify) {
            mr_json_kbool(j, "TLSSkipVerify", true);
        }
        header_member(j, def);
        text_member(j, "Method", def->method);
        text_member(j, "Body", def->body);
        text_member(j, "TCP", def->tcp);
    }
    mr_json_object_end(j);
}

static void blank_definition(struct mr_json *j)
{
    static const char blank[] =
        "{\"Interval\":\"0s\",\"Timeout\":\"0s\","
        "\"DeregisterCriticalServiceAfter\":\"0s\",\"HTTP\":\"\","
        "\"Header\":null,\"Method\":\"\",\"Body\":\"\","
        "\"TLSSkipVerify\":false,\"TCP\":\"\"}";

    mr_json_raw(j, mr_slice(blank, sizeof blank - 1));
}

void shape_check(struct mr_json *j, const Mr__Check *check,
                 enum shape_check_form form)
{
    bool is_catalog = form == SHAPE_CHECK_CATALOG;

    mr_json_object(j);
    mr_json_kstr(j, "Node", check->node);
    mr_json_kstr(j, "CheckID", check->check_id);
    mr_json_kstr(j, "Name", check->name);
    mr_json_kstr(j, "Status", check->status);
    mr_json_kstr(j, "Notes", check->notes);
    mr_json_kstr(j, "Output", check->output);
    mr_json_kstr(j, "ServiceID", check->service_id);
    mr_json_kstr(j, "ServiceName", check->service_name);
    if (form == SHAPE_CHECK_HEALTH) {
        mr_json_key(j, "ServiceTags");
        mr_json_null(j);
        mr_json_kstr(j, "Type", "");
        mr_json_key(j, "Definition");
        blank_definition(j);
    } else {
        texts_member(j, "ServiceTags", check->service_tags,
                     check->n_service_tags);
        mr_json_kstr(j, "Type", check->type);
        mr_json_key(j, "Definition");
        definition(j, check);
    }
    revisions(j, is_catalog ? check->create_rev : 0,
              is_catalog ? check->modify_rev : 0);
    mr_json_object_end(j);
}

void shape_instance(struct mr_json *j, const struct mr_kv_instance *instance)
{
    mr_json_object(j);
    mr_json_key(j, "Node");
    shape_node(j, instance->node);
    mr_json_key(j, "Service");
    shape_service(j, instance->service);
    mr_json_key(j, "Checks");
    mr_json_array(j);
    for (size_t i = 0; i < instance->n_checks; i++) {
        shape_check(j, instance->checks[i], SHAPE_CHECK_CATALOG);
    }
    mr_json_array_end(j);
    mr_json_object_end(j);
}

void shape_key(struct mr_json *j, const Mr__Key *key)
{
    mr_json_object(j);
    mr_json_ku64(j, "LockIndex", key->lock_index);
    mr_json_key(j, "Key");
    mr_json_strn(j, (const char *)key->key.data, key->key.len);
    mr_json_ku64(j, "Flags", key->flags);
    mr_json_key(j, "Value");
    if (key->value.len == 0) {
        mr_json_null(j);
    } else {
        mr_json_base64(j, mr_slice(key->value.data, key->value.len));
    }
    if (key->session[0] != '\0') {
        mr_json_kstr(j, "Session", key->session);
    }
    mr_json_ku64(j, "CreateIndex", key->create_rev);
    mr_json_ku64(j, "ModifyIndex", key->modify_rev);
    mr_json_object_end(j);
}
