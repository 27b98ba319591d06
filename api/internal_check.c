/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for commands of agents. */
#include "api/internal.h"

#include <string.h>

#include "api/self.h"
#include "kv/mr_kv.h"

static bool is_register_ours(const Mr__Register *r,
                             const struct internal_sender *sender)
{
    if (r->node == NULL || strcasecmp(r->node->name, sender->node) != 0 ||
        strcasecmp(r->node->id, sender->id) != 0) {
        return false;
    }
    for (size_t i = 0; i < r->n_services; i++) {
        if (r->services[i]->origin != MR__ORIGIN__AGENT) {
            return false;
        }
    }
    for (size_t i = 0; i < r->n_checks; i++) {
        if (r->checks[i]->origin != MR__ORIGIN__AGENT &&
            strcmp(r->checks[i]->check_id, SELF_HEALTH_ID) != 0) {
            return false;
        }
    }
    return true;
}

/* A part that was registered through the agent, or the node that leaves. */
static bool is_deregister_ours(const Mr__Deregister *d,
                               const struct internal_sender *sender)
{
    bool is_part = d->service_id[0] != '\0' || d->check_id[0] != '\0';

    return strcasecmp(d->node, sender->node) == 0 &&
           (is_part ? d->agent_only : d->left) && !d->is_server;
}

static bool is_ours(const Mr__Command *cmd,
                    const struct internal_sender *sender)
{
    switch (cmd->op_case) {
    case MR__COMMAND__OP_REGISTER:
        return is_register_ours(cmd->register_, sender);
    case MR__COMMAND__OP_DEREGISTER:
        return is_deregister_ours(cmd->deregister, sender);
    case MR__COMMAND__OP_CHECK_UPDATE:
        return strcasecmp(cmd->check_update->node, sender->node) == 0 &&
               strcmp(cmd->check_update->check_id, SELF_HEALTH_ID) != 0;
    case MR__COMMAND__OP__NOT_SET:
    case MR__COMMAND__OP_KEY_PUT:
    case MR__COMMAND__OP_KEY_DELETE:
    case MR__COMMAND__OP_LEASE_END:
    case MR__COMMAND__OP_SESSION_CREATE:
    case MR__COMMAND__OP_SESSION_DESTROY:
    case _MR__COMMAND__OP__CASE_IS_INT_SIZE:
        break;
    }
    return false;
}

enum mr_err internal_check_command(struct mr_slice bytes,
                                   const struct internal_sender *sender,
                                   struct mr_detail *detail)
{
    Mr__Command *cmd;
    enum mr_err err = MR_OK;

    if (sender->node == NULL || sender->node[0] == '\0' || sender->id == NULL ||
        sender->id[0] == '\0') {
        return mr_fail(detail, MR_E_INVALID, "node and id are needed");
    }
    cmd = mr__command__unpack(NULL, bytes.len, bytes.data);
    if (cmd == NULL) {
        return mr_fail(detail, MR_E_INVALID, "the command does not decode");
    }
    if (!is_ours(cmd, sender)) {
        err = mr_fail(detail, MR_E_INVALID,
                      "an agent may change only what is its own node's");
    }
    mr__command__free_unpacked(cmd, NULL);
    return err;
}
