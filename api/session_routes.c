/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/session: sessions, which hold locks (consul-parity 9). */
#include <string.h>

#include "api/core.h"
#include "api/handlers.h"
#include "api/renew.h"
#include "api/session_body.h"
#include "base/text.h"

#define NS_PER_MS UINT64_C(1000000)

/* ------------------------------------------------------------- rendering */

static void add_checks(struct mr_json *j, const Mr__Session *s)
{
    mr_json_key(j, "NodeChecks");
    mr_json_array(j);
    for (size_t i = 0; i < s->n_node_checks; i++) {
        mr_json_str(j, s->node_checks[i]);
    }
    mr_json_array_end(j);
    mr_json_key(j, "ServiceChecks");
    if (s->n_service_checks == 0) {
        mr_json_null(j);
        return;
    }
    mr_json_array(j);
    for (size_t i = 0; i < s->n_service_checks; i++) {
        mr_json_object(j);
        mr_json_kstr(j, "ID", s->service_checks[i]);
        mr_json_kstr(j, "Namespace", "");
        mr_json_object_end(j);
    }
    mr_json_array_end(j);
}

static void add_session(struct mr_json *j, const Mr__Session *s)
{
    bool deletes = s->behavior == MR__SESSION_BEHAVIOR__DELETE;

    mr_json_object(j);
    mr_json_kstr(j, "ID", s->id);
    mr_json_kstr(j, "Name", s->name);
    mr_json_kstr(j, "Node", s->node);
    mr_json_ku64(j, "LockDelay", s->lock_delay_ms * NS_PER_MS);
    mr_json_kstr(j, "Behavior", deletes ? "delete" : "release");
    mr_json_kstr(j, "TTL", s->ttl_text);
    add_checks(j, s);
    mr_json_ku64(j, "CreateIndex", s->create_rev);
    mr_json_ku64(j, "ModifyIndex", s->modify_rev);
    mr_json_object_end(j);
}

static bool add_listed(void *arg, const Mr__Session *session)
{
    struct mr_json *j = arg;

    add_session(j, session);
    return !mr_buf_failed(j->out);
}

/* The list of the one session, or of none. */
static void write_one(struct mr_buf *out, const Mr__Session *session)
{
    struct mr_json j;

    mr_json_init(&j, out);
    mr_json_array(&j);
    if (session != NULL) {
        add_session(&j, session);
    }
    mr_json_array_end(&j);
}

/* ------------------------------------------------------------- reading */

bool api_session_info_prepare(struct api_request *req)
{
    const char *refusal = session_id_refusal(req->arg);

    if (req->arg[0] == '\0') {
        return api_error(req, 400, "Missing session");
    }
    return refusal == NULL || api_rpc_error(req, 500, "%s", refusal);
}

enum mr_err api_session_info(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    const Mr__Session *session;
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_SESSIONS, "");
    err = mr_kv_session_get(view, req->arg, &session, &req->reply.index);
    if (err == MR_OK) {
        write_one(out, session);
    }
    return err;
}

bool api_session_node_prepare(struct api_request *req)
{
    return req->arg[0] != '\0' || api_error(req, 400, "Missing node name");
}

/* The sessions of @node, or of all when it is NULL. */
static enum mr_err write_list(struct api_request *req, struct mr_kv_view *view,
                              const char *node, struct mr_buf *out)
{
    struct mr_json j;
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_SESSIONS, "");
    mr_json_init(&j, out);
    mr_json_array(&j);
    err = mr_kv_session_list(view, node, add_listed, &j, &req->reply.index);
    mr_json_array_end(&j);
    return err;
}

enum mr_err api_session_node(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    return write_list(req, view, req->arg, out);
}

enum mr_err api_session_list(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    return write_list(req, view, NULL, out);
}

/* ------------------------------------------------------------- create */

static void created(struct api_request *req, const struct mr_kv_result *result)
{
    struct mr_buf out = MR_BUF_INIT;
    struct mr_json j;

    (void)result; /* Refused ones do not come here. */
    mr_json_init(&j, &out);
    mr_json_object(&j);
    mr_json_kstr(&j, "ID", req->state);
    mr_json_object_end(&j);
    api_reply_json(req, &out);
    mr_buf_deinit(&out);
}

void api_session_create(struct api_request *req)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__SessionCreate create = MR__SESSION_CREATE__INIT;
    Mr__Session session;
    unsigned status = 0;
    struct decode d;
    enum mr_err err;

    decode_init(&d);
    err = session_body(&d, mr_buf_slice(&req->body), api_asker_node(req),
                       &session, &status);
    req->state = api_alloc(req, MR_UUID_LEN + 1);
    if (err == MR_OK && req->state == NULL) {
        err = MR_E_NOMEM;
    }
    if (err == MR_OK) {
        mr_uuid_new(req->options->random, req->state);
        session.id = req->state;
        create.session = &session;
        cmd.op_case = MR__COMMAND__OP_SESSION_CREATE;
        cmd.session_create = &create;
        mr_kv_command_encode(&cmd, &req->cmd);
        api_submit(req, created);
    } else if (err == MR_E_INVALID) {
        (void)api_error(req, status, "%s", d.error);
    } else {
        api_fail(req, err);
    }
    decode_deinit(&d);
}

/* ------------------------------------------------------------- destroy */

/* Whether the path names a session; answered otherwise. */
static bool has_session(struct api_request *req)
{
    const char *refusal = session_id_refusal(req->arg);

    if (req->arg[0] == '\0') {
        return api_error(req, 400, "Missing session");
    }
    return refusal == NULL || api_error(req, 500, "%s", refusal);
}

void api_session_destroy(struct api_request *req)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__SessionDestroy destroy = MR__SESSION_DESTROY__INIT;

    if (!has_session(req)) {
        return;
    }
    destroy.id = (char *)req->arg;
    cmd.op_case = MR__COMMAND__OP_SESSION_DESTROY;
    cmd.session_destroy = &destroy;
    mr_kv_command_encode(&cmd, &req->cmd);
    api_submit(req, api_done_bool);
}

/* ------------------------------------------------------------- renew */

static void unknown(struct api_request *req)
{
    (void)api_error(req, 404, "Session id '%s' not found", req->arg);
}

/* Answer with the session as the local state has it. */
static void reply_session(struct api_request *req)
{
    struct mr_kv_view *view = api_view(req);
    struct mr_buf out = MR_BUF_INIT;
    const Mr__Session *session = NULL;
    enum mr_err err;

    if (view == NULL) {
        return;
    }
    err = mr_kv_session_get(view, req->arg, &session, NULL);
    if (session != NULL) {
        write_one(&out, session);
    }
    mr_kv_view_end(view);
    if (err != MR_OK) {
        api_fail(req, err);
    } else if (session == NULL) {
        unknown(req); /* Destroyed in between. */
    } else {
        api_reply_json(req, &out);
    }
    mr_buf_deinit(&out);
}

/* A session keeps its lease for life: what the leader says of it holds. */
static void renewed(struct api_request *req, enum mr_err err, const char *text)
{
    const struct api_renewal *r = req->state;

    (void)text;
    if (err != MR_OK) {
        api_fail(req, err);
    } else if (r->renewal.items[0].answer == MR_LEASE_RENEWED) {
        reply_session(req);
    } else {
        unknown(req);
    }
}

static void renew_lease(struct api_request *req, uint64_t lease_id)
{
    struct api_renewal *r = api_renewal_new(req, 1);

    if (r == NULL) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    r->renewal.items[0].id = lease_id;
    req->state = r;
    api_renew(r, renewed);
}

/* The session's lease in the local state; false: answered with an error. */
static bool find_lease(struct api_request *req, struct mr_kv_lease_ref *out)
{
    struct mr_kv_view *view = api_view(req);
    enum mr_err err;

    if (view == NULL) {
        return false;
    }
    err = mr_kv_lease_find(view, MR_KV_SUBJECT_SESSION, "", req->arg, out);
    mr_kv_view_end(view);
    if (err != MR_OK) {
        api_fail(req, err);
    }
    return err == MR_OK;
}

/* The local state is fresh: it knows the session, or there is none. */
static void renew_fresh(struct api_request *req, enum mr_err err,
                        const char *text)
{
    struct mr_kv_lease_ref ref;

    (void)text;
    if (err != MR_OK) {
        api_fail(req, err);
        return;
    }
    if (!find_lease(req, &ref)) {
        return;
    }
    if (!ref.exists) {
        unknown(req);
    } else if (ref.lease_id == 0) {
        reply_session(req); /* Without a TTL there is nothing to renew. */
    } else {
        renew_lease(req, ref.lease_id);
    }
}

void api_session_renew(struct api_request *req)
{
    struct mr_kv_lease_ref ref;

    if (!has_session(req) || !api_check_dc(req) || !find_lease(req, &ref)) {
        return;
    }
    if (ref.exists && ref.lease_id != 0) {
        renew_lease(req, ref.lease_id);
    } else {
        api_refresh(req, renew_fresh);
    }
}
