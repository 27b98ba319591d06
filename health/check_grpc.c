/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC checks: grpc.health.v1.Health/Check must say SERVING. */
#include "health/check_grpc.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "health/check_curl.h"

#define METHOD "/grpc.health.v1.Health/Check"
#define OUT_OF_TIME 4 /* gRPC's codes. */
#define UNAVAILABLE 14

struct grpc_probe {
    struct check_transfer transfer; /* First. */
    struct check_grpc_answer answer;
};

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct grpc_probe *p = arg;

    check_grpc_header(&p->answer, mr_slice(data, size * n));
    return size * n;
}

static void add_error(struct mr_buf *out, int code)
{
    mr_buf_printf(out,
                  "rpc error: code = %s desc = ", check_grpc_code_name(code));
}

/* Why the service does not count as healthy. */
static void add_failure(struct grpc_probe *p, CURLcode code, long http_status,
                        struct mr_buf *out)
{
    if (p->answer.status == 0) {
        mr_buf_str(out, "gRPC application didn't report service healthy");
    } else if (p->answer.status > 0) {
        add_error(out, p->answer.status);
        check_text_add(out, p->answer.message, strlen(p->answer.message));
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        add_error(out, OUT_OF_TIME);
        mr_buf_str(out, "context deadline exceeded");
        atomic_fetch_add(&p->transfer.probe.runner->stat_timeouts, 1);
    } else if (code != CURLE_OK) {
        add_error(out, UNAVAILABLE);
        check_transfer_why(&p->transfer, code, out);
    } else {
        add_error(out, UNAVAILABLE);
        mr_buf_printf(out, "no gRPC answer, HTTP status %ld", http_status);
    }
}

static void on_done(struct check_transfer *transfer, CURLcode code)
{
    struct grpc_probe *p =
        mr_container_of(transfer, struct grpc_probe, transfer);
    struct mr_buf out = MR_BUF_INIT;
    bool is_serving = p->answer.status == 0 && !transfer->is_cut &&
                      check_grpc_is_serving(mr_buf_slice(&transfer->body));
    long http_status = 0;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE,
                            &http_status);
    if (is_serving) {
        mr_buf_printf(&out, "gRPC check %s: success",
                      transfer->probe.run->check->definition->grpc);
    } else {
        add_failure(p, code, http_status, &out);
    }
    check_probe_end(&transfer->probe,
                    is_serving ? CHECK_PASSING : CHECK_CRITICAL,
                    mr_buf_cstr(&out));
    mr_buf_deinit(&out);
}

static void refuse(struct check_run *run, const char *why)
{
    struct mr_buf out = MR_BUF_INIT;

    add_error(&out, UNAVAILABLE);
    mr_buf_printf(&out, "address %s: %s", run->check->definition->grpc, why);
    check_run_result(run, CHECK_CRITICAL, mr_buf_cstr(&out));
    mr_buf_deinit(&out);
}

/* Take "host:port[/service]" apart; the service's name goes to the end of
 * @out_question, encoded. NULL, or what is wrong. */
static const char *parse_target(const char *text, struct mr_hostport *out,
                                struct mr_buf *out_question)
{
    size_t len = strcspn(text, "/");
    char address[MR_HOST_MAX + 16];

    if (len >= sizeof address) {
        return "too long";
    }
    memcpy(address, text, len);
    address[len] = '\0';
    if (mr_hostport_parse(address, 0, out, NULL) != MR_OK ||
        out->host[strcspn(out->host, "?#@ \\")] != '\0') {
        return "no such host";
    }
    if (out->port == 0) {
        return "missing port in address";
    }
    check_grpc_encode(text[len] == '/' ? text + len + 1 : "", out_question);
    return NULL;
}

/* None of the options fails. */
static void set_request(struct grpc_probe *p, const Mr__CheckDefinition *def,
                        const struct mr_hostport *target)
{
    CURL *easy = p->transfer.easy;
    const char *scheme = def->grpc_use_tls ? "https" : "http";
    char url[MR_HOST_MAX + 64];

    (void)snprintf(url, sizeof url,
                   mr_ip_family(target->host) == 6 ? "%s://[%s]:%u" METHOD
                                                   : "%s://%s:%u" METHOD,
                   scheme, target->host, target->port);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                           def->grpc_use_tls
                               ? (long)CURL_HTTP_VERSION_2TLS
                               : (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
    if (def->tls_skip_verify) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, p);
    (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
}

static enum mr_err add_headers(struct check_transfer *t)
{
    static const char *const lines[] = {
        "Content-Type: application/grpc",
        "TE: trailers",
        "User-Agent: microreg Health Check",
        "Accept:",
        "Expect:",
    };
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < MR_ARRAY_LEN(lines) && err == MR_OK; i++) {
        err = check_transfer_header(t, lines[i]);
    }
    return err;
}

/* Begin to ask @target the @question, which curl copies. */
static enum mr_err ask(struct check_run *run, const struct mr_hostport *target,
                       struct mr_slice question)
{
    struct check_transfer *t =
        check_transfer_new(run, sizeof(struct grpc_probe), on_done);
    struct grpc_probe *p;

    if (t == NULL) {
        return MR_E_NOMEM;
    }
    p = mr_container_of(t, struct grpc_probe, transfer);
    check_grpc_answer_init(&p->answer);
    set_request(p, run->check->definition, target);
    (void)curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, (long)question.len);
    if (curl_easy_setopt(t->easy, CURLOPT_COPYPOSTFIELDS, question.data) !=
            CURLE_OK ||
        add_headers(t) != MR_OK) {
        check_transfer_free(t);
        return MR_E_NOMEM;
    }
    return check_transfer_start(t);
}

enum mr_err check_grpc_start(struct check_run *run)
{
    struct mr_buf question = MR_BUF_INIT;
    struct mr_hostport target;
    const char *problem =
        parse_target(run->check->definition->grpc, &target, &question);
    enum mr_err err = MR_OK;

    if (problem != NULL) {
        refuse(run, problem);
    } else if (mr_buf_failed(&question)) {
        err = MR_E_NOMEM;
    } else {
        err = ask(run, &target, mr_buf_slice(&question));
    }
    mr_buf_deinit(&question);
    return err;
}
