/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the cluster is right.
 *
 * - After a start the store says what was true when the agent ended. In the
 *   meantime the cluster may have ended a check, and nobody was there to notice
 *   that its owner is gone. So a check that needs news (it has a TTL or is run)
 *   and has none since the start gets the cluster's status, or is critical where
 *   the cluster has no such check.
 * - The cluster removes a service that was critical for too long
 *   (DeregisterCriticalServiceAfter), and counts from the first moment; the store
 *   counts anew after a start. A critical service that the cluster had and has no
 *   more is not registered again, but removed here too. That does not hold when
 *   the whole node was lost: then everything comes back.
 */
#include <string.h>

#include "api/mr_rows.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/local.h"
#include "server/sync_impl.h"

#define FORGOTTEN "No news of this check since its agent was restarted"

struct adoption {
    struct mr_write write;
    struct server_sync *sync;
    struct mr_buf cmd;
};

/* The store's thread. */
static void on_done(struct mr_raft_proposal *proposal, enum mr_err err)
{
    struct adoption *a =
        mr_container_of(proposal, struct adoption, write.proposal);
    struct server_sync *sync = a->sync;

    (void)err; /* A store that fails ends the process. */
    mr_buf_deinit(&a->cmd);
    mr_free(a);
    atomic_fetch_sub(&sync->n_adopting, 1);
    (void)uv_async_send(&sync->agent->wakeup); /* It outlives the store. */
}

/* Without memory the store's word counts. */
static void submit(struct server_sync *sync, Mr__Command *cmd, const char *by)
{
    struct adoption *a = mr_calloc(1, sizeof *a);

    if (a == NULL) {
        return;
    }
    a->sync = sync;
    cmd->time_ms = SERVER_CLOCK->wall_ms(SERVER_CLOCK);
    cmd->by = (char *)by;
    mr_kv_command_encode(cmd, &a->cmd);
    a->write.proposal.cmd = mr_buf_slice(&a->cmd);
    a->write.proposal.done = on_done;
    atomic_fetch_add(&sync->n_adopting, 1);
    if (mr_buf_failed(&a->cmd) ||
        server_local_propose(sync->agent->local, &a->write.proposal) != MR_OK) {
        atomic_fetch_sub(&sync->n_adopting, 1);
        mr_buf_deinit(&a->cmd);
        mr_free(a);
    }
}

static void update(struct server_sync *sync, const Mr__Check *check,
                   const char *status, const char *output)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__CheckUpdate body = MR__CHECK_UPDATE__INIT;

    body.node = (char *)sync->self.node_name;
    body.check_id = check->check_id;
    body.status = (char *)status;
    body.output = (char *)output;
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &body;
    submit(sync, &cmd, "restart");
}

static void give_up(struct server_sync *sync, const char *service_id)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    body.node = (char *)sync->self.node_name;
    body.service_id = (char *)service_id;
    body.agent_only = true;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    submit(sync, &cmd, "the cluster, where it was critical for too long");
}

/* Whether somebody told about @check since the start. */
static bool is_vouched(const struct server_sync *sync, const Mr__Check *check)
{
    const Mr__CheckDefinition *d = check->definition;

    if (d == NULL || (d->ttl_ns <= 0 && d->interval_ns <= 0) ||
        check->modify_rev > sync->start_revision) {
        return true;
    }
    for (size_t i = 0; i < sync->heard.n; i++) {
        if (strcmp(sync->heard.items[i], check->check_id) == 0) {
            return true;
        }
    }
    return false;
}

/* One comparison. */
struct comparison {
    struct server_sync *sync;
    const struct sync_rows *before; /* What the cluster had. */
    bool is_first;
};

/* Whether the cluster removed the service of @check for being critical. */
static bool is_given_up(const struct comparison *c, const Mr__Check *check)
{
    const Mr__CheckDefinition *d = check->definition;
    const struct server_sync *sync = c->sync;

    if (d == NULL || d->deregister_after_ns <= 0 ||
        check->service_id[0] == '\0' ||
        strcmp(check->status, "critical") != 0 || sync->is_node_lost ||
        sync_rows_find(&sync->known, false, check->service_id) != NULL) {
        return false;
    }
    return c->is_first
               ? check->modify_rev <= sync->start_revision
               : sync_rows_find(c->before, false, check->service_id) != NULL;
}

static bool look_at(void *arg, const Mr__Check *check)
{
    const struct comparison *c = arg;
    struct server_sync *sync = c->sync;
    const struct sync_row *row;

    if (check->origin != MR__ORIGIN__AGENT) {
        return true;
    }
    if (is_given_up(c, check)) {
        give_up(sync, check->service_id);
        return true;
    }
    if (!c->is_first || is_vouched(sync, check)) {
        return true;
    }
    row = sync_rows_find(&sync->known, true, check->check_id);
    if (row == NULL) {
        update(sync, check, "critical", FORGOTTEN);
    } else if (row->state != mr_rows_check_state(check) &&
               row->output != NULL) {
        update(sync, check, row->status, row->output);
    }
    return true;
}

void sync_adopt(struct server_sync *sync, const struct sync_rows *before)
{
    struct comparison c = {sync, before, !sync->was_compared};
    struct mr_kv_view *view = NULL;
    enum mr_err err = mr_kv_view_begin(sync->agent->kv, &view);

    if (err == MR_OK) {
        err = mr_kv_node_checks(view, sync->self.node_name, look_at, &c, NULL);
    }
    mr_kv_view_end(view);
    if (err != MR_OK) {
        mr_log_warn("sync", "the checks cannot be read: %s", mr_strerror(err));
    }
    sync->was_compared = true;
    sync->is_node_lost = false;
    server_list_deinit(&sync->heard);
}
