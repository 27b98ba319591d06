/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/health: checks, and the instances of a service with theirs. */
#include <string.h>

#include "api/handlers.h"
#include "api/listing.h"
#include "api/shapes.h"

/* A list being rendered. */
struct render {
    struct api_request *req;
    struct mr_kv_view *view;
    struct mr_json json;
    enum mr_err err;
};

static void render_init(struct render *r, struct api_request *req,
                        struct mr_kv_view *view, struct mr_buf *out)
{
    r->req = req;
    r->view = view;
    r->err = MR_OK;
    mr_json_init(&r->json, out);
    mr_json_array(&r->json);
}

/* End the list; a failure within a callback counts like one of the walk. */
static enum mr_err render_end(struct render *r, enum mr_err err)
{
    mr_json_array_end(&r->json);
    return err != MR_OK ? err : r->err;
}

/* ------------------------------------------------------------- checks */

/* Whether the node of @check is one that ?node-meta= selects. */
static bool is_on_selected_node(struct render *r, const Mr__Check *check)
{
    const Mr__Node *node;

    if (!listing_has_node_meta(r->req)) {
        return true;
    }
    r->err = mr_kv_node_get(r->view, check->node, &node, NULL);
    return r->err == MR_OK && node != NULL && listing_node_meta(r->req, node);
}

static bool write_check(void *arg, const Mr__Check *check)
{
    struct render *r = arg;
    struct filter_entry entry = {.check = check};

    if (is_on_selected_node(r, check) && listing_filter(r->req, &entry)) {
        shape_check(&r->json, check, SHAPE_CHECK_CATALOG);
    }
    return r->err == MR_OK;
}

/* health/node has no ?node-meta=. */
static bool write_node_check(void *arg, const Mr__Check *check)
{
    struct render *r = arg;
    struct filter_entry entry = {.check = check};

    if (listing_filter(r->req, &entry)) {
        shape_check(&r->json, check, SHAPE_CHECK_CATALOG);
    }
    return true;
}

bool api_health_node_prepare(struct api_request *req)
{
    return listing_prepare_arg(req, FILTER_CHECK, "Missing node name");
}

enum mr_err api_health_node(struct api_request *req, struct mr_kv_view *view,
                            struct mr_buf *out)
{
    struct render r;

    api_depends(req, MR_KV_TOPIC_NODE, req->arg);
    render_init(&r, req, view, out);
    return render_end(&r, mr_kv_node_checks(view, req->arg, write_node_check,
                                            &r, &req->reply.index));
}

bool api_health_checks_prepare(struct api_request *req)
{
    return listing_prepare_arg(req, FILTER_CHECK, "Missing service name");
}

enum mr_err api_health_checks(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out)
{
    struct render r;

    api_depends(req, MR_KV_TOPIC_SERVICE, req->arg);
    render_init(&r, req, view, out);
    return render_end(&r, mr_kv_service_checks(view, req->arg, write_check, &r,
                                               &req->reply.index));
}

bool api_health_state_prepare(struct api_request *req)
{
    return listing_prepare_arg(req, FILTER_CHECK, "Missing check state");
}

enum mr_err api_health_state(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    const char *state = strcmp(req->arg, "any") == 0 ? NULL : req->arg;
    struct render r;

    api_depends(req, MR_KV_TOPIC_CHECKS, "");
    /* The metadata of nodes is no part of the topic. */
    req->reply.no_cache = listing_has_node_meta(req);
    render_init(&r, req, view, out);
    return render_end(&r, mr_kv_state_checks(view, state, write_check, &r,
                                             &req->reply.index));
}

/* ------------------------------------------------------------- instances */

bool api_health_service_prepare(struct api_request *req)
{
    return listing_prepare_arg(req, FILTER_HEALTH, "Missing service name") &&
           listing_prepare_passing(req);
}

static bool write_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct render *r = arg;
    struct filter_entry entry = {.node = instance->node,
                                 .service = instance->service,
                                 .checks = instance->checks,
                                 .n_checks = instance->n_checks};

    if ((!listing_wants_passing(r->req) ||
         strcmp(listing_status(instance), "passing") == 0) &&
        listing_tags(r->req, instance->service) &&
        listing_node_meta(r->req, instance->node) &&
        listing_filter(r->req, &entry)) {
        shape_instance(&r->json, instance);
    }
    return true;
}

enum mr_err api_health_service(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out)
{
    struct render r;

    api_depends(req, MR_KV_TOPIC_SERVICE, req->arg);
    render_init(&r, req, view, out);
    return render_end(&r,
                      mr_kv_service_instances(view, req->arg, write_instance,
                                              &r, &req->reply.index));
}

static bool ignore_name(void *arg, const struct mr_kv_service_name *name)
{
    (void)arg;
    (void)name;
    return false; /* Only the index is wanted. */
}

/* No service has a Connect proxy. */
enum mr_err api_health_connect(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out)
{
    api_depends(req, MR_KV_TOPIC_SERVICES, "");
    mr_buf_str(out, "[]");
    return mr_kv_service_names(view, ignore_name, NULL, &req->reply.index);
}

/* And there are no gateways. */
enum mr_err api_health_ingress(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out)
{
    (void)view;
    api_depends(req, MR_KV_TOPIC_SERVICES, "");
    mr_buf_str(out, "[]");
    return MR_OK;
}
