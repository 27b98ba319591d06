/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter language of ?filter=: a boolean expression over the fields of an
 * answer's entries, in Consul's grammar:
 *
 *   expr     := expr "or" expr | expr "and" expr | "not" expr
 *             | "(" expr ")" | match
 *   match    := selector ("==" | "!=") value
 *             | value ["not"] "in" selector
 *             | selector ["not"] ("contains" | "matches") value
 *             | selector "is" ["not"] "empty"
 *   selector := name ("." name | "[" "\"" text "\"" "]")*
 *   value    := "text" | `text` | number | word
 *
 * "and" binds tighter than "or". An expression is compiled once and then
 * evaluated for each entry. Length, depth and number of matches are bounded.
 */
#ifndef API_FILTER_H
#define API_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "kv/schema.pb-c.h"

#define FILTER_LENGTH_MAX 8192
#define FILTER_DEPTH_MAX 32
#define FILTER_PREFIX "Failed to create boolean expression evaluator: "

struct filter; /* A compiled expression. */

/* What the entries are, which decides the selectors there are. */
enum filter_shape {
    FILTER_NODE,    /* catalog/nodes */
    FILTER_SERVICE, /* agent/services, catalog/node, catalog/node-services */
    FILTER_CHECK,   /* agent/checks, health/{node,checks,state} */
    FILTER_FLAT,    /* catalog/service */
    FILTER_HEALTH   /* health/service */
};

/* One entry: the parts its shape speaks of; the others may be NULL. */
struct filter_entry {
    const Mr__Node *node;
    const Mr__Service *service;
    const Mr__Check *check;
    const Mr__Check *const *checks;
    size_t n_checks;
};

/* Compile @text for entries of @shape. On success the caller owns *@out_filter
 * and releases it with filter_free(). Any thread.
 *
 * MR_E_INVALID: not an expression. MR_E_NOTFOUND: it is one, but its selectors,
 * operators or values do not fit the shape. @detail has Consul's sentence
 * without FILTER_PREFIX. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err filter_compile(const char *text,
                                         enum filter_shape shape,
                                         struct filter **out_filter,
                                         struct mr_detail *detail);

/* Whether @entry fulfils @f; NULL is fulfilled by everything. Any thread. */
bool filter_match(const struct filter *f, const struct filter_entry *entry);

/* Release a filter; NULL is a no-op. */
void filter_free(struct filter *f);

#endif /* API_FILTER_H */
