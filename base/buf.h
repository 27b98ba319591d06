/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte buffer with a sticky failure: after the first allocation that
 * fails, or the first byte beyond the limit, every further call does nothing
 * and the one check at the end (mr_buf_failed) reports it.
 */
#ifndef MR_BASE_BUF_H
#define MR_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct mr_buf {
    uint8_t *data; /* Owned. NULL while nothing was written. */
    size_t len;
    size_t cap;
    size_t limit; /* Never longer than this; 0 is no limit. */
    bool failed;
};

#define MR_BUF_INIT                                                            \
    {                                                                          \
        NULL, 0, 0, 0, false                                                   \
    }

/* Make @b empty with a limit of @limit bytes (0: none). No allocation. */
void mr_buf_init(struct mr_buf *b, size_t limit);

/* Release the memory and leave an empty buffer that can be used again. */
void mr_buf_deinit(struct mr_buf *b);

/* Forget the contents and the failure, keep the memory. */
void mr_buf_reset(struct mr_buf *b);

/* Append @len bytes. @data may be NULL when @len is 0. */
void mr_buf_add(struct mr_buf *b, const void *data, size_t len);

/* Append a text without its NUL. */
void mr_buf_str(struct mr_buf *b, const char *s);

/* Append one byte. */
void mr_buf_byte(struct mr_buf *b, uint8_t byte);

/* Append formatted text. */
void mr_buf_printf(struct mr_buf *b, const char *fmt, ...) MR_PRINTF(2, 3);

/* Append the decimal digits of @n. */
void mr_buf_u64(struct mr_buf *b, uint64_t n);

/* Append @len uninitialised bytes and return them, or NULL after a failure.
 * Valid until the next call that appends. */
uint8_t *mr_buf_grow(struct mr_buf *b, size_t len);

/* Append integers in big-endian order. */
void mr_buf_be16(struct mr_buf *b, uint16_t n);
/* As mr_buf_be16(), 32 bits. */
void mr_buf_be32(struct mr_buf *b, uint32_t n);
/* As mr_buf_be16(), 64 bits. */
void mr_buf_be64(struct mr_buf *b, uint64_t n);

/* Whether something did not fit or could not be allocated. */
bool mr_buf_failed(const struct mr_buf *b);

/* The contents, borrowed until the next call that changes @b. */
struct mr_slice mr_buf_slice(const struct mr_buf *b);

/* The contents as a text with a NUL behind it, borrowed; "" after a failure. */
const char *mr_buf_cstr(struct mr_buf *b);

/* Hand the memory to the caller (mr_free) and leave @b empty. NULL when @b
 * failed or is empty; *@out_len is then 0. */
uint8_t *mr_buf_take(struct mr_buf *b, size_t *out_len);

#endif /* MR_BASE_BUF_H */
