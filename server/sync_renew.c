/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewals: of the node's lease each second, and of TTL checks when their
 * owners ask. One request is under way at a time; what comes meanwhile goes
 * together with the next.
 *
 * A client's renewal counts in the store's leases first. It is answered when
 * the cluster's lease is renewed too, or when no server could be reached in
 * time: then the store's own answer holds.
 */
#include <string.h>

#include <jansson.h>

#include "base/json.h"
#include "base/mem.h"
#include "server/leases.h"
#include "server/sync_impl.h"

#define RENEW_TIMEOUT_MS 1200
#define CLIENT_MS 3000 /* How long a client waits for the cluster. */
#define NODE_MS 1000

/* ------------------------------------------------------------- lists */

static void move_texts(struct server_list *to, struct server_list *from)
{
    *to = *from;
    *from = (struct server_list){0};
}

static bool has_text(const struct server_list *list, const char *text)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->items[i], text) == 0) {
            return true;
        }
    }
    return false;
}

void sync_renewal_due(struct server_sync *sync, const char *check_id)
{
    /* Without memory it is as if the owner had been silent once. */
    (void)!server_list_add(&sync->due, check_id);
    sync->wants_renewal = true;
}

/* ------------------------------------------------------------- the answer */

/* The clients that waited for this answer wait no more, or for the round that
 * pushes what the cluster lost. */
static void end_asked(struct server_sync *sync, bool needs_round)
{
    struct mr_list *at;

    while ((at = mr_list_pop(&sync->renewing_asked)) != NULL) {
        struct sync_waiter *w = mr_container_of(at, struct sync_waiter, link);

        if (needs_round) {
            sync_wait(sync, w);
        } else {
            sync_waiter_end(w);
        }
    }
}

/* Nobody answered: those who can wait a little longer are asked for again. */
static void ask_again(struct server_sync *sync)
{
    uint64_t now = sync_now();
    struct mr_list *at;

    server_link_doubt(sync->agent->link);
    while ((at = mr_list_pop(&sync->renewing_asked)) != NULL) {
        struct sync_waiter *w = mr_container_of(at, struct sync_waiter, link);

        if (now >= w->deadline_ms) {
            sync_waiter_end(w);
            continue;
        }
        for (size_t i = 0; i < w->local.n_items; i++) {
            if (w->checks[i] != NULL) {
                sync_renewal_due(sync, w->checks[i]);
            }
        }
        mr_list_push(&sync->renewing, &w->link);
    }
}

static void read_answer(struct server_sync *sync, const json_t *root)
{
    const json_t *checks = json_object_get(root, "Checks");
    bool needs_round = false;

    if (!json_is_true(json_object_get(root, "Node"))) {
        sync_unknown(sync);
        needs_round = true;
    }
    for (size_t i = 0; i < sync->asked.n; i++) {
        if (!json_is_true(json_array_get(checks, i))) {
            sync_check_lost(sync, sync->asked.items[i]);
            needs_round = true;
        }
    }
    end_asked(sync, needs_round);
}

static void on_answer(struct server_sync *sync, const struct sync_call *call)
{
    json_t *root = NULL;
    struct mr_detail why;

    sync->is_renewing = false;
    if (sync_call_ok(call)) {
        root = json_loadb((const char *)call->forward.answer.data,
                          call->forward.answer.len, 0, NULL);
    }
    if (json_is_object(root)) {
        read_answer(sync, root);
    } else if (call->err == MR_OK && call->forward.status == 409) {
        sync_note(sync, sync_call_error(call, &why));
        sync_unknown(sync);
        end_asked(sync, false);
    } else {
        ask_again(sync);
    }
    json_decref(root);
    server_list_deinit(&sync->asked);
}

/* ------------------------------------------------------------- asking */

static void write_body(const struct server_sync *sync, struct mr_buf *out)
{
    struct mr_json j;

    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_kstr(&j, "Node", sync->self.node_name);
    mr_json_kstr(&j, "ID", sync->self.node_id);
    mr_json_key(&j, "Checks");
    mr_json_array(&j);
    for (size_t i = 0; i < sync->asked.n; i++) {
        mr_json_str(&j, sync->asked.items[i]);
    }
    mr_json_array_end(&j);
    mr_json_object_end(&j);
}

static void ask(struct server_sync *sync)
{
    struct sync_call *call = sync_call_new(sync, "PUT", "/v1/internal/renew");

    move_texts(&sync->asked, &sync->due);
    mr_list_move(&sync->renewing_asked, &sync->renewing);
    sync->wants_renewal = false;
    sync->renewed_ms = sync_now();
    if (call != NULL) {
        call->answered = on_answer;
        write_body(sync, &call->body);
        sync->is_renewing = sync_call_send(call, RENEW_TIMEOUT_MS);
    }
    if (!sync->is_renewing) {
        server_list_deinit(&sync->asked);
        end_asked(sync, false);
    }
}

static uint64_t node_ms(const struct server_sync *sync)
{
    uint64_t quarter_ms = sync->self.node_ttl_ms / 4;

    return quarter_ms < NODE_MS ? quarter_ms : NODE_MS;
}

void sync_renewals_run(struct server_sync *sync, uint64_t now_ms)
{
    if (!sync->is_connected || sync->is_leaving) {
        sync_renewals_end(sync);
        return;
    }
    if (sync->is_renewing ||
        (!sync->wants_renewal &&
         (!sync->is_registered ||
          now_ms < sync->renewed_ms + node_ms(sync) - 10))) {
        return;
    }
    ask(sync);
}

void sync_renewals_end(struct server_sync *sync)
{
    struct mr_list *at;

    server_list_deinit(&sync->due);
    sync->wants_renewal = false;
    while ((at = mr_list_pop(&sync->renewing)) != NULL) {
        sync_waiter_end(mr_container_of(at, struct sync_waiter, link));
    }
}

/* ------------------------------------------------------------- clients */

/* The store's lease is renewed. Core thread. */
static void on_local_done(struct mr_lease_renewal *renewal, enum mr_err err)
{
    struct sync_waiter *w = mr_container_of(renewal, struct sync_waiter, local);
    struct server_sync *sync = w->sync;
    bool is_any = false;

    w->err = err;
    for (size_t i = 0; err == MR_OK && i < renewal->n_items; i++) {
        if (renewal->items[i].answer != MR_LEASE_RENEWED ||
            w->checks[i] == NULL) {
            continue;
        }
        is_any = true;
        sync_renewal_due(sync, w->checks[i]);
        if (!sync->was_compared && !has_text(&sync->heard, w->checks[i])) {
            /* Without memory the cluster's word counts for this one. */
            (void)!server_list_add(&sync->heard, w->checks[i]);
        }
    }
    if (!is_any || sync->is_stopped || !sync->is_connected) {
        sync_waiter_end(w);
        return;
    }
    mr_list_push(&sync->renewing, &w->link);
    sync_renewals_run(sync, sync_now());
}

void sync_renewals_take(struct server_sync *sync)
{
    struct mr_list wishes;
    struct mr_list *at;

    (void)mr_queue_take(&sync->wishes, &wishes);
    while ((at = mr_list_pop(&wishes)) != NULL) {
        struct sync_waiter *w = mr_container_of(at, struct sync_waiter, link);
        enum mr_err err;

        w->local.items = w->renewal->items;
        w->local.n_items = w->renewal->n_items;
        w->local.done = on_local_done;
        mr_list_init(&w->local.link);
        err = server_leases_renew(sync->agent->leases, &w->local);
        if (err != MR_OK) {
            w->err = err;
            sync_waiter_end(w);
        }
    }
}

/* Which checks the leases are of. */
static enum mr_err find_checks(struct sync_waiter *w)
{
    const struct mr_lease_renewal *renewal = w->renewal;
    struct mr_kv_view *view = NULL;
    enum mr_err err = mr_kv_view_begin(w->sync->agent->kv, &view);

    for (size_t i = 0; err == MR_OK && i < renewal->n_items; i++) {
        const Mr__Lease *lease = NULL;

        err = mr_kv_lease_get(view, renewal->items[i].id, &lease);
        if (err == MR_OK && lease != NULL &&
            lease->kind == MR__LEASE_KIND__LEASE_CHECK) {
            w->checks[i] = mr_strdup(lease->name);
            err = w->checks[i] == NULL ? MR_E_NOMEM : MR_OK;
        }
    }
    mr_kv_view_end(view);
    return err;
}

static void waiter_free(struct sync_waiter *w)
{
    for (size_t i = 0; w->checks != NULL && i < w->renewal->n_items; i++) {
        mr_free(w->checks[i]);
    }
    mr_free(w->checks);
    mr_free(w);
}

void sync_waiter_end(struct sync_waiter *waiter)
{
    mr_list_remove(&waiter->link);
    if (waiter->proposal != NULL) {
        waiter->proposal->done(waiter->proposal, waiter->err);
        mr_free(waiter);
        return;
    }
    struct mr_lease_renewal *renewal = waiter->renewal;
    enum mr_err err = waiter->err;

    waiter_free(waiter); /* The client may free what it names. */
    renewal->done(renewal, err);
}

enum mr_err server_sync_renew(struct server_sync *sync,
                              struct mr_lease_renewal *renewal)
{
    struct sync_waiter *w = mr_calloc(1, sizeof *w);
    enum mr_err err = MR_E_BUSY;

    if (w == NULL) {
        return err;
    }
    mr_list_init(&w->link);
    w->sync = sync;
    w->renewal = renewal;
    w->deadline_ms = sync_now() + CLIENT_MS;
    w->checks = mr_calloc(renewal->n_items + 1, sizeof *w->checks);
    if (w->checks != NULL && find_checks(w) == MR_OK) {
        err = mr_queue_push(&sync->wishes, &w->link);
    }
    if (err != MR_OK) {
        waiter_free(w);
    }
    return err;
}
