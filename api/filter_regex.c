/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of filters: RE2's syntax, translated into POSIX extended
 * expressions as far as the two mean the same for "does it match". What cannot
 * be translated is refused. Length and repetition are bounded, and there are
 * no back references, so that no pattern makes a worker run for long.
 */
#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "api/filter_ast.h"
#include "base/buf.h"
#include "base/mem.h"

#define PATTERN_MAX 256
#define REPEAT_MAX 1000 /* Product of all counts, RE2's bound on nesting. */
#define GROUPS_MAX 32

struct filter_regex {
    regex_t compiled;
};

struct translation {
    const char *text;
    size_t at;
    struct mr_buf out;
    uint64_t repeats;
    unsigned n_groups;
    unsigned open_groups;
    bool ignores_case;
    struct mr_detail *detail;
};

static enum mr_err refuse(struct translation *t, const char *why,
                          const char *what)
{
    return mr_fail(t->detail, MR_E_INVALID, "error parsing regexp: %s: `%s`",
                   why, what);
}

/* What a class escape means within brackets, or NULL. */
static const char *class_of(char c)
{
    switch (c) {
    case 'd':
        return "0-9";
    case 'w':
        return "a-zA-Z0-9_";
    case 's':
        return "\t\n\f\r ";
    default:
        return NULL;
    }
}

static char control_of(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'f':
        return '\f';
    case 'v':
        return '\v';
    default:
        return '\0';
    }
}

/* An escape outside brackets; the cursor is on the backslash. */
static enum mr_err translate_escape(struct translation *t)
{
    char c = t->text[t->at + 1];
    const char *class = class_of((char)tolower((unsigned char)c));

    if (c == '\0') {
        return refuse(t, "trailing backslash at end of expression", "");
    }
    if (class != NULL) {
        mr_buf_printf(&t->out, "[%s%s]", isupper((unsigned char)c) ? "^" : "",
                      class);
    } else if (c == 'A' || c == 'z') {
        mr_buf_byte(&t->out, c == 'A' ? '^' : '$');
    } else if (control_of(c) != '\0') {
        mr_buf_byte(&t->out, (uint8_t)control_of(c));
    } else if (c == 'b' || c == 'B' || ispunct((unsigned char)c)) {
        mr_buf_printf(&t->out, "\\%c", c);
    } else {
        return refuse(t, "invalid escape sequence", t->text + t->at);
    }
    t->at += 2;
    return MR_OK;
}

/* One item of a bracket expression, in which POSIX knows no escapes. */
static enum mr_err translate_class_item(struct translation *t)
{
    const char *s = t->text + t->at;
    const char *class;

    if (s[0] == '[' && s[1] == ':') {
        size_t len = strcspn(s + 2, "]") + 3;

        mr_buf_add(&t->out, s, len);
        t->at += len;
        return MR_OK;
    }
    if (s[0] != '\\') {
        mr_buf_byte(&t->out, (uint8_t)s[0]);
        t->at++;
        return MR_OK;
    }
    class = class_of(s[1]);
    if (class != NULL) {
        mr_buf_str(&t->out, class);
    } else if (control_of(s[1]) != '\0') {
        mr_buf_byte(&t->out, (uint8_t)control_of(s[1]));
    } else if (ispunct((unsigned char)s[1]) && strchr("]^-[", s[1]) == NULL) {
        mr_buf_byte(&t->out, (uint8_t)s[1]);
    } else if (ispunct((unsigned char)s[1])) {
        mr_buf_printf(&t->out, "[.%c.]", s[1]); /* A collating symbol. */
    } else {
        return refuse(t, "invalid escape sequence", s);
    }
    t->at += 2;
    return MR_OK;
}

static enum mr_err translate_class(struct translation *t)
{
    const char *start = t->text + t->at;
    enum mr_err err = MR_OK;

    mr_buf_byte(&t->out, '[');
    t->at++;
    if (t->text[t->at] == '^') {
        mr_buf_byte(&t->out, '^');
        t->at++;
    }
    if (t->text[t->at] == ']') { /* First: itself. */
        mr_buf_byte(&t->out, ']');
        t->at++;
    }
    while (err == MR_OK && t->text[t->at] != ']') {
        if (t->text[t->at] == '\0') {
            return refuse(t, "missing closing ]", start);
        }
        err = translate_class_item(t);
    }
    mr_buf_byte(&t->out, ']');
    t->at++;
    return err;
}

/* The lazy form of an operator finds the same texts. */
static void skip_lazy(struct translation *t)
{
    t->at += t->text[t->at] == '?';
}

/* {n}, {n,}, {n,m}; anything else is a brace. */
static enum mr_err translate_repeat(struct translation *t)
{
    const char *s = t->text + t->at;
    char *end;
    unsigned long low = strtoul(s + 1, &end, 10);
    unsigned long high = low;

    if (!isdigit((unsigned char)s[1])) {
        mr_buf_str(&t->out, "\\{");
        t->at++;
        return MR_OK;
    }
    if (*end == ',') {
        high = isdigit((unsigned char)end[1]) ? strtoul(end + 1, &end, 10)
                                              : (end++, low + 1);
    }
    if (*end != '}') {
        mr_buf_str(&t->out, "\\{");
        t->at++;
        return MR_OK;
    }
    if (low > REPEAT_MAX || high > REPEAT_MAX || high < low) {
        return refuse(t, "invalid repeat count", s);
    }
    t->repeats *= high == 0 ? 1 : high;
    if (t->repeats > REPEAT_MAX) {
        return refuse(t, "invalid repeat count", s);
    }
    mr_buf_add(&t->out, s, (size_t)(end - s) + 1);
    t->at += (size_t)(end - s) + 1;
    skip_lazy(t);
    return MR_OK;
}

static enum mr_err translate_group(struct translation *t)
{
    const char *s = t->text + t->at;

    if (strncmp(s, "(?i)", 4) == 0 && t->out.len == 0) {
        t->ignores_case = true;
        t->at += 4;
        return MR_OK;
    }
    if (++t->n_groups > GROUPS_MAX) {
        return refuse(t, "too many groups", s);
    }
    t->open_groups++;
    mr_buf_byte(&t->out, '(');
    t->at++;
    if (s[1] != '?') {
        return MR_OK;
    }
    if (s[2] == ':') {
        t->at += 2;
        return MR_OK;
    }
    if (strncmp(s, "(?P<", 4) == 0 && strchr(s, '>') != NULL) {
        t->at += (size_t)(strchr(s, '>') - s);
        return MR_OK;
    }
    return refuse(t, "invalid or unsupported Perl syntax", s);
}

static enum mr_err translate_one(struct translation *t)
{
    char c = t->text[t->at];

    switch (c) {
    case '\\':
        return translate_escape(t);
    case '[':
        return translate_class(t);
    case '{':
        return translate_repeat(t);
    case '(':
        return translate_group(t);
    case ')':
        if (t->open_groups == 0) {
            return refuse(t, "unexpected )", t->text);
        }
        t->open_groups--;
        break;
    case '*':
    case '+':
    case '?':
        mr_buf_byte(&t->out, (uint8_t)c);
        t->at++;
        skip_lazy(t);
        return MR_OK;
    default:
        break;
    }
    mr_buf_byte(&t->out, (uint8_t)c);
    t->at++;
    return MR_OK;
}

static enum mr_err translate(struct translation *t)
{
    enum mr_err err = MR_OK;

    while (err == MR_OK && t->text[t->at] != '\0') {
        err = translate_one(t);
    }
    if (err == MR_OK && t->open_groups > 0) {
        err = refuse(t, "missing closing )", t->text);
    }
    if (err == MR_OK && mr_buf_failed(&t->out)) {
        err = MR_E_NOMEM;
    }
    return err;
}

static enum mr_err compile(struct translation *t, struct filter_regex *regex)
{
    int flags = REG_EXTENDED | REG_NOSUB | (t->ignores_case ? REG_ICASE : 0);
    int code = regcomp(&regex->compiled, mr_buf_cstr(&t->out), flags);
    char why[128];

    if (code == 0) {
        return MR_OK;
    }
    if (code == REG_ESPACE) {
        return MR_E_NOMEM;
    }
    (void)regerror(code, &regex->compiled, why, sizeof why);
    return refuse(t, why, t->text);
}

enum mr_err filter_regex_new(const char *text, struct filter_regex **out,
                             struct mr_detail *detail)
{
    struct translation t = {.text = text, .repeats = 1, .detail = detail};
    struct filter_regex *regex;
    enum mr_err err;

    if (strlen(text) > PATTERN_MAX) {
        return refuse(&t, "expression is longer than 256 bytes", "");
    }
    regex = mr_malloc(sizeof *regex);
    if (regex == NULL) {
        return MR_E_NOMEM;
    }
    mr_buf_init(&t.out, 0);
    err = translate(&t);
    if (err == MR_OK) {
        err = compile(&t, regex);
    }
    mr_buf_deinit(&t.out);
    if (err != MR_OK) {
        mr_free(regex);
        return err;
    }
    *out = regex;
    return MR_OK;
}

bool filter_regex_match(const struct filter_regex *regex, const char *text)
{
    return regexec(&regex->compiled, text, 0, NULL, 0) == 0;
}

void filter_regex_free(struct filter_regex *regex)
{
    if (regex != NULL) {
        regfree(&regex->compiled);
        mr_free(regex);
    }
}
