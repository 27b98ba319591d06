/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the runner of checks. All of it belongs to the runner's thread, but
 * for what says otherwise.
 *
 * A run is a check that is followed; a probe is one look at its target:
 *
 *   WAITING --due--> QUEUED --a place is free--> PROBING --result--> WAITING
 *
 * An alias has no probes: it is judged whenever the state changes.
 */
#ifndef HEALTH_CHECK_IMPL_H
#define HEALTH_CHECK_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"
#include "health/mr_check.h"
#include "kv/mr_kv_watch.h"

#define CHECK_OUTPUT_MAX 4096
#define CHECK_NEVER UINT64_MAX

enum check_status { CHECK_PASSING, CHECK_WARNING, CHECK_CRITICAL };

/* As the state has it. */
const char *check_status_name(enum check_status status);

enum check_kind {
    CHECK_NONE, /* Nothing to run: TTL, maintenance. */
    CHECK_HTTP,
    CHECK_TCP,
    CHECK_GRPC,
    CHECK_SCRIPT,
    CHECK_ALIAS,
    CHECK_REMOTE /* An alias of what another server has to be asked for. */
};

/* What @check asks to be run. */
enum check_kind check_kind_of(const Mr__Check *check);

/* How often, and how long a probe may take, in milliseconds. */
uint64_t check_interval_ms(const Mr__CheckDefinition *def);
/* See check_interval_ms(). */
uint64_t check_timeout_ms(const Mr__CheckDefinition *def, enum check_kind kind);

/* ------------------------------------------------------------- judging */

/* Whether a result counts yet: some checks want several in a row. */
struct check_judge {
    uint64_t want_successes;
    uint64_t want_failures;
    uint64_t successes; /* In a row. */
    uint64_t failures;
};

/* Begin with what the state says of @check: the very first good result of a
 * new check counts at once. */
void check_judge_init(struct check_judge *judge, const Mr__Check *check);

/* Note a result; returns whether it counts. */
bool check_judge_note(struct check_judge *judge, enum check_status status);

/* ------------------------------------------------------------- runs */

enum check_lane { CHECK_LANE_NET, CHECK_LANE_SCRIPT, CHECK_LANES };

struct check_probe;

struct check_run {
    struct mr_checks *runner;
    struct mr_list link;     /* In runner->runs, sorted by check ID. */
    struct mr_list queued;   /* In a lane's queue, or out. */
    struct mr_heap_node due; /* Always in the heap; CHECK_NEVER: not now. */
    Mr__Check *check;        /* Ours. */
    uint64_t signature;      /* Of the definition. */
    enum check_kind kind;
    enum check_lane lane;
    uint64_t interval_ms;
    uint64_t timeout_ms;
    size_t output_max;
    struct check_probe *probe; /* Of now, or NULL. */
    struct check_judge judge;

    /* What we found out. */
    bool has_result;
    enum check_status status;
    char *output;

    /* What the state says. */
    enum check_status state_status;
    uint64_t state_output; /* Hash. */
    bool is_state_blank;   /* It has no output yet. */

    uint64_t rest_ms; /* The next probe comes so late at least; once. */

    uint64_t reported;       /* Hash of the last report's result; 0: none. */
    uint64_t reported_ms;    /* When that was. */
    uint64_t output_next_ms; /* Output alone is not reported before. */
};

/* One look at a target. The kind's own struct begins with it. */
struct check_probe {
    struct mr_checks *runner;
    struct check_run *run; /* NULL: cancelled. */
    struct mr_list link;   /* In runner->probes. */
    enum check_lane lane;
    uint64_t started_ms;
    /* The result is not wanted any more (run is NULL): end soon, by
     * check_probe_end(). */
    void (*cancel)(struct check_probe *probe);
};

/* Begin to look. The caller counts the probe as running from now on. */
void check_probe_begin(struct check_probe *probe, struct check_run *run,
                       void (*cancel)(struct check_probe *probe));

/* The probe is over; @output is borrowed. The caller frees it after this. */
void check_probe_end(struct check_probe *probe, enum check_status status,
                     const char *output);

/* Whether we were paused since the probe began: that its time is over says
 * nothing about its target. */
bool check_probe_is_stale(const struct check_probe *probe);

/* The probe is over and found nothing out: it is made again soon. The caller
 * frees it after this. */
void check_probe_give_up(struct check_probe *probe);

/* A result, of a probe or without one: the target makes no sense. */
void check_run_result(struct check_run *run, enum check_status status,
                      const char *output);

/* ------------------------------------------------------------- runner */

/* A node whose checks are followed: our own, and those that aliases name. */
struct check_watch {
    struct mr_checks *runner;
    struct mr_list link;
    struct mr_kv_waiter waiter;
    char *node;
    bool is_parked;
    bool is_wanted;    /* During a reconciliation. */
    atomic_bool woken; /* Set by the apply thread: look again. */
    atomic_bool fired; /* Set by it last: it is done with us. */
};

struct check_curl;

struct mr_checks {
    struct mr_checks_options options; /* Without the texts, which are ours: */
    char *node;
    char *cluster_url; /* Or NULL. */
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t wakeup;
    uv_timer_t timer;
    uv_timer_t pulse;    /* While probes run: to notice a pause. */
    uint64_t seen_ms;    /* When this thread was seen running last. */
    uint64_t resumed_ms; /* When its last pause was over. */
    atomic_bool is_stopping;
    bool is_closing;
    bool is_closed; /* The handles are closing. */

    struct mr_list runs;
    struct mr_list watches;
    struct mr_list probes;
    struct mr_heap due;
    struct mr_list queues[CHECK_LANES];
    size_t n_probes[CHECK_LANES];
    bool must_follow;
    uint64_t follow_ms; /* Not before. */
    uint64_t follow_retry_ms;
    uint64_t sweep_ms;       /* Look at unsettled reports then. */
    struct check_curl *curl; /* NULL: nothing needed it yet. */

    atomic_uint_fast64_t stat_running;
    atomic_uint_fast64_t stat_probes;
    atomic_uint_fast64_t stat_reports;
    atomic_uint_fast64_t stat_timeouts;
};

/* Monotonic milliseconds. */
uint64_t check_now_ms(const struct mr_checks *runner);

/* A random number below @n; 0 when @n is 0. */
uint64_t check_random(const struct mr_checks *runner, uint64_t n);

/* Follow @check; its first probe comes within its interval. NULL: no memory. */
struct check_run *check_run_new(struct mr_checks *runner,
                                const Mr__Check *check, uint64_t signature);

/* Forget @run: its probe is cancelled. NULL is a no-op. */
void check_run_free(struct check_run *run);

/* Note what the state says of @run. */
void check_run_note_state(struct check_run *run, const Mr__Check *check);

/* What an alias saw: it counts at once. */
void check_run_alias_result(struct check_run *run, enum check_status status,
                            const char *output);

/* Report @run's result if the state says something else and it is time.
 * Returns whether the state says what we found. */
bool check_run_report(struct check_run *run);

/* Arm the timer for what is next. */
void check_runner_arm(struct mr_checks *runner);

/* Note that this thread runs; called first by whatever may end a probe. */
void check_runner_note_time(struct mr_checks *runner);

/* Close the handles when the runner is closing and nothing is left. */
void check_runner_close(struct mr_checks *runner);

/* ------------------------------------------------------------- following */

/* Bring the runs in line with the state, and judge the aliases. False: try
 * again later. */
bool check_follow(struct mr_checks *runner);

/* Let go of every watch; the hub calls none of them any more. */
void check_follow_stop(struct mr_checks *runner);

/* Checks borrowed from a view. */
struct check_list {
    const Mr__Check **items;
    size_t n;
    size_t cap;
};

/* Add @check; false without memory. */
bool check_list_add(struct check_list *list, const Mr__Check *check);

/* What an alias sees in @view, where its node has @checks. @out is filled with
 * its output. */
enum check_status check_alias_judge(struct mr_kv_view *view,
                                    const struct check_run *run,
                                    const struct check_list *checks,
                                    struct mr_buf *out);

/* What the worst of @checks that concern @run says; @exists: what it is an
 * alias of. */
enum check_status check_alias_tell(const struct check_run *run, bool exists,
                                   const struct check_list *checks,
                                   struct mr_buf *out);

/* Whether @run is an alias of something on another node than ours. */
bool check_alias_is_foreign(const struct check_run *run);

/* The node that an alias looks at. */
const char *check_alias_node(const struct check_run *run);

/* ------------------------------------------------------------- kinds */

/* Begin a probe of @run. MR_E_NOMEM, MR_E_IO: none began, and nothing was
 * found out. */
MR_MUST_CHECK enum mr_err check_http_start(struct check_run *run);
/* See check_http_start(). */
MR_MUST_CHECK enum mr_err check_tcp_start(struct check_run *run);
/* See check_http_start(). */
MR_MUST_CHECK enum mr_err check_grpc_start(struct check_run *run);
/* See check_http_start(). */
MR_MUST_CHECK enum mr_err check_script_start(struct check_run *run);

/* See check_http_start(). */
MR_MUST_CHECK enum mr_err check_remote_start(struct check_run *run);

/* Give up a command that does not die. */
void check_script_abandon(struct check_probe *probe);

/* ------------------------------------------------------------- texts */

/* Append @len bytes of something foreign as text: no NUL, whole UTF-8
 * characters (what is none becomes U+FFFD). */
void check_text_add(struct mr_buf *out, const void *data, size_t len);

/* Append the system's text for @code as Go writes it: in lower case. */
void check_text_errno(struct mr_buf *out, int code);

#endif /* HEALTH_CHECK_IMPL_H */
