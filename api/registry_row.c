/* SPDX-License-Identifier: Apache-2.0 */
/* From a service of go-micro to the rows that hold it. */
#include <string.h>

#include "api/registry_body.h"
#include "api/registry_tags.h"

/* ------------------------------------------------------------- JSON */

static void write_value(struct mr_json *j, const struct registry_value *value)
{
    if (value == NULL) {
        mr_json_null(j);
        return;
    }
    mr_json_object(j);
    mr_json_kstr(j, "name", value->name);
    mr_json_kstr(j, "type", value->type);
    mr_json_key(j, "values");
    if (value->n_values == 0) {
        mr_json_null(j);
    } else {
        mr_json_array(j);
        for (size_t i = 0; i < value->n_values; i++) {
            write_value(j, value->values[i]);
        }
        mr_json_array_end(j);
    }
    mr_json_object_end(j);
}

void registry_write_pairs(struct mr_json *j, Mr__Pair *const *pairs, size_t n)
{
    if (n == 0) {
        mr_json_null(j);
        return;
    }
    mr_json_object(j);
    for (size_t i = 0; i < n; i++) {
        mr_json_kstr(j, pairs[i]->key, pairs[i]->value);
    }
    mr_json_object_end(j);
}

void registry_write_endpoint(struct mr_json *j,
                             const struct registry_endpoint *endpoint)
{
    mr_json_object(j);
    mr_json_kstr(j, "name", endpoint->name);
    mr_json_key(j, "request");
    write_value(j, endpoint->request);
    mr_json_key(j, "response");
    write_value(j, endpoint->response);
    mr_json_key(j, "metadata");
    registry_write_pairs(j, endpoint->metadata, endpoint->n_metadata);
    mr_json_object_end(j);
}

/* ------------------------------------------------------------- tags */

/* The tags of one service, in an array that has room for all. */
struct tags {
    struct decode *d;
    char **list;
    size_t n;
    struct mr_buf plain;
    struct mr_buf tag;
    bool is_too_big; /* What a tag had to hold. */
};

/* Add the tag that holds t->plain; false: too big, or no memory. */
static bool add_tag(struct tags *t, enum registry_tag kind)
{
    char *copy;

    if (t->plain.len > REGISTRY_TAG_MAX) {
        t->is_too_big = true;
        return false;
    }
    mr_buf_reset(&t->tag);
    registry_tag_put(&t->tag, kind, mr_buf_slice(&t->plain));
    if (mr_buf_failed(&t->plain) || mr_buf_failed(&t->tag)) {
        return false;
    }
    copy = decode_alloc(t->d, t->tag.len + 1);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, t->tag.data, t->tag.len);
    copy[t->tag.len] = '\0';
    t->list[t->n++] = copy;
    return true;
}

static bool add_pair_tag(struct tags *t, Mr__Pair *pair)
{
    struct mr_json j;

    mr_buf_reset(&t->plain);
    mr_json_init(&j, &t->plain);
    registry_write_pairs(&j, &pair, 1);
    return add_tag(t, REGISTRY_TAG_METADATA);
}

static bool add_endpoint_tag(struct tags *t,
                             const struct registry_endpoint *endpoint)
{
    struct mr_json j;

    mr_buf_reset(&t->plain);
    mr_json_init(&j, &t->plain);
    registry_write_endpoint(&j, endpoint);
    return add_tag(t, REGISTRY_TAG_ENDPOINT);
}

static bool add_version_tag(struct tags *t, const char *version)
{
    mr_buf_reset(&t->plain);
    mr_buf_str(&t->plain, version);
    return add_tag(t, REGISTRY_TAG_VERSION);
}

/* The tags that all nodes of @s have: endpoints and version. */
static bool add_common_tags(struct tags *t, const struct registry_service *s)
{
    for (size_t i = 0; i < s->n_endpoints; i++) {
        if (!add_endpoint_tag(t, s->endpoints[i])) {
            return false;
        }
    }
    return add_version_tag(t, s->version);
}

/* ------------------------------------------------------------- rows */

struct encoding {
    const struct registry_service *service;
    struct tags common;
    uint64_t ttl_ms;
    uint64_t incarnation;
};

/* Metadata first, as the plugin does, then what is common. */
static bool fill_tags(struct encoding *e, struct decode *d,
                      const struct registry_node *n, Mr__Service *row)
{
    struct tags t = {.d = d, .plain = e->common.plain, .tag = e->common.tag};
    bool is_done = true;

    t.list = decode_alloc(d, (n->n_metadata + e->common.n) * sizeof(char *));
    for (size_t i = 0; t.list != NULL && is_done && i < n->n_metadata; i++) {
        is_done = add_pair_tag(&t, n->metadata[i]);
    }
    /* The buffers are lent. */
    e->common.plain = t.plain;
    e->common.tag = t.tag;
    if (t.list == NULL || !is_done) {
        return false;
    }
    memcpy(t.list + t.n, e->common.list, e->common.n * sizeof(char *));
    row->tags = t.list;
    row->n_tags = t.n + e->common.n;
    return true;
}

static Mr__Service *make_row(struct encoding *e, struct decode *d,
                             const struct registry_node *n)
{
    Mr__Service *row = decode_alloc(d, sizeof *row);

    if (row == NULL) {
        return NULL;
    }
    mr__service__init(row);
    row->id = n->id;
    row->name = e->service->name;
    row->address = n->host;
    row->port = n->port;
    row->weight_passing = 1;
    row->weight_warning = 1;
    row->origin = MR__ORIGIN__REGISTRY;
    row->meta = n->metadata;
    row->n_meta = n->n_metadata;
    row->registry_meta = e->service->metadata;
    row->n_registry_meta = e->service->n_metadata;
    row->ttl_ms = e->ttl_ms;
    row->incarnation = e->incarnation;
    row->digest = n->digest;
    return fill_tags(e, d, n, row) ? row : NULL;
}

/* The rows of all nodes; NULL: too big, or no memory. */
static Mr__Service **make_rows(struct encoding *e, struct decode *d)
{
    const struct registry_service *s = e->service;
    Mr__Service **rows = decode_alloc(d, s->n_nodes * sizeof(Mr__Service *));
    bool is_done = rows != NULL;

    e->common = (struct tags){.d = d};
    e->common.list = decode_alloc(d, (s->n_endpoints + 1) * sizeof(char *));
    is_done =
        is_done && e->common.list != NULL && add_common_tags(&e->common, s);
    for (size_t i = 0; is_done && i < s->n_nodes; i++) {
        rows[i] = make_row(e, d, s->nodes[i]);
        is_done = rows[i] != NULL;
    }
    mr_buf_deinit(&e->common.plain);
    mr_buf_deinit(&e->common.tag);
    return is_done ? rows : NULL;
}

enum mr_err registry_encode(struct decode *d,
                            const struct registry_service *service,
                            const char *datacenter, uint64_t ttl_ms,
                            uint64_t incarnation, struct mr_buf *out)
{
    struct encoding e = {
        .service = service, .ttl_ms = ttl_ms, .incarnation = incarnation};
    char node_name[REGISTRY_NODE_NAME_MAX + 1];
    Mr__Node node = MR__NODE__INIT;
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    registry_node_name(service->name, node_name);
    node.name = node_name;
    node.datacenter = (char *)(uintptr_t)datacenter; /* Never written to. */
    reg.node = &node;
    reg.skip_node_update = true;
    reg.services = make_rows(&e, d);
    reg.n_services = service->n_nodes;
    if (reg.services == NULL) {
        return e.common.is_too_big ? MR_E_TOOBIG : MR_E_NOMEM;
    }
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    mr_kv_command_encode(&cmd, out);
    return MR_OK;
}
