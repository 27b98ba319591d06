/* SPDX-License-Identifier: Apache-2.0 */
/* Tags of go-micro's consul plugin; zlib's errors stop here. */
#include "api/registry_tags.h"

#include <string.h>
#include <zlib.h>

/* ------------------------------------------------------------- writing */

static const char hex_digits[] = "0123456789abcdef";

/* Write each of the @len bytes at @from as two digits at @to, which may hold
 * them in its second half. */
static void write_hex(uint8_t *to, const uint8_t *from, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = from[i];

        to[2 * i] = (uint8_t)hex_digits[byte >> 4];
        to[2 * i + 1] = (uint8_t)hex_digits[byte & 15];
    }
}

void registry_tag_put(struct mr_buf *out, enum registry_tag kind,
                      struct mr_slice plain)
{
    uLongf len;
    uint8_t *at;

    if (plain.len > REGISTRY_TAG_MAX) {
        out->failed = true;
        return;
    }
    mr_buf_byte(out, (uint8_t)kind);
    mr_buf_byte(out, '-');
    len = compressBound((uLong)plain.len);
    at = mr_buf_grow(out, 2 * (size_t)len);
    if (at == NULL) {
        return;
    }
    /* Compressed into the second half, which the digits reach last. */
    uint8_t *packed = at + len;
    size_t room = 2 * (size_t)len;

    if (compress2(packed, &len, plain.data, (uLong)plain.len,
                  Z_DEFAULT_COMPRESSION) != Z_OK) {
        out->failed = true;
        return;
    }
    write_hex(at, packed, len);
    out->len -= room - 2 * (size_t)len;
}

/* ------------------------------------------------------------- reading */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The bytes that the digits of @text stand for, at most @cap, at @out; false:
 * these are no pairs of digits. */
static bool read_hex(const char **text, uint8_t *out, size_t cap,
                     size_t *out_len)
{
    const char *at = *text;
    size_t n = 0;

    for (; n < cap && at[0] != '\0'; n++, at += 2) {
        int high = hex_value(at[0]);
        int low = hex_value(at[1]);

        if (high < 0 || low < 0) {
            return false;
        }
        out[n] = (uint8_t)(high << 4 | low);
    }
    *text = at;
    *out_len = n;
    return true;
}

/* Give the stream what it asks for until it ends: true, with everything in
 * @out, which has a limit. */
static bool inflate_all(z_stream *stream, const char *digits,
                        struct mr_buf *out)
{
    uint8_t in[512];
    uint8_t plain[2048];
    int code = Z_OK;

    while (code == Z_OK && !mr_buf_failed(out)) {
        if (stream->avail_in == 0) {
            size_t len;

            if (!read_hex(&digits, in, sizeof in, &len) || len == 0) {
                return false;
            }
            stream->next_in = in;
            stream->avail_in = (uInt)len;
        }
        stream->next_out = plain;
        stream->avail_out = sizeof plain;
        code = inflate(stream, Z_NO_FLUSH);
        mr_buf_add(out, plain, sizeof plain - stream->avail_out);
    }
    return code == Z_STREAM_END && !mr_buf_failed(out);
}

static bool inflate_hex(const char *digits, struct mr_buf *out)
{
    z_stream stream = {0};
    bool is_whole;

    if (inflateInit(&stream) != Z_OK) {
        return false;
    }
    is_whole = inflate_all(&stream, digits, out);
    (void)inflateEnd(&stream); /* Only a damaged stream struct fails. */
    return is_whole;
}

char registry_tag_form(const char *tag, enum registry_tag kind)
{
    return tag[0] == (char)kind && (tag[1] == '-' || tag[1] == '=') ? tag[1]
                                                                    : '\0';
}

bool registry_tag_get(const char *tag, struct mr_buf *out)
{
    size_t limit = out->limit;
    bool is_whole = true;

    mr_buf_reset(out);
    out->limit = REGISTRY_TAG_MAX;
    if (tag[1] == '=') {
        mr_buf_str(out, tag + 2);
    } else {
        is_whole = inflate_hex(tag + 2, out);
    }
    is_whole = is_whole && !mr_buf_failed(out);
    out->limit = limit;
    if (!is_whole) {
        mr_buf_reset(out);
    }
    return is_whole;
}
