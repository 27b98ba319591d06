/* SPDX-License-Identifier: Apache-2.0 */
/* go-micro's JSON of services into structs, and what is wrong with it. */
#include "api/registry_body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/body_tables.h"
#include "api/registry_digest.h"
#include "base/mem.h"

/* ------------------------------------------------------------- tables */

/* The table of struct registry_<what>. */
#define TABLE(what, texts)                                                     \
    {                                                                          \
        .go_name = (texts), .fields = what##_fields,                           \
        .n_fields = MR_ARRAY_LEN(what##_fields),                               \
        .size = sizeof(struct registry_##what), .init = init_##what,           \
        .skips_unknown = true                                                  \
    }

/* Texts that are not given are "". */
static char no_text[] = "";

static void init_value(void *object)
{
    *(struct registry_value *)object =
        (struct registry_value){.name = no_text, .type = no_text};
}

static void init_endpoint(void *object)
{
    *(struct registry_endpoint *)object =
        (struct registry_endpoint){.name = no_text};
}

static void init_node(void *object)
{
    *(struct registry_node *)object =
        (struct registry_node){.id = no_text, .address = no_text};
}

static void init_service(void *object)
{
    *(struct registry_service *)object =
        (struct registry_service){.name = no_text, .version = no_text};
}

static void init_renewal(void *object)
{
    *(struct registry_renewal *)object = (struct registry_renewal){
        .name = no_text, .id = no_text, .digest_text = no_text};
}

static void init_renewals(void *object)
{
    *(struct registry_renewals *)object =
        (struct registry_renewals){.n_nodes = 0};
}

static const struct decode_table value_table;

static const struct decode_field value_fields[] = {
    DECODE_FIELD(struct registry_value, DECODE_TEXT, "name", name),
    DECODE_FIELD(struct registry_value, DECODE_TEXT, "type", type),
    DECODE_MANY(struct registry_value, DECODE_OBJECTS, "values", values,
                &value_table),
};
static const struct decode_table value_table = TABLE(value, "Value");

static const struct decode_field endpoint_fields[] = {
    DECODE_FIELD(struct registry_endpoint, DECODE_TEXT, "name", name),
    {"request", DECODE_OBJECT, offsetof(struct registry_endpoint, request), 0,
     &value_table},
    {"response", DECODE_OBJECT, offsetof(struct registry_endpoint, response), 0,
     &value_table},
    DECODE_MANY(struct registry_endpoint, DECODE_MAP, "metadata", metadata,
                &body_pairs),
};
static const struct decode_table endpoint_table = TABLE(endpoint, "Endpoint");

static const struct decode_field node_fields[] = {
    DECODE_FIELD(struct registry_node, DECODE_TEXT, "id", id),
    DECODE_FIELD(struct registry_node, DECODE_TEXT, "address", address),
    DECODE_MANY(struct registry_node, DECODE_MAP, "metadata", metadata,
                &body_pairs),
};
static const struct decode_table node_table = TABLE(node, "Node");

static const struct decode_field service_fields[] = {
    DECODE_FIELD(struct registry_service, DECODE_TEXT, "name", name),
    DECODE_FIELD(struct registry_service, DECODE_TEXT, "version", version),
    DECODE_MANY(struct registry_service, DECODE_MAP, "metadata", metadata,
                &body_pairs),
    DECODE_MANY(struct registry_service, DECODE_OBJECTS, "endpoints", endpoints,
                &endpoint_table),
    DECODE_MANY(struct registry_service, DECODE_OBJECTS, "nodes", nodes,
                &node_table),
};
static const struct decode_table service_table = TABLE(service, "Service");

static const struct decode_field renewal_fields[] = {
    DECODE_FIELD(struct registry_renewal, DECODE_TEXT, "name", name),
    DECODE_FIELD(struct registry_renewal, DECODE_TEXT, "id", id),
    DECODE_FIELD(struct registry_renewal, DECODE_TEXT, "digest", digest_text),
    DECODE_FIELD(struct registry_renewal, DECODE_INT, "incarnation",
                 incarnation),
};
static const struct decode_table renewal_table = TABLE(renewal, "Node");

static const struct decode_field renewals_fields[] = {
    DECODE_MANY(struct registry_renewals, DECODE_OBJECTS, "nodes", nodes,
                &renewal_table),
};
static const struct decode_table renewals_table = TABLE(renewals, "Renewal");

/* ------------------------------------------------------------- texts */

static bool is_given(const char *text)
{
    return text[0] != '\0';
}

/* Whether @text can stand in a list that people read. */
static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

/* Check the text @what, which must be given. */
static enum mr_err check_text(struct decode *d, const char *what,
                              const char *text, size_t max)
{
    if (!is_given(text)) {
        return decode_fail(d, "missing %s", what);
    }
    if (strlen(text) > max) {
        return decode_fail(d, "%s is too long (limit: %zu bytes)", what, max);
    }
    if (!is_printable(text)) {
        return decode_fail(d, "%s has a control character", what);
    }
    return MR_OK;
}

/* As check_text(), of the node at @i. */
static enum mr_err check_node_text(struct decode *d, size_t i, const char *what,
                                   const char *text, size_t max)
{
    char where[64];

    (void)snprintf(where, sizeof where, "nodes[%zu].%s", i, what);
    return check_text(d, where, text, max);
}

static enum mr_err check_pairs(struct decode *d, const char *where,
                               Mr__Pair *const *pairs, size_t n)
{
    if (n > REGISTRY_PAIRS_MAX) {
        return decode_fail(d, "%s has %zu pairs (limit: %d)", where, n,
                           REGISTRY_PAIRS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (strlen(pairs[i]->key) > REGISTRY_KEY_MAX) {
            return decode_fail(
                d, "%s has a key that is too long (limit: %d bytes)", where,
                REGISTRY_KEY_MAX);
        }
        if (strlen(pairs[i]->value) > REGISTRY_VALUE_MAX) {
            return decode_fail(d, "%s[\"%s\"] is too long (limit: %d bytes)",
                               where, pairs[i]->key, REGISTRY_VALUE_MAX);
        }
    }
    return MR_OK;
}

/* ------------------------------------------------------------- nodes */

static bool is_unspecified(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* Split the address of the node at @i: "host:port" or "[v6]:port". */
static enum mr_err check_address(struct decode *d, size_t i,
                                 struct registry_node *n)
{
    struct mr_hostport parts;
    struct mr_detail detail;
    enum mr_err err;

    if (!is_given(n->address)) {
        return decode_fail(d, "missing nodes[%zu].address", i);
    }
    err = mr_hostport_parse(n->address, 0, &parts, &detail);
    if (err != MR_OK || !is_printable(n->address)) {
        return decode_fail(d, "nodes[%zu].address: %s", i,
                           err != MR_OK ? detail.text : "control character");
    }
    if (parts.port == 0) {
        return decode_fail(d,
                           "nodes[%zu].address \"%s\" has no port: write "
                           "host:port or [IPv6]:port",
                           i, n->address);
    }
    if (is_unspecified(parts.host)) {
        return decode_fail(d,
                           "nodes[%zu].address \"%s\" is no address that a "
                           "client could connect to",
                           i, n->address);
    }
    n->port = parts.port;
    n->host = decode_printf(d, "%s", parts.host);
    return n->host == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_err check_node(struct decode *d, size_t i,
                              struct registry_node *n)
{
    char where[64];
    enum mr_err err = check_node_text(d, i, "id", n->id, REGISTRY_ID_MAX);

    if (err == MR_OK) {
        err = check_address(d, i, n);
    }
    if (err == MR_OK) {
        (void)snprintf(where, sizeof where, "nodes[%zu].metadata", i);
        err = check_pairs(d, where, n->metadata, n->n_metadata);
    }
    return err;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether each node has an ID of its own. */
static enum mr_err check_distinct(struct decode *d,
                                  const struct registry_service *s)
{
    char **ids = decode_alloc(d, s->n_nodes * sizeof *ids);

    if (ids == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < s->n_nodes; i++) {
        ids[i] = s->nodes[i]->id;
    }
    qsort(ids, s->n_nodes, sizeof *ids, compare_ids);
    for (size_t i = 1; i < s->n_nodes; i++) {
        if (strcmp(ids[i - 1], ids[i]) == 0) {
            return decode_fail(d, "two nodes have the id \"%s\"", ids[i]);
        }
    }
    return MR_OK;
}

/* ------------------------------------------------------------- services */

static enum mr_err check_count(struct decode *d, size_t n, size_t max)
{
    if (n == 0) {
        return decode_fail(d, "require at least one node");
    }
    return n <= max
               ? MR_OK
               : decode_fail(d, "%zu nodes are too many (limit: %zu)", n, max);
}

static enum mr_err check_endpoints(struct decode *d,
                                   const struct registry_service *s)
{
    if (s->n_endpoints > REGISTRY_ENDPOINTS_MAX) {
        return decode_fail(d, "%zu endpoints are too many (limit: %d)",
                           s->n_endpoints, REGISTRY_ENDPOINTS_MAX);
    }
    for (size_t i = 0; i < s->n_endpoints; i++) {
        const struct registry_endpoint *e = s->endpoints[i];
        char where[64];
        enum mr_err err;

        (void)snprintf(where, sizeof where, "endpoints[%zu].metadata", i);
        err = check_pairs(d, where, e->metadata, e->n_metadata);
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

/* What is checked of the service itself. */
static enum mr_err check_service(struct decode *d,
                                 const struct registry_service *s)
{
    enum mr_err err = check_text(d, "name", s->name, REGISTRY_NAME_MAX);

    if (err == MR_OK && is_given(s->version)) {
        err = check_text(d, "version", s->version, REGISTRY_VERSION_MAX);
    }
    if (err == MR_OK) {
        err = check_pairs(d, "metadata", s->metadata, s->n_metadata);
    }
    if (err == MR_OK) {
        err = check_endpoints(d, s);
    }
    return err != MR_OK ? err : check_count(d, s->n_nodes, REGISTRY_NODES_MAX);
}

enum mr_err registry_body_service(struct decode *d, struct mr_slice body,
                                  uint64_t ttl_ms, struct registry_service *out)
{
    struct registry_service s;
    enum mr_err err;

    init_service(&s);
    err = decode_body(d, body, &service_table, &s);
    if (err == MR_OK) {
        err = check_service(d, &s);
    }
    for (size_t i = 0; i < s.n_nodes && err == MR_OK; i++) {
        err = check_node(d, i, s.nodes[i]);
    }
    if (err == MR_OK) {
        err = check_distinct(d, &s);
    }
    if (err == MR_OK) {
        err = registry_digest(&s, ttl_ms);
    }
    if (err == MR_OK) {
        *out = s;
    }
    return err;
}

enum mr_err registry_body_removal(struct decode *d, struct mr_slice body,
                                  struct registry_service *out)
{
    struct registry_service s;
    enum mr_err err;

    init_service(&s);
    err = decode_body(d, body, &service_table, &s);
    if (err == MR_OK) {
        err = check_text(d, "name", s.name, REGISTRY_NAME_MAX);
    }
    if (err == MR_OK) {
        err = check_count(d, s.n_nodes, REGISTRY_NODES_MAX);
    }
    for (size_t i = 0; i < s.n_nodes && err == MR_OK; i++) {
        err = check_node_text(d, i, "id", s.nodes[i]->id, REGISTRY_ID_MAX);
    }
    if (err == MR_OK) {
        *out = s;
    }
    return err;
}

/* ------------------------------------------------------------- renewals */

static enum mr_err check_renewal(struct decode *d, size_t i,
                                 struct registry_renewal *r)
{
    enum mr_err err = check_node_text(d, i, "name", r->name, REGISTRY_NAME_MAX);

    if (err == MR_OK) {
        err = check_node_text(d, i, "id", r->id, REGISTRY_ID_MAX);
    }
    if (err == MR_OK &&
        registry_digest_parse(r->digest_text, &r->digest) != MR_OK) {
        err = decode_fail(d,
                          "nodes[%zu].digest is not what a registration "
                          "answered: 16 hexadecimal digits",
                          i);
    }
    if (err == MR_OK && r->incarnation < 0) {
        err = decode_fail(d, "nodes[%zu].incarnation is negative", i);
    }
    return err;
}

enum mr_err registry_body_renewals(struct decode *d, struct mr_slice body,
                                   struct registry_renewals *out)
{
    struct registry_renewals all = {.n_nodes = 0};
    enum mr_err err = decode_body(d, body, &renewals_table, &all);

    if (err == MR_OK) {
        err = check_count(d, all.n_nodes, REGISTRY_RENEW_MAX);
    }
    for (size_t i = 0; i < all.n_nodes && err == MR_OK; i++) {
        err = check_renewal(d, i, all.nodes[i]);
    }
    if (err == MR_OK) {
        *out = all;
    }
    return err;
}

/* ------------------------------------------------------------- tags */

enum mr_err registry_body_endpoint(struct decode *d, struct mr_slice json,
                                   struct registry_endpoint *out)
{
    struct registry_endpoint e;
    enum mr_err err;

    init_endpoint(&e);
    err = decode_body(d, json, &endpoint_table, &e);
    if (err == MR_OK) {
        *out = e;
    }
    return err;
}

enum mr_err registry_body_pairs(struct decode *d, struct mr_slice json,
                                Mr__Pair ***out_pairs, size_t *out_n)
{
    struct registry_node n;
    char *body;
    enum mr_err err;

    /* As the member of an object that has a table. */
    init_node(&n);
    body = decode_printf(d, "{\"metadata\":%.*s}", (int)json.len,
                         (const char *)json.data);
    if (body == NULL) {
        return MR_E_NOMEM;
    }
    err = decode_body(d, mr_slice_str(body), &node_table, &n);
    if (err == MR_OK) {
        *out_pairs = n.metadata;
        *out_n = n.n_metadata;
    }
    return err;
}

/* ------------------------------------------------------------- others */

enum mr_err registry_ttl_parse(const char *text, uint64_t *out_ttl_ms,
                               struct mr_detail *detail)
{
    int64_t ns = 0;

    if (text != NULL && text[0] != '\0' &&
        mr_duration_parse(text, &ns, NULL) != MR_OK) {
        return mr_fail(detail, MR_E_INVALID,
                       "Invalid ttl \"%.64s\": not a duration such as 30s",
                       text);
    }
    if (ns != 0 && (ns < (int64_t)REGISTRY_TTL_MIN_MS * 1000000 ||
                    ns > (int64_t)REGISTRY_TTL_MAX_MS * 1000000)) {
        return mr_fail(detail, MR_E_INVALID,
                       "Invalid ttl \"%.64s\": must be between 1s and 24h, or "
                       "0 for a registration that stays",
                       text);
    }
    *out_ttl_ms = ((uint64_t)ns + 999999) / 1000000;
    return MR_OK;
}

void registry_node_name(const char *name, char out[REGISTRY_NODE_NAME_MAX + 1])
{
    (void)snprintf(out, REGISTRY_NODE_NAME_MAX + 1, "%s%s",
                   REGISTRY_NODE_PREFIX, name);
}
