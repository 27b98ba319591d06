/* SPDX-License-Identifier: Apache-2.0 */
/* Writes: a command goes to raft, its result comes back and is answered. */
#include <stdio.h>
#include <string.h>

#include "api/core.h"
#include "base/mem.h"
#include "base/text.h"

struct write_op {
    struct mr_write write; /* First: what the state machine finds. */
    struct api_http *exchange;
};

/* What a step of a write's handler left: an answer, or something to wait for. */
static enum api_step step_of(const struct api_http *x)
{
    return x->is_handed_over ? API_STEP_WAIT : API_STEP_REPLY;
}

enum api_step api_write_start(struct api_http *x)
{
    x->is_handed_over = false;
    x->req.route->write(&x->req);
    return step_of(x);
}

struct mr_kv_view *api_view(struct api_request *req)
{
    struct mr_kv_view *view = NULL;
    enum mr_err err = mr_kv_view_begin(req->options->kv, &view);

    if (err != MR_OK) {
        api_fail(req, err);
        return NULL;
    }
    return view;
}

/* ------------------------------------------------------------- commands */

static void on_done(struct mr_raft_proposal *proposal, enum mr_err err)
{
    struct mr_write *write =
        mr_container_of(proposal, struct mr_write, proposal);
    struct api_http *x =
        mr_container_of(write, struct write_op, write)->exchange;

    x->op_err = err;
    api_wake_now(x);
}

static enum api_step after_write(struct api_http *x)
{
    const struct mr_kv_result *result = &x->op.write->result;

    x->is_handed_over = false;
    if (x->op_err != MR_OK) {
        api_fail(&x->req, x->op_err);
    } else if (result->verdict == MR_KV_REFUSED && !x->wants_refused) {
        api_error(&x->req, 500, "%s", result->text);
    } else {
        x->then.done(&x->req, result);
    }
    return step_of(x);
}

/* The address of the client: of the agent's, when an agent passed it on. */
static void passed_for(struct api_request *req, char out[INET6_ADDRSTRLEN])
{
    const char *chain = api_http_is_adopted(req->http)
                            ? api_request_header(req, "X-Forwarded-For")
                            : NULL;
    const char *last = chain == NULL ? NULL : strrchr(chain, ' ');

    last = last == NULL ? chain : last + 1;
    if (last != NULL && mr_ip_family(last) != 0) {
        (void)snprintf(out, INET6_ADDRSTRLEN, "%s", last); /* Fits. */
    } else {
        api_http_client(req->http, out);
    }
}

/* Who asks and when, for `microreg why`. Fields of a message may come in pieces,
 * so they are appended to what the handler encoded. What an agent's own sync
 * sends says itself who it is. */
static void stamp(struct api_request *req)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    char client[INET6_ADDRSTRLEN];
    char by[INET6_ADDRSTRLEN + 264];
    uint8_t *at;

    cmd.time_ms = req->options->clock->wall_ms(req->options->clock);
    if ((req->route->flags & API_INTERNAL) == 0) {
        passed_for(req, client);
        (void)snprintf(by, sizeof by, "%.255s for %s", api_asker_node(req),
                       client);
        cmd.by = by;
    }
    at = mr_buf_grow(&req->cmd, mr__command__get_packed_size(&cmd));
    if (at != NULL) {
        (void)mr__command__pack(&cmd, at); /* The length asked for. */
    }
}

static enum mr_err propose(struct api_http *x)
{
    struct api_request *req = &x->req;
    const struct mr_api_host *host = &req->options->host;
    struct write_op *op;

    stamp(req);
    if (mr_buf_failed(&req->cmd)) {
        return MR_E_NOMEM;
    }
    if (req->cmd.len > MR_RAFT_COMMAND_MAX) {
        return MR_E_TOOBIG;
    }
    op = api_alloc(req, sizeof *op);
    if (op == NULL) {
        return MR_E_NOMEM;
    }
    *op = (struct write_op){
        .write.proposal = {.cmd = mr_buf_slice(&req->cmd), .done = on_done},
        .exchange = x};
    x->op.write = &op->write;
    x->next = after_write;
    api_wait_arm(x);
    enum mr_err err = host->propose(host->arg, &op->write.proposal);

    if (err != MR_OK) {
        api_wait_disarm(x);
    }
    return err;
}

static void submit(struct api_request *req, api_done_fn done, bool raw)
{
    struct api_http *x = req->http;

    if (!api_check_dc(req)) {
        return;
    }
    x->then.done = done;
    x->wants_refused = raw;
    /* Set before: the completion may be running on another thread already. */
    x->is_handed_over = true;
    enum mr_err err = propose(x);

    if (err != MR_OK) {
        x->is_handed_over = false;
        api_fail(req, err);
    }
}

void api_submit(struct api_request *req, api_done_fn done)
{
    submit(req, done, false);
}

void api_submit_raw(struct api_request *req, api_done_fn done)
{
    submit(req, done, true);
}

void api_done_bool(struct api_request *req, const struct mr_kv_result *result)
{
    if (result->verdict == MR_KV_DONE) {
        api_reply_true(req);
    } else {
        api_reply_false(req);
    }
}

void api_done_empty(struct api_request *req, const struct mr_kv_result *result)
{
    (void)result; /* Refused ones do not come here. */
    api_reply_empty(req);
}

/* ------------------------------------------------------------- others */

static enum api_step after_async(struct api_http *x)
{
    x->is_handed_over = false;
    x->then.resume(&x->req, x->op_err, x->op_text == NULL ? "" : x->op_text);
    return step_of(x);
}

void api_async_begin(struct api_request *req, api_resume_fn resume)
{
    struct api_http *x = req->http;

    mr_free(x->op_text);
    x->op_text = NULL;
    x->then.resume = resume;
    x->next = after_async;
    x->is_handed_over = true;
    api_wait_arm(x);
}

void api_async_done(void *request, enum mr_err err, const char *text)
{
    struct api_request *req = request;
    struct api_http *x = req->http;

    x->op_err = err;
    x->op_text = text == NULL ? NULL : mr_strdup(text); /* NULL: no text. */
    api_wake_now(x);
}

void api_resume_empty(struct api_request *req, enum mr_err err,
                      const char *text)
{
    if (err == MR_OK) {
        api_reply_empty(req);
    } else if (text[0] != '\0') {
        api_error(req, 500, "%s", text);
    } else {
        api_fail(req, err);
    }
}
