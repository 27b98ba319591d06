/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON of nodes, services, checks and keys as Consul spells them. Members come in
 * the order of consul's own answers; nothing is allocated but by the buffer.
 */
#ifndef API_SHAPES_H
#define API_SHAPES_H

#include <stddef.h>

#include "base/json.h"
#include "kv/mr_kv.h"

/* A node, as in catalog and health answers. */
void shape_node(struct mr_json *j, const Mr__Node *node);

/* A service as its agent lists it. @content_hash is added when not NULL. */
void shape_service_agent(struct mr_json *j, const Mr__Service *service,
                         const char *content_hash);

/* A service as health and catalog/node list it. */
void shape_service(struct mr_json *j, const Mr__Service *service);

/* A service and its node in one flat object: catalog/service. */
void shape_service_flat(struct mr_json *j, const Mr__Node *node,
                        const Mr__Service *service);

enum shape_check_form {
    SHAPE_CHECK_CATALOG, /* Health and catalog. */
    SHAPE_CHECK_AGENT,   /* agent/checks: without indexes. */
    SHAPE_CHECK_HEALTH   /* agent/health: tags, type and definition blank. */
};

/* A check. */
void shape_check(struct mr_json *j, const Mr__Check *check,
                 enum shape_check_form form);

/* An entry of health/service: node, service and checks. */
void shape_instance(struct mr_json *j, const struct mr_kv_instance *instance);

/* A key and its value, as /v1/kv/ lists it. */
void shape_key(struct mr_json *j, const Mr__Key *key);

/* An array of texts; none is []. */
void shape_texts(struct mr_json *j, const char *const *texts, size_t n);

/* An object of texts; none is {}. */
void shape_pairs(struct mr_json *j, Mr__Pair *const *pairs, size_t n);

#endif /* API_SHAPES_H */
