/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that an agent without -server passes on to a server: all whose route
 * is not API_OWN. A read of the local state (API_LOCAL) can be had with ?local.
 */
#ifndef API_FORWARD_H
#define API_FORWARD_H

#include "api/core.h"

struct api_forward;

/* The headers of a request that mean something to a server. */
#define API_PASSED_MAX 7

struct api_passed_headers {
    const char *pairs[2 * API_PASSED_MAX]; /* Name, value, name, value ... */
    size_t n;                              /* Pairs. */
    char client[256];
};

/* Those of @x, which borrow from it and from *@out itself. */
void api_forward_passed(const struct api_http *x,
                        struct api_passed_headers *out);

/* Whether the request, whose route is known, is a server's to answer. */
bool api_forward_wanted(const struct api_http *x);

/* The first step of such a request. */
enum api_step api_forward_start(struct api_http *x);

/* The client of @x went away: end the waiting soon. The park's thread, with its
 * lock. */
void api_forward_cancel(struct api_http *x);

/* The server's header lines ("Name: value\n"), without those that are made
 * here; empty when @x was not passed on. */
struct mr_slice api_forward_headers(const struct api_http *x);

/* Release what the passing on holds. */
void api_forward_release(struct api_http *x);

#endif /* API_FORWARD_H */
