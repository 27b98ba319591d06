/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that grow. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

#define TEXT_FIRST_SIZE ((size_t)128)

/* Make room for @more bytes and a NUL. */
static bool reserve(struct mrg_text *text, size_t more)
{
    size_t size = text->size;
    char *data;

    if (text->failed || more > text->limit || text->len > text->limit - more) {
        text->failed = true;
        return false;
    }
    if (text->len + more < size) {
        return true;
    }
    while (size <= text->len + more) {
        size = size == 0 ? TEXT_FIRST_SIZE : size * 2;
    }
    data = mrg_realloc(text->data, size);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->size = size;
    return true;
}

void mrg_text_add(struct mrg_text *text, const char *bytes, size_t len)
{
    if (reserve(text, len)) {
        if (len > 0) {
            memcpy(text->data + text->len, bytes, len);
        }
        text->len += len;
        text->data[text->len] = '\0';
    }
}

void mrg_text_str(struct mrg_text *text, const char *string)
{
    mrg_text_add(text, string, strlen(string));
}

void mrg_text_byte(struct mrg_text *text, char byte)
{
    mrg_text_add(text, &byte, 1);
}

void mrg_text_vprintf(struct mrg_text *text, const char *format, va_list args)
{
    va_list again;
    int len;

    va_copy(again, args);
    len = vsnprintf(NULL, 0, format, args);
    if (len < 0) {
        text->failed = true;
    } else if (reserve(text, (size_t)len)) {
        (void)vsnprintf(text->data + text->len, (size_t)len + 1, format, again);
        text->len += (size_t)len;
    }
    va_end(again);
}

void mrg_text_printf(struct mrg_text *text, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    mrg_text_vprintf(text, format, args);
    va_end(args);
}

/* RFC 3986, 2.3: what needs no escape anywhere. */
static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
           c == '~';
}

void mrg_text_url(struct mrg_text *text, const char *string, bool keep_slashes)
{
    static const char digits[] = "0123456789ABCDEF";

    for (const char *at = string; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;

        if (is_unreserved(*at) || (keep_slashes && *at == '/')) {
            mrg_text_byte(text, *at);
        } else {
            char escaped[3] = {'%', digits[byte >> 4], digits[byte & 15]};

            mrg_text_add(text, escaped, sizeof escaped);
        }
    }
}

/* The short escape of a byte in a JSON string, or 0. */
static char short_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
        return c;
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

void mrg_text_json(struct mrg_text *text, const char *string, size_t len)
{
    size_t plain = 0; /* What is before it has been added. */

    mrg_text_byte(text, '"');
    for (size_t i = 0; i < len; i++) {
        char escape = short_escape(string[i]);

        if (escape == 0 && (unsigned char)string[i] >= 0x20) {
            continue;
        }
        mrg_text_add(text, string + plain, i - plain);
        plain = i + 1;
        if (escape != 0) {
            mrg_text_byte(text, '\\');
            mrg_text_byte(text, escape);
        } else {
            mrg_text_printf(text, "\\u%04x", (unsigned)string[i]);
        }
    }
    mrg_text_add(text, string + plain, len - plain);
    mrg_text_byte(text, '"');
}

void mrg_text_cut(struct mrg_text *text, size_t len)
{
    if (len >= text->len) {
        mrg_text_clear(text);
    } else if (len > 0) {
        text->len -= len;
        memmove(text->data, text->data + len, text->len + 1);
    }
}

void mrg_text_clear(struct mrg_text *text)
{
    text->len = 0;
    if (text->data != NULL) {
        text->data[0] = '\0';
    }
    text->failed = false;
}

char *mrg_text_take(struct mrg_text *text, size_t *out_len)
{
    char *data;

    mrg_text_add(text, "", 0); /* So that it has its NUL. */
    if (text->failed) {
        return NULL;
    }
    data = text->data;
    *out_len = text->len;
    text->data = NULL;
    text->len = text->size = 0;
    return data;
}

void mrg_text_deinit(struct mrg_text *text)
{
    mrg_free(text->data);
    text->data = NULL;
    text->len = text->size = 0;
}

/* The length of the UTF-8 sequence at @s, 0 if it is none. RFC 3629, 4. */
static size_t sequence_length(const unsigned char *s, size_t left)
{
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] < 0xc2 || s[0] > 0xf4 || len > left) {
        return 0;
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

bool mrg_is_utf8(const char *bytes, size_t len)
{
    const unsigned char *s = (const unsigned char *)bytes;

    for (size_t at = 0; at < len;) {
        size_t n = sequence_length(s + at, len - at);

        if (n == 0) {
            return false;
        }
        at += n;
    }
    return true;
}
