/* SPDX-License-Identifier: Apache-2.0 */
/* Members of the cluster, in the form of Consul's gossip pool. */
#include "api/members.h"

#include <string.h>
#include <strings.h>

#include "api/self.h"
#include "base/mem.h"

#define PEERS_MAX 32 /* More servers than any cluster has. */

/* One member to render. Texts are borrowed. */
struct member {
    const char *name;
    const char *id;
    const char *address;
    const char *datacenter;
    uint64_t port;
    bool is_server;
    bool is_voter;
    enum member_status status;
};

/* ------------------------------------------------------------- rendering */

static void port_member(struct mr_json *j, const char *key, uint64_t port)
{
    char text[24];
    struct mr_buf digits = {(uint8_t *)text, 0, sizeof text, sizeof text,
                            false};

    mr_buf_u64(&digits, port);
    mr_json_key(j, key);
    mr_json_strn(j, text, digits.len);
}

/* Serf's tags: what Consul's tools read of a member. */
static void write_tags(struct mr_json *j, const struct mr_api_agent *agent,
                       const struct member *m, bool is_wan)
{
    char build[64];
    struct mr_buf b = {(uint8_t *)build, 0, sizeof build, sizeof build, false};

    mr_buf_str(&b, agent->consul_version);
    mr_buf_byte(&b, ':');
    mr_json_object(j);
    mr_json_kstr(j, "acls", "0");
    if (m->is_server && agent->bootstrap_expect == 1) {
        mr_json_kstr(j, "bootstrap", "1");
    }
    mr_json_key(j, "build");
    mr_json_strn(j, build, b.len);
    mr_json_kstr(j, "dc", m->datacenter);
    if (m->is_server) {
        if (agent->bootstrap_expect > 1) {
            port_member(j, "expect", agent->bootstrap_expect);
        }
        mr_json_kstr(j, "ft_fs", "1");
    }
    mr_json_kstr(j, "id", m->id);
    if (m->is_server) {
        if (!m->is_voter) {
            mr_json_kstr(j, "nonvoter", "1");
        }
        port_member(j, "port", m->port);
        mr_json_kstr(j, "raft_vsn", "3");
    }
    mr_json_kstr(j, "role", m->is_server ? "consul" : "node");
    mr_json_kstr(j, "segment", "");
    mr_json_kstr(j, "vsn", "2");
    mr_json_kstr(j, "vsn_max", "3");
    mr_json_kstr(j, "vsn_min", "2");
    if (m->is_server && !is_wan) {
        port_member(j, "wan_join_port", m->port);
    }
    mr_json_object_end(j);
}

static void write_name(struct mr_json *j, const struct member *m, bool is_wan)
{
    struct mr_buf name = MR_BUF_INIT;

    mr_buf_str(&name, m->name);
    if (is_wan) {
        mr_buf_byte(&name, '.');
        mr_buf_str(&name, m->datacenter);
    }
    if (mr_buf_failed(&name)) {
        j->out->failed = true;
    }
    mr_json_kstr(j, "Name", mr_buf_cstr(&name));
    mr_buf_deinit(&name);
}

static void write_member(struct mr_json *j, const struct mr_api_agent *agent,
                         const struct member *m, bool is_wan)
{
    mr_json_object(j);
    write_name(j, m, is_wan);
    mr_json_kstr(j, "Addr", m->address);
    mr_json_ku64(j, "Port", m->port);
    mr_json_key(j, "Tags");
    write_tags(j, agent, m, is_wan);
    mr_json_ku64(j, "Status", m->status);
    mr_json_ku64(j, "ProtocolMin", 1);
    mr_json_ku64(j, "ProtocolMax", 5);
    mr_json_ku64(j, "ProtocolCur", 2);
    mr_json_ku64(j, "DelegateMin", 2);
    mr_json_ku64(j, "DelegateMax", 5);
    mr_json_ku64(j, "DelegateCur", 4);
    mr_json_object_end(j);
}

void members_write_self(struct mr_json *j, const struct mr_api_agent *agent)
{
    struct member m = {
        agent->node_name,   agent->node_id,   agent->address, agent->datacenter,
        agent->server_port, agent->is_server, true,           MEMBER_ALIVE};

    write_member(j, agent, &m, false);
}

/* ------------------------------------------------------------- collecting */

struct walk {
    struct api_request *req;
    struct mr_kv_view *view;
    struct mr_raft_peer *peers;
    size_t n_peers;
    bool leads; /* This server hears of every other one. */
    bool is_wan;
    struct mr_json json;
    enum mr_err err;
};

static enum mr_err walk_init(struct walk *w, struct api_request *req,
                             struct mr_kv_view *view)
{
    struct mr_raft_status status;

    memset(w, 0, sizeof *w);
    w->req = req;
    w->view = view;
    w->peers = api_alloc(req, PEERS_MAX * sizeof *w->peers);
    if (w->peers == NULL) {
        return MR_E_NOMEM;
    }
    w->n_peers = mr_raft_peers(req->options->raft, w->peers, PEERS_MAX);
    if (w->n_peers > PEERS_MAX) {
        w->n_peers = PEERS_MAX;
    }
    mr_raft_status(req->options->raft, &status);
    w->leads = status.is_leader;
    return MR_OK;
}

/* What the catalog says of the node @name: false when it has no serfHealth. */
static enum mr_err health_of(struct walk *w, const char *name, bool *out_known,
                             enum member_status *out_status)
{
    const Mr__Check *check;
    enum mr_err err = mr_kv_check_get(w->view, name, SELF_HEALTH_ID, &check);

    if (err != MR_OK) {
        return err;
    }
    *out_known = check != NULL;
    if (check != NULL) {
        *out_status = strcmp(check->status, "passing") == 0 ? MEMBER_ALIVE
                                                            : MEMBER_FAILED;
    }
    return MR_OK;
}

/* A server that we hear is alive, and one that the leader does not hear is
 * not; a follower asks the catalog about the others. */
static enum mr_err peer_status(struct walk *w, const struct mr_raft_peer *peer,
                               enum member_status *out_status)
{
    bool is_known;

    if (peer->is_self || peer->is_connected) {
        *out_status = MEMBER_ALIVE;
        return MR_OK;
    }
    *out_status = w->leads ? MEMBER_FAILED : MEMBER_ALIVE;
    if (w->leads) {
        return MR_OK;
    }
    return health_of(w, peer->node_name, &is_known, out_status);
}

static enum mr_err write_peer(struct walk *w, const struct mr_raft_peer *peer)
{
    const struct mr_api_agent *agent = &w->req->options->agent;
    struct mr_hostport at = {"", 0};
    struct member m = {
        .name = peer->node_name[0] != '\0' ? peer->node_name : peer->address,
        .id = peer->node_id,
        .address = at.host,
        .datacenter = agent->datacenter,
        .is_server = true,
        .is_voter = peer->is_voter,
    };
    enum mr_err err;

    if (mr_hostport_parse(peer->address, agent->server_port, &at, NULL) !=
        MR_OK) {
        at.port = agent->server_port; /* Not heard of yet. */
    }
    m.port = at.port;
    if (peer->is_self) {
        m.name = agent->node_name;
        m.id = agent->node_id;
    }
    err = peer_status(w, peer, &m.status);
    if (err == MR_OK) {
        write_member(&w->json, agent, &m, w->is_wan);
    }
    return err;
}

static const struct mr_raft_peer *find_peer(const struct walk *w,
                                            const char *name)
{
    for (size_t i = 0; i < w->n_peers; i++) {
        const struct mr_raft_peer *peer = &w->peers[i];
        const char *known =
            peer->is_self ? w->req->options->agent.node_name : peer->node_name;

        if (strcasecmp(known, name) == 0) {
            return peer;
        }
    }
    return NULL;
}

/* A node of the catalog that is an agent and not one of the servers. */
static bool write_agent(void *arg, const Mr__Node *node)
{
    struct walk *w = arg;
    struct member m = {
        .name = node->name,
        .id = node->id,
        .address = node->address,
        .datacenter = node->datacenter,
        .port = w->req->options->agent.server_port,
    };
    bool is_agent = false;

    if (find_peer(w, node->name) != NULL) {
        return true;
    }
    w->err = health_of(w, node->name, &is_agent, &m.status);
    if (w->err == MR_OK && is_agent) {
        write_member(&w->json, &w->req->options->agent, &m, false);
    }
    return w->err == MR_OK;
}

/* A member that left in order. */
static bool write_left(void *arg, const Mr__Left *left)
{
    struct walk *w = arg;
    struct member m = {
        .name = left->node->name,
        .id = left->node->id,
        .address = left->node->address,
        .datacenter = left->node->datacenter,
        .port = w->req->options->agent.server_port,
        .is_server = left->is_server,
        .is_voter = true,
        .status = MEMBER_LEFT,
    };

    if (find_peer(w, m.name) == NULL && (m.is_server || !w->is_wan)) {
        write_member(&w->json, &w->req->options->agent, &m, w->is_wan);
    }
    return true;
}

enum mr_err members_write(struct api_request *req, struct mr_kv_view *view,
                          bool is_wan, struct mr_buf *out)
{
    struct walk w;
    enum mr_err err = walk_init(&w, req, view);

    if (err != MR_OK) {
        return err;
    }
    w.is_wan = is_wan;
    mr_json_init(&w.json, out);
    mr_json_array(&w.json);
    for (size_t i = 0; i < w.n_peers && err == MR_OK; i++) {
        err = write_peer(&w, &w.peers[i]);
    }
    if (err == MR_OK && !is_wan) {
        err = mr_kv_node_list(view, write_agent, &w, NULL);
    }
    if (err == MR_OK && w.err == MR_OK) {
        err = mr_kv_left_list(view, write_left, &w);
    }
    mr_json_array_end(&w.json);
    return err != MR_OK ? err : w.err;
}

/* A search among those that left. */
struct search {
    const char *name;
    bool is_found;
    bool is_server;
};

static bool compare_left(void *arg, const Mr__Left *left)
{
    struct search *search = arg;

    if (strcasecmp(left->node->name, search->name) == 0) {
        search->is_found = true;
        search->is_server = left->is_server;
    }
    return !search->is_found;
}

static enum mr_err find_left(struct mr_kv_view *view, const char *name,
                             struct member_found *out)
{
    struct search search = {name, false, false};
    enum mr_err err = mr_kv_left_list(view, compare_left, &search);

    if (err != MR_OK || !search.is_found) {
        return err != MR_OK ? err : MR_E_NOTFOUND;
    }
    *out = (struct member_found){search.is_server, 0, MEMBER_LEFT};
    return MR_OK;
}

enum mr_err members_find(struct api_request *req, struct mr_kv_view *view,
                         const char *name, struct member_found *out)
{
    struct member_found found = {false, 0, MEMBER_ALIVE};
    const struct mr_raft_peer *peer;
    bool is_known = true;
    struct walk w;
    enum mr_err err = walk_init(&w, req, view);

    if (err != MR_OK) {
        return err;
    }
    peer = find_peer(&w, name);
    if (peer != NULL) {
        found.is_server = true;
        found.raft_id = peer->id;
        err = peer_status(&w, peer, &found.status);
    } else {
        err = health_of(&w, name, &is_known, &found.status);
    }
    if (err == MR_OK && !is_known) {
        return find_left(view, name, out);
    }
    if (err != MR_OK) {
        return err;
    }
    *out = found;
    return MR_OK;
}
