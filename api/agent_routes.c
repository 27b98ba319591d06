/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/agent: what this agent says of itself and what was registered through
 * it. An agent's registrations are the rows of its node with origin AGENT.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "api/listing.h"
#include "api/members.h"
#include "api/shapes.h"
#include "base/hash.h"

static const char *own_name(const struct api_request *req)
{
    return req->options->agent.node_name;
}

/* ------------------------------------------------------------- identity */

static void write_config(struct mr_json *j, const struct mr_api_agent *agent)
{
    mr_json_key(j, "Config");
    mr_json_object(j);
    mr_json_kstr(j, "Datacenter", agent->datacenter);
    mr_json_kstr(j, "NodeName", agent->node_name);
    mr_json_kstr(j, "NodeID", agent->node_id);
    mr_json_kstr(j, "Revision", "");
    mr_json_kbool(j, "Server", agent->is_server);
    mr_json_kstr(j, "Version", agent->consul_version);
    mr_json_object_end(j);
}

/* A member whose object the process around us writes; {} without it. */
static void write_hook(struct mr_json *j, const char *key,
                       void (*hook)(void *arg, struct mr_buf *out), void *arg)
{
    struct mr_buf json = MR_BUF_INIT;

    mr_json_key(j, key);
    if (hook != NULL) {
        hook(arg, &json);
    }
    if (json.len == 0) {
        mr_buf_str(&json, "{}");
    }
    if (mr_buf_failed(&json)) {
        j->out->failed = true;
    }
    mr_json_raw(j, mr_buf_slice(&json));
    mr_buf_deinit(&json);
}

static void write_meta(struct mr_json *j, const struct mr_api_agent *agent)
{
    mr_json_key(j, "Meta");
    mr_json_object(j);
    mr_json_kstr(j, "consul-network-segment", "");
    for (size_t i = 0; i < agent->n_meta; i++) {
        mr_json_kstr(j, agent->meta[2 * i], agent->meta[2 * i + 1]);
    }
    mr_json_object_end(j);
}

enum mr_err api_agent_self(struct api_request *req, struct mr_kv_view *view,
                           struct mr_buf *out)
{
    static const char coordinate[] =
        "{\"Vec\":[0,0,0,0,0,0,0,0],\"Error\":1.5,\"Adjustment\":0,"
        "\"Height\":0.00001}";
    const struct mr_api_host *host = &req->options->host;
    const struct mr_api_agent *agent = &req->options->agent;
    struct mr_json j;

    (void)view;
    mr_json_init(&j, out);
    mr_json_object(&j);
    write_config(&j, agent);
    write_hook(&j, "DebugConfig", host->debug_config, host->arg);
    mr_json_key(&j, "Coord");
    mr_json_raw(&j, mr_slice(coordinate, sizeof coordinate - 1));
    mr_json_key(&j, "Member");
    members_write_self(&j, agent);
    write_hook(&j, "Stats", host->stats, host->arg);
    write_meta(&j, agent);
    mr_json_object_end(&j);
    return MR_OK;
}

bool api_agent_members_prepare(struct api_request *req)
{
    const char *segment = api_query(req, "segment");

    if (segment != NULL && segment[0] != '\0' && strcmp(segment, "_all") != 0) {
        return api_error(req, 500,
                         "Network segments are not supported in this version "
                         "of Consul");
    }
    return true;
}

enum mr_err api_agent_members(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out)
{
    const char *wan = api_query(req, "wan");

    return members_write(req, view, wan != NULL && wan[0] != '\0', out);
}

/* ------------------------------------------------------------- lists */

/* A list of the agent's own rows being rendered. */
struct render {
    struct api_request *req;
    struct mr_json json;
};

bool api_agent_services_prepare(struct api_request *req)
{
    return listing_prepare(req, FILTER_SERVICE);
}

static bool write_service(void *arg, const Mr__Service *service)
{
    struct render *r = arg;
    struct filter_entry entry = {.service = service};

    if (service->origin == MR__ORIGIN__AGENT &&
        listing_filter(r->req, &entry)) {
        mr_json_key(&r->json, service->id);
        shape_service_agent(&r->json, service, NULL);
    }
    return true;
}

enum mr_err api_agent_services(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out)
{
    struct render r = {.req = req};
    enum mr_err err;

    mr_json_init(&r.json, out);
    mr_json_object(&r.json);
    err = mr_kv_node_services(view, own_name(req), write_service, &r, NULL);
    mr_json_object_end(&r.json);
    return err;
}

/* The hash of a definition's JSON, as the header and the member show it. */
static char *content_hash(struct api_request *req, const Mr__Service *service)
{
    struct mr_buf plain = MR_BUF_INIT;
    struct mr_json j;
    char *text = api_alloc(req, 17);

    mr_json_init(&j, &plain);
    shape_service_agent(&j, service, NULL);
    if (text != NULL && !mr_buf_failed(&plain)) {
        (void)snprintf(text, 17, "%" PRIx64,
                       mr_hash64(mr_buf_slice(&plain), 0));
    } else {
        text = NULL;
    }
    mr_buf_deinit(&plain);
    return text;
}

enum mr_err api_agent_service(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out)
{
    const Mr__Service *service;
    struct mr_json j;
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_NODE, own_name(req));
    err = mr_kv_service_get(view, own_name(req), req->arg, &service);
    if (err != MR_OK) {
        return err;
    }
    if (service == NULL || service->origin != MR__ORIGIN__AGENT) {
        (void)api_error(req, 404, "unknown service ID: %s", req->arg);
        return MR_OK;
    }
    req->reply.hash = content_hash(req, service);
    if (req->reply.hash == NULL) {
        return MR_E_NOMEM;
    }
    api_reply_header(req, "X-Consul-Contenthash", req->reply.hash);
    mr_json_init(&j, out);
    shape_service_agent(&j, service, req->reply.hash);
    return MR_OK;
}

/* agent/checks compiles its filter late: what does not fit a check is an error
 * only when there is a check to look at, and comes without the prefix. */
struct checks_render {
    struct render base;
    struct filter *filter;
    enum mr_err filter_err;
    bool has_checks;
};

static bool write_check(void *arg, const Mr__Check *check)
{
    struct checks_render *r = arg;
    struct filter_entry entry = {.check = check};

    if (check->origin != MR__ORIGIN__AGENT) {
        return true;
    }
    r->has_checks = true;
    if (r->filter_err == MR_OK && filter_match(r->filter, &entry)) {
        mr_json_key(&r->base.json, check->check_id);
        shape_check(&r->base.json, check, SHAPE_CHECK_AGENT);
    }
    return r->filter_err == MR_OK;
}

enum mr_err api_agent_checks(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    struct checks_render r = {.base.req = req};
    const char *text = api_query(req, "filter");
    struct mr_detail detail;
    enum mr_err err;

    if (text != NULL && text[0] != '\0') {
        r.filter_err = filter_compile(text, FILTER_CHECK, &r.filter, &detail);
    }
    if (r.filter_err == MR_E_INVALID) {
        (void)api_error(req, 500, FILTER_PREFIX "%s", detail.text);
        return MR_OK;
    }
    if (r.filter_err == MR_E_NOMEM) {
        return MR_E_NOMEM;
    }
    mr_json_init(&r.base.json, out);
    mr_json_object(&r.base.json);
    err = mr_kv_node_checks(view, own_name(req), write_check, &r, NULL);
    mr_json_object_end(&r.base.json);
    filter_free(r.filter);
    if (err == MR_OK && r.has_checks && r.filter_err != MR_OK) {
        (void)api_error(req, 500, "%s", detail.text);
    }
    return err;
}
