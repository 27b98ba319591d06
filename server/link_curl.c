/* SPDX-License-Identifier: Apache-2.0 */
/* One request in curl's hands. TLS would be set up here, in set_route(). */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "server/link_impl.h"

#define KEEPALIVE_IDLE_S 15L
#define KEEPALIVE_INTERVAL_S 5L
#define HEADER_LINE_MAX 8192

/* ------------------------------------------------------------- callbacks */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct link_transfer *t = arg;

    mr_buf_add(t->answer, data, size * n);
    return mr_buf_failed(t->answer) ? 0 : size * n;
}

/* Of the connection, not of the answer: RFC 9110 §7.6.1. */
static bool is_hop_by_hop(const char *line, size_t len)
{
    static const char *const names[] = {
        "Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length",
        "Date",       "Trailer",    "Upgrade",           "Proxy-Connection",
    };

    for (size_t i = 0; i < MR_ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == len && strncasecmp(names[i], line, len) == 0) {
            return true;
        }
    }
    return false;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct link_transfer *t = arg;
    size_t len = size * n;
    const char *colon = memchr(data, ':', len);

    if (t->answer_headers == NULL) {
        return len;
    }
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        mr_buf_reset(t->answer_headers); /* There was an interim answer. */
    } else if (colon != NULL && len < HEADER_LINE_MAX &&
               !is_hop_by_hop(data, (size_t)(colon - data))) {
        size_t end = len;

        while (end > 0 && (data[end - 1] == '\n' || data[end - 1] == '\r')) {
            end--;
        }
        mr_buf_add(t->answer_headers, data, end);
        mr_buf_byte(t->answer_headers, '\n');
    }
    return len;
}

/* A connection is there and the request is about to leave. curl sends it again
 * by itself when a connection that was kept open turns out to be dead; one that
 * must not be repeated ends instead. */
static int on_send(void *arg, char *ip, char *local_ip, int port,
                   int local_port)
{
    struct link_transfer *t = arg;
    bool is_again = t->is_sent;

    (void)ip;
    (void)local_ip;
    (void)port;
    (void)local_port;
    t->is_sent = true;
    return is_again && t->sends_once ? CURL_PREREQFUNC_ABORT
                                     : CURL_PREREQFUNC_OK;
}

/* ------------------------------------------------------------- setting up */

static bool add_header(struct link_transfer *t, const char *line)
{
    struct curl_slist *grown = curl_slist_append(t->headers, line);

    if (grown == NULL) {
        return false;
    }
    t->headers = grown;
    return true;
}

static bool add_pair(struct link_transfer *t, const char *name,
                     const char *value)
{
    struct mr_buf line = MR_BUF_INIT;
    bool ok;

    mr_buf_printf(&line, "%s: %s", name, value);
    ok = !mr_buf_failed(&line) && add_header(t, mr_buf_cstr(&line));
    mr_buf_deinit(&line);
    return ok;
}

static bool set_headers(struct link_transfer *t,
                        const struct link_request *what)
{
    bool has_type = false;
    bool ok = add_header(t, "Expect:");

    for (size_t i = 0; ok && i < what->n_headers; i++) {
        has_type =
            has_type || strcasecmp(what->headers[2 * i], "Content-Type") == 0;
        ok = add_pair(t, what->headers[2 * i], what->headers[2 * i + 1]);
    }
    if (ok && !has_type) {
        ok = add_header(t, "Content-Type:"); /* curl would make one up. */
    }
    ok = ok && add_pair(t, "X-Microreg-Agent", t->link->options.node_name);
    if (ok && t->link->cluster[0] != '\0') {
        ok = add_pair(t, "X-Microreg-Cluster", t->link->cluster);
    }
    return ok && curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers) ==
                     CURLE_OK;
}

/* Where it goes and how long it may take. */
static bool set_route(struct link_transfer *t, const struct link_request *what)
{
    struct mr_buf url = MR_BUF_INIT;
    CURL *e = t->easy;
    bool ok;

    mr_buf_printf(&url, "http://%s%s", what->address, what->target);
    ok = !mr_buf_failed(&url) &&
         curl_easy_setopt(e, CURLOPT_URL, mr_buf_cstr(&url)) == CURLE_OK &&
         curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK &&
         curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK &&
         curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
                          (long)LINK_CONNECT_MS) == CURLE_OK &&
         curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)what->timeout_ms) ==
             CURLE_OK;
    mr_buf_deinit(&url);
    return ok;
}

static bool set_method(struct link_transfer *t, const struct link_request *what)
{
    CURL *e = t->easy;
    bool is_get = strcmp(what->method, "GET") == 0;

    if (is_get) {
        return true;
    }
    return curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
                            (curl_off_t)what->body.len) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTFIELDS,
                            what->body.len == 0 ? "" : what->body.data) ==
               CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, what->method) == CURLE_OK;
}

/* These fail only when curl was built without the feature. */
static void set_rest(struct link_transfer *t)
{
    CURL *e = t->easy;

    (void)curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                           (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    (void)curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    (void)curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    (void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error);
    (void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_send);
    (void)curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
}

static void release(struct link_transfer *t)
{
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    curl_easy_cleanup(t->easy);
    t->easy = NULL;
}

enum mr_err link_transfer_begin(struct link_transfer *t,
                                const struct link_request *what)
{
    t->easy = curl_easy_init();
    t->headers = NULL;
    t->is_sent = false;
    t->error[0] = '\0';
    if (t->easy == NULL) {
        return MR_E_NOMEM;
    }
    set_rest(t);
    if (!set_route(t, what) || !set_method(t, what) || !set_headers(t, what) ||
        curl_multi_add_handle(t->link->multi, t->easy) != CURLM_OK) {
        release(t);
        return MR_E_NOMEM;
    }
    return MR_OK;
}

void link_transfer_abort(struct link_transfer *t)
{
    if (t->easy != NULL) {
        /* It is in there. */
        (void)curl_multi_remove_handle(t->link->multi, t->easy);
        release(t);
    }
}

void link_transfers_end(struct server_link *link)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(link->multi, &left)) != NULL) {
        CURLcode code = msg->data.result;
        CURL *easy = msg->easy_handle;
        struct link_transfer *t = NULL;

        (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
        if (t->error[0] == '\0' && code != CURLE_OK) {
            (void)snprintf(t->error, sizeof t->error, "%s",
                           curl_easy_strerror(code));
        }
        t->ended(t, code);
    }
}
