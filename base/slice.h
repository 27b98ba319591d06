/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slice: borrowed bytes, pointer and length. All bytes from outside travel
 * as slices; they need not be text and need not end in NUL.
 */
#ifndef MR_BASE_SLICE_H
#define MR_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct mr_slice {
    const void *data;
    size_t len;
};

/* The slice of @len bytes at @data. */
static inline struct mr_slice mr_slice(const void *data, size_t len)
{
    return (struct mr_slice){data, len};
}

/* The slice of the text @s without its NUL; NULL gives the empty slice. */
static inline struct mr_slice mr_slice_str(const char *s)
{
    return (struct mr_slice){s, s == NULL ? 0 : strlen(s)};
}

/* Whether both hold the same bytes. */
static inline bool mr_slice_eq(struct mr_slice a, struct mr_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Whether @s begins with @prefix. */
static inline bool mr_slice_has_prefix(struct mr_slice s,
                                       struct mr_slice prefix)
{
    return s.len >= prefix.len &&
           (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

#endif /* MR_BASE_SLICE_H */
