/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner's thread.
 *
 * - A change of the node in the state wakes the loop, which brings its runs in
 *   line (check_follow.c), at most every FOLLOW_GAP_MS.
 * - Runs that are due wait in a queue for one of the places for probes; so a
 *   thousand targets that hang cost a bounded number of sockets, and commands a
 *   bounded number of processes.
 * - A result goes back into the schedule and, when it is news, out as a report.
 *
 * The end: everything is cancelled on the thread itself, handles close, and the
 * loop runs out.
 */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "health/check_curl.h"
#include "health/check_impl.h"

#define NET_PROBES_MAX 512
#define SCRIPTS_MAX 32
#define FOLLOW_GAP_MS 50
#define FOLLOW_COST 9 /* Rest for so many times what it took. */
#define FOLLOW_RETRY_MS 1000
#define START_RETRY_MS 1000
#define KILL_WAIT_MS 1000 /* For commands that were killed at the end. */
#define OUTPUT_INTERVAL_MS (5 * 60 * 1000)

static const size_t places[CHECK_LANES] = {
    [CHECK_LANE_NET] = NET_PROBES_MAX,
    [CHECK_LANE_SCRIPT] = SCRIPTS_MAX,
};

uint64_t check_now_ms(const struct mr_checks *runner)
{
    return mr_now_ms(runner->options.clock);
}

uint64_t check_random(const struct mr_checks *runner, uint64_t n)
{
    return n == 0 ? 0 : mr_random_u64(runner->options.random) % n;
}

/* ------------------------------------------------------------- schedule */

/* The definition may be older than the agent's settings. */
static bool may_run_script(const struct check_run *run)
{
    const struct mr_checks_options *o = &run->runner->options;

    return o->enable_scripts ||
           (o->enable_local_scripts && o->is_local != NULL &&
            o->is_local(o->arg, run->check));
}

static enum mr_err start_probe(struct check_run *run)
{
    const char *refusal;

    switch (run->kind) {
    case CHECK_HTTP:
        return check_http_start(run);
    case CHECK_TCP:
        return check_tcp_start(run);
    case CHECK_GRPC:
        return check_grpc_start(run);
    case CHECK_SCRIPT:
        refusal = mr_check_refusal(run->check, may_run_script(run), true);
        if (refusal != NULL) {
            check_run_result(run, CHECK_CRITICAL, refusal);
            return MR_OK;
        }
        return check_script_start(run);
    case CHECK_REMOTE:
        return check_remote_start(run);
    case CHECK_ALIAS:
    case CHECK_NONE:
        break;
    }
    return MR_OK;
}

static void dispatch(struct mr_checks *runner, enum check_lane lane)
{
    struct mr_list *queue = &runner->queues[lane];

    while (!mr_list_empty(queue) && runner->n_probes[lane] < places[lane]) {
        struct check_run *run =
            mr_container_of(mr_list_pop(queue), struct check_run, queued);

        if (start_probe(run) != MR_OK) {
            mr_heap_move(&runner->due, &run->due,
                         check_now_ms(runner) + START_RETRY_MS);
        }
    }
}

static void take_due(struct mr_checks *runner, uint64_t now)
{
    struct mr_heap_node *first;

    while ((first = mr_heap_first(&runner->due)) != NULL && first->key <= now) {
        struct check_run *run = mr_container_of(first, struct check_run, due);

        mr_heap_move(&runner->due, first, CHECK_NEVER);
        if (run->kind == CHECK_ALIAS) {
            (void)check_run_report(run);
        } else {
            mr_list_push(&runner->queues[run->lane], &run->queued);
        }
    }
}

/* Compare what was reported with the state once more. */
static void sweep(struct mr_checks *runner)
{
    struct mr_list *at;

    runner->sweep_ms = CHECK_NEVER;
    MR_LIST_FOREACH(at, &runner->runs)
    {
        struct check_run *run = mr_container_of(at, struct check_run, link);

        if (!check_run_report(run)) {
            uint64_t next = check_now_ms(runner) + FOLLOW_RETRY_MS;

            runner->sweep_ms =
                next < runner->sweep_ms ? next : runner->sweep_ms;
        }
    }
}

/* A node with very many checks that change all the time takes a tenth of a
 * processor at most. */
static void follow(struct mr_checks *runner, uint64_t now)
{
    bool is_whole = check_follow(runner);
    uint64_t end = check_now_ms(runner);
    uint64_t gap = FOLLOW_COST * (end - now);

    gap = gap < FOLLOW_GAP_MS ? FOLLOW_GAP_MS : gap;
    runner->must_follow = !is_whole;
    /* It may just have changed again in the meantime. */
    runner->follow_ms = end + (is_whole || gap > runner->follow_retry_ms
                                   ? gap
                                   : runner->follow_retry_ms);
    runner->follow_retry_ms = is_whole ? FOLLOW_GAP_MS : FOLLOW_RETRY_MS;
}

static void on_timer(uv_timer_t *timer)
{
    struct mr_checks *runner = mr_container_of(timer, struct mr_checks, timer);
    uint64_t now = check_now_ms(runner);

    check_runner_note_time(runner);
    if (runner->is_closing) {
        while (!mr_list_empty(&runner->probes)) {
            check_script_abandon(
                mr_container_of(runner->probes.next, struct check_probe, link));
        }
        return;
    }
    if (runner->must_follow && now >= runner->follow_ms) {
        follow(runner, now);
    }
    take_due(runner, now);
    for (int lane = 0; lane < CHECK_LANES; lane++) {
        dispatch(runner, (enum check_lane)lane);
    }
    if (now >= runner->sweep_ms) {
        sweep(runner);
    }
    check_runner_arm(runner);
}

void check_runner_arm(struct mr_checks *runner)
{
    const struct mr_heap_node *first = mr_heap_first(&runner->due);
    uint64_t next = first == NULL ? CHECK_NEVER : first->key;
    uint64_t now = check_now_ms(runner);

    if (runner->must_follow && runner->follow_ms < next) {
        next = runner->follow_ms;
    }
    next = runner->sweep_ms < next ? runner->sweep_ms : next;
    for (int lane = 0; lane < CHECK_LANES; lane++) {
        if (!mr_list_empty(&runner->queues[lane]) &&
            runner->n_probes[lane] < places[lane]) {
            next = now;
        }
    }
    if (next == CHECK_NEVER) {
        (void)uv_timer_stop(&runner->timer); /* Never fails. */
        return;
    }
    (void)uv_timer_start(&runner->timer, on_timer, next > now ? next - now : 0,
                         0);
}

/* ------------------------------------------------------------- end */

void check_runner_close(struct mr_checks *runner)
{
    if (runner->is_closed || !mr_list_empty(&runner->runs) ||
        !mr_list_empty(&runner->probes)) {
        return;
    }
    runner->is_closed = true;
    check_curl_close(runner);
    uv_close((uv_handle_t *)&runner->timer, NULL);
    uv_close((uv_handle_t *)&runner->pulse, NULL);
    uv_close((uv_handle_t *)&runner->wakeup, NULL);
}

static void begin_close(struct mr_checks *runner)
{
    runner->is_closing = true;
    check_follow_stop(runner);
    while (!mr_list_empty(&runner->runs)) {
        check_run_free(
            mr_container_of(runner->runs.next, struct check_run, link));
    }
    (void)uv_timer_start(&runner->timer, on_timer, KILL_WAIT_MS, 0);
    check_runner_close(runner);
}

static void on_wakeup(uv_async_t *wakeup)
{
    struct mr_checks *runner =
        mr_container_of(wakeup, struct mr_checks, wakeup);
    struct mr_list *at;

    if (runner->is_closing) {
        return;
    }
    if (atomic_load(&runner->is_stopping)) {
        begin_close(runner);
        return;
    }
    MR_LIST_FOREACH(at, &runner->watches)
    {
        if (atomic_load(
                &mr_container_of(at, struct check_watch, link)->woken)) {
            runner->must_follow = true;
        }
    }
    check_runner_arm(runner);
}

/* ------------------------------------------------------------- start */

static void *run_thread(void *arg)
{
    struct mr_checks *runner = arg;

    (void)uv_run(&runner->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void init(struct mr_checks *runner,
                 const struct mr_checks_options *options)
{
    runner->options = *options;
    runner->options.node = NULL; /* The texts are ours. */
    runner->options.cluster_url = NULL;
    if (options->output_max == 0) {
        runner->options.output_max = CHECK_OUTPUT_MAX;
    }
    if (options->output_interval_ms == 0) {
        runner->options.output_interval_ms = OUTPUT_INTERVAL_MS;
    }
    mr_list_init(&runner->runs);
    mr_list_init(&runner->watches);
    mr_list_init(&runner->probes);
    mr_heap_init(&runner->due);
    for (int lane = 0; lane < CHECK_LANES; lane++) {
        mr_list_init(&runner->queues[lane]);
    }
    runner->must_follow = true;
    runner->follow_retry_ms = FOLLOW_GAP_MS;
    runner->sweep_ms = CHECK_NEVER;
}

static bool copy_texts(struct mr_checks *runner,
                       const struct mr_checks_options *options)
{
    runner->node = mr_strdup(options->node);
    if (options->cluster_url != NULL) {
        runner->cluster_url = mr_strdup(options->cluster_url);
    }
    return runner->node != NULL &&
           (runner->cluster_url != NULL || options->cluster_url == NULL);
}

static void release(struct mr_checks *runner)
{
    mr_heap_deinit(&runner->due);
    mr_free(runner->cluster_url);
    mr_free(runner->node);
    mr_free(runner);
}

/* The loop with its handles; all of them are closed on failure. */
static enum mr_err open_loop(struct mr_checks *runner)
{
    if (uv_loop_init(&runner->loop) != 0) {
        return MR_E_NOMEM;
    }
    if (uv_async_init(&runner->loop, &runner->wakeup, on_wakeup) != 0) {
        (void)uv_loop_close(&runner->loop); /* It has no handle. */
        return MR_E_IO;
    }
    (void)uv_timer_init(&runner->loop, &runner->timer); /* Never fails. */
    (void)uv_timer_init(&runner->loop, &runner->pulse);
    (void)uv_timer_start(&runner->timer, on_timer, 0, 0);
    return MR_OK;
}

enum mr_err mr_checks_start(const struct mr_checks_options *options,
                            struct mr_checks **out_checks,
                            struct mr_detail *detail)
{
    struct mr_checks *runner = mr_calloc(1, sizeof *runner);
    enum mr_err err = MR_E_NOMEM;

    if (runner == NULL) {
        return mr_fail(detail, err, "out of memory");
    }
    init(runner, options);
    if (copy_texts(runner, options)) {
        err = open_loop(runner);
    }
    if (err != MR_OK) {
        release(runner);
        return mr_fail(detail, err, "cannot start the runner of checks: %s",
                       mr_strerror(err));
    }
    if (pthread_create(&runner->thread, NULL, run_thread, runner) != 0) {
        begin_close(runner);
        (void)run_thread(runner);
        (void)uv_loop_close(&runner->loop); /* As above. */
        release(runner);
        return mr_fail(detail, MR_E_IO, "cannot start the thread of checks");
    }
    *out_checks = runner;
    return MR_OK;
}

void mr_checks_stop(struct mr_checks *checks)
{
    int rc;

    if (checks == NULL) {
        return;
    }
    atomic_store(&checks->is_stopping, true);
    (void)uv_async_send(&checks->wakeup);     /* Open until it is seen. */
    (void)pthread_join(checks->thread, NULL); /* It is ours. */
    rc = uv_loop_close(&checks->loop);
    mr_assert(rc == 0);
    release(checks);
}

void mr_checks_stats(struct mr_checks *checks,
                     struct mr_checks_stats *out_stats)
{
    out_stats->running = atomic_load(&checks->stat_running);
    out_stats->probes = atomic_load(&checks->stat_probes);
    out_stats->reports = atomic_load(&checks->stat_reports);
    out_stats->timeouts = atomic_load(&checks->stat_timeouts);
}
