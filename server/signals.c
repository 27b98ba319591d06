/* SPDX-License-Identifier: Apache-2.0 */
/* SIGTERM and SIGINT end the process in order, a second one at once; SIGHUP
 * reloads; SIGPIPE is ignored. */
#include "server/agent.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

static void on_signal(uv_signal_t *handle, int number)
{
    struct server_agent *a = handle->data;

    if (number == SIGHUP) {
        server_host_reload(a, NULL, NULL);
        return;
    }
    if (a->state != SERVER_RUNNING) {
        mr_log_warn("agent", "second signal %d: ending at once", number);
        _exit(1);
    }
    mr_log_info("agent", "caught signal %d", number);
    server_agent_end(a, number == SIGTERM ? a->cfg.leave_on_terminate
                                          : !a->cfg.skip_leave_on_interrupt);
}

enum mr_err server_signals_start(struct server_agent *agent,
                                 struct mr_detail *detail)
{
    (void)signal(SIGPIPE, SIG_IGN); /* Cannot fail for this signal. */
    for (size_t i = 0; i < MR_ARRAY_LEN(numbers); i++) {
        uv_signal_t *handle = &agent->signals[i];
        int rc = uv_signal_init(&agent->loop, handle);

        if (rc == 0) {
            handle->data = agent;
            rc = uv_signal_start(handle, on_signal, numbers[i]);
        }
        if (rc != 0) {
            return mr_fail(detail, MR_E_IO, "cannot handle signals: %s",
                           uv_strerror(rc));
        }
    }
    return MR_OK;
}

void server_signals_stop(struct server_agent *agent)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(numbers); i++) {
        uv_close((uv_handle_t *)&agent->signals[i], NULL);
    }
}
