/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /registry: go-micro's services in its own JSON.
 *
 * POST renews when the very same is registered already, and only otherwise
 * makes a command:
 *
 *   renew --all renewed--> answer
 *     |  ^
 *     |  +-- nothing changed, or several nodes: who is it that lives? --+
 *     v                                                                 |
 *   Register -----------one node, and its row is new--> answer          |
 *       +---------------------------------------------------------------+
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "api/registry_digest.h"
#include "api/registry_render.h"
#include "api/registry_renew.h"

/* Registrations of one request that the state did not keep. */
#define TRIES_MAX 3

/* A request about a service; lies in the request's memory. */
struct work {
    struct registry_keep keep; /* First: see registry_keep_alive(). */
    struct decode d;
    struct registry_service service;
    struct registry_renewals renewals;
    uint64_t ttl_ms;
    uint64_t incarnation;
    uint64_t revision; /* Of the last command. */
    unsigned n_tries;
    size_t n_removed;
};

static void work_free(void *state)
{
    decode_deinit(&((struct work *)state)->d);
}

static struct work *work_new(struct api_request *req)
{
    struct work *w = api_alloc(req, sizeof *w);

    if (w == NULL) {
        api_fail(req, MR_E_NOMEM);
        return NULL;
    }
    memset(w, 0, sizeof *w);
    decode_init(&w->d);
    req->state = w;
    req->state_free = work_free;
    return w;
}

/* Whether the body of @w was decoded; answers otherwise. */
static bool is_decoded(struct api_request *req, const struct work *w,
                       enum mr_err err)
{
    if (err == MR_E_INVALID) {
        return api_error(req, 400, "%s", w->d.error);
    }
    if (err != MR_OK) {
        api_fail(req, err);
    }
    return err == MR_OK;
}

/* ?ttl= and ?incarnation=; answers and returns false when they are wrong. */
static bool parse_ttl(struct api_request *req, struct work *w)
{
    struct mr_detail detail;

    return registry_ttl_parse(api_query(req, "ttl"), &w->ttl_ms, &detail) ==
               MR_OK ||
           api_error(req, 400, "%s", detail.text);
}

static bool parse_incarnation(struct api_request *req, struct work *w)
{
    const char *text = api_query(req, "incarnation");

    return text == NULL || text[0] == '\0' ||
           mr_parse_u64(text, &w->incarnation) == MR_OK ||
           api_error(req, 400, "Invalid incarnation \"%.64s\": not a number",
                     text);
}

/* ------------------------------------------------------------- POST */

/* {"index":N,"nodes":[{"id","digest","lease"}...]} */
static void answer_post(struct api_request *req, const struct work *w)
{
    struct mr_buf json = MR_BUF_INIT;
    char digest[REGISTRY_DIGEST_LEN + 1];
    struct mr_json j;

    mr_json_init(&j, &json);
    mr_json_object(&j);
    mr_json_ku64(&j, "index",
                 w->revision != 0 ? w->revision : w->keep.revision);
    mr_json_key(&j, "nodes");
    mr_json_array(&j);
    for (size_t i = 0; i < w->keep.n; i++) {
        const struct registry_subject *s = &w->keep.subjects[i];

        registry_digest_format(s->digest, digest);
        mr_json_object(&j);
        mr_json_kstr(&j, "id", s->id);
        mr_json_kstr(&j, "digest", digest);
        mr_json_ku64(&j, "lease", s->lease_id);
        mr_json_object_end(&j);
    }
    mr_json_array_end(&j);
    mr_json_object_end(&j);
    api_reply_json(req, &json);
    mr_buf_deinit(&json);
}

/* The lease of the one registration that was just made. */
static void find_lease(struct api_request *req, struct registry_subject *s)
{
    char node[REGISTRY_NODE_NAME_MAX + 1];
    struct mr_kv_lease_ref ref = {0, 0, 0, false};
    struct mr_kv_view *view;

    registry_node_name(s->name, node);
    if (mr_kv_view_begin(req->options->kv, &view) == MR_OK) {
        if (mr_kv_lease_find(view, MR_KV_SUBJECT_SERVICE, node, s->id, &ref) ==
            MR_OK) {
            s->lease_id = ref.lease_id;
        }
        mr_kv_view_end(view); /* Without it the answer says 0. */
    }
}

static void on_registered(struct api_request *req,
                          const struct mr_kv_result *result)
{
    struct work *w = req->state;

    if (result->verdict == MR_KV_REFUSED) {
        bool is_fenced = strncmp(result->text, "fenced: ", 8) == 0;

        (void)api_error(req, is_fenced ? 409 : 400, "%s", result->text);
        return;
    }
    w->revision = result->revision;
    if (result->changed && w->keep.n == 1) {
        find_lease(req, &w->keep.subjects[0]);
        answer_post(req, w);
        return;
    }
    registry_keep_alive(req);
}

static void make_registration(struct api_request *req, struct work *w)
{
    enum mr_err err;

    mr_buf_reset(&req->cmd);
    err = registry_encode(&w->d, &w->service, req->options->agent.datacenter,
                          w->ttl_ms, w->incarnation, &req->cmd);
    if (err != MR_OK) {
        api_fail(req, err);
    } else {
        w->n_tries++;
        api_submit_raw(req, on_registered);
    }
}

static void after_post(struct api_request *req, enum mr_err err)
{
    struct work *w = req->state;

    if (err != MR_OK) {
        api_fail(req, err);
    } else if (w->keep.n_renewed == w->keep.n) {
        answer_post(req, w);
    } else if (w->n_tries == TRIES_MAX) {
        api_fail(req, MR_E_BUSY); /* Somebody else registers it as well. */
    } else {
        make_registration(req, w);
    }
}

void api_registry_register(struct api_request *req)
{
    struct work *w = work_new(req);
    enum mr_err err;

    if (w == NULL || !parse_ttl(req, w) || !parse_incarnation(req, w)) {
        return;
    }
    err = registry_body_service(&w->d, mr_buf_slice(&req->body), w->ttl_ms,
                                &w->service);
    if (err == MR_OK) {
        err = registry_keep_init(req, &w->keep, w->service.n_nodes);
    }
    if (!is_decoded(req, w, err)) {
        return;
    }
    for (size_t i = 0; i < w->keep.n; i++) {
        w->keep.subjects[i] = (struct registry_subject){
            .name = w->service.name,
            .id = w->service.nodes[i]->id,
            .digest = w->service.nodes[i]->digest,
            .incarnation = w->incarnation,
        };
    }
    w->keep.done = after_post;
    registry_keep_alive(req);
}

/* ------------------------------------------------------------- renew */

/* The list @key of those with @fate. */
static void write_fates(struct mr_json *j, const struct registry_keep *keep,
                        const char *key, enum registry_fate fate)
{
    mr_json_key(j, key);
    mr_json_array(j);
    for (size_t i = 0; i < keep->n; i++) {
        const struct registry_subject *s = &keep->subjects[i];

        if (s->fate == fate) {
            mr_json_object(j);
            mr_json_kstr(j, "name", s->name);
            mr_json_kstr(j, "id", s->id);
            mr_json_object_end(j);
        }
    }
    mr_json_array_end(j);
}

static bool has_fate(const struct registry_keep *keep, enum registry_fate fate)
{
    for (size_t i = 0; i < keep->n; i++) {
        if (keep->subjects[i].fate == fate) {
            return true;
        }
    }
    return false;
}

/* {"index":N,"renewed":n,"unknown":[...],"fenced":[...]} */
static void after_renew(struct api_request *req, enum mr_err err)
{
    const struct registry_keep *keep = req->state;
    struct mr_buf json = MR_BUF_INIT;
    struct mr_json j;

    if (err != MR_OK) {
        api_fail(req, err);
        return;
    }
    mr_json_init(&j, &json);
    mr_json_object(&j);
    mr_json_ku64(&j, "index", keep->revision);
    mr_json_ku64(&j, "renewed", keep->n_renewed);
    write_fates(&j, keep, "unknown", REGISTRY_UNKNOWN);
    write_fates(&j, keep, "fenced", REGISTRY_FENCED);
    mr_json_object_end(&j);
    api_reply_json(req, &json);
    mr_buf_deinit(&json);
    if (req->reply.status == 200 && keep->n_renewed < keep->n) {
        req->reply.status = has_fate(keep, REGISTRY_UNKNOWN) ? 404 : 409;
    }
}

void api_registry_renew(struct api_request *req)
{
    struct work *w = work_new(req);
    enum mr_err err;

    if (w == NULL) {
        return;
    }
    err = registry_body_renewals(&w->d, mr_buf_slice(&req->body), &w->renewals);
    if (err == MR_OK) {
        err = registry_keep_init(req, &w->keep, w->renewals.n_nodes);
    }
    if (!is_decoded(req, w, err)) {
        return;
    }
    for (size_t i = 0; i < w->keep.n; i++) {
        const struct registry_renewal *r = w->renewals.nodes[i];

        w->keep.subjects[i] = (struct registry_subject){
            .name = r->name,
            .id = r->id,
            .digest = r->digest,
            .incarnation = (uint64_t)r->incarnation,
        };
    }
    w->keep.done = after_renew;
    registry_keep_alive(req);
}

/* ------------------------------------------------------------- DELETE */

static void remove_next(struct api_request *req, struct work *w);

static void on_removed(struct api_request *req,
                       const struct mr_kv_result *result)
{
    struct work *w = req->state;

    if (result->verdict == MR_KV_REFUSED) {
        bool is_fenced = strncmp(result->text, "fenced: ", 8) == 0;

        (void)api_error(req, is_fenced ? 409 : 500, "%s", result->text);
        return;
    }
    w->revision = result->revision;
    remove_next(req, w);
}

/* Remove one node after the other: mostly there is one. */
static void remove_next(struct api_request *req, struct work *w)
{
    char node[REGISTRY_NODE_NAME_MAX + 1];
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;
    struct mr_buf json = MR_BUF_INIT;

    if (w->n_removed == w->service.n_nodes) {
        mr_buf_printf(&json, "{\"index\":%llu}",
                      (unsigned long long)w->revision);
        api_reply_json(req, &json);
        mr_buf_deinit(&json);
        return;
    }
    registry_node_name(w->service.name, node);
    body.node = node;
    body.service_id = w->service.nodes[w->n_removed++]->id;
    body.incarnation = w->incarnation;
    body.registry_only = true;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_buf_reset(&req->cmd);
    mr_kv_command_encode(&cmd, &req->cmd);
    api_submit_raw(req, on_removed);
}

void api_registry_deregister(struct api_request *req)
{
    struct work *w = work_new(req);

    if (w != NULL && parse_incarnation(req, w) &&
        is_decoded(req, w,
                   registry_body_removal(&w->d, mr_buf_slice(&req->body),
                                         &w->service))) {
        remove_next(req, w);
    }
}

/* ------------------------------------------------------------- GET */

/* The service "consul" is the servers themselves, which nobody calls. */
#define SERVERS "consul"

/* Instances on their way into a list. */
struct collection {
    struct registry_list *list;
    const char *name; /* Only of this very name; NULL: of all. */
    enum mr_err err;
};

static bool add_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct collection *c = arg;

    if (c->name == NULL || strcmp(c->name, instance->service->name) == 0) {
        c->err = registry_list_add(c->list, instance);
    }
    return c->err == MR_OK;
}

static enum mr_err collect_one(struct mr_kv_view *view, struct collection *c,
                               const char *name, uint64_t *out_index)
{
    enum mr_err err =
        mr_kv_service_instances(view, name, add_instance, c, out_index);

    return err != MR_OK ? err : c->err;
}

static bool add_name(void *arg, const struct mr_kv_service_name *name)
{
    struct mr_buf *names = arg;

    if (strcmp(name->name, SERVERS) != 0) {
        mr_buf_add(names, name->name, strlen(name->name) + 1);
    }
    return !mr_buf_failed(names);
}

static bool ignore_node(void *arg, const Mr__Node *node)
{
    (void)arg;
    (void)node;
    return false; /* Only the index is wanted. */
}

static bool ignore_check(void *arg, const Mr__Check *check)
{
    (void)arg;
    (void)check;
    return false; /* Likewise. */
}

/* The index of everything that a list of all services shows. */
static enum mr_err find_index(struct mr_kv_view *view, uint64_t *index)
{
    uint64_t other;
    enum mr_err err = mr_kv_node_list(view, ignore_node, NULL, &other);

    *index = err == MR_OK && other > *index ? other : *index;
    if (err == MR_OK) {
        err = mr_kv_state_checks(view, NULL, ignore_check, NULL, &other);
    }
    *index = err == MR_OK && other > *index ? other : *index;
    return err;
}

static enum mr_err collect_all(struct mr_kv_view *view, struct collection *c,
                               uint64_t *out_index)
{
    struct mr_buf names = MR_BUF_INIT;
    uint64_t index = 1;
    enum mr_err err = mr_kv_service_names(view, add_name, &names, &index);
    size_t at = 0;

    if (err == MR_OK && mr_buf_failed(&names)) {
        err = MR_E_NOMEM;
    }
    while (err == MR_OK && at < names.len) {
        const char *name = (const char *)names.data + at;

        err = collect_one(view, c, name, NULL);
        at += strlen(name) + 1;
    }
    mr_buf_deinit(&names);
    if (err == MR_OK) {
        err = find_index(view, &index);
        *out_index = index;
    }
    return err;
}

enum mr_err api_registry_get(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    const char *name = api_query(req, "service");
    struct collection c = {.list = registry_list_new(), .err = MR_OK};
    enum mr_err err = MR_E_NOMEM;

    if (name != NULL && name[0] != '\0') {
        c.name = name;
        api_depends(req, MR_KV_TOPIC_SERVICE, name);
    } else {
        api_depends(req, MR_KV_TOPIC_CATALOG, "");
    }
    if (c.list != NULL) {
        err = c.name != NULL ? collect_one(view, &c, c.name, &req->reply.index)
                             : collect_all(view, &c, &req->reply.index);
    }
    if (err == MR_OK) {
        err = registry_list_write(c.list, out);
    }
    registry_list_free(c.list);
    return err;
}
