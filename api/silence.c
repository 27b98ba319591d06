/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index may count more than its answer shows: that of a key that is not there
 * moves with every key, that of a service with the checks of its instances, that
 * of the checks with every check. The history knows better: when it holds
 * everything since the client's index and nothing of it is shown, there is
 * nothing to tell.
 *
 * What a rule takes for shown may be more than is shown (a filter hides it):
 * then the client is answered with what it has. It must never be less.
 */
#include "api/silence.h"

#include <sched.h>
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "api/listing.h"
#include "kv/mr_kv_history.h"

/* So many changes are looked at; behind them there will be one that shows. */
#define CHANGES_MAX 256

/* ------------------------------------------------------------- rules */

/* Whether the answer that depends on the topic @name shows @change. */
typedef bool (*shows_fn)(const struct api_request *req, const char *name,
                         const struct mr_kv_change *change);

static bool shows_all(const struct api_request *req, const char *name,
                      const struct mr_kv_change *change)
{
    (void)req;
    (void)name;
    (void)change;
    return true;
}

static bool shows_none(const struct api_request *req, const char *name,
                       const struct mr_kv_change *change)
{
    (void)req;
    (void)name;
    (void)change;
    return false;
}

/* Instances without their checks. */
static bool shows_parts(const struct api_request *req, const char *name,
                        const struct mr_kv_change *change)
{
    (void)req;
    (void)name;
    return change->action != MR_KV_ACTION_UPDATE || change->was_service != NULL;
}

static bool shows_parts_of_node(const struct api_request *req, const char *name,
                                const struct mr_kv_change *change)
{
    return strcasecmp(change->u.instance->node->name, name) == 0 &&
           shows_parts(req, name, change);
}

/* Instances, perhaps only those that pass. */
static bool shows_instance(const struct api_request *req, const char *name,
                           const struct mr_kv_change *change)
{
    (void)name;
    return !listing_wants_passing(req) ||
           strcmp(change->was_status, "passing") == 0 ||
           strcmp(listing_status(change->u.instance), "passing") == 0;
}

/* What go-micro may call: it sees no checks, only what they hide. */
static bool shows_callable(const struct api_request *req, const char *name,
                           const struct mr_kv_change *change)
{
    bool was_hidden = strcmp(change->was_status, "critical") == 0;
    bool is_hidden =
        strcmp(listing_status(change->u.instance), "critical") == 0;

    return was_hidden != is_hidden || shows_parts(req, name, change);
}

static bool shows_check_of_service(const struct api_request *req,
                                   const char *name,
                                   const struct mr_kv_change *change)
{
    (void)req;
    return strcasecmp(change->u.check->service_name, name) == 0;
}

static bool shows_check_of_node(const struct api_request *req, const char *name,
                                const struct mr_kv_change *change)
{
    (void)req;
    return strcasecmp(change->u.check->node, name) == 0;
}

static bool shows_state(const struct api_request *req, const char *name,
                        const struct mr_kv_change *change)
{
    (void)name;
    return strcmp(req->arg, "any") == 0 ||
           strcmp(req->arg, change->u.check->status) == 0 ||
           strcmp(req->arg, change->was_status) == 0;
}

/* A service's checks go with an instance that gets another name, and ?node-meta=
 * chooses among them. */
static bool moves_checks(const struct api_request *req, const char *name,
                         const struct mr_kv_change *change)
{
    return change->action != MR_KV_ACTION_UPDATE ||
           (listing_has_node_meta(req) && shows_parts(req, name, change));
}

/* Whose changes are looked at. */
enum scope {
    OF_TOPIC, /* Those of the topic that the answer depends on. */
    OF_CHECKS,
    OF_INSTANCES
};

/* Rules of one endpoint stand together: nothing is shown when all say so. */
struct rule {
    api_read_fn read;
    enum scope scope;
    shows_fn shows;
};

static const struct rule rules[] = {
    {api_kv_get, OF_TOPIC, shows_all},
    {api_catalog_nodes, OF_TOPIC, shows_all},
    {api_catalog_services, OF_TOPIC, shows_all},
    {api_catalog_service, OF_TOPIC, shows_parts},
    {api_catalog_node, OF_TOPIC, shows_all},
    {api_catalog_node, OF_INSTANCES, shows_parts_of_node},
    {api_catalog_node_services, OF_TOPIC, shows_all},
    {api_catalog_node_services, OF_INSTANCES, shows_parts_of_node},
    {api_catalog_connect, OF_TOPIC, shows_none},
    {api_health_service, OF_TOPIC, shows_instance},
    {api_health_checks, OF_CHECKS, shows_check_of_service},
    {api_health_checks, OF_TOPIC, moves_checks},
    {api_health_state, OF_CHECKS, shows_state},
    {api_health_node, OF_CHECKS, shows_check_of_node},
    {api_health_connect, OF_TOPIC, shows_none},
    {api_registry_get, OF_TOPIC, shows_callable},
};

static bool is_of(const struct rule *rule, const struct api_http *x)
{
    return rule->read == x->req.route->read;
}

bool api_has_coarse_index(const struct api_http *x)
{
    bool has_rule = false;

    for (size_t i = 0; i < MR_ARRAY_LEN(rules); i++) {
        has_rule = has_rule || is_of(&rules[i], x);
    }
    /* Of keys that are there every write is news; what must not be shared
     * depends on more than its topic. */
    return has_rule && !x->req.reply.no_cache &&
           (x->req.route->read != api_kv_get || x->req.reply.status == 404);
}

/* ------------------------------------------------------------- looking */

/* One look at the history. */
struct look {
    const struct api_request *req;
    const char *name;
    shows_fn shows;
    unsigned n_left;
    bool has_news;
};

static bool on_change(void *arg, const struct mr_kv_change *change)
{
    struct look *look = arg;

    if (!look->has_news) {
        look->has_news =
            look->n_left-- == 0 || look->shows(look->req, look->name, change);
    }
    return !look->has_news;
}

static struct mr_kv_topic scope_of(const struct rule *rule,
                                   const struct api_topic *topic)
{
    struct mr_kv_topic scope = {topic->kind, {topic->name, topic->name_len}};

    switch (rule->scope) {
    case OF_TOPIC:
        break;
    case OF_CHECKS:
        scope = (struct mr_kv_topic){MR_KV_TOPIC_CHECKS, {NULL, 0}};
        break;
    case OF_INSTANCES:
        scope = (struct mr_kv_topic){MR_KV_TOPIC_CATALOG, {NULL, 0}};
        break;
    }
    return scope;
}

/* Whether nothing that @rule says is shown is in the history. */
static bool finds_nothing(const struct api_http *x, const struct rule *rule,
                          const struct api_topic *topic)
{
    struct mr_kv_topic scope = scope_of(rule, topic);
    struct mr_kv_history_query query = {&scope, 1, x->req.min_index};
    struct look look = {&x->req, topic->name, rule->shows, CHANGES_MAX, false};
    uint64_t upto;

    return mr_kv_history_read(x->req.options->kv, &query, on_change, &look,
                              &upto) == MR_OK &&
           !look.has_news;
}

bool api_nothing_changed(const struct api_http *x,
                         const struct api_topic *topic, uint64_t revision)
{
    bool nothing = x->req.min_index > 1; /* 1 is no answer's index: clients
                                            begin with it. */

    while (nothing && mr_kv_revision(x->req.options->kv) < revision) {
        sched_yield(); /* Its batch is about to be in the history, too. */
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(rules) && nothing; i++) {
        nothing = !is_of(&rules[i], x) || finds_nothing(x, &rules[i], topic);
    }
    return nothing;
}
