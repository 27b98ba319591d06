/* SPDX-License-Identifier: Apache-2.0 */
/* Query parameters that lists share. */
#include "api/listing.h"

#include <string.h>
#include <strings.h>

struct listing {
    struct filter *filter; /* NULL: everything. */
    bool wants_passing;
};

static void free_listing(void *state)
{
    filter_free(((struct listing *)state)->filter);
}

bool listing_prepare(struct api_request *req, enum filter_shape shape)
{
    struct listing *l = api_alloc(req, sizeof *l);
    const char *text = api_query(req, "filter");
    struct mr_detail detail;
    enum mr_err err;

    if (l == NULL) {
        api_fail(req, MR_E_NOMEM);
        return false;
    }
    l->filter = NULL;
    l->wants_passing = false;
    req->state = l;
    req->state_free = free_listing;
    if (text == NULL || text[0] == '\0') {
        return true;
    }
    err = filter_compile(text, shape, &l->filter, &detail);
    if (err == MR_E_INVALID || err == MR_E_NOTFOUND) {
        return api_rpc_error(req, 500, FILTER_PREFIX "%s", detail.text);
    }
    if (err != MR_OK) {
        api_fail(req, err);
        return false;
    }
    return true;
}

bool listing_prepare_arg(struct api_request *req, enum filter_shape shape,
                         const char *missing)
{
    if (req->arg[0] == '\0') {
        return api_error(req, 400, "%s", missing);
    }
    return listing_prepare(req, shape);
}

bool listing_prepare_passing(struct api_request *req)
{
    struct listing *l = req->state;
    const char *text = api_query(req, "passing");

    if (text == NULL) {
        return true;
    }
    if (text[0] == '\0') {
        l->wants_passing = true;
        return true;
    }
    if (api_parse_bool(text, &l->wants_passing) != MR_OK) {
        return api_error(req, 400, "Invalid value for ?passing");
    }
    return true;
}

bool listing_wants_passing(const struct api_request *req)
{
    return ((const struct listing *)req->state)->wants_passing;
}

bool listing_filter(const struct api_request *req,
                    const struct filter_entry *entry)
{
    return filter_match(((const struct listing *)req->state)->filter, entry);
}

/* Whether @node has @wanted, "key:value", or the key alone with "". */
static bool has_meta(const Mr__Node *node, const char *wanted)
{
    const char *colon = strchr(wanted, ':');
    size_t len = colon == NULL ? strlen(wanted) : (size_t)(colon - wanted);
    const char *value = colon == NULL ? "" : colon + 1;

    for (size_t i = 0; i < node->n_meta; i++) {
        const Mr__Pair *pair = node->meta[i];

        if (strlen(pair->key) == len && memcmp(pair->key, wanted, len) == 0) {
            return strcmp(pair->value, value) == 0;
        }
    }
    return false;
}

bool listing_node_meta(const struct api_request *req, const Mr__Node *node)
{
    for (size_t i = 0; i < req->n_params; i++) {
        if (strcmp(req->params[i].name, "node-meta") == 0 &&
            !has_meta(node, req->params[i].value)) {
            return false;
        }
    }
    return true;
}

bool listing_has_node_meta(const struct api_request *req)
{
    return api_query_has(req, "node-meta");
}

static bool has_tag(const Mr__Service *service, const char *tag)
{
    for (size_t i = 0; i < service->n_tags; i++) {
        if (strcasecmp(service->tags[i], tag) == 0) {
            return true;
        }
    }
    return false;
}

bool listing_tags(const struct api_request *req, const Mr__Service *service)
{
    for (size_t i = 0; i < req->n_params; i++) {
        if (strcmp(req->params[i].name, "tag") == 0 &&
            !has_tag(service, req->params[i].value)) {
            return false;
        }
    }
    return true;
}

const char *listing_status(const struct mr_kv_instance *instance)
{
    const char *worst = "passing";

    for (size_t i = 0; i < instance->n_checks; i++) {
        const char *status = instance->checks[i]->status;

        if (strcmp(status, "critical") == 0) {
            return "critical";
        }
        if (strcmp(status, "passing") != 0) {
            worst = "warning";
        }
    }
    return worst;
}
