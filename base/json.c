/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON writer: escapes as Go's encoding/json does with HTML escaping on. */
#include "base/json.h"

#include <string.h>

static const char hex[] = "0123456789abcdef";

void mr_json_init(struct mr_json *j, struct mr_buf *out)
{
    j->out = out;
    j->need_comma = false;
}

/* What stands before a value: a comma unless it is its level's first, or the
 * value of a key. */
static void begin_value(struct mr_json *j)
{
    if (j->need_comma) {
        mr_buf_byte(j->out, ',');
    }
    j->need_comma = true;
}

static void open_level(struct mr_json *j, char bracket)
{
    begin_value(j);
    mr_buf_byte(j->out, (uint8_t)bracket);
    j->need_comma = false;
}

static void close_level(struct mr_json *j, char bracket)
{
    mr_buf_byte(j->out, (uint8_t)bracket);
    j->need_comma = true;
}

void mr_json_object(struct mr_json *j)
{
    open_level(j, '{');
}

void mr_json_object_end(struct mr_json *j)
{
    close_level(j, '}');
}

void mr_json_array(struct mr_json *j)
{
    open_level(j, '[');
}

void mr_json_array_end(struct mr_json *j)
{
    close_level(j, ']');
}

/* Length of the valid UTF-8 sequence at @s, or 0 (RFC 3629 §4). */
static size_t utf8_len(const uint8_t *s, size_t left)
{
    static const struct {
        uint8_t first_min, first_max, second_min, second_max, len;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
        {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t len = forms[i].len;

        if (s[0] < forms[i].first_min || s[0] > forms[i].first_max) {
            continue;
        }
        if (left < len || s[1] < forms[i].second_min ||
            s[1] > forms[i].second_max) {
            return 0;
        }
        for (size_t k = 2; k < len; k++) {
            if ((s[k] & 0xc0) != 0x80) {
                return 0;
            }
        }
        return len;
    }
    return 0;
}

static void escape_ascii(struct mr_buf *out, uint8_t c)
{
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

    switch (c) {
    case '"':
    case '\\':
        text[1] = (char)c;
        mr_buf_add(out, text, 2);
        break;
    case '\n':
        mr_buf_str(out, "\\n");
        break;
    case '\r':
        mr_buf_str(out, "\\r");
        break;
    case '\t':
        mr_buf_str(out, "\\t");
        break;
    default:
        mr_buf_add(out, text, sizeof text);
        break;
    }
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' &&
           c != '>' && c != '&';
}

/* One character at @s that is not plain; returns its length. */
static size_t write_special(struct mr_buf *out, const uint8_t *s, size_t left)
{
    size_t len;

    if (s[0] < 0x80) {
        escape_ascii(out, s[0]);
        return 1;
    }
    len = utf8_len(s, left);
    if (len == 0) {
        mr_buf_str(out, "\\ufffd");
        return 1;
    }
    if (len == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] & 0xfe) == 0xa8) {
        mr_buf_str(out, s[2] == 0xa8 ? "\\u2028" : "\\u2029");
    } else {
        mr_buf_add(out, s, len);
    }
    return len;
}

static void write_string(struct mr_buf *out, const uint8_t *s, size_t len)
{
    size_t i = 0;

    mr_buf_byte(out, '"');
    while (i < len) {
        size_t start = i;

        while (i < len && is_plain(s[i])) {
            i++;
        }
        mr_buf_add(out, s + start, i - start);
        if (i < len) {
            i += write_special(out, s + i, len - i);
        }
    }
    mr_buf_byte(out, '"');
}

void mr_json_key(struct mr_json *j, const char *key)
{
    begin_value(j);
    write_string(j->out, (const uint8_t *)key, strlen(key));
    mr_buf_byte(j->out, ':');
    j->need_comma = false;
}

void mr_json_strn(struct mr_json *j, const char *s, size_t len)
{
    begin_value(j);
    write_string(j->out, (const uint8_t *)s, len);
}

void mr_json_str(struct mr_json *j, const char *s)
{
    mr_json_strn(j, s, s == NULL ? 0 : strlen(s));
}

void mr_json_u64(struct mr_json *j, uint64_t n)
{
    begin_value(j);
    mr_buf_u64(j->out, n);
}

void mr_json_i64(struct mr_json *j, int64_t n)
{
    begin_value(j);
    if (n < 0) {
        mr_buf_byte(j->out, '-');
    }
    mr_buf_u64(j->out, n < 0 ? -(uint64_t)n : (uint64_t)n);
}

void mr_json_bool(struct mr_json *j, bool value)
{
    begin_value(j);
    mr_buf_str(j->out, value ? "true" : "false");
}

void mr_json_null(struct mr_json *j)
{
    begin_value(j);
    mr_buf_str(j->out, "null");
}

void mr_json_base64(struct mr_json *j, struct mr_slice bytes)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = bytes.data;
    size_t left = bytes.len;
    uint8_t *at;

    begin_value(j);
    mr_buf_byte(j->out, '"');
    at = mr_buf_grow(j->out, (bytes.len + 2) / 3 * 4);
    for (; at != NULL && left > 0; in += 3, at += 4) {
        uint32_t n = (uint32_t)in[0] << 16;

        n |= left > 1 ? (uint32_t)in[1] << 8 : 0;
        n |= left > 2 ? in[2] : 0;
        at[0] = (uint8_t)digits[n >> 18];
        at[1] = (uint8_t)digits[n >> 12 & 63];
        at[2] = (uint8_t)(left > 1 ? digits[n >> 6 & 63] : '=');
        at[3] = (uint8_t)(left > 2 ? digits[n & 63] : '=');
        left -= left > 3 ? 3 : left;
    }
    mr_buf_byte(j->out, '"');
}

void mr_json_raw(struct mr_json *j, struct mr_slice json)
{
    begin_value(j);
    mr_buf_add(j->out, json.data, json.len);
}

void mr_json_kstr(struct mr_json *j, const char *key, const char *s)
{
    mr_json_key(j, key);
    mr_json_str(j, s);
}

void mr_json_ku64(struct mr_json *j, const char *key, uint64_t n)
{
    mr_json_key(j, key);
    mr_json_u64(j, n);
}

void mr_json_ki64(struct mr_json *j, const char *key, int64_t n)
{
    mr_json_key(j, key);
    mr_json_i64(j, n);
}

void mr_json_kbool(struct mr_json *j, const char *key, bool value)
{
    mr_json_key(j, key);
    mr_json_bool(j, value);
}

static void new_line(struct mr_buf *out, unsigned depth, unsigned indent)
{
    mr_buf_byte(out, '\n');
    for (unsigned i = 0; i < depth * indent; i++) {
        mr_buf_byte(out, ' ');
    }
}

/* Copy the string that begins at @s and return its length, quotes included. */
static size_t copy_string(struct mr_buf *out, const char *s, size_t left)
{
    size_t i = 1;

    while (i < left && s[i] != '"') {
        i += s[i] == '\\' ? 2 : 1;
    }
    i = i < left ? i + 1 : left;
    mr_buf_add(out, s, i);
    return i;
}

void mr_json_indent(struct mr_buf *out, struct mr_slice json, unsigned indent)
{
    const char *s = json.data;
    unsigned depth = 0;

    for (size_t i = 0; i < json.len; i++) {
        char c = s[i];
        bool is_empty =
            i + 1 < json.len && (s[i + 1] == '}' || s[i + 1] == ']');

        if (c == '"') {
            i += copy_string(out, s + i, json.len - i) - 1;
        } else if ((c == '{' || c == '[') && is_empty) {
            mr_buf_add(out, s + i, 2);
            i++;
        } else if (c == '{' || c == '[') {
            mr_buf_byte(out, (uint8_t)c);
            new_line(out, ++depth, indent);
        } else if (c == '}' || c == ']') {
            new_line(out, --depth, indent);
            mr_buf_byte(out, (uint8_t)c);
        } else if (c == ',') {
            mr_buf_byte(out, ',');
            new_line(out, depth, indent);
        } else {
            mr_buf_byte(out, (uint8_t)c);
            if (c == ':') {
                mr_buf_byte(out, ' ');
            }
        }
    }
    mr_buf_byte(out, '\n');
}
