/* SPDX-License-Identifier: Apache-2.0 */
/* Every module's counters as Prometheus' text and as Consul's JSON. */
#include "server/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "server/link.h"

/* All figures, taken together. */
struct figures {
    struct mr_kv_stats kv;
    struct mr_raft_stats raft;
    struct mr_raft_status status;
    struct mr_api_stats api;
    struct mr_dns_stats dns;
    struct mr_checks_stats checks;
    struct mr_leases_stats leases;
    uint64_t is_leader;
    uint64_t has_leader;
    uint64_t n_peers;
    uint64_t n_voters;
    uint64_t last_contact_ms;
    uint64_t uptime_s;
    uint64_t rss_bytes;
    struct server_link_status link;
    uint64_t link_connected;
};

struct metric {
    const char *name; /* Without the prefix "microreg_". */
    bool is_counter;  /* Only grows, since the start. */
    size_t offset;
    const char *help;
};

#define COUNTER(name, member, help)                                            \
    {                                                                          \
        name "_total", true, offsetof(struct figures, member), help            \
    }
#define GAUGE(name, member, help)                                              \
    {                                                                          \
        name, false, offsetof(struct figures, member), help                    \
    }

/* shape: table */
static const struct metric metrics[] = {
    GAUGE("uptime_seconds", uptime_s, "Seconds since the start."),
    GAUGE("resident_bytes", rss_bytes, "Memory of the process."),
    GAUGE("raft_is_leader", is_leader, "1 on the leader."),
    GAUGE("raft_has_leader", has_leader, "1 when a leader is known."),
    GAUGE("raft_term", status.term, "Current term."),
    GAUGE("raft_last_log_index", status.last_log_index, "Last log entry."),
    GAUGE("raft_commit_index", status.commit_index, "Last committed entry."),
    GAUGE("raft_applied_index", status.applied_index, "Last applied entry."),
    GAUGE("raft_snapshot_index", status.snapshot_index,
          "Last entry in the newest snapshot."),
    GAUGE("raft_log_bytes", status.log_bytes, "Size of the log."),
    GAUGE("raft_peers", n_peers, "Servers in the configuration."),
    GAUGE("raft_voters", n_voters, "Servers that vote."),
    GAUGE("raft_last_contact_milliseconds", last_contact_ms,
          "Since the leader was heard; 0 on the leader."),
    GAUGE("raft_queue_length", raft.queue_len, "Proposals that wait."),
    COUNTER("raft_proposals", raft.proposals, "Commands proposed here."),
    COUNTER("raft_forwarded", raft.forwarded,
            "Commands forwarded to the leader."),
    COUNTER("raft_entries", raft.entries, "Log entries written."),
    COUNTER("raft_log_syncs", raft.log_syncs, "Synchronous log commits."),
    COUNTER("raft_elections", raft.elections,
            "Times this server became a candidate."),
    COUNTER("raft_leader_changes", raft.leader_changes, "Leaders seen."),
    COUNTER("raft_snapshots_taken", raft.snapshots_taken, "Snapshots taken."),
    COUNTER("raft_snapshots_sent", raft.snapshots_sent,
            "Snapshots sent to other servers."),
    COUNTER("raft_snapshots_installed", raft.snapshots_installed,
            "Snapshots received and installed."),
    COUNTER("raft_read_rounds", raft.read_rounds,
            "Rounds of messages for reads."),
    COUNTER("raft_frames_in", raft.frames_in, "Frames from other servers."),
    COUNTER("raft_frames_out", raft.frames_out, "Frames to other servers."),
    COUNTER("raft_bytes_in", raft.bytes_in, "Bytes from other servers."),
    COUNTER("raft_bytes_out", raft.bytes_out, "Bytes to other servers."),
    COUNTER("raft_refused_peers", raft.refused_peers, "Handshakes refused."),
    GAUGE("kv_revision", kv.revision, "Revision of the state."),
    GAUGE("kv_keys", kv.keys, "Keys stored."),
    GAUGE("kv_nodes", kv.nodes, "Nodes in the catalog."),
    GAUGE("kv_services", kv.services, "Names of services."),
    GAUGE("kv_instances", kv.instances, "Instances of services."),
    GAUGE("kv_checks", kv.checks, "Checks."),
    GAUGE("kv_bytes_used", kv.bytes_used, "Size of the state."),
    GAUGE("kv_waiters", kv.waiters, "Readers that wait for a change."),
    COUNTER("kv_batches", kv.batches, "Transactions committed."),
    COUNTER("kv_commands", kv.commands, "Commands applied."),
    GAUGE("leases", leases.leases, "Leases of the state."),
    GAUGE("leases_waiting", leases.waiting, "Renewals that wait."),
    COUNTER("leases_renewed", leases.renewals, "Renewals answered here."),
    COUNTER("leases_unknown", leases.unknown,
            "Renewals of leases that are gone."),
    COUNTER("leases_rounds", leases.rounds,
            "Rounds of renewals sent to the other servers."),
    COUNTER("leases_ended", leases.ended, "Ends proposed as the leader."),
    COUNTER("leases_takeovers", leases.takeovers,
            "Times the leases were taken over."),
    COUNTER("leases_pauses", leases.pauses, "Times this process stood still."),
    COUNTER("leases_bad_messages", leases.bad_messages,
            "Messages that were not understood."),
    GAUGE("checks_running", checks.running, "Checks this agent runs."),
    COUNTER("checks_probes", checks.probes, "Times a check was run."),
    COUNTER("checks_reports", checks.reports, "Results written to the state."),
    COUNTER("checks_timeouts", checks.timeouts, "Probes out of time."),
    GAUGE("http_connections", api.connections, "Open HTTP connections."),
    GAUGE("http_parked", api.parked, "Blocking queries that wait."),
    GAUGE("http_streams", api.streams, "Watch streams that are open."),
    COUNTER("http_requests", api.requests, "HTTP requests."),
    COUNTER("http_errors_4xx", api.errors_4xx, "Answers with status 4xx."),
    COUNTER("http_errors_5xx", api.errors_5xx, "Answers with status 5xx."),
    COUNTER("http_cache_hits", api.cache_hits, "Answers from the cache."),
    COUNTER("http_refused_connections", api.refused_connections,
            "Connections over the limit."),
    COUNTER("dns_udp_queries", dns.udp_queries, "Questions over UDP."),
    COUNTER("dns_tcp_queries", dns.tcp_queries, "Questions over TCP."),
    COUNTER("dns_cache_hits", dns.cache_hits, "Answers from the cache."),
    COUNTER("dns_malformed", dns.malformed, "Packets that are no question."),
    COUNTER("dns_refused", dns.refused, "Questions outside our domains."),
    COUNTER("dns_nxdomain", dns.nxdomain, "Answers NXDOMAIN."),
    COUNTER("dns_servfail", dns.servfail, "Answers SERVFAIL."),
    GAUGE("dns_tcp_connections", dns.tcp_connections, "Open TCP connections."),
    GAUGE("link_connected", link_connected,
          "1 on an agent without -server that has a server."),
    GAUGE("link_in_flight", link.in_flight,
          "Requests that a server is asked now."),
    COUNTER("link_requests", link.requests, "Requests passed on to servers."),
    COUNTER("link_failures", link.failures, "Those that no server answered."),
    COUNTER("link_failovers", link.failovers, "Changes to another server."),
};

/* The second number of statm: pages in memory. */
static uint64_t resident_bytes(void)
{
    FILE *in = fopen("/proc/self/statm", "re");
    char line[128] = "";
    char *at = line;
    uint64_t pages;

    if (in == NULL) {
        return 0;
    }
    if (fgets(line, sizeof line, in) == NULL) {
        line[0] = '\0';
    }
    (void)fclose(in); /* Only read from. */
    (void)strtoul(line, &at, 10);
    pages = strtoul(at, NULL, 10);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void take(struct server_agent *a, struct figures *f)
{
    memset(f, 0, sizeof *f);
    mr_kv_stats(a->kv, &f->kv);
    if (a->link != NULL) {
        server_link_status(a->link, &f->link);
        f->link_connected = f->link.is_connected ? 1 : 0;
    }
    (void)pthread_rwlock_rdlock(&a->raft_lock); /* Never fails. */
    if (a->is_raft_open) {
        mr_raft_stats(a->raft, &f->raft);
        mr_raft_status(a->raft, &f->status);
        if (a->api != NULL) {
            mr_api_stats(a->api, &f->api);
        }
        if (a->dns != NULL) {
            mr_dns_stats(a->dns, &f->dns);
        }
    }
    server_leases_stats(a->leases, &f->leases);
    if (a->checks != NULL) {
        mr_checks_stats(a->checks, &f->checks);
    }
    (void)pthread_rwlock_unlock(&a->raft_lock);
    f->is_leader = f->status.is_leader;
    f->has_leader = f->status.has_leader;
    f->n_peers = f->status.n_peers;
    f->n_voters = f->status.n_voters;
    f->last_contact_ms =
        f->status.last_contact_ms == UINT64_MAX ? 0 : f->status.last_contact_ms;
    f->uptime_s = (mr_now_ms(SERVER_CLOCK) - a->started_ms) / 1000;
    f->rss_bytes = resident_bytes();
}

static uint64_t value_of(const struct figures *f, const struct metric *m)
{
    uint64_t n;

    memcpy(&n, (const char *)f + m->offset, sizeof n);
    return n;
}

void server_metrics_prometheus(struct server_agent *agent, struct mr_buf *out)
{
    struct figures f;

    take(agent, &f);
    for (size_t i = 0; i < MR_ARRAY_LEN(metrics); i++) {
        const struct metric *m = &metrics[i];

        mr_buf_printf(out,
                      "# HELP microreg_%s %s\n# TYPE microreg_%s %s\n"
                      "microreg_%s %" PRIu64 "\n",
                      m->name, m->help, m->name,
                      m->is_counter ? "counter" : "gauge", m->name,
                      value_of(&f, m));
    }
}

static void put_gauge(struct mr_json *j, const struct metric *m, uint64_t value)
{
    char name[80];

    (void)snprintf(name, sizeof name, "microreg.%s", m->name); /* Fits. */
    mr_json_object(j);
    mr_json_kstr(j, "Name", name);
    mr_json_ku64(j, m->is_counter ? "Count" : "Value", value);
    if (m->is_counter) {
        mr_json_ku64(j, "Sum", value);
    }
    mr_json_key(j, "Labels");
    mr_json_object(j);
    mr_json_object_end(j);
    mr_json_object_end(j);
}

static void put_all(struct mr_json *j, const struct figures *f, bool counters)
{
    mr_json_array(j);
    for (size_t i = 0; i < MR_ARRAY_LEN(metrics); i++) {
        if (metrics[i].is_counter == counters) {
            put_gauge(j, &metrics[i], value_of(f, &metrics[i]));
        }
    }
    mr_json_array_end(j);
}

void server_metrics_json(struct server_agent *agent, struct mr_buf *out)
{
    const struct mr_clock *clock = SERVER_CLOCK;
    time_t now = (time_t)(clock->wall_ms(clock) / 1000);
    struct figures f;
    struct mr_json j;
    struct tm tm;
    char when[40];

    take(agent, &f);
    (void)gmtime_r(&now, &tm); /* Cannot fail for a date of this age. */
    (void)strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S +0000 UTC", &tm);
    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_kstr(&j, "Timestamp", when);
    mr_json_key(&j, "Gauges");
    put_all(&j, &f, false);
    mr_json_key(&j, "Points");
    mr_json_array(&j);
    mr_json_array_end(&j);
    mr_json_key(&j, "Counters");
    put_all(&j, &f, true);
    mr_json_key(&j, "Samples");
    mr_json_array(&j);
    mr_json_array_end(&j);
    mr_json_object_end(&j);
}
