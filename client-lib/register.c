/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registering and deregistering.
 *
 * - The JSON is taken apart into one entry a node (keep.h), so that nodes can be
 *   removed one by one and the others go on.
 * - What is registered already, and is the same, is renewed by its digest. Servers
 *   that do not know it (404) get the whole.
 */
#include <string.h>

#include "call.h"
#include "keep.h"
#include "service.h"

#define NODES_MAX 512
#define TTL_MIN_MS INT64_C(1000)
#define TTL_MAX_MS INT64_C(86400000)
/* What is not kept alive is remembered only to renew it by its digest. */
#define REMEMBERED_MAX 4096

/* One call on its way. */
struct plan {
    struct microreg *client;
    struct microreg_error *error;
    struct mrg_arena arena;
    const struct mrg_json *service;
    const char *name;
    size_t n;
    const char **ids;
    char **bodies; /* Of one node each; NULL where it was handed on. */
    struct mrg_kept **fresh;   /* For nodes that have no entry yet. */
    struct mrg_kept **entries; /* NULL where there is none. */
    int64_t ttl_ms;
    unsigned flags;
    uint64_t deadline_ms; /* Of all its requests together. */
};

static int invalid(struct plan *plan, const char *text)
{
    return mrg_fail(plan->error, MICROREG_E_INVALID, "%s", text);
}

/* ------------------------------------------------------------- parsing */

/* Room for what there is of each node; `entries` is set when there is room for
 * all. */
static bool alloc_lists(struct plan *plan)
{
    plan->ids = mrg_arena_alloc(&plan->arena, plan->n * sizeof *plan->ids);
    plan->bodies =
        mrg_arena_alloc(&plan->arena, plan->n * sizeof *plan->bodies);
    plan->fresh = mrg_arena_alloc(&plan->arena, plan->n * sizeof *plan->fresh);
    if (plan->ids != NULL && plan->bodies != NULL && plan->fresh != NULL) {
        plan->entries =
            mrg_arena_alloc(&plan->arena, plan->n * sizeof *plan->entries);
    }
    return plan->entries != NULL;
}

static int parse_nodes(struct plan *plan, const struct mrg_json *nodes)
{
    size_t i = 0;

    if (!alloc_lists(plan)) {
        return mrg_nomem(plan->error);
    }
    for (const struct mrg_json *v = nodes->child; v != NULL; v = v->next) {
        const char *id = mrg_json_str(mrg_json_get(v, "id"));

        if (id[0] == '\0') {
            return mrg_fail(plan->error, MICROREG_E_INVALID,
                            "nodes[%zu].id is missing", i);
        }
        for (size_t before = 0; before < i; before++) {
            if (strcmp(plan->ids[before], id) == 0) {
                return mrg_fail(plan->error, MICROREG_E_INVALID,
                                "nodes[%zu].id \"%.150s\" is there twice", i,
                                id);
            }
        }
        plan->ids[i] = id;
        plan->fresh[i] = mrg_kept_new(plan->name, id);
        if (plan->fresh[i++] == NULL) {
            return mrg_nomem(plan->error);
        }
    }
    return MICROREG_OK;
}

static int parse_service(struct plan *plan, const char *json, size_t len)
{
    const struct mrg_json *nodes;
    size_t at = 0;
    int err = mrg_json_parse(&plan->arena, json, len, &plan->service, &at);

    if (err == MICROREG_E_NOMEM) {
        return mrg_nomem(plan->error);
    }
    if (err != MICROREG_OK) {
        return mrg_fail(plan->error, MICROREG_E_INVALID,
                        "this is not JSON, or not UTF-8, at byte %zu", at);
    }
    plan->name = mrg_json_str(mrg_json_get(plan->service, "name"));
    if (plan->name[0] == '\0') {
        return invalid(plan, "the service has no name");
    }
    nodes = mrg_json_get(plan->service, "nodes");
    if (nodes == NULL || nodes->type != MRG_JSON_ARRAY || nodes->n == 0) {
        return invalid(plan,
                       "the service has no nodes: one at least is needed");
    }
    if (nodes->n > NODES_MAX) {
        return mrg_fail(plan->error, MICROREG_E_INVALID,
                        "the service has %zu nodes: at most %d go into one "
                        "registration",
                        nodes->n, NODES_MAX);
    }
    plan->n = nodes->n;
    return parse_nodes(plan, nodes);
}

/* The service with each of its nodes alone. */
static int write_bodies(struct plan *plan)
{
    const struct mrg_json *node = mrg_json_get(plan->service, "nodes")->child;

    for (size_t i = 0; i < plan->n; i++, node = node->next) {
        struct mrg_text out = MRG_TEXT_INIT;
        size_t len;

        mrg_text_byte(&out, '{');
        for (const struct mrg_json *v = plan->service->child; v != NULL;
             v = v->next) {
            if (strcmp(v->key, "nodes") != 0) {
                mrg_text_json(&out, v->key, strlen(v->key));
                mrg_text_byte(&out, ':');
                mrg_text_add(&out, v->raw, v->raw_len);
                mrg_text_byte(&out, ',');
            }
        }
        mrg_text_str(&out, "\"nodes\":[");
        mrg_text_add(&out, node->raw, node->raw_len);
        mrg_text_str(&out, "]}");
        plan->bodies[i] = mrg_text_take(&out, &len);
        mrg_text_deinit(&out);
        if (plan->bodies[i] == NULL) {
            return mrg_nomem(plan->error);
        }
    }
    return MICROREG_OK;
}

static void plan_deinit(struct plan *plan)
{
    for (size_t i = 0; plan->entries != NULL && i < plan->n; i++) {
        mrg_free(plan->bodies[i]);
        mrg_kept_free(plan->fresh[i]);
    }
    mrg_arena_deinit(&plan->arena);
}

/* ------------------------------------------------------------- claims */

/* Whether nobody works on the plan's nodes. */
static bool is_free(struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        const struct mrg_kept *fresh = plan->fresh[i];

        plan->entries[i] = mrg_map_get(&plan->client->keeper->entries,
                                       fresh->key, fresh->key_len);
        if (plan->entries[i] != NULL && plan->entries[i]->is_busy) {
            return false;
        }
    }
    return true;
}

/* Make the entries that are missing. False: no memory, nothing was made. */
static bool make_entries(struct plan *plan)
{
    struct mrg_keeper *keeper = plan->client->keeper;

    if (!mrg_map_reserve(&keeper->entries, plan->n)) {
        return false;
    }
    for (size_t i = 0; i < plan->n; i++) {
        struct mrg_kept *fresh = plan->fresh[i];

        if (plan->entries[i] == NULL) {
            (void)mrg_map_put(&keeper->entries, fresh->key, fresh->key_len,
                              fresh);
            plan->entries[i] = fresh;
            plan->fresh[i] = NULL;
        }
    }
    return true;
}

static void drop_entry(struct plan *plan, size_t i)
{
    struct mrg_kept *kept = plan->entries[i];

    if (kept != NULL) {
        (void)mrg_map_remove(&plan->client->keeper->entries, kept->key,
                             kept->key_len);
        mrg_kept_free(kept);
        plan->entries[i] = NULL;
    }
}

/* The nodes are to go, even when they cannot be claimed. */
static void let_go(struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        const struct mrg_kept *fresh = plan->fresh[i];
        struct mrg_kept *kept = mrg_map_get(&plan->client->keeper->entries,
                                            fresh->key, fresh->key_len);

        if (kept != NULL) {
            kept->is_kept = false;
        }
    }
}

/* Take the plan's nodes for us alone, waiting for others. With @makes there is
 * an entry for each of them then; else nobody keeps them alive any more. */
static int claim(struct plan *plan, bool makes)
{
    struct microreg *client = plan->client;
    int err = MICROREG_OK;

    plan->deadline_ms = mrg_now_ms() + (uint64_t)client->options.timeout_ms;
    pthread_mutex_lock(&client->lock);
    if (mrg_keeper_get(client) == NULL) {
        err = mrg_nomem(plan->error);
    } else if (!makes) {
        let_go(plan);
    }
    while (err == MICROREG_OK && !is_free(plan)) {
        if (!mrg_cond_wait_until(&client->keeper->changed, &client->lock,
                                 plan->deadline_ms)) {
            err = mrg_fail(plan->error, MICROREG_E_TIMEOUT,
                           "%s: another request about the same nodes has no "
                           "answer yet",
                           plan->name);
        }
    }
    if (err == MICROREG_OK && makes && !make_entries(plan)) {
        err = mrg_nomem(plan->error);
    }
    for (size_t i = 0; err == MICROREG_OK && i < plan->n; i++) {
        if (plan->entries[i] != NULL) {
            plan->entries[i]->is_busy = true;
        }
    }
    pthread_mutex_unlock(&client->lock);
    return err;
}

/* ------------------------------------------------------------- registering */

/* Whether all nodes are registered already just like this. */
static bool is_same(const struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        const struct mrg_kept *kept = plan->entries[i];

        if (kept == NULL || kept->is_new || kept->digest[0] == '\0' ||
            kept->body == NULL || kept->ttl_ms != plan->ttl_ms ||
            strcmp(kept->body, plan->bodies[i]) != 0) {
            return false;
        }
    }
    return true;
}

/* Renew them. MICROREG_E_NOTFOUND: they must be registered again. */
static int try_renewal(const struct plan *plan, const struct mrg_kept_job *job)
{
    bool unknown[NODES_MAX] = {false};
    bool fenced[NODES_MAX] = {false};
    int err = mrg_kept_renew(job, unknown, fenced);

    for (size_t i = 0; i < plan->n; i++) {
        if (unknown[i] && err == MICROREG_OK) {
            err = MICROREG_E_NOTFOUND;
        }
    }
    return err;
}

/* Take what was registered into the entries, and give them free. */
static int settle(struct plan *plan, int err, uint64_t sent_ms)
{
    struct microreg *client = plan->client;
    bool is_kept = (plan->flags & MICROREG_KEEP_ALIVE) != 0;

    pthread_mutex_lock(&client->lock);
    for (size_t i = 0; i < plan->n; i++) {
        struct mrg_kept *kept = plan->entries[i];

        kept->is_busy = false;
        if (err != MICROREG_OK && kept->is_new) {
            drop_entry(plan, i);
            continue;
        }
        if (err == MICROREG_E_INVALID || err == MICROREG_E_FENCED) {
            continue; /* Nothing has changed. */
        }
        if (err != MICROREG_OK) {
            kept->digest[0] = '\0'; /* Not known which one it is now. */
            continue;
        }
        mrg_free(kept->body);
        kept->body = plan->bodies[i];
        plan->bodies[i] = NULL;
        kept->ttl_ms = plan->ttl_ms;
        kept->due_ms = mrg_kept_due(kept, sent_ms);
        kept->is_kept = is_kept && plan->ttl_ms > 0;
        kept->is_new = false;
        if (!kept->is_kept && client->keeper->entries.n > REMEMBERED_MAX) {
            drop_entry(plan, i);
        }
    }
    (void)pthread_cond_broadcast(&client->keeper->changed);
    if (err == MICROREG_OK && is_kept &&
        mrg_keeper_wake(client) != MICROREG_OK) {
        err = mrg_nomem(plan->error);
    }
    pthread_mutex_unlock(&client->lock);
    return err;
}

static int register_plan(struct plan *plan, const char *json)
{
    uint64_t sent_ms;
    int err = claim(plan, true);
    const struct mrg_kept_job job = {plan->client, plan->entries, plan->n,
                                     plan->deadline_ms, plan->error};

    if (err != MICROREG_OK) {
        return err;
    }
    sent_ms = mrg_now_ms();
    err = is_same(plan) ? try_renewal(plan, &job) : MICROREG_E_NOTFOUND;
    if (err == MICROREG_E_NOTFOUND) {
        sent_ms = mrg_now_ms();
        err = mrg_kept_post(&job, json, plan->ttl_ms);
    }
    return settle(plan, err, sent_ms);
}

int microreg_register_json(struct microreg *client, const char *json,
                           size_t len, int64_t ttl_ms, unsigned flags,
                           struct microreg_error *out_error)
{
    struct plan plan = {
        .client = client, .error = out_error, .ttl_ms = ttl_ms, .flags = flags};
    char *copy;
    int err;

    if (ttl_ms != 0 && (ttl_ms < TTL_MIN_MS || ttl_ms > TTL_MAX_MS)) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "a TTL of %lld ms is not from 1 s to 24 h",
                        (long long)ttl_ms);
    }
    copy = mrg_dup(json, len); /* With a NUL, for those who send it. */
    if (copy == NULL) {
        return mrg_nomem(out_error);
    }
    err = parse_service(&plan, copy, len);
    if (err == MICROREG_OK) {
        err = write_bodies(&plan);
    }
    if (err == MICROREG_OK) {
        err = register_plan(&plan, copy);
    }
    plan_deinit(&plan);
    mrg_free(copy);
    return err;
}

int microreg_register(struct microreg *client,
                      const struct microreg_service *service, int64_t ttl_ms,
                      unsigned flags, struct microreg_error *out_error)
{
    struct mrg_text json = MRG_TEXT_INIT;
    int err = mrg_service_write(service, &json, out_error);

    if (err == MICROREG_OK) {
        err = json.failed ? mrg_nomem(out_error)
                          : microreg_register_json(client, json.data, json.len,
                                                   ttl_ms, flags, out_error);
    }
    mrg_text_deinit(&json);
    return err;
}

/* ------------------------------------------------------------- removing */

static int send_delete(struct plan *plan)
{
    struct mrg_text path = MRG_TEXT_INIT;
    struct mrg_text body = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "DELETE",
                            .timeout_ms = mrg_ms_until(plan->deadline_ms)};
    uint64_t incarnation = plan->client->options.incarnation;
    int err;

    mrg_text_str(&path, "/registry");
    if (incarnation != 0) {
        mrg_text_printf(&path, "?incarnation=%llu",
                        (unsigned long long)incarnation);
    }
    mrg_text_str(&body, "{\"name\":");
    mrg_text_json(&body, plan->name, strlen(plan->name));
    for (size_t i = 0; i < plan->n; i++) {
        mrg_text_str(&body, i == 0 ? ",\"nodes\":[{\"id\":" : ",{\"id\":");
        mrg_text_json(&body, plan->ids[i], strlen(plan->ids[i]));
        mrg_text_byte(&body, '}');
    }
    mrg_text_str(&body, "]}");
    call.path = path.data;
    call.body = body.data;
    call.body_len = body.len;
    err = path.failed || body.failed
              ? mrg_nomem(plan->error)
              : mrg_kept_send(plan->client, &call, plan->name, plan->error);
    mrg_call_deinit(&call);
    mrg_text_deinit(&path);
    mrg_text_deinit(&body);
    return err;
}

int microreg_deregister_json(struct microreg *client, const char *json,
                             size_t len, struct microreg_error *out_error)
{
    struct plan plan = {.client = client, .error = out_error};
    int err = parse_service(&plan, json, len);

    if (err == MICROREG_OK) {
        err = claim(&plan, false);
    }
    if (err == MICROREG_OK) {
        err = send_delete(&plan);
        pthread_mutex_lock(&client->lock);
        for (size_t i = 0; i < plan.n; i++) {
            drop_entry(&plan, i);
        }
        (void)pthread_cond_broadcast(&client->keeper->changed);
        pthread_mutex_unlock(&client->lock);
    }
    plan_deinit(&plan);
    return err;
}

int microreg_deregister(struct microreg *client,
                        const struct microreg_service *service,
                        struct microreg_error *out_error)
{
    struct mrg_text json = MRG_TEXT_INIT;
    int err = mrg_service_write(service, &json, out_error);

    if (err == MICROREG_OK) {
        err = json.failed ? mrg_nomem(out_error)
                          : microreg_deregister_json(client, json.data,
                                                     json.len, out_error);
    }
    mrg_text_deinit(&json);
    return err;
}
