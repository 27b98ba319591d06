/* SPDX-License-Identifier: Apache-2.0 */
/* One request to one server. */
#include "transfer.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* A server that takes longer than this to accept a connection is not there. */
#define CONNECT_TIMEOUT_MS 1000L
#define RECEIVE_BUFFER 8192L
#define IDLE_CONNECTION_S 60L
#define DNS_CACHE_S 5L

#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0 /* Not everywhere. */
#endif

#if LIBCURL_VERSION_NUM < 0x075000
#error "libcurl 7.80 or later is needed (CURLOPT_PREREQFUNCTION)"
#endif

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_state;

static void init_curl(void)
{
    curl_state = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int mrg_curl_init(void)
{
    (void)pthread_once(&curl_once, init_curl);
    return curl_state == CURLE_OK ? MICROREG_OK : MICROREG_E_NOMEM;
}

/* ------------------------------------------------------------- callbacks */

/* The value of the header @name if @line is that one, else NULL. */
static const char *header_value(const char *line, size_t len, const char *name)
{
    size_t n = strlen(name);

    if (len <= n + 1 || line[n] != ':' || strncasecmp(line, name, n) != 0) {
        return NULL;
    }
    return line + n + 1;
}

/* The number behind the spaces; the header's line break ends it. */
static uint64_t header_number(const char *value)
{
    uint64_t number = 0;

    while (*value == ' ') {
        value++;
    }
    for (; *value >= '0' && *value <= '9'; value++) {
        number = number * 10 + (uint64_t)(*value - '0');
    }
    return number;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct mrg_transfer *t = arg;
    const char *value;
    long status = 0;

    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->status = (int)status;
    if (size * n < 3 || line[size * n - 1] != '\n') {
        return size * n;
    }
    value = header_value(line, n, "X-Microreg-Index");
    if (value == NULL && t->index == 0) {
        value = header_value(line, n, "X-Consul-Index");
    }
    if (value != NULL) {
        t->index = header_number(value);
    }
    value = header_value(line, n, "X-Microreg-Fence");
    if (value != NULL) {
        t->fence = header_number(value);
    }
    return size * n;
}

/* Called just before the request goes out; for the second time when curl found
 * the connection dead and sends it once more. */
static int on_sending(void *arg, char *remote_ip, char *local_ip,
                      int remote_port, int local_port)
{
    struct mrg_transfer *t = arg;

    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    if (t->was_sent && t->is_once) {
        return CURL_PREREQFUNC_ABORT;
    }
    t->was_sent = true;
    return CURL_PREREQFUNC_OK;
}

/* Programs that the user's program starts do not get our connections: a server
 * would not notice that we have gone. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose,
                               struct curl_sockaddr *address)
{
    (void)arg;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC,
                  address->protocol);
}

/* ------------------------------------------------------------- options */

static void set_tls(CURL *easy, const struct microreg_options *o)
{
    if (o->ca_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, o->ca_file);
    }
    if (o->cert_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_SSLCERT, o->cert_file);
    }
    if (o->key_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_SSLKEY, o->key_file);
    }
    if (o->insecure) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

/* All options that depend neither on the server nor on the request. */
static void set_common(struct mrg_transfer *t)
{
    CURL *easy = t->easy;

    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    /* What is asked for is what the program says, and no other path. */
    (void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Do not wait for the thread that resolves a name, when nobody else does. */
    (void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER);
    (void)curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_CONNECTION_S);
    (void)curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT,
                           "libmicroreg/" MICROREG_VERSION);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_sending);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->detail);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
}

/* The headers that every request has. */
static struct curl_slist *make_headers(const struct microreg_options *o)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    struct curl_slist *more =
        headers == NULL
            ? NULL
            : curl_slist_append(headers, "Content-Type: application/json");
    struct mrg_text text = MRG_TEXT_INIT;

    if (more != NULL && o->token != NULL) {
        mrg_text_printf(&text, "X-Consul-Token: %s", o->token);
        more = text.failed ? NULL : curl_slist_append(headers, text.data);
        mrg_text_deinit(&text);
    }
    if (more == NULL) {
        curl_slist_free_all(headers);
        return NULL;
    }
    return headers;
}

static CURLcode set_request(struct mrg_transfer *t, const char *url,
                            const struct mrg_request *r)
{
    CURLcode code = curl_easy_setopt(t->easy, CURLOPT_URL, url);

    if (code == CURLE_OK && strcmp(r->method, "GET") != 0) {
        (void)curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)r->body_len);
        (void)curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS,
                               r->body != NULL ? r->body : "");
        code = curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, r->method);
    }
    return code;
}

/* With another name for the certificate: connect to the host all the same. The
 * URL then has that name, and curl is told where it is. */
static CURLcode set_url(struct mrg_transfer *t, struct microreg *client,
                        const struct mrg_request *request)
{
    const char *name = client->options.server_name;
    bool is_renamed = name != NULL && strncmp(t->server->url, "https", 5) == 0;
    struct mrg_text url = MRG_TEXT_INIT;
    struct mrg_text route = MRG_TEXT_INIT;
    CURLcode code = CURLE_OUT_OF_MEMORY;

    mrg_text_str(&url, is_renamed ? "https://" : t->server->url);
    if (is_renamed) {
        mrg_text_printf(&url, "%s%s", name, strrchr(t->server->name, ':'));
        mrg_text_printf(&route, "::%s", t->server->name);
    }
    mrg_text_str(&url, request->path);
    if (!url.failed && !route.failed) {
        code = set_request(t, url.data, request);
    }
    if (code == CURLE_OK && is_renamed) {
        struct curl_slist *routes = curl_slist_append(NULL, route.data);

        curl_slist_free_all(t->routes);
        t->routes = routes;
        code = routes == NULL
                   ? CURLE_OUT_OF_MEMORY
                   : curl_easy_setopt(t->easy, CURLOPT_CONNECT_TO, routes);
    }
    mrg_text_deinit(&url);
    mrg_text_deinit(&route);
    return code;
}

int mrg_transfer_init(struct mrg_transfer *t, struct microreg *client,
                      struct mrg_server *server,
                      const struct mrg_request *request)
{
    mrg_transfer_reset(t);
    if (t->easy == NULL) {
        t->easy = curl_easy_init();
    }
    t->server = server;
    t->ca_file = client->options.ca_file;
    t->is_once = request->is_once;
    if (t->easy != NULL) {
        t->headers = make_headers(&client->options);
    }
    if (t->headers == NULL) {
        return MICROREG_E_NOMEM;
    }
    set_common(t);
    set_tls(t->easy, &client->options);
    (void)curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    if (set_url(t, client, request) != CURLE_OK) {
        return MICROREG_E_NOMEM;
    }
    atomic_fetch_add(&client->stats.requests, 1);
    return MICROREG_OK;
}

void mrg_transfer_body(struct mrg_transfer *t, mrg_body_cb cb, void *arg)
{
    (void)curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, cb);
    (void)curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, arg);
}

void mrg_transfer_reset(struct mrg_transfer *t)
{
    if (t->easy != NULL) {
        curl_easy_reset(t->easy);
    }
    curl_slist_free_all(t->headers);
    curl_slist_free_all(t->routes);
    t->headers = t->routes = NULL;
    t->server = NULL;
    t->was_sent = false;
    t->detail[0] = '\0';
    t->status = 0;
    t->index = t->fence = 0;
}

void mrg_transfer_deinit(struct mrg_transfer *t)
{
    mrg_transfer_reset(t);
    if (t->easy != NULL) {
        curl_easy_cleanup(t->easy);
        t->easy = NULL;
    }
}

/* ------------------------------------------------------------- errors */

/* shape: table */
int mrg_transfer_error(const struct mrg_transfer *t, CURLcode code)
{
    switch ((int)code) {
    case CURLE_OK:
        return MICROREG_OK;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
        return MICROREG_E_NOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return MICROREG_E_DENIED;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WRITE_ERROR:
    case CURLE_BAD_CONTENT_ENCODING:
        return MICROREG_E_PROTOCOL;
    default:
        return t->was_sent ? MICROREG_E_TIMEOUT : MICROREG_E_CONNECT;
    }
}

const char *mrg_transfer_text(struct mrg_transfer *t, CURLcode code)
{
    if (code == CURLE_SSL_CACERT_BADFILE && t->ca_file != NULL) {
        (void)snprintf(t->detail, sizeof t->detail,
                       "no certificates can be read from %s", t->ca_file);
    }
    if (code == CURLE_UNSUPPORTED_PROTOCOL ||
        code == CURLE_WEIRD_SERVER_REPLY) {
        return "answered something that is not HTTP";
    }
    if (code == CURLE_GOT_NOTHING) {
        return "closed the connection without an answer";
    }
    return t->detail[0] != '\0' ? t->detail : curl_easy_strerror(code);
}
