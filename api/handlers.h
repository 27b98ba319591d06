/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoints' functions, by file. Their shapes and duties are those of
 * api/http.h (api_prepare_fn, api_read_fn, api_write_fn); which path calls
 * which is the table in api/routes.c.
 */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "api/http.h"

/* ---- kv_routes.c: /v1/kv/ */

/* GET: refuses an empty key without ?keys or ?recurse. */
bool api_kv_get_prepare(struct api_request *req);
/* GET: one key, ?raw, ?recurse, ?keys&separator=. */
enum mr_err api_kv_get(struct api_request *req, struct mr_kv_view *view,
                       struct mr_buf *out);
/* PUT: ?flags, ?cas, ?acquire, ?release, ?fence. */
void api_kv_put(struct api_request *req);
/* DELETE: ?recurse, ?cas, ?fence. */
void api_kv_delete(struct api_request *req);

/* ---- status_routes.c: /v1/status, /v1/operator, /v1/agent/metrics, / */

/* GET /: the agent's name. */
enum mr_err api_root(struct api_request *req, struct mr_kv_view *view,
                     struct mr_buf *out);
/* GET /v1/status/leader */
enum mr_err api_status_leader(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out);
/* GET /v1/status/peers */
enum mr_err api_status_peers(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);
/* GET /v1/operator/raft/configuration */
enum mr_err api_raft_configuration(struct api_request *req,
                                   struct mr_kv_view *view, struct mr_buf *out);
/* DELETE /v1/operator/raft/peer?id=|address= */
void api_raft_peer_delete(struct api_request *req);
/* GET /v1/operator/digest: the state's revision, raft index and digest. */
enum mr_err api_digest(struct api_request *req, struct mr_kv_view *view,
                       struct mr_buf *out);
/* GET /v1/agent/metrics[?format=prometheus] */
enum mr_err api_metrics(struct api_request *req, struct mr_kv_view *view,
                        struct mr_buf *out);

/* ---- catalog_routes.c: /v1/catalog */

/* GET /v1/catalog/datacenters */
enum mr_err api_catalog_datacenters(struct api_request *req,
                                    struct mr_kv_view *view,
                                    struct mr_buf *out);
/* Compiles ?filter=. */
bool api_catalog_nodes_prepare(struct api_request *req);
/* GET /v1/catalog/nodes */
enum mr_err api_catalog_nodes(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out);
/* GET /v1/catalog/services */
enum mr_err api_catalog_services(struct api_request *req,
                                 struct mr_kv_view *view, struct mr_buf *out);
/* Refuses an empty name; compiles ?filter=. */
bool api_catalog_service_prepare(struct api_request *req);
/* GET /v1/catalog/service/NAME */
enum mr_err api_catalog_service(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out);
/* Refuses an empty name. */
bool api_catalog_connect_prepare(struct api_request *req);
/* GET /v1/catalog/connect/NAME: none. */
enum mr_err api_catalog_connect(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out);
/* GET /v1/catalog/gateway-services/NAME: null. */
enum mr_err api_catalog_gateway_services(struct api_request *req,
                                         struct mr_kv_view *view,
                                         struct mr_buf *out);
/* Refuses an empty name; compiles ?filter=. */
bool api_catalog_node_prepare(struct api_request *req);
/* GET /v1/catalog/node/NAME */
enum mr_err api_catalog_node(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);
/* GET /v1/catalog/node-services/NAME */
enum mr_err api_catalog_node_services(struct api_request *req,
                                      struct mr_kv_view *view,
                                      struct mr_buf *out);
/* PUT /v1/catalog/register */
void api_catalog_register(struct api_request *req);
/* PUT /v1/catalog/deregister */
void api_catalog_deregister(struct api_request *req);

/* ---- health_routes.c: /v1/health */

/* Each refuses an empty argument and compiles ?filter=. */
bool api_health_node_prepare(struct api_request *req);
/* GET /v1/health/node/NODE */
enum mr_err api_health_node(struct api_request *req, struct mr_kv_view *view,
                            struct mr_buf *out);
/* As api_health_node_prepare(). */
bool api_health_checks_prepare(struct api_request *req);
/* GET /v1/health/checks/SERVICE */
enum mr_err api_health_checks(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out);
/* As api_health_node_prepare(). */
bool api_health_state_prepare(struct api_request *req);
/* GET /v1/health/state/STATE */
enum mr_err api_health_state(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);
/* As api_health_node_prepare(), and ?passing. */
bool api_health_service_prepare(struct api_request *req);
/* GET /v1/health/service/NAME */
enum mr_err api_health_service(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out);
/* GET /v1/health/connect/NAME: none. */
enum mr_err api_health_connect(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out);
/* GET /v1/health/ingress/NAME: none. */
enum mr_err api_health_ingress(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out);

/* ---- agent_routes.c: what the agent says of itself and its own */

/* GET /v1/agent/self */
enum mr_err api_agent_self(struct api_request *req, struct mr_kv_view *view,
                           struct mr_buf *out);
/* Refuses ?segment= other than _all. */
bool api_agent_members_prepare(struct api_request *req);
/* GET /v1/agent/members[?wan=1] */
enum mr_err api_agent_members(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out);
/* Compiles ?filter=. */
bool api_agent_services_prepare(struct api_request *req);
/* GET /v1/agent/services */
enum mr_err api_agent_services(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out);
/* GET /v1/agent/service/ID[?hash=] */
enum mr_err api_agent_service(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out);
/* GET /v1/agent/checks */
enum mr_err api_agent_checks(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);

/* ---- agent_health.c: /v1/agent/health/service */

/* Refuses an empty name. */
bool api_agent_health_name_prepare(struct api_request *req);
/* GET /v1/agent/health/service/name/NAME */
enum mr_err api_agent_health_name(struct api_request *req,
                                  struct mr_kv_view *view, struct mr_buf *out);
/* Refuses an empty ID. */
bool api_agent_health_id_prepare(struct api_request *req);
/* GET /v1/agent/health/service/id/ID */
enum mr_err api_agent_health_id(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out);

/* ---- agent_write.c: registrations through the agent */

/* PUT /v1/agent/service/register[?replace-existing-checks] */
void api_agent_service_register(struct api_request *req);
/* PUT /v1/agent/service/deregister/ID */
void api_agent_service_deregister(struct api_request *req);
/* PUT /v1/agent/check/register */
void api_agent_check_register(struct api_request *req);
/* PUT /v1/agent/check/deregister/ID */
void api_agent_check_deregister(struct api_request *req);
/* PUT /v1/agent/check/pass/ID[?note=] */
void api_agent_check_pass(struct api_request *req);
/* PUT /v1/agent/check/warn/ID[?note=] */
void api_agent_check_warn(struct api_request *req);
/* PUT /v1/agent/check/fail/ID[?note=] */
void api_agent_check_fail(struct api_request *req);
/* PUT /v1/agent/check/update/ID */
void api_agent_check_update(struct api_request *req);

/* ---- maintenance.c */

/* PUT /v1/agent/maintenance?enable=[&reason=] */
void api_agent_maintenance(struct api_request *req);
/* PUT /v1/agent/service/maintenance/ID?enable=[&reason=] */
void api_agent_service_maintenance(struct api_request *req);

/* ---- agent_cluster.c: joining, leaving, the host */

/* PUT /v1/agent/join/ADDRESS */
void api_agent_join(struct api_request *req);
/* PUT /v1/agent/leave */
void api_agent_leave(struct api_request *req);
/* PUT /v1/agent/reload */
void api_agent_reload(struct api_request *req);
/* PUT /v1/agent/force-leave/NODE */
void api_agent_force_leave(struct api_request *req);
/* Refuses an unknown ?loglevel=. */
bool api_agent_monitor_prepare(struct api_request *req);
/* GET /v1/agent/monitor: not there, and says so. */
enum mr_err api_agent_monitor(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out);
/* GET /v1/agent/host */
enum mr_err api_agent_host(struct api_request *req, struct mr_kv_view *view,
                           struct mr_buf *out);

/* ---- session_routes.c: /v1/session */

/* PUT /v1/session/create */
void api_session_create(struct api_request *req);
/* PUT /v1/session/destroy/ID */
void api_session_destroy(struct api_request *req);
/* PUT /v1/session/renew/ID */
void api_session_renew(struct api_request *req);
/* Refuses a missing or malformed ID. */
bool api_session_info_prepare(struct api_request *req);
/* GET /v1/session/info/ID */
enum mr_err api_session_info(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);
/* Refuses an empty name. */
bool api_session_node_prepare(struct api_request *req);
/* GET /v1/session/node/NODE */
enum mr_err api_session_node(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);
/* GET /v1/session/list */
enum mr_err api_session_list(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);

/* ---- ui_routes.c: /ui/ */

/* GET /ui/: the page. */
enum mr_err api_ui(struct api_request *req, struct mr_kv_view *view,
                   struct mr_buf *out);

/* ---- absent_routes.c: features that hold nothing here */

/* GET /v1/connect/intentions */
enum mr_err api_intentions_list(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out);
/* GET /v1/connect/intentions/check: needs ?source and ?destination. */
bool api_intentions_check_prepare(struct api_request *req);
/* GET /v1/connect/intentions/check */
enum mr_err api_intentions_check(struct api_request *req,
                                 struct mr_kv_view *view, struct mr_buf *out);
/* GET /v1/connect/intentions/match: needs ?by and ?name. */
bool api_intentions_match_prepare(struct api_request *req);
/* GET /v1/connect/intentions/match */
enum mr_err api_intentions_match(struct api_request *req,
                                 struct mr_kv_view *view, struct mr_buf *out);
/* GET /v1/config/KIND[/NAME]: refuses unknown kinds. */
bool api_config_prepare(struct api_request *req);
/* GET /v1/config/KIND[/NAME] */
enum mr_err api_config_get(struct api_request *req, struct mr_kv_view *view,
                           struct mr_buf *out);

/* ---- why_routes.c: /v1/agent/why */

/* Refuses an empty argument and a bad ?max. */
bool api_why_prepare(struct api_request *req);
/* GET /v1/agent/why/service/ID, by ID or name */
enum mr_err api_why_service(struct api_request *req, struct mr_kv_view *view,
                            struct mr_buf *out);
/* GET /v1/agent/why/node/NAME */
enum mr_err api_why_node(struct api_request *req, struct mr_kv_view *view,
                         struct mr_buf *out);
/* GET /v1/agent/why/check/ID */
enum mr_err api_why_check(struct api_request *req, struct mr_kv_view *view,
                          struct mr_buf *out);
/* GET /v1/agent/why/session/ID */
enum mr_err api_why_session(struct api_request *req, struct mr_kv_view *view,
                            struct mr_buf *out);

/* ---- internal_routes.c: /v1/internal, for agents without -server */

/* GET /v1/internal/hello */
enum mr_err api_internal_hello(struct api_request *req, struct mr_kv_view *view,
                               struct mr_buf *out);
/* PUT /v1/internal/renew */
void api_internal_renew(struct api_request *req);
/* PUT /v1/internal/propose?node=NAME&id=ID */
void api_internal_propose(struct api_request *req);
/* GET /v1/internal/rows?node=NAME&id=ID[&output] */
enum mr_err api_internal_rows(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out);
/* POST /v1/internal/dns?proto=udp|tcp */
void api_internal_dns(struct api_request *req);

/* ---- registry_routes.c: /registry, the native API */

/* POST /registry?ttl=30s[&incarnation=N]: register, or renew the very same */
void api_registry_register(struct api_request *req);
/* PUT /registry/renew */
void api_registry_renew(struct api_request *req);
/* DELETE /registry[?incarnation=N] */
void api_registry_deregister(struct api_request *req);
/* GET /registry[?service=NAME] */
enum mr_err api_registry_get(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out);

/* ---- watch_routes.c: watch streams */

/* Each parses the request of one kind of stream. */
bool api_watch_key_prepare(struct api_request *req);
/* GET /v1/watch/keyprefix/PREFIX */
bool api_watch_prefix_prepare(struct api_request *req);
/* GET /v1/watch/services */
bool api_watch_services_prepare(struct api_request *req);
/* GET /v1/watch/service/NAME[?passing] */
bool api_watch_service_prepare(struct api_request *req);
/* GET /v1/watch/nodes */
bool api_watch_nodes_prepare(struct api_request *req);
/* GET /v1/watch/checks[?service=NAME][&state=STATE] */
bool api_watch_checks_prepare(struct api_request *req);
/* GET /registry/watch[?service=NAME] */
bool api_watch_registry_prepare(struct api_request *req);
/* POST /registry/watch: several services */
bool api_watch_several_prepare(struct api_request *req);
/* Begins the stream that was asked for. */
enum mr_err api_watch(struct api_request *req, struct mr_kv_view *view,
                      struct mr_buf *out);

#endif /* API_HANDLERS_H */
