/* SPDX-License-Identifier: Apache-2.0 */
/* Services and JSON. */
#include "service.h"

#include <string.h>

struct held_services {
    struct microreg_services services; /* First: it is what is handed out. */
    struct mrg_arena arena;
};

/* ------------------------------------------------------------- writing */

struct writer {
    struct mrg_text *out;
    struct microreg_error *error;
    int err;
};

/* A string; @what names it in the error. NULL counts as "". */
static void write_string(struct writer *w, const char *string, const char *what)
{
    size_t len = string == NULL ? 0 : strlen(string);

    if (!mrg_is_utf8(string == NULL ? "" : string, len) &&
        w->err == MICROREG_OK) {
        w->err =
            mrg_fail(w->error, MICROREG_E_INVALID, "%s is not UTF-8", what);
    }
    mrg_text_json(w->out, string == NULL ? "" : string, len);
}

static void write_member(struct writer *w, const char *member,
                         const char *string, const char *what)
{
    mrg_text_str(w->out, member);
    write_string(w, string, what);
}

static void write_pairs(struct writer *w, const struct microreg_pair *pairs,
                        size_t n)
{
    mrg_text_str(w->out, ",\"metadata\":");
    if (n == 0) {
        mrg_text_str(w->out, "null");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        mrg_text_byte(w->out, i == 0 ? '{' : ',');
        write_string(w, pairs[i].key, "a key of the metadata");
        mrg_text_byte(w->out, ':');
        write_string(w, pairs[i].value, "a value of the metadata");
    }
    mrg_text_byte(w->out, '}');
}

static void write_value(struct writer *w, const struct microreg_value *value,
                        int depth)
{
    if (value == NULL) {
        mrg_text_str(w->out, "null");
        return;
    }
    if (depth == 0) {
        if (w->err == MICROREG_OK) {
            w->err = mrg_fail(w->error, MICROREG_E_INVALID,
                              "the values of an endpoint are nested too deep");
        }
        return;
    }
    write_member(w, "{\"name\":", value->name, "the name of a value");
    write_member(w, ",\"type\":", value->type, "the type of a value");
    mrg_text_str(w->out, ",\"values\":");
    if (value->n_values == 0) {
        mrg_text_str(w->out, "null}");
        return;
    }
    for (size_t i = 0; i < value->n_values; i++) {
        mrg_text_byte(w->out, i == 0 ? '[' : ',');
        write_value(w, &value->values[i], depth - 1);
    }
    mrg_text_str(w->out, "]}");
}

static void write_endpoint(struct writer *w, const struct microreg_endpoint *e)
{
    write_member(w, "{\"name\":", e->name, "the name of an endpoint");
    mrg_text_str(w->out, ",\"request\":");
    write_value(w, e->request, MRG_JSON_DEPTH / 4);
    mrg_text_str(w->out, ",\"response\":");
    write_value(w, e->response, MRG_JSON_DEPTH / 4);
    write_pairs(w, e->metadata, e->n_metadata);
    mrg_text_byte(w->out, '}');
}

static void write_node(struct writer *w, const struct microreg_node *node)
{
    write_member(w, "{\"id\":", node->id, "the id of a node");
    write_member(w, ",\"address\":", node->address, "the address of a node");
    write_pairs(w, node->metadata, node->n_metadata);
    mrg_text_byte(w->out, '}');
}

int mrg_service_write(const struct microreg_service *service,
                      struct mrg_text *out, struct microreg_error *out_error)
{
    struct writer w = {out, out_error, MICROREG_OK};

    write_member(&w, "{\"name\":", service->name, "the name of the service");
    write_member(&w, ",\"version\":", service->version,
                 "the version of the service");
    write_pairs(&w, service->metadata, service->n_metadata);
    mrg_text_str(out, ",\"endpoints\":");
    mrg_text_str(out, service->n_endpoints == 0 ? "null" : "");
    for (size_t i = 0; i < service->n_endpoints; i++) {
        mrg_text_byte(out, i == 0 ? '[' : ',');
        write_endpoint(&w, &service->endpoints[i]);
    }
    mrg_text_str(out,
                 service->n_endpoints == 0 ? ",\"nodes\":[" : "],\"nodes\":[");
    for (size_t i = 0; i < service->n_nodes; i++) {
        mrg_text_str(out, i == 0 ? "" : ",");
        write_node(&w, &service->nodes[i]);
    }
    mrg_text_str(out, "]}");
    return w.err;
}

/* ------------------------------------------------------------- reading */

/* The children of @json, if it is of @type, and how many; else none. */
static const struct mrg_json *children(const struct mrg_json *json,
                                       enum mrg_json_type type, size_t *out_n)
{
    bool is_it = json != NULL && json->type == type;

    *out_n = is_it ? json->n : 0;
    return is_it ? json->child : NULL;
}

/* Room for @n things, NULL for none; *@err tells a lack of memory. */
static void *room(struct mrg_arena *arena, size_t n, size_t size, int *err)
{
    void *found = n == 0 ? NULL : mrg_arena_alloc(arena, n * size);

    if (n > 0 && found == NULL) {
        *err = MICROREG_E_NOMEM;
    }
    return found;
}

static const struct microreg_pair *read_pairs(struct mrg_arena *arena,
                                              const struct mrg_json *json,
                                              size_t *out_n, int *err)
{
    const struct mrg_json *child = children(json, MRG_JSON_OBJECT, out_n);
    struct microreg_pair *pairs = room(arena, *out_n, sizeof *pairs, err);

    for (size_t i = 0; pairs != NULL && child != NULL; child = child->next) {
        pairs[i].key = child->key;
        pairs[i++].value = mrg_json_str(child);
    }
    return pairs;
}

static void read_value(struct mrg_arena *arena, const struct mrg_json *json,
                       struct microreg_value *value, int *err)
{
    const struct mrg_json *child = children(mrg_json_get(json, "values"),
                                            MRG_JSON_ARRAY, &value->n_values);
    struct microreg_value *values =
        room(arena, value->n_values, sizeof *values, err);

    value->name = mrg_json_str(mrg_json_get(json, "name"));
    value->type = mrg_json_str(mrg_json_get(json, "type"));
    value->values = values;
    for (size_t i = 0; values != NULL && child != NULL; child = child->next) {
        read_value(arena, child, &values[i++], err);
    }
}

static const struct microreg_value *
read_optional(struct mrg_arena *arena, const struct mrg_json *json, int *err)
{
    struct microreg_value *value = NULL;

    if (json != NULL && json->type == MRG_JSON_OBJECT) {
        value = room(arena, 1, sizeof *value, err);
    }
    if (value != NULL) {
        read_value(arena, json, value, err);
    }
    return value;
}

static const struct microreg_endpoint *
read_endpoints(struct mrg_arena *arena, const struct mrg_json *json,
               size_t *out_n, int *err)
{
    const struct mrg_json *child = children(json, MRG_JSON_ARRAY, out_n);
    struct microreg_endpoint *all = room(arena, *out_n, sizeof *all, err);

    for (size_t i = 0; all != NULL && child != NULL; child = child->next) {
        struct microreg_endpoint *e = &all[i++];

        e->name = mrg_json_str(mrg_json_get(child, "name"));
        e->request = read_optional(arena, mrg_json_get(child, "request"), err);
        e->response =
            read_optional(arena, mrg_json_get(child, "response"), err);
        e->metadata = read_pairs(arena, mrg_json_get(child, "metadata"),
                                 &e->n_metadata, err);
    }
    return all;
}

static const struct microreg_node *read_nodes(struct mrg_arena *arena,
                                              const struct mrg_json *json,
                                              size_t *out_n, int *err)
{
    const struct mrg_json *child = children(json, MRG_JSON_ARRAY, out_n);
    struct microreg_node *all = room(arena, *out_n, sizeof *all, err);

    for (size_t i = 0; all != NULL && child != NULL; child = child->next) {
        struct microreg_node *node = &all[i++];

        node->id = mrg_json_str(mrg_json_get(child, "id"));
        node->address = mrg_json_str(mrg_json_get(child, "address"));
        node->metadata = read_pairs(arena, mrg_json_get(child, "metadata"),
                                    &node->n_metadata, err);
    }
    return all;
}

int mrg_service_read(struct mrg_arena *arena, const struct mrg_json *json,
                     struct microreg_service *out_service)
{
    struct microreg_service s = {0};
    int err = MICROREG_OK;

    if (json == NULL || json->type != MRG_JSON_OBJECT) {
        return MICROREG_E_PROTOCOL;
    }
    s.name = mrg_json_str(mrg_json_get(json, "name"));
    s.version = mrg_json_str(mrg_json_get(json, "version"));
    s.metadata =
        read_pairs(arena, mrg_json_get(json, "metadata"), &s.n_metadata, &err);
    s.endpoints = read_endpoints(arena, mrg_json_get(json, "endpoints"),
                                 &s.n_endpoints, &err);
    s.nodes = read_nodes(arena, mrg_json_get(json, "nodes"), &s.n_nodes, &err);
    if (err == MICROREG_OK) {
        *out_service = s;
    }
    return err;
}

int mrg_services_read(struct mrg_arena *arena, const struct mrg_json *array,
                      uint64_t index, struct microreg_services **out_services,
                      struct microreg_error *out_error)
{
    size_t n;
    const struct mrg_json *child = children(array, MRG_JSON_ARRAY, &n);
    struct held_services *held;
    int err = MICROREG_OK;
    struct microreg_service *items = room(arena, n, sizeof *items, &err);

    for (size_t i = 0; err == MICROREG_OK && child != NULL;
         child = child->next) {
        err = mrg_service_read(arena, child, &items[i++]);
    }
    if (err == MICROREG_E_PROTOCOL) {
        return mrg_fail(out_error, err,
                        "the answer holds something that is no service");
    }
    held = err == MICROREG_OK ? mrg_alloc(sizeof *held) : NULL;
    if (held == NULL) {
        return mrg_nomem(out_error);
    }
    held->services = (struct microreg_services){items, n, index};
    held->arena = *arena;
    *arena = (struct mrg_arena){NULL, 0};
    *out_services = &held->services;
    return MICROREG_OK;
}

void microreg_services_free(struct microreg_services *services)
{
    struct held_services *held = (struct held_services *)services;

    if (held != NULL) {
        mrg_arena_deinit(&held->arena);
        mrg_free(held);
    }
}
