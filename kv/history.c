/* SPDX-License-Identifier: Apache-2.0 */
/* The rings of the history, and reading from them. */
#include "kv/history.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "kv/kv.h"
#include "kv/history_decode.h"

/* Moments that a reader takes with the lock held. */
#define READ_AHEAD 64

#define NAME_MAX_HASHED 256

struct kv_moment {
    atomic_uint refs;
    uint64_t revision;
    size_t len;
    _Alignas(struct kv_event_head) uint8_t events[];
};

static void lock(struct kv_history *h)
{
    mr_assert(pthread_mutex_lock(&h->lock) == 0);
}

static void unlock(struct kv_history *h)
{
    mr_assert(pthread_mutex_unlock(&h->lock) == 0);
}

uint64_t kv_event_name(struct mr_slice name)
{
    uint8_t text[NAME_MAX_HASHED];

    if (name.len > sizeof text) {
        name.len = sizeof text; /* No row has such a name. */
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = ((const uint8_t *)name.data)[i];

        text[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
    }
    return mr_hash64(mr_slice(text, name.len), 0);
}

/* ------------------------------------------------------------ moments */

static void release(struct kv_moment *moment)
{
    if (atomic_fetch_sub(&moment->refs, 1) == 1) {
        mr_free(moment);
    }
}

void kv_pending_init(struct kv_pending *p)
{
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        mr_buf_init(&p->moments[i], 0);
    }
    p->is_lost = false;
}

void kv_pending_reset(struct kv_pending *p)
{
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        struct kv_moment **moments = (void *)p->moments[i].data;
        size_t n = p->moments[i].len / sizeof *moments;

        for (size_t at = 0; at < n; at++) {
            release(moments[at]);
        }
        mr_buf_reset(&p->moments[i]);
    }
    p->is_lost = false;
}

void kv_pending_deinit(struct kv_pending *p)
{
    kv_pending_reset(p);
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        mr_buf_deinit(&p->moments[i]);
    }
}

void kv_pending_add(struct kv_pending *p, enum kv_history_part part,
                    struct mr_slice events, uint64_t revision)
{
    struct kv_moment *moment;

    if (events.len == 0 || p->is_lost) {
        return;
    }
    moment = mr_malloc(sizeof *moment + events.len);
    if (moment == NULL) {
        p->is_lost = true;
        return;
    }
    atomic_init(&moment->refs, 1);
    moment->revision = revision;
    moment->len = events.len;
    memcpy(moment->events, events.data, events.len);
    mr_buf_add(&p->moments[part], &moment, sizeof moment);
    if (mr_buf_failed(&p->moments[part])) {
        p->is_lost = true;
        release(moment);
    }
}

/* ------------------------------------------------------------ rings */

static struct kv_moment *ring_at(const struct kv_ring *ring, size_t i)
{
    return ring->moments[(ring->head + i) % ring->cap];
}

static size_t cost(const struct kv_moment *moment)
{
    return sizeof *moment + moment->len + sizeof moment;
}

static void ring_drop(struct kv_ring *ring)
{
    struct kv_moment *oldest = ring_at(ring, 0);

    ring->floor = oldest->revision;
    ring->bytes -= cost(oldest);
    ring->head = (ring->head + 1) % ring->cap;
    ring->n--;
    release(oldest);
}

static bool ring_grow(struct kv_ring *ring)
{
    size_t cap = ring->cap == 0 ? 64 : ring->cap * 2;
    struct kv_moment **moments = mr_malloc(cap * sizeof(struct kv_moment *));

    if (moments == NULL) {
        return false;
    }
    for (size_t i = 0; i < ring->n; i++) {
        moments[i] = ring_at(ring, i);
    }
    mr_free(ring->moments);
    ring->moments = moments;
    ring->cap = cap;
    ring->head = 0;
    return true;
}

static void ring_forget(struct kv_ring *ring, uint64_t revision)
{
    while (ring->n > 0) {
        ring_drop(ring);
    }
    ring->floor = revision;
}

/* Take @moment over; without memory everything up to it is forgotten. */
static void ring_push(struct kv_ring *ring, struct kv_moment *moment,
                      size_t max_bytes)
{
    if (ring->n == ring->cap && !ring_grow(ring)) {
        ring_forget(ring, moment->revision);
        release(moment);
        return;
    }
    ring->moments[(ring->head + ring->n++) % ring->cap] = moment;
    ring->bytes += cost(moment);
    while (ring->bytes > max_bytes) {
        ring_drop(ring); /* Itself, when it is larger than all. */
    }
}

/* The position of the first moment behind @revision. */
static size_t ring_seek(const struct kv_ring *ring, uint64_t revision)
{
    size_t low = 0;
    size_t high = ring->n;

    while (low < high) {
        size_t at = low + (high - low) / 2;

        if (ring_at(ring, at)->revision <= revision) {
            low = at + 1;
        } else {
            high = at;
        }
    }
    return low;
}

/* ------------------------------------------------------------ the history */

void kv_history_init(struct kv_history *h, size_t max_bytes, uint64_t revision)
{
    memset(h, 0, sizeof *h);
    mr_assert(pthread_mutex_init(&h->lock, NULL) == 0);
    h->max_bytes = max_bytes;
    h->revision = revision;
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        h->rings[i].floor = revision;
    }
}

void kv_history_deinit(struct kv_history *h)
{
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        ring_forget(&h->rings[i], 0);
        mr_free(h->rings[i].moments);
    }
    mr_assert(pthread_mutex_destroy(&h->lock) == 0);
}

void kv_history_publish(struct kv_history *h, struct kv_pending *p,
                        uint64_t revision)
{
    lock(h);
    h->revision = revision;
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        struct kv_moment **moments = (void *)p->moments[i].data;
        size_t n = p->moments[i].len / sizeof *moments;

        for (size_t at = 0; at < n; at++) {
            ring_push(&h->rings[i], moments[at], h->max_bytes);
        }
        mr_buf_reset(&p->moments[i]); /* Taken over. */
        if (p->is_lost) {
            ring_forget(&h->rings[i], revision);
        }
    }
    unlock(h);
    p->is_lost = false;
}

void kv_history_forget(struct kv_history *h, uint64_t revision)
{
    lock(h);
    h->revision = revision;
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        ring_forget(&h->rings[i], revision);
    }
    unlock(h);
}

void kv_history_count(struct kv_history *h, uint64_t *out_bytes,
                      uint64_t *out_revisions)
{
    lock(h);
    *out_bytes = h->rings[0].bytes + h->rings[1].bytes;
    *out_revisions = h->rings[0].n + h->rings[1].n;
    unlock(h);
}

/* ------------------------------------------------------------ reading */

/* Take references of the moments of @ring behind @after, at most READ_AHEAD.
 * *@out_revision: up to where that is everything. */
static enum mr_err take(struct kv_history *h, const struct kv_ring *ring,
                        uint64_t after, struct kv_moment **out, size_t *out_n,
                        uint64_t *out_revision)
{
    enum mr_err err = MR_OK;
    size_t n = 0;

    lock(h);
    if (after > h->revision) {
        err = MR_E_INVALID;
    } else if (after < ring->floor) {
        err = MR_E_NOTFOUND;
    } else {
        size_t first = ring_seek(ring, after);

        for (; n < READ_AHEAD && first + n < ring->n; n++) {
            out[n] = ring_at(ring, first + n);
            atomic_fetch_add(&out[n]->refs, 1);
        }
        *out_revision =
            first + n < ring->n ? out[n - 1]->revision : h->revision;
    }
    unlock(h);
    *out_n = n;
    return err;
}

/* The event at *@at of @moment, and what follows its head; moves on. */
static struct kv_event_head next_event(const struct kv_moment *moment,
                                       size_t *at, struct mr_slice *out_rest)
{
    struct kv_event_head head;

    memcpy(&head, moment->events + *at, sizeof head);
    *out_rest = mr_slice(moment->events + *at + sizeof head, head.len);
    *at += sizeof head + head.len;
    return head;
}

struct reading {
    const struct kv_filter *filter;
    struct kv_decoder decoder;
    mr_kv_change_cb cb;
    void *arg;
    bool is_stopped;
};

/* Tell what of @moment is wanted. */
static enum mr_err tell(struct reading *r, const struct kv_moment *moment)
{
    struct mr_slice rest;
    size_t n_left = 0;
    size_t at = 0;

    while (at < moment->len) {
        struct kv_event_head head = next_event(moment, &at, &rest);

        n_left += kv_filter_wants(r->filter, &head, rest) ? 1 : 0;
    }
    for (at = 0; at < moment->len && n_left > 0;) {
        struct kv_event_head head = next_event(moment, &at, &rest);
        struct mr_kv_change change = {.revision = moment->revision};

        if (!kv_filter_wants(r->filter, &head, rest)) {
            continue;
        }
        change.is_last = --n_left == 0;
        enum mr_err err = kv_decode_event(&r->decoder, &head, rest, &change);

        if (err != MR_OK) {
            return err;
        }
        if (!r->cb(r->arg, &change) && change.is_last) {
            r->is_stopped = true;
        }
    }
    return MR_OK;
}

/* Tell the moments at @moments, and let go of them. *@out_revision is set when
 * the reader stopped. */
static enum mr_err tell_all(struct reading *r, struct kv_moment **moments,
                            size_t n, uint64_t *out_revision)
{
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < n; i++) {
        if (err == MR_OK && !r->is_stopped) {
            err = tell(r, moments[i]);
            if (r->is_stopped) {
                *out_revision = moments[i]->revision;
            }
        }
        release(moments[i]);
    }
    return err;
}

enum mr_err mr_kv_history_read(struct mr_kv *kv,
                               const struct mr_kv_history_query *query,
                               mr_kv_change_cb cb, void *arg,
                               uint64_t *out_revision)
{
    struct kv_moment *moments[READ_AHEAD];
    struct reading r = {.cb = cb, .arg = arg};
    struct kv_filter filter;
    uint64_t revision = query->after;
    enum mr_err err;
    size_t n;

    mr_assert(query->n_topics > 0 && query->n_topics <= KV_FILTER_TOPICS);
    kv_filter_init(&filter, query->topics, query->n_topics);
    r.filter = &filter;
    kv_decoder_init(&r.decoder);
    do {
        err = take(&kv->history, &kv->history.rings[filter.part], revision,
                   moments, &n, &revision);
        if (err == MR_OK) {
            err = tell_all(&r, moments, n, &revision);
        }
    } while (err == MR_OK && n == READ_AHEAD && !r.is_stopped);
    kv_decoder_deinit(&r.decoder);
    if (err == MR_OK) {
        *out_revision = revision;
    }
    return err;
}
