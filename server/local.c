/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's own store: a queue, and a thread that applies it in batches. */
#include "server/local.h"

#include <pthread.h>
#include <signal.h>

#include "api/mr_api.h"
#include "base/mem.h"
#include "base/queue.h"

#define WAITING_MAX 16384
#define STACK_LEN ((size_t)256 * 1024)
#define TERM 1 /* There are no elections here. */

struct server_local {
    struct server_local_options options;
    struct mr_queue inbox; /* struct mr_raft_proposal. */
    pthread_t thread;
    bool is_running;
};

static enum mr_err apply_all(struct server_local *local, struct mr_list *list)
{
    uint64_t index = mr_kv_applied(local->options.kv, NULL);
    enum mr_err err = mr_kv_batch_begin(local->options.kv);

    for (struct mr_list *at = list->next; at != list && err == MR_OK;
         at = at->next) {
        struct mr_raft_proposal *p =
            mr_container_of(at, struct mr_raft_proposal, link);
        struct mr_write *write = mr_container_of(p, struct mr_write, proposal);

        err = mr_kv_apply(local->options.kv, p->cmd, &write->result);
    }
    return err == MR_OK ? mr_kv_batch_commit(local->options.kv, index + 1, TERM)
                        : err;
}

/* A store that failed is not gone on with, as on a server: what it says may
 * not be what is on the disk. */
static void *run(void *arg)
{
    struct server_local *local = arg;
    struct mr_list list;

    while (mr_queue_wait(&local->inbox, &list) > 0) {
        enum mr_err err = apply_all(local, &list);
        struct mr_list *at;

        if (err != MR_OK) {
            local->options.on_fatal(
                local->options.arg, err,
                err == MR_E_NOSPACE ? "the disk is full: the agent cannot keep "
                                      "its registrations"
                                    : "the agent's store failed");
        }
        local->options.on_applied(local->options.arg);
        while ((at = mr_list_pop(&list)) != NULL) {
            struct mr_raft_proposal *p =
                mr_container_of(at, struct mr_raft_proposal, link);

            p->done(p, err);
        }
    }
    return NULL;
}

enum mr_err server_local_propose(struct server_local *local,
                                 struct mr_raft_proposal *p)
{
    if (p->cmd.len > MR_RAFT_COMMAND_MAX) {
        return MR_E_TOOBIG;
    }
    mr_list_init(&p->link);
    return mr_queue_push(&local->inbox, &p->link);
}

static enum mr_err start_thread(struct server_local *local)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int rc;

    if (pthread_attr_init(&attr) != 0) {
        return MR_E_NOMEM;
    }
    (void)sigfillset(&all); /* Cannot fail on a valid set. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_attr_setstacksize(&attr, STACK_LEN);
    if (rc == 0) {
        rc = pthread_create(&local->thread, &attr, run, local);
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        return MR_E_IO;
    }
    (void)pthread_setname_np(local->thread, "mr-local"); /* For people. */
    local->is_running = true;
    return MR_OK;
}

enum mr_err server_local_start(const struct server_local_options *options,
                               struct server_local **out)
{
    struct server_local *local = mr_calloc(1, sizeof *local);
    enum mr_err err;

    if (local == NULL) {
        return MR_E_NOMEM;
    }
    local->options = *options;
    mr_queue_init(&local->inbox, WAITING_MAX, NULL, NULL);
    err = start_thread(local);
    if (err != MR_OK) {
        server_local_free(local);
        return err;
    }
    *out = local;
    return MR_OK;
}

void server_local_stop(struct server_local *local)
{
    if (local == NULL || !local->is_running) {
        return;
    }
    local->is_running = false;
    mr_queue_close(&local->inbox);
    (void)pthread_join(local->thread, NULL); /* Fails for no thread only. */
}

void server_local_free(struct server_local *local)
{
    if (local != NULL) {
        mr_queue_deinit(&local->inbox);
        mr_free(local);
    }
}
