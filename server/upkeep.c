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
#include "server/submit.h"

#define SERVER_SERVICE "consul"

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

/* ---- registering ---- */

/* Any thread. */
static void on_registered(void *arg, enum mr_err err,
                          const struct mr_kv_result *result)
{
    struct server_agent *a = arg;

    if (err == MR_OK) {
        note_refusal(&a->upkeep, result->text);
        atomic_store(&a->upkeep.is_registered, result->verdict == MR_KV_DONE);
    }
    atomic_fetch_sub(&a->upkeep.n_proposed, 1);
}

static void register_self(struct server_agent *a)
{
    struct mr_buf cmd;

    mr_buf_init(&cmd, MR_RAFT_COMMAND_MAX);
    mr_api_self_command(&a->self, &cmd);
    atomic_fetch_add(&a->upkeep.n_proposed, 1);
    if (mr_buf_failed(&cmd) || server_submit(a, mr_buf_slice(&cmd), "agent",
                                             on_registered, a) != MR_OK) {
        atomic_fetch_sub(&a->upkeep.n_proposed, 1); /* Again in a second. */
    }
    mr_buf_deinit(&cmd);
}

/* Any thread. */
static void on_deregistered(void *arg, enum mr_err err,
                            const struct mr_kv_result *result)
{
    struct server_agent *a = arg;

    (void)err;
    (void)result;
    atomic_store(&a->upkeep.is_deregistered, true);
    (void)uv_async_send(&a->wakeup); /* The handle outlives raft. */
}

enum mr_err server_upkeep_deregister(struct server_agent *agent)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;
    struct mr_buf out;
    enum mr_err err = MR_E_NOMEM;

    body.node = (char *)agent->self.node_name;
    body.left = true;
    body.is_server = true;
    body.left_ms = MR_API_LEFT_MS;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_buf_init(&out, MR_RAFT_COMMAND_MAX);
    mr_kv_command_encode(&cmd, &out);
    if (!mr_buf_failed(&out)) {
        err = server_submit(agent, mr_buf_slice(&out), "agent", on_deregistered,
                            agent);
    }
    mr_buf_deinit(&out);
    return err;
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
