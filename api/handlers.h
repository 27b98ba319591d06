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
/* PUT: ?flags, ?cas, ?acquire, ?release. */
void api_kv_put(struct api_request *req);
/* DELETE: ?recurse, ?cas. */
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

#endif /* API_HANDLERS_H */
