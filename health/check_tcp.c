/* SPDX-License-Identifier: Apache-2.0 */
/* TCP checks: whether a connection can be made. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "health/check_curl.h"

static void on_done(struct check_transfer *transfer, CURLcode code)
{
    const char *target = transfer->probe.run->check->definition->tcp;
    struct mr_buf out = MR_BUF_INIT;

    if (code == CURLE_OK) {
        mr_buf_printf(&out, "TCP connect %s: Success", target);
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        mr_buf_printf(&out, "dial tcp %s: i/o timeout", target);
        atomic_fetch_add(&transfer->probe.runner->stat_timeouts, 1);
    } else {
        check_transfer_why(transfer, code, &out);
    }
    check_probe_end(&transfer->probe,
                    code == CURLE_OK ? CHECK_PASSING : CHECK_CRITICAL,
                    mr_buf_cstr(&out));
    mr_buf_deinit(&out);
}

/* The target's form is judged now, as registrations take any text. */
static void refuse(struct check_run *run, const char *why)
{
    struct mr_buf out = MR_BUF_INIT;

    mr_buf_printf(&out, "dial tcp: address %s: %s", run->check->definition->tcp,
                  why);
    check_run_result(run, CHECK_CRITICAL, mr_buf_cstr(&out));
    mr_buf_deinit(&out);
}

enum mr_err check_tcp_start(struct check_run *run)
{
    struct mr_hostport target;
    struct mr_detail detail;
    struct check_transfer *t;
    char url[MR_HOST_MAX + 32];

    if (mr_hostport_parse(run->check->definition->tcp, 0, &target, &detail) !=
        MR_OK) {
        refuse(run, detail.text);
        return MR_OK;
    }
    if (target.port == 0) {
        refuse(run, "missing port in address");
        return MR_OK;
    }
    if (target.host[strcspn(target.host, "/?#@ \\")] != '\0') {
        refuse(run, "no such host");
        return MR_OK;
    }
    t = check_transfer_new(run, sizeof *t, on_done);
    if (t == NULL) {
        return MR_E_NOMEM;
    }
    (void)snprintf(url, sizeof url,
                   mr_ip_family(target.host) == 6 ? "http://[%s]:%u/"
                                                  : "http://%s:%u/",
                   target.host, target.port);
    (void)curl_easy_setopt(t->easy, CURLOPT_URL, url); /* Never fails. */
    (void)curl_easy_setopt(t->easy, CURLOPT_CONNECT_ONLY, 1L);
    return check_transfer_start(t);
}
