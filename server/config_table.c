/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options. shape: table */
#include "server/config.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

#define S INT64_C(1000000000)
#define AT(member) offsetof(struct server_config, member)

#define BOOL(flag, key, use, member, initial, help)                            \
    {                                                                          \
        flag, key, SERVER_OPTION_BOOL, SERVER_OPTION_##use, AT(member),        \
            initial, 0, 1, help                                                \
    }
#define TEXT(flag, key, use, member, initial, help)                            \
    {                                                                          \
        flag, key, SERVER_OPTION_TEXT, SERVER_OPTION_##use, AT(member),        \
            initial, 0, 0, help                                                \
    }
#define LIST(flag, key, member, help)                                          \
    {                                                                          \
        flag, key, SERVER_OPTION_LIST, SERVER_OPTION_START, AT(member), NULL,  \
            0, 0, help                                                         \
    }
#define PAIRS(flag, key, member, help)                                         \
    {                                                                          \
        flag, key, SERVER_OPTION_PAIRS, SERVER_OPTION_START, AT(member), NULL, \
            0, 0, help                                                         \
    }
#define INT(flag, key, member, initial, min, max, help)                        \
    {                                                                          \
        flag, key, SERVER_OPTION_INT, SERVER_OPTION_START, AT(member),         \
            initial, min, max, help                                            \
    }
#define DURATION(flag, key, member, initial, min, max, help)                   \
    {                                                                          \
        flag, key, SERVER_OPTION_DURATION, SERVER_OPTION_START, AT(member),    \
            initial, min, max, help                                            \
    }
#define DEFINITIONS(key, help)                                                 \
    {                                                                          \
        NULL, key, SERVER_OPTION_DEFINITIONS, SERVER_OPTION_LIVE,              \
            AT(definitions), NULL, 0, 0, help                                  \
    }
/* Consul's options without a member here. */
#define IGNORED(flag, key, type, why)                                          \
    {                                                                          \
        flag, key, SERVER_OPTION_##type, SERVER_OPTION_IGNORED, 0, NULL,       \
            INT64_MIN, INT64_MAX, why                                          \
    }
#define REFUSED(flag, key, type, initial, why)                                 \
    {                                                                          \
        flag, key, SERVER_OPTION_##type, SERVER_OPTION_REFUSED, 0, initial,    \
            INT64_MIN, INT64_MAX, why                                          \
    }

#define NO_WAN "there is no WAN federation"
#define NO_GOSSIP "there is no gossip; servers talk on the server port only"
#define NO_TLS "TLS is not supported yet"
#define NO_ACL "access control is not supported yet"
#define NO_CONNECT "Connect and its proxies are not supported"
#define NO_ROTATE                                                              \
    "the log file is not rotated by itself; SIGHUP opens it again after a "    \
    "rotation"
#define ENTERPRISE "it belongs to Consul Enterprise"

static const struct server_option table[] = {
    /* ---- files ---- */
    LIST("config-file", NULL, config_file,
         "A JSON file with settings. Can be given several times."),
    LIST("config-dir", NULL, config_dir,
         "A folder whose *.json files are read in name order. Can be given "
         "several times."),
    REFUSED("config-format", NULL, TEXT, "json",
            "configuration files are JSON"),
    REFUSED("hcl", NULL, TEXT, NULL,
            "HCL is not supported; use a flag or a JSON file"),

    /* ---- who this server is ---- */
    BOOL("server", "server", START, server, "false",
         "Run as a server: hold the state and vote. Without it the agent keeps "
         "what is registered through it, and passes everything else on."),
    BOOL("dev", NULL, START, dev, "false",
         "One server on 127.0.0.1 in a temporary folder that is removed at "
         "the end; logs everything and indents every answer."),
    TEXT("node", "node_name", START, node_name, NULL,
         "Name of this node, unique in the cluster. Default: the host name."),
    TEXT("node-id", "node_id", START, node_id, NULL,
         "UUID of this node. Default: made once and kept in the data folder."),
    PAIRS("node-meta", "node_meta", node_meta,
          "key=value for the node's metadata. Can be given several times."),
    TEXT("datacenter", "datacenter", START, datacenter, "dc1",
         "Name of the datacenter."),
    TEXT("data-dir", "data_dir", START, data_dir, NULL,
         "Folder for the state. Required, except with -dev."),
    TEXT("pid-file", "pid_file", START, pid_file, NULL,
         "File to write the process ID to; removed at the end."),

    /* ---- addresses ---- */
    TEXT("bind", "bind_addr", START, bind_addr, "0.0.0.0",
         "Address for the traffic between servers."),
    TEXT("advertise", "advertise_addr", START, advertise_addr, NULL,
         "Address under which the others reach this server. Default: the bind "
         "address, or the only private address of this machine."),
    TEXT("client", "client_addr", START, client_addr, "127.0.0.1",
         "Addresses for HTTP and DNS, separated by spaces."),
    TEXT(NULL, "addresses.http", START, http_addr, NULL,
         "Addresses for HTTP instead of the client address."),
    TEXT(NULL, "addresses.dns", START, dns_addr, NULL,
         "Addresses for DNS instead of the client address."),
    INT("http-port", "ports.http", http_port, "8500", 1, 65535,
        "Port of the HTTP API."),
    INT("dns-port", "ports.dns", dns_port, "8600", -1, 65535,
        "Port of DNS, UDP and TCP; -1 turns it off."),
    INT("server-port", "ports.server", server_port, "8300", 1, 65535,
        "Port for the traffic between servers."),

    /* ---- services and checks ---- */
    DEFINITIONS("service", "A service to register, with its checks."),
    DEFINITIONS("services", "A list of services."),
    DEFINITIONS("check", "A check of this node, or of one of its services."),
    DEFINITIONS("checks", "A list of checks."),
    BOOL("enable-script-checks", "enable_script_checks", START, enable_scripts,
         "false",
         "Run script checks, also those that clients register: whoever reaches "
         "the HTTP port can then run commands as this process."),
    BOOL("enable-local-script-checks", "enable_local_script_checks", START,
         enable_local_scripts, "false",
         "Run script checks that are defined in configuration files."),
    DURATION(NULL, "check_update_interval", check_update_interval_ns, "5m",
             1 * S, 24 * 3600 * S,
             "How often the output of a check is stored when nothing else of "
             "it changed."),
    INT("check_output_max_size", "check_output_max_size", check_output_max_size,
        "4096", 1, 64 * 1024, "Bytes that are kept of a check's output."),

    /* ---- liveness ---- */
    DURATION("node-ttl", "node_ttl", node_lease_ns, "4s", 1 * S, 3600 * S,
             "An agent that does not renew its node's lease for so long is "
             "dead: its serfHealth turns critical."),
    DURATION(NULL, "reconnect_timeout", reconnect_timeout_ns, "1h", 1 * S,
             8760 * 3600 * S,
             "A dead node is removed with everything on it after so long."),

    /* ---- the cluster ---- */
    BOOL("bootstrap", "bootstrap", START, bootstrap, "false",
         "The same as -bootstrap-expect=1."),
    INT("bootstrap-expect", "bootstrap_expect", bootstrap_expect, "0", 0, 9,
        "Wait for so many servers and found the cluster with them, once."),
    LIST("retry-join", "retry_join", retry_join,
         "host[:port] of a server to join, tried until one answers. Can be "
         "given several times."),
    LIST("join", "start_join", start_join,
         "As -retry-join, but the start fails when no address answers."),
    DURATION("retry-interval", "retry_interval", retry_interval_ns, "1s",
             S / 100, 3600 * S, "Time between tries to join."),
    BOOL(NULL, "leave_on_terminate", START, leave_on_terminate, "false",
         "SIGTERM makes the agent leave the cluster. Default without -server: "
         "true."),
    BOOL(NULL, "skip_leave_on_interrupt", START, skip_leave_on_interrupt,
         "true",
         "SIGINT does not make the agent leave the cluster. Default without "
         "-server: false."),

    /* ---- DNS ---- */
    TEXT("domain", "domain", START, domain, "micro",
         "Domain that DNS answers for."),
    TEXT("alt-domain", "alt_domain", START, alt_domain, NULL,
         "Second domain. Default: consul, when the domain is micro."),
    BOOL(NULL, "dns_config.only_passing", START, only_passing, "false",
         "Leave instances with warnings out of answers."),
    BOOL(NULL, "dns_config.enable_truncate", START, enable_truncate, "false",
         "Set TC when answers were left out for the limit."),
    BOOL(NULL, "dns_config.disable_compression", START, disable_compression,
         "false", "Do not compress names."),
    BOOL(NULL, "dns_config.enable_additional_node_meta_txt", START,
         node_meta_txt, "true", "Metadata of nodes in the additional section."),
    DURATION(NULL, "dns_config.node_ttl", node_ttl_ns, "0s", 0, 604800 * S,
             "TTL of answers about nodes."),
    PAIRS(NULL, "dns_config.service_ttl", service_ttl,
          "TTL by service name; \"db*\" and \"*\" match more."),
    INT(NULL, "dns_config.udp_answer_limit", udp_answer_limit, "3", 0, 1000,
        "Answers over UDP without EDNS."),
    INT(NULL, "dns_config.a_record_limit", a_record_limit, "0", 0, 10000,
        "A and AAAA records in an answer; 0: no limit."),
    INT(NULL, "dns_config.soa.refresh", soa_refresh_s, "3600", 0, 604800,
        "SOA refresh in seconds."),
    INT(NULL, "dns_config.soa.retry", soa_retry_s, "600", 0, 604800,
        "SOA retry in seconds."),
    INT(NULL, "dns_config.soa.expire", soa_expire_s, "86400", 0, 2419200,
        "SOA expire in seconds."),
    INT(NULL, "dns_config.soa.min_ttl", soa_min_ttl_s, "0", 0, 86400,
        "Lifetime of negative answers in seconds."),

    /* ---- HTTP and limits ---- */
    DURATION("default-query-time", "default_query_time", default_query_time_ns,
             "5m", S / 1000, 86400 * S,
             "How long a blocking query without ?wait waits."),
    DURATION("max-query-time", "max_query_time", max_query_time_ns, "10m",
             S / 1000, 86400 * S, "Longest wait of a blocking query."),
    INT(NULL, "limits.kv_max_value_size", kv_max_value_size, "524288", 1,
        1000000, "Bytes of a key's value."),
    INT(NULL, "limits.http_max_conns_per_client", max_conns_per_client, "200",
        1, 1000000, "HTTP connections of one client address."),
    BOOL("ui", "ui", START, ui, "false", "Serve the web page under /ui/."),

    /* ---- log ---- */
    TEXT("log-level", "log_level", LIVE, log_level, "INFO",
         "TRACE, DEBUG, INFO, WARN or ERR."),
    TEXT("log-file", "log_file", LIVE, log_file, NULL,
         "File to append the log to, in addition to standard error."),
    REFUSED("log-json", "log_json", BOOL, "false",
            "the log has one format, time [LEVEL] module: text"),
    REFUSED("syslog", "enable_syslog", BOOL, "false",
            "syslog is not supported; use -log-file or the journal"),
    IGNORED(NULL, "syslog_facility", TEXT, "syslog is not supported"),
    IGNORED("log-rotate-bytes", "log_rotate_bytes", INT, NO_ROTATE),
    IGNORED("log-rotate-duration", "log_rotate_duration", TEXT, NO_ROTATE),
    IGNORED("log-rotate-max-files", "log_rotate_max_files", INT, NO_ROTATE),

    /* ---- Consul's, without effect and harmless ---- */
    IGNORED("retry-max", "retry_max", INT, "joining is tried for ever"),
    IGNORED("rejoin", "rejoin_after_leave", BOOL,
            "a server that left joins again by its join addresses"),
    IGNORED("protocol", "protocol", INT, "there is one protocol"),
    IGNORED("raft-protocol", "raft_protocol", INT, "there is one protocol"),
    IGNORED("disable-host-node-id", "disable_host_node_id", BOOL,
            "the node ID is random"),
    IGNORED("disable-keyring-file", "disable_keyring_file", BOOL, NO_GOSSIP),
    IGNORED("serf-lan-bind", "serf_lan", TEXT, NO_GOSSIP),
    IGNORED("serf-lan-port", "ports.serf_lan", INT, NO_GOSSIP),
    IGNORED("serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", LIST,
            NO_GOSSIP),
    IGNORED("serf-wan-bind", "serf_wan", TEXT, NO_WAN),
    IGNORED("serf-wan-port", "ports.serf_wan", INT, NO_WAN),
    IGNORED("serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", LIST, NO_WAN),
    IGNORED("advertise-wan", "advertise_addr_wan", TEXT, NO_WAN),
    IGNORED("retry-interval-wan", "retry_interval_wan", TEXT, NO_WAN),
    IGNORED("retry-max-wan", "retry_max_wan", INT, NO_WAN),
    IGNORED(NULL, "translate_wan_addrs", BOOL, NO_WAN),
    IGNORED(NULL, "gossip_lan", ANY, NO_GOSSIP),
    IGNORED(NULL, "gossip_wan", ANY, NO_WAN),
    IGNORED(NULL, "primary_datacenter", TEXT, NO_WAN),
    IGNORED("ui-content-path", "ui_content_path", TEXT,
            "the page is always under /ui/"),
    IGNORED(NULL, "disable_update_check", BOOL, "nobody phones home"),
    IGNORED(NULL, "disable_anonymous_signature", BOOL, "nobody phones home"),
    IGNORED(NULL, "disable_remote_exec", BOOL, "there is no remote exec"),
    IGNORED(NULL, "check_deregister_interval_min", TEXT,
            "a critical service is removed when it was critical for as long as "
            "its check says"),
    IGNORED(NULL, "check_reap_interval", TEXT,
            "a critical service is removed at its time"),
    IGNORED(NULL, "discard_check_output", BOOL, "every output is stored"),
    IGNORED(NULL, "discovery_max_stale", TEXT, "reads choose by ?stale"),
    IGNORED(NULL, "session_ttl_min", TEXT, "sessions come later"),
    IGNORED(NULL, "dns_config.allow_stale", BOOL,
            "DNS always answers, and says when the answer may be stale"),
    IGNORED(NULL, "dns_config.max_stale", TEXT,
            "DNS always answers, and says when the answer may be stale"),
    IGNORED(NULL, "dns_config.use_cache", BOOL,
            "answers are cached as long as they are current"),
    IGNORED(NULL, "dns_config.cache_max_age", TEXT,
            "answers are cached as long as they are current"),
    IGNORED(NULL, "dns_config.recursor_timeout", TEXT, "there is no recursor"),
    IGNORED(NULL, "performance", ANY,
            "elections take less than a second without tuning"),
    IGNORED(NULL, "raft_snapshot_threshold", INT,
            "snapshots follow the size of the log"),
    IGNORED(NULL, "raft_snapshot_interval", TEXT,
            "snapshots follow the size of the log"),
    IGNORED(NULL, "raft_trailing_logs", INT,
            "snapshots follow the size of the log"),
    IGNORED(NULL, "autopilot", ANY,
            "a server is removed after three days of silence"),
    IGNORED(NULL, "telemetry", ANY,
            "metrics are always at /v1/agent/metrics?format=prometheus"),
    IGNORED(NULL, "limits.rpc_max_conns_per_client", INT, "it is fixed"),
    IGNORED(NULL, "limits.rpc_handshake_timeout", TEXT, "it is fixed"),
    IGNORED(NULL, "limits.https_handshake_timeout", TEXT, NO_TLS),
    IGNORED(NULL, "limits.rpc_rate", ANY, "it is fixed"),
    IGNORED(NULL, "limits.rpc_max_burst", INT, "it is fixed"),
    IGNORED(NULL, "limits.txn_max_req_len", INT, "transactions come later"),
    IGNORED(NULL, "http_config.use_cache", BOOL, "the cache is never stale"),
    IGNORED(NULL, "unix_sockets", ANY, "there are no unix sockets"),

    /* ---- Consul's, refused: somebody would rely on it ---- */
    REFUSED("join-wan", "start_join_wan", LIST, NULL, NO_WAN),
    REFUSED("retry-join-wan", "retry_join_wan", LIST, NULL, NO_WAN),
    REFUSED("primary-gateway", "primary_gateways", LIST, NULL, NO_WAN),
    REFUSED("encrypt", "encrypt", TEXT, "",
            NO_TLS "; keep the server port on a private network"),
    REFUSED("https-port", "ports.https", INT, "-1", NO_TLS),
    REFUSED(NULL, "addresses.https", TEXT, "", NO_TLS),
    REFUSED("grpc-port", "ports.grpc", INT, "-1", "there is no gRPC port"),
    REFUSED(NULL, "addresses.grpc", TEXT, "", "there is no gRPC port"),
    REFUSED(NULL, "ca_file", TEXT, "", NO_TLS),
    REFUSED(NULL, "ca_path", TEXT, "", NO_TLS),
    REFUSED(NULL, "cert_file", TEXT, "", NO_TLS),
    REFUSED(NULL, "key_file", TEXT, "", NO_TLS),
    REFUSED(NULL, "verify_incoming", BOOL, "false", NO_TLS),
    REFUSED(NULL, "verify_incoming_rpc", BOOL, "false", NO_TLS),
    REFUSED(NULL, "verify_incoming_https", BOOL, "false", NO_TLS),
    REFUSED(NULL, "verify_outgoing", BOOL, "false", NO_TLS),
    REFUSED(NULL, "verify_server_hostname", BOOL, "false", NO_TLS),
    REFUSED(NULL, "tls_min_version", TEXT, "tls12", NO_TLS),
    REFUSED(NULL, "auto_encrypt", ANY, NULL, NO_TLS),
    REFUSED(NULL, "acl", ANY, NULL, NO_ACL),
    REFUSED(NULL, "connect", ANY, NULL, NO_CONNECT),
    REFUSED(NULL, "config_entries", ANY, NULL, NO_CONNECT),
    REFUSED("allow-write-http-from", "http_config.allow_write_http_from", LIST,
            NULL, "use -client and a firewall to say who may write"),
    REFUSED(NULL, "http_config.block_endpoints", LIST, NULL,
            "endpoints can't be blocked"),
    REFUSED(NULL, "http_config.response_headers", ANY, NULL,
            "headers can't be added"),
    REFUSED(NULL, "disable_http_unprintable_char_filter", BOOL, "false",
            "paths with unprintable characters are always refused"),
    REFUSED("recursor", "recursors", LIST, NULL,
            "DNS answers for its own domains only"),
    REFUSED(NULL, "dns_config.soa.mname", TEXT, "", "it follows the node"),
    REFUSED("non-voting-server", "non_voting_server", BOOL, "false",
            ENTERPRISE),
    REFUSED("segment", "segment", TEXT, "", ENTERPRISE),
    REFUSED(NULL, "segments", ANY, NULL, ENTERPRISE),
    REFUSED("ui-dir", "ui_dir", TEXT, "", "the page is part of the binary"),
    REFUSED(NULL, "enable_debug", BOOL, "false", "there is no pprof"),
    REFUSED(NULL, "watches", ANY, NULL,
            "the agent runs no watches; use a blocking query"),
};

const struct server_option *server_options(size_t *out_n)
{
    *out_n = MR_ARRAY_LEN(table);
    return table;
}

const struct server_option *server_option_by_flag(const char *name, size_t len)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(table); i++) {
        const char *flag = table[i].flag;

        if (flag != NULL && strlen(flag) == len &&
            memcmp(flag, name, len) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

const struct server_option *server_option_by_key(const char *path)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(table); i++) {
        if (table[i].key != NULL && strcasecmp(table[i].key, path) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static void help_row(const struct server_option *o, struct mr_buf *out)
{
    if (o->flag != NULL) {
        mr_buf_printf(out, "  -%s%s", o->flag,
                      o->type == SERVER_OPTION_BOOL ? "" : "=<value>");
        if (o->key != NULL) {
            mr_buf_printf(out, "  (in files: %s)", o->key);
        }
    } else {
        mr_buf_printf(out, "  %s", o->key);
    }
    mr_buf_printf(out, "\n     %s", o->help);
    if (o->initial != NULL && o->type != SERVER_OPTION_BOOL) {
        mr_buf_printf(out, " Default: %s.", o->initial);
    }
    mr_buf_str(out, "\n\n");
}

static void help_rows(bool with_flag, struct mr_buf *out)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(table); i++) {
        bool is_ours = table[i].use == SERVER_OPTION_LIVE ||
                       table[i].use == SERVER_OPTION_START;

        if (is_ours && (table[i].flag != NULL) == with_flag) {
            help_row(&table[i], out);
        }
    }
}

void server_config_help(struct mr_buf *out)
{
    mr_buf_str(out, "Options\n\n");
    help_rows(true, out);
    mr_buf_str(out, "Settings of configuration files only\n\n");
    help_rows(false, out);
}
