/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says what is wrong with a text that is not JSON, in the words of Go's
 * scanner. The parser proper is jansson; this walks the text a second time,
 * only when that has failed.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/decode.h"

struct scan {
    const char *s;
    size_t len;
    size_t at;
    const char *where; /* What the offending character is said to be in. */
    bool is_cut;       /* The text ended too early. */
};

static int peek(struct scan *p)
{
    if (p->at == p->len) {
        p->is_cut = true;
        return -1;
    }
    return (unsigned char)p->s[p->at];
}

static void skip_spaces(struct scan *p)
{
    while (p->at < p->len && p->s[p->at] != '\0' &&
           strchr(" \t\r\n", p->s[p->at]) != NULL) {
        p->at++;
    }
}

static bool fail(struct scan *p, const char *where)
{
    p->where = where;
    return false;
}

static bool scan_escape(struct scan *p)
{
    int c = peek(p);

    if (c == 'u') {
        for (int i = 0; i < 4; i++) {
            p->at++;
            c = peek(p);
            if (c < 0 || !isxdigit(c)) {
                return fail(p, "in \\u hexadecimal character escape");
            }
        }
    } else if (c <= 0 || strchr("bfnrt\\/\"", c) == NULL) {
        return fail(p, "in string escape code");
    }
    p->at++;
    return true;
}

/* The rest of a string, behind its opening quote. */
static bool scan_string(struct scan *p)
{
    for (;;) {
        int c = peek(p);

        if (c < 0x20) {
            return fail(p, "in string literal");
        }
        p->at++;
        if (c == '"') {
            return true;
        }
        if (c == '\\' && !scan_escape(p)) {
            return false;
        }
    }
}

static bool scan_digits(struct scan *p, const char *where)
{
    int c = peek(p);

    if (c < 0 || !isdigit(c)) {
        return fail(p, where);
    }
    while (p->at < p->len && isdigit((unsigned char)p->s[p->at])) {
        p->at++;
    }
    return true;
}

static bool scan_number(struct scan *p)
{
    if (p->s[p->at] == '-') {
        p->at++;
    }
    if (p->at < p->len && p->s[p->at] == '0') {
        p->at++;
    } else if (!scan_digits(p, "in numeric literal")) {
        return false;
    }
    if (p->at < p->len && p->s[p->at] == '.') {
        p->at++;
        if (!scan_digits(p, "after decimal point in numeric literal")) {
            return false;
        }
    }
    if (p->at < p->len && (p->s[p->at] | 0x20) == 'e') {
        p->at++;
        if (p->at < p->len && (p->s[p->at] == '+' || p->s[p->at] == '-')) {
            p->at++;
        }
        return scan_digits(p, "in exponent of numeric literal");
    }
    return true;
}

static bool scan_literal(struct scan *p, const char *word)
{
    static const char *const places[] = {
        "in literal true (expecting 'r')",  "in literal true (expecting 'u')",
        "in literal true (expecting 'e')",  "in literal false (expecting 'a')",
        "in literal false (expecting 'l')", "in literal false (expecting 's')",
        "in literal false (expecting 'e')", "in literal null (expecting 'u')",
        "in literal null (expecting 'l')",  "in literal null (expecting 'l')",
    };
    size_t base = *word == 't' ? 0 : *word == 'f' ? 3 : 7;

    for (size_t i = 0; word[i] != '\0'; i++) {
        if (peek(p) != word[i]) {
            return fail(p, places[base + i - 1]);
        }
        p->at++;
    }
    return true;
}

static bool scan_scalar(struct scan *p)
{
    switch (peek(p)) {
    case '"':
        p->at++;
        return scan_string(p);
    case 't':
        return scan_literal(p, "true");
    case 'f':
        return scan_literal(p, "false");
    case 'n':
        return scan_literal(p, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return scan_number(p);
    default:
        return fail(p, "looking for beginning of value");
    }
}

/* A key and its colon. */
static bool scan_key(struct scan *p)
{
    skip_spaces(p);
    if (peek(p) != '"') {
        return fail(p, "looking for beginning of object key string");
    }
    p->at++;
    if (!scan_string(p)) {
        return false;
    }
    skip_spaces(p);
    if (peek(p) != ':') {
        return fail(p, "after object key");
    }
    p->at++;
    return true;
}

/* What opens at the cursor, pushed on @open; *@is_open is false when it closed
 * at once. */
static bool scan_open(struct scan *p, char open, bool *is_open)
{
    char close = open == '{' ? '}' : ']';

    p->at++;
    skip_spaces(p);
    *is_open = peek(p) != close;
    if (!*is_open) {
        p->at++;
        return true;
    }
    return open == '[' || scan_key(p);
}

/* Behind a value within @open: a comma and what must follow it, or the closing
 * bracket (*@is_open becomes false). */
static bool scan_next(struct scan *p, char open, bool *is_open)
{
    int c;

    skip_spaces(p);
    c = peek(p);
    *is_open = c == ',';
    if (c != ',' && c != (open == '{' ? '}' : ']')) {
        return fail(p, open == '{' ? "after object key:value pair"
                                   : "after array element");
    }
    p->at++;
    return c != ',' || open == '[' || scan_key(p);
}

static bool scan_value(struct scan *p)
{
    char open[DECODE_DEPTH_MAX + 1];
    size_t depth = 0;
    bool is_open;

    do {
        int c;

        skip_spaces(p);
        c = peek(p);
        if ((c == '{' || c == '[') && depth <= DECODE_DEPTH_MAX) {
            if (!scan_open(p, (char)c, &is_open)) {
                return false;
            }
            if (is_open) {
                open[depth++] = (char)c;
                continue;
            }
        } else if (!scan_scalar(p)) {
            return false;
        }
        while (depth > 0) {
            if (!scan_next(p, open[depth - 1], &is_open)) {
                return false;
            }
            if (is_open) {
                break;
            }
            depth--;
        }
    } while (depth > 0);
    return true;
}

bool decode_syntax(struct mr_slice text, char *out, size_t cap)
{
    struct scan p = {text.data, text.len, 0, NULL, false};
    unsigned char c;

    skip_spaces(&p);
    if (p.at == p.len) {
        (void)snprintf(out, cap, "EOF");
        return true;
    }
    if (scan_value(&p)) {
        /* jansson takes "01" for one bad number, Go for two good ones. */
        if (p.at == p.len || !isalnum((unsigned char)p.s[p.at])) {
            return false;
        }
        p.where = "after top-level value";
    }
    if (p.is_cut) {
        (void)snprintf(out, cap, "unexpected EOF");
        return true;
    }
    c = (unsigned char)p.s[p.at];
    if (c == '\'' || c == '\\') {
        (void)snprintf(out, cap, "invalid character '\\%c' %s", c, p.where);
    } else if (c >= 0x20 && c < 0x7f) {
        (void)snprintf(out, cap, "invalid character '%c' %s", c, p.where);
    } else {
        (void)snprintf(out, cap, "invalid character '\\x%02x' %s", c, p.where);
    }
    return true;
}
