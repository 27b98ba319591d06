/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of a watch. Everything with the client's lock. */
#ifndef MICROREG_QUEUE_H
#define MICROREG_QUEUE_H

#include "watch.h"

/* Add an event. False: no memory. */
bool mrg_queue_push(struct microreg_watch *watch,
                    const struct mrg_queued *event);

/* Take the first event, whose reference is the caller's then, and note in `told`
 * that it is told. The queue is not empty. False: no memory, nothing is done. */
bool mrg_queue_pop(struct microreg_watch *watch, struct mrg_queued *out_event);

/* Whether the queue holds more than a reader may leave. */
bool mrg_queue_is_full(const struct microreg_watch *watch);

/* Forget what is queued; the watch is behind then. */
void mrg_queue_collapse(struct microreg_watch *watch);

/* Fill the queue with what makes the view of `told`; the watch follows then.
 * False: no memory; it is behind as before. */
bool mrg_queue_catch_up(struct microreg_watch *watch);

/* Free it, and `told`. */
void mrg_queue_deinit(struct microreg_watch *watch);

#endif /* MICROREG_QUEUE_H */
