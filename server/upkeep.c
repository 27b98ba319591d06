/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the catalog says about servers, kept true.
 *
 * - Every server registers its own node, when a leader is there, and again
 *   when the row is missing or says something else.
 * - The leader turns serfHealth of a server critical that fell silent, and
 *   passing again when it hears it (health/liveness.c). A server that was wiped
 *   has a new ID, and takes over its name when the old one is critical.
 *
 * Proposals are never waited for: while some are on their way, nothing more is
 * proposed.
 */
#include "server/agent.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "health/mr_health.h"

#define SERVERS_MAX 32
#define PAUSED_MS 2500 /* Between two runs, which are a second apart. */
#define SERVER_SERVICE "consul"

enum purpose { PURPOSE_REGISTER, PURPOSE_HEALTH, PURPOSE_DEREGISTER };

/* One command of ours on its way. */
struct proposal {
    struct mr_write write; /* First: found again by raft's proposal. */
    struct server_agent *agent;
    enum purpose purpose;
    struct mr_buf cmd;
};

/* Log it once; "" is the end of a refusal. Any thread. */
static void note_refusal(struct server_upkeep *u, const char *text)
{
    bool is_new;

    (void)pthread_mutex_lock(&u->refusal_lock); /* Never fails. */
    is_new = strcmp(u->last_refusal, text) != 0;
    (void)snprintf(u->last_refusal, sizeof u->last_refusal, "%s", text);
    (void)pthread_mutex_unlock(&u->refusal_lock);
    if (is_new && text[0] != '\0') {
        mr_log_warn("agent", "this node is not registered, retrying: %s", text);
    } else if (is_new) {
        mr_log_info("agent", "this node is registered now");
    }
}

/* Apply thread or core thread. */
static void on_done(struct mr_raft_proposal *raft_proposal, enum mr_err err)
{
    struct proposal *p =
        mr_container_of(raft_proposal, struct proposal, write.proposal);
    struct server_agent *a = p->agent;
    bool is_done = err == MR_OK && p->write.result.verdict == MR_KV_DONE;

    if (p->purpose == PURPOSE_REGISTER && err == MR_OK) {
        note_refusal(&a->upkeep, p->write.result.text);
        atomic_store(&a->upkeep.is_registered, is_done);
    }
    if (p->purpose == PURPOSE_DEREGISTER) {
        atomic_store(&a->upkeep.is_deregistered, true);
        (void)uv_async_send(&a->wakeup); /* The handle outlives raft. */
    }
    mr_buf_deinit(&p->cmd);
    mr_free(p);
    atomic_fetch_sub(&a->upkeep.n_proposed, 1);
}

static struct proposal *new_proposal(struct server_agent *a,
                                     enum purpose purpose)
{
    struct proposal *p = mr_calloc(1, sizeof *p);

    if (p != NULL) {
        p->agent = a;
        p->purpose = purpose;
        mr_buf_init(&p->cmd, MR_RAFT_COMMAND_MAX);
    }
    return p;
}

/* Takes @p, which may be NULL. */
static enum mr_err propose(struct proposal *p)
{
    struct server_agent *a;
    enum mr_err err = MR_E_NOMEM;

    if (p == NULL) {
        return err;
    }
    a = p->agent;
    if (!mr_buf_failed(&p->cmd)) {
        p->write.proposal.cmd = mr_buf_slice(&p->cmd);
        p->write.proposal.done = on_done;
        atomic_fetch_add(&a->upkeep.n_proposed, 1);
        err = mr_raft_propose(a->raft, &p->write.proposal);
        if (err == MR_OK) {
            return MR_OK;
        }
        atomic_fetch_sub(&a->upkeep.n_proposed, 1);
    }
    mr_buf_deinit(&p->cmd);
    mr_free(p);
    return err;
}

/* ---- our own node ---- */

static void register_self(struct server_agent *a)
{
    struct proposal *p = new_proposal(a, PURPOSE_REGISTER);

    if (p != NULL) {
        mr_api_self_command(&a->self, &p->cmd);
    }
    (void)propose(p); /* Tried again in a second. */
}

enum mr_err server_upkeep_deregister(struct server_agent *agent)
{
    struct proposal *p = new_proposal(agent, PURPOSE_DEREGISTER);
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    body.node = (char *)agent->self.node_name;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    if (p != NULL) {
        mr_kv_command_encode(&cmd, &p->cmd);
    }
    return propose(p);
}

/* Whether the catalog has our node as it is. */
static bool is_in_catalog(const struct server_agent *a, struct mr_kv_view *view)
{
    const Mr__Node *node = NULL;
    const Mr__Check *check = NULL;
    const Mr__Service *service = NULL;
    const char *name = a->self.node_name;

    if (mr_kv_node_get(view, name, &node, NULL) != MR_OK ||
        mr_kv_check_get(view, name, MR_HEALTH_CHECK_ID, &check) != MR_OK ||
        mr_kv_service_get(view, name, SERVER_SERVICE, &service) != MR_OK) {
        return true; /* No memory now: look again in a second. */
    }
    return node != NULL && check != NULL && service != NULL &&
           strcasecmp(node->id, a->self.node_id) == 0 &&
           strcmp(node->address, a->self.address) == 0;
}

/* Whether a living node of another ID has our name: registering would be
 * refused, so nothing is proposed until that one is dead or gone. */
static bool is_name_taken(struct server_agent *a, struct mr_kv_view *view)
{
    const Mr__Node *node = NULL;
    const Mr__Check *check = NULL;
    const char *name = a->self.node_name;
    char text[256];

    if (mr_kv_node_get(view, name, &node, NULL) != MR_OK || node == NULL ||
        mr_kv_check_get(view, name, MR_HEALTH_CHECK_ID, &check) != MR_OK ||
        check == NULL || node->id[0] == '\0' ||
        strcasecmp(node->id, a->self.node_id) == 0 ||
        strcmp(check->status, "passing") != 0) {
        return false;
    }
    (void)snprintf(text, sizeof text,
                   "the name %.60s is in use by node %s at %s", name, node->id,
                   node->address); /* Cut if need be. */
    note_refusal(&a->upkeep, text);
    return true;
}

/* ---- the leader's look at the servers ---- */

static void propose_health(void *arg, const char *node, bool is_alive)
{
    struct proposal *p = new_proposal(arg, PURPOSE_HEALTH);

    if (p != NULL) {
        mr_liveness_command(node, is_alive, &p->cmd);
    }
    if (propose(p) == MR_OK) {
        mr_log_info("agent", "server %s node=\"%s\"",
                    is_alive ? "is back" : "does not answer", node);
    }
}

static void look_at_servers(struct server_agent *a, struct mr_kv_view *view)
{
    struct mr_raft_peer peers[SERVERS_MAX];
    struct mr_health_contact contacts[SERVERS_MAX];
    size_t n = mr_raft_peers(a->raft, peers, SERVERS_MAX);

    n = n < SERVERS_MAX ? n : SERVERS_MAX;
    for (size_t i = 0; i < n; i++) {
        contacts[i] = (struct mr_health_contact){
            peers[i].node_id, peers[i].is_self ? 0 : peers[i].last_contact_ms};
    }
    if (mr_liveness_judge(view, contacts, n, propose_health, a) != MR_OK) {
        mr_log_warn("agent", "cannot look at the servers, retrying");
    }
}

/* Whether we lead and have heard enough to say who is dead. After a pause of
 * our own, everybody seems silent. */
static bool may_judge_now(struct server_upkeep *u, bool is_leader)
{
    uint64_t now = mr_now_ms(SERVER_CLOCK);
    bool was_paused = now - u->last_run_ms > PAUSED_MS;

    u->last_run_ms = now;
    return mr_liveness_may_judge(&u->liveness, is_leader && !was_paused, now);
}

void server_upkeep_run(struct server_agent *agent)
{
    struct server_upkeep *u = &agent->upkeep;
    struct mr_raft_status status;
    struct mr_kv_view *view;
    bool may_judge;

    mr_raft_status(agent->raft, &status);
    may_judge = may_judge_now(u, status.is_leader);
    if (!status.has_leader || atomic_load(&u->n_proposed) > 0 ||
        mr_kv_view_begin(agent->kv, &view) != MR_OK) {
        return;
    }
    if ((!atomic_load(&u->is_registered) || !is_in_catalog(agent, view)) &&
        !is_name_taken(agent, view)) {
        register_self(agent);
    }
    if (may_judge) {
        look_at_servers(agent, view);
    }
    mr_kv_view_end(view);
}
