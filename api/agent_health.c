/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/agent/health/service: the local health of a service for load balancers,
 * told by the HTTP status as well: passing 200, warning 429, critical and
 * maintenance 503. The agent's node checks count for every service.
 */
#include <string.h>

#include "api/handlers.h"
#include "api/maintenance.h"
#include "api/shapes.h"
#include "base/mem.h"

enum health {
    HEALTH_PASSING,
    HEALTH_WARNING,
    HEALTH_CRITICAL,
    HEALTH_MAINTENANCE
};

static const struct {
    const char *name;
    unsigned status;
} healths[] = {
    [HEALTH_PASSING] = {"passing", 200},
    [HEALTH_WARNING] = {"warning", 429},
    [HEALTH_CRITICAL] = {"critical", 503},
    [HEALTH_MAINTENANCE] = {"maintenance", 503},
};

/* The agent's own rows, borrowed from the view. */
struct own {
    const Mr__Service **services;
    size_t n_services;
    size_t cap_services;
    const Mr__Check **checks;
    size_t n_checks;
    size_t cap_checks;
    const char *name; /* Services of this name only. */
    bool failed;
};

static bool is_text(struct api_request *req)
{
    const char *format = api_query(req, "format");

    return format != NULL && strcmp(format, "text") == 0;
}

/* Room for one more pointer in *@list. */
static bool grow(void *list, size_t n, size_t *cap)
{
    size_t wanted = *cap == 0 ? 16 : *cap * 2;
    void *grown;
    void **at = list;

    if (n < *cap) {
        return true;
    }
    grown = mr_realloc(*at, wanted * sizeof(void *));
    if (grown == NULL) {
        return false;
    }
    *at = grown;
    *cap = wanted;
    return true;
}

static bool collect_service(void *arg, const Mr__Service *service)
{
    struct own *own = arg;

    if (service->origin != MR__ORIGIN__AGENT ||
        strcmp(service->name, own->name) != 0) {
        return true;
    }
    if (!grow(&own->services, own->n_services, &own->cap_services)) {
        own->failed = true;
        return false;
    }
    own->services[own->n_services++] = service;
    return true;
}

static bool collect_check(void *arg, const Mr__Check *check)
{
    struct own *own = arg;

    if (check->origin != MR__ORIGIN__AGENT) {
        return true;
    }
    if (!grow(&own->checks, own->n_checks, &own->cap_checks)) {
        own->failed = true;
        return false;
    }
    own->checks[own->n_checks++] = check;
    return true;
}

static bool concerns(const Mr__Check *check, const Mr__Service *service)
{
    return check->service_id[0] == '\0' ||
           strcmp(check->service_id, service->id) == 0;
}

static enum health health_of_check(const Mr__Check *check)
{
    if (maintenance_is(check->check_id)) {
        return HEALTH_MAINTENANCE;
    }
    if (strcmp(check->status, "passing") == 0) {
        return HEALTH_PASSING;
    }
    return strcmp(check->status, "warning") == 0 ? HEALTH_WARNING
                                                 : HEALTH_CRITICAL;
}

static enum health health_of(const struct own *own, const Mr__Service *service)
{
    enum health worst = HEALTH_PASSING;

    for (size_t i = 0; i < own->n_checks; i++) {
        if (concerns(own->checks[i], service)) {
            enum health one = health_of_check(own->checks[i]);

            worst = one > worst ? one : worst;
        }
    }
    return worst;
}

static enum health write_health(struct mr_json *j, const struct own *own,
                                const Mr__Service *service)
{
    enum health health = health_of(own, service);

    mr_json_object(j);
    mr_json_kstr(j, "AggregatedStatus", healths[health].name);
    mr_json_key(j, "Service");
    shape_service_agent(j, service, NULL);
    mr_json_key(j, "Checks");
    mr_json_array(j);
    for (size_t i = 0; i < own->n_checks; i++) {
        if (concerns(own->checks[i], service)) {
            shape_check(j, own->checks[i], SHAPE_CHECK_HEALTH);
        }
    }
    mr_json_array_end(j);
    mr_json_object_end(j);
    return health;
}

/* Set status and reason; with ?format=text the answer is the bare word. */
static void answer_health(struct api_request *req, enum health health,
                          struct mr_buf *out)
{
    req->reply.status = healths[health].status;
    api_reply_header(req, "X-Consul-Reason", healths[health].name);
    if (is_text(req)) {
        mr_buf_reset(out);
        mr_buf_str(out, healths[health].name);
        req->reply.type = "text/plain";
    }
}

/* Answer 404; the reason is @before, the argument and @after. */
static enum mr_err answer_unknown(struct api_request *req, const char *before,
                                  const char *after, const char **out_reason)
{
    size_t len = strlen(before) + strlen(req->arg) + strlen(after);
    char *reason = api_alloc(req, len + 1);

    if (reason == NULL) {
        return MR_E_NOMEM;
    }
    (void)stpcpy(stpcpy(stpcpy(reason, before), req->arg), after);
    req->reply.status = 404;
    api_reply_header(req, "X-Consul-Reason", reason);
    *out_reason = reason;
    return MR_OK;
}

bool api_agent_health_name_prepare(struct api_request *req)
{
    return req->arg[0] != '\0' ||
           api_error(req, 500, "Bad request: Missing service Name");
}

bool api_agent_health_id_prepare(struct api_request *req)
{
    return req->arg[0] != '\0' ||
           api_error(req, 500, "Bad request: Missing serviceID");
}

static void own_deinit(struct own *own)
{
    mr_free(own->services);
    mr_free(own->checks);
}

static enum mr_err unknown_name(struct api_request *req, struct mr_buf *out)
{
    const char *reason;
    enum mr_err err =
        answer_unknown(req, "ServiceName ", " Not Found", &reason);

    if (err == MR_OK && is_text(req)) {
        req->reply.type = "text/plain";
        mr_buf_str(out, reason);
    } else {
        mr_buf_str(out, "[]");
    }
    return err;
}

enum mr_err api_agent_health_name(struct api_request *req,
                                  struct mr_kv_view *view, struct mr_buf *out)
{
    const char *node = req->options->agent.node_name;
    struct own own = {.name = req->arg};
    enum health worst = HEALTH_PASSING;
    struct mr_json j;
    enum mr_err err;

    err = mr_kv_node_services(view, node, collect_service, &own, NULL);
    if (err == MR_OK) {
        err = mr_kv_node_checks(view, node, collect_check, &own, NULL);
    }
    if (err == MR_OK && own.failed) {
        err = MR_E_NOMEM;
    }
    if (err == MR_OK && own.n_services == 0) {
        err = unknown_name(req, out);
    } else if (err == MR_OK) {
        mr_json_init(&j, out);
        mr_json_array(&j);
        for (size_t i = 0; i < own.n_services; i++) {
            enum health one = write_health(&j, &own, own.services[i]);

            worst = one > worst ? one : worst;
        }
        mr_json_array_end(&j);
        answer_health(req, worst, out);
    }
    own_deinit(&own);
    return err;
}

static enum mr_err unknown_id(struct api_request *req, struct mr_buf *out)
{
    struct mr_json j;
    const char *reason;
    enum mr_err err = answer_unknown(req, "ServiceId ", " not found", &reason);

    if (err == MR_OK && is_text(req)) {
        mr_json_init(&j, out);
        mr_json_str(&j, reason);
    } else {
        mr_buf_str(out, "{\"AggregatedStatus\":\"critical\",\"Service\":null,"
                        "\"Checks\":null}");
    }
    return err;
}

enum mr_err api_agent_health_id(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out)
{
    const char *node = req->options->agent.node_name;
    const Mr__Service *service;
    struct own own = {.name = ""};
    struct mr_json j;
    enum mr_err err;

    err = mr_kv_service_get(view, node, req->arg, &service);
    if (err != MR_OK) {
        return err;
    }
    if (service == NULL || service->origin != MR__ORIGIN__AGENT) {
        return unknown_id(req, out);
    }
    err = mr_kv_node_checks(view, node, collect_check, &own, NULL);
    if (err == MR_OK && own.failed) {
        err = MR_E_NOMEM;
    }
    if (err == MR_OK) {
        enum health health;

        mr_json_init(&j, out);
        health = write_health(&j, &own, service);
        answer_health(req, health, out);
    }
    own_deinit(&own);
    return err;
}
