/* SPDX-License-Identifier: Apache-2.0 */
/* What is registered now, as this server knows it, and how long it lives. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "api/why.h"
#include "api/why_text.h"
#include "health/mr_health.h"

static bool is_critical(const Mr__Check *check)
{
    return strcmp(check->status, "critical") == 0;
}

/* ------------------------------------------------------------- leases */

/* What this server knows of the lease @id; false: nothing. */
static bool age_of(const struct why *w, uint64_t id, struct mr_lease_age *out)
{
    const struct mr_api_host *host = &w->req->options->host;

    return id != 0 && host->lease_age != NULL &&
           host->lease_age(host->arg, id, out);
}

/* The member "Lease": null without one. */
static void write_lease(const struct why *w, struct mr_json *j, uint64_t id,
                        Mr__LeaseKind kind)
{
    struct mr_lease_age age;

    mr_json_key(j, "Lease");
    if (id == 0) {
        mr_json_null(j);
        return;
    }
    mr_json_object(j);
    mr_json_ku64(j, "ID", id);
    mr_json_kstr(j, "Kind", why_text_kind(kind));
    if (age_of(w, id, &age)) {
        mr_json_ku64(j, "TTLMs", age.ttl_ms);
        mr_json_ku64(j, "SilentMs", age.silent_ms);
        mr_json_ku64(j, "LeftMs",
                     age.silent_ms < age.ttl_ms ? age.ttl_ms - age.silent_ms
                                                : 0);
        mr_json_key(j, "GapsMs");
        mr_json_array(j);
        for (size_t i = 0; i < age.n_gaps; i++) {
            mr_json_u64(j, age.gaps_ms[i]);
        }
        mr_json_array_end(j);
    }
    mr_json_object_end(j);
}

/* Append "; <what> renewed 1.2 s ago, ends in ... unless renewed again". */
static void tell_lease(struct why *w, uint64_t id, const char *what,
                       const char *verb)
{
    struct mr_lease_age age;

    if (age_of(w, id, &age)) {
        mr_buf_printf(&w->text, "; %s ", what);
        why_text_lease(&w->text, &age, verb, "renewed again");
    }
}

/* As tell_lease(), of a term that nobody renews: what is dead and will go. */
static void tell_term(struct why *w, uint64_t id, const char *what,
                      const char *since, const char *unless)
{
    struct mr_lease_age age;

    if (age_of(w, id, &age)) {
        mr_buf_printf(&w->text, "; %s ", what);
        why_text_lease(&w->text, &age, since, unless);
    }
}

/* ------------------------------------------------------------- checks */

static Mr__LeaseKind check_lease_kind(const Mr__Check *check)
{
    return is_critical(check) ? MR__LEASE_KIND__LEASE_CRITICAL
                              : MR__LEASE_KIND__LEASE_CHECK;
}

static void write_check(const struct why *w, struct mr_json *j,
                        const Mr__Check *check)
{
    mr_json_object(j);
    mr_json_kstr(j, "Node", check->node);
    mr_json_kstr(j, "CheckID", check->check_id);
    mr_json_kstr(j, "Name", check->name);
    mr_json_kstr(j, "ServiceID", check->service_id);
    mr_json_kstr(j, "ServiceName", check->service_name);
    mr_json_kstr(j, "Status", check->status);
    mr_json_kstr(j, "Output", check->output);
    mr_json_ku64(j, "CreateIndex", check->create_rev);
    mr_json_ku64(j, "ModifyIndex", check->modify_rev);
    write_lease(w, j, check->lease_id, check_lease_kind(check));
    mr_json_object_end(j);
}

/* Append why the check is as it is. */
static void tell_check(struct why *w, const Mr__Check *check)
{
    const char *because = why_mark(w, check->node, check->check_id);

    if (because != NULL) {
        mr_buf_printf(&w->text, ": %s", because);
    } else {
        mr_buf_printf(&w->text,
                      ": check %s on node %s is %s, since before the events "
                      "that are kept",
                      check->check_id, check->node, check->status);
    }
}

/* Begin the next row. */
static void begin_row(struct why *w, struct mr_json *j)
{
    if (w->n_rows++ > 0) {
        mr_buf_byte(&w->state, ',');
        mr_buf_str(&w->text, ". ");
    }
    mr_json_init(j, &w->state);
}

static void add_check(struct why *w, const Mr__Check *check)
{
    struct mr_json j;

    begin_row(w, &j);
    write_check(w, &j, check);
    mr_buf_printf(&w->text, "Check %s on node %s is %s", check->check_id,
                  check->node, check->status);
    if (is_critical(check)) {
        tell_check(w, check);
        tell_term(w, check->lease_id, "its service will be removed: it was",
                  "made critical", "it passes");
    } else {
        tell_lease(w, check->lease_id, "it was", "passed");
    }
}

/* ------------------------------------------------------------- services */

static const char *origin_of(const Mr__Service *service)
{
    return service->origin == MR__ORIGIN__REGISTRY ? "registry"
           : service->origin == MR__ORIGIN__AGENT  ? "agent"
                                                   : "catalog";
}

/* The check that hides the instance, the node's first; NULL: none. */
static const Mr__Check *hidden_by(const struct mr_kv_instance *instance)
{
    for (size_t i = 0; i < instance->n_checks; i++) {
        if (is_critical(instance->checks[i])) {
            return instance->checks[i];
        }
    }
    return NULL;
}

static void write_instance(const struct why *w, struct mr_json *j,
                           const struct mr_kv_instance *instance)
{
    const Mr__Service *service = instance->service;
    const Mr__Node *node = instance->node;

    mr_json_object(j);
    mr_json_kstr(j, "Node", node->name);
    mr_json_kstr(j, "ID", service->id);
    mr_json_kstr(j, "Service", service->name);
    mr_json_kstr(j, "Address",
                 service->address[0] != '\0' ? service->address
                                             : node->address);
    mr_json_ki64(j, "Port", service->port);
    mr_json_kstr(j, "Origin", origin_of(service));
    mr_json_kbool(j, "Hidden", hidden_by(instance) != NULL);
    mr_json_ku64(j, "CreateIndex", service->create_rev);
    mr_json_ku64(j, "ModifyIndex", service->modify_rev);
    write_lease(w, j, service->lease_id, MR__LEASE_KIND__LEASE_REGISTRATION);
    mr_json_key(j, "Checks");
    mr_json_array(j);
    for (size_t i = 0; i < instance->n_checks; i++) {
        write_check(w, j, instance->checks[i]);
    }
    mr_json_array_end(j);
    mr_json_object_end(j);
}

/* Whether the agent of @node is dead, which decides what its lease means. */
static bool is_dead(const struct why *w, const char *node)
{
    const Mr__Check *check;

    return mr_kv_check_get(w->view, node, MR_HEALTH_CHECK_ID, &check) ==
               MR_OK &&
           check != NULL && is_critical(check);
}

/* Append how the agent of @node does, of which @what depends. */
static void tell_agent(struct why *w, const Mr__Node *node, const char *what)
{
    if (is_dead(w, node->name)) {
        mr_buf_printf(&w->text, "; %s will be removed with its node", what);
        tell_term(w, node->lease_id, "the agent was", "found dead",
                  "it is heard again");
    } else {
        tell_lease(w, node->lease_id, "its node's agent was", "heard");
    }
}

/* Append how long the instance lives. */
static void tell_life(struct why *w, const struct mr_kv_instance *instance)
{
    bool has_lease = instance->service->lease_id != 0;

    tell_lease(w, instance->service->lease_id, "its registration was",
               "renewed");
    for (size_t i = 0; i < instance->n_checks; i++) {
        const Mr__Check *check = instance->checks[i];

        if (check->lease_id != 0 && is_critical(check)) {
            has_lease = true;
            tell_term(w, check->lease_id, "it will be removed: its check was",
                      "made critical", "it passes");
        } else if (check->lease_id != 0) {
            has_lease = true;
            mr_buf_printf(&w->text, "; check %s", check->check_id);
            tell_lease(w, check->lease_id, "it was", "passed");
        }
    }
    if (instance->node->lease_id != 0) {
        has_lease = true;
        tell_agent(w, instance->node, "it");
    }
    if (!has_lease) {
        mr_buf_str(&w->text, "; nobody renews it: it stays until somebody "
                             "deregisters it");
    }
}

static void add_instance(struct why *w, const struct mr_kv_instance *instance)
{
    const Mr__Check *hiding = hidden_by(instance);
    struct mr_json j;

    begin_row(w, &j);
    write_instance(w, &j, instance);
    mr_buf_printf(&w->text, "Service %s (ID %s) on node %s is registered",
                  instance->service->name, instance->service->id,
                  instance->node->name);
    if (hiding != NULL) {
        mr_buf_str(&w->text, " but hidden from health and DNS answers");
        tell_check(w, hiding);
    } else {
        mr_buf_str(&w->text, " and shown in health and DNS answers");
    }
    tell_life(w, instance);
}

static bool is_asked(const struct why *w, const Mr__Service *service)
{
    return strcasecmp(service->id, w->id) == 0 ||
           strcasecmp(service->name, w->id) == 0;
}

static bool on_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct why *w = arg;

    if (is_asked(w, instance->service)) {
        add_instance(w, instance);
    }
    return w->n_rows < WHY_INSTANCES_MAX;
}

static bool note_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct why *w = arg;

    why_note_node(w, instance->node->name);
    return w->n_nodes < WHY_NODES_MAX;
}

/* ------------------------------------------------------------- by ID */

/* A walk over all nodes for services or checks with one ID. */
struct by_id {
    struct why *w;
    bool only_nodes; /* Note where they are, and no more. */
    enum mr_err err;
};

/* A service of the ID asked for, under another name: found by its name. */
static enum mr_err by_service_id(struct by_id *walk, const char *node)
{
    struct why *w = walk->w;
    const Mr__Service *service;
    enum mr_err err = mr_kv_service_get(w->view, node, w->id, &service);

    if (err != MR_OK || service == NULL ||
        strcasecmp(service->name, w->id) == 0) {
        return err;
    }
    if (walk->only_nodes) {
        why_note_node(w, node);
        return MR_OK;
    }
    return mr_kv_service_instances(w->view, service->name, on_instance, w,
                                   NULL);
}

static enum mr_err by_check_id(struct by_id *walk, const char *node)
{
    struct why *w = walk->w;
    const Mr__Check *check;
    enum mr_err err = mr_kv_check_get(w->view, node, w->id, &check);

    if (err != MR_OK || check == NULL) {
        return err;
    }
    if (walk->only_nodes) {
        why_note_node(w, node);
    } else {
        add_check(w, check);
    }
    return MR_OK;
}

static bool on_node(void *arg, const Mr__Node *node)
{
    struct by_id *walk = arg;
    size_t before = walk->w->n_rows;

    walk->err = walk->w->subject == MR_KV_SUBJECT_SERVICE
                    ? by_service_id(walk, node->name)
                    : by_check_id(walk, node->name);
    /* The instances of a name are found in one go. */
    return walk->err == MR_OK && walk->w->n_rows < WHY_INSTANCES_MAX &&
           (walk->w->subject != MR_KV_SUBJECT_SERVICE ||
            walk->w->n_rows == before);
}

static enum mr_err walk_nodes(struct why *w, bool only_nodes)
{
    struct by_id walk = {w, only_nodes, MR_OK};
    enum mr_err err = mr_kv_node_list(w->view, on_node, &walk, NULL);

    return err == MR_OK ? walk.err : err;
}

/* ------------------------------------------------------------- nodes */

static bool on_node_check(void *arg, const Mr__Check *check)
{
    struct why *w = arg;

    if (strcmp(check->check_id, MR_HEALTH_CHECK_ID) == 0 &&
        is_critical(check)) {
        mr_buf_str(&w->text, ", its agent is dead");
        tell_check(w, check);
    }
    return true;
}

static enum mr_err node_state(struct why *w)
{
    const Mr__Node *node;
    struct mr_json j;
    enum mr_err err = mr_kv_node_get(w->view, w->id, &node, NULL);
    bool is_agent_dead;

    if (err != MR_OK || node == NULL) {
        return err;
    }
    is_agent_dead = is_dead(w, node->name);
    begin_row(w, &j);
    mr_json_object(&j);
    mr_json_kstr(&j, "Node", node->name);
    mr_json_kstr(&j, "ID", node->id);
    mr_json_kstr(&j, "Address", node->address);
    mr_json_ku64(&j, "TTLMs", node->ttl_ms);
    mr_json_ku64(&j, "ReapMs", node->reap_ms);
    mr_json_ku64(&j, "CreateIndex", node->create_rev);
    mr_json_ku64(&j, "ModifyIndex", node->modify_rev);
    write_lease(w, &j, node->lease_id,
                is_agent_dead ? MR__LEASE_KIND__LEASE_NODE_REAP
                              : MR__LEASE_KIND__LEASE_NODE);
    mr_json_object_end(&j);
    mr_buf_printf(&w->text, "Node %s (%s) is registered", node->name,
                  node->address);
    err = mr_kv_node_checks(w->view, node->name, on_node_check, w, NULL);
    if (is_agent_dead) {
        tell_term(w, node->lease_id,
                  "it will be removed with all that is on it: the agent was",
                  "found dead", "it is heard again");
    } else if (node->lease_id != 0) {
        tell_lease(w, node->lease_id, "its agent lives: it was", "heard");
    } else {
        mr_buf_str(&w->text, "; no agent renews it: it stays until somebody "
                             "deregisters it");
    }
    return err;
}

/* ------------------------------------------------------------- sessions */

static enum mr_err session_state(struct why *w)
{
    const Mr__Session *session;
    struct mr_json j;
    enum mr_err err = mr_kv_session_get(w->view, w->id, &session, NULL);

    if (err != MR_OK || session == NULL) {
        return err;
    }
    begin_row(w, &j);
    mr_json_object(&j);
    mr_json_kstr(&j, "Node", session->node);
    mr_json_kstr(&j, "ID", session->id);
    mr_json_kstr(&j, "Name", session->name);
    mr_json_ku64(&j, "TTLMs", session->ttl_ms);
    mr_json_ku64(&j, "CreateIndex", session->create_rev);
    write_lease(w, &j, session->lease_id, MR__LEASE_KIND__LEASE_SESSION);
    mr_json_object_end(&j);
    mr_buf_printf(&w->text, "Session %s (\"%s\") on node %s is alive",
                  session->id, session->name, session->node);
    if (session->lease_id != 0) {
        tell_lease(w, session->lease_id, "it was", "renewed");
    } else {
        mr_buf_str(&w->text, "; it has no TTL: it ends with its node's agent, "
                             "with its checks, or when it is destroyed");
    }
    return MR_OK;
}

/* ------------------------------------------------------------- all */

enum mr_err why_find_nodes(struct why *w)
{
    enum mr_err err = MR_OK;

    if (w->subject == MR_KV_SUBJECT_SERVICE) {
        err = mr_kv_service_instances(w->view, w->id, note_instance, w, NULL);
    }
    if (err == MR_OK && w->subject != MR_KV_SUBJECT_SESSION &&
        w->subject != MR_KV_SUBJECT_NODE) {
        err = walk_nodes(w, true);
    }
    return err;
}

enum mr_err why_state(struct why *w)
{
    enum mr_err err = MR_OK;

    switch (w->subject) {
    case MR_KV_SUBJECT_NODE:
        return node_state(w);
    case MR_KV_SUBJECT_SERVICE:
        err = mr_kv_service_instances(w->view, w->id, on_instance, w, NULL);
        return err == MR_OK && w->n_rows < WHY_INSTANCES_MAX
                   ? walk_nodes(w, false)
                   : err;
    case MR_KV_SUBJECT_CHECK:
        return walk_nodes(w, false);
    case MR_KV_SUBJECT_SESSION:
        return session_state(w);
    }
    return err;
}
