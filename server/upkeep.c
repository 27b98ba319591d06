/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own node in the catalog, kept alive.
 *
 * - A server registers its own node, when a leader is there, and again when the
 *   row is missing or says something else.
 * - The node has a lease, which is renewed several times in its TTL. A server
 *   that falls silent loses it: the state turns its serfHealth critical
 *   (health/mr_lease.h). Told that the lease is unknown, it registers again. A
 *   server that was wiped has a new ID, and takes over its name when the old
 *   one is dead.
 *
 * Proposals are never waited for: while some are on their way, nothing more is
 * proposed; and one renewal is on its way at a time.
 */
#include "server/agent.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "health/mr_health.h"

#define SERVER_SERVICE "consul"

enum purpose { PURPOSE_REGISTER, PURPOSE_DEREGISTER };

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

/* ---- registering ---- */

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
           strcmp(node->address, a->self.address) == 0 &&
           node->ttl_ms == a->self.node_ttl_ms &&
           node->reap_ms == a->self.node_reap_ms;
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

/* ---- renewing ---- */

/* Core thread. */
static void on_renewed(struct mr_lease_renewal *renewal, enum mr_err err)
{
    struct server_upkeep *u =
        mr_container_of(renewal, struct server_upkeep, renewal);

    u->is_renewing = false;
    if (err == MR_OK && u->item.answer == MR_LEASE_UNKNOWN) {
        atomic_store(&u->is_registered, false);
    }
}

/* Renew the lease of our node; false: it has none. */
static bool renew_self(struct server_agent *a, struct mr_kv_view *view)
{
    struct server_upkeep *u = &a->upkeep;
    struct mr_kv_lease_ref ref;

    if (u->is_renewing ||
        mr_kv_lease_find(view, MR_KV_SUBJECT_NODE, a->self.node_name, "",
                         &ref) != MR_OK) {
        return true;
    }
    if (ref.lease_id == 0) {
        return false;
    }
    u->item.id = ref.lease_id;
    u->renewal = (struct mr_lease_renewal){
        .items = &u->item, .n_items = 1, .done = on_renewed};
    u->is_renewing = server_leases_renew(a->leases, &u->renewal) == MR_OK;
    return true;
}

void server_upkeep_run(struct server_agent *agent)
{
    struct server_upkeep *u = &agent->upkeep;
    struct mr_kv_view *view;
    bool has_lease;

    if (mr_kv_view_begin(agent->kv, &view) != MR_OK) {
        return;
    }
    has_lease = is_in_catalog(agent, view) && renew_self(agent, view);
    if ((!has_lease || !atomic_load(&u->is_registered)) &&
        atomic_load(&u->n_proposed) == 0 && atomic_load(&agent->has_leader) &&
        !is_name_taken(agent, view)) {
        register_self(agent);
    }
    mr_kv_view_end(view);
}
