/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request line and its headers to what will answer it: the checks that
 * all endpoints share, in Consul's order (consul-parity 1.1, 1.2, 1.4).
 */
#include <stdio.h>
#include <string.h>

#include "api/core.h"
#include "api/forward.h"
#include "api/handlers.h"
#include "api/relay.h"
#include "api/target.h"
#include "api/websocket.h"
#include "base/mem.h"

/* ------------------------------------------------------------- redirects */

/* Append @s with the characters escaped that HTML gives a meaning. */
static void add_html(struct mr_buf *out, const char *s)
{
    for (; *s != '\0'; s++) {
        switch (*s) {
        case '&':
            mr_buf_str(out, "&amp;");
            break;
        case '<':
            mr_buf_str(out, "&lt;");
            break;
        case '>':
            mr_buf_str(out, "&gt;");
            break;
        case '"':
            mr_buf_str(out, "&#34;");
            break;
        case '\'':
            mr_buf_str(out, "&#39;");
            break;
        default:
            mr_buf_byte(out, (uint8_t)*s);
        }
    }
}

/* Answer 301 to @path, keeping the query. */
static void redirect(struct api_http *x, struct mr_slice path)
{
    struct api_request *req = &x->req;
    struct mr_buf url = MR_BUF_INIT;

    api_path_escape(path.data, path.len, &url);
    if (req->raw_query[0] != '\0') {
        mr_buf_byte(&url, '?');
        mr_buf_str(&url, req->raw_query);
    }
    char *location = api_dup(req, mr_buf_cstr(&url), url.len);

    if (mr_buf_failed(&url) || location == NULL) {
        mr_buf_deinit(&url);
        api_fail(req, MR_E_NOMEM);
        return;
    }
    api_reply_empty(req);
    req->reply.status = 301;
    req->reply.is_error = true;
    x->location = location;
    if (strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0) {
        req->reply.type = "text/html; charset=utf-8";
        mr_buf_str(api_out(), "<a href=\"");
        add_html(api_out(), location);
        mr_buf_str(api_out(), "\">Moved Permanently</a>.\n\n");
    }
    mr_buf_deinit(&url);
}

/* Redirect to the clean path, or to the prefix with its slash; false when
 * neither is needed. */
static bool redirect_if_needed(struct api_http *x)
{
    const char *path = x->req.path;
    struct mr_buf clean = MR_BUF_INIT;

    if (!api_path_is_clean(path, x->path_len)) {
        api_path_clean(path, x->path_len, &clean);
        x->match = api_route_find(mr_buf_cstr(&clean), clean.len);
    } else if (x->match.add_slash) {
        mr_buf_add(&clean, path, x->path_len);
    } else {
        return false;
    }
    if (x->match.add_slash) {
        mr_buf_byte(&clean, '/');
    }
    if (mr_buf_failed(&clean)) {
        api_fail(&x->req, MR_E_NOMEM);
    } else {
        redirect(x, mr_buf_slice(&clean));
    }
    mr_buf_deinit(&clean);
    return true;
}

/* ------------------------------------------------------------- checks */

static void answer_empty(struct api_http *x, unsigned status)
{
    api_reply_empty(&x->req);
    x->req.reply.status = status;
    x->req.reply.is_error = true;
}

/* Whether the path is the user interface's, which is off. */
static bool is_absent(const struct api_http *x)
{
    return (x->match.rows->flags & API_NEEDS_UI) != 0 &&
           !x->req.options->enable_ui;
}

/* Find the route. False: answered, with what the paths and methods that are
 * not there get. */
static bool find_route(struct api_http *x)
{
    struct api_request *req = &x->req;

    if (req->path == NULL) {
        api_error(req, 400, "400 Bad Request");
        x->close_after = true;
        return false;
    }
    if (!api_path_printable(req->path, x->path_len)) {
        answer_empty(x, 400);
        return false;
    }
    x->match = api_route_find(req->path, x->path_len);
    if (redirect_if_needed(x)) {
        return false;
    }
    if (req->options->enable_ui && strcmp(req->path, "/") == 0) {
        redirect(x, mr_slice_str("/ui/"));
        return false;
    }
    if (x->match.rows == NULL || is_absent(x)) {
        answer_empty(x, 404);
        return false;
    }
    if (x->match.rows->flags & API_ANY_METHOD) {
        req->route = x->match.rows;
        return true;
    }
    x->vary = true;
    req->route = api_route_method(&x->match, req->method);
    x->allow = req->route == NULL;
    if (strcmp(req->method, "OPTIONS") == 0) {
        answer_empty(x, 200);
    } else if (req->route == NULL) {
        api_error(req, 405, "method %s not allowed", req->method);
    } else if (api_websocket_wanted(x)) {
        req->route = &api_websocket_route;
    }
    return req->route != NULL;
}

/* Namespaces are another product's. */
static bool check_namespace(struct api_request *req)
{
    if (api_query_has(req, "ns")) {
        return api_error(req, 400,
                         "Bad request: Invalid query parameter: \"ns\" - "
                         "Namespaces are a Consul Enterprise feature");
    }
    if (api_request_header(req, "X-Consul-Namespace") != NULL) {
        return api_error(req, 400,
                         "Bad request: Invalid header: "
                         "\"X-Consul-Namespace\" - "
                         "Namespaces are a Consul Enterprise feature");
    }
    return true;
}

bool api_takes_body(const struct api_route *route)
{
    return route->needs == API_WRITE || (route->flags & API_BODY) != 0;
}

/* How much body the route takes; answers 413 when more is announced. */
static bool check_body(struct api_http *x)
{
    const struct api_route *route = x->req.route;
    bool is_value = (route->flags & API_VALUE_BODY) != 0;
    uint64_t max = is_value                 ? x->req.options->kv_max_value_size
                   : route->body_limit != 0 ? route->body_limit
                                            : API_BODY_MAX;

    /* A body of unknown length is bounded while it arrives. */
    x->body_max = max > API_BODY_MAX ? max : API_BODY_MAX;
    if (!api_takes_body(route) || x->body_expected <= max) {
        return true;
    }
    x->close_after = true;
    return api_error(&x->req, 413,
                     "Request body(%llu bytes) too large, max size: %llu "
                     "bytes.%s",
                     (unsigned long long)x->body_expected,
                     (unsigned long long)max,
                     is_value ? " See https://www.consul.io/docs/agent/"
                                "options.html#kv_max_value_size."
                              : "");
}

bool api_check_dc(struct api_request *req)
{
    const char *dc = api_query(req, "dc");

    if (dc == NULL || dc[0] == '\0' ||
        strcmp(dc, req->options->agent.datacenter) == 0 ||
        strncmp(req->path, "/v1/agent/", strlen("/v1/agent/")) == 0) {
        return true;
    }
    return api_rpc_error(req, 500, "No path to datacenter");
}

#define HELLO_PATH "/v1/internal/hello"

/* Who comes over the servers' port must be an agent of our cluster, and only
 * such a one may use what agents use. */
static bool check_agent(struct api_http *x)
{
    struct api_request *req = &x->req;
    const char *cluster = api_request_header(req, "X-Microreg-Cluster");
    struct mr_raft_status status;
    char ours[17];

    if (!api_http_is_adopted(x)) {
        return (req->route->flags & API_INTERNAL) == 0 ||
               api_error(req, 403,
                         "Permission denied: this is for agents, on the port "
                         "of the servers");
    }
    if (req->options->raft == NULL || strcmp(req->path, HELLO_PATH) == 0) {
        return true;
    }
    mr_raft_status(req->options->raft, &status);
    if (status.cluster_id == 0) {
        return api_error(req, 503, "This server is in no cluster yet");
    }
    (void)snprintf(ours, sizeof ours, "%016llx",
                   (unsigned long long)status.cluster_id);
    if (cluster == NULL || strcmp(cluster, ours) != 0) {
        return api_error(req, 403,
                         "Permission denied: this is the cluster %s, not "
                         "\"%.40s\" (header X-Microreg-Cluster)",
                         ours, cluster == NULL ? "" : cluster);
    }
    return true;
}

static bool check_request(struct api_http *x)
{
    struct api_request *req = &x->req;

    if (atomic_load_explicit(&req->api->is_quiescing, memory_order_relaxed)) {
        api_fail(req, MR_E_CANCELED);
        x->close_after = true;
        return false;
    }
    if (x->bad_query) {
        answer_empty(x, 500);
        return false;
    }
    return check_agent(x) && check_namespace(req) && check_body(x);
}

/* The answer of an endpoint whose feature is off. */
static void refuse(struct api_http *x)
{
    const struct api_route *route = x->req.route;

    if (api_check_dc(&x->req)) {
        api_rpc_error(&x->req, route->refusal_status, "%s", route->refusal);
    }
}

void api_dispatch(struct api_http *x, const char *method)
{
    struct api_request *req = &x->req;

    req->method = method;
    x->phase = API_PHASE_REFUSE;
    x->body_max = API_BODY_MAX;
    if (!find_route(x) || !check_request(x)) {
        return;
    }
    req->arg = req->path + x->match.prefix_len;
    req->pretty = req->options->pretty_always || api_query_has(req, "pretty");
    if (req->route->refusal != NULL) {
        refuse(x);
        return;
    }
    x->phase = API_PHASE_BODY;
    if (api_relay_wanted(x)) {
        x->next = api_relay_start;
    } else if (api_forward_wanted(x)) {
        x->next = api_forward_start;
    } else {
        x->next =
            req->route->needs == API_WRITE ? api_write_start : api_read_start;
    }
}
