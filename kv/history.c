/* SPDX-License-Identifier: Apache-2.0 */
/* The rings of the history, and reading from them. */
#include "kv/history.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "kv/history_decode.h"
#include "kv/kv.h"

/* Pieces that a reader takes with the lock held. */
#define READ_AHEAD 16

/* How long a piece gets, unless it is one revision: what is forgotten at once,
 * and what a reader must pass over at most. */
#define PIECE_BYTES ((size_t)32 * 1024)
#define PIECES_MIN 16 /* In a full ring. */

#define NAME_MAX_HASHED 256

struct kv_piece {
    atomic_uint refs;
    uint64_t n;    /* Revisions, */
    uint64_t last; /* and the last of them. */
    size_t len;
    uint8_t moments[];
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

/* ------------------------------------------------------------ pieces */

static void release(struct kv_piece *piece)
{
    if (atomic_fetch_sub(&piece->refs, 1) == 1) {
        mr_free(piece);
    }
}

static size_t cost(size_t len)
{
    return sizeof(struct kv_piece) + sizeof(struct kv_piece *) + len;
}

static struct kv_piece **pieces_of(const struct kv_pending_part *part)
{
    return (void *)part->pieces.data;
}

static size_t n_pieces(const struct kv_pending_part *part)
{
    return part->pieces.len / sizeof(struct kv_piece *);
}

static void drop_first(struct kv_pending_part *part)
{
    struct kv_piece *piece = pieces_of(part)[part->first++];

    part->floor = piece->last;
    part->bytes -= cost(piece->len);
    release(piece);
}

static void reset_part(struct kv_pending_part *part)
{
    while (part->first < n_pieces(part)) {
        drop_first(part);
    }
    if (part->moments.cap > 2 * PIECE_BYTES) {
        mr_buf_deinit(&part->moments); /* One large revision. */
    }
    mr_buf_reset(&part->moments);
    mr_buf_reset(&part->pieces);
    part->n = 0;
    part->first = 0;
    part->bytes = 0;
    part->floor = 0;
}

void kv_pending_init(struct kv_pending *p, size_t max_bytes)
{
    memset(p, 0, sizeof *p);
    p->max_bytes = max_bytes;
    p->piece_bytes = max_bytes / PIECES_MIN < PIECE_BYTES
                         ? max_bytes / PIECES_MIN
                         : PIECE_BYTES;
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        mr_buf_init(&p->parts[i].moments, 2 * max_bytes);
    }
}

void kv_pending_reset(struct kv_pending *p)
{
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        reset_part(&p->parts[i]);
    }
}

void kv_pending_deinit(struct kv_pending *p)
{
    kv_pending_reset(p);
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        mr_buf_deinit(&p->parts[i].moments);
        mr_buf_deinit(&p->parts[i].pieces);
    }
}

static void lose(struct kv_pending_part *part, uint64_t revision)
{
    reset_part(part);
    part->floor = revision;
}

void kv_pending_lose(struct kv_pending *p, enum kv_history_part part,
                     uint64_t revision)
{
    lose(&p->parts[part], revision);
}

/* Make a piece of the moments that have been gathered. */
static void finish_piece(struct kv_pending_part *part)
{
    struct kv_piece *piece = mr_malloc(sizeof *piece + part->moments.len);

    if (piece == NULL) {
        lose(part, part->last);
        return;
    }
    atomic_init(&piece->refs, 1);
    piece->n = part->n;
    piece->last = part->last;
    piece->len = part->moments.len;
    memcpy(piece->moments, part->moments.data, part->moments.len);
    mr_buf_add(&part->pieces, &piece, sizeof(struct kv_piece *));
    if (mr_buf_failed(&part->pieces)) {
        release(piece);
        lose(part, part->last);
        return;
    }
    part->bytes += cost(piece->len);
    part->n = 0;
    mr_buf_reset(&part->moments);
}

struct mr_buf *kv_pending_begin(struct kv_pending *p,
                                enum kv_history_part part_)
{
    struct kv_pending_part *part = &p->parts[part_];

    if (part->n > 0 && part->moments.len > p->piece_bytes) {
        finish_piece(part);
    }
    part->at = part->moments.len;
    (void)mr_buf_grow(&part->moments,
                      sizeof(struct kv_moment_head)); /* It remembers. */
    return &part->moments;
}

/* Put @gone at the front of the events behind @at. */
static void insert(struct mr_buf *moments, size_t at, struct mr_slice gone)
{
    size_t len = moments->len - at;

    if (gone.len > 0 && mr_buf_grow(moments, gone.len) != NULL) {
        memmove(moments->data + at + gone.len, moments->data + at, len);
        memcpy(moments->data + at, gone.data, gone.len);
    }
}

void kv_pending_end(struct kv_pending *p, enum kv_history_part part_,
                    struct mr_slice gone, uint64_t revision)
{
    struct kv_pending_part *part = &p->parts[part_];
    size_t at = part->at + sizeof(struct kv_moment_head);
    struct kv_moment_head head = {.revision = revision};

    insert(&part->moments, at, gone);
    if (mr_buf_failed(&part->moments) ||
        cost(part->moments.len) > p->max_bytes) {
        lose(part, revision);
        return;
    }
    head.len = part->moments.len - at;
    if (head.len == 0) {
        part->moments.len = part->at;
        return;
    }
    memcpy(part->moments.data + part->at, &head, sizeof head);
    part->n++;
    part->last = revision;
    while (part->first < n_pieces(part) &&
           part->bytes + cost(part->moments.len) > p->max_bytes) {
        drop_first(part);
    }
}

/* ------------------------------------------------------------ rings */

static struct kv_piece *ring_at(const struct kv_ring *ring, size_t i)
{
    return ring->pieces[(ring->head + i) % ring->cap];
}

static void ring_drop(struct kv_ring *ring)
{
    struct kv_piece *oldest = ring_at(ring, 0);

    ring->floor = oldest->last;
    ring->bytes -= cost(oldest->len);
    ring->revisions -= oldest->n;
    ring->head = (ring->head + 1) % ring->cap;
    ring->n--;
    release(oldest);
}

static bool ring_grow(struct kv_ring *ring)
{
    size_t cap = ring->cap == 0 ? 64 : ring->cap * 2;
    struct kv_piece **pieces = mr_malloc(cap * sizeof(struct kv_piece *));

    if (pieces == NULL) {
        return false;
    }
    for (size_t i = 0; i < ring->n; i++) {
        pieces[i] = ring_at(ring, i);
    }
    mr_free(ring->pieces);
    ring->pieces = pieces;
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

/* Take @piece over; without memory everything up to it is forgotten. */
static void ring_push(struct kv_ring *ring, struct kv_piece *piece,
                      size_t max_bytes)
{
    if (ring->n == ring->cap && !ring_grow(ring)) {
        ring_forget(ring, piece->last);
        release(piece);
        return;
    }
    ring->pieces[(ring->head + ring->n++) % ring->cap] = piece;
    ring->bytes += cost(piece->len);
    ring->revisions += piece->n;
    while (ring->bytes > max_bytes) {
        ring_drop(ring);
    }
}

/* The position of the first piece with something behind @revision. */
static size_t ring_seek(const struct kv_ring *ring, uint64_t revision)
{
    size_t low = 0;
    size_t high = ring->n;

    while (low < high) {
        size_t at = low + (high - low) / 2;

        if (ring_at(ring, at)->last <= revision) {
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
        mr_free(h->rings[i].pieces);
    }
    mr_assert(pthread_mutex_destroy(&h->lock) == 0);
}

static void take_over(struct kv_history *h, struct kv_ring *ring,
                      struct kv_pending_part *part)
{
    struct kv_piece **pieces = pieces_of(part);
    size_t n = n_pieces(part);

    if (part->floor > 0) {
        ring_forget(ring, part->floor);
    }
    while (part->first < n) {
        ring_push(ring, pieces[part->first++], h->max_bytes);
    }
}

void kv_history_publish(struct kv_history *h, struct kv_pending *p,
                        uint64_t revision)
{
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        if (p->parts[i].n > 0) {
            finish_piece(&p->parts[i]);
        }
    }
    lock(h);
    h->revision = revision;
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        take_over(h, &h->rings[i], &p->parts[i]);
    }
    unlock(h);
    kv_pending_reset(p);
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
    *out_bytes = 0;
    *out_revisions = 0;
    lock(h);
    for (int i = 0; i < KV_HISTORY_PARTS; i++) {
        *out_bytes += h->rings[i].bytes;
        *out_revisions += h->rings[i].revisions;
    }
    unlock(h);
}

/* ------------------------------------------------------------ reading */

/* Take references of the pieces of @ring with something behind @after, at most
 * READ_AHEAD. *@out_revision: up to where that is everything. */
static enum mr_err take(struct kv_history *h, const struct kv_ring *ring,
                        uint64_t after, struct kv_piece **out, size_t *out_n,
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
        *out_revision = first + n < ring->n ? out[n - 1]->last : h->revision;
    }
    unlock(h);
    *out_n = n;
    return err;
}

/* Take the event at the front of @events, and what follows its head. */
static struct kv_event_head next_event(struct mr_slice *events,
                                       struct mr_slice *out_rest)
{
    const uint8_t *at = events->data;
    struct kv_event_head head;

    memcpy(&head, at, sizeof head);
    *out_rest = mr_slice(at + sizeof head, head.len);
    *events = mr_slice(at + sizeof head + head.len,
                       events->len - sizeof head - head.len);
    return head;
}

struct reading {
    const struct kv_filter *filter;
    struct kv_decoder decoder;
    mr_kv_change_cb cb;
    void *arg;
    bool is_stopped;
};

/* Tell what is wanted of the @events of @revision. */
static enum mr_err tell(struct reading *r, uint64_t revision,
                        struct mr_slice events)
{
    struct mr_slice left = events;
    struct mr_slice rest;
    size_t n_left = 0;

    while (left.len > 0) {
        struct kv_event_head head = next_event(&left, &rest);

        n_left += kv_filter_wants(r->filter, &head, rest) ? 1 : 0;
    }
    while (n_left > 0) {
        struct kv_event_head head = next_event(&events, &rest);
        struct mr_kv_change change = {.revision = revision};

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

/* Tell the moments of @piece behind @after. *@out_revision is set when the
 * reader stopped. */
static enum mr_err tell_piece(struct reading *r, const struct kv_piece *piece,
                              uint64_t after, uint64_t *out_revision)
{
    struct kv_moment_head head;
    enum mr_err err = MR_OK;

    for (size_t at = 0; at < piece->len && err == MR_OK && !r->is_stopped;
         at += (size_t)head.len) {
        memcpy(&head, piece->moments + at, sizeof head);
        at += sizeof head;
        if (head.revision > after) {
            err = tell(r, head.revision,
                       mr_slice(piece->moments + at, (size_t)head.len));
        }
        if (r->is_stopped) {
            *out_revision = head.revision;
        }
    }
    return err;
}

enum mr_err mr_kv_history_read(struct mr_kv *kv,
                               const struct mr_kv_history_query *query,
                               mr_kv_change_cb cb, void *arg,
                               uint64_t *out_revision)
{
    struct kv_piece *pieces[READ_AHEAD];
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
        uint64_t after = revision;

        err = take(&kv->history, &kv->history.rings[filter.part], after, pieces,
                   &n, &revision);
        for (size_t i = 0; i < n; i++) {
            if (err == MR_OK && !r.is_stopped) {
                err = tell_piece(&r, pieces[i], after, &revision);
            }
            release(pieces[i]);
        }
    } while (err == MR_OK && n == READ_AHEAD && !r.is_stopped);
    kv_decoder_deinit(&r.decoder);
    if (err == MR_OK) {
        *out_revision = revision;
    }
    return err;
}
