/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the client commands, with libcurl. */
#include "server/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#define DEFAULT_URL "http://127.0.0.1:8500"
#define UNIX_PREFIX "unix://"
#define ANSWER_MAX_BYTES ((size_t)1 << 30)
#define CONNECT_TIMEOUT_MS 10000L
#define BIG_NUMBER_DIGITS 19

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || strchr("-._~", c) != NULL;
}

/* Percent-encoding of RFC 3986, §2.1. */
static void escape(const char *text, const char *keep, struct mr_buf *out)
{
    for (; *text != '\0'; text++) {
        if (is_unreserved(*text) || strchr(keep, *text) != NULL) {
            mr_buf_byte(out, (uint8_t)*text);
        } else {
            mr_buf_printf(out, "%%%02X", (unsigned char)*text);
        }
    }
}

void server_cli_escape(const char *text, struct mr_buf *out)
{
    escape(text, "/", out);
}

void server_cli_param(struct mr_buf *query, const char *name, const char *value)
{
    if (value == NULL || value[0] == '\0') {
        return;
    }
    mr_buf_printf(query, "%s%s=", query->len > 0 ? "&" : "", name);
    escape(value, "", query);
}

/* The server's URL up to the path; a socket's path goes to @out_socket. */
static void base_url(const struct server_cli *cli, struct mr_buf *out,
                     const char **out_socket)
{
    const char *addr = cli->http_addr;

    *out_socket = NULL;
    if (addr == NULL || addr[0] == '\0') {
        mr_buf_str(out, DEFAULT_URL);
    } else if (strncmp(addr, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0) {
        *out_socket = addr + strlen(UNIX_PREFIX);
        mr_buf_str(out, "http://localhost");
    } else {
        size_t len = strlen(addr);

        if (strstr(addr, "://") == NULL) {
            mr_buf_str(out, "http://");
        }
        while (len > 0 && addr[len - 1] == '/') {
            len--;
        }
        mr_buf_add(out, addr, len);
    }
}

static void whole_url(const struct server_cli *cli, const char *path,
                      const char *query, struct mr_buf *out)
{
    struct mr_buf all = MR_BUF_INIT;

    if (query != NULL) {
        mr_buf_str(&all, query);
    }
    server_cli_param(&all, "dc", cli->datacenter);
    if (cli->stale) {
        mr_buf_str(&all, all.len > 0 ? "&stale" : "stale");
    }
    mr_buf_str(out, path);
    if (all.len > 0) {
        mr_buf_printf(out, "?%s", mr_buf_cstr(&all));
    }
    mr_buf_deinit(&all);
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct server_answer *out = arg;

    mr_buf_add(&out->body, data, size * n);
    return mr_buf_failed(&out->body) ? 0 : size * n;
}

/* The token of -token, or the first line of -token-file. */
static enum mr_err find_token(const struct server_cli *cli, char *out,
                              size_t cap)
{
    FILE *in;

    out[0] = '\0';
    if (cli->token != NULL) {
        (void)snprintf(out, cap, "%s", cli->token); /* Longer is none. */
        return MR_OK;
    }
    if (cli->token_file == NULL) {
        return MR_OK;
    }
    in = fopen(cli->token_file, "re");
    if (in == NULL) {
        return MR_E_IO;
    }
    if (fgets(out, (int)cap, in) == NULL) {
        out[0] = '\0';
    }
    (void)fclose(in); /* Only read from. */
    out[strcspn(out, "\r\n")] = '\0';
    return MR_OK;
}

static struct curl_slist *make_headers(const char *token)
{
    char header[600];

    /* No "Expect: 100-continue": it costs a round trip. */
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");

    if (token[0] != '\0') {
        (void)snprintf(header, sizeof header, "X-Consul-Token: %s", token);
        headers = curl_slist_append(headers, header);
    }
    return headers;
}

static void set_tls(CURL *curl, const struct server_cli *cli)
{
    if (cli->ca_file != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, cli->ca_file);
    }
    if (cli->ca_path != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_CAPATH, cli->ca_path);
    }
    if (cli->client_cert != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_SSLCERT, cli->client_cert);
    }
    if (cli->client_key != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_SSLKEY, cli->client_key);
    }
}

/* Say it as Consul's client does, so that scripts find what they look for. */
static void explain(CURL *curl, CURLcode code, const char *method,
                    const char *url, struct server_answer *out)
{
    const char *name = strcmp(method, "GET") == 0   ? "Get"
                       : strcmp(method, "PUT") == 0 ? "Put"
                                                    : "Delete";
    const char *host = strstr(url, "://") + 3; /* base_url() put it there. */
    const char *why = curl_easy_strerror(code);
    long number = 0;

    (void)curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
    if (code == CURLE_COULDNT_CONNECT && number == ECONNREFUSED) {
        why = "connect: connection refused";
    } else if (code == CURLE_COULDNT_CONNECT && number != 0) {
        why = strerror((int)number);
    }
    (void)snprintf(out->error, sizeof out->error,
                   "%s \"%.400s\": dial tcp %.*s: %s", name, url,
                   (int)strcspn(host, "/"), host, why);
}

static void send_it(CURL *curl, const struct server_cli *cli,
                    const char *method, struct mr_slice body,
                    struct server_answer *out)
{
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
    (void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    if (strcmp(method, "PUT") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                               body.len > 0 ? body.data : "");
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)body.len);
    }
    set_tls(curl, cli);
}

static bool judge(struct server_answer *out)
{
    const char *text = mr_buf_cstr(&out->body);

    if (out->status >= 200 && out->status < 300) {
        return true;
    }
    (void)snprintf(out->error, sizeof out->error,
                   "Unexpected response code: %ld (%.600s)", out->status, text);
    return false;
}

/* The numbers that some answers carry in their headers. */
static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    static const char index[] = "X-Consul-Index: ";
    static const char fence[] = "X-Microreg-Fence: ";
    struct server_answer *out = arg;

    /* libcurl ends a header's line with CR and LF, where strtoull() stops. */
    if (size * n > sizeof index - 1 &&
        strncasecmp(data, index, sizeof index - 1) == 0) {
        out->index = strtoull(data + sizeof index - 1, NULL, 10);
    } else if (size * n > sizeof fence - 1 &&
               strncasecmp(data, fence, sizeof fence - 1) == 0) {
        out->fence = strtoull(data + sizeof fence - 1, NULL, 10);
    }
    return size * n;
}

bool server_request_begin(struct server_request *r,
                          const struct server_cli *cli, const char *path,
                          const char *query, struct mr_slice body)
{
    struct server_answer *out = r->out;
    const char *socket;
    char token[512];

    memset(out, 0, sizeof *out);
    mr_buf_init(&out->body, ANSWER_MAX_BYTES);
    r->url = (struct mr_buf)MR_BUF_INIT;
    r->headers = NULL;
    r->curl = NULL;
    base_url(cli, &r->url, &socket);
    whole_url(cli, path, query, &r->url);
    if (find_token(cli, token, sizeof token) != MR_OK) {
        (void)snprintf(out->error, sizeof out->error,
                       "Error loading token file %s: %s", cli->token_file,
                       strerror(errno));
        return false;
    }
    r->curl = curl_easy_init();
    r->headers = make_headers(token);
    if (r->curl == NULL || r->headers == NULL || mr_buf_failed(&r->url)) {
        (void)snprintf(out->error, sizeof out->error, "out of memory");
        return false;
    }
    (void)curl_easy_setopt(r->curl, CURLOPT_URL, mr_buf_cstr(&r->url));
    (void)curl_easy_setopt(r->curl, CURLOPT_HTTPHEADER, r->headers);
    (void)curl_easy_setopt(r->curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(r->curl, CURLOPT_HEADERDATA, out);
    if (socket != NULL) {
        (void)curl_easy_setopt(r->curl, CURLOPT_UNIX_SOCKET_PATH, socket);
    }
    send_it(r->curl, cli, r->method, body, out);
    return true;
}

bool server_request_end(struct server_request *r, CURLcode code)
{
    struct server_answer *out = r->out;

    if (r->curl == NULL || out->error[0] != '\0') {
        /* It never began. */
    } else if (code != CURLE_OK) {
        explain(r->curl, code, r->method, mr_buf_cstr(&r->url), out);
    } else {
        (void)curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &out->status);
    }
    curl_slist_free_all(r->headers);
    curl_easy_cleanup(r->curl);
    mr_buf_deinit(&r->url);
    return out->status != 0 && judge(out);
}

bool server_cli_request(const struct server_cli *cli, const char *method,
                        const char *path, const char *query,
                        struct mr_slice body, struct server_answer *out)
{
    struct server_request r = {.method = method, .out = out};
    CURLcode code = CURLE_OK;

    if (server_request_begin(&r, cli, path, query, body)) {
        code = curl_easy_perform(r.curl);
    }
    return server_request_end(&r, code);
}

/* Append @in with quotes around whole numbers that need more than 63 bits, which
 * jansson does not read: the flags of a key may. */
static void quote_big_numbers(struct mr_slice in, struct mr_buf *out)
{
    const char *s = in.data;
    bool in_string = false;
    size_t at = 0;

    while (at < in.len) {
        size_t n = 0;

        while (!in_string && at + n < in.len && s[at + n] >= '0' &&
               s[at + n] <= '9') {
            n++;
        }
        if (n >= BIG_NUMBER_DIGITS) {
            mr_buf_byte(out, '"');
            mr_buf_add(out, s + at, n);
            mr_buf_byte(out, '"');
        } else {
            n = n > 0 ? n : 1;
            if (in_string && s[at] == '\\' && at + 1 < in.len) {
                n = 2;
            } else if (s[at] == '"') {
                in_string = !in_string;
            }
            mr_buf_add(out, s + at, n);
        }
        at += n;
    }
}

json_t *server_json_load(struct mr_slice text, json_error_t *why)
{
    size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *value = json_loadb(text.data, text.len, flags, why);
    struct mr_buf quoted = MR_BUF_INIT;

    if (value == NULL && text.len > 0) {
        json_error_t ignored; /* The first one names the right place. */

        quote_big_numbers(text, &quoted);
        value =
            json_loadb((const char *)quoted.data, quoted.len, flags, &ignored);
        mr_buf_deinit(&quoted);
    }
    return value;
}

uint64_t server_json_u64(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    uint64_t n = 0;

    if (json_is_string(value)) {
        return mr_parse_u64(json_string_value(value), &n) == MR_OK ? n : 0;
    }
    return (uint64_t)json_integer_value(value);
}

json_t *server_cli_get(const struct server_cli *cli, const char *path,
                       const char *query, struct server_answer *out)
{
    json_error_t why;
    json_t *value;

    if (!server_cli_request(cli, "GET", path, query, mr_slice(NULL, 0), out)) {
        return NULL;
    }
    value = server_json_load(mr_buf_slice(&out->body), &why);
    if (value == NULL) {
        (void)snprintf(out->error, sizeof out->error,
                       "the answer is not JSON: %s", why.text);
    }
    return value;
}

void server_answer_deinit(struct server_answer *answer)
{
    mr_buf_deinit(&answer->body);
}

int server_cli_print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(4) | JSON_ENCODE_ANY);

    if (text == NULL) {
        return server_cli_fail("out of memory");
    }
    (void)puts(text); /* Nobody to tell when it fails. */
    free(text);       /* jansson's own memory. */
    return CLI_OK;
}

const char *server_json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}
