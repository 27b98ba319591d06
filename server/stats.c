/* SPDX-License-Identifier: Apache-2.0 */
/* What /v1/agent/self and `microreg info` tell: groups of texts, as Consul's
 * where it has them, and the state's own. */
#include "server/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/json.h"
#include "server/link.h"
#include "server/version.h"

static void put_u64(struct mr_json *j, const char *key, uint64_t n)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%" PRIu64, n); /* Fits. */
    mr_json_kstr(j, key, text);
}

static void put_bool(struct mr_json *j, const char *key, bool value)
{
    mr_json_kstr(j, key, value ? "true" : "false");
}

static void begin(struct mr_json *j, const char *group)
{
    mr_json_key(j, group);
    mr_json_object(j);
}

static void put_build(struct mr_json *j)
{
    begin(j, "build");
    mr_json_kstr(j, "consul_version", server_consul_version());
    mr_json_kstr(j, "prerelease", "");
    mr_json_kstr(j, "revision", server_revision());
    mr_json_kstr(j, "version", server_version());
    mr_json_object_end(j);
}

static void put_agent(struct server_agent *a, struct mr_json *j)
{
    uint64_t up_ms = mr_now_ms(SERVER_CLOCK) - a->started_ms;
    struct mr_api_stats api;

    mr_api_stats(a->api, &api);
    begin(j, "agent");
    put_u64(j, "connections", api.connections);
    put_u64(j, "parked", api.parked);
    put_u64(j, "streams", api.streams);
    put_u64(j, "uptime_s", up_ms / 1000);
    mr_json_object_end(j);
}

static void put_consul(struct server_agent *a, const struct mr_raft_status *s,
                       struct mr_json *j)
{
    begin(j, "consul");
    mr_json_kstr(j, "acl", "disabled");
    put_bool(j, "bootstrap", a->cfg.bootstrap_expect == 1);
    mr_json_kstr(j, "known_datacenters", "1");
    put_bool(j, "leader", s->is_leader);
    mr_json_kstr(j, "leader_addr", s->leader_address);
    put_bool(j, "server", a->cfg.server);
    mr_json_object_end(j);
}

static void put_kv(struct server_agent *a, struct mr_json *j)
{
    struct mr_kv_stats kv;
    struct mr_hash128 digest = mr_kv_digest(a->kv, NULL);
    char hex[33];

    mr_kv_stats(a->kv, &kv);
    (void)snprintf(hex, sizeof hex, "%016" PRIx64 "%016" PRIx64, digest.high,
                   digest.low);
    begin(j, "kv");
    put_u64(j, "bytes_used", kv.bytes_used);
    put_u64(j, "checks", kv.checks);
    mr_json_kstr(j, "digest", hex);
    put_u64(j, "instances", kv.instances);
    put_u64(j, "keys", kv.keys);
    put_u64(j, "nodes", kv.nodes);
    put_u64(j, "revision", kv.revision);
    put_u64(j, "services", kv.services);
    put_u64(j, "waiters", kv.waiters);
    mr_json_object_end(j);
}

static void put_raft(const struct mr_raft_status *s, struct mr_json *j)
{
    char contact[32] = "never";

    if (s->last_contact_ms != UINT64_MAX) {
        (void)snprintf(contact, sizeof contact, "%" PRIu64 "%s",
                       s->last_contact_ms, s->last_contact_ms > 0 ? "ms" : "");
    }
    begin(j, "raft");
    put_u64(j, "applied_index", s->applied_index);
    put_u64(j, "cluster_id", s->cluster_id);
    put_u64(j, "commit_index", s->commit_index);
    put_u64(j, "fsm_pending",
            s->commit_index > s->applied_index
                ? s->commit_index - s->applied_index
                : 0);
    mr_json_kstr(j, "last_contact", contact);
    put_u64(j, "last_log_index", s->last_log_index);
    put_u64(j, "last_snapshot_index", s->snapshot_index);
    put_u64(j, "last_snapshot_term", s->snapshot_term);
    put_u64(j, "latest_configuration_index", s->config_index);
    put_u64(j, "log_bytes", s->log_bytes);
    put_u64(j, "num_peers", s->n_peers > 0 ? s->n_peers - 1 : 0);
    put_u64(j, "num_voters", s->n_voters);
    mr_json_kstr(j, "protocol_version", "3"); /* What clients look for. */
    mr_json_kstr(j, "state", s->role);
    put_u64(j, "term", s->term);
    put_bool(j, "voter", s->is_voter);
    mr_json_object_end(j);
}

/* What an agent without -server has instead of raft. */
static void put_link(struct server_agent *a, struct mr_json *j)
{
    struct server_link_status s;

    server_link_status(a->link, &s);
    begin(j, "consul");
    mr_json_kstr(j, "acl", "disabled");
    put_u64(j, "known_servers", s.n_servers);
    put_bool(j, "server", false);
    mr_json_object_end(j);
    put_kv(a, j);
    begin(j, "link");
    mr_json_kstr(j, "cluster_id", s.cluster);
    put_bool(j, "connected", s.is_connected);
    put_u64(j, "failovers", s.failovers);
    put_u64(j, "failures", s.failures);
    put_u64(j, "in_flight", s.in_flight);
    put_u64(j, "requests", s.requests);
    mr_json_kstr(j, "server", s.server);
    mr_json_object_end(j);
}

static void put_runtime(struct mr_json *j)
{
    struct utsname uts;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    begin(j, "runtime");
    if (uname(&uts) == 0) {
        mr_json_kstr(j, "arch", uts.machine);
    }
    put_u64(j, "cpu_count", cpus > 0 ? (uint64_t)cpus : 0);
    mr_json_kstr(j, "os", "linux");
    put_u64(j, "pid", (uint64_t)getpid());
    mr_json_kstr(j, "version", "C " __VERSION__);
    mr_json_object_end(j);
}

void server_stats_json(struct server_agent *agent, struct mr_buf *out)
{
    struct mr_json j;

    mr_json_init(&j, out);
    mr_json_object(&j);
    (void)pthread_rwlock_rdlock(&agent->raft_lock); /* Never fails. */
    if (agent->is_raft_open && agent->api != NULL) {
        struct mr_raft_status status;

        mr_raft_status(agent->raft, &status);
        put_agent(agent, &j);
        put_build(&j);
        put_consul(agent, &status, &j);
        put_kv(agent, &j);
        put_raft(&status, &j);
        put_runtime(&j);
    }
    (void)pthread_rwlock_unlock(&agent->raft_lock);
    /* The link outlives the API's workers. */
    if (agent->link != NULL && agent->api != NULL) {
        put_agent(agent, &j);
        put_build(&j);
        put_link(agent, &j);
        put_runtime(&j);
    }
    mr_json_object_end(&j);
}
