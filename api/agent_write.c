/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/agent: registering services and checks through this agent. */
#include <string.h>

#include "api/define.h"
#include "api/handlers.h"
#include "api/self.h"

/* Answer for a body that was refused with @err. */
static void refuse_body(struct api_request *req, const struct decode *d,
                        enum mr_err err)
{
    if (err == MR_E_INVALID) {
        (void)api_error(req, 400, "%s", d->error);
    } else {
        api_fail(req, err);
    }
}

/* Whether the agent takes these checks from a client; answers otherwise. */
static bool is_permitted(struct api_request *req, Mr__Check *const *checks,
                         size_t n_checks)
{
    const char *refusal =
        define_refusal(checks, n_checks, req->options->enable_scripts);

    return refusal == NULL || api_error(req, 500, "%s", refusal);
}

/* ------------------------------------------------------------- services */

/* ?replace-existing-checks, bare or with a boolean; false after an answer. */
static bool parse_replace(struct api_request *req, bool *out_replace)
{
    const char *text = api_query(req, "replace-existing-checks");

    *out_replace = text != NULL;
    if (text == NULL || text[0] == '\0') {
        return true;
    }
    if (api_parse_bool(text, out_replace) != MR_OK) {
        return api_error(req, 400,
                         "Invalid value for replace-existing-checks: \"%s\"",
                         text);
    }
    return true;
}

/* Encode the registration of @def; answers and returns false on failure. */
static bool encode_service(struct api_request *req, struct decode *d,
                           struct define_service *def, bool replace)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Service *services[] = {&def->service};

    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = self_register(&req->options->agent, d);
    if (cmd.register_ == NULL) {
        api_fail(req, MR_E_NOMEM);
        return false;
    }
    cmd.register_->services = services;
    cmd.register_->n_services = 1;
    cmd.register_->checks = def->checks;
    cmd.register_->n_checks = def->n_checks;
    cmd.register_->replace_checks = replace;
    cmd.register_->keep_check_state = true;
    mr_kv_command_encode(&cmd, &req->cmd);
    return true;
}

void api_agent_service_register(struct api_request *req)
{
    struct define_service def;
    struct decode d;
    bool is_ready = false;
    bool replace;
    enum mr_err err;

    decode_init(&d);
    err = define_service(&d, mr_buf_slice(&req->body), &def);
    if (err != MR_OK) {
        refuse_body(req, &d, err);
    } else if (!is_permitted(req, def.checks, def.n_checks)) {
        is_ready = false;
    } else if (parse_replace(req, &replace)) {
        is_ready = encode_service(req, &d, &def, replace);
    }
    decode_deinit(&d);
    if (is_ready) {
        api_submit(req, api_done_empty);
    }
}

/* Remove the service or the check of our node; what was registered otherwise
 * than through the agent is left alone, and nothing to remove is no error. */
static void deregister(struct api_request *req, const char *service_id,
                       const char *check_id)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    body.node = (char *)req->options->agent.node_name;
    body.service_id = (char *)service_id;
    body.check_id = (char *)check_id;
    body.agent_only = true;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_kv_command_encode(&cmd, &req->cmd);
    api_submit(req, api_done_empty);
}

void api_agent_service_deregister(struct api_request *req)
{
    if (req->arg[0] == '\0') {
        (void)api_error(req, 500, "ServiceID missing");
        return;
    }
    deregister(req, req->arg, "");
}

/* ------------------------------------------------------------- checks */

/* A check whose service is not there has words of its own. */
static void check_registered(struct api_request *req,
                             const struct mr_kv_result *result)
{
    if (result->verdict != MR_KV_REFUSED) {
        api_reply_empty(req);
    } else if (strstr(result->text, "Missing service registration") != NULL) {
        (void)api_error(req, 500, "ServiceID \"%s\" does not exist",
                        (const char *)req->state);
    } else {
        (void)api_error(req, 500, "%s", result->text);
    }
}

/* Encode the registration of @check; answers and returns false on failure. */
static bool encode_check(struct api_request *req, struct decode *d,
                         Mr__Check *check)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Check *checks[] = {check};

    req->state = api_dup(req, check->service_id, strlen(check->service_id));
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = self_register(&req->options->agent, d);
    if (cmd.register_ == NULL || req->state == NULL) {
        api_fail(req, MR_E_NOMEM);
        return false;
    }
    cmd.register_->checks = checks;
    cmd.register_->n_checks = 1;
    cmd.register_->keep_check_state = true;
    mr_kv_command_encode(&cmd, &req->cmd);
    return true;
}

void api_agent_check_register(struct api_request *req)
{
    bool is_ready = false;
    Mr__Check check;
    struct decode d;
    Mr__Check *checks[] = {&check};
    enum mr_err err;

    decode_init(&d);
    err = define_check(&d, mr_buf_slice(&req->body), &check);
    if (err != MR_OK) {
        refuse_body(req, &d, err);
    } else if (is_permitted(req, checks, 1)) {
        is_ready = encode_check(req, &d, &check);
    }
    decode_deinit(&d);
    if (is_ready) {
        api_submit_raw(req, check_registered);
    }
}

void api_agent_check_deregister(struct api_request *req)
{
    if (req->arg[0] == '\0') {
        (void)api_error(req, 500, "CheckID missing");
        return;
    }
    deregister(req, "", req->arg);
}
