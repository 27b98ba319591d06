/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of a filter expression, between its parser and its evaluation. */
#ifndef API_FILTER_AST_H
#define API_FILTER_AST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FILTER_PARTS_MAX 8   /* Names of one selector. */
#define FILTER_NODES_MAX 512 /* Of one expression. */

enum filter_kind { FILTER_AND, FILTER_OR, FILTER_NOT, FILTER_MATCH };

enum filter_op {
    FILTER_EQUAL,
    FILTER_NOT_EQUAL,
    FILTER_IN,
    FILTER_NOT_IN,
    FILTER_MATCHES,
    FILTER_NOT_MATCHES,
    FILTER_IS_EMPTY,
    FILTER_IS_NOT_EMPTY
};

struct filter_field;
struct pattern;

struct filter_node {
    enum filter_kind kind;
    struct filter_node *left; /* NOT: its operand. */
    struct filter_node *right;
    struct filter_node *next; /* All nodes of the tree. */
    /* A match, as parsed; texts lie in the tree's buffer. */
    enum filter_op op;
    const char *parts[FILTER_PARTS_MAX];
    size_t n_parts;
    const char *value;
    /* And as bound to a shape. */
    const struct filter_field *field;
    bool any_check;  /* Over the entry's checks, true if for one. */
    const char *key; /* Member of a map, or NULL. */
    bool wants_port; /* Of an address: the port, not the address. */
    int64_t number;  /* The value of a number or a boolean. */
    struct pattern *pattern;
};

struct filter_tree {
    struct filter_node *root;
    struct filter_node *nodes; /* All, in the order of the text. */
    char *texts;
};

/* Parse @text, whose length the caller has bounded. On success the caller
 * releases *@out with filter_tree_deinit().
 *
 * MR_E_INVALID: @detail says where and what was expected. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err filter_parse(const char *text,
                                       struct filter_tree *out,
                                       struct mr_detail *detail);

/* Release a tree and the patterns in it. */
void filter_tree_deinit(struct filter_tree *tree);

#endif /* API_FILTER_AST_H */
