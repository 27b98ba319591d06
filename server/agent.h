/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running server: what belongs together while the process lives.
 *
 * The loop runs on the main thread, which is the core thread. Other threads
 * reach it through the inbox only.
 *
 *   STARTING -> RUNNING -> LEAVING -> DRAINING -> CLOSING -> CLOSED
 *                  \________________________________^
 */
#ifndef MR_SERVER_AGENT_H
#define MR_SERVER_AGENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "api/mr_api.h"
#include "base/queue.h"
#include "dns/mr_dns.h"
#include "health/mr_check.h"
#include "kv/mr_kv.h"
#include "raft/mr_raft.h"
#include "server/config.h"
#include "server/identity.h"
#include "server/leases.h"

enum server_state {
    SERVER_STARTING,
    SERVER_RUNNING,
    SERVER_LEAVING,  /* Leaving the cluster; answers still go out. */
    SERVER_DRAINING, /* Left; the last answers get a moment. */
    SERVER_CLOSING,  /* raft is closing. */
    SERVER_CLOSED
};

/* What the catalog says about this server and the others, kept true. */
struct server_upkeep {
    atomic_bool is_registered;       /* Ours went through since the start. */
    atomic_bool is_deregistered;     /* For leaving; the inbox looks at it. */
    atomic_uint n_proposed;          /* On their way. */
    struct mr_lease_renewal renewal; /* Of our node's lease. */
    struct mr_lease_item item;
    bool is_renewing;       /* The renewal is on its way. */
    char last_refusal[256]; /* Logged once. Guarded by refusal_lock. */
    pthread_mutex_t refusal_lock;
};

struct server_agent {
    int argc; /* The agent's flags, for reloading. */
    char *const *argv;
    struct server_config cfg;
    struct server_identity identity;
    enum server_state state;
    uint64_t started_ms;

    uv_loop_t loop;
    uv_async_t wakeup;
    uv_timer_t tick;
    uv_timer_t drain;
    uv_signal_t signals[3];
    struct mr_queue inbox;  /* struct server_wish, from any thread. */
    struct mr_list leaving; /* struct server_wish: told when we left. */
    unsigned n_reloads;     /* Being read by libuv's pool. */

    struct mr_why *why; /* NULL: events are not kept. */
    struct server_leases *leases;
    struct mr_kv *kv;
    struct mr_raft *raft; /* NULL on an agent without -server, which has */
    struct server_local *local; /* these in its place. */
    struct server_link *link;
    struct server_sync *sync;
    struct mr_api *_Atomic api; /* Its workers ask for its figures. */
    struct mr_dns *dns;
    struct mr_api_agent self;

    /* HTTP workers ask for figures of raft and checks while they close. */
    pthread_rwlock_t raft_lock;
    bool is_raft_open; /* Guarded by raft_lock. */
    atomic_bool has_leader;

    struct server_upkeep upkeep;
    struct server_registrar *registrar; /* Of what files define. */
    struct mr_checks *checks;           /* Guarded by raft_lock. */
    atomic_uint n_check_reports;        /* On their way into the state. */
};

/* Run an agent with these flags until it is told to end; returns the exit
 * status of the process. */
int server_agent_run(int argc, char *const *argv);

/* Begin to end, once; @leave: leave the cluster first. Core thread. */
void server_agent_end(struct server_agent *agent, bool leave);

/* The next step of leaving: our node is out of the catalog, or could not be
 * taken out. Core thread. */
void server_agent_deregistered(struct server_agent *agent);

/* Go on with the end, when it waits for the last reload only. Core thread. */
void server_agent_close_raft(struct server_agent *agent);

/* The clock and the random source of the process. */
#define SERVER_CLOCK mr_clock_system()
#define SERVER_RANDOM mr_random_system()

/* ---- host.c: wishes of clients ---- */

/* What the API may ask of this process. */
struct mr_api_host server_host(struct server_agent *agent);

/* Handle the inbox. Core thread. */
void server_host_drain(struct server_agent *agent);

/* Complete the wishes to leave that wait for it. Core thread. */
void server_host_left(struct server_agent *agent, enum mr_err err,
                      const char *text);

/* Refuse what is still in the inbox. Core thread, at the end. */
void server_host_close(struct server_agent *agent);

/* Read the configuration again and take over what can be; @done (may be NULL)
 * is told. Core thread; the files are read by another. */
void server_host_reload(struct server_agent *agent, mr_api_host_cb done,
                        void *request);

/* ---- signals.c ---- */

/* Handle SIGTERM, SIGINT and SIGHUP on the loop; ignore SIGPIPE. */
MR_MUST_CHECK enum mr_err server_signals_start(struct server_agent *agent,
                                               struct mr_detail *detail);

/* Close the handles. */
void server_signals_stop(struct server_agent *agent);

/* ---- upkeep.c ---- */

/* Renew our node's lease, or register the node when it is missing or has none.
 * Core thread, every second. */
void server_upkeep_run(struct server_agent *agent);

/* Take this node out of the catalog; server_agent_deregistered() follows,
 * later, whatever the outcome. MR_E_BUSY, MR_E_CLOSED, MR_E_NOMEM: it won't. */
MR_MUST_CHECK enum mr_err server_upkeep_deregister(struct server_agent *agent);

/* ---- banner.c ---- */

/* What this server is, as Consul prints it at its start. */
void server_banner(const struct server_agent *agent);

/* ---- stats.c, metrics.c ---- */

/* Append the object of groups that /v1/agent/self and `info` show. Any
 * thread. */
void server_stats_json(struct server_agent *agent, struct mr_buf *out);

/* Append all metrics in Prometheus' text format. Any thread. */
void server_metrics_prometheus(struct server_agent *agent, struct mr_buf *out);

/* Append all metrics in Consul's JSON. Any thread. */
void server_metrics_json(struct server_agent *agent, struct mr_buf *out);

#endif /* MR_SERVER_AGENT_H */
