/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the agent itself on their way into the state. */
#include "server/submit.h"

#include <stdio.h>

#include "base/mem.h"
#include "server/agent.h"

struct submission {
    struct mr_write write; /* The state machine leaves its result there. */
    struct mr_buf bytes;
    server_submit_cb done;
    void *arg;
};

static void release(struct submission *s)
{
    mr_buf_deinit(&s->bytes);
    mr_free(s);
}

static void on_done(struct mr_raft_proposal *proposal, enum mr_err err)
{
    struct submission *s =
        mr_container_of(proposal, struct submission, write.proposal);

    s->done(s->arg, err, &s->write.result);
    release(s);
}

static void stamp(const struct server_agent *agent, Mr__Command *cmd,
                  const char *by, char *text, size_t cap)
{
    (void)snprintf(text, cap, "%.200s (%s)", agent->self.node_name, by);
    cmd->time_ms = SERVER_CLOCK->wall_ms(SERVER_CLOCK);
    cmd->by = text;
}

static enum mr_err propose(struct server_agent *agent,
                           struct mr_raft_proposal *proposal)
{
    struct mr_api_host host = server_host(agent);

    return host.propose != NULL ? host.propose(host.arg, proposal)
                                : mr_raft_propose(agent->raft, proposal);
}

enum mr_err server_submit(struct server_agent *agent, Mr__Command *cmd,
                          const char *by, server_submit_cb done, void *arg)
{
    struct submission *s = mr_calloc(1, sizeof *s);
    enum mr_err err = MR_E_NOMEM;
    char who[256];

    if (s == NULL) {
        return err;
    }
    mr_buf_init(&s->bytes, MR_RAFT_COMMAND_MAX);
    s->done = done;
    s->arg = arg;
    stamp(agent, cmd, by, who, sizeof who);
    mr_kv_command_encode(cmd, &s->bytes);
    if (!mr_buf_failed(&s->bytes)) {
        s->write.proposal.cmd = mr_buf_slice(&s->bytes);
        s->write.proposal.done = on_done;
        err = propose(agent, &s->write.proposal);
    }
    if (err != MR_OK) {
        release(s);
    }
    return err;
}
