/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One server's life: opening, rounds, closing.
 *
 * Opening, in this order: lock the folder, open and check the log, clean the
 * snapshots' folder, bring the state machine to the newest snapshot, make the
 * driver, start the threads, listen. Whatever fails undoes what was done.
 *
 * Closing goes the other way around; what other threads still push is refused
 * with MR_E_CLOSED from the first moment on.
 */
#include "raft/node.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "raft/snapshot.h"

#define MAX_QUEUE 65536

/* ------------------------------------------------------------- rounds */

static void wake(void *arg)
{
    struct mr_raft *n = arg;

    if (n->has_loop) {
        (void)uv_async_send(&n->wake); /* Fails for a closing handle only. */
    }
}

static void take_applied(struct mr_raft *n)
{
    uint64_t file = apply_take_installed(n->apply);
    uint64_t index = apply_index(n->apply);

    if (file != 0) {
        driver_snapshot_installed(n->driver, file, MR_OK);
    }
    if (index > n->said_applied) {
        n->said_applied = index;
        driver_applied(n->driver, index);
    }
}

void node_begin(struct mr_raft *n)
{
    if (n->in_round) {
        return;
    }
    n->in_round = true;
    n->now_ms = mr_now_ms(n->options.clock);
    driver_tick(n->driver, n->now_ms);
    take_applied(n);
}

static void on_timer(uv_timer_t *timer)
{
    struct mr_raft *n = timer->data;

    n->timer_ms = 0;
    node_begin(n);
}

/* Have the apply thread wake us if somebody waits for it. It stores its index
 * before it looks whether it must, and we look the other way around, so one of
 * us sees the other. */
static void ask_for_applied(struct mr_raft *n)
{
    bool wants = driver_wants_applied(n->driver);

    atomic_store(&n->wants_applied, wants);
    if (wants && apply_index(n->apply) > n->said_applied) {
        wake(n);
    }
}

static void on_applied(void *arg)
{
    struct mr_raft *n = arg;

    if (atomic_load(&n->wants_applied)) {
        wake(n);
    }
}

static void arm_timer(struct mr_raft *n)
{
    uint64_t wait;

    if (n->timer_ms == n->deadline_ms && n->timer_ms != 0) {
        return;
    }
    n->timer_ms = n->deadline_ms;
    wait = n->deadline_ms > n->now_ms ? n->deadline_ms - n->now_ms : 0;
    uv_update_time(n->loop);
    /* Fails for a closing handle only. */
    (void)uv_timer_start(&n->timer, on_timer, wait, 0);
}

static void log_leader(struct mr_raft *n, const struct driver_status *s)
{
    const struct join_server *leader = join_find(n->join, s->leader_id);

    if (s->leader_id == n->leader_id) {
        return;
    }
    n->leader_id = s->leader_id;
    n->peers_changed = true;
    if (s->is_leader) {
        mr_log_info("raft", "this server leads term=%llu",
                    (unsigned long long)s->term);
    } else if (s->leader_id == 0) {
        mr_log_info("raft", "no leader is known term=%llu",
                    (unsigned long long)s->term);
    } else {
        mr_log_info("raft", "following a leader term=%llu leader=\"%s\"",
                    (unsigned long long)s->term,
                    leader == NULL ? "?" : leader->s.name);
    }
}

/* The driver says that something changed: leader, configuration? */
static void look_at_change(struct mr_raft *n)
{
    struct driver_status s;

    driver_status(n->driver, &s);
    n->was_member = n->was_member || (s.is_member && s.leader_id != 0);
    log_leader(n, &s);
    if (s.conf_index != n->conf_index) {
        n->conf_index = s.conf_index;
        n->peers_changed = true;
        node_members_changed(n);
    }
}

/* Before the loop waits: the end of the round. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct mr_raft *n = prepare->data;
    struct driver_status s;
    bool has_changed;

    if (!n->in_round) {
        return;
    }
    /* Stopped inside the round, we must not go on with the time before. */
    n->now_ms = mr_now_ms(n->options.clock);
    driver_tick(n->driver, n->now_ms);
    driver_flush(n->driver);
    transport_flush(n->transport);
    arm_timer(n);
    driver_status(n->driver, &s);
    has_changed = n->has_changed || s.is_ready != n->was_ready;
    n->was_ready = s.is_ready;
    n->has_changed = false;
    if (has_changed) {
        look_at_change(n);
    }
    node_publish(n);
    n->in_round = false;
    ask_for_applied(n);
    if (has_changed && n->options.on_change != NULL) {
        n->options.on_change(n->options.arg);
    }
}

void node_run_events(struct mr_raft *n)
{
    struct mr_list list;
    struct mr_list *link;

    (void)mr_queue_take(&n->events, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        struct node_event *e = mr_container_of(link, struct node_event, link);

        e->run(n, e);
    }
}

static void take_proposals(struct mr_raft *n)
{
    struct mr_list list;
    struct mr_list *link;

    (void)mr_queue_take(&n->proposals, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        struct mr_raft_proposal *p =
            mr_container_of(link, struct mr_raft_proposal, link);
        enum mr_err err = driver_propose(n->driver, p);

        if (err != MR_OK) {
            p->done(p, err);
        }
    }
}

static void take_reads(struct mr_raft *n)
{
    struct mr_list list;
    struct mr_list *link;

    (void)mr_queue_take(&n->reads, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        struct mr_raft_read *r =
            mr_container_of(link, struct mr_raft_read, link);
        enum mr_err err = driver_read(n->driver, r);

        if (err != MR_OK) {
            r->done(r, err);
        }
    }
}

static void take_full(struct mr_raft *n)
{
    bool is_full = atomic_load(&n->is_full);

    if (is_full != n->said_full) {
        n->said_full = is_full;
        driver_disk_full(n->driver, is_full);
    }
}

static void on_wake(uv_async_t *wake)
{
    struct mr_raft *n = wake->data;

    if (atomic_load(&n->is_closing)) {
        return;
    }
    node_begin(n);
    node_take_ended(n);
    take_full(n);
    node_run_events(n);
    take_proposals(n);
    take_reads(n);
}

/* ------------------------------------------------------------- waking */

static void on_full(void *arg, bool is_full)
{
    struct mr_raft *n = arg;

    atomic_store(&n->is_full, is_full);
    wake(n);
}

void node_fatal(void *arg, enum mr_err err, const char *why)
{
    struct mr_raft *n = arg;

    mr_log_error("raft", "this server cannot go on: %s", why);
    n->options.on_fatal(n->options.arg, err, why);
}

bool node_try_post(struct mr_raft *n, struct node_event *event)
{
    mr_list_init(&event->link);
    return mr_queue_push(&n->events, &event->link) == MR_OK;
}

void node_post(struct mr_raft *n, struct node_event *event)
{
    (void)node_try_post(n, event);
}

/* ------------------------------------------------------------- opening */

static enum mr_err dup_text(struct mr_raft *n, const char **text)
{
    char *copy = mr_strdup(*text == NULL ? "" : *text);

    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    mr_assert(n->n_texts < NODE_TEXTS_MAX);
    n->texts[n->n_texts++] = copy;
    *text = copy;
    return MR_OK;
}

static enum mr_err dup_join(struct mr_raft *n, const char *const *join)
{
    n->join_texts = mr_calloc(n->options.n_join + 1, sizeof *n->join_texts);
    if (n->join_texts == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < n->options.n_join; i++) {
        n->join_texts[i] = mr_strdup(join[i]);
        if (n->join_texts[i] == NULL) {
            return MR_E_NOMEM;
        }
    }
    n->options.join = (const char *const *)n->join_texts;
    return MR_OK;
}

static enum mr_err dup_options(struct mr_raft *n,
                               const struct mr_raft_options *o,
                               struct mr_detail *detail)
{
    n->options = *o;
    n->options.join = NULL;
    if (strlen(o->dir) >= sizeof n->dir) {
        return mr_fail(detail, MR_E_INVALID, "the path %s is too long", o->dir);
    }
    (void)snprintf(n->dir, sizeof n->dir, "%s", o->dir);
    (void)snprintf(n->snapshot_dir, sizeof n->snapshot_dir, "%s/snapshots",
                   o->dir);
    if (dup_text(n, &n->options.dir) != MR_OK ||
        dup_text(n, &n->options.node_id) != MR_OK ||
        dup_text(n, &n->options.node_name) != MR_OK ||
        dup_text(n, &n->options.datacenter) != MR_OK ||
        dup_text(n, &n->options.bind_host) != MR_OK ||
        dup_text(n, &n->options.advertise_host) != MR_OK) {
        return MR_E_NOMEM;
    }
    return dup_join(n, o->join);
}

static enum mr_err open_disk(struct mr_raft *n, struct mr_detail *detail)
{
    struct raftlog_options o = {
        .dir = n->dir,
        .node_id = n->options.node_id,
        .ended = &n->ended,
        .on_fatal = node_fatal,
        .on_full = on_full,
        .arg = n,
    };
    const struct logdb_state *st;
    enum mr_err err;

    do {
        o.new_id = mr_random_u64(n->options.random);
    } while (o.new_id == 0);
    err = raftlog_open(&o, &n->log, detail);
    if (err != MR_OK) {
        return err;
    }
    st = logdb_state(raftlog_db(n->log));
    n->id = st->raft_id;
    n->cluster_id = st->cluster_id;
    n->incarnation = st->starts;
    n->file = st->snapshot.file;
    n->conf = mr_memdup0(st->snapshot.conf.data, st->snapshot.conf.len);
    if (n->conf == NULL) {
        return MR_E_NOMEM;
    }
    n->snapshot = (struct driver_snapshot){
        st->snapshot.index, st->snapshot.term, st->snapshot.conf_index,
        mr_slice(n->conf, st->snapshot.conf.len)};
    return snapshot_dir_open(n->snapshot_dir, n->file, &n->last_file, detail);
}

enum mr_err node_start_apply(struct mr_raft *n)
{
    struct apply_options o = {
        .fsm = &n->options.fsm,
        .snapshot_dir = n->snapshot_dir,
        .on_applied = on_applied,
        .on_installed = wake,
        .on_fatal = node_fatal,
        .arg = n,
    };

    return apply_open(&o, n->said_applied, &n->apply);
}

static void open_handles(struct mr_raft *n)
{
    /* These three fail for want of file descriptors at most, in the loop's
     * own setup, which has happened. */
    mr_assert(uv_async_init(n->loop, &n->wake, on_wake) == 0);
    mr_assert(uv_timer_init(n->loop, &n->timer) == 0);
    mr_assert(uv_prepare_init(n->loop, &n->prepare) == 0);
    n->wake.data = n;
    n->timer.data = n;
    n->prepare.data = n;
    n->n_handles = 3;
    n->has_loop = true;
    mr_assert(uv_prepare_start(&n->prepare, on_prepare) == 0);
}

/* End the threads; what they left in the queues is released. */
static void stop_threads(struct mr_raft *n)
{
    node_stop_transfers(n);
    node_stop_take(n);
    apply_stop(n->apply);
    raftlog_close(n->log);
    n->log = NULL;
    node_take_ended(n);
}

static void release(struct mr_raft *n)
{
    stop_threads(n);
    apply_close(n->apply);
    mr_queue_deinit(&n->proposals);
    mr_queue_deinit(&n->reads);
    mr_queue_deinit(&n->ended);
    mr_queue_deinit(&n->events);
    node_public_deinit(&n->public);
    for (size_t i = 0; i < n->n_texts; i++) {
        mr_free(n->texts[i]);
    }
    for (size_t i = 0; n->join_texts != NULL && n->join_texts[i] != NULL; i++) {
        mr_free(n->join_texts[i]);
    }
    mr_free(n->join_texts);
    mr_free(n->conf);
    mr_free(n);
}

static void part_closed(void *arg_raft)
{
    struct mr_raft *n = arg_raft;
    void (*closed)(void *arg) = n->closed;
    void *arg = n->closed_arg;

    if (--n->n_handles != 0) {
        return;
    }
    /* Other threads may still ask, and be refused, until closed() returns. */
    if (closed != NULL) {
        closed(arg);
    }
    release(n);
}

static void on_handle_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

/* Release everything but the memory, which goes with the last handle. */
static void shut_down(struct mr_raft *n)
{
    atomic_store(&n->is_closing, true);
    atomic_store(&n->lease_until_ms, 0);
    mr_queue_close(&n->proposals);
    mr_queue_close(&n->reads);
    mr_queue_close(&n->events);
    driver_free(n->driver);
    n->driver = NULL;
    n->in_round = false;
    if (n->join != NULL) {
        join_close(n->join, part_closed, n);
        n->join = NULL;
    }
    if (n->transport != NULL) {
        transport_close(n->transport, part_closed, n);
        n->transport = NULL;
    }
    stop_threads(n);
    if (n->n_handles == 0) {
        release(n);
        return;
    }
    uv_close((uv_handle_t *)&n->wake, on_handle_closed);
    uv_close((uv_handle_t *)&n->timer, on_handle_closed);
    uv_close((uv_handle_t *)&n->prepare, on_handle_closed);
}

enum mr_err mr_raft_open(uv_loop_t *loop, const struct mr_raft_options *options,
                         struct mr_raft **out_raft, struct mr_detail *detail)
{
    struct mr_raft *n = mr_calloc(1, sizeof *n);
    size_t max = options->max_queue != 0 ? options->max_queue : MAX_QUEUE;
    enum mr_err err;

    if (n == NULL) {
        return MR_E_NOMEM;
    }
    n->loop = loop;
    mr_list_init(&n->transfers);
    mr_queue_init(&n->proposals, max, wake, n);
    mr_queue_init(&n->reads, max, wake, n);
    mr_queue_init(&n->ended, 0, wake, n);
    mr_queue_init(&n->events, 0, wake, n);
    node_public_init(&n->public);
    if ((err = dup_options(n, options, detail)) != MR_OK ||
        (err = open_disk(n, detail)) != MR_OK) {
        goto err_after_new;
    }
    open_handles(n);
    if ((err = node_listen(n, detail)) != MR_OK ||
        (err = node_start_driver(n, detail)) != MR_OK) {
        goto err_after_new;
    }
    node_begin(n);
    if ((err = node_join(n)) != MR_OK ||
        (err = raftlog_start(n->log)) != MR_OK) {
        goto err_after_new;
    }
    *out_raft = n;
    return MR_OK;

err_after_new:
    shut_down(n);
    return err;
}

/* ------------------------------------------------------------- closing */

static void refuse_waiting(struct mr_raft *n)
{
    struct mr_list list;
    struct mr_list *link;

    (void)mr_queue_take(&n->proposals, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        struct mr_raft_proposal *p =
            mr_container_of(link, struct mr_raft_proposal, link);

        p->done(p, MR_E_CLOSED);
    }
    (void)mr_queue_take(&n->reads, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        struct mr_raft_read *r =
            mr_container_of(link, struct mr_raft_read, link);

        r->done(r, MR_E_CLOSED);
    }
}

void mr_raft_close(struct mr_raft *n, void (*closed)(void *arg), void *arg)
{
    n->closed = closed;
    n->closed_arg = arg;
    mr_queue_close(&n->proposals);
    mr_queue_close(&n->reads);
    refuse_waiting(n);
    shut_down(n);
}
