/* SPDX-License-Identifier: Apache-2.0 */
/* The service's life: options of its own, start, quiesce, stop, counters. */
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/cache.h"
#include "api/core.h"
#include "api/decode.h"
#include "api/feed.h"
#include "api/http_server.h"
#include "api/park.h"
#include "api/relay.h"
#include "api/response.h"
#include "api/websocket.h"
#include "base/mem.h"

#define CACHE_BYTES ((size_t)16 * 1024 * 1024)

#define DEFAULT_VALUE_MAX ((size_t)512 * 1024)
/* A request's line and headers and its answer's headers. */
#define DEFAULT_CONNECTION_MEMORY ((size_t)3840)
#define DEFAULT_CONNECTIONS 20000u
#define DEFAULT_PER_CLIENT 200u
#define DEFAULT_QUERY_MS ((uint64_t)5 * 60 * 1000)
#define DEFAULT_QUERY_MAX_MS ((uint64_t)10 * 60 * 1000)

/* Descriptors that are not for clients: state, log, peers, DNS. */
#define RESERVED_FDS 256u

#define WORKERS_MIN 2u
#define WORKERS_MAX 8u

/* ------------------------------------------------------------- options */

/* A copy of @n texts and of their array; NULL: no memory. */
static const char *const *copy_texts(const char *const *texts, size_t n)
{
    char **copy = mr_calloc(n + 1, sizeof *copy);

    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i] = mr_strdup(texts[i]);
        if (copy[i] == NULL) {
            while (i > 0) {
                mr_free(copy[--i]);
            }
            mr_free(copy);
            return NULL;
        }
    }
    return (const char *const *)copy;
}

static void free_texts(const char *const *texts, size_t n)
{
    for (size_t i = 0; texts != NULL && i < n; i++) {
        mr_free((void *)(uintptr_t)texts[i]); /* Our copies. */
    }
    mr_free((void *)(uintptr_t)texts);
}

/* The agent's texts, to copy and to release them. */
static void agent_texts(struct mr_api_agent *a, const char **out_texts[7])
{
    const char **texts[] = {&a->node_name,  &a->node_id, &a->address,
                            &a->datacenter, &a->version, &a->consul_version,
                            &a->revision};

    memcpy(out_texts, texts, sizeof texts);
}

static void free_options(struct mr_api_options *o)
{
    const char **texts[7];

    agent_texts(&o->agent, texts);
    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        mr_free((void *)(uintptr_t)*texts[i]);
    }
    free_texts(o->addresses, o->n_addresses);
    free_texts(o->agent.meta, o->agent.n_meta * 2);
}

static bool copy_options(const struct mr_api_options *from,
                         struct mr_api_options *to)
{
    const char **texts[7];
    bool ok = true;

    *to = *from;
    agent_texts(&to->agent, texts);
    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        *texts[i] = mr_strdup(*texts[i] == NULL ? "" : *texts[i]);
        ok = ok && *texts[i] != NULL;
    }
    to->addresses = copy_texts(from->addresses, from->n_addresses);
    to->agent.meta = copy_texts(from->agent.meta, from->agent.n_meta * 2);
    return ok && to->addresses != NULL && to->agent.meta != NULL;
}

static unsigned default_workers(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < (long)WORKERS_MIN   ? WORKERS_MIN
           : n > (long)WORKERS_MAX ? WORKERS_MAX
                                   : (unsigned)n;
}

/* As many connections as there are descriptors for. */
static unsigned bound_connections(unsigned wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < (rlim_t)wanted + RESERVED_FDS) {
        return limit.rlim_cur > 2 * RESERVED_FDS
                   ? (unsigned)limit.rlim_cur - RESERVED_FDS
                   : RESERVED_FDS;
    }
    return wanted;
}

static void apply_defaults(struct mr_api_options *o)
{
    o->n_workers = o->n_workers == 0 ? default_workers() : o->n_workers;
    o->max_connections = bound_connections(
        o->max_connections == 0 ? DEFAULT_CONNECTIONS : o->max_connections);
    if (o->max_connections_per_client == 0) {
        o->max_connections_per_client = DEFAULT_PER_CLIENT;
    }
    if (o->connection_memory == 0) {
        o->connection_memory = DEFAULT_CONNECTION_MEMORY;
    }
    if (o->kv_max_value_size == 0) {
        o->kv_max_value_size = DEFAULT_VALUE_MAX;
    }
    if (o->default_query_time_ms == 0) {
        o->default_query_time_ms = DEFAULT_QUERY_MS;
    }
    if (o->max_query_time_ms == 0) {
        o->max_query_time_ms = DEFAULT_QUERY_MAX_MS;
    }
}

/* ------------------------------------------------------------- life */

static void release(struct mr_api *api)
{
    api_cache_free(api->cache);
    api_response_release(api->true_response);
    free_options(&api->options);
    mr_free(api);
}

enum mr_err mr_api_start(const struct mr_api_options *options,
                         struct mr_api **out_api, struct mr_detail *detail)
{
    struct mr_api *api = mr_calloc(1, sizeof *api);

    if (api == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    bool ok = copy_options(options, &api->options);

    decode_setup();
    apply_defaults(&api->options);
    api->cache = api_cache_new(options->kv, CACHE_BYTES);
    api->true_response = api_response_make_true();
    api->feeds = ok ? api_feeds_start(options->kv) : NULL;
    api->websockets = ok ? api_websockets_start(options->clock) : NULL;
    if (ok && options->host.upstream != NULL) {
        api->relays = api_relays_start(&api->options);
        ok = api->relays != NULL;
    }
    api->park = ok ? api_park_start(options->clock, options->random) : NULL;
    if (api->park == NULL || api->cache == NULL || api->feeds == NULL ||
        api->websockets == NULL || api->true_response == NULL) {
        api_park_stop(api->park);
        api_websockets_stop(api->websockets);
        api_relays_stop(api->relays);
        api_feeds_stop(api->feeds);
        release(api);
        return mr_fail(detail, MR_E_NOMEM, "out of memory or descriptors");
    }
    enum mr_err err = api_http_start(api, detail);

    if (err != MR_OK) {
        mr_api_stop(api);
        return err;
    }
    *out_api = api;
    return MR_OK;
}

void mr_api_quiesce(struct mr_api *api)
{
    atomic_store(&api->is_quiescing, true);
    api_park_wake_all(api->park);
}

void mr_api_stop(struct mr_api *api)
{
    if (api == NULL) {
        return;
    }
    mr_api_quiesce(api);
    api_websockets_drain(api->websockets);
    api_park_drain(api->park);
    api_http_stop(api);
    api_websockets_stop(api->websockets);
    api_relays_stop(api->relays);
    api_park_stop(api->park);
    api_feeds_stop(api->feeds);
    release(api);
}

uint16_t mr_api_port(const struct mr_api *api)
{
    return api->port;
}

void mr_api_stats(const struct mr_api *api, struct mr_api_stats *out_stats)
{
    struct mr_api_stats stats = {
        .requests = atomic_load(&api->requests),
        .errors_4xx = atomic_load(&api->errors_4xx),
        .errors_5xx = atomic_load(&api->errors_5xx),
        .cache_hits = atomic_load(&api->cache_hits),
        .parked = atomic_load(&api->parked),
        .streams = atomic_load(&api->streams),
        .connections = atomic_load(&api->connections),
        .refused_connections = atomic_load(&api->refused_connections),
    };

    *out_stats = stats;
}
