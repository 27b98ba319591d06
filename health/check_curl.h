/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl on the runner's loop: transfers of HTTP, gRPC and TCP checks. Every
 * probe has a connection of its own, goes straight to its target whatever the
 * environment says of proxies, follows no redirect and looks names up anew.
 */
#ifndef HEALTH_CHECK_CURL_H
#define HEALTH_CHECK_CURL_H

#include <curl/curl.h>

#include "health/check_impl.h"

/* One transfer. A kind may embed it at the start of its own struct. */
struct check_transfer {
    struct check_probe probe; /* First. */
    CURL *easy;
    struct curl_slist *headers;
    struct mr_buf body; /* At most body_max bytes of it. */
    size_t body_max;
    bool is_cut;   /* There was more, which was not read. */
    bool is_again; /* Set by done: it is one more request, not the end. */
    char error[CURL_ERROR_SIZE];
    /* The transfer is over: tell the result by check_probe_end(), then the
     * struct is freed; or set is_again. */
    void (*done)(struct check_transfer *transfer, CURLcode code);
};

/* Release what all transfers of @runner share, if there were any; its handles
 * are closed on the loop. No transfer is left. */
void check_curl_close(struct mr_checks *runner);

/* A transfer of @size bytes (its struct) for @run, with the options that all
 * have in common; NULL without memory. */
struct check_transfer *check_transfer_new(
    struct check_run *run, size_t size,
    void (*done)(struct check_transfer *transfer, CURLcode code));

/* Add the header @line. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err check_transfer_header(struct check_transfer *transfer,
                                                const char *line);

/* Begin. On failure @transfer is freed. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err check_transfer_start(struct check_transfer *transfer);

/* Free a transfer that was not started. */
void check_transfer_free(struct check_transfer *transfer);

/* Append why there is no answer, in Go's words where it has some: "dial tcp
 * 127.0.0.1:1: connect: connection refused". */
void check_transfer_why(struct check_transfer *transfer, CURLcode code,
                        struct mr_buf *out);

#endif /* HEALTH_CHECK_CURL_H */
