/* SPDX-License-Identifier: Apache-2.0 */
/* What a check's definition asks for, and whether it makes sense. */
#include <string.h>

#include "health/check_impl.h"

#define NS_PER_MS 1000000
#define INTERVAL_MIN_MS 1000
#define NET_TIMEOUT_MS 10000
#define SCRIPT_TIMEOUT_MS 30000

static const char *const status_names[] = {
    [CHECK_PASSING] = "passing",
    [CHECK_WARNING] = "warning",
    [CHECK_CRITICAL] = "critical",
};

const char *check_status_name(enum check_status status)
{
    return status_names[status];
}

static bool is_given(const char *text)
{
    return text[0] != '\0';
}

static bool is_alias(const Mr__CheckDefinition *def)
{
    return is_given(def->alias_node) || is_given(def->alias_service);
}

/* Whether something is run every interval. */
static bool is_probe(const Mr__CheckDefinition *def)
{
    return def->n_args > 0 || is_given(def->http) || is_given(def->tcp) ||
           is_given(def->grpc);
}

static int n_kinds(const Mr__CheckDefinition *def)
{
    return is_given(def->http) + is_given(def->tcp) + is_given(def->grpc) +
           (def->n_args > 0) + is_alias(def) + (def->ttl_ns > 0);
}

/* NULL when the parts of @def go together, else what is wrong. The order is
 * Consul's; the last two are ours. */
static const char *problem_of(const Mr__CheckDefinition *def)
{
    if (def->interval_ns > 0 && def->ttl_ns > 0) {
        return "Interval and TTL cannot both be specified";
    }
    if (is_probe(def) && def->interval_ns <= 0) {
        return "Interval must be > 0 for Script, HTTP, or TCP checks";
    }
    if (is_alias(def) && def->interval_ns != 0) {
        return "Interval must be not be set for Alias checks";
    }
    if (is_alias(def) && def->ttl_ns != 0) {
        return "TTL must be not be set for Alias checks";
    }
    if (!is_probe(def) && !is_alias(def) && def->ttl_ns <= 0) {
        return "TTL must be > 0 for TTL checks";
    }
    if (def->output_max_size < 0) {
        return "MaxOutputMaxSize must be positive";
    }
    if (n_kinds(def) > 1) {
        return "only one of HTTP, TCP, GRPC, Args, AliasService and TTL can be "
               "specified";
    }
    return NULL;
}

enum mr_err mr_check_validate(const Mr__Check *check, struct mr_detail *detail)
{
    static const Mr__CheckDefinition nothing = MR__CHECK_DEFINITION__INIT;
    const char *problem =
        problem_of(check->definition == NULL ? &nothing : check->definition);

    return problem == NULL ? MR_OK
                           : mr_fail(detail, MR_E_INVALID, "%s", problem);
}

bool mr_check_is_script(const Mr__Check *check)
{
    return check->definition != NULL && check->definition->n_args > 0;
}

const char *mr_check_refusal(const Mr__Check *check, bool may_run_scripts,
                             bool from_file)
{
    if (!mr_check_is_script(check)) {
        return NULL;
    }
    if (!may_run_scripts) {
        return from_file
                   ? "Scripts are disabled on this agent; to enable, configure "
                     "'enable_script_checks' or 'enable_local_script_checks' "
                     "to true"
                   : "Scripts are disabled on this agent from remote calls; to "
                     "enable, configure 'enable_script_checks' to true";
    }
    if (is_given(check->definition->docker_container_id)) {
        return "Docker checks are not supported by this agent";
    }
    return NULL;
}

enum check_kind check_kind_of(const Mr__Check *check)
{
    const Mr__CheckDefinition *def = check->definition;

    if (def == NULL || check->origin != MR__ORIGIN__AGENT) {
        return CHECK_NONE;
    }
    if (is_alias(def)) {
        return CHECK_ALIAS;
    }
    if (def->interval_ns <= 0) {
        return CHECK_NONE;
    }
    if (is_given(def->http)) {
        return CHECK_HTTP;
    }
    if (is_given(def->tcp)) {
        return CHECK_TCP;
    }
    if (is_given(def->grpc)) {
        return CHECK_GRPC;
    }
    return def->n_args > 0 ? CHECK_SCRIPT : CHECK_NONE;
}

uint64_t check_interval_ms(const Mr__CheckDefinition *def)
{
    uint64_t ms =
        def->interval_ns > 0 ? (uint64_t)def->interval_ns / NS_PER_MS : 0;

    return ms < INTERVAL_MIN_MS ? INTERVAL_MIN_MS : ms;
}

uint64_t check_timeout_ms(const Mr__CheckDefinition *def, enum check_kind kind)
{
    uint64_t ms =
        def->timeout_ns > 0 ? (uint64_t)def->timeout_ns / NS_PER_MS : 0;
    uint64_t interval_ms = check_interval_ms(def);

    if (def->timeout_ns > 0) {
        return ms == 0 ? 1 : ms;
    }
    if (kind == CHECK_SCRIPT) {
        return SCRIPT_TIMEOUT_MS;
    }
    return interval_ms < NET_TIMEOUT_MS ? interval_ms : NET_TIMEOUT_MS;
}

/* ------------------------------------------------------------- judging */

static uint64_t at_least_one(int64_t n)
{
    return n < 1 ? 1 : (uint64_t)n;
}

void check_judge_init(struct check_judge *judge, const Mr__Check *check)
{
    const Mr__CheckDefinition *def = check->definition;
    bool is_critical = strcmp(check->status, "critical") == 0;
    bool is_new = check->output[0] == '\0';

    judge->want_successes = at_least_one(def->success_before_passing);
    judge->want_failures = at_least_one(def->failures_before_critical);
    judge->successes = is_critical && !is_new ? 0 : judge->want_successes;
    judge->failures = is_critical ? judge->want_failures : 0;
}

bool check_judge_note(struct check_judge *judge, enum check_status status)
{
    if (status == CHECK_CRITICAL) {
        judge->successes = 0;
        judge->failures += judge->failures < judge->want_failures;
        return judge->failures >= judge->want_failures;
    }
    judge->failures = 0;
    judge->successes += judge->successes < judge->want_successes;
    return judge->successes >= judge->want_successes;
}
