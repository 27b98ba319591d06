/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of a watch: a ring that grows up to what its topic's size allows. */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

#define QUEUE_FIRST_SIZE ((size_t)4)
#define EVENTS_MAX ((size_t)1024)
#define BYTES_MAX ((size_t)4 << 20)

static struct mrg_queued *slot(const struct microreg_watch *watch, size_t i)
{
    return &watch->queue[(watch->first + i) % watch->size];
}

static bool grow(struct microreg_watch *watch)
{
    size_t size = watch->size == 0 ? QUEUE_FIRST_SIZE : watch->size * 2;
    struct mrg_queued *queue = mrg_alloc(size * sizeof *queue);

    if (queue == NULL) {
        return false;
    }
    for (size_t i = 0; i < watch->n_queued; i++) {
        queue[i] = *slot(watch, i);
    }
    mrg_free(watch->queue);
    watch->queue = queue;
    watch->first = 0;
    watch->size = size;
    return true;
}

bool mrg_queue_push(struct microreg_watch *watch,
                    const struct mrg_queued *event)
{
    if (watch->n_queued == watch->size && !grow(watch)) {
        return false;
    }
    *slot(watch, watch->n_queued++) = *event;
    if (event->object != NULL) {
        (void)mrg_object_ref(event->object);
        watch->queued_bytes += event->is_counted ? event->object->json_len : 0;
    }
    return true;
}

bool mrg_queue_pop(struct microreg_watch *watch, struct mrg_queued *out_event)
{
    struct mrg_queued event = *slot(watch, 0);

    if (event.object != NULL && event.action == MICROREG_DELETE) {
        mrg_view_remove(&watch->told, event.object);
    } else if (event.object != NULL) {
        if (!mrg_map_reserve(&watch->told, 1)) {
            return false;
        }
        mrg_view_put(&watch->told, event.object);
    }
    if (event.is_counted && event.object != NULL) {
        watch->queued_bytes -= event.object->json_len;
    }
    watch->first = (watch->first + 1) % watch->size;
    watch->n_queued--;
    *out_event = event;
    return true;
}

bool mrg_queue_is_full(const struct microreg_watch *watch)
{
    /* A queue that was filled with a whole view is no slow reader's yet. */
    return watch->n_queued > EVENTS_MAX + 2 * watch->topic->view.n ||
           watch->queued_bytes > BYTES_MAX;
}

static void clear(struct microreg_watch *watch)
{
    for (size_t i = 0; i < watch->n_queued; i++) {
        mrg_object_unref(slot(watch, i)->object);
    }
    mrg_free(watch->queue);
    watch->queue = NULL;
    watch->first = watch->n_queued = watch->size = 0;
    watch->queued_bytes = 0;
}

void mrg_queue_collapse(struct microreg_watch *watch)
{
    /* A mark that was queued must be told all the same. */
    for (size_t i = 0; i < watch->n_queued; i++) {
        watch->was_marked = watch->was_marked && slot(watch, i)->object != NULL;
    }
    clear(watch);
    watch->is_behind = true;
}

void mrg_queue_deinit(struct microreg_watch *watch)
{
    clear(watch);
    mrg_view_deinit(&watch->told);
}

/* ------------------------------------------------------------- catching up */

struct catching {
    struct microreg_watch *watch;
    bool failed;
};

static void on_missing(void *arg, struct mrg_object *before,
                       struct mrg_object *after)
{
    struct catching *c = arg;
    uint64_t index = c->watch->topic->index;
    bool is_update = before != NULL && after != NULL &&
                     mrg_object_same_version(before, after);
    const struct mrg_queued gone = {before, index, MICROREG_DELETE, false};
    const struct mrg_queued come = {
        after, index, is_update ? MICROREG_UPDATE : MICROREG_CREATE, false};

    if (before != NULL && !is_update) {
        c->failed = c->failed || !mrg_queue_push(c->watch, &gone);
    }
    if (after != NULL) {
        c->failed = c->failed || !mrg_queue_push(c->watch, &come);
    }
}

/* By action (what goes first), then by key, so that it is the same each time. */
static int compare_queued(const void *a_, const void *b_)
{
    const struct mrg_queued *a = a_;
    const struct mrg_queued *b = b_;
    size_t len = a->object->key_len < b->object->key_len ? a->object->key_len
                                                         : b->object->key_len;
    int order = (b->action == MICROREG_DELETE) - (a->action == MICROREG_DELETE);

    if (order == 0) {
        order = memcmp(a->object->data, b->object->data, len);
    }
    if (order == 0) {
        order = (a->object->key_len > b->object->key_len) -
                (a->object->key_len < b->object->key_len);
    }
    return order;
}

bool mrg_queue_catch_up(struct microreg_watch *watch)
{
    struct catching c = {watch, false};
    const struct mrg_queued mark = {NULL, watch->topic->index, MICROREG_SYNCED,
                                    false};

    mrg_view_diff(&watch->told, &watch->topic->view, on_missing, &c);
    if (!c.failed && watch->n_queued > 0) {
        qsort(watch->queue, watch->n_queued, sizeof *watch->queue,
              compare_queued);
    }
    if (!c.failed && (watch->flags & MICROREG_MARKS) != 0 &&
        !watch->was_marked) {
        c.failed = !mrg_queue_push(watch, &mark);
        watch->was_marked = !c.failed;
    }
    if (c.failed) {
        clear(watch);
        return false;
    }
    watch->is_behind = false;
    return true;
}
