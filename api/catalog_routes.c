/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/catalog: nodes, services and their registration. */
#include <stdlib.h>
#include <string.h>

#include "api/catalog_body.h"
#include "api/handlers.h"
#include "api/listing.h"
#include "api/shapes.h"
#include "base/mem.h"

/* A list being rendered. */
struct render {
    struct api_request *req;
    struct mr_json json;
};

static void render_init(struct render *r, struct api_request *req,
                        struct mr_buf *out)
{
    r->req = req;
    mr_json_init(&r->json, out);
}

/* ------------------------------------------------------------- reads */

enum mr_err api_catalog_datacenters(struct api_request *req,
                                    struct mr_kv_view *view, struct mr_buf *out)
{
    struct mr_json j;

    (void)view; /* One datacenter a cluster, known without state. */
    mr_json_init(&j, out);
    mr_json_array(&j);
    mr_json_str(&j, req->options->agent.datacenter);
    mr_json_array_end(&j);
    return MR_OK;
}

bool api_catalog_nodes_prepare(struct api_request *req)
{
    return listing_prepare(req, FILTER_NODE);
}

static bool write_node(void *arg, const Mr__Node *node)
{
    struct render *r = arg;
    struct filter_entry entry = {.node = node};

    if (listing_node_meta(r->req, node) && listing_filter(r->req, &entry)) {
        shape_node(&r->json, node);
    }
    return true;
}

enum mr_err api_catalog_nodes(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out)
{
    struct render r;
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_NODES, "");
    render_init(&r, req, out);
    mr_json_array(&r.json);
    err = mr_kv_node_list(view, write_node, &r, &req->reply.index);
    mr_json_array_end(&r.json);
    return err;
}

static bool write_name(void *arg, const struct mr_kv_service_name *name)
{
    struct render *r = arg;

    mr_json_key(&r->json, name->name);
    shape_texts(&r->json, name->tags, name->n_tags);
    return true;
}

/* A tag of a service on a wanted node; "" stands for having none. */
struct name_tag {
    const char *name;
    const char *tag;
};

/* The names of the services on the nodes that ?node-meta= selects. */
struct selected {
    struct api_request *req;
    struct mr_kv_view *view;
    struct name_tag *tags;
    size_t n;
    size_t cap;
    enum mr_err err;
};

static enum mr_err add_tag(struct selected *s, const char *name,
                           const char *tag)
{
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 64 : s->cap * 2;
        struct name_tag *grown = mr_realloc(s->tags, cap * sizeof *grown);

        if (grown == NULL) {
            return MR_E_NOMEM;
        }
        s->tags = grown;
        s->cap = cap;
    }
    s->tags[s->n++] = (struct name_tag){name, tag};
    return MR_OK;
}

static bool select_service(void *arg, const Mr__Service *service)
{
    struct selected *s = arg;

    s->err = add_tag(s, service->name, "");
    for (size_t i = 0; i < service->n_tags && s->err == MR_OK; i++) {
        s->err = add_tag(s, service->name, service->tags[i]);
    }
    return s->err == MR_OK;
}

static bool select_node(void *arg, const Mr__Node *node)
{
    struct selected *s = arg;
    enum mr_err err;

    if (!listing_node_meta(s->req, node)) {
        return true;
    }
    err = mr_kv_node_services(s->view, node->name, select_service, s, NULL);
    s->err = s->err != MR_OK ? s->err : err;
    return s->err == MR_OK;
}

static int compare_tags(const void *a, const void *b)
{
    const struct name_tag *x = a;
    const struct name_tag *y = b;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : strcmp(x->tag, y->tag);
}

/* Render the sorted pairs of @s as name -> distinct tags. */
static void write_selected(struct mr_json *j, const struct selected *s)
{
    for (size_t i = 0; i < s->n; i++) {
        bool is_new = i == 0 || strcmp(s->tags[i].name, s->tags[i - 1].name);

        if (is_new && i > 0) {
            mr_json_array_end(j);
        }
        if (is_new) {
            mr_json_key(j, s->tags[i].name);
            mr_json_array(j);
        }
        if (s->tags[i].tag[0] != '\0' &&
            (is_new || strcmp(s->tags[i].tag, s->tags[i - 1].tag) != 0)) {
            mr_json_str(j, s->tags[i].tag);
        }
    }
    if (s->n > 0) {
        mr_json_array_end(j);
    }
}

static enum mr_err services_of_nodes(struct render *r, struct mr_kv_view *view)
{
    struct selected s = {.req = r->req, .view = view};
    enum mr_err err;

    err = mr_kv_node_list(view, select_node, &s, NULL);
    if (err == MR_OK) {
        err = s.err;
    }
    if (err == MR_OK && s.n > 0) {
        qsort(s.tags, s.n, sizeof *s.tags, compare_tags);
        write_selected(&r->json, &s);
    }
    mr_free(s.tags);
    return err;
}

static bool ignore_name(void *arg, const struct mr_kv_service_name *name)
{
    (void)arg;
    (void)name;
    return false; /* Only the index is wanted. */
}

/* ?filter= is ignored here, as in Consul. */
enum mr_err api_catalog_services(struct api_request *req,
                                 struct mr_kv_view *view, struct mr_buf *out)
{
    struct render r;
    enum mr_err err;
    bool is_selective = listing_has_node_meta(req);

    api_depends(req, MR_KV_TOPIC_SERVICES, "");
    req->reply.no_cache = is_selective; /* The nodes' metadata matters too. */
    render_init(&r, req, out);
    mr_json_object(&r.json);
    err = mr_kv_service_names(view, is_selective ? ignore_name : write_name, &r,
                              &req->reply.index);
    if (err == MR_OK && is_selective) {
        err = services_of_nodes(&r, view);
    }
    mr_json_object_end(&r.json);
    return err;
}

bool api_catalog_service_prepare(struct api_request *req)
{
    return listing_prepare_arg(req, FILTER_FLAT, "Missing service name");
}

static bool write_flat(void *arg, const struct mr_kv_instance *instance)
{
    struct render *r = arg;
    struct filter_entry entry = {.node = instance->node,
                                 .service = instance->service};

    if (listing_tags(r->req, instance->service) &&
        listing_node_meta(r->req, instance->node) &&
        listing_filter(r->req, &entry)) {
        shape_service_flat(&r->json, instance->node, instance->service);
    }
    return true;
}

enum mr_err api_catalog_service(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out)
{
    struct render r;
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_SERVICE, req->arg);
    render_init(&r, req, out);
    mr_json_array(&r.json);
    err = mr_kv_service_instances(view, req->arg, write_flat, &r,
                                  &req->reply.index);
    mr_json_array_end(&r.json);
    return err;
}

bool api_catalog_connect_prepare(struct api_request *req)
{
    return listing_prepare_arg(req, FILTER_FLAT, "Missing service name");
}

/* No service has a Connect proxy: an empty list that moves with the catalog. */
enum mr_err api_catalog_connect(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out)
{
    api_depends(req, MR_KV_TOPIC_SERVICES, "");
    mr_buf_str(out, "[]");
    return mr_kv_service_names(view, ignore_name, NULL, &req->reply.index);
}

enum mr_err api_catalog_gateway_services(struct api_request *req,
                                         struct mr_kv_view *view,
                                         struct mr_buf *out)
{
    (void)view; /* There are no gateways. */
    api_depends(req, MR_KV_TOPIC_SERVICES, "");
    mr_buf_str(out, "null");
    return MR_OK;
}

bool api_catalog_node_prepare(struct api_request *req)
{
    return listing_prepare_arg(req, FILTER_SERVICE, "Missing node name");
}

static bool write_by_id(void *arg, const Mr__Service *service)
{
    struct render *r = arg;
    struct filter_entry entry = {.service = service};

    if (listing_filter(r->req, &entry)) {
        mr_json_key(&r->json, service->id);
        shape_service(&r->json, service);
    }
    return true;
}

static bool write_service(void *arg, const Mr__Service *service)
{
    struct render *r = arg;
    struct filter_entry entry = {.service = service};

    if (listing_filter(r->req, &entry)) {
        shape_service(&r->json, service);
    }
    return true;
}

enum mr_err api_catalog_node(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    struct render r;
    const Mr__Node *node;
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_NODE, req->arg);
    err = mr_kv_node_get(view, req->arg, &node, NULL);
    if (err != MR_OK) {
        return err;
    }
    if (node == NULL) {
        mr_buf_str(out, "null"); /* With index 1. */
        return MR_OK;
    }
    render_init(&r, req, out);
    mr_json_object(&r.json);
    mr_json_key(&r.json, "Node");
    shape_node(&r.json, node);
    mr_json_key(&r.json, "Services");
    mr_json_object(&r.json);
    err =
        mr_kv_node_services(view, req->arg, write_by_id, &r, &req->reply.index);
    mr_json_object_end(&r.json);
    mr_json_object_end(&r.json);
    return err;
}

enum mr_err api_catalog_node_services(struct api_request *req,
                                      struct mr_kv_view *view,
                                      struct mr_buf *out)
{
    struct render r;
    const Mr__Node *node;
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_NODE, req->arg);
    err = mr_kv_node_get(view, req->arg, &node, NULL);
    if (err != MR_OK) {
        return err;
    }
    if (node == NULL) {
        mr_buf_str(out, "{\"Node\":null,\"Services\":null}");
        return MR_OK;
    }
    render_init(&r, req, out);
    mr_json_object(&r.json);
    mr_json_key(&r.json, "Node");
    shape_node(&r.json, node);
    mr_json_key(&r.json, "Services");
    mr_json_array(&r.json);
    err = mr_kv_node_services(view, req->arg, write_service, &r,
                              &req->reply.index);
    mr_json_array_end(&r.json);
    mr_json_object_end(&r.json);
    return err;
}

/* ------------------------------------------------------------- writes */

/* Answer for a body that was refused with @err. */
static void refuse_body(struct api_request *req, const struct decode *d,
                        enum mr_err err, unsigned status)
{
    if (err == MR_E_INVALID) {
        (void)api_error(req, status, "%s", d->error);
    } else {
        api_fail(req, err);
    }
}

void api_catalog_register(struct api_request *req)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register body;
    struct decode d;
    unsigned status;
    enum mr_err err;

    decode_init(&d);
    err = catalog_register(&d, mr_buf_slice(&req->body),
                           req->options->agent.datacenter, &body, &status);
    if (err == MR_OK) {
        cmd.op_case = MR__COMMAND__OP_REGISTER;
        cmd.register_ = &body;
        mr_kv_command_encode(&cmd, &req->cmd);
    } else {
        refuse_body(req, &d, err, status);
    }
    decode_deinit(&d);
    if (err == MR_OK) {
        api_submit(req, api_done_bool);
    }
}

void api_catalog_deregister(struct api_request *req)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body;
    struct decode d;
    unsigned status;
    enum mr_err err;

    decode_init(&d);
    err = catalog_deregister(&d, mr_buf_slice(&req->body),
                             req->options->agent.datacenter, &body, &status);
    if (err == MR_OK) {
        cmd.op_case = MR__COMMAND__OP_DEREGISTER;
        cmd.deregister = &body;
        mr_kv_command_encode(&cmd, &req->cmd);
    } else {
        refuse_body(req, &d, err, status);
    }
    decode_deinit(&d);
    if (err == MR_OK) {
        api_submit(req, api_done_bool);
    }
}
