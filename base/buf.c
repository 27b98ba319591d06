/* SPDX-License-Identifier: Apache-2.0 */
/* The growing buffer: doubles, and fails once for all. */
#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define BUF_CAP_MIN 64

void mr_buf_init(struct mr_buf *b, size_t limit)
{
    *b = (struct mr_buf)MR_BUF_INIT;
    b->limit = limit;
}

void mr_buf_deinit(struct mr_buf *b)
{
    mr_free(b->data);
    mr_buf_init(b, b->limit);
}

void mr_buf_reset(struct mr_buf *b)
{
    b->len = 0;
    b->failed = false;
}

/* Make room for @len more bytes; false, and failed, when there is none. */
static bool reserve(struct mr_buf *b, size_t len)
{
    size_t cap = b->cap < BUF_CAP_MIN ? BUF_CAP_MIN : b->cap;
    uint8_t *data;

    if (b->failed) {
        return false;
    }
    if (len <= b->cap - b->len && (b->limit == 0 || b->len + len <= b->limit)) {
        return true;
    }
    if (len > SIZE_MAX / 2 - b->len ||
        (b->limit != 0 && b->len + len > b->limit)) {
        b->failed = true;
        return false;
    }
    while (cap < b->len + len) {
        cap *= 2;
    }
    data = mr_realloc(b->data, cap);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

uint8_t *mr_buf_grow(struct mr_buf *b, size_t len)
{
    uint8_t *at;

    if (!reserve(b, len)) {
        return NULL;
    }
    at = b->data + b->len;
    b->len += len;
    return at;
}

void mr_buf_add(struct mr_buf *b, const void *data, size_t len)
{
    uint8_t *at;

    if (len == 0) {
        return;
    }
    at = mr_buf_grow(b, len);
    if (at != NULL) {
        memcpy(at, data, len);
    }
}

void mr_buf_str(struct mr_buf *b, const char *s)
{
    mr_buf_add(b, s, strlen(s));
}

void mr_buf_byte(struct mr_buf *b, uint8_t byte)
{
    mr_buf_add(b, &byte, 1);
}

void mr_buf_printf(struct mr_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_list again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
    } else if (reserve(b, (size_t)n + 1)) {
        (void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void mr_buf_u64(struct mr_buf *b, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    mr_buf_add(b, digits + at, sizeof digits - at);
}

void mr_buf_be16(struct mr_buf *b, uint16_t n)
{
    uint8_t bytes[2] = {(uint8_t)(n >> 8), (uint8_t)n};

    mr_buf_add(b, bytes, sizeof bytes);
}

void mr_buf_be32(struct mr_buf *b, uint32_t n)
{
    mr_buf_be16(b, (uint16_t)(n >> 16));
    mr_buf_be16(b, (uint16_t)n);
}

void mr_buf_be64(struct mr_buf *b, uint64_t n)
{
    mr_buf_be32(b, (uint32_t)(n >> 32));
    mr_buf_be32(b, (uint32_t)n);
}

bool mr_buf_failed(const struct mr_buf *b)
{
    return b->failed;
}

struct mr_slice mr_buf_slice(const struct mr_buf *b)
{
    return mr_slice(b->data, b->len);
}

const char *mr_buf_cstr(struct mr_buf *b)
{
    if (!reserve(b, 1)) {
        return "";
    }
    b->data[b->len] = '\0';
    return (const char *)b->data;
}

uint8_t *mr_buf_take(struct mr_buf *b, size_t *out_len)
{
    uint8_t *data = NULL;

    *out_len = 0;
    if (b->failed) {
        mr_buf_deinit(b);
        return NULL;
    }
    data = b->data;
    *out_len = b->len;
    mr_buf_init(b, b->limit);
    return data;
}
