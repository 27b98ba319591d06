/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue between threads: any thread pushes, one thread takes.
 *
 * Objects embed a struct mr_list link. A bound may be set; a push beyond it is
 * refused, which is how overload turns into an answer instead of into memory.
 * The consumer either blocks in mr_queue_wait() or is a libuv loop whose wake
 * callback calls uv_async_send().
 *
 * Locking: one mutex, held for the pointer operations only, never across a
 * callback.
 */
#ifndef MR_BASE_QUEUE_H
#define MR_BASE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/list.h"

typedef void (*mr_queue_wake_cb)(void *arg);

struct mr_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct mr_list items;
    size_t n;
    size_t limit; /* 0: no bound. */
    bool closed;
    mr_queue_wake_cb wake; /* Called when the queue stops being empty. */
    void *wake_arg;
};

/* Make an empty queue for at most @limit items (0: no bound). @wake may be
 * NULL; it is called on the pushing thread, without the lock. */
void mr_queue_init(struct mr_queue *q, size_t limit, mr_queue_wake_cb wake,
                   void *wake_arg);

/* Release the queue, which must be empty and unused by now. */
void mr_queue_deinit(struct mr_queue *q);

/* Put @link at the end. Any thread.
 *
 * MR_E_BUSY:   the bound is reached; @link is not in the queue.
 * MR_E_CLOSED: the queue was closed; likewise. */
MR_MUST_CHECK enum mr_err mr_queue_push(struct mr_queue *q,
                                        struct mr_list *link);

/* Move everything into @out (initialised by the call), oldest first, and
 * return how many there are; never blocks. Consumer only. */
size_t mr_queue_take(struct mr_queue *q, struct mr_list *out);

/* As mr_queue_take(), but wait until there is something or the queue is
 * closed: 0 then means closed and drained. Consumer only. */
size_t mr_queue_wait(struct mr_queue *q, struct mr_list *out);

/* Refuse further pushes and wake the consumer. Any thread. */
void mr_queue_close(struct mr_queue *q);

#endif /* MR_BASE_QUEUE_H */
