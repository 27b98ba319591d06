/* SPDX-License-Identifier: Apache-2.0 */
/* Which servers live, as the leader hears them, against what the catalog says.
 */
#include "health/mr_health.h"

#include <string.h>
#include <strings.h>

/* Every server registers this service on its node. */
#define SERVER_SERVICE "consul"
#define PASSING "passing"
#define CRITICAL "critical"

bool mr_liveness_may_judge(struct mr_liveness *l, bool is_leader,
                           uint64_t now_ms)
{
    if (!is_leader) {
        l->leader_since_ms = 0;
        return false;
    }
    if (l->leader_since_ms == 0) {
        l->leader_since_ms = now_ms;
    }
    return now_ms - l->leader_since_ms >= MR_HEALTH_NEW_LEADER_MS;
}

struct survey {
    struct mr_kv_view *view;
    const struct mr_health_contact *contacts;
    size_t n;
    mr_liveness_cb cb;
    void *arg;
    enum mr_err err;
};

static bool is_heard(const struct survey *s, const char *node_id)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->contacts[i].node_id[0] != '\0' &&
            strcasecmp(s->contacts[i].node_id, node_id) == 0) {
            return s->contacts[i].silent_ms < MR_HEALTH_SILENT_MS;
        }
    }
    return false;
}

static bool look_at_server(void *arg, const struct mr_kv_instance *instance)
{
    struct survey *s = arg;
    const Mr__Check *check = NULL;
    const char *name = instance->node->name;
    bool is_alive = is_heard(s, instance->node->id);

    s->err = mr_kv_check_get(s->view, name, MR_HEALTH_CHECK_ID, &check);
    if (s->err != MR_OK) {
        return false;
    }
    if (check != NULL && is_alive != (strcmp(check->status, PASSING) == 0)) {
        s->cb(s->arg, name, is_alive);
    }
    return true;
}

enum mr_err mr_liveness_judge(struct mr_kv_view *view,
                              const struct mr_health_contact *contacts,
                              size_t n, mr_liveness_cb cb, void *arg)
{
    struct survey s = {view, contacts, n, cb, arg, MR_OK};
    enum mr_err err =
        mr_kv_service_instances(view, SERVER_SERVICE, look_at_server, &s, NULL);

    return err != MR_OK ? err : s.err;
}

void mr_liveness_command(const char *node, bool is_alive, struct mr_buf *out)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;

    /* protobuf-c's texts are not const; encoding only reads them. */
    update.node = (char *)node;
    update.check_id = (char *)MR_HEALTH_CHECK_ID;
    update.status = (char *)(is_alive ? PASSING : CRITICAL);
    update.output = (char *)(is_alive ? MR_HEALTH_ALIVE : MR_HEALTH_DEAD);
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &update;
    mr_kv_command_encode(&cmd, out);
}
