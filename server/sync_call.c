/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of sync to the servers, and their answers on the core thread. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "server/cli.h"
#include "server/sync_impl.h"

#define ANSWER_MAX ((size_t)64 * 1024 * 1024)

static void call_free(struct sync_call *call)
{
    mr_buf_deinit(&call->target);
    mr_buf_deinit(&call->body);
    mr_buf_deinit(&call->forward.answer);
    mr_buf_deinit(&call->forward.answer_headers);
    mr_free(call);
}

/* The link's thread. */
static void on_done(struct mr_api_forward *forward, enum mr_err err)
{
    struct sync_call *call =
        mr_container_of(forward, struct sync_call, forward);

    call->err = err;
    /* Never closed while the link lives, and without a bound. */
    mr_assert(mr_queue_push(&call->sync->answers, &call->link) == MR_OK);
}

struct sync_call *sync_call_new(struct server_sync *sync, const char *method,
                                const char *path)
{
    struct sync_call *call = mr_calloc(1, sizeof *call);
    struct mr_buf query = MR_BUF_INIT;

    if (call == NULL) {
        return NULL;
    }
    mr_list_init(&call->link);
    call->sync = sync;
    call->forward.method = method;
    call->forward.done = on_done;
    mr_buf_init(&call->forward.answer, ANSWER_MAX);
    server_cli_param(&query, "node", sync->self.node_name);
    server_cli_param(&query, "id", sync->self.node_id);
    mr_buf_printf(&call->target, "%s?%s", path, mr_buf_cstr(&query));
    if (mr_buf_failed(&query) || mr_buf_failed(&call->target)) {
        call_free(call);
        call = NULL;
    }
    mr_buf_deinit(&query);
    return call;
}

bool sync_call_send(struct sync_call *call, uint64_t timeout_ms)
{
    if (mr_buf_failed(&call->body)) {
        call_free(call);
        return false;
    }
    call->forward.target = mr_buf_cstr(&call->target);
    call->forward.body = mr_buf_slice(&call->body);
    call->forward.timeout_ms = timeout_ms;
    if (server_link_pass(call->sync->agent->link, &call->forward) != MR_OK) {
        call_free(call);
        return false;
    }
    return true;
}

void sync_calls_answer(struct server_sync *sync, bool is_ending)
{
    struct mr_list calls;
    struct mr_list *at;

    (void)mr_queue_take(&sync->answers, &calls);
    while ((at = mr_list_pop(&calls)) != NULL) {
        struct sync_call *call = mr_container_of(at, struct sync_call, link);

        if (!is_ending) {
            call->answered(sync, call);
        }
        call_free(call);
    }
}

const char *sync_call_error(const struct sync_call *call, struct mr_detail *out)
{
    if (call->err != MR_OK) {
        return call->forward.detail.text;
    }
    (void)snprintf(
        out->text, sizeof out->text, "%.*s",
        (int)(call->forward.answer.len < 400 ? call->forward.answer.len : 400),
        call->forward.answer.len == 0
            ? ""
            : (const char *)call->forward.answer.data);
    out->text[strcspn(out->text, "\r\n")] = '\0';
    return out->text;
}
