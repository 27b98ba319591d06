/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/agent: registering services and checks through this agent. */
#include <string.h>

#include "api/define.h"
#include "api/handlers.h"
#include "api/renew.h"
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

/* ------------------------------------------------------------- leases */

/* The checks of a registration; lies in the request's memory. */
struct registered {
    char *service_id; /* Of a check that was registered by itself. */
    size_t n_ids;
    char *ids[];
};

/* Remember in req->state which checks are registered; answers and returns false
 * without memory. */
static bool remember(struct api_request *req, const char *service_id,
                     Mr__Check *const *checks, size_t n)
{
    struct registered *r = api_alloc(req, sizeof *r + n * sizeof r->ids[0]);
    bool is_done = r != NULL;

    if (r != NULL) {
        r->n_ids = n;
        r->service_id = api_dup(req, service_id, strlen(service_id));
        is_done = r->service_id != NULL;
    }
    for (size_t i = 0; is_done && i < n; i++) {
        const char *id = checks[i]->check_id;

        r->ids[i] = api_dup(req, id, strlen(id));
        is_done = r->ids[i] != NULL;
    }
    req->state = r;
    if (!is_done) {
        api_fail(req, MR_E_NOMEM);
    }
    return is_done;
}

/* The registration holds, whatever became of the leases. */
static void after_renewal(struct api_request *req, enum mr_err err,
                          const char *text)
{
    (void)err;
    (void)text;
    api_reply_empty(req);
}

/* The leases that the checks have, into the items of @renewal. */
static void find_leases(struct api_request *req, struct api_renewal *renewal)
{
    const struct registered *r = req->state;
    struct mr_lease_renewal *leases = &renewal->renewal;
    struct mr_kv_lease_ref ref;
    struct mr_kv_view *view;

    leases->n_items = 0;
    if (mr_kv_view_begin(req->options->kv, &view) != MR_OK) {
        return;
    }
    for (size_t i = 0; i < r->n_ids; i++) {
        if (mr_kv_lease_find(view, MR_KV_SUBJECT_CHECK,
                             req->options->agent.node_name, r->ids[i],
                             &ref) == MR_OK &&
            ref.lease_id != 0) {
            leases->items[leases->n_items++].id = ref.lease_id;
        }
    }
    mr_kv_view_end(view);
}

/* Who registers is alive: the time of its TTL checks begins again, as at
 * Consul, also of those that did not change. */
static void renew_checks(struct api_request *req)
{
    const struct registered *r = req->state;
    struct api_renewal *renewal =
        r->n_ids == 0 ? NULL : api_renewal_new(req, r->n_ids);

    if (renewal != NULL) {
        find_leases(req, renewal);
    }
    if (renewal == NULL || renewal->renewal.n_items == 0) {
        api_reply_empty(req);
    } else {
        api_renew(renewal, after_renewal);
    }
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

    if (!remember(req, "", def->checks, def->n_checks)) {
        return false;
    }
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

static void service_registered(struct api_request *req,
                               const struct mr_kv_result *result)
{
    (void)result; /* Refused ones do not come here. */
    renew_checks(req);
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
        api_submit(req, service_registered);
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
    const struct registered *r = req->state;

    if (result->verdict != MR_KV_REFUSED) {
        renew_checks(req);
    } else if (strstr(result->text, "Missing service registration") != NULL) {
        (void)api_error(req, 500, "ServiceID \"%s\" does not exist",
                        r->service_id);
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

    if (!remember(req, check->service_id, checks, 1)) {
        return false;
    }
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = self_register(&req->options->agent, d);
    if (cmd.register_ == NULL) {
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
