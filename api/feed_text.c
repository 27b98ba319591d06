/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of feeds, and the ring in which a feed keeps its latest ones. */
#include "api/feed_text.h"

#include <string.h>

#include "base/mem.h"

/* All texts that somebody holds, slow readers' too. */
#define TOTAL_BYTES_MAX ((size_t)256 * 1024 * 1024)

enum mr_err feed_text_new(atomic_size_t *total, struct mr_slice bytes,
                          uint64_t revision, struct api_text **out_text)
{
    struct api_text *text;

    if (atomic_fetch_add(total, bytes.len) + bytes.len > TOTAL_BYTES_MAX) {
        atomic_fetch_sub(total, bytes.len);
        return MR_E_BUSY;
    }
    text = mr_malloc(sizeof *text + bytes.len);
    if (text == NULL) {
        atomic_fetch_sub(total, bytes.len);
        return MR_E_NOMEM;
    }
    atomic_init(&text->refs, 1);
    text->total = total;
    text->revision = revision;
    text->len = bytes.len;
    if (bytes.len > 0) {
        memcpy(text->data, bytes.data, bytes.len);
    }
    *out_text = text;
    return MR_OK;
}

void api_text_release(struct api_text *text)
{
    if (text != NULL && atomic_fetch_sub(&text->refs, 1) == 1) {
        atomic_fetch_sub(text->total, text->len);
        mr_free(text);
    }
}

/* ------------------------------------------------------------- the ring */

static struct api_text *text_at(const struct feed_ring *ring, size_t i)
{
    return ring->texts[(ring->head + i) % ring->cap];
}

static bool grow(struct feed_ring *ring)
{
    size_t cap = ring->cap == 0 ? 8 : ring->cap * 2;
    struct api_text **texts = mr_malloc(cap * sizeof(struct api_text *));

    if (texts == NULL) {
        return false;
    }
    for (size_t i = 0; i < ring->n; i++) {
        texts[i] = text_at(ring, i);
    }
    mr_free(ring->texts);
    ring->texts = texts;
    ring->cap = cap;
    ring->head = 0;
    return true;
}

uint64_t feed_ring_drop(struct feed_ring *ring)
{
    struct api_text *oldest = text_at(ring, 0);
    uint64_t revision = oldest->revision;

    ring->bytes -= oldest->len;
    ring->head = (ring->head + 1) % ring->cap;
    ring->n--;
    api_text_release(oldest);
    return revision;
}

struct api_text *feed_ring_after(const struct feed_ring *ring,
                                 uint64_t revision)
{
    size_t low = 0;
    size_t high = ring->n;

    while (low < high) {
        size_t at = low + (high - low) / 2;

        if (text_at(ring, at)->revision <= revision) {
            low = at + 1;
        } else {
            high = at;
        }
    }
    return low < ring->n ? text_at(ring, low) : NULL;
}

enum mr_err feed_ring_push(struct feed_ring *ring, struct api_text *text)
{
    if (ring->n == ring->cap && !grow(ring)) {
        return MR_E_NOMEM;
    }
    ring->texts[(ring->head + ring->n++) % ring->cap] = text;
    ring->bytes += text->len;
    return MR_OK;
}

void feed_ring_deinit(struct feed_ring *ring)
{
    while (ring->n > 0) {
        (void)feed_ring_drop(ring);
    }
    mr_free(ring->texts);
    ring->texts = NULL;
    ring->cap = 0;
}
