/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is released all at once: for what one view hands out, or what one
 * command decodes to. Steady use allocates nothing, because a reset keeps the
 * first block. Single owner, no locking.
 */
#ifndef MR_KV_ARENA_H
#define MR_KV_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct kv_block; /* One piece of memory. */

struct kv_arena {
    ProtobufCAllocator pb;   /* Decodes messages into this arena. */
    struct kv_block *blocks; /* The newest first; the oldest is kept. */
    uint8_t *at;             /* Free space of the newest block. */
    uint8_t *end;
    bool failed; /* An allocation failed; until the next reset. */
};

/* Make an empty arena. It must not be moved afterwards. No allocation. */
void kv_arena_init(struct kv_arena *a);

/* Release everything. */
void kv_arena_deinit(struct kv_arena *a);

/* Forget what was handed out and keep a block for reuse. */
void kv_arena_reset(struct kv_arena *a);

/* @size bytes, aligned for any of our types, not initialised; NULL sets
 * @a->failed. */
void *kv_arena_alloc(struct kv_arena *a, size_t size);

/* A copy of @s with a NUL behind it, or NULL. */
char *kv_arena_text(struct kv_arena *a, struct mr_slice s);

/* A copy of @s, empty after a failure. */
struct mr_slice kv_arena_copy(struct kv_arena *a, struct mr_slice s);

/* As kv_arena_copy(), with a NUL behind the copy. */
struct mr_slice kv_arena_copy0(struct kv_arena *a, struct mr_slice s);

/* Append @item to the array *@items of *@n with room for *@cap, all 0 at first.
 * False without memory. */
bool kv_arena_push(struct kv_arena *a, struct mr_slice **items, size_t *n,
                   size_t *cap, struct mr_slice item);

#endif /* MR_KV_ARENA_H */
