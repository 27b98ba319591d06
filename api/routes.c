/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The route table: one row a method of a path. Permissions will be a column
 * here when they come.
 */
#include "api/routes.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "api/handlers.h"
#include "base/mem.h"

/* clang-format off */

/* Reads with modes and index; flags say which of Consul's headers they send. */
#define READ(path, flags, prepare, read)                                       \
    {"GET", path, API_READ, flags, prepare, read, NULL, 0, 0, NULL}
/* Reads of the local state; OWN: of the agent's own registrations. */
#define LOCAL(path, flags, prepare, read)                                      \
    {"GET", path, API_LOCAL, flags, prepare, read, NULL, 0, 0, NULL}
#define OWN(path, flags, prepare, read)                                        \
    LOCAL(path, (flags) | API_OWN, prepare, read)
/* Reads that need no state. */
#define PLAIN(path, flags, prepare, read)                                      \
    {"GET", path, API_PLAIN, flags, prepare, read, NULL, 0, 0, NULL}
#define WRITE(method, path, write)                                             \
    {method, path, API_WRITE, 0, NULL, NULL, write, 0, 0, NULL}
/* Writes to the agent's own registrations. */
#define OWN_WRITE(method, path, write)                                         \
    {method, path, API_WRITE, API_OWN, NULL, NULL, write, 0, 0, NULL}
/* An endpoint that is not there, or off: its truthful answer. */
#define REFUSE(method, path, flags, status, text)                              \
    {method, path, API_PLAIN, flags, NULL, NULL, NULL, 0, status, text}

#define NO_ACL(method, path)                                                   \
    REFUSE(method, path, 0, 401, "ACL support disabled")
#define NO_CONNECT(method, path, flags)                                        \
    REFUSE(method, path, flags, 500,                                           \
           "Connect must be enabled in order to use this endpoint")
#define MISSING(method, path)                                                  \
    REFUSE(method, path, 0, 501, "This endpoint is not implemented")
#define MISSING_READ(path)                                                     \
    REFUSE("GET", path, API_META_ON_FAIL, 501,                                 \
           "This endpoint is not implemented")

#define CATALOG (API_CONSISTENCY | API_META_ON_FAIL)

static const struct api_route routes[] = {
    PLAIN("/", API_ANY_METHOD | API_OWN, NULL, api_root),
    PLAIN("/ui/", API_ANY_METHOD | API_NEEDS_UI | API_OWN, NULL, api_ui),

    READ("/registry", API_CONSISTENCY | API_CACHE | API_NATIVE,
         NULL, api_registry_get),
    WRITE("POST", "/registry", api_registry_register),
    WRITE("DELETE", "/registry", api_registry_deregister),
    WRITE("PUT", "/registry/renew", api_registry_renew),
    READ("/registry/watch", API_CONSISTENCY | API_NATIVE,
         api_watch_registry_prepare, api_watch),
    {"POST", "/registry/watch", API_READ,
     API_CONSISTENCY | API_NATIVE | API_BODY, api_watch_several_prepare,
     api_watch, NULL, 0, 0, NULL},

    NO_ACL("PUT", "/v1/acl/bootstrap"),
    NO_ACL("POST", "/v1/acl/login"),
    NO_ACL("POST", "/v1/acl/logout"),
    NO_ACL("GET", "/v1/acl/replication"),
    NO_ACL("GET", "/v1/acl/policies"),
    NO_ACL("PUT", "/v1/acl/policy"),
    NO_ACL("GET", "/v1/acl/policy/"),
    NO_ACL("PUT", "/v1/acl/policy/"),
    NO_ACL("DELETE", "/v1/acl/policy/"),
    NO_ACL("GET", "/v1/acl/policy/name/"),
    NO_ACL("GET", "/v1/acl/roles"),
    NO_ACL("PUT", "/v1/acl/role"),
    NO_ACL("GET", "/v1/acl/role/"),
    NO_ACL("PUT", "/v1/acl/role/"),
    NO_ACL("DELETE", "/v1/acl/role/"),
    NO_ACL("GET", "/v1/acl/role/name/"),
    NO_ACL("GET", "/v1/acl/binding-rules"),
    NO_ACL("PUT", "/v1/acl/binding-rule"),
    NO_ACL("GET", "/v1/acl/binding-rule/"),
    NO_ACL("PUT", "/v1/acl/binding-rule/"),
    NO_ACL("DELETE", "/v1/acl/binding-rule/"),
    NO_ACL("GET", "/v1/acl/auth-methods"),
    NO_ACL("PUT", "/v1/acl/auth-method"),
    NO_ACL("GET", "/v1/acl/auth-method/"),
    NO_ACL("PUT", "/v1/acl/auth-method/"),
    NO_ACL("DELETE", "/v1/acl/auth-method/"),
    NO_ACL("POST", "/v1/acl/rules/translate"),
    NO_ACL("GET", "/v1/acl/rules/translate/"),
    NO_ACL("GET", "/v1/acl/tokens"),
    NO_ACL("PUT", "/v1/acl/token"),
    NO_ACL("GET", "/v1/acl/token/self"),
    NO_ACL("GET", "/v1/acl/token/"),
    NO_ACL("PUT", "/v1/acl/token/"),
    NO_ACL("DELETE", "/v1/acl/token/"),
    NO_ACL("PUT", "/v1/acl/create"),
    NO_ACL("PUT", "/v1/acl/update"),
    NO_ACL("PUT", "/v1/acl/destroy/"),
    NO_ACL("GET", "/v1/acl/info/"),
    NO_ACL("PUT", "/v1/acl/clone/"),
    NO_ACL("GET", "/v1/acl/list"),

    NO_ACL("PUT", "/v1/agent/token/"),
    PLAIN("/v1/agent/self", API_OWN, NULL, api_agent_self),
    PLAIN("/v1/agent/host", API_OWN, NULL, api_agent_host),
    OWN_WRITE("PUT", "/v1/agent/maintenance", api_agent_maintenance),
    OWN_WRITE("PUT", "/v1/agent/reload", api_agent_reload),
    PLAIN("/v1/agent/monitor", API_OWN, api_agent_monitor_prepare,
          api_agent_monitor),
    PLAIN("/v1/agent/metrics", API_OWN, NULL, api_metrics),
    OWN("/v1/agent/services", 0, api_agent_services_prepare,
          api_agent_services),
    OWN("/v1/agent/service/", API_HASH_BLOCK, NULL, api_agent_service),
    OWN("/v1/agent/checks", 0, NULL, api_agent_checks),
    LOCAL("/v1/agent/members", 0, api_agent_members_prepare,
          api_agent_members),
    OWN_WRITE("PUT", "/v1/agent/join/", api_agent_join),
    OWN_WRITE("PUT", "/v1/agent/leave", api_agent_leave),
    WRITE("PUT", "/v1/agent/force-leave/", api_agent_force_leave),
    OWN("/v1/agent/health/service/id/", 0, api_agent_health_id_prepare,
          api_agent_health_id),
    OWN("/v1/agent/health/service/name/", 0, api_agent_health_name_prepare,
          api_agent_health_name),
    LOCAL("/v1/agent/why/service/", 0, api_why_prepare, api_why_service),
    LOCAL("/v1/agent/why/node/", 0, api_why_prepare, api_why_node),
    LOCAL("/v1/agent/why/check/", 0, api_why_prepare, api_why_check),
    LOCAL("/v1/agent/why/session/", 0, api_why_prepare, api_why_session),
    OWN_WRITE("PUT", "/v1/agent/check/register", api_agent_check_register),
    OWN_WRITE("PUT", "/v1/agent/check/deregister/", api_agent_check_deregister),
    OWN_WRITE("PUT", "/v1/agent/check/pass/", api_agent_check_pass),
    OWN_WRITE("PUT", "/v1/agent/check/warn/", api_agent_check_warn),
    OWN_WRITE("PUT", "/v1/agent/check/fail/", api_agent_check_fail),
    OWN_WRITE("PUT", "/v1/agent/check/update/", api_agent_check_update),
    NO_CONNECT("POST", "/v1/agent/connect/authorize", 0),
    NO_CONNECT("GET", "/v1/agent/connect/ca/roots", 0),
    NO_CONNECT("GET", "/v1/agent/connect/ca/leaf/", 0),
    OWN_WRITE("PUT", "/v1/agent/service/register", api_agent_service_register),
    OWN_WRITE("PUT", "/v1/agent/service/deregister/", api_agent_service_deregister),
    OWN_WRITE("PUT", "/v1/agent/service/maintenance/",
          api_agent_service_maintenance),

    WRITE("PUT", "/v1/catalog/register", api_catalog_register),
    WRITE("PUT", "/v1/catalog/deregister", api_catalog_deregister),
    READ("/v1/catalog/connect/", CATALOG, api_catalog_connect_prepare,
         api_catalog_connect),
    PLAIN("/v1/catalog/datacenters", 0, NULL, api_catalog_datacenters),
    READ("/v1/catalog/nodes", CATALOG | API_CACHE, api_catalog_nodes_prepare,
         api_catalog_nodes),
    READ("/v1/catalog/services", CATALOG | API_CACHE | API_AGENT_CACHE, NULL,
         api_catalog_services),
    READ("/v1/catalog/service/", CATALOG | API_CACHE | API_AGENT_CACHE,
         api_catalog_service_prepare, api_catalog_service),
    READ("/v1/catalog/node/", CATALOG | API_CACHE, api_catalog_node_prepare,
         api_catalog_node),
    READ("/v1/catalog/node-services/", CATALOG | API_CACHE,
         api_catalog_node_prepare, api_catalog_node_services),
    READ("/v1/catalog/gateway-services/", CATALOG, api_catalog_connect_prepare,
         api_catalog_gateway_services),

    MISSING("PUT", "/v1/config"),
    READ("/v1/config/", 0, api_config_prepare, api_config_get),
    MISSING("DELETE", "/v1/config/"),

    NO_CONNECT("GET", "/v1/connect/ca/configuration", 0),
    NO_CONNECT("PUT", "/v1/connect/ca/configuration", 0),
    NO_CONNECT("GET", "/v1/connect/ca/roots", API_META_ON_FAIL),
    READ("/v1/connect/intentions", 0, NULL, api_intentions_list),
    NO_CONNECT("POST", "/v1/connect/intentions", 0),
    PLAIN("/v1/connect/intentions/match", 0, api_intentions_match_prepare,
          api_intentions_match),
    PLAIN("/v1/connect/intentions/check", 0, api_intentions_check_prepare,
          api_intentions_check),
    NO_CONNECT("GET", "/v1/connect/intentions/", 0),
    NO_CONNECT("PUT", "/v1/connect/intentions/", 0),
    NO_CONNECT("DELETE", "/v1/connect/intentions/", 0),

    MISSING("GET", "/v1/coordinate/datacenters"),
    MISSING_READ("/v1/coordinate/nodes"),
    MISSING_READ("/v1/coordinate/node/"),
    MISSING("PUT", "/v1/coordinate/update"),

    NO_CONNECT("GET", "/v1/discovery-chain/", API_META_ON_FAIL),
    NO_CONNECT("POST", "/v1/discovery-chain/", API_META_ON_FAIL),

    MISSING("PUT", "/v1/event/fire/"),
    MISSING("GET", "/v1/event/list"),

    READ("/v1/health/node/", CATALOG | API_CACHE, api_health_node_prepare,
         api_health_node),
    READ("/v1/health/checks/", CATALOG | API_CACHE, api_health_checks_prepare,
         api_health_checks),
    READ("/v1/health/state/", CATALOG | API_CACHE, api_health_state_prepare,
         api_health_state),
    READ("/v1/health/service/", CATALOG | API_CACHE | API_AGENT_CACHE,
         api_health_service_prepare, api_health_service),
    READ("/v1/health/connect/", CATALOG, api_health_checks_prepare,
         api_health_connect),
    READ("/v1/health/ingress/", CATALOG, api_health_checks_prepare,
         api_health_ingress),

    PLAIN("/v1/internal/hello", API_INTERNAL, NULL, api_internal_hello),
    {"PUT", "/v1/internal/renew", API_WRITE, API_INTERNAL, NULL, NULL,
     api_internal_renew, 0, 0, NULL},
    {"PUT", "/v1/internal/propose", API_WRITE, API_INTERNAL, NULL, NULL,
     api_internal_propose, MR_RAFT_COMMAND_MAX, 0, NULL},
    READ("/v1/internal/rows", API_INTERNAL, NULL, api_internal_rows),
    {"POST", "/v1/internal/dns", API_WRITE, API_INTERNAL, NULL, NULL,
     api_internal_dns, 0, 0, NULL},
    MISSING_READ("/v1/internal/ui/nodes"),
    MISSING_READ("/v1/internal/ui/node/"),
    MISSING_READ("/v1/internal/ui/services"),
    NO_ACL("POST", "/v1/internal/acl/authorize"),

    READ("/v1/kv/", API_CACHE, api_kv_get_prepare, api_kv_get),
    {"PUT", "/v1/kv/", API_WRITE, API_VALUE_BODY, NULL, NULL, api_kv_put, 0, 0,
     NULL},
    WRITE("DELETE", "/v1/kv/", api_kv_delete),

    PLAIN("/v1/operator/raft/configuration", 0, NULL, api_raft_configuration),
    WRITE("DELETE", "/v1/operator/raft/peer", api_raft_peer_delete),
    MISSING("GET", "/v1/operator/keyring"),
    MISSING("POST", "/v1/operator/keyring"),
    MISSING("PUT", "/v1/operator/keyring"),
    MISSING("DELETE", "/v1/operator/keyring"),
    MISSING("GET", "/v1/operator/autopilot/configuration"),
    MISSING("PUT", "/v1/operator/autopilot/configuration"),
    MISSING("GET", "/v1/operator/autopilot/health"),
    PLAIN("/v1/operator/digest", 0, NULL, api_digest),

    MISSING_READ("/v1/query"),
    MISSING("POST", "/v1/query"),
    MISSING_READ("/v1/query/"),
    MISSING("PUT", "/v1/query/"),
    MISSING("DELETE", "/v1/query/"),

    WRITE("PUT", "/v1/session/create", api_session_create),
    WRITE("PUT", "/v1/session/destroy/", api_session_destroy),
    WRITE("PUT", "/v1/session/renew/", api_session_renew),
    READ("/v1/session/info/", API_META_ON_FAIL, api_session_info_prepare,
         api_session_info),
    READ("/v1/session/node/", API_META_ON_FAIL, api_session_node_prepare,
         api_session_node),
    READ("/v1/session/list", API_META_ON_FAIL, NULL, api_session_list),

    PLAIN("/v1/status/leader", 0, NULL, api_status_leader),
    PLAIN("/v1/status/peers", 0, NULL, api_status_peers),

    MISSING("GET", "/v1/snapshot"),
    MISSING("PUT", "/v1/snapshot"),
    MISSING("PUT", "/v1/txn"),

    REFUSE("GET", "/v1/watch/", 0, 404,
           "No such stream. There are key/KEY, keyprefix/PREFIX, services, "
           "service/NAME, nodes and checks"),
    READ("/v1/watch/checks", API_CONSISTENCY | API_NATIVE,
         api_watch_checks_prepare, api_watch),
    READ("/v1/watch/key/", API_CONSISTENCY | API_NATIVE, api_watch_key_prepare,
         api_watch),
    READ("/v1/watch/keyprefix/", API_CONSISTENCY | API_NATIVE,
         api_watch_prefix_prepare, api_watch),
    READ("/v1/watch/nodes", API_CONSISTENCY | API_NATIVE,
         api_watch_nodes_prepare, api_watch),
    READ("/v1/watch/service/", API_CONSISTENCY | API_NATIVE,
         api_watch_service_prepare, api_watch),
    READ("/v1/watch/services", API_CONSISTENCY | API_NATIVE,
         api_watch_services_prepare, api_watch),
};

/* clang-format on */

/* ------------------------------------------------------------- lookup */

/* An open-addressing index over the table, built once; a power of two, at
 * least twice the number of paths. */
#define SLOTS 512

/* No path in the table is longer; what follows in a request is its argument. */
#define PATH_MAX_LEN 48

struct slot {
    uint16_t first; /* Index of the path's first row plus one; 0: empty. */
    uint16_t n_rows;
};

static struct slot slots[SLOTS];
static pthread_once_t slots_once = PTHREAD_ONCE_INIT;

/* FNV-1a, so that every prefix of a path is hashed in one pass. */
#define FNV_START 2166136261u
#define FNV_STEP(hash, c) (((hash) ^ (uint8_t)(c)) * 16777619u)

static struct slot *find_slot(const char *path, size_t len, uint32_t hash)
{
    for (size_t i = hash % SLOTS;; i = (i + 1) % SLOTS) {
        struct slot *s = &slots[i];

        if (s->first == 0) {
            return s;
        }
        const char *known = routes[s->first - 1].path;

        if (strncmp(known, path, len) == 0 && known[len] == '\0') {
            return s;
        }
    }
}

static void build_slots(void)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(routes); i++) {
        uint32_t hash = FNV_START;
        size_t len = strlen(routes[i].path);

        for (size_t at = 0; at < len; at++) {
            hash = FNV_STEP(hash, routes[i].path[at]);
        }
        struct slot *s = find_slot(routes[i].path, len, hash);

        if (s->first == 0) {
            s->first = (uint16_t)(i + 1);
        }
        mr_assert(len < PATH_MAX_LEN);
        mr_assert(s->first - 1u + s->n_rows == i); /* Rows stand together. */
        s->n_rows++;
    }
}

/* Whether @path, whose hash is @hash, is a prefix row without its slash. */
static bool slash_makes_prefix(const char *path, size_t len, uint32_t hash)
{
    char with_slash[PATH_MAX_LEN + 1];

    if (len >= PATH_MAX_LEN) {
        return false;
    }
    memcpy(with_slash, path, len);
    with_slash[len] = '/';
    return find_slot(with_slash, len + 1, FNV_STEP(hash, '/'))->first != 0;
}

static struct api_match match_of(const struct slot *s, size_t prefix_len)
{
    struct api_match m = {&routes[s->first - 1], s->n_rows, prefix_len, false};

    return m;
}

struct api_match api_route_find(const char *path, size_t len)
{
    struct api_match best = {NULL, 0, 0, false};
    uint32_t hash = FNV_START;
    size_t at = 0;

    pthread_once(&slots_once, build_slots);
    for (; at < len && at < PATH_MAX_LEN; at++) {
        hash = FNV_STEP(hash, path[at]);
        if (path[at] == '/' && at > 0) {
            const struct slot *s = find_slot(path, at + 1, hash);

            best = s->first != 0 ? match_of(s, at + 1) : best;
        }
    }
    if (at < len || best.prefix_len == len) {
        return best;
    }
    const struct slot *s = find_slot(path, len, hash);

    if (s->first != 0) {
        return match_of(s, len);
    }
    best.add_slash = slash_makes_prefix(path, len, hash);
    return best;
}

const struct api_route *api_route_method(const struct api_match *match,
                                         const char *method)
{
    for (size_t i = 0; i < match->n_rows; i++) {
        if (strcmp(match->rows[i].method, method) == 0) {
            return &match->rows[i];
        }
    }
    return NULL;
}

void api_route_allow(const struct api_match *match, char *out, size_t cap)
{
    size_t len = (size_t)snprintf(out, cap, "OPTIONS");

    for (size_t i = 0; i < match->n_rows && len < cap; i++) {
        len += (size_t)snprintf(out + len, cap - len, ",%s",
                                match->rows[i].method);
    }
}
