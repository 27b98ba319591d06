/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP checks: 2xx is passing, 429 warning, anything else critical.
 *
 * Redirects are not followed: a check is a question to one address, and an
 * answer that points elsewhere is none. The status decides; a body that is
 * still being sent when the time is over is shown as far as it came.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "health/check_curl.h"

#define REASON_MAX 64
#define LOCATION_MAX 256

struct http_probe {
    struct check_transfer transfer; /* First. */
    const char *method;             /* Of the run's check, or static. */
    char reason[REASON_MAX];        /* "OK" */
    char location[LOCATION_MAX];
};

static bool is_success(long status)
{
    return status >= 200 && status < 300;
}

static enum check_status judge(long status)
{
    if (is_success(status)) {
        return CHECK_PASSING;
    }
    return status == 429 ? CHECK_WARNING : CHECK_CRITICAL;
}

/* ------------------------------------------------------------- answer */

/* Copy the header's value without the white space around it. */
static void copy_value(char *out, size_t cap, const char *from, size_t len)
{
    while (len > 0 && (*from == ' ' || *from == '\t')) {
        from++;
        len--;
    }
    while (len > 0 && strchr(" \t\r\n", from[len - 1]) != NULL) {
        len--;
    }
    len = len < cap - 1 ? len : cap - 1;
    memcpy(out, from, len);
    out[len] = '\0';
}

/* The status line's reason, of the last answer if there are several (100
 * Continue), and where a redirect leads to. */
static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    static const char location[] = "location:";
    struct http_probe *p = arg;
    size_t len = size * n;

    if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
        const char *status = memchr(data, ' ', len);
        size_t left = status == NULL ? 0 : len - (size_t)(status - data);

        p->reason[0] = '\0';
        p->location[0] = '\0';
        if (left > 5) {
            copy_value(p->reason, sizeof p->reason, status + 4, left - 4);
        }
    } else if (len >= sizeof location &&
               strncasecmp(data, location, sizeof location - 1) == 0) {
        copy_value(p->location, sizeof p->location, data + sizeof location - 1,
                   len - sizeof location + 1);
    }
    return len;
}

/* "Get" of "GET", as Go writes it. */
static void add_method(struct mr_buf *out, const char *method)
{
    mr_buf_byte(out, (uint8_t)method[0]);
    for (const char *at = method + 1; *at != '\0'; at++) {
        mr_buf_byte(out, (uint8_t)(*at >= 'A' && *at <= 'Z' ? *at + 32 : *at));
    }
}

static void add_failure(struct http_probe *p, CURLcode code, const char *url,
                        struct mr_buf *out)
{
    add_method(out, p->method);
    mr_buf_printf(out, " \"%s\": ", url);
    if (code == CURLE_OPERATION_TIMEDOUT) {
        mr_buf_str(out, "context deadline exceeded (Client.Timeout exceeded "
                        "while awaiting headers)");
    } else {
        check_transfer_why(&p->transfer, code, out);
    }
}

static void add_answer(struct http_probe *p, long status, const char *url,
                       struct mr_buf *out)
{
    mr_buf_printf(out, "HTTP %s %s: %ld ", p->method, url, status);
    check_text_add(out, p->reason, strlen(p->reason));
    if (status >= 300 && status < 400 && p->location[0] != '\0') {
        mr_buf_str(out, " (to ");
        check_text_add(out, p->location, strlen(p->location));
        mr_buf_str(out, ", not followed)");
    }
    mr_buf_str(out, " Output: ");
    check_text_add(out, p->transfer.body.data, p->transfer.body.len);
}

static void on_done(struct check_transfer *transfer, CURLcode code)
{
    struct http_probe *p =
        mr_container_of(transfer, struct http_probe, transfer);
    struct mr_buf out = MR_BUF_INIT;
    const char *url = transfer->probe.run->check->definition->http;
    enum check_status status = CHECK_CRITICAL;
    long http_status = 0;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE,
                            &http_status);
    if (code == CURLE_OPERATION_TIMEDOUT) {
        atomic_fetch_add(&transfer->probe.runner->stat_timeouts, 1);
    }
    /* Below 200 the answer has only been announced. */
    if (http_status >= 200) {
        add_answer(p, http_status, url, &out);
        status = judge(http_status);
    } else {
        add_failure(p, code, url, &out);
    }
    check_probe_end(&transfer->probe, status, mr_buf_cstr(&out));
    mr_buf_deinit(&out);
}

/* ------------------------------------------------------------- question */

/* Whether @text is a token, as methods and names of headers are. RFC 9110
 * §5.6.2. */
static bool is_token(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "!#$%&'*+-.^_`|~";

    return text[0] != '\0' && text[strspn(text, allowed)] == '\0';
}

/* The first value of the header @name in the definition, or NULL. */
static const char *given(const Mr__CheckDefinition *def, const char *name)
{
    for (size_t i = 0; i < def->n_header; i++) {
        if (strcasecmp(def->header[i]->name, name) == 0 &&
            def->header[i]->n_values > 0) {
            return def->header[i]->values[0];
        }
    }
    return NULL;
}

static enum mr_err add_line(struct check_transfer *t, const char *name,
                            const char *value)
{
    struct mr_buf line = MR_BUF_INIT;
    enum mr_err err = MR_E_NOMEM;

    /* curl's notation of a header without a value ends in a semicolon. */
    mr_buf_printf(&line, value[0] == '\0' ? "%s;" : "%s: %s", name, value);
    if (!mr_buf_failed(&line)) {
        err = check_transfer_header(t, mr_buf_cstr(&line));
    }
    mr_buf_deinit(&line);
    return err;
}

static enum mr_err add_headers(struct check_transfer *t,
                               const Mr__CheckDefinition *def)
{
    static const char *const ours[][2] = {
        {"User-Agent", "microreg Health Check"},
        {"Accept", "text/plain, text/*, */*"},
        {"Connection", "close"},
    };
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < MR_ARRAY_LEN(ours) && err == MR_OK; i++) {
        if (given(def, ours[i][0]) == NULL) {
            err = add_line(t, ours[i][0], ours[i][1]);
        }
    }
    for (size_t i = 0; i < def->n_header; i++) {
        const Mr__Header *header = def->header[i];

        for (size_t k = 0; k < header->n_values && err == MR_OK; k++) {
            err = add_line(t, header->name, header->values[k]);
        }
    }
    /* A body is sent at once, and as what the definition says it is. */
    if (err == MR_OK && given(def, "Expect") == NULL) {
        err = check_transfer_header(t, "Expect:");
    }
    if (err == MR_OK && given(def, "Content-Type") == NULL) {
        err = check_transfer_header(t, "Content-Type:");
    }
    return err;
}

/* NULL when the definition can be asked, else what is wrong with it. */
static const char *problem_of(const Mr__CheckDefinition *def)
{
    if (strncasecmp(def->http, "http://", 7) != 0 &&
        strncasecmp(def->http, "https://", 8) != 0) {
        return "unsupported protocol scheme";
    }
    if (def->method[0] != '\0' && !is_token(def->method)) {
        return "net/http: invalid method";
    }
    for (size_t i = 0; i < def->n_header; i++) {
        if (!is_token(def->header[i]->name)) {
            return "net/http: invalid header field name";
        }
        for (size_t k = 0; k < def->header[i]->n_values; k++) {
            if (strpbrk(def->header[i]->values[k], "\r\n") != NULL) {
                return "net/http: invalid header field value";
            }
        }
    }
    return NULL;
}

/* None of these fails but for lack of memory, which a strange URL shows when
 * it is used. */
static void set_request(struct http_probe *p, const Mr__CheckDefinition *def)
{
    CURL *easy = p->transfer.easy;
    bool has_body = def->body[0] != '\0';

    (void)curl_easy_setopt(easy, CURLOPT_URL, def->http);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                           (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, p);
    if (strcmp(p->method, "HEAD") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (has_body || strcmp(p->method, "POST") == 0 ||
               strcmp(p->method, "PUT") == 0 ||
               strcmp(p->method, "PATCH") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, def->body);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE,
                               (long)strlen(def->body));
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, p->method);
    } else {
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, p->method);
    }
    if (def->tls_skip_verify) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

enum mr_err check_http_start(struct check_run *run)
{
    const Mr__CheckDefinition *def = run->check->definition;
    const char *problem = problem_of(def);
    struct check_transfer *t;
    struct http_probe *p;

    if (problem != NULL) {
        struct mr_buf out = MR_BUF_INIT;

        add_method(&out, def->method[0] == '\0' ? "GET" : def->method);
        mr_buf_printf(&out, " \"%s\": %s", def->http, problem);
        check_run_result(run, CHECK_CRITICAL, mr_buf_cstr(&out));
        mr_buf_deinit(&out);
        return MR_OK;
    }
    t = check_transfer_new(run, sizeof *p, on_done);
    if (t == NULL) {
        return MR_E_NOMEM;
    }
    p = mr_container_of(t, struct http_probe, transfer);
    p->method = def->method[0] == '\0' ? "GET" : def->method;
    set_request(p, def);
    if (add_headers(t, def) != MR_OK) {
        check_transfer_free(t);
        return MR_E_NOMEM;
    }
    return check_transfer_start(t);
}
