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

/* Fields of a message may come in pieces, so what is missing is appended. */
static void stamp(const struct server_agent *agent, const char *by,
                  struct mr_buf *out)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    char who[256];
    uint8_t *at;

    (void)snprintf(who, sizeof who, "%.200s (%s)", agent->self.node_name, by);
    cmd.time_ms = SERVER_CLOCK->wall_ms(SERVER_CLOCK);
    cmd.by = who;
    at = mr_buf_grow(out, mr__command__get_packed_size(&cmd));
    if (at != NULL) {
        (void)mr__command__pack(&cmd, at);
    }
}

enum mr_err server_submit(struct server_agent *agent, struct mr_slice cmd,
                          const char *by, server_submit_cb done, void *arg)
{
    struct submission *s = mr_calloc(1, sizeof *s);
    struct mr_api_host host = server_host(agent);
    enum mr_err err = MR_E_NOMEM;

    if (s == NULL) {
        return err;
    }
    mr_buf_init(&s->bytes, MR_RAFT_COMMAND_MAX);
    s->done = done;
    s->arg = arg;
    mr_buf_add(&s->bytes, cmd.data, cmd.len);
    stamp(agent, by, &s->bytes);
    if (!mr_buf_failed(&s->bytes)) {
        s->write.proposal.cmd = mr_buf_slice(&s->bytes);
        s->write.proposal.done = on_done;
        err = host.propose(host.arg, &s->write.proposal);
    }
    if (err != MR_OK) {
        release(s);
    }
    return err;
}
