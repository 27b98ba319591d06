/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/agent/check/pass, warn, fail and update: results of TTL checks.
 *
 * A result that says nothing new is a renewal of the check's lease and leaves
 * no trace in the log:
 *
 *   look --as before--> renew --renewed--> answer
 *    |  ^                 |
 *    |  +--a fresh view---+ (another lease, or none)
 *    |
 *    +--something new--> CheckUpdate --changed--> answer
 *    ^                        |
 *    +------ not changed -----+
 *
 * A renewal that succeeds proves that the view was right, because each change
 * of a check gives it another lease. So no result is lost, whatever happened to
 * the check meanwhile; one that cannot be kept is answered with an error.
 *
 * An output alone is written at a bounded rate (api_may_write_output()): beyond
 * it the result only renews, and the next one that comes in time brings its
 * output.
 */
#include <string.h>

#include "api/define.h"
#include "api/handlers.h"
#include "api/renew.h"

/* Looks at the state; more than these need a check that changes all the time. */
#define ROUNDS_MAX 8

/* A result on its way; lies in the request's memory. */
struct report {
    const char *status;
    const char *output;
    bool is_fresh; /* The next view is surely new enough. */
    unsigned n_rounds;
    uint64_t lease_id; /* That was asked for last; 0: none. */
    struct api_renewal *renewal;
};

static void go_on(struct api_request *req, struct report *r);

static void refuse(struct api_request *req)
{
    (void)api_error(req, 500, "CheckID \"%s\" does not have associated TTL",
                    req->arg);
}

static void after_refresh(struct api_request *req, enum mr_err err,
                          const char *text)
{
    struct report *r = req->state;

    (void)text; /* There is none. */
    if (err != MR_OK) {
        api_fail(req, err);
        return;
    }
    r->is_fresh = true;
    go_on(req, r);
}

/* ------------------------------------------------------------- renewing */

static void after_renewal(struct api_request *req, enum mr_err err,
                          const char *text)
{
    struct report *r = req->state;

    (void)text; /* There is none. */
    if (err != MR_OK) {
        api_fail(req, err);
    } else if (r->renewal->renewal.items[0].answer == MR_LEASE_RENEWED) {
        api_reply_empty(req);
    } else {
        api_refresh(req, after_refresh);
    }
}

static void renew(struct api_request *req, struct report *r)
{
    r->renewal = api_renewal_new(req, 1);
    if (r->renewal == NULL) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    r->renewal->renewal.items[0].id = r->lease_id;
    api_renew(r->renewal, after_renewal);
}

/* ------------------------------------------------------------- changing */

static void after_update(struct api_request *req,
                         const struct mr_kv_result *result)
{
    struct report *r = req->state;

    if (result->verdict == MR_KV_REFUSED) {
        refuse(req);
    } else if (result->changed) {
        api_reply_empty(req);
    } else {
        /* It was so already: who said so may have been long ago. */
        r->is_fresh = true;
        r->lease_id = 0;
        go_on(req, r);
    }
}

static void submit_update(struct api_request *req, const struct report *r)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;

    /* Nothing of these is written to. */
    update.node = (char *)(uintptr_t)req->options->agent.node_name;
    update.check_id = (char *)(uintptr_t)req->arg;
    update.status = (char *)(uintptr_t)r->status;
    update.output = (char *)(uintptr_t)r->output;
    update.ttl_only = true;
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &update;
    mr_buf_reset(&req->cmd);
    mr_kv_command_encode(&cmd, &req->cmd);
    api_submit_raw(req, after_update);
}

/* ------------------------------------------------------------- looking */

enum next {
    NEXT_UPDATE, /* It is new, or the view cannot tell. */
    NEXT_RENEW,  /* Renew r->lease_id. */
    NEXT_ANSWER, /* Nothing to do. */
    NEXT_REFUSE  /* No TTL check. */
};

static bool has_ttl(const Mr__Check *check)
{
    return strcmp(check->type, "ttl") == 0 ||
           (check->definition != NULL && check->definition->ttl_ns > 0);
}

/* Whether the result in @r would change @check, as far as it may. */
static bool is_news(struct api_request *req, const struct report *r,
                    const Mr__Check *check)
{
    return strcmp(check->status, r->status) != 0 ||
           (strcmp(check->output, r->output) != 0 &&
            api_may_write_output(req, req->arg));
}

/* What the state in @view makes of the result. */
static enum mr_err judge(struct api_request *req, struct report *r,
                         struct mr_kv_view *view, enum next *out_next)
{
    const char *node = req->options->agent.node_name;
    uint64_t tried = r->lease_id;
    struct mr_kv_lease_ref ref;
    const Mr__Check *check;
    enum mr_err err = mr_kv_check_get(view, node, req->arg, &check);

    if (err == MR_OK) {
        err = mr_kv_lease_find(view, MR_KV_SUBJECT_CHECK, node, req->arg, &ref);
    }
    if (err != MR_OK) {
        return err;
    }
    r->lease_id = ref.lease_id;
    if (check == NULL || !has_ttl(check)) {
        *out_next = NEXT_REFUSE;
    } else if (!is_news(req, r, check)) {
        *out_next = ref.lease_id == 0       ? NEXT_ANSWER
                    : ref.lease_id == tried ? NEXT_UPDATE
                                            : NEXT_RENEW;
    } else {
        *out_next = NEXT_UPDATE;
    }
    return MR_OK;
}

static enum mr_err look(struct api_request *req, struct report *r,
                        enum next *out_next)
{
    struct mr_kv_view *view;
    enum mr_err err = mr_kv_view_begin(req->options->kv, &view);

    if (err == MR_OK) {
        err = judge(req, r, view, out_next);
        mr_kv_view_end(view);
    }
    return err;
}

static void go_on(struct api_request *req, struct report *r)
{
    enum next next = NEXT_REFUSE;
    enum mr_err err = look(req, r, &next);
    bool is_final = next == NEXT_ANSWER || next == NEXT_REFUSE;

    if (err == MR_OK && ++r->n_rounds > ROUNDS_MAX) {
        err = MR_E_BUSY;
    }
    if (err != MR_OK) {
        api_fail(req, err);
    } else if (is_final && !r->is_fresh) {
        api_refresh(req, after_refresh);
    } else if (next == NEXT_REFUSE) {
        refuse(req);
    } else if (next == NEXT_ANSWER) {
        api_reply_empty(req);
    } else if (next == NEXT_RENEW) {
        renew(req, r);
    } else {
        submit_update(req, r);
    }
}

/* ------------------------------------------------------------- endpoints */

/* Take in a result of the check req->arg; @output as it is to be kept. */
static void take_result(struct api_request *req, const char *status,
                        const char *output)
{
    struct report *r = api_alloc(req, sizeof *r);
    char *kept = output == NULL ? NULL : api_dup(req, output, strlen(output));

    if (r == NULL || kept == NULL) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    *r = (struct report){
        .status = status, .output = kept, .is_fresh = api_is_fresh(req)};
    req->state = r;
    go_on(req, r);
}

/* pass, warn and fail: the output is ?note=, emptied without it. */
static void take_note(struct api_request *req, const char *status)
{
    const char *note = api_query(req, "note");
    struct decode d;

    decode_init(&d);
    take_result(req, status, define_output(&d, note == NULL ? "" : note));
    decode_deinit(&d);
}

void api_agent_check_pass(struct api_request *req)
{
    take_note(req, "passing");
}

void api_agent_check_warn(struct api_request *req)
{
    take_note(req, "warning");
}

void api_agent_check_fail(struct api_request *req)
{
    take_note(req, "critical");
}

void api_agent_check_update(struct api_request *req)
{
    static const char *const known[] = {"passing", "warning", "critical"};
    const char *status = "";
    Mr__CheckUpdate update;
    struct decode d;
    enum mr_err err;

    decode_init(&d);
    err = define_update(&d, mr_buf_slice(&req->body), &update);
    for (size_t i = 0; err == MR_OK && i < MR_ARRAY_LEN(known); i++) {
        status = strcmp(update.status, known[i]) == 0 ? known[i] : status;
    }
    if (err == MR_OK) {
        take_result(req, status, update.output);
    } else if (err == MR_E_INVALID) {
        (void)api_error(req, 400, "%s", d.error);
    } else {
        api_fail(req, err);
    }
    decode_deinit(&d);
}
