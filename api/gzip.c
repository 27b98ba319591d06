/* SPDX-License-Identifier: Apache-2.0 */
/* Compressing an answer with zlib, whose errors stop here. */
#include "api/gzip.h"

#include <limits.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

/* A window of 8 KiB and little memory: 96 KiB a thread instead of 268, for a
 * few percent of size on JSON. 16 asks zlib for gzip's frame. */
#define WINDOW_BITS (13 + 16)
#define MEMORY_LEVEL 7
#define LEVEL 1 /* Speed: the network is near. */

static _Thread_local struct {
    z_stream stream;
    bool is_ready;
} worker;

static bool prepare(void)
{
    if (worker.is_ready) {
        return deflateReset(&worker.stream) == Z_OK;
    }
    worker.stream = (z_stream){0};
    worker.is_ready =
        deflateInit2(&worker.stream, LEVEL, Z_DEFLATED, WINDOW_BITS,
                     MEMORY_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
    return worker.is_ready;
}

enum mr_err api_gzip(struct mr_slice plain, struct mr_buf *out)
{
    if (plain.len > UINT_MAX || !prepare()) {
        return MR_E_NOMEM;
    }
    uLong bound = deflateBound(&worker.stream, (uLong)plain.len);
    uint8_t *at = mr_buf_grow(out, bound);

    if (at == NULL) {
        return MR_E_NOMEM;
    }
    /* zlib never writes through next_in. */
    worker.stream.next_in = (Bytef *)(uintptr_t)plain.data;
    worker.stream.avail_in = (uInt)plain.len;
    worker.stream.next_out = at;
    worker.stream.avail_out = (uInt)bound;
    if (deflate(&worker.stream, Z_FINISH) != Z_STREAM_END) {
        out->len -= bound;
        return MR_E_NOMEM;
    }
    out->len -= worker.stream.avail_out;
    return MR_OK;
}

void api_gzip_release(void)
{
    if (worker.is_ready) {
        deflateEnd(&worker.stream);
        worker.is_ready = false;
    }
}

bool api_accepts_gzip(const char *value)
{
    while (value != NULL && *value != '\0') {
        size_t len = strcspn(value, ",");
        size_t skip = strspn(value, " \t");
        const char *name = value + skip;
        size_t name_len = strcspn(name, " \t;,");

        if (name_len == 4 && strncasecmp(name, "gzip", 4) == 0) {
            const char *q = memchr(value, '=', len);

            /* Any q but 0, 0.0, 0.00 ... */
            return q == NULL ||
                   strspn(q + 1, "0. ") < len - (size_t)(q + 1 - value);
        }
        value += len;
        value += *value == ',';
    }
    return false;
}
