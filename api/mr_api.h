/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api: Consul's HTTP API over the state.
 *
 * libmicrohttpd's workers parse and answer. Reads go to a view on the worker;
 * whatever has to wait (a write, a consistent read, a blocking query) suspends
 * its connection and is resumed by the thread that completes it.
 *
 * May use: base, kv, raft, health, libmicrohttpd, jansson, zlib.
 */
#ifndef MR_API_H
#define MR_API_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "health/mr_lease.h"
#include "health/mr_why.h"
#include "kv/mr_kv.h"
#include "raft/mr_raft.h"

/* How long a member that left in order is remembered (Deregister.left_ms). */
#define MR_API_LEFT_MS ((uint64_t)24 * 3600 * 1000)

struct mr_api; /* The service: its listeners and workers. */

/* A command on its way through raft. Whoever proposes a kv command embeds this
 * and passes &write->proposal to mr_raft_propose(); the state machine (server/)
 * leaves the command's result here before the proposal's done is called. */
struct mr_write {
    struct mr_raft_proposal proposal;
    struct mr_kv_result result;
};

/* Completes an asynchronous wish of a client; any thread, once. @text is the
 * error's sentence or NULL. */
typedef void (*mr_api_host_cb)(void *request, enum mr_err err,
                               const char *text);

/* A request that an agent without -server passes on to a server, and what came
 * back. Kept by the API until done is called; any thread, once. */
struct mr_api_forward {
    const char *method;
    const char *target;         /* Path and query, as the client sent them. */
    const char *const *headers; /* Name, value, name, value ... */
    size_t n_headers;           /* Pairs. */
    struct mr_slice body;
    uint64_t timeout_ms; /* How long the answer may take. */
    void (*done)(struct mr_api_forward *forward, enum mr_err err);
    /* Set before done, when err is MR_OK. */
    int status;
    struct mr_buf answer;         /* Owned by the API, initialised by it. */
    struct mr_buf answer_headers; /* "Name: value\n" lines. Likewise. */
    struct mr_detail detail;      /* Why not, when err is not MR_OK. */
    void *op;                     /* The host's. */
};

/* A server that an agent without -server uses. */
struct mr_api_upstream {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    socklen_t address_len;
    char host[64];    /* The same as a text, host:port. */
    char cluster[17]; /* Its cluster's ID. */
};

/* What the process around the API does for it. Any thread; none may block. */
struct mr_api_host {
    void *arg;
    /* Leave the cluster, then stop the process; @cb is called when the leaving
     * is done, before the process ends. */
    void (*leave)(void *arg, mr_api_host_cb cb, void *request);
    /* Read the configuration files again. */
    void (*reload)(void *arg, mr_api_host_cb cb, void *request);
    /* Append the members "DebugConfig" (settings in effect) and "Stats" (two
     * levels of texts) as JSON objects. */
    void (*debug_config)(void *arg, struct mr_buf *out_json);
    void (*stats)(void *arg, struct mr_buf *out_json);
    /* Append all metrics in Prometheus' text format, or Consul's JSON. */
    void (*metrics_prometheus)(void *arg, struct mr_buf *out);
    void (*metrics_json)(void *arg, struct mr_buf *out);
    /* Get a command into the state: mr_raft_propose() on a server, the agent's
     * own store on an agent without -server. Errors as mr_raft_propose(). */
    enum mr_err (*propose)(void *arg, struct mr_raft_proposal *proposal);
    /* Renew leases; renewal->done is called on the core thread. On an agent
     * without -server both its own and the cluster's. MR_E_BUSY, MR_E_CLOSED:
     * done will not be called. */
    enum mr_err (*renew)(void *arg, struct mr_lease_renewal *renewal);
    /* The age of a lease as this server knows it; any thread. */
    bool (*lease_age)(void *arg, uint64_t lease_id,
                      struct mr_lease_age *out_age);
    /* Agents without -server only, else NULL: pass a request on. */
    enum mr_err (*forward)(void *arg, struct mr_api_forward *forward);
    /* Likewise: nobody waits for @forward any more; its done comes soon. */
    void (*forward_cancel)(void *arg, struct mr_api_forward *forward);
    /* Likewise: the server in use now; false: there is none. */
    bool (*upstream)(void *arg, struct mr_api_upstream *out_upstream);
    /* Likewise: the server in use does not do its work. */
    void (*doubt)(void *arg);
    /* Likewise: look for servers at @address (host[:port]) too. */
    void (*join)(void *arg, const char *address, mr_api_host_cb cb,
                 void *request);
    /* Servers only: answer the DNS question @query as over UDP or TCP, at the
     * end of @out; false: no answer at all. */
    bool (*dns)(void *arg, struct mr_slice query, bool is_udp,
                struct mr_buf *out);
    struct mr_why *why; /* NULL: nothing is written down. */
};

/* Who this agent is. */
struct mr_api_agent {
    const char *node_name;
    const char *node_id;
    const char *address; /* Advertised IP. */
    const char *datacenter;
    const char *version;        /* "0.1.0" */
    const char *consul_version; /* "1.8.7": for clients that look. */
    const char *revision;
    bool is_server;
    unsigned bootstrap_expect;
    uint16_t server_port;
    uint16_t dns_port;
    uint64_t node_ttl_ms; /* Node.ttl_ms and Node.reap_ms of its row. */
    uint64_t node_reap_ms;
    const char *const *meta; /* Node metadata: key, value, key, value ... */
    size_t n_meta;           /* Pairs. */
};

struct mr_api_options {
    const char *const *addresses; /* IP literals to listen on. */
    size_t n_addresses;
    uint16_t port;                       /* 0 picks one (tests). */
    unsigned n_workers;                  /* 0: by the number of processors. */
    unsigned max_connections;            /* In all; 0: default. */
    unsigned max_connections_per_client; /* 0: default (as Consul, 200). */
    size_t connection_memory; /* For a request's line and headers; a parked
                                 query keeps it. 0: 3840. */
    size_t kv_max_value_size; /* Bytes; 0: 512 KiB. */
    uint64_t default_query_time_ms; /* Blocking query's wait; 0: 5 min. */
    uint64_t max_query_time_ms;     /* 0: 10 min. */
    bool pretty_always;             /* -dev: every answer indented. */
    bool enable_ui;
    bool enable_scripts; /* Script checks may be registered. */
    struct mr_api_agent agent;
    struct mr_api_host host;
    struct mr_kv *kv;     /* Borrowed; outlive the service. */
    struct mr_raft *raft; /* NULL: an agent without -server. */
    const struct mr_clock *clock;
    const struct mr_random *random;
};

/* Listen and start the workers. @options is copied, with its texts. On success
 * the caller owns *@out_api and releases it with mr_api_stop().
 *
 * MR_E_INUSE, MR_E_ADDRESS, MR_E_NOMEM, MR_E_IO: the detail names the address. */
MR_MUST_CHECK enum mr_err mr_api_start(const struct mr_api_options *options,
                                       struct mr_api **out_api,
                                       struct mr_detail *detail);

/* Refuse new requests and end the waiting ones (503), so that raft may close.
 * Call it before mr_raft_close(), and mr_api_stop() after it. */
void mr_api_quiesce(struct mr_api *api);

/* Stop the workers and release everything. No request may be in raft's hands
 * any more. NULL is a no-op. */
void mr_api_stop(struct mr_api *api);

/* Serve HTTP on @fd, a connection that an agent made to the servers' port
 * (mr_raft_options.on_http); @fd is the API's from now on, whatever is
 * returned. Such requests must name our cluster in X-Microreg-Cluster, are
 * exempt from the limit per client address, and alone may use the routes below
 * /v1/internal/. Core thread. MR_E_BUSY, MR_E_CLOSED, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err mr_api_adopt(struct mr_api *api, int fd);

/* The port in use, for tests that asked for 0. */
uint16_t mr_api_port(const struct mr_api *api);

struct mr_api_stats {
    uint64_t requests;
    uint64_t errors_4xx;
    uint64_t errors_5xx;
    uint64_t cache_hits;
    uint64_t parked;      /* Blocking queries waiting now. */
    uint64_t streams;     /* Watch streams open now. */
    uint64_t connections; /* Open now. */
    uint64_t refused_connections;
};

/* Counters since the start. Any thread. */
void mr_api_stats(const struct mr_api *api, struct mr_api_stats *out_stats);

/* Register this agent's own node: its row, the serfHealth check and, on a
 * server, the service "consul". Builds the Register command into @out. */
void mr_api_self_command(const struct mr_api_agent *agent, struct mr_buf *out);

#endif /* MR_API_H */
