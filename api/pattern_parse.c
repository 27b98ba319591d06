/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of expressions: recursive descent into a tree. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "api/pattern_tree.h"
#include "base/mem.h"

#define GROUPS_MAX 32 /* Nested, which bounds every recursion over the tree. */

struct parser {
    const char *text;
    const char *at;
    struct pattern_tree *tree;
    unsigned depth;
    struct mr_detail *detail;
};

static enum mr_err parse_choice(struct parser *p, struct pattern_node **out);

static enum mr_err refuse(struct parser *p, const char *why, const char *what)
{
    return mr_fail(p->detail, MR_E_INVALID,
                   "error parsing regexp: %s: `%.256s`", why, what);
}

static struct pattern_node *new_node(struct parser *p, enum pattern_kind kind)
{
    struct pattern_node *node = &p->tree->nodes[p->tree->n_nodes++];

    mr_assert(p->tree->n_nodes <= PATTERN_NODES(strlen(p->text)));
    node->kind = kind;
    node->weight = 1;
    return node;
}

static struct pattern_node *new_char(struct parser *p, uint32_t c)
{
    struct pattern_node *node = new_node(p, PATTERN_CHAR);

    node->c = c;
    return node;
}

uint32_t pattern_next_char(const char **at)
{
    const unsigned char *s = (const unsigned char *)*at;
    size_t len = s[0] < 0x80   ? 1
                 : s[0] < 0xc2 ? 0
                 : s[0] < 0xe0 ? 2
                 : s[0] < 0xf0 ? 3
                 : s[0] < 0xf5 ? 4
                               : 0;
    uint32_t c = len == 2 ? s[0] & 0x1f : len == 3 ? s[0] & 0x0f : s[0] & 0x07;

    if (len == 1) {
        *at += s[0] != '\0';
        return s[0];
    }
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            len = 0;
            break;
        }
        c = c << 6 | (s[i] & 0x3f);
    }
    *at += len == 0 ? 1 : len;
    return len == 0 ? 0xfffd : c;
}

/* ------------------------------------------------------------- classes */

static void add_range(struct parser *p, struct pattern_node *class,
                      uint32_t first, uint32_t last)
{
    struct pattern_range *range = &p->tree->ranges[p->tree->n_ranges++];

    mr_assert(p->tree->n_ranges <= PATTERN_RANGES(strlen(p->text)));
    range->first = first;
    range->last = last;
    if (class->n_ranges++ == 0) {
        class->ranges = range;
    }
}

/* The ranges of \d, \w, \s or a named class, by pairs of characters. */
static const char *ranges_of(char c)
{
    switch (c) {
    case 'd':
        return "09";
    case 'w':
        return "09AZ__az";
    case 's':
        return "\t\n\f\r  ";
    default:
        return NULL;
    }
}

static void add_pairs(struct parser *p, struct pattern_node *class,
                      const char *pairs)
{
    for (; pairs[0] != '\0'; pairs += 2) {
        add_range(p, class, (uint32_t)pairs[0], (uint32_t)pairs[1]);
    }
}

/* "[:alpha:]" at the cursor, which moves behind it; false: it is no such. */
static bool take_named(struct parser *p, struct pattern_node *class)
{
    static const char *const names[][2] = {
        {"[:alpha:]", "AZaz"},     {"[:digit:]", "09"},
        {"[:alnum:]", "09AZaz"},   {"[:upper:]", "AZ"},
        {"[:lower:]", "az"},       {"[:space:]", "\t\r  "},
        {"[:xdigit:]", "09AFaf"},  {"[:word:]", "09AZ__az"},
        {"[:punct:]", "!/:@[`{~"},
    };

    for (size_t i = 0; i < MR_ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i][0]);

        if (strncmp(p->at, names[i][0], len) == 0) {
            add_pairs(p, class, names[i][1]);
            p->at += len;
            return true;
        }
    }
    return false;
}

/* The character that an escape stands for; the cursor is behind the backslash
 * and moves behind the escape. False: it stands for none. */
static bool take_escaped(struct parser *p, uint32_t *out)
{
    static const char from[] = "ntrfva";
    static const char to[] = "\n\t\r\f\v\a";
    char c = *p->at;
    const char *known = c == '\0' ? NULL : strchr(from, c);

    if (known != NULL) {
        *out = (uint32_t)to[known - from];
    } else if (ispunct((unsigned char)c)) {
        *out = (uint32_t)c;
    } else {
        return false;
    }
    p->at++;
    return true;
}

/* One end of a range within brackets. */
static enum mr_err parse_class_char(struct parser *p, uint32_t *out)
{
    const char *start = p->at;

    if (*p->at != '\\') {
        *out = pattern_next_char(&p->at);
        return MR_OK;
    }
    p->at++;
    return take_escaped(p, out) ? MR_OK
                                : refuse(p, "invalid escape sequence", start);
}

static enum mr_err parse_class_item(struct parser *p,
                                    struct pattern_node *class)
{
    const char *start = p->at;
    uint32_t first;
    uint32_t last;
    enum mr_err err;

    if (p->at[0] == '\\' && ranges_of(p->at[1]) != NULL) {
        add_pairs(p, class, ranges_of(p->at[1]));
        p->at += 2;
        return MR_OK;
    }
    if (take_named(p, class)) {
        return MR_OK;
    }
    err = parse_class_char(p, &first);
    last = first;
    if (err == MR_OK && p->at[0] == '-' && p->at[1] != ']' &&
        p->at[1] != '\0') {
        p->at++;
        err = parse_class_char(p, &last);
    }
    if (err == MR_OK && last < first) {
        err = refuse(p, "invalid character class range", start);
    }
    if (err == MR_OK) {
        add_range(p, class, first, last);
    }
    return err;
}

static enum mr_err parse_class(struct parser *p, struct pattern_node **out)
{
    struct pattern_node *class = new_node(p, PATTERN_CLASS);
    const char *start = p->at++;
    bool is_first = true;
    enum mr_err err = MR_OK;

    if (*p->at == '^') {
        class->is_negated = true;
        p->at++;
    }
    for (; err == MR_OK && (is_first || *p->at != ']'); is_first = false) {
        if (*p->at == '\0') {
            return refuse(p, "missing closing ]", start);
        }
        err = parse_class_item(p, class);
    }
    p->at++;
    *out = class;
    return err;
}

/* ------------------------------------------------------------- atoms */

static enum mr_err parse_escape(struct parser *p, struct pattern_node **out)
{
    static const char places[] = "AzbB";
    static const enum pattern_kind kinds[] = {PATTERN_START, PATTERN_END,
                                              PATTERN_WORD, PATTERN_NOT_WORD};
    const char *start = p->at++;
    char c = *p->at;
    const char *ranges = ranges_of((char)tolower((unsigned char)c));
    uint32_t literal;

    if (c == '\0') {
        return refuse(p, "trailing backslash at end of expression", "");
    }
    if (ranges != NULL) {
        *out = new_node(p, PATTERN_CLASS);
        (*out)->is_negated = isupper((unsigned char)c) != 0;
        add_pairs(p, *out, ranges);
        p->at++;
        return MR_OK;
    }
    if (strchr(places, c) != NULL) {
        *out = new_node(p, kinds[strchr(places, c) - places]);
        p->at++;
        return MR_OK;
    }
    if (!take_escaped(p, &literal)) {
        return refuse(p, "invalid escape sequence", start);
    }
    *out = new_char(p, literal);
    return MR_OK;
}

/* Step over what makes a group one that captures nothing or has a name. */
static enum mr_err skip_group_head(struct parser *p)
{
    const char *end;

    p->at++;
    if (p->at[0] != '?') {
        return MR_OK;
    }
    if (p->at[1] == ':') {
        p->at += 2;
        return MR_OK;
    }
    end = strncmp(p->at, "?P<", 3) == 0 ? strchr(p->at, '>') : NULL;
    if (end == NULL) {
        return refuse(p, "invalid or unsupported Perl syntax", p->at - 1);
    }
    p->at = end + 1;
    return MR_OK;
}

static enum mr_err parse_group(struct parser *p, struct pattern_node **out)
{
    enum mr_err err;

    if (++p->depth > GROUPS_MAX) {
        return refuse(p, "expression nests too deeply", p->at);
    }
    err = skip_group_head(p);
    if (err == MR_OK) {
        err = parse_choice(p, out);
    }
    if (err == MR_OK && *p->at != ')') {
        err = refuse(p, "missing closing )", p->text);
    }
    p->at++;
    p->depth--;
    return err;
}

static enum mr_err parse_atom(struct parser *p, struct pattern_node **out)
{
    switch (*p->at) {
    case '(':
        return parse_group(p, out);
    case '[':
        return parse_class(p, out);
    case '\\':
        return parse_escape(p, out);
    case '.':
        *out = new_node(p, PATTERN_ANY);
        break;
    case '^':
        *out = new_node(p, PATTERN_START);
        break;
    case '$':
        *out = new_node(p, PATTERN_END);
        break;
    case '*':
    case '+':
    case '?':
        return refuse(p, "missing argument to repetition operator", p->at);
    default:
        *out = new_char(p, pattern_next_char(&p->at));
        return MR_OK;
    }
    p->at++;
    return MR_OK;
}

/* ------------------------------------------------------------- operators */

/* {n}, {n,} or {n,m} at the cursor, which moves behind it; false: a brace. */
static bool take_counts(struct parser *p, uint32_t *out_min, uint32_t *out_max)
{
    unsigned long min;
    unsigned long max;
    char *end;

    if (p->at[0] != '{' || !isdigit((unsigned char)p->at[1])) {
        return false;
    }
    min = strtoul(p->at + 1, &end, 10);
    max = min;
    if (*end == ',' && isdigit((unsigned char)end[1])) {
        max = strtoul(end + 1, &end, 10);
    } else if (*end == ',') {
        max = PATTERN_UNBOUNDED;
        end++;
    }
    if (*end != '}') {
        return false;
    }
    /* Cut to what parse_repeat() refuses anyway. */
    *out_min =
        min > PATTERN_REPEAT_MAX ? PATTERN_REPEAT_MAX + 1 : (uint32_t)min;
    *out_max = max == PATTERN_UNBOUNDED   ? PATTERN_UNBOUNDED
               : max > PATTERN_REPEAT_MAX ? PATTERN_REPEAT_MAX + 1
                                          : (uint32_t)max;
    p->at = end + 1;
    return true;
}

static bool take_operator(struct parser *p, uint32_t *out_min,
                          uint32_t *out_max)
{
    char c = *p->at;

    if (c != '*' && c != '+' && c != '?') {
        return take_counts(p, out_min, out_max);
    }
    p->at++;
    *out_min = c == '+';
    *out_max = c == '?' ? 1 : PATTERN_UNBOUNDED;
    return true;
}

static enum mr_err parse_repeat(struct parser *p, struct pattern_node **out)
{
    struct pattern_node *child = NULL;
    struct pattern_node *repeat;
    const char *start;
    uint32_t min;
    uint32_t max;
    uint32_t times;
    enum mr_err err = parse_atom(p, &child);

    start = p->at;
    *out = child;
    if (err != MR_OK || !take_operator(p, &min, &max)) {
        return err;
    }
    p->at += *p->at == '?'; /* The lazy form finds the same texts. */
    repeat = new_node(p, PATTERN_REPEAT);
    repeat->child = child;
    repeat->min = min;
    repeat->max = max;
    times = max == PATTERN_UNBOUNDED ? min + 1 : max;
    if (min > PATTERN_REPEAT_MAX || times > PATTERN_REPEAT_MAX || max < min) {
        return refuse(p, "invalid repeat count", start);
    }
    repeat->weight = child->weight * (times == 0 ? 1 : times);
    if (repeat->weight > PATTERN_REPEAT_MAX) {
        return refuse(p, "invalid repeat count", start);
    }
    *out = repeat;
    if (take_operator(p, &min, &max)) {
        return refuse(p, "invalid nested repetition operator", start);
    }
    return MR_OK;
}

/* Add @child to the end of @parent's children, of which @last is the last. */
static void append(struct pattern_node *parent, struct pattern_node **last,
                   struct pattern_node *child)
{
    if (*last == NULL) {
        parent->child = child;
    } else {
        (*last)->next = child;
    }
    *last = child;
    if (child->weight > parent->weight) {
        parent->weight = child->weight;
    }
}

static enum mr_err parse_chain(struct parser *p, struct pattern_node **out)
{
    struct pattern_node *chain = new_node(p, PATTERN_CHAIN);
    struct pattern_node *last = NULL;

    *out = chain;
    while (*p->at != '\0' && *p->at != '|' && *p->at != ')') {
        struct pattern_node *one = NULL;
        enum mr_err err = parse_repeat(p, &one);

        if (err != MR_OK) {
            return err;
        }
        append(chain, &last, one);
    }
    return MR_OK;
}

static enum mr_err parse_choice(struct parser *p, struct pattern_node **out)
{
    struct pattern_node *choice = NULL;
    struct pattern_node *last = NULL;
    struct pattern_node *one = NULL;
    enum mr_err err = parse_chain(p, &one);

    *out = one;
    while (err == MR_OK && *p->at == '|') {
        if (choice == NULL) {
            choice = new_node(p, PATTERN_CHOICE);
            append(choice, &last, one);
            *out = choice;
        }
        p->at++;
        err = parse_chain(p, &one);
        if (err == MR_OK) {
            append(choice, &last, one);
        }
    }
    return err;
}

enum mr_err pattern_parse(const char *text, struct pattern_tree *tree,
                          struct mr_detail *detail)
{
    struct parser p = {text, text, tree, 0, detail};
    size_t len = strlen(text);
    enum mr_err err;

    memset(tree, 0, sizeof *tree);
    if (len > PATTERN_LENGTH_MAX) {
        return refuse(&p, "expression is longer than 256 bytes", "");
    }
    tree->nodes = mr_calloc(PATTERN_NODES(len), sizeof *tree->nodes);
    tree->ranges = mr_calloc(PATTERN_RANGES(len), sizeof *tree->ranges);
    if (tree->nodes == NULL || tree->ranges == NULL) {
        return MR_E_NOMEM;
    }
    tree->ignores_case = strncmp(text, "(?i)", 4) == 0;
    p.at += tree->ignores_case ? 4 : 0;
    err = parse_choice(&p, &tree->root);
    if (err == MR_OK && *p.at == ')') {
        err = refuse(&p, "unexpected )", text);
    }
    return err;
}

void pattern_tree_deinit(struct pattern_tree *tree)
{
    mr_free(tree->nodes);
    mr_free(tree->ranges);
    tree->nodes = NULL;
    tree->ranges = NULL;
}
