/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The apply thread.
 *
 * Batches that wait together share one transaction of the state machine, up to
 * GROUP_COMMANDS_MAX commands, so a restart does not replay one by one, and no
 * transaction grows without bound. A proposal is completed when the transaction
 * with its command has been committed, and not before.
 *
 * A state machine that fails stops everything: a server that skips a command is
 * worse than one that is down.
 */
#include "raft/apply.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/queue.h"
#include "raft/snapshot.h"

#define GROUP_COMMANDS_MAX 8192
#define STACK_BYTES ((size_t)512 << 10)

struct item {
    struct mr_list link;
    struct driver_batch *batch; /* Or, when NULL, a snapshot to install: */
    uint64_t file;
    uint64_t index;
};

struct apply {
    struct apply_options options;
    struct mr_queue queue;
    pthread_t thread;
    bool is_dead;    /* Apply thread only. */
    bool is_stopped; /* Core thread only. */
    _Atomic uint64_t index;
    _Atomic uint64_t installed;
};

static void die(struct apply *a, enum mr_err err, const char *what)
{
    char why[640];

    a->is_dead = true;
    (void)snprintf(why, sizeof why, "applying the log failed: %s: %s", what,
                   mr_strerror(err));
    a->options.on_fatal(a->options.arg, err, why);
}

/* ------------------------------------------------------------- snapshots */

static enum mr_err read_cb(void *ctx, void *out, size_t cap, size_t *out_len)
{
    return snapshot_read(ctx, out, cap, out_len);
}

enum mr_err apply_restore(const struct mr_raft_fsm *fsm,
                          const char *snapshot_dir, uint64_t file,
                          struct mr_detail *detail)
{
    struct snapshot_reader *reader;
    enum mr_err err = snapshot_reader_open(snapshot_dir, file, &reader, detail);

    if (err != MR_OK) {
        return err;
    }
    err = fsm->read_snapshot(fsm->arg, read_cb, reader, detail);
    snapshot_reader_close(reader);
    return err;
}

static void install(struct apply *a, struct item *item)
{
    struct mr_detail detail = {"installing a snapshot"};
    enum mr_err err = apply_restore(a->options.fsm, a->options.snapshot_dir,
                                    item->file, &detail);

    if (err != MR_OK) {
        die(a, err, detail.text);
        return;
    }
    atomic_store(&a->index, item->index);
    atomic_store(&a->installed, item->file);
    a->options.on_installed(a->options.arg);
}

/* ------------------------------------------------------------- commands */

static struct item *item_of(struct mr_list *link)
{
    return mr_container_of(link, struct item, link);
}

static enum mr_err apply_batch(struct apply *a, const struct driver_batch *b)
{
    const struct mr_raft_fsm *fsm = a->options.fsm;

    for (size_t i = 0; i < b->n_commands; i++) {
        enum mr_err err =
            fsm->apply(fsm->arg, b->commands[i].data, b->commands[i].own);

        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

static void complete(struct item *item)
{
    struct driver_batch *b = item->batch;

    for (size_t i = 0; i < b->n_commands; i++) {
        struct mr_raft_proposal *own = b->commands[i].own;

        if (own != NULL) {
            own->done(own, MR_OK);
        }
    }
    driver_batch_free(b);
    mr_free(item);
}

/* Move the batches at the front of @items that may share a transaction to
 * @group. */
static void take_group(struct mr_list *items, struct mr_list *group)
{
    size_t n = 0;

    mr_list_init(group);
    while (!mr_list_empty(items) && n < GROUP_COMMANDS_MAX) {
        struct item *item = item_of(items->next);

        if (item->batch == NULL) {
            return;
        }
        n += item->batch->n_commands + 1;
        mr_list_remove(&item->link);
        mr_list_push(group, &item->link);
    }
}

static enum mr_err run_group(struct apply *a, struct mr_list *group)
{
    const struct mr_raft_fsm *fsm = a->options.fsm;
    const struct driver_batch *last = item_of(group->prev)->batch;
    struct mr_list *at;
    enum mr_err err = fsm->begin(fsm->arg);

    if (err != MR_OK) {
        return err;
    }
    MR_LIST_FOREACH(at, group)
    {
        err = apply_batch(a, item_of(at)->batch);
        if (err != MR_OK) {
            return err;
        }
    }
    return fsm->commit(fsm->arg, last->last_index, last->last_term);
}

static void apply_group(struct apply *a, struct mr_list *group)
{
    uint64_t index = item_of(group->prev)->batch->last_index;
    enum mr_err err = run_group(a, group);
    struct mr_list *link;

    if (err != MR_OK) {
        /* The proposals stay open: their fate is the process's. */
        die(a, err, "the state machine refused a committed command");
        return;
    }
    atomic_store(&a->index, index);
    while ((link = mr_list_pop(group)) != NULL) {
        complete(item_of(link));
    }
    a->options.on_applied(a->options.arg);
}

static void *run(void *arg)
{
    struct apply *a = arg;
    struct mr_list items;
    struct mr_list group;

    while (mr_queue_wait(&a->queue, &items) != 0) {
        while (!a->is_dead && !mr_list_empty(&items)) {
            take_group(&items, &group);
            if (!mr_list_empty(&group)) {
                apply_group(a, &group);
            } else {
                struct item *item = item_of(mr_list_pop(&items));

                install(a, item);
                mr_free(item);
            }
        }
    }
    return NULL;
}

/* ------------------------------------------------------------- life */

enum mr_err apply_open(const struct apply_options *options, uint64_t index,
                       struct apply **out_apply)
{
    struct apply *a = mr_calloc(1, sizeof *a);
    pthread_attr_t attr;
    int rc;

    if (a == NULL) {
        return MR_E_NOMEM;
    }
    a->options = *options;
    a->index = index;
    mr_queue_init(&a->queue, 0, NULL, NULL);
    mr_assert(pthread_attr_init(&attr) == 0);
    mr_assert(pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
    rc = pthread_create(&a->thread, &attr, run, a);
    mr_assert(pthread_attr_destroy(&attr) == 0);
    if (rc != 0) {
        mr_queue_deinit(&a->queue);
        mr_free(a);
        return MR_E_NOMEM;
    }
    *out_apply = a;
    return MR_OK;
}

static enum mr_err push(struct apply *a, struct item item)
{
    struct item *copy = mr_malloc(sizeof *copy);

    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    *copy = item;
    mr_list_init(&copy->link);
    /* Refused only after close, and then nobody submits any more. */
    mr_assert(mr_queue_push(&a->queue, &copy->link) == MR_OK);
    return MR_OK;
}

void apply_submit(struct apply *a, struct driver_batch *batch)
{
    struct item item = {.batch = batch};
    enum mr_err err = push(a, item);

    if (err != MR_OK) {
        a->options.on_fatal(a->options.arg, err,
                            "no memory to hand over committed commands");
    }
}

enum mr_err apply_install(struct apply *a, uint64_t file, uint64_t index)
{
    struct item item = {.file = file, .index = index};

    return push(a, item);
}

uint64_t apply_index(const struct apply *a)
{
    return atomic_load(&a->index);
}

uint64_t apply_take_installed(struct apply *a)
{
    return atomic_exchange(&a->installed, 0);
}

void apply_stop(struct apply *a)
{
    if (a == NULL || a->is_stopped) {
        return;
    }
    a->is_stopped = true;
    mr_queue_close(&a->queue);
    mr_assert(pthread_join(a->thread, NULL) == 0);
}

void apply_close(struct apply *a)
{
    if (a == NULL) {
        return;
    }
    apply_stop(a);
    mr_queue_deinit(&a->queue);
    mr_free(a);
}
