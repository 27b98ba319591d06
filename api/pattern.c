/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions compiled into a nondeterministic automaton and run by keeping the
 * set of all states it can be in (Thompson 1968): one pass over the text, each
 * character costing at most the number of states.
 */
#include "api/pattern.h"

#include <ctype.h>
#include <string.h>

#include "api/pattern_tree.h"
#include "base/mem.h"

#define STEPS_MAX 2000 /* States of one automaton. */

enum step_kind {
    STEP_ONE,   /* Takes one character that fits the node. */
    STEP_PLACE, /* Takes none, holds at some places. */
    STEP_SPLIT, /* Goes on at both. */
    STEP_JUMP,
    STEP_MATCH
};

struct step {
    enum step_kind kind;
    const struct pattern_node *node;
    uint16_t to; /* STEP_SPLIT: the other way; STEP_JUMP: the only one. */
};

/* A set of states, in the order in which they were reached. */
struct states {
    uint16_t *list;
    size_t n;
};

struct pattern {
    struct pattern_tree tree;
    struct step *steps;
    size_t n_steps;
    size_t cap_steps;
    enum mr_err err; /* The first failure of compiling. */
    /* Of a run, made when the number of steps is known. */
    uint16_t *lists[2];
    uint16_t *stack;
    uint32_t *seen; /* The round in which a state was reached. */
    uint32_t round;
};

/* ------------------------------------------------------------- compiling */

static void compile(struct pattern *p, const struct pattern_node *node);

/* The next free step; after a failure one that is there, but not it. */
static uint16_t add_step(struct pattern *p, enum step_kind kind,
                         const struct pattern_node *node)
{
    if (p->n_steps == STEPS_MAX) {
        p->err = MR_E_TOOBIG;
    }
    if (p->err == MR_OK && p->n_steps == p->cap_steps) {
        size_t cap = p->cap_steps == 0 ? 16 : p->cap_steps * 2;
        struct step *grown = mr_realloc(p->steps, cap * sizeof *grown);

        if (grown == NULL) {
            p->err = MR_E_NOMEM;
        } else {
            p->steps = grown;
            p->cap_steps = cap;
        }
    }
    if (p->err != MR_OK) {
        return 0;
    }
    p->steps[p->n_steps] = (struct step){kind, node, 0};
    return (uint16_t)p->n_steps++;
}

/* Make the step @at lead to @to. */
static void lead(struct pattern *p, uint16_t at, uint16_t to)
{
    if (p->err == MR_OK) {
        p->steps[at].to = to;
    }
}

static uint16_t here(const struct pattern *p)
{
    return (uint16_t)p->n_steps;
}

/* a|b|c: before each but the last a split to the next, after it a jump to the
 * end. The jumps are chained through their targets until that is known. */
static void compile_choice(struct pattern *p, const struct pattern_node *node)
{
    const struct pattern_node *child = node->child;
    uint16_t last_jump = UINT16_MAX;

    for (; child->next != NULL; child = child->next) {
        uint16_t split = add_step(p, STEP_SPLIT, NULL);
        uint16_t jump;

        compile(p, child);
        jump = add_step(p, STEP_JUMP, NULL);
        lead(p, jump, last_jump);
        last_jump = jump;
        lead(p, split, here(p));
    }
    compile(p, child);
    while (last_jump != UINT16_MAX && p->err == MR_OK) {
        uint16_t before = p->steps[last_jump].to;

        lead(p, last_jump, here(p));
        last_jump = before;
    }
}

/* The child as often as it must be, then as often as it may be. */
static void compile_repeat(struct pattern *p, const struct pattern_node *node)
{
    uint16_t split;

    for (uint32_t i = 0; i < node->min && p->err == MR_OK; i++) {
        compile(p, node->child);
    }
    if (node->max == PATTERN_UNBOUNDED) {
        split = add_step(p, STEP_SPLIT, NULL);
        compile(p, node->child);
        lead(p, add_step(p, STEP_JUMP, NULL), split);
        lead(p, split, here(p));
        return;
    }
    for (uint32_t i = node->min; i < node->max && p->err == MR_OK; i++) {
        split = add_step(p, STEP_SPLIT, NULL);
        compile(p, node->child);
        lead(p, split, here(p));
    }
}

static void compile(struct pattern *p, const struct pattern_node *node)
{
    switch (node->kind) {
    case PATTERN_CHAR:
    case PATTERN_ANY:
    case PATTERN_CLASS:
        (void)add_step(p, STEP_ONE, node);
        break;
    case PATTERN_START:
    case PATTERN_END:
    case PATTERN_WORD:
    case PATTERN_NOT_WORD:
        (void)add_step(p, STEP_PLACE, node);
        break;
    case PATTERN_CHAIN:
        for (node = node->child; node != NULL; node = node->next) {
            compile(p, node);
        }
        break;
    case PATTERN_CHOICE:
        compile_choice(p, node);
        break;
    case PATTERN_REPEAT:
        compile_repeat(p, node);
        break;
    }
}

/* The memory of a run: the two sets, the stack and the marks. */
static enum mr_err make_run(struct pattern *p)
{
    size_t n = p->n_steps;

    p->lists[0] = mr_calloc(n, sizeof(uint16_t));
    p->lists[1] = mr_calloc(n, sizeof(uint16_t));
    p->stack = mr_calloc(2 * n + 2, sizeof(uint16_t));
    p->seen = mr_calloc(n, sizeof(uint32_t));
    return p->lists[0] != NULL && p->lists[1] != NULL && p->stack != NULL &&
                   p->seen != NULL
               ? MR_OK
               : MR_E_NOMEM;
}

enum mr_err pattern_new(const char *text, struct pattern **out,
                        struct mr_detail *detail)
{
    struct pattern *p = mr_calloc(1, sizeof *p);
    enum mr_err err;

    if (p == NULL) {
        return MR_E_NOMEM;
    }
    err = pattern_parse(text, &p->tree, detail);
    if (err == MR_OK) {
        compile(p, p->tree.root);
        (void)add_step(p, STEP_MATCH, NULL);
        err = p->err;
    }
    if (err == MR_OK) {
        err = make_run(p);
    }
    if (err == MR_E_TOOBIG) {
        err = mr_fail(detail, MR_E_INVALID,
                      "error parsing regexp: expression is too large: "
                      "`%.256s`",
                      text);
    }
    if (err != MR_OK) {
        pattern_free(p);
        return err;
    }
    *out = p;
    return MR_OK;
}

void pattern_free(struct pattern *p)
{
    if (p == NULL) {
        return;
    }
    pattern_tree_deinit(&p->tree);
    mr_free(p->steps);
    mr_free(p->lists[0]);
    mr_free(p->lists[1]);
    mr_free(p->stack);
    mr_free(p->seen);
    mr_free(p);
}

/* ------------------------------------------------------------- running */

/* A place in the text: the characters around it, 0 beyond the ends. */
struct place {
    uint32_t before;
    uint32_t after;
    bool is_start;
    bool is_end;
};

static bool is_word_char(uint32_t c)
{
    return c < 0x80 && (isalnum((int)c) || c == '_');
}

static bool place_fits(const struct pattern_node *node,
                       const struct place *place)
{
    bool is_edge = is_word_char(place->before) != is_word_char(place->after);

    switch (node->kind) {
    case PATTERN_START:
        return place->is_start;
    case PATTERN_END:
        return place->is_end;
    case PATTERN_WORD:
        return is_edge;
    case PATTERN_NOT_WORD:
        return !is_edge;
    case PATTERN_CHAR:
    case PATTERN_ANY:
    case PATTERN_CLASS:
    case PATTERN_CHAIN:
    case PATTERN_CHOICE:
    case PATTERN_REPEAT:
        break;
    }
    return false;
}

static bool in_ranges(const struct pattern_node *node, uint32_t c)
{
    for (size_t i = 0; i < node->n_ranges; i++) {
        if (c >= node->ranges[i].first && c <= node->ranges[i].last) {
            return true;
        }
    }
    return false;
}

/* @c in the other case, for ASCII letters. */
static uint32_t other_case(uint32_t c)
{
    return c < 0x80 && isalpha((int)c) ? c ^ 0x20 : c;
}

static bool char_fits(const struct pattern *p, const struct pattern_node *node,
                      uint32_t c)
{
    uint32_t other = p->tree.ignores_case ? other_case(c) : c;

    if (node->kind == PATTERN_CHAR) {
        return c == node->c || other == node->c;
    }
    if (node->kind == PATTERN_ANY) {
        return c != '\n';
    }
    return (in_ranges(node, c) || in_ranges(node, other)) != node->is_negated;
}

/* Add the state @at and all that are reached from it without a character.
 * Returns whether one of them is the end of the expression. */
static bool reach(struct pattern *p, struct states *set, uint16_t at,
                  const struct place *place)
{
    size_t n = 0;

    p->stack[n++] = at;
    while (n > 0) {
        const struct step *step;

        at = p->stack[--n];
        if (p->seen[at] == p->round) {
            continue;
        }
        p->seen[at] = p->round;
        step = &p->steps[at];
        switch (step->kind) {
        case STEP_ONE:
            set->list[set->n++] = at;
            break;
        case STEP_PLACE:
            if (place_fits(step->node, place)) {
                p->stack[n++] = (uint16_t)(at + 1);
            }
            break;
        case STEP_SPLIT:
            p->stack[n++] = step->to;
            p->stack[n++] = (uint16_t)(at + 1);
            break;
        case STEP_JUMP:
            p->stack[n++] = step->to;
            break;
        case STEP_MATCH:
            return true;
        }
    }
    return false;
}

/* Begin a new set of states. */
static void next_round(struct pattern *p, struct states *set)
{
    set->n = 0;
    if (++p->round == 0) { /* The counter wrapped: forget all. */
        memset(p->seen, 0, p->n_steps * sizeof *p->seen);
        p->round = 1;
    }
}

bool pattern_match(struct pattern *p, const char *text)
{
    struct states now = {p->lists[0], 0};
    struct states then = {p->lists[1], 0};
    struct place place = {0, 0, true, false};
    const char *at = text;

    place.after = pattern_next_char(&at);
    place.is_end = *text == '\0';
    next_round(p, &now);
    if (reach(p, &now, 0, &place)) {
        return true;
    }
    while (!place.is_end) {
        struct states swap = now;
        uint32_t c = place.after;

        place.before = c;
        place.is_start = false;
        place.is_end = *at == '\0';
        place.after = pattern_next_char(&at);
        next_round(p, &then);
        for (size_t i = 0; i < now.n; i++) {
            uint16_t state = now.list[i];

            if (char_fits(p, p->steps[state].node, c) &&
                reach(p, &then, (uint16_t)(state + 1), &place)) {
                return true;
            }
        }
        /* A match may begin at every place. */
        if (reach(p, &then, 0, &place)) {
            return true;
        }
        now = then;
        then = swap;
    }
    return false;
}
