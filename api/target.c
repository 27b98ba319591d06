/* SPDX-License-Identifier: Apache-2.0 */
/* The request target, read as Go's net/url and ServeMux read it. */
#include "api/target.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char hex_upper[] = "0123456789ABCDEF";

/* The value of a hex digit, or -1. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Decode @len bytes at @in to @out, which may be the same memory, and put a NUL
 * behind. Returns false when an escape is bad. */
static bool unescape(const char *in, size_t len, bool plus_is_space, char *out,
                     size_t *out_len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = in[i];

        if (c == '%') {
            int high = i + 2 < len ? hex_value(in[i + 1]) : -1;
            int low = i + 2 < len ? hex_value(in[i + 2]) : -1;

            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = '\0';
    *out_len = n;
    return true;
}

/* ------------------------------------------------------------- parsing */

static bool is_separator(char c)
{
    return c == '&' || c == ';'; /* Go before 1.17 splits at both. */
}

static size_t count_params(const char *raw, size_t len)
{
    size_t n = 1;

    for (size_t i = 0; i < len; i++) {
        n += is_separator(raw[i]);
    }
    return n;
}

size_t api_target_size(const char *raw, size_t len)
{
    size_t n_params = count_params(raw, len);

    /* The parameters, the path and the query as sent with a NUL each, and the
     * parameters' texts with two NULs each. */
    return n_params * (sizeof(struct api_param) + 2) + 2 * (len + 1) + len;
}

/* Skip "http://host" of an absolute target (RFC 9112 §3.2.2). */
static enum mr_err skip_authority(const char **raw, size_t *len)
{
    static const char *const schemes[] = {"http://", "https://"};

    for (size_t i = 0; i < MR_ARRAY_LEN(schemes); i++) {
        size_t skip = strlen(schemes[i]);

        if (*len < skip || memcmp(*raw, schemes[i], skip) != 0) {
            continue;
        }
        while (skip < *len && (*raw)[skip] != '/' && (*raw)[skip] != '?') {
            skip++;
        }
        *raw += skip;
        *len -= skip;
        return MR_OK;
    }
    return MR_E_INVALID;
}

/* One "name=value" of the query. Returns false when an escape is bad. */
static bool parse_param(const char *raw, size_t len, char **at,
                        struct api_param *out)
{
    const char *equals = memchr(raw, '=', len);
    size_t name_len = equals == NULL ? len : (size_t)(equals - raw);
    size_t n;

    out->name = *at;
    if (!unescape(raw, name_len, true, *at, &n)) {
        return false;
    }
    *at += n + 1;
    out->value = *at;
    if (equals == NULL) {
        **at = '\0';
        out->value_len = 0;
    } else if (!unescape(equals + 1, len - name_len - 1, true, *at,
                         &out->value_len)) {
        return false;
    }
    *at += out->value_len + 1;
    return true;
}

static void parse_query(struct api_target *t, size_t len, char *at)
{
    const char *raw = t->raw_query;

    for (size_t i = 0; i < len;) {
        size_t end = i;

        while (end < len && !is_separator(raw[end])) {
            end++;
        }
        if (end > i) {
            char *start = at;

            if (parse_param(raw + i, end - i, &at, &t->params[t->n_params])) {
                t->n_params++;
            } else {
                t->query_is_bad = true;
                at = start;
            }
        }
        i = end + 1;
    }
}

enum mr_err api_target_parse(const char *raw, size_t len, void *memory,
                             struct api_target *out_target)
{
    struct api_target t = {.params = memory};
    char *texts =
        (char *)memory + count_params(raw, len) * sizeof(struct api_param);

    if ((len == 0 || raw[0] != '/') && skip_authority(&raw, &len) != MR_OK) {
        return MR_E_INVALID;
    }
    const char *mark = len == 0 ? NULL : memchr(raw, '?', len);
    size_t path_len = mark == NULL ? len : (size_t)(mark - raw);

    t.path = texts;
    if (!unescape(raw, path_len, false, t.path, &t.path_len)) {
        return MR_E_INVALID;
    }
    if (t.path_len == 0) {
        memcpy(t.path, "/", 2);
        t.path_len = 1;
    }
    size_t query_len = mark == NULL ? 0 : len - path_len - 1;

    t.raw_query = t.path + t.path_len + 1;
    if (query_len > 0) {
        memcpy(t.raw_query, mark + 1, query_len);
    }
    t.raw_query[query_len] = '\0';
    parse_query(&t, query_len, t.raw_query + query_len + 1);
    *out_target = t;
    return MR_OK;
}

/* ------------------------------------------------------------- the path */

/* Decode one UTF-8 character; 0xFFFD for a byte that is none. */
static uint32_t decode_rune(const uint8_t *s, size_t left, size_t *out_len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80   ? 1
               : s[0] < 0xC2 ? 0
               : s[0] < 0xE0 ? 2
               : s[0] < 0xF0 ? 3
               : s[0] < 0xF5 ? 4
                             : 0;

    *out_len = 1;
    if (n == 1) {
        return s[0];
    }
    if (n == 0 || n > left) {
        return 0xFFFD;
    }
    uint32_t rune = s[0] & (0xFFu >> (n + 1));

    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0xFFFD;
        }
        rune = rune << 6 | (s[i] & 0x3Fu);
    }
    if (rune < least[n] || rune > 0x10FFFF ||
        (rune >= 0xD800 && rune <= 0xDFFF)) {
        return 0xFFFD;
    }
    *out_len = n;
    return rune;
}

/* What Unicode has in the classes C and Z, but for the plain space and what is
 * not assigned. Sorted. */
static const struct {
    uint32_t first;
    uint32_t last;
} unprintable[] = {
    {0x0000, 0x001F},    {0x007F, 0x00A0},   {0x00AD, 0x00AD},
    {0x0600, 0x0605},    {0x061C, 0x061C},   {0x06DD, 0x06DD},
    {0x070F, 0x070F},    {0x08E2, 0x08E2},   {0x1680, 0x1680},
    {0x180E, 0x180E},    {0x2000, 0x200F},   {0x2028, 0x202F},
    {0x205F, 0x206F},    {0x3000, 0x3000},   {0xE000, 0xF8FF},
    {0xFDD0, 0xFDEF},    {0xFEFF, 0xFEFF},   {0xFFF9, 0xFFFB},
    {0xFFFE, 0xFFFF},    {0x110BD, 0x110BD}, {0x110CD, 0x110CD},
    {0x1BCA0, 0x1BCA3},  {0x1D173, 0x1D17A}, {0xE0000, 0xE00FF},
    {0xE01F0, 0x10FFFF},
};

static int compare_range(const void *key, const void *range)
{
    uint32_t rune = *(const uint32_t *)key;
    const uint32_t *r = range;

    return rune < r[0] ? -1 : rune > r[1] ? 1 : 0;
}

bool api_path_printable(const char *path, size_t len)
{
    const uint8_t *s = (const uint8_t *)path;

    for (size_t i = 0; i < len;) {
        if (s[i] >= 0x20 && s[i] < 0x7F) {
            i++;
            continue;
        }
        size_t n;
        uint32_t rune = decode_rune(s + i, len - i, &n);

        if (bsearch(&rune, unprintable, MR_ARRAY_LEN(unprintable),
                    sizeof unprintable[0], compare_range) != NULL) {
            return false;
        }
        i += n;
    }
    return true;
}

bool api_path_is_clean(const char *path, size_t len)
{
    if (len == 0 || path[0] != '/') {
        return false;
    }
    for (size_t i = 0; i + 1 < len; i++) {
        if (path[i] != '/') {
            continue;
        }
        const char *element = path + i + 1;
        size_t left = len - i - 1;
        size_t n_dots = 0;

        while (n_dots < left && n_dots < 3 && element[n_dots] == '.') {
            n_dots++;
        }
        bool ends = n_dots == left || element[n_dots] == '/';

        if (element[0] == '/' || (ends && (n_dots == 1 || n_dots == 2))) {
            return false;
        }
    }
    return true;
}

/* Take the last element off the clean path in @out. */
static void drop_element(struct mr_buf *out, size_t start)
{
    while (out->len > start && out->data[out->len - 1] != '/') {
        out->len--;
    }
    if (out->len > start) {
        out->len--; /* The slash before it. */
    }
}

void api_path_clean(const char *path, size_t len, struct mr_buf *out)
{
    size_t start = out->len;

    for (size_t i = 0; i < len;) {
        size_t end = i;

        while (end < len && path[end] != '/') {
            end++;
        }
        size_t n = end - i;

        if (n == 2 && memcmp(path + i, "..", 2) == 0) {
            drop_element(out, start);
        } else if (n > 0 && !(n == 1 && path[i] == '.')) {
            mr_buf_byte(out, '/');
            mr_buf_add(out, path + i, n);
        }
        i = end + 1;
    }
    if (out->len == start || (len > 0 && path[len - 1] == '/')) {
        mr_buf_byte(out, '/');
    }
}

/* ------------------------------------------------------------- encoding */

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (c != '\0' && strchr("-_.~", c) != NULL);
}

static void escape_byte(char c, struct mr_buf *out)
{
    mr_buf_byte(out, '%');
    mr_buf_byte(out, (uint8_t)hex_upper[(uint8_t)c >> 4]);
    mr_buf_byte(out, (uint8_t)hex_upper[(uint8_t)c & 15]);
}

void api_path_escape(const char *path, size_t len, struct mr_buf *out)
{
    for (size_t i = 0; i < len; i++) {
        char c = path[i];

        if (is_unreserved(c) || (c != '\0' && strchr("$&+,/:;=@", c) != NULL)) {
            mr_buf_byte(out, (uint8_t)c);
        } else {
            escape_byte(c, out);
        }
    }
}

static void query_escape(const char *text, size_t len, struct mr_buf *out)
{
    for (size_t i = 0; i < len; i++) {
        if (is_unreserved(text[i])) {
            mr_buf_byte(out, (uint8_t)text[i]);
        } else if (text[i] == ' ') {
            mr_buf_byte(out, '+');
        } else {
            escape_byte(text[i], out);
        }
    }
}

/* The parameter that comes after @previous in the order of names, those of one
 * name as they were sent; NULL when there is none. */
static const struct api_param *next_sorted(const struct api_param *params,
                                           size_t n_params,
                                           const struct api_param *previous)
{
    const struct api_param *best = NULL;

    for (size_t i = 0; i < n_params; i++) {
        const struct api_param *p = &params[i];
        int order = previous == NULL ? 1 : strcmp(p->name, previous->name);

        if (order < 0 || (order == 0 && p <= previous)) {
            continue;
        }
        if (best == NULL || strcmp(p->name, best->name) < 0) {
            best = p;
        }
    }
    return best;
}

void api_query_encode(const struct api_param *params, size_t n_params,
                      struct mr_buf *out)
{
    const struct api_param *p = NULL;

    while ((p = next_sorted(params, n_params, p)) != NULL) {
        if (out->len > 0) {
            mr_buf_byte(out, '&');
        }
        query_escape(p->name, strlen(p->name), out);
        mr_buf_byte(out, '=');
        query_escape(p->value, p->value_len, out);
    }
}
