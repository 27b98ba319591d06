/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alias checks: as bad as the worst check of the aliased service and of its
 * node. On our own node only what was registered through the agent counts, as
 * in Consul; a check of the node that is an alias sees itself.
 */
#include <string.h>
#include <strings.h>

#include "health/check_impl.h"

static enum check_status status_of(const char *name)
{
    if (strcmp(name, "passing") == 0) {
        return CHECK_PASSING;
    }
    return strcmp(name, "warning") == 0 ? CHECK_WARNING : CHECK_CRITICAL;
}

const char *check_alias_node(const struct check_run *run)
{
    const char *node = run->check->definition->alias_node;

    return node[0] == '\0' ? run->runner->node : node;
}

bool check_alias_is_foreign(const struct check_run *run)
{
    return strcasecmp(check_alias_node(run), run->runner->node) != 0;
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

/* Whether @check has a say in what @run is. */
static bool concerns(const struct check_run *run, const Mr__Check *check)
{
    const char *service_id = run->check->definition->alias_service;

    if (check->service_id[0] != '\0' &&
        strcmp(check->service_id, service_id) != 0) {
        return false;
    }
    return check_alias_is_foreign(run) || check->origin == MR__ORIGIN__AGENT;
}

/* The worst of @checks that concern @run, the first of several; NULL: none
 * does. */
static const Mr__Check *find_worst(const struct check_run *run,
                                   const struct check_list *checks)
{
    const Mr__Check *worst = NULL;

    for (size_t i = 0; i < checks->n; i++) {
        const Mr__Check *check = checks->items[i];

        if (concerns(run, check) &&
            (worst == NULL ||
             status_of(check->status) > status_of(worst->status))) {
            worst = check;
        }
    }
    return worst;
}

enum check_status check_alias_tell(const struct check_run *run, bool exists,
                                   const struct check_list *checks,
                                   struct mr_buf *out)
{
    const Mr__CheckDefinition *def = run->check->definition;
    const Mr__Check *worst;
    bool is_self;

    if (!exists) {
        mr_buf_printf(out, "Service %s could not be found on node %s",
                      def->alias_service, def->alias_node);
        return CHECK_CRITICAL;
    }
    worst = find_worst(run, checks);
    if (worst == NULL) {
        mr_buf_str(out, "No checks found.");
        return CHECK_PASSING;
    }
    if (status_of(worst->status) == CHECK_PASSING) {
        mr_buf_str(out, "All checks passing.");
        return CHECK_PASSING;
    }
    /* Its own output would grow with every look. */
    is_self = !check_alias_is_foreign(run) &&
              strcmp(worst->check_id, run->check->check_id) == 0;
    mr_buf_printf(out, "Aliased check \"%s\" failing: %s", worst->name,
                  is_self ? "" : worst->output);
    return status_of(worst->status);
}

enum check_status check_alias_judge(struct mr_kv_view *view,
                                    const struct check_run *run,
                                    const struct check_list *checks,
                                    struct mr_buf *out)
{
    bool exists = false;

    if (find_target(view, run, &exists) != MR_OK) {
        out->failed = true;
        return CHECK_CRITICAL;
    }
    return check_alias_tell(run, exists, checks, out);
}
