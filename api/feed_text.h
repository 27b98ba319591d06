/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of feeds, and the ring in which a feed keeps its latest ones. */
#ifndef API_FEED_TEXT_H
#define API_FEED_TEXT_H

#include "api/feed.h"
#include "base/err.h"

/* Make a text of what @bytes holds, counted in @total. MR_E_NOMEM. MR_E_BUSY:
 * there are too many bytes. */
MR_MUST_CHECK enum mr_err feed_text_new(atomic_size_t *total,
                                        struct mr_slice bytes,
                                        uint64_t revision,
                                        struct api_text **out_text);

/* Texts in the order of their revisions; an empty ring is all zeros. */
struct feed_ring {
    struct api_text **texts; /* Circular. */
    size_t cap;
    size_t head;
    size_t n;
    size_t bytes;
};

/* Put @text, whose reference the ring takes over, behind the others.
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err feed_ring_push(struct feed_ring *ring,
                                         struct api_text *text);

/* Drop the oldest text; returns its revision. There must be one. */
uint64_t feed_ring_drop(struct feed_ring *ring);

/* The first text behind @revision, borrowed, or NULL. */
struct api_text *feed_ring_after(const struct feed_ring *ring,
                                 uint64_t revision);

/* Drop all texts and the ring's memory. */
void feed_ring_deinit(struct feed_ring *ring);

#endif /* API_FEED_TEXT_H */
