/* SPDX-License-Identifier: Apache-2.0 */
/* PUT /v1/agent/maintenance and /v1/agent/service/maintenance/. */
#include "api/maintenance.h"

#include <string.h>

#include "api/define.h"
#include "api/handlers.h"
#include "api/self.h"

#define NO_REASON(what)                                                        \
    "Maintenance mode is enabled for this " what                               \
    ", but no reason was provided. This is a default message."

bool maintenance_is(const char *check_id)
{
    return strcmp(check_id, MAINTENANCE_NODE) == 0 ||
           strncmp(check_id, MAINTENANCE_SERVICE,
                   sizeof MAINTENANCE_SERVICE - 1) == 0;
}

/* ?enable=; answers and returns false when it is missing or wrong. */
static bool parse_enable(struct api_request *req, bool *out_enable)
{
    const char *text = api_query(req, "enable");

    if (text == NULL || text[0] == '\0') {
        return api_error(req, 400, "Missing value for enable");
    }
    if (api_parse_bool(text, out_enable) != MR_OK) {
        return api_error(req, 400, "Invalid value for enable: \"%s\"", text);
    }
    return true;
}

/* The service may have gone away in between. */
static void done(struct api_request *req, const struct mr_kv_result *result)
{
    if (result->verdict != MR_KV_REFUSED) {
        api_reply_empty(req);
    } else if (strstr(result->text, "Missing service registration") != NULL) {
        (void)api_error(req, 404, "No service registered with ID \"%s\"",
                        req->arg);
    } else {
        (void)api_error(req, 500, "%s", result->text);
    }
}

static void enable(struct api_request *req, Mr__Check *check)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Check *checks[] = {check};
    struct decode d;

    check->status = (char *)"critical";
    check->type = (char *)"maintenance";
    check->origin = MR__ORIGIN__AGENT;
    decode_init(&d);
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = self_register(&req->options->agent, &d);
    if (cmd.register_ == NULL) {
        decode_deinit(&d);
        api_fail(req, MR_E_NOMEM);
        return;
    }
    cmd.register_->checks = checks;
    cmd.register_->n_checks = 1;
    mr_kv_command_encode(&cmd, &req->cmd);
    decode_deinit(&d);
    api_submit_raw(req, done);
}

static void disable(struct api_request *req, const char *check_id)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    body.node = (char *)req->options->agent.node_name;
    body.check_id = (char *)check_id;
    body.agent_only = true;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_kv_command_encode(&cmd, &req->cmd);
    api_submit_raw(req, done);
}

static const char *reason(struct api_request *req, const char *none)
{
    const char *text = api_query(req, "reason");

    return text == NULL || text[0] == '\0' ? none : text;
}

/* What the catalog has under our node: the check @check_id and, when
 * @service_id is not NULL, the service. False after it answered. */
static bool look_up(struct api_request *req, const char *service_id,
                    const char *check_id, bool *out_service, bool *out_check)
{
    const char *node = req->options->agent.node_name;
    struct mr_kv_view *view = api_view(req);
    const Mr__Service *service = NULL;
    const Mr__Check *check = NULL;
    enum mr_err err = MR_OK;

    if (view == NULL) {
        return false;
    }
    if (service_id != NULL) {
        err = mr_kv_service_get(view, node, service_id, &service);
    }
    if (err == MR_OK) {
        err = mr_kv_check_get(view, node, check_id, &check);
    }
    *out_service = service != NULL && service->origin == MR__ORIGIN__AGENT;
    *out_check = check != NULL;
    mr_kv_view_end(view);
    if (err != MR_OK) {
        api_fail(req, err);
    }
    return err == MR_OK;
}

void api_agent_maintenance(struct api_request *req)
{
    Mr__Check check = MR__CHECK__INIT;
    bool wants = false;
    bool is_service = false;
    bool is_on = false;

    if (!parse_enable(req, &wants) ||
        !look_up(req, NULL, MAINTENANCE_NODE, &is_service, &is_on)) {
        return;
    }
    if (wants == is_on) {
        api_reply_empty(req); /* The first reason stays. */
        return;
    }
    if (!wants) {
        disable(req, MAINTENANCE_NODE);
        return;
    }
    check.check_id = (char *)MAINTENANCE_NODE;
    check.name = (char *)"Node Maintenance Mode";
    check.notes = (char *)reason(req, NO_REASON("node"));
    enable(req, &check);
}

void api_agent_service_maintenance(struct api_request *req)
{
    Mr__Check check = MR__CHECK__INIT;
    size_t len = sizeof MAINTENANCE_SERVICE + strlen(req->arg);
    char *check_id = api_alloc(req, len);
    bool wants = false;
    bool is_service = false;
    bool is_on = false;

    if (check_id == NULL) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    (void)stpcpy(stpcpy(check_id, MAINTENANCE_SERVICE), req->arg);
    if (req->arg[0] == '\0') {
        (void)api_error(req, 400, "Missing service ID");
        return;
    }
    if (!parse_enable(req, &wants) ||
        !look_up(req, req->arg, check_id, &is_service, &is_on)) {
        return;
    }
    if (!is_service) {
        (void)api_error(req, 404, "No service registered with ID \"%s\"",
                        req->arg);
        return;
    }
    if (wants == is_on) {
        api_reply_empty(req);
        return;
    }
    if (!wants) {
        disable(req, check_id);
        return;
    }
    check.check_id = check_id;
    check.name = (char *)"Service Maintenance Mode";
    check.notes = (char *)reason(req, NO_REASON("service"));
    check.service_id = (char *)req->arg;
    enable(req, &check);
}
