/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rows that a command writes held before it: from that and from what
 * they hold afterwards follows what changed (kv/record.h). Filled by kv/store.c
 * wherever a row is written, so that nothing can change past it.
 */
#ifndef MR_KV_CAPTURE_H
#define MR_KV_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "kv/arena.h"
#include "kv/history.h"

struct kv_captured {
    struct mr_slice key;
    struct mr_slice was; /* Its value. No data: the row was not there; of a
                            key, unless it is deleted, also when it was. */
    struct mr_slice is;  /* No data: it is not there. Set by kv_record(). */
    bool existed;
    bool is_changed; /* In what answers show. Set by kv_record(). */
    size_t seq;      /* In the order of writing. */
};

struct kv_capture {
    struct kv_arena *arena; /* Borrowed; the command's. */
    struct kv_captured *rows;
    size_t n;
    size_t cap;
    size_t max_bytes;
    size_t bytes[KV_HISTORY_PARTS]; /* Of what is captured. */
    bool is_full[KV_HISTORY_PARTS]; /* There was more: it is not complete. */
};

/* Begin a command whose memory is @arena. Of each part of the history at most
 * @max_bytes are captured: a command that deletes many keys must not need the
 * memory of all their values. */
void kv_capture_begin(struct kv_capture *c, struct kv_arena *arena,
                      size_t max_bytes);

/* Note that the row @key is about to be written, or deleted; @old is its value,
 * NULL when it is new. Without memory the arena says so. */
void kv_capture_row(struct kv_capture *c, struct mr_slice key,
                    const struct mr_slice *old, bool is_deleted);

/* Sort what was captured by key and keep of each row what came first. */
void kv_capture_end(struct kv_capture *c);

/* The captured row @key, or NULL; after kv_capture_end(). */
const struct kv_captured *kv_capture_find(const struct kv_capture *c,
                                          struct mr_slice key);

/* The position of the first captured row whose key is not before @key. */
size_t kv_capture_seek(const struct kv_capture *c, struct mr_slice key);

#endif /* MR_KV_CAPTURE_H */
