/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services and checks that configuration files define ("service", "services",
 * "check", "checks").
 */
#ifndef MR_SERVER_DEFINITIONS_H
#define MR_SERVER_DEFINITIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "kv/mr_kv.h"

/* One of them. */
struct server_definition {
    Mr__Register *part; /* The service with its checks, or the check. */
    char *file;
    unsigned line;
    bool is_service;
};

struct server_definitions {
    struct server_definition *items;
    size_t n;
};

/* Add what the member @key of the file @path says: @value is an object, or for
 * the plural an array of them. @text is the file's valid JSON, for the line in
 * what is complained about. A later definition with the same ID replaces an
 * earlier one. MR_E_INVALID, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
server_definitions_add(struct server_definitions *defs, const char *path,
                       const char *text, const char *key, const json_t *value,
                       struct mr_detail *detail);

/* Check that the scripts in @defs may be run. MR_E_INVALID. */
MR_MUST_CHECK enum mr_err
server_definitions_check(const struct server_definitions *defs,
                         bool may_run_scripts, struct mr_detail *detail);

/* Release everything and leave it empty. */
void server_definitions_deinit(struct server_definitions *defs);

/* The ID of the service or check. */
const char *server_definition_id(const struct server_definition *def);

/* Append the IDs as a JSON array. */
void server_definitions_json(const struct server_definitions *defs,
                             struct mr_buf *out);

/* The line of the member @path ("services[1].check.ttl") of the valid JSON
 * @text; 1 when there is none. */
unsigned server_json_line(const char *text, const char *path);

/* The lines of the first @n elements of the array that is the member @key of
 * the object @text. One walk; 1 for what is not there. */
void server_json_element_lines(const char *text, const char *key, size_t n,
                               unsigned *out_lines);

#endif /* MR_SERVER_DEFINITIONS_H */
