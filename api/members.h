/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The members of the cluster: the servers of raft's configuration, and the
 * agents that the catalog knows by their serfHealth check.
 */
#ifndef API_MEMBERS_H
#define API_MEMBERS_H

#include <stdbool.h>

#include "api/http.h"

/* Serf's states, as clients compare them. */
enum member_status { MEMBER_ALIVE = 1, MEMBER_LEFT = 3, MEMBER_FAILED = 4 };

/* Render this agent as a member. */
void members_write_self(struct mr_json *j, const struct mr_api_agent *agent);

/* Render the list of all members. @is_wan: the servers only, under their names
 * between datacenters. Errors are kv's. */
MR_MUST_CHECK enum mr_err members_write(struct api_request *req,
                                        struct mr_kv_view *view, bool is_wan,
                                        struct mr_buf *out);

/* What is known of the member @name. */
struct member_found {
    bool is_server;
    uint64_t raft_id; /* Of a server. */
    enum member_status status;
};

/* Look for the member @name (any case). MR_E_NOTFOUND; others are kv's. */
MR_MUST_CHECK enum mr_err members_find(struct api_request *req,
                                       struct mr_kv_view *view,
                                       const char *name,
                                       struct member_found *out);

#endif /* API_MEMBERS_H */
