/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request target: from the bytes of the request line to a decoded path and
 * query parameters, as Go's net/url and ServeMux read them. Pure functions.
 */
#ifndef API_TARGET_H
#define API_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "api/http.h"
#include "base/buf.h"
#include "base/err.h"

struct api_target {
    char *path; /* Decoded, NUL-terminated; may hold more NULs. */
    size_t path_len;
    char *raw_query; /* As sent, NUL-terminated; "" when absent. */
    struct api_param *params;
    size_t n_params;
    bool query_is_bad; /* A bad escape in the query: params holds the rest. */
};

/* Bytes of memory that api_target_parse() needs for a target of @len bytes. */
size_t api_target_size(const char *raw, size_t len);

/* Parse the target @raw of @len bytes. Everything in *@out_target lies in
 * @memory, which has api_target_size() bytes and is aligned for pointers.
 *
 * MR_E_INVALID: neither a path nor an absolute http URL, or a bad escape in the
 * path. */
MR_MUST_CHECK enum mr_err api_target_parse(const char *raw, size_t len,
                                           void *memory,
                                           struct api_target *out_target);

/* Whether every character of the UTF-8 text is printable as Go's
 * unicode.IsPrint has it; bytes that are no UTF-8 count as printable. */
bool api_path_printable(const char *path, size_t len);

/* Whether @path is as ServeMux wants it: no empty, "." or ".." element. */
bool api_path_is_clean(const char *path, size_t len);

/* Append the clean form of @path to @out: elements resolved, a trailing slash
 * kept. */
void api_path_clean(const char *path, size_t len, struct mr_buf *out);

/* Append @path with the escapes that a URL's path needs (Go's EscapedPath). */
void api_path_escape(const char *path, size_t len, struct mr_buf *out);

/* Append the parameters sorted by name and encoded (Go's Values.Encode). */
void api_query_encode(const struct api_param *params, size_t n_params,
                      struct mr_buf *out);

#endif /* API_TARGET_H */
