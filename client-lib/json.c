/* SPDX-License-Identifier: Apache-2.0 */
/* Reading JSON. */
#include "json.h"

#include <string.h>

#include "microreg.h"

struct parser {
    struct mrg_arena *arena;
    const char *start;
    const char *at;
    const char *end;
    int err; /* The first error; MICROREG_OK while there is none. */
};

static bool parse_fail(struct parser *p, int err)
{
    if (p->err == MICROREG_OK) {
        p->err = err;
    }
    return false;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' ||
                              *p->at == '\r' || *p->at == '\t')) {
        p->at++;
    }
}

/* Take @c if it comes next. */
static bool take_byte(struct parser *p, char c)
{
    skip_space(p);
    if (p->at == p->end || *p->at != c) {
        return false;
    }
    p->at++;
    return true;
}

static bool take_word(struct parser *p, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(p->end - p->at) < len || memcmp(p->at, word, len) != 0) {
        return parse_fail(p, MICROREG_E_PROTOCOL);
    }
    p->at += len;
    return true;
}

/* ------------------------------------------------------------- strings */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The four digits behind "\u", or -1. */
static int32_t take_unit(struct parser *p)
{
    int32_t unit = 0;

    if (p->end - p->at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p->at[i]);

        if (digit < 0) {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    p->at += 4;
    return unit;
}

static char *put_utf8(char *out, int32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | (c >> 6));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | (c >> 12));
        *out++ = (char)(0x80 | ((c >> 6) & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | (c >> 18));
        *out++ = (char)(0x80 | ((c >> 12) & 0x3f));
        *out++ = (char)(0x80 | ((c >> 6) & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* What follows "\u": a character, of which the second half may follow. Half a
 * character alone becomes U+FFFD, as in Go. NULL: no digits. */
static char *take_escaped_unit(struct parser *p, char *out)
{
    int32_t unit = take_unit(p);

    if (unit < 0) {
        return NULL;
    }
    if (unit >= 0xd800 && unit < 0xdc00 && p->end - p->at >= 6 &&
        p->at[0] == '\\' && p->at[1] == 'u') {
        const char *second_at = p->at;
        int32_t second;

        p->at += 2;
        second = take_unit(p);
        if (second >= 0xdc00 && second < 0xe000) {
            return put_utf8(out, 0x10000 + ((unit - 0xd800) << 10) +
                                     (second - 0xdc00));
        }
        p->at = second_at;
    }
    return put_utf8(out, unit >= 0xd800 && unit < 0xe000 ? 0xfffd : unit);
}

static char *take_escape(struct parser *p, char *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    char c;

    if (p->at == p->end) {
        return NULL;
    }
    c = *p->at++;
    if (c == 'u') {
        return take_escaped_unit(p, out);
    }
    found = c == '\0' ? NULL : strchr(from, c);
    if (found == NULL) {
        return NULL;
    }
    *out++ = to[found - from];
    return out;
}

/* The end of the string that begins at @at (behind its quote), or NULL. */
static const char *find_quote(const char *at, const char *end,
                              bool *out_has_escapes)
{
    *out_has_escapes = false;
    for (; at < end; at++) {
        if (*at == '"') {
            return at;
        }
        if ((unsigned char)*at < 0x20) {
            return NULL;
        }
        if (*at == '\\') {
            *out_has_escapes = true;
            if (++at == end) {
                break;
            }
        }
    }
    return NULL;
}

/* A string; its first quote has been taken. */
static bool take_string(struct parser *p, const char **out_text,
                        size_t *out_len)
{
    bool has_escapes;
    const char *end = find_quote(p->at, p->end, &has_escapes);
    char *copy;
    char *out;

    if (end == NULL || !mrg_is_utf8(p->at, (size_t)(end - p->at))) {
        return parse_fail(p, MICROREG_E_PROTOCOL);
    }
    copy = mrg_arena_dup(p->arena, p->at, (size_t)(end - p->at));
    if (copy == NULL) {
        return parse_fail(p, MICROREG_E_NOMEM);
    }
    out = copy + (end - p->at);
    if (has_escapes) {
        out = copy; /* What is unescaped is never longer. */
        while (p->at < end) {
            if (*p->at != '\\') {
                *out++ = *p->at++;
                continue;
            }
            p->at++;
            out = take_escape(p, out);
            if (out == NULL || p->at > end) {
                return parse_fail(p, MICROREG_E_PROTOCOL);
            }
        }
        *out = '\0';
    }
    p->at = end + 1;
    *out_text = copy;
    *out_len = (size_t)(out - copy);
    return true;
}

/* ------------------------------------------------------------- values */

static size_t skip_digits(struct parser *p)
{
    const char *from = p->at;

    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        p->at++;
    }
    return (size_t)(p->at - from);
}

static bool take_number(struct parser *p)
{
    const char *digits;
    size_t n;

    if (*p->at == '-') {
        p->at++;
    }
    digits = p->at;
    n = skip_digits(p);
    if (n == 0 || (n > 1 && digits[0] == '0')) {
        return parse_fail(p, MICROREG_E_PROTOCOL);
    }
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        if (skip_digits(p) == 0) {
            return parse_fail(p, MICROREG_E_PROTOCOL);
        }
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-')) {
            p->at++;
        }
        if (skip_digits(p) == 0) {
            return parse_fail(p, MICROREG_E_PROTOCOL);
        }
    }
    return true;
}

static bool take_value(struct parser *p, struct mrg_json *value, int depth);

/* One child of @parent; in an object with its key. */
static bool take_child(struct parser *p, struct mrg_json *parent,
                       const struct mrg_json ***tail, int depth)
{
    struct mrg_json *child = mrg_arena_alloc(p->arena, sizeof *child);
    size_t key_len;

    if (child == NULL) {
        return parse_fail(p, MICROREG_E_NOMEM);
    }
    if (parent->type == MRG_JSON_OBJECT) {
        if (!take_byte(p, '"')) {
            return parse_fail(p, MICROREG_E_PROTOCOL);
        }
        if (!take_string(p, &child->key, &key_len)) {
            return false;
        }
        if (!take_byte(p, ':')) {
            return parse_fail(p, MICROREG_E_PROTOCOL);
        }
    }
    if (!take_value(p, child, depth)) {
        return false;
    }
    **tail = child;
    *tail = &child->next;
    parent->n++;
    return true;
}

/* The children of an array or object, and its last bracket. */
static bool take_children(struct parser *p, struct mrg_json *parent, char last,
                          int depth)
{
    const struct mrg_json **tail = &parent->child;

    p->at++;
    if (depth == 0) {
        return parse_fail(p, MICROREG_E_PROTOCOL);
    }
    if (take_byte(p, last)) {
        return true;
    }
    do {
        if (!take_child(p, parent, &tail, depth - 1)) {
            return false;
        }
    } while (take_byte(p, ','));
    return take_byte(p, last) || parse_fail(p, MICROREG_E_PROTOCOL);
}

static bool take_typed(struct parser *p, struct mrg_json *value, int depth)
{
    switch (*p->at) {
    case 'n':
        value->type = MRG_JSON_NULL;
        return take_word(p, "null");
    case 'f':
        value->type = MRG_JSON_FALSE;
        return take_word(p, "false");
    case 't':
        value->type = MRG_JSON_TRUE;
        return take_word(p, "true");
    case '"':
        value->type = MRG_JSON_STRING;
        p->at++;
        return take_string(p, &value->text, &value->text_len);
    case '[':
        value->type = MRG_JSON_ARRAY;
        return take_children(p, value, ']', depth);
    case '{':
        value->type = MRG_JSON_OBJECT;
        return take_children(p, value, '}', depth);
    default:
        value->type = MRG_JSON_NUMBER;
        return take_number(p);
    }
}

static bool take_value(struct parser *p, struct mrg_json *value, int depth)
{
    skip_space(p);
    if (p->at == p->end) {
        return parse_fail(p, MICROREG_E_PROTOCOL);
    }
    value->raw = p->at;
    if (!take_typed(p, value, depth)) {
        return false;
    }
    value->raw_len = (size_t)(p->at - value->raw);
    return true;
}

int mrg_json_parse(struct mrg_arena *arena, const char *text, size_t len,
                   const struct mrg_json **out_value, size_t *out_at)
{
    struct parser p = {arena, text, text, text + len, MICROREG_OK};
    struct mrg_json *value = mrg_arena_alloc(arena, sizeof *value);

    if (value == NULL) {
        return MICROREG_E_NOMEM;
    }
    if (take_value(&p, value, MRG_JSON_DEPTH)) {
        skip_space(&p);
        if (p.at != p.end) {
            (void)parse_fail(&p, MICROREG_E_PROTOCOL);
        }
    }
    if (p.err == MICROREG_OK) {
        *out_value = value;
    } else if (out_at != NULL) {
        *out_at = (size_t)(p.at - p.start);
    }
    return p.err;
}

/* ------------------------------------------------------------- reading */

const struct mrg_json *mrg_json_get(const struct mrg_json *object,
                                    const char *key)
{
    const struct mrg_json *found = NULL;

    if (object == NULL || object->type != MRG_JSON_OBJECT) {
        return NULL;
    }
    for (const struct mrg_json *v = object->child; v != NULL; v = v->next) {
        if (strcmp(v->key, key) == 0) {
            found = v;
        }
    }
    return found;
}

const char *mrg_json_str(const struct mrg_json *value)
{
    return value != NULL && value->type == MRG_JSON_STRING ? value->text : "";
}

uint64_t mrg_json_u64(const struct mrg_json *value)
{
    uint64_t number = 0;

    if (value == NULL || value->type != MRG_JSON_NUMBER) {
        return 0;
    }
    for (size_t i = 0; i < value->raw_len; i++) {
        uint64_t digit = (uint64_t)(value->raw[i] - '0');

        if (digit > 9 || number > (UINT64_MAX - digit) / 10) {
            return 0;
        }
        number = number * 10 + digit;
    }
    return number;
}
