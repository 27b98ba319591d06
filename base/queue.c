/* SPDX-License-Identifier: Apache-2.0 */
/* The queue between threads. */
#include "base/queue.h"

void mr_queue_init(struct mr_queue *q, size_t limit, mr_queue_wake_cb wake,
                   void *wake_arg)
{
    mr_assert(pthread_mutex_init(&q->lock, NULL) == 0);
    mr_assert(pthread_cond_init(&q->filled, NULL) == 0);
    mr_list_init(&q->items);
    q->n = 0;
    q->limit = limit;
    q->closed = false;
    q->wake = wake;
    q->wake_arg = wake_arg;
}

void mr_queue_deinit(struct mr_queue *q)
{
    mr_assert(mr_list_empty(&q->items));
    mr_assert(pthread_cond_destroy(&q->filled) == 0);
    mr_assert(pthread_mutex_destroy(&q->lock) == 0);
}

static void lock(struct mr_queue *q)
{
    mr_assert(pthread_mutex_lock(&q->lock) == 0);
}

static void unlock(struct mr_queue *q)
{
    mr_assert(pthread_mutex_unlock(&q->lock) == 0);
}

enum mr_err mr_queue_push(struct mr_queue *q, struct mr_list *link)
{
    enum mr_err err = MR_OK;
    bool was_empty = false;

    lock(q);
    if (q->closed) {
        err = MR_E_CLOSED;
    } else if (q->limit != 0 && q->n >= q->limit) {
        err = MR_E_BUSY;
    } else {
        was_empty = q->n == 0;
        mr_list_push(&q->items, link);
        q->n++;
    }
    unlock(q);
    /* After the lock is free, so that whoever wakes does not wait for it. */
    if (was_empty) {
        mr_assert(pthread_cond_signal(&q->filled) == 0);
    }
    if (was_empty && q->wake != NULL) {
        q->wake(q->wake_arg);
    }
    return err;
}

static size_t take_locked(struct mr_queue *q, struct mr_list *out)
{
    size_t n = q->n;

    mr_list_init(out);
    mr_list_move(out, &q->items);
    q->n = 0;
    return n;
}

size_t mr_queue_take(struct mr_queue *q, struct mr_list *out)
{
    size_t n;

    lock(q);
    n = take_locked(q, out);
    unlock(q);
    return n;
}

size_t mr_queue_wait(struct mr_queue *q, struct mr_list *out)
{
    size_t n;

    lock(q);
    while (q->n == 0 && !q->closed) {
        mr_assert(pthread_cond_wait(&q->filled, &q->lock) == 0);
    }
    n = take_locked(q, out);
    unlock(q);
    return n;
}

void mr_queue_close(struct mr_queue *q)
{
    lock(q);
    q->closed = true;
    mr_assert(pthread_cond_broadcast(&q->filled) == 0);
    unlock(q);
    if (q->wake != NULL) {
        q->wake(q->wake_arg);
    }
}
