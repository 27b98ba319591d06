/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the row of the route table that answers a path. */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "api/http.h"

/* The rows of one path. */
struct api_match {
    const struct api_route *rows; /* NULL: unknown path. */
    size_t n_rows;
    size_t prefix_len; /* Where the argument begins. */
    bool add_slash;    /* The path is a prefix without its slash: redirect. */
};

/* Find the rows for the decoded path @path of @len bytes: an exact row wins,
 * then the longest prefix. Any thread. */
struct api_match api_route_find(const char *path, size_t len);

/* The row of @match for @method, or NULL: the method is not allowed. */
const struct api_route *api_route_method(const struct api_match *match,
                                         const char *method);

/* The value of Allow for @match: "OPTIONS,GET,PUT". @cap of 64 is enough. */
void api_route_allow(const struct api_match *match, char *out, size_t cap);

#endif /* API_ROUTES_H */
