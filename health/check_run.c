/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One check that is followed: its schedule, its result and when to report it.
 *
 * A result is reported when the state says another status, at once; when only
 * the output differs, not before output_next_ms. What was reported is compared
 * with the state again and again until they agree, since a report may be lost.
 */
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "health/check_impl.h"

#define RETRY_MS 2000 /* Until a report that changed nothing is made again. */
#define ALIAS_OUTPUT_MS 10000 /* What it repeats is bounded already. */
#define REMOTE_INTERVAL_MS 5000
#define AGAIN_MS 1000 /* Until a probe that found nothing out is repeated. */
#define PULSE_MS 250
#define PAUSE_MS 1000  /* Without a pulse: we were paused. */
#define JITTER_PART 20 /* Of the interval, to either side. */

static uint64_t hash_text(const char *text)
{
    return mr_hash64(mr_slice_str(text), 0);
}

/* ------------------------------------------------------------- messages */

static void *proto_alloc(void *arg, size_t size)
{
    (void)arg;
    return mr_malloc(size);
}

static void proto_free(void *arg, void *ptr)
{
    (void)arg;
    mr_free(ptr);
}

static ProtobufCAllocator proto_allocator = {proto_alloc, proto_free, NULL};

static Mr__Check *check_dup(const Mr__Check *check)
{
    size_t len = mr__check__get_packed_size(check);
    uint8_t *bytes = mr_malloc(len + 1);
    Mr__Check *copy;

    if (bytes == NULL) {
        return NULL;
    }
    (void)mr__check__pack(check, bytes);
    copy = mr__check__unpack(&proto_allocator, len, bytes);
    mr_free(bytes);
    return copy;
}

/* ------------------------------------------------------------- life */

static size_t output_max(const struct mr_checks *runner,
                         const Mr__CheckDefinition *def)
{
    size_t max = runner->options.output_max;

    return def->output_max_size > 0 && (uint64_t)def->output_max_size < max
               ? (size_t)def->output_max_size
               : max;
}

/* How often the output alone may be reported. */
static uint64_t output_interval(const struct check_run *run)
{
    uint64_t ms = run->runner->options.output_interval_ms;

    return run->kind == CHECK_ALIAS && ms > ALIAS_OUTPUT_MS ? ALIAS_OUTPUT_MS
                                                            : ms;
}

static void set_due(struct check_run *run, uint64_t at_ms)
{
    mr_heap_move(&run->runner->due, &run->due, at_ms);
}

static void fill(struct check_run *run)
{
    const Mr__CheckDefinition *def = run->check->definition;

    run->kind = check_kind_of(run->check);
    if (run->kind == CHECK_ALIAS && run->runner->cluster_url != NULL &&
        check_alias_is_foreign(run)) {
        run->kind = CHECK_REMOTE;
    }
    run->lane = run->kind == CHECK_SCRIPT ? CHECK_LANE_SCRIPT : CHECK_LANE_NET;
    run->interval_ms =
        run->kind == CHECK_REMOTE ? REMOTE_INTERVAL_MS : check_interval_ms(def);
    run->timeout_ms = check_timeout_ms(def, run->kind);
    run->output_max = output_max(run->runner, def);
    check_judge_init(&run->judge, run->check);
    check_run_note_state(run, run->check);
}

/* The first probe comes at a random moment of the interval; sooner when its
 * service would be removed before. */
static uint64_t first_delay(const struct check_run *run)
{
    const Mr__CheckDefinition *def = run->check->definition;
    uint64_t most = run->interval_ms;
    uint64_t removal = def->deregister_after_ns > 0
                           ? (uint64_t)def->deregister_after_ns / 2000000
                           : most;

    return check_random(run->runner, removal < most ? removal : most);
}

struct check_run *check_run_new(struct mr_checks *runner,
                                const Mr__Check *check, uint64_t signature)
{
    struct check_run *run = mr_calloc(1, sizeof *run);
    uint64_t now = check_now_ms(runner);

    if (run == NULL) {
        return NULL;
    }
    mr_list_init(&run->link);
    mr_list_init(&run->queued);
    run->runner = runner;
    run->signature = signature;
    run->check = check_dup(check);
    if (run->check == NULL ||
        mr_heap_push(&runner->due, &run->due, CHECK_NEVER) != MR_OK) {
        check_run_free(run);
        return NULL;
    }
    fill(run);
    /* After a restart not all outputs are reported in one second. */
    run->output_next_ms = now + check_random(runner, output_interval(run));
    if (run->kind != CHECK_ALIAS) {
        set_due(run, now + first_delay(run));
    }
    atomic_fetch_add(&runner->stat_running, 1);
    return run;
}

void check_run_free(struct check_run *run)
{
    if (run == NULL) {
        return;
    }
    if (run->probe != NULL) {
        struct check_probe *probe = run->probe;

        probe->run = NULL;
        probe->cancel(probe);
    }
    if (run->check != NULL && run->due.at != 0) {
        atomic_fetch_sub(&run->runner->stat_running, 1);
    }
    mr_heap_remove(&run->runner->due, &run->due);
    mr_list_remove(&run->queued);
    mr_list_remove(&run->link);
    mr__check__free_unpacked(run->check, &proto_allocator);
    mr_free(run->output);
    mr_free(run);
}

/* ------------------------------------------------------------- results */

void check_run_note_state(struct check_run *run, const Mr__Check *check)
{
    run->state_status = CHECK_CRITICAL;
    if (strcmp(check->status, "passing") == 0) {
        run->state_status = CHECK_PASSING;
    } else if (strcmp(check->status, "warning") == 0) {
        run->state_status = CHECK_WARNING;
    }
    run->state_output = hash_text(check->output);
    run->is_state_blank = check->output[0] == '\0';
}

bool check_run_report(struct check_run *run)
{
    const struct mr_checks_options *o = &run->runner->options;
    uint64_t now = check_now_ms(run->runner);
    uint64_t output;
    uint64_t result;

    if (!run->has_result) {
        return true;
    }
    output = hash_text(run->output);
    if (run->status == run->state_status) {
        if (output == run->state_output) {
            run->reported = 0; /* It arrived. */
            return true;
        }
        if (!run->is_state_blank && now < run->output_next_ms) {
            if (run->kind == CHECK_ALIAS) {
                set_due(run, run->output_next_ms); /* It has no next probe. */
            }
            return true;
        }
    }
    result = output + (uint64_t)run->status + 1;
    if (result == run->reported && now < run->reported_ms + RETRY_MS) {
        return false;
    }
    run->reported = result;
    run->reported_ms = now;
    run->output_next_ms = now + output_interval(run);
    run->runner->sweep_ms = now + RETRY_MS;
    atomic_fetch_add(&run->runner->stat_reports, 1);
    o->report(o->arg, run->check->check_id, check_status_name(run->status),
              run->output);
    return false;
}

/* Without memory the next result counts. */
static void take_result(struct check_run *run, enum check_status status,
                        const char *output)
{
    char *copy;

    if (run->has_result && run->status == status &&
        strcmp(run->output, output) == 0) {
        (void)check_run_report(run);
        return;
    }
    copy = mr_strdup(output);
    if (copy == NULL) {
        return;
    }
    mr_free(run->output);
    run->output = copy;
    run->status = status;
    run->has_result = true;
    (void)check_run_report(run);
}

void check_run_alias_result(struct check_run *run, enum check_status status,
                            const char *output)
{
    take_result(run, status, output);
}

void check_run_result(struct check_run *run, enum check_status status,
                      const char *output)
{
    uint64_t part = run->interval_ms / JITTER_PART;
    uint64_t jitter = check_random(run->runner, 2 * part);
    uint64_t next_ms = run->interval_ms - part + jitter;

    next_ms = next_ms > run->rest_ms ? next_ms : run->rest_ms;
    run->rest_ms = 0;
    atomic_fetch_add(&run->runner->stat_probes, 1);
    if (check_judge_note(&run->judge, status)) {
        take_result(run, status, output);
    }
    set_due(run, check_now_ms(run->runner) + next_ms);
}

/* ------------------------------------------------------------- probes */

void check_runner_note_time(struct mr_checks *runner)
{
    uint64_t now = check_now_ms(runner);

    if (now - runner->seen_ms > PAUSE_MS) {
        runner->resumed_ms = now;
    }
    runner->seen_ms = now;
}

static void on_pulse(uv_timer_t *pulse)
{
    check_runner_note_time(mr_container_of(pulse, struct mr_checks, pulse));
}

static void start_pulse(struct mr_checks *runner)
{
    runner->seen_ms = check_now_ms(runner);
    (void)uv_timer_start(&runner->pulse, on_pulse, PULSE_MS, PULSE_MS);
}

bool check_probe_is_stale(const struct check_probe *probe)
{
    return probe->started_ms < probe->runner->resumed_ms;
}

void check_probe_begin(struct check_probe *probe, struct check_run *run,
                       void (*cancel)(struct check_probe *probe))
{
    probe->runner = run->runner;
    probe->run = run;
    probe->lane = run->lane;
    probe->cancel = cancel;
    probe->started_ms = check_now_ms(run->runner);
    run->probe = probe;
    if (mr_list_empty(&run->runner->probes)) {
        start_pulse(run->runner);
    }
    mr_list_init(&probe->link);
    mr_list_push(&run->runner->probes, &probe->link);
    run->runner->n_probes[probe->lane]++;
}

/* Take the probe out; returns its run, or NULL. */
static struct check_run *take_out(struct check_probe *probe)
{
    struct check_run *run = probe->run;

    mr_list_remove(&probe->link);
    probe->runner->n_probes[probe->lane]--;
    if (mr_list_empty(&probe->runner->probes)) {
        (void)uv_timer_stop(&probe->runner->pulse); /* Never fails. */
    }
    if (run != NULL) {
        run->probe = NULL;
    }
    return run;
}

static void go_on(struct mr_checks *runner)
{
    if (runner->is_closing) {
        check_runner_close(runner);
    } else {
        check_runner_arm(runner);
    }
}

void check_probe_end(struct check_probe *probe, enum check_status status,
                     const char *output)
{
    struct check_run *run = take_out(probe);

    if (run != NULL) {
        check_run_result(run, status, output);
    }
    go_on(probe->runner);
}

void check_probe_give_up(struct check_probe *probe)
{
    struct check_run *run = take_out(probe);

    if (run != NULL) {
        atomic_fetch_add(&run->runner->stat_probes, 1);
        set_due(run, check_now_ms(run->runner) + AGAIN_MS);
    }
    go_on(probe->runner);
}
