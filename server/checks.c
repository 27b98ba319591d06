/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner of this node's checks, joined with the state.
 *
 * Its reports become commands; one that fails is not tried again here, because
 * the runner compares what it found with the state until both say the same.
 */
#include "server/checks.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "health/mr_check.h"
#include "server/agent.h"
#include "server/registrar.h"
#include "server/submit.h"

#define REPORTS_MAX 1024 /* On their way; the runner tries again. */
#define NS_PER_MS 1000000

static void on_reported(void *arg, enum mr_err err,
                        const struct mr_kv_result *result)
{
    struct server_agent *a = arg;

    if (err != MR_OK) {
        mr_log_debug("checks", "a result was not stored, retrying: %s",
                     mr_strerror(err));
    } else if (result->verdict == MR_KV_REFUSED) {
        mr_log_debug("checks", "a result was refused: %s", result->text);
    }
    atomic_fetch_sub(&a->n_check_reports, 1);
}

/* Runner's thread. */
static void report(void *arg, const char *check_id, const char *status,
                   const char *output)
{
    struct server_agent *a = arg;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;
    struct mr_buf bytes = MR_BUF_INIT;

    if (atomic_fetch_add(&a->n_check_reports, 1) >= REPORTS_MAX) {
        atomic_fetch_sub(&a->n_check_reports, 1);
        return;
    }
    /* protobuf-c's texts are not const; encoding only reads them. */
    update.node = (char *)a->self.node_name;
    update.check_id = (char *)check_id;
    update.status = (char *)status;
    update.output = (char *)output;
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &update;
    mr_kv_command_encode(&cmd, &bytes);
    if (mr_buf_failed(&bytes) || server_submit(a, mr_buf_slice(&bytes), "check",
                                               on_reported, a) != MR_OK) {
        atomic_fetch_sub(&a->n_check_reports, 1);
    }
    mr_buf_deinit(&bytes);
}

/* Runner's thread. */
static bool is_local(void *arg, const Mr__Check *check)
{
    return server_registrar_has_script(arg, check);
}

/* HTTP workers ask for the runner's figures. Returns what was set before. */
static struct mr_checks *set_checks(struct server_agent *a,
                                    struct mr_checks *checks)
{
    struct mr_checks *before;

    (void)pthread_rwlock_wrlock(&a->raft_lock); /* Never fails. */
    before = a->checks;
    a->checks = checks;
    (void)pthread_rwlock_unlock(&a->raft_lock);
    return before;
}

/* The URL of our own HTTP API, which asks the cluster. */
static void add_own_url(const struct server_config *cfg, struct mr_buf *out)
{
    const char *ip = cfg->http_ips.items[0];

    if (strcmp(ip, "0.0.0.0") == 0) {
        ip = "127.0.0.1";
    } else if (strcmp(ip, "::") == 0) {
        ip = "::1";
    }
    mr_buf_printf(out,
                  mr_ip_family(ip) == 6 ? "http://[%s]:%" PRId64
                                        : "http://%s:%" PRId64,
                  ip, cfg->http_port);
}

enum mr_err server_checks_start(struct server_agent *agent,
                                struct mr_detail *detail)
{
    const struct server_config *cfg = &agent->cfg;
    struct mr_buf url = MR_BUF_INIT;
    struct mr_checks_options options = {
        .kv = agent->kv,
        .node = agent->self.node_name,
        .enable_scripts = cfg->enable_scripts,
        .enable_local_scripts = cfg->enable_local_scripts,
        .output_interval_ms =
            (uint64_t)(cfg->check_update_interval_ns / NS_PER_MS),
        .output_max = (size_t)cfg->check_output_max_size,
        .clock = SERVER_CLOCK,
        .random = SERVER_RANDOM,
        .is_local = is_local,
        .report = report,
        .arg = agent,
    };
    struct mr_checks *checks = NULL;
    enum mr_err err;

    if (!cfg->server) { /* The store holds our own node only. */
        add_own_url(cfg, &url);
        options.cluster_url = mr_buf_cstr(&url);
    }
    err = mr_buf_failed(&url) ? mr_fail(detail, MR_E_NOMEM, "out of memory")
                              : mr_checks_start(&options, &checks, detail);
    mr_buf_deinit(&url);
    if (err == MR_OK) {
        (void)set_checks(agent, checks);
    }
    return err;
}

void server_checks_stop(struct server_agent *agent)
{
    mr_checks_stop(set_checks(agent, NULL));
}
