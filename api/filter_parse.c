/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of filter expressions: recursive descent over the text. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/filter.h"
#include "api/filter_ast.h"
#include "api/pattern.h"
#include "base/mem.h"

/* What may stand at a place, in the words of Consul's parser. */
static const char want_operand[] = "\"(\", \"-\", \"0\", \"\\\"\", \"`\", "
                                   "\"not\", [ \\t\\r\\n], [1-9] or [a-zA-Z]";
static const char want_value[] = "\"-\", \"0\", \"\\\"\", \"`\", [ \\t\\r\\n], "
                                 "[1-9] or [a-zA-Z]";
static const char want_operator[] = "\"!=\", \"==\", \"contains\", \"in\", "
                                    "\"is\", \"matches\", \"not\" or "
                                    "[ \\t\\r\\n]";
static const char want_in[] = "\"in\", \"not\" or [ \\t\\r\\n]";
static const char want_after_not[] = "\"contains\", \"in\", \"matches\" or "
                                     "[ \\t\\r\\n]";
static const char want_empty[] = "\"empty\", \"not\" or [ \\t\\r\\n]";
static const char want_selector[] = "[ \\t\\r\\n] or [a-zA-Z]";
static const char want_name[] = "[a-zA-Z]";
static const char want_index[] = "\"\\\"\", \"`\" or [ \\t\\r\\n]";
static const char want_bracket[] = "\"]\" or [ \\t\\r\\n]";
static const char want_close[] = "\")\", \"and\", \"or\" or [ \\t\\r\\n]";
static const char want_end[] = "\"and\", \"or\", [ \\t\\r\\n] or EOF";

struct parser {
    const char *text;
    size_t at;
    char *free_text; /* Where the next text goes; see filter_parse(). */
    struct filter_node **last; /* Where the next node is linked. */
    size_t n_nodes;
    unsigned depth;
    struct mr_detail *detail;
};

static enum mr_err parse_or(struct parser *p, struct filter_node **out);

/* The failure "expected @want" at the cursor. */
static enum mr_err expected(struct parser *p, const char *want)
{
    unsigned line = 1;
    unsigned column = 1;

    for (size_t i = 0; i < p->at; i++) {
        bool is_rest = ((unsigned char)p->text[i] & 0xc0) == 0x80;

        line += p->text[i] == '\n';
        column = p->text[i] == '\n' ? 1 : column + !is_rest;
    }
    return mr_fail(p->detail, MR_E_INVALID,
                   "%u:%u (%zu): no match found, expected: %s", line, column,
                   p->at, want);
}

static char peek(const struct parser *p)
{
    return p->text[p->at];
}

static void skip_spaces(struct parser *p)
{
    p->at += strspn(p->text + p->at, " \t\r\n");
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '/';
}

/* Step over the keyword @word and the spaces behind it, when it is there. */
static bool take_word(struct parser *p, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(p->text + p->at, word, len) != 0 ||
        is_name_char(p->text[p->at + len])) {
        return false;
    }
    p->at += len;
    skip_spaces(p);
    return true;
}

/* A new node, or NULL and the reason in *@err. */
static struct filter_node *new_node(struct parser *p, enum filter_kind kind,
                                    enum mr_err *err)
{
    struct filter_node *node;

    *err = MR_E_NOMEM;
    if (++p->n_nodes > FILTER_NODES_MAX) {
        *err = mr_fail(p->detail, MR_E_INVALID,
                       "more than %d matches and operators", FILTER_NODES_MAX);
        return NULL;
    }
    node = mr_calloc(1, sizeof *node);
    if (node != NULL) {
        *err = MR_OK;
        node->kind = kind;
        *p->last = node;
        p->last = &node->next;
    }
    return node;
}

/* ------------------------------------------------------------- tokens */

/* A copy of @len bytes with a NUL, in the tree's buffer. */
static const char *keep(struct parser *p, const char *from, size_t len)
{
    char *to = p->free_text;

    memcpy(to, from, len);
    to[len] = '\0';
    p->free_text += len + 1;
    return to;
}

/* The character that the escape @c stands for; 0: none. */
static char unescape(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case '"':
    case '\\':
        return c;
    default:
        return '\0';
    }
}

/* A quoted text at the cursor. */
static enum mr_err parse_quoted(struct parser *p, const char **out)
{
    char quote = peek(p);
    char *to = p->free_text;
    const char *start = to;

    for (p->at++; peek(p) != quote; p->at++) {
        char c = peek(p);

        if (c == '\\' && quote == '"') {
            p->at++;
            c = unescape(peek(p));
        }
        if (c == '\0' || (c == '\n' && peek(p) == '\n' && quote == '"')) {
            return expected(p, quote == '"' ? "\"\\\"\" or [^\"]"
                                            : "\"`\" or [^`]");
        }
        *to++ = c;
    }
    p->at++;
    *to++ = '\0';
    p->free_text = to;
    *out = start;
    return MR_OK;
}

static enum mr_err parse_number(struct parser *p, const char **out)
{
    size_t start = p->at;

    p->at += peek(p) == '-';
    if (peek(p) == '0') {
        p->at++;
    } else if (isdigit((unsigned char)peek(p))) {
        p->at += strspn(p->text + p->at, "0123456789");
    } else {
        return expected(p, "\"0\" or [1-9]");
    }
    if (peek(p) == '.') {
        p->at++;
        if (!isdigit((unsigned char)peek(p))) {
            return expected(p, "[0-9]");
        }
        p->at += strspn(p->text + p->at, "0123456789");
    }
    if (peek(p) != '\0' && strchr(" \t\r\n)", peek(p)) == NULL) {
        return expected(p, "\")\", [ \\t\\r\\n] or EOF");
    }
    *out = keep(p, p->text + start, p->at - start);
    return MR_OK;
}

static enum mr_err parse_name(struct parser *p, struct filter_node *match)
{
    size_t len = 0;

    if (!isalpha((unsigned char)peek(p))) {
        return expected(p, want_name);
    }
    while (is_name_char(p->text[p->at + len])) {
        len++;
    }
    match->parts[match->n_parts++] = keep(p, p->text + p->at, len);
    p->at += len;
    return MR_OK;
}

/* ["text"] behind a name. */
static enum mr_err parse_index(struct parser *p, struct filter_node *match)
{
    enum mr_err err;

    p->at++;
    skip_spaces(p);
    if (peek(p) != '"' && peek(p) != '`') {
        return expected(p, want_index);
    }
    err = parse_quoted(p, &match->parts[match->n_parts]);
    if (err != MR_OK) {
        return err;
    }
    match->n_parts++;
    skip_spaces(p);
    if (peek(p) != ']') {
        return expected(p, want_bracket);
    }
    p->at++;
    return MR_OK;
}

static enum mr_err parse_selector(struct parser *p, struct filter_node *match)
{
    enum mr_err err = parse_name(p, match);

    while (err == MR_OK && (peek(p) == '.' || peek(p) == '[')) {
        if (match->n_parts == FILTER_PARTS_MAX) {
            return mr_fail(p->detail, MR_E_INVALID,
                           "a selector has more than %d names",
                           FILTER_PARTS_MAX);
        }
        if (peek(p) == '[') {
            err = parse_index(p, match);
        } else {
            p->at++;
            err = parse_name(p, match);
        }
    }
    return err;
}

/* A bare word: names with dots, taken as they stand. */
static enum mr_err parse_word(struct parser *p, const char **out)
{
    size_t start = p->at;

    if (!isalpha((unsigned char)peek(p))) {
        return expected(p, want_value);
    }
    while (is_name_char(peek(p)) ||
           (peek(p) == '.' && isalpha((unsigned char)p->text[p->at + 1]))) {
        p->at++;
    }
    *out = keep(p, p->text + start, p->at - start);
    return MR_OK;
}

static enum mr_err parse_value(struct parser *p, const char **out)
{
    char c = peek(p);

    if (c == '"' || c == '`') {
        return parse_quoted(p, out);
    }
    if (c == '-' || isdigit((unsigned char)c)) {
        return parse_number(p, out);
    }
    return parse_word(p, out);
}

/* ------------------------------------------------------------- matches */

static enum mr_err match_value(struct parser *p, struct filter_node *match,
                               enum filter_op op)
{
    match->op = op;
    skip_spaces(p);
    return parse_value(p, &match->value);
}

/* `"value" in selector`, from behind the value. */
static enum mr_err match_in(struct parser *p, struct filter_node *match)
{
    skip_spaces(p);
    match->op = take_word(p, "not") ? FILTER_NOT_IN : FILTER_IN;
    if (!take_word(p, "in")) {
        return expected(p, want_in);
    }
    if (!isalpha((unsigned char)peek(p))) {
        return expected(p, want_selector);
    }
    match->n_parts = 0;
    return parse_selector(p, match);
}

static enum mr_err match_is(struct parser *p, struct filter_node *match)
{
    match->op = take_word(p, "not") ? FILTER_IS_NOT_EMPTY : FILTER_IS_EMPTY;
    return take_word(p, "empty") ? MR_OK : expected(p, want_empty);
}

static enum mr_err match_not(struct parser *p, struct filter_node *match)
{
    if (take_word(p, "contains")) {
        return match_value(p, match, FILTER_NOT_IN);
    }
    if (take_word(p, "matches")) {
        return match_value(p, match, FILTER_NOT_MATCHES);
    }
    return expected(p, want_after_not);
}

/* Whether what follows makes the word before it a value: `word [not] in`. */
static bool is_value_before_in(const struct parser *p)
{
    struct parser ahead = *p;

    skip_spaces(&ahead);
    (void)take_word(&ahead, "not");
    return take_word(&ahead, "in");
}

static enum mr_err match_selector(struct parser *p, struct filter_node *match)
{
    size_t start = p->at;
    enum mr_err err = parse_selector(p, match);

    if (err != MR_OK) {
        return err;
    }
    if (is_value_before_in(p)) {
        match->value = keep(p, p->text + start, p->at - start);
        return match_in(p, match);
    }
    skip_spaces(p);
    if (strncmp(p->text + p->at, "==", 2) == 0) {
        p->at += 2;
        return match_value(p, match, FILTER_EQUAL);
    }
    if (strncmp(p->text + p->at, "!=", 2) == 0) {
        p->at += 2;
        return match_value(p, match, FILTER_NOT_EQUAL);
    }
    if (take_word(p, "contains")) {
        return match_value(p, match, FILTER_IN);
    }
    if (take_word(p, "matches")) {
        return match_value(p, match, FILTER_MATCHES);
    }
    if (take_word(p, "is")) {
        return match_is(p, match);
    }
    if (take_word(p, "not")) {
        return match_not(p, match);
    }
    return expected(p, want_operator);
}

static enum mr_err parse_match(struct parser *p, struct filter_node **out)
{
    char c = peek(p);
    enum mr_err err;
    struct filter_node *match = new_node(p, FILTER_MATCH, &err);

    if (match == NULL) {
        return err;
    }
    *out = match;
    if (isalpha((unsigned char)c)) {
        return match_selector(p, match);
    }
    if (c != '"' && c != '`' && c != '-' && !isdigit((unsigned char)c)) {
        return expected(p, want_operand);
    }
    err = parse_value(p, &match->value);
    return err != MR_OK ? err : match_in(p, match);
}

/* ------------------------------------------------------------- expressions */

static enum mr_err parse_parens(struct parser *p, struct filter_node **out)
{
    enum mr_err err;

    p->at++;
    err = parse_or(p, out);
    if (err != MR_OK) {
        return err;
    }
    skip_spaces(p);
    if (peek(p) != ')') {
        return expected(p, want_close);
    }
    p->at++;
    return MR_OK;
}

static enum mr_err parse_operand(struct parser *p, struct filter_node **out);

static enum mr_err parse_not(struct parser *p, struct filter_node **out)
{
    enum mr_err err;
    struct filter_node *not = new_node(p, FILTER_NOT, &err);

    if (not == NULL) {
        return err;
    }
    *out = not ;
    return parse_operand(p, &not ->left);
}

static enum mr_err parse_operand(struct parser *p, struct filter_node **out)
{
    enum mr_err err;

    if (++p->depth > FILTER_DEPTH_MAX) {
        return mr_fail(p->detail, MR_E_INVALID, "nested deeper than %d levels",
                       FILTER_DEPTH_MAX);
    }
    skip_spaces(p);
    if (peek(p) == '(') {
        err = parse_parens(p, out);
    } else if (take_word(p, "not")) {
        err = parse_not(p, out);
    } else {
        err = parse_match(p, out);
    }
    p->depth--;
    return err;
}

/* What reads one operand of a chain. */
typedef enum mr_err (*operand_fn)(struct parser *p, struct filter_node **out);

/* operand [@word operand ...], leaning left. */
static enum mr_err parse_chain(struct parser *p, enum filter_kind kind,
                               const char *word, operand_fn operand,
                               struct filter_node **out)
{
    struct filter_node *left = NULL;
    enum mr_err err = operand(p, &left);

    while (err == MR_OK) {
        struct filter_node *chain;
        size_t before = p->at;

        skip_spaces(p);
        if (!take_word(p, word)) {
            p->at = before;
            *out = left;
            return MR_OK;
        }
        chain = new_node(p, kind, &err);
        if (chain != NULL) {
            chain->left = left;
            left = chain;
            err = operand(p, &chain->right);
        }
    }
    return err;
}

static enum mr_err parse_and(struct parser *p, struct filter_node **out)
{
    return parse_chain(p, FILTER_AND, "and", parse_operand, out);
}

static enum mr_err parse_or(struct parser *p, struct filter_node **out)
{
    return parse_chain(p, FILTER_OR, "or", parse_and, out);
}

enum mr_err filter_parse(const char *text, struct filter_tree *out,
                         struct mr_detail *detail)
{
    struct filter_tree tree = {NULL, NULL, NULL};
    struct parser p = {.text = text, .last = &tree.nodes, .detail = detail};
    enum mr_err err;

    /* Every kept text is at most as long as what it stands for in @text, which
     * may be kept twice (a word before "in"), plus a NUL each. */
    tree.texts = mr_malloc(4 * strlen(text) + 4);
    if (tree.texts == NULL) {
        return MR_E_NOMEM;
    }
    p.free_text = tree.texts;
    err = parse_or(&p, &tree.root);
    if (err == MR_OK) {
        skip_spaces(&p);
        if (peek(&p) != '\0') {
            err = expected(&p, want_end);
        }
    }
    if (err != MR_OK) {
        filter_tree_deinit(&tree);
        return err;
    }
    *out = tree;
    return MR_OK;
}

void filter_tree_deinit(struct filter_tree *tree)
{
    while (tree->nodes != NULL) {
        struct filter_node *node = tree->nodes;

        tree->nodes = node->next;
        pattern_free(node->pattern);
        mr_free(node);
    }
    mr_free(tree->texts);
    tree->texts = NULL;
    tree->root = NULL;
}
