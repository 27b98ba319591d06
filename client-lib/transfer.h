/* SPDX-License-Identifier: Apache-2.0 */
/* One request to one server: the only place that knows the options of libcurl.
 * Used by calls and streams. */
#ifndef MICROREG_TRANSFER_H
#define MICROREG_TRANSFER_H

#include <curl/curl.h>

#include "client.h"

/* What is sent. Borrowed while it runs. */
struct mrg_request {
    const char *method;
    const char *path;
    const char *body;
    size_t body_len;
    bool is_once; /* Must not reach the server twice. */
};

struct mrg_transfer {
    CURL *easy; /* NULL: there is none. */
    struct curl_slist *headers;
    struct curl_slist *routes;
    struct mrg_server *server;
    const char *ca_file; /* Borrowed, or NULL. */
    bool is_once;
    bool was_sent; /* A connection stood, and the request went out. */
    char detail[CURL_ERROR_SIZE];

    int status; /* 0 until the status line has come. */
    uint64_t index;
    uint64_t fence;
};

/* Bytes of the body; false stops the transfer. */
typedef size_t (*mrg_body_cb)(char *bytes, size_t size, size_t n, void *arg);

/* Prepare @t->easy to send @request to @server. @cb gets the body. On success
 * the caller adds it to a multi handle. */
int mrg_transfer_init(struct mrg_transfer *t, struct microreg *client,
                      struct mrg_server *server,
                      const struct mrg_request *request);

/* Where the body goes. */
void mrg_transfer_body(struct mrg_transfer *t, mrg_body_cb cb, void *arg);

/* Free what the request needed; the handle stays for the next. */
void mrg_transfer_reset(struct mrg_transfer *t);

/* Free everything. */
void mrg_transfer_deinit(struct mrg_transfer *t);

/* Our code for curl's. */
int mrg_transfer_error(const struct mrg_transfer *t, CURLcode code);

/* Curl's words for what happened, in one line. Borrowed. */
const char *mrg_transfer_text(struct mrg_transfer *t, CURLcode code);

/* Initialise libcurl, once. */
int mrg_curl_init(void);

#endif /* MICROREG_TRANSFER_H */
