/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream is about: requests, and the objects of each kind. */
#include "server/watch.h"

#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#define VALUE_SHOWN 60

static const char *const kinds[] = {
    [WATCH_KEY] = "key",           [WATCH_KEYPREFIX] = "keyprefix",
    [WATCH_SERVICES] = "services", [WATCH_SERVICE] = "service",
    [WATCH_NODES] = "nodes",       [WATCH_CHECKS] = "checks",
    [WATCH_REGISTRY] = "registry",
};

bool watch_kind_find(const char *name, enum watch_kind *out_kind)
{
    if (strcmp(name, "prefix") == 0) {
        name = "keyprefix";
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i], name) == 0) {
            *out_kind = (enum watch_kind)i;
            return true;
        }
    }
    return false;
}

const char *watch_kind_name(enum watch_kind kind)
{
    return kinds[kind];
}

/* ------------------------------------------------------------- requests */

static const char *first_name(const struct watch_topic *topic)
{
    return topic->n_names > 0 ? topic->names[0] : "";
}

static void add_index(struct mr_buf *query, uint64_t index)
{
    if (index > 0) {
        mr_buf_printf(query, "%sindex=%" PRIu64, query->len > 0 ? "&" : "",
                      index);
    }
}

/* Several services in one stream, each after @index. */
static void write_names(const struct watch_topic *topic, uint64_t index,
                        struct mr_buf *out)
{
    struct mr_json j;

    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_key(&j, "services");
    mr_json_array(&j);
    for (size_t i = 0; i < topic->n_names; i++) {
        mr_json_object(&j);
        mr_json_kstr(&j, "name", topic->names[i]);
        if (index > 0) {
            mr_json_ku64(&j, "index", index);
        }
        mr_json_object_end(&j);
    }
    mr_json_array_end(&j);
    mr_json_object_end(&j);
}

void watch_topic_stream(const struct watch_topic *topic, uint64_t index,
                        struct watch_request *out)
{
    memset(out, 0, sizeof *out);
    if (topic->kind == WATCH_REGISTRY) {
        mr_buf_str(&out->path, "/registry/watch");
        if (topic->n_names > 1) {
            write_names(topic, index, &out->body);
            return;
        }
        server_cli_param(&out->query, "service", first_name(topic));
    } else {
        mr_buf_printf(&out->path, "/v1/watch/%s", kinds[topic->kind]);
    }
    if (topic->kind == WATCH_KEY || topic->kind == WATCH_KEYPREFIX ||
        topic->kind == WATCH_SERVICE) {
        mr_buf_byte(&out->path, '/');
        server_cli_escape(first_name(topic), &out->path);
    }
    server_cli_param(&out->query, "service", topic->service);
    server_cli_param(&out->query, "state", topic->state);
    if (topic->passing) {
        server_cli_param(&out->query, "passing", "true");
    }
    add_index(&out->query, index);
}

static void read_checks(const struct watch_topic *topic,
                        struct watch_request *out)
{
    if (topic->service != NULL) {
        mr_buf_str(&out->path, "/v1/health/checks/");
        server_cli_escape(topic->service, &out->path);
    } else {
        mr_buf_str(&out->path, "/v1/health/state/");
        server_cli_escape(topic->state != NULL ? topic->state : "any",
                          &out->path);
    }
}

void watch_topic_read(const struct watch_topic *topic,
                      struct watch_request *out)
{
    memset(out, 0, sizeof *out);
    switch (topic->kind) {
    case WATCH_KEY:
    case WATCH_KEYPREFIX:
        mr_buf_str(&out->path, "/v1/kv/");
        server_cli_escape(first_name(topic), &out->path);
        if (topic->kind == WATCH_KEYPREFIX) {
            mr_buf_str(&out->query, "recurse");
        }
        break;
    case WATCH_SERVICES:
        mr_buf_str(&out->path, "/v1/catalog/services");
        break;
    case WATCH_SERVICE:
        mr_buf_str(&out->path, "/v1/health/service/");
        server_cli_escape(first_name(topic), &out->path);
        if (topic->passing) {
            mr_buf_str(&out->query, "passing");
        }
        break;
    case WATCH_NODES:
        mr_buf_str(&out->path, "/v1/catalog/nodes");
        break;
    case WATCH_CHECKS:
        read_checks(topic, out);
        break;
    case WATCH_REGISTRY:
        mr_buf_str(&out->path, "/registry");
        server_cli_param(&out->query, "service", first_name(topic));
        break;
    }
}

void watch_request_deinit(struct watch_request *request)
{
    mr_buf_deinit(&request->path);
    mr_buf_deinit(&request->query);
    mr_buf_deinit(&request->body);
}

/* ------------------------------------------------------------- objects */

static const json_t *member(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

/* The only node of a service of the registry. */
static const json_t *registry_node(const json_t *service)
{
    return json_array_get(member(service, "nodes"), 0);
}

/* Two texts, so that ("a/b", "c") is not ("a", "b/c"). */
static void add_pair(struct mr_buf *out, const char *a, const char *b)
{
    mr_buf_printf(out, "%zu:%s/%s", strlen(a), a, b);
}

void watch_object_id(enum watch_kind kind, const json_t *object,
                     struct mr_buf *out)
{
    switch (kind) {
    case WATCH_KEY:
    case WATCH_KEYPREFIX:
        mr_buf_str(out, server_json_text(object, "Key"));
        break;
    case WATCH_SERVICES:
        mr_buf_str(out, server_json_text(object, "Name"));
        break;
    case WATCH_SERVICE:
        add_pair(out, server_json_text(member(object, "Node"), "Node"),
                 server_json_text(member(object, "Service"), "ID"));
        break;
    case WATCH_NODES:
        mr_buf_str(out, server_json_text(object, "Node"));
        break;
    case WATCH_CHECKS:
        add_pair(out, server_json_text(object, "Node"),
                 server_json_text(object, "CheckID"));
        break;
    case WATCH_REGISTRY:
        add_pair(out, server_json_text(object, "name"),
                 server_json_text(registry_node(object), "id"));
        break;
    }
}

static void describe_key(const json_t *object, struct mr_buf *out)
{
    const char *base64 = server_json_text(object, "Value");
    struct mr_buf value = MR_BUF_INIT;
    size_t bad;

    mr_buf_str(out, server_json_text(object, "Key"));
    if (base64[0] != '\0' && server_cli_base64(base64, &value, &bad)) {
        bool is_cut = value.len > VALUE_SHOWN;

        value.len = is_cut ? VALUE_SHOWN : value.len;
        mr_buf_str(out, " = ");
        for (size_t i = 0; i < value.len; i++) {
            /* Whatever a terminal would take for an order is shown as a dot. */
            bool is_order = value.data[i] < ' ' || value.data[i] == 0x7f;

            mr_buf_byte(out, is_order ? (uint8_t)'.' : value.data[i]);
        }
        mr_buf_str(out, is_cut ? "..." : "");
    }
    mr_buf_deinit(&value);
}

static const char *worst_status(const json_t *checks)
{
    const char *worst = "passing";
    const json_t *check;
    size_t i;

    json_array_foreach(checks, i, check)
    {
        const char *status = server_json_text(check, "Status");

        if (strcmp(status, "critical") == 0 ||
            (strcmp(status, "warning") == 0 &&
             strcmp(worst, "critical") != 0)) {
            worst = status;
        }
    }
    return worst;
}

static void describe_instance(const json_t *object, struct mr_buf *out)
{
    const json_t *service = member(object, "Service");
    const json_t *node = member(object, "Node");
    const char *address = server_json_text(service, "Address");

    mr_buf_printf(
        out, "%s on %s at %s:%" PRIu64 " %s", server_json_text(service, "ID"),
        server_json_text(node, "Node"),
        address[0] != '\0' ? address : server_json_text(node, "Address"),
        server_json_u64(service, "Port"),
        worst_status(member(object, "Checks")));
}

static void describe_name(const json_t *object, struct mr_buf *out)
{
    const json_t *tag;
    size_t i;

    mr_buf_str(out, server_json_text(object, "Name"));
    json_array_foreach(member(object, "Tags"), i, tag)
    {
        const char *text = json_string_value(tag);

        mr_buf_printf(out, "%s%s", i == 0 ? " " : ",",
                      text == NULL ? "" : text);
    }
}

static void describe_registry(const json_t *object, struct mr_buf *out)
{
    const json_t *node = registry_node(object);

    mr_buf_printf(out, "%s %s %s at %s", server_json_text(object, "name"),
                  server_json_text(object, "version"),
                  server_json_text(node, "id"),
                  server_json_text(node, "address"));
}

void watch_object_describe(enum watch_kind kind, const json_t *object,
                           struct mr_buf *out)
{
    switch (kind) {
    case WATCH_KEY:
    case WATCH_KEYPREFIX:
        describe_key(object, out);
        break;
    case WATCH_SERVICES:
        describe_name(object, out);
        break;
    case WATCH_SERVICE:
        describe_instance(object, out);
        break;
    case WATCH_NODES:
        mr_buf_printf(out, "%s at %s", server_json_text(object, "Node"),
                      server_json_text(object, "Address"));
        break;
    case WATCH_CHECKS:
        mr_buf_printf(out, "%s on %s is %s",
                      server_json_text(object, "CheckID"),
                      server_json_text(object, "Node"),
                      server_json_text(object, "Status"));
        break;
    case WATCH_REGISTRY:
        describe_registry(object, out);
        break;
    }
}

/* ------------------------------------------------------------- reads */

/* {"name":["tag"]}: an object for each name. */
static void split_names(json_t *answer, watch_object_cb cb, void *arg)
{
    const char *name;
    json_t *tags;

    json_object_foreach(answer, name, tags)
    {
        json_t *object = json_pack("{s:s, s:O}", "Name", name, "Tags", tags);

        if (object != NULL) {
            cb(arg, object);
        }
        json_decref(object);
    }
}

/* A service of the registry: an object for each of its nodes. */
static void split_nodes(json_t *service, watch_object_cb cb, void *arg)
{
    json_t *node;
    size_t i;

    json_array_foreach(json_object_get(service, "nodes"), i, node)
    {
        json_t *object = json_copy(service);
        json_t *nodes = json_pack("[O]", node);

        if (object != NULL &&
            json_object_set_new(object, "nodes", nodes) == 0) {
            cb(arg, object);
        }
        json_decref(object);
    }
}

void watch_read_objects(enum watch_kind kind, json_t *answer,
                        watch_object_cb cb, void *arg)
{
    json_t *object;
    size_t i;

    if (kind == WATCH_SERVICES) {
        split_names(answer, cb, arg);
        return;
    }
    json_array_foreach(answer, i, object)
    {
        if (kind == WATCH_REGISTRY) {
            split_nodes(object, cb, arg);
        } else {
            cb(arg, object);
        }
    }
}
