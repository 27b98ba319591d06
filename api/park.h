/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The park: a thread that lets waiting exchanges go on.
 *
 * It resumes the connections of those that were woken, in batches (the HTTP
 * library walks all its suspended connections for every resumption it notices),
 * ends waits whose time is over, and notices clients that went away.
 *
 * Locking: one mutex over the list of the woken and the heap of deadlines,
 * never held across a callback or a resumption.
 */
#ifndef API_PARK_H
#define API_PARK_H

#include "api/core.h"

struct api_park;

/* Start the thread. @clock is borrowed. NULL: no memory or descriptors. */
struct api_park *api_park_start(const struct mr_clock *clock,
                                const struct mr_random *random);

/* Wake every exchange that waits for a change, and let no other begin to: the
 * service is ending. */
void api_park_wake_all(struct api_park *park);

/* Wait until no connection is suspended. */
void api_park_drain(struct api_park *park);

/* Stop the thread. Nothing may be suspended. NULL is a no-op. */
void api_park_stop(struct api_park *park);

/* Note that the connection of @x has been suspended and is the park's from here
 * on. False: it was woken in between, let it go on. Worker. */
bool api_park_enter(struct api_park *park, struct api_http *x);

/* Wake @x at @until_ms, and when its client goes away (x->is_client_gone).
 * MR_E_CANCELED: the service is ending. MR_E_NOMEM. Worker. */
MR_MUST_CHECK enum mr_err api_park_add(struct api_park *park,
                                       struct api_http *x, uint64_t until_ms);

/* The end of that. Worker. */
void api_park_remove(struct api_http *x);

/* The connection whose socket is @fd is about to be closed. Worker. */
void api_park_forget(struct api_park *park, int fd);

/* Watch the client of @x, which waits for a server's answer: when it goes away
 * api_forward_cancel() is called. Worker. */
void api_park_watch(struct api_http *x);

/* The end of that; a no-op without it. Worker. */
void api_park_unwatch(struct api_http *x);

#endif /* API_PARK_H */
