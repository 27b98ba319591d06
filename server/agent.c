/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an agent.
 *
 * Start, each step undone by the end in reverse: configuration, data folder,
 * kv, raft, DNS, HTTP. The port that clients use opens last.
 *
 * End: HTTP refuses new requests, raft closes (which completes every request
 * in its hands), then HTTP, DNS and kv stop. A second signal ends the process
 * at once; the log on disk is good at any time.
 */
#include "server/agent.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/checks.h"
#include "server/client.h"
#include "server/local.h"
#include "server/registrar.h"
#include "server/sync.h"
#include "server/version.h"
#include "server/wire.h"

#define TICK_MS 1000
#define SOON_MS 100 /* While our node is not in the catalog. */
#define DRAIN_MS 200
#define NS_PER_MS 1000000
#define NS_PER_S 1000000000

/* ---- end ---- */

/* The rest of the end: nothing is in raft's hands any more. The API's threads
 * end here, while raft still answers them that it is closed. */
static void on_raft_closed(void *arg)
{
    struct server_agent *a = arg;

    a->state = SERVER_CLOSED;
    server_host_close(a);
    server_leases_stop(a->leases); /* Its answers go to the API. */
    mr_api_stop(a->api);
    a->api = NULL;
    a->raft = NULL;
    mr_dns_stop(a->dns);
    a->dns = NULL;
    server_signals_stop(a);
    uv_close((uv_handle_t *)&a->tick, NULL);
    uv_close((uv_handle_t *)&a->drain, NULL);
    uv_close((uv_handle_t *)&a->wakeup, NULL);
}

/* Close raft, once no reload is being read that would answer a client. */
void server_agent_close_raft(struct server_agent *agent)
{
    if (agent->state != SERVER_CLOSING || agent->n_reloads > 0) {
        return;
    }
    server_registrar_stop(agent);
    server_checks_stop(agent);
    if (agent->api != NULL) {
        mr_api_quiesce(agent->api);
    }
    if (agent->raft == NULL) {
        server_client_stop(agent);
        on_raft_closed(agent);
        return;
    }
    (void)pthread_rwlock_wrlock(&agent->raft_lock); /* Never fails. */
    agent->is_raft_open = false;
    (void)pthread_rwlock_unlock(&agent->raft_lock);
    mr_raft_close(agent->raft, on_raft_closed, agent);
}

static void close_all(struct server_agent *a)
{
    a->state = SERVER_CLOSING;
    (void)uv_timer_stop(&a->tick); /* Never fails. */
    atomic_store(&a->has_leader, false);
    server_agent_close_raft(a);
}

static void on_drained(uv_timer_t *timer)
{
    struct server_agent *a = mr_container_of(timer, struct server_agent, drain);

    close_all(a);
}

static void on_left(void *arg, enum mr_err err, const char *detail)
{
    struct server_agent *a = arg;

    if (err == MR_OK) {
        mr_log_info("agent", "left the cluster");
    } else {
        mr_log_warn("agent", "could not leave the cluster: %s, stopping anyway",
                    detail != NULL ? detail : mr_strerror(err));
    }
    server_host_left(a, err, detail);
    a->state = SERVER_DRAINING;
    (void)uv_timer_start(&a->drain, on_drained, DRAIN_MS, 0); /* As above. */
}

/* When the catalog could not be told, the others will notice. */
void server_agent_deregistered(struct server_agent *agent)
{
    struct mr_raft_status status;

    if (agent->state != SERVER_LEAVING) {
        return;
    }
    if (agent->raft == NULL) {
        on_left(agent, MR_OK, NULL);
        return;
    }
    mr_raft_status(agent->raft, &status);
    if (status.cluster_id == 0) {
        on_left(agent, MR_OK, NULL); /* Never was in a cluster. */
    } else {
        mr_raft_leave(agent->raft, on_left, agent);
    }
}

static bool has_leader(void *arg)
{
    struct server_agent *a = arg;

    return atomic_load_explicit(&a->has_leader, memory_order_relaxed);
}

/* Take our node out of the catalog; false: that cannot even be begun. */
static bool deregister(struct server_agent *a)
{
    return a->sync != NULL ? server_sync_leave(a->sync)
                           : server_upkeep_deregister(a) == MR_OK;
}

void server_agent_end(struct server_agent *agent, bool leave)
{
    if (agent->state != SERVER_RUNNING) {
        return;
    }
    mr_log_info("agent", leave ? "leaving the cluster" : "stopping");
    if (!leave) {
        close_all(agent);
        return;
    }
    agent->state = SERVER_LEAVING;
    if (!has_leader(agent) || !deregister(agent)) {
        server_agent_deregistered(agent);
    }
}

/* ---- start ---- */

/* The process cannot go on: another thread found out. What was promised is in
 * the log on disk, so nothing is gained by an orderly end. */
static void on_fatal(void *arg, enum mr_err err, const char *why)
{
    const struct server_agent *a = arg;

    mr_log_error("agent", "stopping: %s", why != NULL ? why : mr_strerror(err));
    (void)fprintf(stderr, "==> %s\n", why != NULL ? why : mr_strerror(err));
    if (a->cfg.pid_file != NULL) {
        (void)unlink(a->cfg.pid_file);
    }
    _exit(1);
}

static void on_tick(uv_timer_t *timer);

static void on_change(void *arg)
{
    struct server_agent *a = arg;
    struct mr_raft_status status;

    if (a->raft == NULL || a->state >= SERVER_CLOSING) {
        return;
    }
    mr_raft_status(a->raft, &status);
    if (!atomic_exchange(&a->has_leader, status.has_leader) &&
        status.has_leader) {
        (void)uv_timer_start(&a->tick, on_tick, 0, 0); /* Never fails. */
    }
    server_leases_look(a->leases);
}

/* An agent's connection to the servers' port. It asks again when refused. */
static void on_http(void *arg, int fd)
{
    struct server_agent *a = arg;
    struct mr_api *api = atomic_load(&a->api);

    if (api == NULL) {
        (void)close(fd); /* Starting or ending. */
    } else {
        (void)!mr_api_adopt(api, fd);
    }
}

static void on_message(void *arg, uint64_t from, struct mr_slice msg)
{
    const struct server_agent *a = arg;

    server_leases_message(a->leases, from, msg);
}

/* Between two renewals of our node's lease. */
static uint64_t renew_ms(const struct server_agent *a)
{
    uint64_t quarter_ms = a->self.node_ttl_ms / 4;

    return quarter_ms < TICK_MS ? quarter_ms : TICK_MS;
}

static uint64_t tick_ms(const struct server_agent *a)
{
    if (a->sync != NULL) {
        return server_sync_tick_ms(a->sync);
    }
    return atomic_load(&a->upkeep.is_registered) ? renew_ms(a) : SOON_MS;
}

static void on_tick(uv_timer_t *timer)
{
    struct server_agent *a = mr_container_of(timer, struct server_agent, tick);

    if (a->state != SERVER_RUNNING) {
        return;
    }
    on_change(a);
    if (a->sync != NULL) {
        server_sync_run(a->sync);
    } else {
        server_upkeep_run(a);
    }
    server_registrar_run(a);
    (void)uv_timer_start(timer, on_tick, tick_ms(a), 0); /* Never fails. */
}

static void on_wakeup(uv_async_t *async)
{
    struct server_agent *a =
        mr_container_of(async, struct server_agent, wakeup);

    server_host_drain(a);
    if (a->sync != NULL) {
        server_sync_run(a->sync);
    }
    server_registrar_run(a);
}

static void wake(void *arg)
{
    struct server_agent *a = arg;

    (void)uv_async_send(&a->wakeup); /* Fails on a closing handle only. */
}

static void on_event(void *arg, const struct mr_kv_event *event)
{
    const struct server_agent *a = arg;

    if (a->why != NULL) {
        mr_why_add(a->why, event);
    }
}

/* The ring of events is for people: without it the agent runs all the same. */
static void start_why(struct server_agent *a)
{
    char *path = server_identity_path(&a->identity, "events");
    struct mr_detail detail = {"out of memory"};

    if (path == NULL || mr_why_open(path, 0, &a->why, &detail) != MR_OK) {
        mr_log_warn("agent", "microreg why will know no events: %s",
                    detail.text);
    }
    mr_free(path);
}

static void on_leases(void *arg, const struct mr_kv_lease_change *changes,
                      size_t n)
{
    const struct server_agent *a = arg;

    server_leases_changed(a->leases, changes, n);
}

static void on_leases_reset(void *arg)
{
    const struct server_agent *a = arg;

    server_leases_reset(a->leases);
}

static enum mr_err propose(void *arg, struct mr_raft_proposal *proposal)
{
    const struct server_agent *a = arg;

    return a->local != NULL ? server_local_propose(a->local, proposal)
                            : mr_raft_propose(a->raft, proposal);
}

static enum mr_err start_leases(struct server_agent *a,
                                struct mr_detail *detail)
{
    struct server_leases_options options = {.loop = &a->loop,
                                            .node_name = a->cfg.node_name,
                                            .propose = propose,
                                            .on_fatal = on_fatal,
                                            .arg = a};

    return server_leases_new(&options, &a->leases) == MR_OK
               ? MR_OK
               : mr_fail(detail, MR_E_NOMEM, "out of memory");
}

static enum mr_err start_kv(struct server_agent *a, struct mr_detail *detail)
{
    struct mr_kv_options options = {
        .boot_id = a->identity.boot_id,
        .is_durable = !a->cfg.server,
        /* An agent's own store has no watchers: theirs are at the servers. */
        .history_bytes = a->cfg.server ? 0 : 1,
        .hooks = {.arg = a,
                  .leases = on_leases,
                  .leases_reset = on_leases_reset,
                  .event = on_event},
    };
    char *dir =
        server_identity_path(&a->identity, a->cfg.server ? "kv" : "local");
    enum mr_err err;

    if (dir == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    options.dir = dir;
    err = mr_kv_open(&options, &a->kv, detail);
    mr_free(dir);
    if (err != MR_OK) {
        return err;
    }
    err = server_leases_load(a->leases, a->kv);
    return err == MR_OK ? MR_OK
                        : mr_fail(detail, err, "cannot read the leases: %s",
                                  mr_strerror(err));
}

static enum mr_err start_raft(struct server_agent *a, struct mr_detail *detail)
{
    const struct server_config *cfg = &a->cfg;
    const struct server_list *join =
        cfg->start_join.n > 0 ? &cfg->start_join : &cfg->retry_join;
    char *dir = server_identity_path(&a->identity, "raft");
    struct mr_raft_options options = {
        .dir = dir,
        .node_id = a->identity.node_id,
        .node_name = cfg->node_name,
        .datacenter = cfg->datacenter,
        .bind_host = cfg->bind_ip,
        .bind_port = (uint16_t)cfg->server_port,
        .advertise_host = cfg->advertise_ip,
        .advertise_port = (uint16_t)cfg->server_port,
        .bootstrap_expect = (unsigned)cfg->bootstrap_expect,
        .join = (const char *const *)join->items,
        .n_join = join->n,
        .join_interval_ms = (uint64_t)(cfg->retry_interval_ns / NS_PER_MS),
        .join_must_succeed = cfg->start_join.n > 0,
        .clock = SERVER_CLOCK,
        .random = SERVER_RANDOM,
        .fsm = server_wire(a->kv),
        .on_fatal = on_fatal,
        .on_change = on_change,
        .on_message = on_message,
        .on_http = on_http,
        .arg = a,
    };
    enum mr_err err;

    if (dir == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    err = mr_raft_open(&a->loop, &options, &a->raft, detail);
    mr_free(dir);
    a->is_raft_open = err == MR_OK;
    if (err == MR_OK) {
        server_leases_start(a->leases, a->raft);
    }
    return err;
}

static uint32_t seconds(int64_t ns)
{
    return (uint32_t)(ns / NS_PER_S);
}

static enum mr_err start_dns(struct server_agent *a, struct mr_detail *detail)
{
    const struct server_config *cfg = &a->cfg;
    const struct server_list *ttl = &cfg->service_ttl;
    struct mr_dns_service_ttl *ttls;
    struct mr_dns_options options = {
        .addresses = (const char *const *)cfg->dns_ips.items,
        .n_addresses = cfg->dns_ips.n,
        .port = (uint16_t)cfg->dns_port,
        .domain = cfg->domain,
        .alt_domains = (const char *const *)&cfg->alt_domain,
        .n_alt_domains = cfg->alt_domain != NULL ? 1 : 0,
        .datacenter = cfg->datacenter,
        .node_name = cfg->node_name,
        .only_passing = cfg->only_passing,
        .node_ttl_s = seconds(cfg->node_ttl_ns),
        .soa_refresh_s = (uint32_t)cfg->soa_refresh_s,
        .soa_retry_s = (uint32_t)cfg->soa_retry_s,
        .soa_expire_s = (uint32_t)cfg->soa_expire_s,
        .soa_min_ttl_s = (uint32_t)cfg->soa_min_ttl_s,
        .udp_answer_limit = (unsigned)cfg->udp_answer_limit,
        .a_record_limit = (unsigned)cfg->a_record_limit,
        .enable_truncate = cfg->enable_truncate,
        .disable_compression = cfg->disable_compression,
        .omit_node_meta_txt = !cfg->node_meta_txt,
        .kv = a->kv,
        .clock = SERVER_CLOCK,
        .random = SERVER_RANDOM,
        .has_leader = has_leader,
        .forward = cfg->server ? NULL : server_client_dns,
        .arg = a,
    };
    enum mr_err err;

    if (cfg->dns_port < 0) {
        return MR_OK;
    }
    ttls = mr_calloc(ttl->n / 2 + 1, sizeof *ttls);
    if (ttls == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < ttl->n / 2; i++) {
        int64_t ns = 0;

        /* Checked with the configuration. */
        mr_assert(mr_duration_parse(ttl->items[2 * i + 1], &ns, NULL) == MR_OK);
        ttls[i].name = ttl->items[2 * i];
        ttls[i].ttl_s = seconds(ns);
    }
    options.service_ttls = ttls;
    options.n_service_ttls = ttl->n / 2;
    err = mr_dns_start(&options, &a->dns, detail);
    mr_free(ttls);
    return err;
}

static void fill_self(struct server_agent *a)
{
    const struct server_config *cfg = &a->cfg;

    a->self = (struct mr_api_agent){
        .node_name = cfg->node_name,
        .node_id = a->identity.node_id,
        .address = cfg->advertise_ip,
        .datacenter = cfg->datacenter,
        .version = server_version(),
        .consul_version = server_consul_version(),
        .revision = server_revision(),
        .is_server = cfg->server,
        .bootstrap_expect = (unsigned)cfg->bootstrap_expect,
        .server_port = (uint16_t)cfg->server_port,
        .dns_port = (uint16_t)(cfg->dns_port < 0 ? 0 : cfg->dns_port),
        .node_ttl_ms = (uint64_t)(cfg->node_lease_ns / NS_PER_MS),
        .node_reap_ms = (uint64_t)(cfg->reconnect_timeout_ns / NS_PER_MS),
        .meta = (const char *const *)cfg->node_meta.items,
        .n_meta = cfg->node_meta.n / 2,
    };
}

static enum mr_err start_api(struct server_agent *a, struct mr_detail *detail)
{
    const struct server_config *cfg = &a->cfg;
    struct mr_api_options options = {
        .addresses = (const char *const *)cfg->http_ips.items,
        .n_addresses = cfg->http_ips.n,
        .port = (uint16_t)cfg->http_port,
        .max_connections_per_client = (unsigned)cfg->max_conns_per_client,
        .kv_max_value_size = (size_t)cfg->kv_max_value_size,
        .default_query_time_ms =
            (uint64_t)(cfg->default_query_time_ns / NS_PER_MS),
        .max_query_time_ms = (uint64_t)(cfg->max_query_time_ns / NS_PER_MS),
        .pretty_always = cfg->dev,
        .enable_ui = cfg->ui || cfg->dev,
        .enable_scripts = cfg->enable_scripts,
        .agent = a->self,
        .host = server_host(a),
        .kv = a->kv,
        .raft = a->raft,
        .clock = SERVER_CLOCK,
        .random = SERVER_RANDOM,
    };
    struct mr_api *api;
    enum mr_err err = mr_api_start(&options, &api, detail);

    if (err == MR_OK) {
        atomic_store(&a->api, api);
    }
    return err;
}

static enum mr_err start_loop(struct server_agent *a, struct mr_detail *detail)
{
    int rc = uv_loop_init(&a->loop);

    if (rc != 0) {
        return mr_fail(detail, MR_E_NOMEM, "cannot make an event loop: %s",
                       uv_strerror(rc));
    }
    mr_queue_init(&a->inbox, 0, wake, a);
    mr_list_init(&a->leaving);
    rc = uv_async_init(&a->loop, &a->wakeup, on_wakeup);
    mr_assert(rc == 0); /* An eventfd right after the start. */
    (void)uv_timer_init(&a->loop, &a->tick); /* Never fails. */
    (void)uv_timer_init(&a->loop, &a->drain);
    return server_signals_start(a, detail);
}

static enum mr_err start_log(const struct server_config *cfg,
                             struct mr_detail *detail)
{
    enum mr_log_level level;

    mr_assert(mr_log_parse_level(cfg->log_level, &level) == MR_OK);
    mr_log_set_level(level);
    return cfg->log_file != NULL ? mr_log_set_file(cfg->log_file, detail)
                                 : MR_OK;
}

static enum mr_err write_pid(const char *path, struct mr_detail *detail)
{
    FILE *out;
    int rc;

    if (path == NULL) {
        return MR_OK;
    }
    out = fopen(path, "we");
    if (out == NULL) {
        return mr_fail(detail, MR_E_IO, "cannot write the pid file %s: %s",
                       path, strerror(errno));
    }
    rc = fprintf(out, "%ld", (long)getpid());
    if (fclose(out) != 0 || rc < 0) {
        return mr_fail(detail, MR_E_IO, "cannot write the pid file %s: %s",
                       path, strerror(errno));
    }
    return MR_OK;
}

/* The parts in their order. On failure what was started is left to
 * server_agent_run(), which closes whatever exists. */
static enum mr_err start_parts(struct server_agent *a, struct mr_detail *detail)
{
    enum mr_err err;

    start_why(a);
    err = start_leases(a, detail);
    if (err == MR_OK) {
        err = start_kv(a, detail);
    }
    fill_self(a);
    if (err == MR_OK) {
        err = a->cfg.server ? start_raft(a, detail)
                            : server_client_start(a, on_fatal, detail);
    }
    if (err == MR_OK) {
        err = start_dns(a, detail);
    }
    if (err == MR_OK) {
        err = start_api(a, detail);
    }
    if (err == MR_OK) {
        err = server_registrar_new(a, &a->cfg.definitions, detail);
    }
    if (err == MR_OK) {
        err = server_checks_start(a, detail);
    }
    if (err == MR_OK) {
        err = write_pid(a->cfg.pid_file, detail);
    }
    return err;
}

/* Every socket is a descriptor, and the soft limit is often 1024. */
static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* Works with fewer too. */
    }
    /* Threads are many and allocate little: an arena for each would be
     * memory that nobody uses. */
    (void)mallopt(M_ARENA_MAX, 2);
}

static int complain(const struct mr_detail *detail)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "==> %s\n", detail->text);
    return 1;
}

static void run_started(struct server_agent *a)
{
    a->state = SERVER_RUNNING;
    (void)printf("==> microreg agent running!\n");
    (void)fflush(stdout);
    for (size_t i = 0; i < a->cfg.warnings.n; i++) {
        mr_log_warn("agent", "%s", a->cfg.warnings.items[i]);
    }
    (void)uv_timer_start(&a->tick, on_tick, 0, 0); /* Never fails. */
    (void)uv_run(&a->loop, UV_RUN_DEFAULT);
}

/* Start, run and end on a loop that exists. */
static int run_on_loop(struct server_agent *a)
{
    struct mr_detail detail;
    int status = 0;

    if (start_parts(a, &detail) == MR_OK) {
        run_started(a);
    } else {
        status = complain(&detail);
        close_all(a);
        (void)uv_run(&a->loop, UV_RUN_DEFAULT);
    }
    server_registrar_free(a);
    server_client_free(a);
    mr_kv_close(a->kv);
    server_leases_free(a->leases);
    mr_why_close(a->why);
    if (a->cfg.pid_file != NULL && status == 0) {
        (void)unlink(a->cfg.pid_file); /* Somebody else may have done it. */
    }
    mr_queue_deinit(&a->inbox);
    (void)uv_loop_close(&a->loop); /* Every handle was closed. */
    return status;
}

static int run_configured(struct server_agent *a)
{
    struct mr_detail detail;
    int status;

    if (server_config_resolve(&a->cfg, &detail) != MR_OK ||
        start_log(&a->cfg, &detail) != MR_OK ||
        server_identity_open(
            a->cfg.dev && a->cfg.data_dir == NULL ? NULL : a->cfg.data_dir,
            a->cfg.node_id, SERVER_RANDOM, &a->identity, &detail) != MR_OK) {
        return complain(&detail);
    }
    if (server_identity_check_role(&a->identity, a->cfg.server, &detail) !=
        MR_OK) {
        server_identity_close(&a->identity);
        return complain(&detail);
    }
    server_banner(a);
    if (start_loop(a, &detail) != MR_OK) {
        server_identity_close(&a->identity);
        return complain(&detail);
    }
    status = run_on_loop(a);
    server_identity_close(&a->identity);
    return status;
}

int server_agent_run(int argc, char *const *argv)
{
    struct server_agent a = {.argc = argc, .argv = argv};
    struct mr_detail detail;
    int status;

    raise_limits();
    a.identity.lock_fd = -1;
    a.started_ms = mr_now_ms(SERVER_CLOCK);
    if (server_config_load(&a.cfg, argc, argv, &detail) != MR_OK) {
        return complain(&detail);
    }
    (void)pthread_rwlock_init(&a.raft_lock, NULL); /* Never fails on Linux. */
    (void)pthread_mutex_init(&a.upkeep.refusal_lock, NULL);
    status = run_configured(&a);
    (void)pthread_mutex_destroy(&a.upkeep.refusal_lock);
    (void)pthread_rwlock_destroy(&a.raft_lock);
    server_config_deinit(&a.cfg);
    return status;
}
