/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What agents without -server ask of servers, over the servers' port:
 *
 *   GET  /v1/internal/hello    who are you, and who are the others?
 *   PUT  /v1/internal/renew    the lease of my node, and those of its checks
 *   PUT  /v1/internal/propose  a command about my node
 *   GET  /v1/internal/rows     digests of what you have of my node
 *   POST /v1/internal/dns      a DNS question (RFC 8484)
 *
 * A node's name belongs to the agent whose ID its row has, as long as that one
 * lives: another agent of the same name is refused.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "api/core.h"
#include "api/handlers.h"
#include "api/internal.h"
#include "api/mr_rows.h"
#include "api/self.h"
#include "base/mem.h"

#define PEERS_MAX 64
#define ITEMS_MAX 100000
#define DNS_TYPE "application/dns-message"
#define DNS_ANSWER_MAX 65535

/* ------------------------------------------------------------- hello */

enum mr_err api_internal_hello(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out)
{
    struct mr_raft_peer *peers = api_alloc(req, PEERS_MAX * sizeof *peers);
    struct mr_raft_status status;
    struct mr_json j;
    char id[17];
    size_t n;

    (void)view;
    if (peers == NULL) {
        return MR_E_NOMEM;
    }
    mr_raft_status(req->options->raft, &status);
    if (status.cluster_id == 0) {
        (void)api_error(req, 503, "This server is in no cluster yet");
        return MR_OK;
    }
    n = mr_raft_peers(req->options->raft, peers, PEERS_MAX);
    (void)snprintf(id, sizeof id, "%016" PRIx64, status.cluster_id);
    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_kstr(&j, "Cluster", id);
    mr_json_kstr(&j, "Datacenter", req->options->agent.datacenter);
    mr_json_kstr(&j, "Node", req->options->agent.node_name);
    mr_json_kbool(&j, "Leader", status.has_leader);
    mr_json_key(&j, "Servers");
    mr_json_array(&j);
    for (size_t i = 0; i < n && i < PEERS_MAX; i++) {
        mr_json_str(&j, peers[i].address);
    }
    mr_json_array_end(&j);
    mr_json_object_end(&j);
    return MR_OK;
}

/* ------------------------------------------------------------- whose name */

/* Whether a living node of another ID has the name; answers then. */
static bool is_taken(struct api_request *req, struct mr_kv_view *view,
                     const char *name, const char *id, bool *out_is_there)
{
    const Mr__Node *node = NULL;
    const Mr__Check *check = NULL;
    enum mr_err err = mr_kv_node_get(view, name, &node, NULL);

    if (err == MR_OK && node != NULL) {
        err = mr_kv_check_get(view, name, SELF_HEALTH_ID, &check);
    }
    if (err != MR_OK) {
        api_fail(req, err);
        return true;
    }
    *out_is_there = node != NULL && strcasecmp(node->id, id) == 0;
    if (node == NULL || node->id[0] == '\0' || *out_is_there || check == NULL ||
        strcmp(check->status, "passing") != 0) {
        return false;
    }
    (void)api_error(req, 409, "the name %s is in use by node %s at %s", name,
                    node->id, node->address);
    return true;
}

/* ------------------------------------------------------------- renew */

/* One renewal: the node's lease first, then those of the checks. */
struct renewing {
    json_t *body;
    const char *node;
    const char *id;
    size_t n; /* Subjects; the first is the node. */
    bool *is_renewed;
    size_t *subject_of; /* Of each item that is asked for. */
    struct mr_lease_item *items;
    struct mr_lease_renewal renewal;
    struct mr_raft_read read;
    struct api_request *req;
    bool is_fresh; /* The view was as new as the leader's. */
};

static void renewing_free(void *state)
{
    struct renewing *r = state;

    json_decref(r->body);
    mr_free(r->is_renewed);
    mr_free(r->subject_of);
    mr_free(r->items);
    mr_free(r);
}

static bool parse_renewal(struct api_request *req, struct renewing *r)
{
    const json_t *checks;

    r->body = json_loadb((const char *)req->body.data, req->body.len, 0, NULL);
    r->node = json_string_value(json_object_get(r->body, "Node"));
    r->id = json_string_value(json_object_get(r->body, "ID"));
    checks = json_object_get(r->body, "Checks");
    r->n = 1 + json_array_size(checks);
    if (r->node == NULL || r->id == NULL || r->n > ITEMS_MAX) {
        return api_error(req, 400, "Node, ID and Checks are needed");
    }
    for (size_t i = 0; i + 1 < r->n; i++) {
        if (!json_is_string(json_array_get(checks, i))) {
            return api_error(req, 400, "Checks must be a list of texts");
        }
    }
    r->is_renewed = mr_calloc(r->n, sizeof *r->is_renewed);
    r->subject_of = mr_calloc(r->n, sizeof *r->subject_of);
    r->items = mr_calloc(r->n, sizeof *r->items);
    if (r->is_renewed == NULL || r->subject_of == NULL || r->items == NULL) {
        api_fail(req, MR_E_NOMEM);
        return false;
    }
    return true;
}

static void answer_renewal(struct api_request *req, const struct renewing *r)
{
    struct mr_buf json = MR_BUF_INIT;
    struct mr_json j;

    mr_json_init(&j, &json);
    mr_json_object(&j);
    mr_json_kbool(&j, "Node", r->is_renewed[0]);
    mr_json_key(&j, "Checks");
    mr_json_array(&j);
    for (size_t i = 1; i < r->n; i++) {
        mr_json_bool(&j, r->is_renewed[i]);
    }
    mr_json_array_end(&j);
    mr_json_object_end(&j);
    api_reply_json(req, &json);
    mr_buf_deinit(&json);
}

/* Find the leases of what is not renewed yet. False: answered. */
static bool find_leases(struct api_request *req, struct renewing *r,
                        bool *out_is_there)
{
    const json_t *checks = json_object_get(r->body, "Checks");
    struct mr_kv_view *view = api_view(req);
    enum mr_err err = MR_OK;
    bool ok;

    r->renewal.n_items = 0;
    if (view == NULL) {
        return false;
    }
    ok = !is_taken(req, view, r->node, r->id, out_is_there);
    for (size_t i = 0; ok && *out_is_there && err == MR_OK && i < r->n; i++) {
        const char *check =
            i == 0 ? "" : json_string_value(json_array_get(checks, i - 1));
        struct mr_kv_lease_ref ref = {.lease_id = 0};

        if (r->is_renewed[i]) {
            continue;
        }
        err = mr_kv_lease_find(
            view, i == 0 ? MR_KV_SUBJECT_NODE : MR_KV_SUBJECT_CHECK, r->node,
            check, &ref);
        if (ref.lease_id != 0) {
            r->subject_of[r->renewal.n_items] = i;
            r->items[r->renewal.n_items++].id = ref.lease_id;
        }
    }
    mr_kv_view_end(view);
    if (ok && err != MR_OK) {
        api_fail(req, err);
    }
    return ok && err == MR_OK;
}

static void renew_found(struct api_request *req);

static void on_fresh(struct mr_raft_read *read, enum mr_err err)
{
    struct renewing *r = mr_container_of(read, struct renewing, read);

    api_async_done(r->req, err, NULL);
}

static void after_fresh(struct api_request *req, enum mr_err err,
                        const char *text)
{
    (void)text;
    if (err != MR_OK) {
        api_fail(req, err);
    } else {
        renew_found(req);
    }
}

/* What is not found here may be on the leader already. */
static void look_again(struct api_request *req, struct renewing *r)
{
    enum mr_err err;

    r->is_fresh = true;
    memset(&r->read, 0, sizeof r->read);
    r->read.mode = MR_RAFT_READ_DEFAULT;
    r->read.done = on_fresh;
    api_async_begin(req, after_fresh);
    err = mr_raft_read(req->options->raft, &r->read);
    if (err != MR_OK) {
        api_async_done(req, err, NULL);
    }
}

static size_t count_renewed(const struct renewing *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n; i++) {
        n += r->is_renewed[i] ? 1 : 0;
    }
    return n;
}

static void end_or_look_again(struct api_request *req, struct renewing *r)
{
    if (count_renewed(r) == r->n || r->is_fresh) {
        answer_renewal(req, r);
    } else {
        look_again(req, r);
    }
}

static void on_renewed(struct mr_lease_renewal *renewal, enum mr_err err)
{
    struct renewing *r = mr_container_of(renewal, struct renewing, renewal);

    api_async_done(r->req, err, NULL);
}

static void after_renewal(struct api_request *req, enum mr_err err,
                          const char *text)
{
    struct renewing *r = req->state;

    (void)text;
    if (err != MR_OK) {
        api_fail(req, err);
        return;
    }
    for (size_t i = 0; i < r->renewal.n_items; i++) {
        if (r->items[i].answer == MR_LEASE_RENEWED) {
            r->is_renewed[r->subject_of[i]] = true;
        }
    }
    end_or_look_again(req, r);
}

static void renew_found(struct api_request *req)
{
    const struct mr_api_host *host = &req->options->host;
    struct renewing *r = req->state;
    bool is_there = false;
    enum mr_err err;

    if (!find_leases(req, r, &is_there)) {
        return;
    }
    if (r->renewal.n_items == 0) {
        end_or_look_again(req, r);
        return;
    }
    r->renewal.items = r->items;
    r->renewal.done = on_renewed;
    mr_list_init(&r->renewal.link);
    api_async_begin(req, after_renewal);
    err =
        host->renew == NULL ? MR_E_CLOSED : host->renew(host->arg, &r->renewal);
    if (err != MR_OK) {
        api_async_done(req, err, NULL);
    }
}

void api_internal_renew(struct api_request *req)
{
    struct renewing *r = mr_calloc(1, sizeof *r);

    if (r == NULL) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    r->req = req;
    req->state = r;
    req->state_free = renewing_free;
    if (parse_renewal(req, r)) {
        renew_found(req);
    }
}

/* ------------------------------------------------------------- propose */

void api_internal_propose(struct api_request *req)
{
    struct internal_sender sender = {api_query(req, "node"),
                                     api_query(req, "id")};
    struct mr_kv_view *view;
    struct mr_detail detail;
    bool is_there = false;
    bool is_ours;

    if (internal_check_command(mr_buf_slice(&req->body), &sender, &detail) !=
        MR_OK) {
        (void)api_error(req, 400, "%s", detail.text);
        return;
    }
    view = api_view(req);
    if (view == NULL) {
        return;
    }
    is_ours = !is_taken(req, view, sender.node, sender.id, &is_there);
    mr_kv_view_end(view);
    if (is_ours) {
        mr_buf_init(&req->cmd, MR_RAFT_COMMAND_MAX);
        mr_buf_add(&req->cmd, req->body.data, req->body.len);
        api_submit(req, api_done_empty);
    }
}

/* ------------------------------------------------------------- rows */

struct rows {
    struct mr_json json;
    bool with_output;
};

static void put_digest(struct mr_json *j, const char *key, uint64_t digest)
{
    char hex[17];

    (void)snprintf(hex, sizeof hex, "%016" PRIx64, digest);
    mr_json_kstr(j, key, hex);
}

static bool put_service(void *arg, const Mr__Service *service)
{
    struct rows *rows = arg;

    if (service->origin == MR__ORIGIN__AGENT) {
        put_digest(&rows->json, service->id, mr_rows_service(service));
    }
    return true;
}

static bool put_check(void *arg, const Mr__Check *check)
{
    struct rows *rows = arg;
    struct mr_json *j = &rows->json;

    if (check->origin == MR__ORIGIN__AGENT) {
        mr_json_key(j, check->check_id);
        mr_json_object(j);
        put_digest(j, "Row", mr_rows_check(check));
        put_digest(j, "State", mr_rows_check_state(check));
        mr_json_kstr(j, "Status", check->status);
        if (rows->with_output) {
            mr_json_kstr(j, "Output", check->output);
        }
        mr_json_object_end(j);
    }
    return true;
}

enum mr_err api_internal_rows(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out)
{
    const char *name = api_query(req, "node");
    const char *id = api_query(req, "id");
    struct rows rows = {.with_output = api_query_has(req, "output")};
    bool is_there = false;
    enum mr_err err;

    if (name == NULL || id == NULL) {
        (void)api_error(req, 400, "node and id are needed");
        return MR_OK;
    }
    if (is_taken(req, view, name, id, &is_there)) {
        return MR_OK;
    }
    mr_json_init(&rows.json, out);
    mr_json_object(&rows.json);
    mr_json_kbool(&rows.json, "Node", is_there);
    mr_json_key(&rows.json, "Services");
    mr_json_object(&rows.json);
    err = mr_kv_node_services(view, name, put_service, &rows, NULL);
    mr_json_object_end(&rows.json);
    mr_json_key(&rows.json, "Checks");
    mr_json_object(&rows.json);
    if (err == MR_OK) {
        err = mr_kv_node_checks(view, name, put_check, &rows, NULL);
    }
    mr_json_object_end(&rows.json);
    mr_json_object_end(&rows.json);
    return err;
}

/* ------------------------------------------------------------- DNS */

void api_internal_dns(struct api_request *req)
{
    const struct mr_api_host *host = &req->options->host;
    const char *proto = api_query(req, "proto");
    struct mr_buf answer;

    mr_buf_init(&answer, DNS_ANSWER_MAX);
    api_reply_empty(req);
    if (host->dns == NULL ||
        !host->dns(host->arg, mr_buf_slice(&req->body),
                   proto != NULL && strcmp(proto, "udp") == 0, &answer) ||
        mr_buf_failed(&answer)) {
        (void)api_error(req, 503, "This server does not answer DNS");
    } else {
        mr_buf_add(api_out(), answer.data, answer.len);
        req->reply.type = DNS_TYPE;
        req->reply.is_bytes = true;
    }
    mr_buf_deinit(&answer);
}
