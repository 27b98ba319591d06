/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alias checks: as bad as the worst check of the aliased service and of its
 * node. On our own node only what was registered through the agent counts, as
 * in Consul; a check of the node that is an alias sees itself.
 */
#include <string.h>
#include <strings.h>

#include "health/check_impl.h"

struct look {
    const struct check_run *run;
    const char *service_id; /* "": the node's checks only. */
    bool is_own_node;
    enum check_status worst;
    bool has_checks;
    struct mr_buf *out;
};

static enum check_status status_of(const char *name)
{
    if (strcmp(name, "passing") == 0) {
        return CHECK_PASSING;
    }
    return strcmp(name, "warning") == 0 ? CHECK_WARNING : CHECK_CRITICAL;
}

/* The first of the worst is the one that is told. */
static bool on_check(void *arg, const Mr__Check *check)
{
    struct look *l = arg;
    enum check_status status = status_of(check->status);
    bool is_self =
        l->is_own_node && strcmp(check->check_id, l->run->check->check_id) == 0;

    if (check->service_id[0] != '\0' &&
        strcmp(check->service_id, l->service_id) != 0) {
        return true;
    }
    if (l->is_own_node && check->origin != MR__ORIGIN__AGENT) {
        return true;
    }
    l->has_checks = true;
    if (status > l->worst) {
        l->worst = status;
        mr_buf_reset(l->out);
        /* Its own output would grow with every look. */
        mr_buf_printf(l->out, "Aliased check \"%s\" failing: %s", check->name,
                      is_self ? "" : check->output);
    }
    return l->worst != CHECK_CRITICAL;
}

/* Whether what @run is an alias of exists. */
static enum mr_err find_target(struct mr_kv_view *view,
                               const struct check_run *run, bool *out_exists)
{
    const char *node = check_alias_node(run);
    const char *id = run->check->definition->alias_service;
    const Mr__Service *service = NULL;
    const Mr__Node *row = NULL;
    enum mr_err err;

    if (id[0] == '\0') {
        err = mr_kv_node_get(view, node, &row, NULL);
    } else {
        err = mr_kv_service_get(view, node, id, &service);
    }
    *out_exists = row != NULL || service != NULL;
    return err;
}

enum check_status check_alias_judge(struct mr_kv_view *view,
                                    const struct check_run *run,
                                    struct mr_buf *out)
{
    const Mr__CheckDefinition *def = run->check->definition;
    const char *node = check_alias_node(run);
    struct look l = {.run = run,
                     .service_id = def->alias_service,
                     .is_own_node = strcasecmp(node, run->runner->node) == 0,
                     .worst = CHECK_PASSING,
                     .out = out};
    bool exists = false;

    if (find_target(view, run, &exists) != MR_OK ||
        (exists &&
         mr_kv_node_checks(view, node, on_check, &l, NULL) != MR_OK)) {
        out->failed = true;
        return CHECK_CRITICAL;
    }
    if (!exists) {
        mr_buf_printf(out, "Service %s could not be found on node %s",
                      def->alias_service, def->alias_node);
        return CHECK_CRITICAL;
    }
    if (l.worst == CHECK_PASSING) {
        mr_buf_str(out,
                   l.has_checks ? "All checks passing." : "No checks found.");
    }
    return l.worst;
}
