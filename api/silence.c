/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index may count more than its answer shows: that of a key that is not there
 * moves with every key, that of the list of services with every instance. The
 * history knows better: when it holds everything since the client's index and
 * nothing of it is shown, there is nothing to tell.
 */
#include "api/silence.h"

#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "kv/mr_kv_history.h"

/* One look at the history. */
struct look {
    const struct api_http *x;
    bool has_news;
};

static bool has_same_tags(const Mr__Service *a, const Mr__Service *b)
{
    bool is_same = a->n_tags == b->n_tags;

    for (size_t i = 0; is_same && i < a->n_tags; i++) {
        is_same = strcmp(a->tags[i], b->tags[i]) == 0;
    }
    return is_same;
}

/* Whether the checks of a service show @change. Those of its instances' nodes
 * are not among them, but the tags of the instances are. */
static bool is_of_checks(const struct api_http *x,
                         const struct mr_kv_change *change)
{
    if (change->object == MR_KV_OBJECT_CHECK) {
        return strcasecmp(change->u.check->service_name, x->topic.name) == 0;
    }
    return change->action != MR_KV_ACTION_UPDATE ||
           (change->was_service != NULL &&
            !has_same_tags(change->was_service, change->u.instance->service));
}

static bool on_change(void *arg, const struct mr_kv_change *change)
{
    struct look *look = arg;

    look->has_news = look->has_news ||
                     look->x->req.route->read != api_health_checks ||
                     is_of_checks(look->x, change);
    return !look->has_news;
}

bool api_has_coarse_index(const struct api_http *x)
{
    const struct api_request *req = &x->req;

    switch (x->topic.kind) {
    case MR_KV_TOPIC_KEY:
    case MR_KV_TOPIC_PREFIX:
        /* Of keys that are there every write is news. */
        return req->reply.status == 404;
    case MR_KV_TOPIC_SERVICES:
        /* Of several lists this one shows names and tags only, unless the
         * nodes' metadata chooses among them. */
        return req->route->read == api_catalog_services && !req->reply.no_cache;
    case MR_KV_TOPIC_SERVICE:
        /* One that is not there has the index of all. */
        return req->route->read == api_health_checks || api_out()->len == 2;
    case MR_KV_TOPIC_NODES:
    case MR_KV_TOPIC_NODE:
    case MR_KV_TOPIC_CHECKS:
    case MR_KV_TOPIC_SESSIONS:
    case MR_KV_TOPIC_CATALOG:
        break;
    }
    return false;
}

bool api_nothing_changed(const struct api_http *x)
{
    struct mr_slice name = mr_slice(x->topic.name, x->topic.name_len);
    struct mr_kv_topic topics[] = {{x->topic.kind, name},
                                   {MR_KV_TOPIC_CHECKS, mr_slice_str("")}};
    size_t n = x->req.route->read == api_health_checks ? 2 : 1;
    struct mr_kv_history_query query = {topics, n, x->req.min_index};
    struct look look = {x, false};
    uint64_t revision;

    /* 1 is no answer's index: clients begin with it. */
    return x->req.min_index > 1 && api_has_coarse_index(x) &&
           mr_kv_history_read(x->req.options->kv, &query, on_change, &look,
                              &revision) == MR_OK &&
           !look.has_news;
}
