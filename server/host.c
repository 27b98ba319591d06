/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the API asks of the process: leaving, reloading, figures.
 *
 * Wishes come from HTTP workers and travel through the inbox to the core
 * thread; a wish to leave waits in the agent until the leaving is done.
 */
#include "server/agent.h"

#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/client.h"
#include "server/registrar.h"

enum wish_kind { WISH_LEAVE, WISH_RELOAD };

struct server_wish {
    struct mr_list link; /* In the inbox, or in leaving. */
    enum wish_kind kind;
    mr_api_host_cb cb;
    void *request;
};

/* One reading of the configuration. */
struct reload {
    uv_work_t work;
    struct server_agent *agent;
    struct server_config cfg;
    struct mr_detail detail;
    enum mr_err err;
    mr_api_host_cb cb;
    void *request;
};

static void wish(struct server_agent *a, enum wish_kind kind, mr_api_host_cb cb,
                 void *request)
{
    struct server_wish *w = mr_calloc(1, sizeof *w);
    enum mr_err err;

    if (w == NULL) {
        cb(request, MR_E_NOMEM, NULL);
        return;
    }
    w->kind = kind;
    w->cb = cb;
    w->request = request;
    err = mr_queue_push(&a->inbox, &w->link);
    if (err != MR_OK) {
        mr_free(w);
        cb(request, err, NULL);
    }
}

static void host_leave(void *arg, mr_api_host_cb cb, void *request)
{
    wish(arg, WISH_LEAVE, cb, request);
}

static void host_reload(void *arg, mr_api_host_cb cb, void *request)
{
    wish(arg, WISH_RELOAD, cb, request);
}

/* ---- reload ---- */

/* A thread of libuv's pool: reading files may take its time. */
static void read_files(uv_work_t *work)
{
    struct reload *r = mr_container_of(work, struct reload, work);

    r->err =
        server_config_load(&r->cfg, r->agent->argc, r->agent->argv, &r->detail);
}

static void note_change(void *arg, const struct server_option *option)
{
    (void)arg;
    if (option->use != SERVER_OPTION_LIVE) {
        mr_log_warn("agent",
                    "ignoring the new value of %s until the next start",
                    option->key != NULL ? option->key : option->flag);
    }
}

static void take_text(char **to, char **from)
{
    char *old = *to;

    *to = *from;
    *from = old;
}

/* Take over the live options; the configuration is good as a whole. Then the
 * registrar answers who asked. */
static enum mr_err take_over(struct server_agent *a, struct reload *r)
{
    enum mr_log_level level;
    enum mr_err err =
        server_registrar_check(a, &r->cfg.definitions, &r->detail);

    if (err == MR_OK) {
        err = mr_log_set_file(r->cfg.log_file, &r->detail);
    }
    if (err != MR_OK) {
        return err;
    }
    mr_assert(mr_log_parse_level(r->cfg.log_level, &level) == MR_OK);
    mr_log_set_level(level);
    server_config_diff(&a->cfg, &r->cfg, note_change, NULL);
    take_text(&a->cfg.log_file, &r->cfg.log_file);
    take_text(&a->cfg.log_level, &r->cfg.log_level);
    mr_log_info("agent", "configuration reloaded");
    server_registrar_replace(a, &r->cfg.definitions, r->cb, r->request);
    return MR_OK;
}

static void on_read(uv_work_t *work, int status)
{
    struct reload *r = mr_container_of(work, struct reload, work);

    if (status != 0) {
        r->err = mr_fail(&r->detail, MR_E_CANCELED, "%s", uv_strerror(status));
    } else if (r->err == MR_OK) {
        r->err = take_over(r->agent, r);
        server_config_deinit(&r->cfg);
    }
    if (r->err != MR_OK) {
        mr_log_warn("agent", "reload failed, keeping the old settings: %s",
                    r->detail.text);
        if (r->cb != NULL) {
            r->cb(r->request, r->err, r->detail.text);
        }
    }
    r->agent->n_reloads--;
    server_agent_close_raft(r->agent);
    mr_free(r);
}

void server_host_reload(struct server_agent *agent, mr_api_host_cb done,
                        void *request)
{
    bool is_ending = agent->state >= SERVER_CLOSING;
    struct reload *r = is_ending ? NULL : mr_calloc(1, sizeof *r);
    enum mr_err err = is_ending ? MR_E_CLOSED : MR_E_NOMEM;

    if (r != NULL) {
        r->agent = agent;
        r->cb = done;
        r->request = request;
        if (uv_queue_work(&agent->loop, &r->work, read_files, on_read) == 0) {
            agent->n_reloads++;
            return;
        }
        mr_free(r);
        err = MR_E_IO;
    }
    mr_log_warn("agent", "reload failed: %s", mr_strerror(err));
    if (done != NULL) {
        done(request, err, mr_strerror(err));
    }
}

/* ---- inbox ---- */

static void grant(struct server_agent *a, struct server_wish *w)
{
    if (w->kind == WISH_RELOAD) {
        server_host_reload(a, w->cb, w->request);
        mr_free(w);
        return;
    }
    if (a->state != SERVER_RUNNING && a->state != SERVER_LEAVING) {
        w->cb(w->request, MR_E_CLOSED, NULL);
        mr_free(w);
        return;
    }
    mr_list_push(&a->leaving, &w->link);
    server_agent_end(a, true);
}

void server_host_drain(struct server_agent *agent)
{
    struct mr_list wishes;
    struct mr_list *link;

    (void)mr_queue_take(&agent->inbox, &wishes);
    while ((link = mr_list_pop(&wishes)) != NULL) {
        grant(agent, mr_container_of(link, struct server_wish, link));
    }
    if (atomic_exchange(&agent->upkeep.is_deregistered, false)) {
        server_agent_deregistered(agent);
    }
}

void server_host_left(struct server_agent *agent, enum mr_err err,
                      const char *text)
{
    struct mr_list *link;

    while ((link = mr_list_pop(&agent->leaving)) != NULL) {
        struct server_wish *w = mr_container_of(link, struct server_wish, link);

        w->cb(w->request, err, text);
        mr_free(w);
    }
}

void server_host_close(struct server_agent *agent)
{
    struct mr_list wishes;
    struct mr_list *link;

    server_host_left(agent, MR_E_CLOSED, NULL);
    mr_queue_close(&agent->inbox);
    (void)mr_queue_take(&agent->inbox, &wishes);
    while ((link = mr_list_pop(&wishes)) != NULL) {
        struct server_wish *w = mr_container_of(link, struct server_wish, link);

        w->cb(w->request, MR_E_CLOSED, NULL);
        mr_free(w);
    }
}

/* ---- figures ---- */

static enum mr_err host_renew(void *arg, struct mr_lease_renewal *renewal)
{
    const struct server_agent *a = arg;

    return server_leases_renew(a->leases, renewal);
}

static enum mr_err host_propose(void *arg, struct mr_raft_proposal *proposal)
{
    const struct server_agent *a = arg;

    return mr_raft_propose(a->raft, proposal);
}

static bool host_lease_age(void *arg, uint64_t lease_id,
                           struct mr_lease_age *out_age)
{
    const struct server_agent *a = arg;

    return server_leases_age(a->leases, lease_id, out_age);
}

static bool host_dns(void *arg, struct mr_slice query, bool is_udp,
                     struct mr_buf *out)
{
    const struct server_agent *a = arg;

    /* DNS starts before the API and ends after it. */
    return a->dns != NULL && mr_dns_answer(a->dns, query, is_udp, out);
}

static void host_debug_config(void *arg, struct mr_buf *out_json)
{
    const struct server_agent *a = arg;
    struct mr_json j;
    size_t n;
    const struct server_option *options = server_options(&n);

    mr_json_init(&j, out_json);
    mr_json_object(&j);
    for (size_t i = 0; i < n; i++) {
        const struct server_option *o = &options[i];

        /* Live ones may be swapped by a reload while we read. */
        if (o->key == NULL || o->use != SERVER_OPTION_START) {
            continue;
        }
        mr_json_key(&j, o->key);
        server_config_json(&a->cfg, o, out_json);
        j.need_comma = true;
    }
    mr_json_object_end(&j);
}

static void host_stats(void *arg, struct mr_buf *out_json)
{
    server_stats_json(arg, out_json);
}

static void host_prometheus(void *arg, struct mr_buf *out)
{
    server_metrics_prometheus(arg, out);
}

static void host_json(void *arg, struct mr_buf *out)
{
    server_metrics_json(arg, out);
}

struct mr_api_host server_host(struct server_agent *agent)
{
    struct mr_api_host host = {
        .arg = agent,
        .leave = host_leave,
        .reload = host_reload,
        .debug_config = host_debug_config,
        .stats = host_stats,
        .metrics_prometheus = host_prometheus,
        .metrics_json = host_json,
        .propose = host_propose,
        .renew = host_renew,
        .lease_age = host_lease_age,
        .dns = host_dns,
        .why = agent->why,
    };

    server_client_host(agent, &host);
    return host;
}
