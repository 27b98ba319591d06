/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounds. When a server is there and the node is registered:
 *
 *   IDLE -> COMPARING -> ADOPTING -> IDLE
 *   IDLE -> PUSHING -> IDLE
 *
 * A round pushes what differs between the store and what the cluster is known
 * to have. When all of it is done, that is what the cluster has; when something
 * failed, the cluster is asked (COMPARING) before more is pushed. One round is
 * under way at a time, so two commands about one row never overtake each other.
 */
#include "server/sync.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/local.h"
#include "server/sync_impl.h"

#define RETRY_MS 1000
#define SOON_MS 100 /* Between ticks while something waits. */
#define COMPARE_MS 45000
#define COMPARE_JITTER_MS 30000
#define CALL_MS 5000
#define COMMAND_WAIT_MS 1000 /* How long a client waits for the cluster. */
#define PROPOSE "/v1/internal/propose"

/* ------------------------------------------------------------- waiters */

void sync_wait(struct server_sync *sync, struct sync_waiter *waiter)
{
    mr_list_push(&sync->waiting, &waiter->link);
}

static void end_all(struct mr_list *list)
{
    while (!mr_list_empty(list)) {
        sync_waiter_end(mr_container_of(list->next, struct sync_waiter, link));
    }
}

static void end_late(struct mr_list *list, uint64_t now_ms)
{
    struct mr_list *next;

    for (struct mr_list *at = list->next; at != list; at = next) {
        struct sync_waiter *w = mr_container_of(at, struct sync_waiter, link);

        next = at->next;
        if (now_ms >= w->deadline_ms) {
            sync_waiter_end(w);
        }
    }
}

/* Commands that the store has applied: their clients wait for the cluster,
 * unless nothing changed. */
static void take_applied(struct server_sync *sync)
{
    struct mr_list applied;
    struct mr_list *at;

    (void)mr_queue_take(&sync->applied, &applied);
    while ((at = mr_list_pop(&applied)) != NULL) {
        struct sync_waiter *w = mr_container_of(at, struct sync_waiter, link);

        w->deadline_ms = sync_now() + COMMAND_WAIT_MS;
        if (sync->is_connected && w->err == MR_OK && w->write.result.changed) {
            sync_wait(sync, w);
        } else {
            sync_waiter_end(w);
        }
    }
}

/* ------------------------------------------------------------- the node */

void sync_note(struct server_sync *sync, const char *text)
{
    if (strcmp(sync->refusal, text) == 0) {
        return;
    }
    (void)snprintf(sync->refusal, sizeof sync->refusal, "%s", text);
    if (text[0] != '\0') {
        mr_log_warn("sync", "this node is not registered, retrying: %s", text);
    } else {
        mr_log_info("sync", "this node is registered now");
    }
}

void sync_unknown(struct server_sync *sync)
{
    sync->is_node_lost = true;
    sync->is_registered = false;
    sync->needs_compare = true;
}

static void on_registered(struct server_sync *sync,
                          const struct sync_call *call)
{
    struct mr_detail why;

    sync->is_registering = false;
    sync->is_registered = sync_call_ok(call);
    if (sync->is_registered) {
        sync_note(sync, "");
        sync->needs_compare = true;
        sync->wants_renewal = true;
        return;
    }
    sync->register_ms = sync_now() + RETRY_MS;
    if (call->err == MR_OK) {
        sync_note(sync, sync_call_error(call, &why));
    }
}

static void run_node(struct server_sync *sync, uint64_t now_ms)
{
    struct sync_call *call;

    if (!sync->is_connected || sync->is_leaving || sync->is_registered ||
        sync->is_registering || now_ms < sync->register_ms) {
        return;
    }
    call = sync_call_new(sync, "PUT", PROPOSE);
    if (call != NULL) {
        call->answered = on_registered;
        mr_api_self_command(&sync->self, &call->body);
        sync->is_registering = sync_call_send(call, CALL_MS);
    }
}

/* ------------------------------------------------------------- comparing */

static void on_rows(struct server_sync *sync, const struct sync_call *call)
{
    struct sync_rows rows = {0};
    struct sync_rows before;
    struct mr_detail why;
    bool is_there = false;
    enum mr_err err = MR_E_INVALID;

    sync->phase = SYNC_IDLE;
    if (sync_call_ok(call)) {
        err = sync_rows_parse(&rows, mr_buf_slice(&call->forward.answer),
                              &is_there);
    }
    if (err != MR_OK) {
        sync->retry_ms = sync_now() + RETRY_MS;
        mr_log_debug("sync", "cannot compare: %s", sync_call_error(call, &why));
        return;
    }
    before = sync->known;
    sync->known = rows;
    sync->needs_compare = false;
    sync->is_full = true;
    sync->is_dirty = true;
    sync->compare_ms =
        sync_now() + COMPARE_MS +
        mr_random_u64(SERVER_RANDOM) % (uint64_t)COMPARE_JITTER_MS;
    if (is_there) {
        sync->phase = SYNC_ADOPTING;
        sync_adopt(sync, &before);
    } else {
        sync_unknown(sync);
    }
    sync_rows_deinit(&before);
}

static void begin_compare(struct server_sync *sync)
{
    struct sync_call *call = sync_call_new(sync, "GET", "/v1/internal/rows");
    bool is_sent = false;

    if (call != NULL) {
        call->answered = on_rows;
        if (!sync->was_compared) {
            mr_buf_str(&call->target, "&output");
        }
        is_sent = sync_call_send(call, CALL_MS);
    }
    if (is_sent) {
        sync->phase = SYNC_COMPARING;
    } else {
        sync->retry_ms = sync_now() + RETRY_MS;
    }
}

/* ------------------------------------------------------------- pushing */

void sync_check_lost(struct server_sync *sync, const char *check_id)
{
    struct sync_row *row = sync_rows_find(&sync->known, true, check_id);

    if (row != NULL) {
        sync_rows_drop(&sync->known, row);
    }
    row = sync_rows_find(&sync->next, true, check_id);
    if (row != NULL) {
        sync_rows_drop(&sync->next, row);
    }
    sync->is_dirty = true;
}

/* What failed may have been done or not: nothing new is known of the cluster
 * until it is asked. */
static void end_round(struct server_sync *sync)
{
    sync->phase = SYNC_IDLE;
    if (sync->has_failed) {
        sync_rows_deinit(&sync->next);
        sync->needs_compare = true;
        sync->retry_ms = sync_now() + RETRY_MS;
    } else {
        sync_rows_deinit(&sync->known);
        sync->known = sync->next;
        sync->next = (struct sync_rows){0};
        sync->is_full = sync->is_full && sync->is_dirty;
    }
    end_all(&sync->riding);
}

static void on_pushed(struct server_sync *sync, const struct sync_call *call)
{
    struct mr_detail why;

    if (!sync_call_ok(call)) {
        if (!sync->has_failed) {
            mr_log_warn("sync",
                        "a change did not reach the cluster, retrying: "
                        "%s",
                        sync_call_error(call, &why));
        }
        sync->has_failed = true;
    }
    if (--sync->n_open == 0) {
        end_round(sync);
    }
}

static void push(struct server_sync *sync, struct sync_diff *diff)
{
    for (size_t i = 0; i < diff->n_commands; i++) {
        struct sync_call *call = sync_call_new(sync, "PUT", PROPOSE);
        struct mr_slice bytes = mr_buf_slice(&diff->commands[i]);

        if (call != NULL) {
            call->answered = on_pushed;
            mr_buf_add(&call->body, bytes.data, bytes.len);
        }
        if (call != NULL && sync_call_send(call, CALL_MS)) {
            sync->n_open++;
        } else {
            sync->has_failed = true;
        }
    }
}

static void begin_round(struct server_sync *sync)
{
    struct sync_diff diff = {.self = &sync->self,
                             .known = &sync->known,
                             .with_output = sync->is_full};
    struct mr_kv_view *view = NULL;
    enum mr_err err = mr_kv_view_begin(sync->agent->kv, &view);

    if (err == MR_OK) {
        err = sync_diff_make(&diff, view);
    }
    mr_kv_view_end(view);
    if (err != MR_OK) {
        sync->retry_ms = sync_now() + RETRY_MS;
        return;
    }
    sync->phase = SYNC_PUSHING;
    sync->is_dirty = diff.is_more;
    sync->has_failed = false;
    sync->next = diff.after;
    diff.after = (struct sync_rows){0};
    mr_list_move(&sync->riding, &sync->waiting);
    for (size_t i = 0; i < diff.n_renewals; i++) {
        sync_renewal_due(sync, diff.renewals[i]);
    }
    push(sync, &diff);
    sync_diff_deinit(&diff);
    if (sync->n_open == 0) {
        end_round(sync);
    }
}

static void run_rows(struct server_sync *sync, uint64_t now_ms)
{
    if (sync->phase == SYNC_ADOPTING && atomic_load(&sync->n_adopting) == 0) {
        sync->phase = SYNC_IDLE;
    }
    if (!sync->is_connected || sync->is_leaving || sync->refusal[0] != '\0') {
        end_all(&sync->waiting);
    }
    if (!sync->is_connected || sync->is_leaving || !sync->is_registered ||
        sync->phase != SYNC_IDLE || now_ms < sync->retry_ms) {
        return;
    }
    if (sync->needs_compare || now_ms >= sync->compare_ms) {
        begin_compare(sync);
    } else if (sync->is_dirty) {
        begin_round(sync);
    } else {
        end_all(&sync->waiting);
    }
}

/* ------------------------------------------------------------- running */

static void look_at_link(struct server_sync *sync)
{
    struct server_link_status status;

    if (!atomic_exchange(&sync->is_linked_anew, false)) {
        return;
    }
    server_link_status(sync->agent->link, &status);
    sync->is_connected = status.is_connected;
    sync->needs_compare = true;
    sync->register_ms = 0;
    sync->retry_ms = 0;
    atomic_store(&sync->agent->has_leader, status.is_connected);
}

void server_sync_run(struct server_sync *sync)
{
    uint64_t now_ms = sync_now();

    if (sync->is_stopped || sync->agent->link == NULL) {
        return;
    }
    look_at_link(sync);
    sync_calls_answer(sync, false);
    take_applied(sync);
    sync_renewals_take(sync);
    if (atomic_exchange(&sync->is_changed, false)) {
        sync->is_dirty = true;
    }
    end_late(&sync->waiting, now_ms);
    end_late(&sync->riding, now_ms);
    run_node(sync, now_ms);
    sync_renewals_run(sync, now_ms);
    run_rows(sync, now_ms);
}

uint64_t server_sync_tick_ms(const struct server_sync *sync)
{
    uint64_t quarter_ms = sync->self.node_ttl_ms / 4;
    bool is_busy = !mr_list_empty(&sync->waiting) ||
                   !mr_list_empty(&sync->riding) || !sync->is_registered;

    return is_busy ? SOON_MS : quarter_ms < RETRY_MS ? quarter_ms : RETRY_MS;
}

static void on_left(struct server_sync *sync, const struct sync_call *call)
{
    struct mr_detail why;

    if (!sync_call_ok(call)) {
        mr_log_warn("sync", "the cluster was not told of the leaving: %s",
                    sync_call_error(call, &why));
    }
    server_agent_deregistered(sync->agent);
}

bool server_sync_leave(struct server_sync *sync)
{
    struct sync_call *call = sync_call_new(sync, "PUT", PROPOSE);
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    if (call == NULL) {
        return false;
    }
    body.node = (char *)sync->self.node_name;
    body.left = true;
    body.left_ms = MR_API_LEFT_MS;
    cmd.by = (char *)"an agent that leaves";
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_kv_command_encode(&cmd, &call->body);
    call->answered = on_left;
    sync->is_leaving = true;
    return sync_call_send(call, CALL_MS);
}

/* ------------------------------------------------------------- any thread */

void server_sync_linked(struct server_sync *sync)
{
    atomic_store(&sync->is_linked_anew, true);
    (void)uv_async_send(&sync->agent->wakeup); /* It outlives the link. */
}

void server_sync_changed(struct server_sync *sync)
{
    atomic_store(&sync->is_changed, true);
    (void)uv_async_send(&sync->agent->wakeup); /* It outlives the store. */
}

/* The store's thread. */
static void on_applied(struct mr_raft_proposal *proposal, enum mr_err err)
{
    struct sync_waiter *w =
        mr_container_of(proposal, struct sync_waiter, write.proposal);

    mr_container_of(w->proposal, struct mr_write, proposal)->result =
        w->write.result;
    w->err = err;
    mr_list_init(&w->link);
    if (mr_queue_push(&w->sync->applied, &w->link) != MR_OK) {
        sync_waiter_end(w);
    }
}

enum mr_err server_sync_propose(struct server_sync *sync,
                                struct mr_raft_proposal *p)
{
    struct sync_waiter *w = mr_calloc(1, sizeof *w);
    enum mr_err err;

    if (w == NULL) {
        return MR_E_NOMEM;
    }
    mr_list_init(&w->link);
    w->sync = sync;
    w->proposal = p;
    w->write.proposal.cmd = p->cmd;
    w->write.proposal.done = on_applied;
    err = server_local_propose(sync->agent->local, &w->write.proposal);
    if (err != MR_OK) {
        mr_free(w);
    }
    return err;
}

/* ------------------------------------------------------------- life */

static void wake(void *arg)
{
    struct server_sync *sync = arg;

    (void)uv_async_send(&sync->agent->wakeup); /* It outlives them all. */
}

enum mr_err server_sync_new(struct server_agent *agent)
{
    struct server_sync *sync = mr_calloc(1, sizeof *sync);

    if (sync == NULL) {
        return MR_E_NOMEM;
    }
    sync->agent = agent;
    sync->self = agent->self;
    sync->start_revision = mr_kv_revision(agent->kv);
    sync->needs_compare = true;
    mr_queue_init(&sync->answers, 0, wake, sync);
    mr_queue_init(&sync->applied, 0, wake, sync);
    mr_queue_init(&sync->wishes, 0, wake, sync);
    mr_list_init(&sync->waiting);
    mr_list_init(&sync->riding);
    mr_list_init(&sync->renewing);
    mr_list_init(&sync->renewing_asked);
    agent->sync = sync;
    return MR_OK;
}

void server_sync_stop(struct server_sync *sync)
{
    struct mr_list wishes;

    if (sync == NULL || sync->is_stopped) {
        return;
    }
    sync->is_stopped = true;
    sync->is_connected = false;
    mr_queue_close(&sync->applied);
    mr_queue_close(&sync->wishes);
    take_applied(sync);
    (void)mr_queue_take(&sync->wishes, &wishes);
    for (struct mr_list *at = wishes.next; at != &wishes; at = at->next) {
        mr_container_of(at, struct sync_waiter, link)->err = MR_E_CLOSED;
    }
    end_all(&wishes);
    end_all(&sync->waiting);
    end_all(&sync->riding);
    end_all(&sync->renewing);
    end_all(&sync->renewing_asked);
}

void server_sync_free(struct server_sync *sync)
{
    if (sync == NULL) {
        return;
    }
    sync_calls_answer(sync, true);
    sync_rows_deinit(&sync->known);
    sync_rows_deinit(&sync->next);
    server_list_deinit(&sync->due);
    server_list_deinit(&sync->asked);
    server_list_deinit(&sync->heard);
    mr_queue_deinit(&sync->answers);
    mr_queue_deinit(&sync->applied);
    mr_queue_deinit(&sync->wishes);
    mr_free(sync);
}
