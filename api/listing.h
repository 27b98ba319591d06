/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The query parameters that catalog, health and agent lists share: filter,
 * tag, node-meta and passing. `near` is accepted and changes nothing, as in
 * Consul where no network coordinates are known.
 */
#ifndef API_LISTING_H
#define API_LISTING_H

#include "api/filter.h"
#include "api/http.h"

/* Parse ?filter= for entries of @shape into req->state. Answers and returns
 * false when it is wrong. */
bool listing_prepare(struct api_request *req, enum filter_shape shape);

/* As listing_prepare(), after refusing an empty argument with 400 and @missing.
 */
bool listing_prepare_arg(struct api_request *req, enum filter_shape shape,
                         const char *missing);

/* Parse ?passing as well; after listing_prepare(). Answers and returns false
 * when it is wrong. */
bool listing_prepare_passing(struct api_request *req);

/* Whether only passing instances are wanted. */
bool listing_wants_passing(const struct api_request *req);

/* Whether @entry fulfils ?filter=. */
bool listing_filter(const struct api_request *req,
                    const struct filter_entry *entry);

/* Whether @node has every ?node-meta=key:value. */
bool listing_node_meta(const struct api_request *req, const Mr__Node *node);

/* Whether there is a ?node-meta= at all. */
bool listing_has_node_meta(const struct api_request *req);

/* Whether @service has every ?tag=. */
bool listing_tags(const struct api_request *req, const Mr__Service *service);

/* The worst status of the checks of @instance, of those that there are names
 * for; "passing" without checks. */
const char *listing_status(const struct mr_kv_instance *instance);

#endif /* API_LISTING_H */
