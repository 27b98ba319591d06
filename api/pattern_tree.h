/* SPDX-License-Identifier: Apache-2.0 */
/* A parsed expression, between its parser and its compiler. */
#ifndef API_PATTERN_TREE_H
#define API_PATTERN_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "api/pattern.h"

/* How many of each @len characters make at most: a character makes at most two
 * nodes, and two characters (\w) at most four ranges. */
#define PATTERN_NODES(len) (2 * (len) + 8)
#define PATTERN_RANGES(len) (2 * (len) + 8)
#define PATTERN_REPEAT_MAX 1000 /* Also of nested counts, multiplied. */
#define PATTERN_UNBOUNDED UINT32_MAX

enum pattern_kind {
    PATTERN_CHAR,     /* One character. */
    PATTERN_ANY,      /* All but a newline. */
    PATTERN_CLASS,    /* One of the ranges, or none of them. */
    PATTERN_START,    /* ^ */
    PATTERN_END,      /* $ */
    PATTERN_WORD,     /* \b */
    PATTERN_NOT_WORD, /* \B */
    PATTERN_CHAIN,    /* The children, one after the other. */
    PATTERN_CHOICE,   /* One of the children. */
    PATTERN_REPEAT    /* The child, min to max times. */
};

struct pattern_range {
    uint32_t first;
    uint32_t last;
};

struct pattern_node {
    enum pattern_kind kind;
    uint32_t c;
    const struct pattern_range *ranges;
    size_t n_ranges;
    bool is_negated;
    uint32_t min;
    uint32_t max;
    uint32_t weight;            /* Largest product of nested counts within. */
    struct pattern_node *child; /* The first one. */
    struct pattern_node *next;  /* The next child of the same parent. */
};

struct pattern_tree {
    struct pattern_node *root;
    bool ignores_case;
    size_t n_nodes;
    size_t n_ranges;
    struct pattern_node *nodes; /* Room for PATTERN_NODES(length). */
    struct pattern_range *ranges;
};

/* Parse @text into @tree, whose arrays the caller releases, also after a
 * failure, with pattern_tree_deinit(). Errors as pattern_new(). */
MR_MUST_CHECK enum mr_err pattern_parse(const char *text,
                                        struct pattern_tree *tree,
                                        struct mr_detail *detail);

/* Release the arrays of a tree; a zeroed one is left alone. */
void pattern_tree_deinit(struct pattern_tree *tree);

/* The character at *@at, which moves behind it; a byte that is no UTF-8 is
 * U+FFFD. 0 at the end, where it does not move. */
uint32_t pattern_next_char(const char **at);

#endif /* API_PATTERN_TREE_H */
