/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's state and this server's figures: /v1/status, /v1/operator,
 * /v1/agent/metrics and /. */
#include <stdio.h>
#include <string.h>

#include "api/core.h"
#include "api/handlers.h"
#include "base/mem.h"

/* More servers than this are not listed; a cluster has 1 to 9. */
#define PEERS_MAX 64

enum mr_err api_root(struct api_request *req, struct mr_kv_view *view,
                     struct mr_buf *out)
{
    (void)view;
    req->reply.type = API_TYPE_TEXT;
    mr_buf_str(out, "Consul Agent");
    return MR_OK;
}

enum mr_err api_status_leader(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out)
{
    struct mr_raft_status status;
    struct mr_json j;

    (void)view;
    mr_raft_status(req->options->raft, &status);
    mr_json_init(&j, out);
    mr_json_str(&j, status.leader_address);
    return MR_OK;
}

/* The servers, in request memory; NULL: no memory. */
static struct mr_raft_peer *list_peers(struct api_request *req, size_t *out_n)
{
    struct mr_raft_peer *peers = api_alloc(req, PEERS_MAX * sizeof *peers);

    if (peers != NULL) {
        size_t n = mr_raft_peers(req->options->raft, peers, PEERS_MAX);

        *out_n = n < PEERS_MAX ? n : PEERS_MAX;
    }
    return peers;
}

enum mr_err api_status_peers(struct api_request *req, struct mr_kv_view *view,
                             struct mr_buf *out)
{
    size_t n = 0;
    struct mr_raft_peer *peers = list_peers(req, &n);
    struct mr_json j;

    (void)view;
    if (peers == NULL) {
        return MR_E_NOMEM;
    }
    mr_json_init(&j, out);
    mr_json_array(&j);
    for (size_t i = 0; i < n; i++) {
        if (peers[i].is_voter) {
            mr_json_str(&j, peers[i].address);
        }
    }
    mr_json_array_end(&j);
    return MR_OK;
}

/* ------------------------------------------------------------- operator */

enum mr_err api_raft_configuration(struct api_request *req,
                                   struct mr_kv_view *view, struct mr_buf *out)
{
    size_t n = 0;
    struct mr_raft_peer *peers = list_peers(req, &n);
    struct mr_json j;

    (void)view;
    if (peers == NULL) {
        return MR_E_NOMEM;
    }
    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_key(&j, "Servers");
    mr_json_array(&j);
    for (size_t i = 0; i < n; i++) {
        mr_json_object(&j);
        mr_json_kstr(&j, "ID", peers[i].node_id);
        mr_json_kstr(&j, "Node", peers[i].node_name);
        mr_json_kstr(&j, "Address", peers[i].address);
        mr_json_kbool(&j, "Leader", peers[i].is_leader);
        mr_json_kstr(&j, "ProtocolVersion", "3");
        mr_json_kbool(&j, "Voter", peers[i].is_voter);
        mr_json_object_end(&j);
    }
    mr_json_array_end(&j);
    mr_json_ku64(&j, "Index", 0); /* As Consul, which never fills it. */
    mr_json_object_end(&j);
    return MR_OK;
}

void api_raft_peer_delete(struct api_request *req)
{
    const char *id = api_query(req, "id");
    const char *address = api_query(req, "address");
    size_t n = 0;

    if (id == NULL && address == NULL) {
        api_error(req, 400,
                  "Bad request: Must specify either ?id with the server's ID "
                  "or ?address with IP:port of peer to remove");
        return;
    }
    if (id != NULL && address != NULL) {
        api_error(req, 400,
                  "Bad request: Must specify only one of ?id or ?address");
        return;
    }
    if (!api_check_dc(req)) {
        return;
    }
    struct mr_raft_peer *peers = list_peers(req, &n);

    if (peers == NULL) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (id != NULL ? strcmp(peers[i].node_id, id) == 0
                       : strcmp(peers[i].address, address) == 0) {
            uint64_t peer_id = peers[i].id;

            api_async_begin(req, api_resume_empty);
            mr_raft_remove_peer(req->options->raft, peer_id, api_async_done,
                                req);
            return;
        }
    }
    api_error(req, 500, "%s \"%s\" was not found in the Raft configuration",
              id != NULL ? "id" : "address", id != NULL ? id : address);
}

enum mr_err api_digest(struct api_request *req, struct mr_kv_view *view,
                       struct mr_buf *out)
{
    struct mr_kv *kv = req->options->kv;
    uint64_t applied = 0;
    struct mr_hash128 digest = mr_kv_digest(kv, &applied);
    char text[33];
    struct mr_json j;

    (void)view;
    (void)snprintf(text, sizeof text, "%016llx%016llx",
                   (unsigned long long)digest.high,
                   (unsigned long long)digest.low);
    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_ku64(&j, "Revision", mr_kv_revision(kv));
    mr_json_ku64(&j, "AppliedIndex", applied);
    mr_json_kstr(&j, "Digest", text);
    mr_json_object_end(&j);
    return MR_OK;
}

/* ------------------------------------------------------------- metrics */

enum mr_err api_metrics(struct api_request *req, struct mr_kv_view *view,
                        struct mr_buf *out)
{
    const struct mr_api_host *host = &req->options->host;
    const char *format = api_query(req, "format");

    (void)view;
    if (format != NULL && strcmp(format, "prometheus") == 0) {
        req->reply.type = "text/plain; version=0.0.4; charset=utf-8";
        host->metrics_prometheus(host->arg, out);
    } else {
        host->metrics_json(host->arg, out);
    }
    return MR_OK;
}
