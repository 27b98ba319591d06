/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of memory that grow by doubling and are handed out from the front. */
#include "kv/arena.h"

#include "base/mem.h"

#define BLOCK_MIN ((size_t)4096)
#define BLOCK_MAX ((size_t)1 << 20)
/* A reset gives back what is larger, so that one huge answer is not kept. */
#define BLOCK_KEPT ((size_t)64 << 10)
#define ALIGNMENT ((size_t)8)

struct kv_block {
    struct kv_block *next;
    size_t size;
    uint64_t bytes[];
};

static void *pb_alloc(void *data, size_t size)
{
    return kv_arena_alloc(data, size);
}

static void pb_free(void *data, void *ptr)
{
    (void)data; /* The reset releases it. */
    (void)ptr;
}

void kv_arena_init(struct kv_arena *a)
{
    *a = (struct kv_arena){.pb = {pb_alloc, pb_free, a}};
}

static void use_block(struct kv_arena *a, struct kv_block *block)
{
    a->blocks = block;
    a->at = block == NULL ? NULL : (uint8_t *)block->bytes;
    a->end = block == NULL ? NULL : a->at + block->size;
}

void kv_arena_deinit(struct kv_arena *a)
{
    while (a->blocks != NULL) {
        struct kv_block *next = a->blocks->next;

        mr_free(a->blocks);
        a->blocks = next;
    }
    use_block(a, NULL);
}

void kv_arena_reset(struct kv_arena *a)
{
    struct kv_block *kept = NULL;

    while (a->blocks != NULL) {
        struct kv_block *next = a->blocks->next;

        if (kept == NULL && a->blocks->size <= BLOCK_KEPT) {
            kept = a->blocks;
        } else {
            mr_free(a->blocks);
        }
        a->blocks = next;
    }
    if (kept != NULL) {
        kept->next = NULL;
    }
    use_block(a, kept);
    a->failed = false;
}

static bool grow(struct kv_arena *a, size_t size)
{
    size_t want = a->blocks == NULL ? BLOCK_MIN : a->blocks->size * 2;
    struct kv_block *block = NULL;

    want = want > BLOCK_MAX ? BLOCK_MAX : want;
    want = want < size ? size : want;
    if (want <= SIZE_MAX - sizeof *block) {
        block = mr_malloc(sizeof *block + want);
    }
    if (block == NULL) {
        a->failed = true;
        return false;
    }
    block->next = a->blocks;
    block->size = want;
    use_block(a, block);
    return true;
}

void *kv_arena_alloc(struct kv_arena *a, size_t size)
{
    size_t padded = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    void *out;

    if (padded < size) {
        a->failed = true;
        return NULL;
    }
    if ((size_t)(a->end - a->at) < padded && !grow(a, padded)) {
        return NULL;
    }
    out = a->at;
    a->at += padded;
    return out;
}

char *kv_arena_text(struct kv_arena *a, struct mr_slice s)
{
    char *text = kv_arena_alloc(a, s.len + 1);

    if (text == NULL) {
        return NULL;
    }
    if (s.len > 0) {
        memcpy(text, s.data, s.len);
    }
    text[s.len] = '\0';
    return text;
}

struct mr_slice kv_arena_copy(struct kv_arena *a, struct mr_slice s)
{
    void *copy = kv_arena_alloc(a, s.len);

    if (copy == NULL) {
        return mr_slice(NULL, 0);
    }
    if (s.len > 0) {
        memcpy(copy, s.data, s.len);
    }
    return mr_slice(copy, s.len);
}

struct mr_slice kv_arena_copy0(struct kv_arena *a, struct mr_slice s)
{
    char *copy = kv_arena_text(a, s);

    return mr_slice(copy, copy == NULL ? 0 : s.len);
}

bool kv_arena_push(struct kv_arena *a, struct mr_slice **items, size_t *n,
                   size_t *cap, struct mr_slice item)
{
    if (*n == *cap) {
        size_t more = *cap == 0 ? 8 : *cap * 2;
        struct mr_slice *grown = kv_arena_alloc(a, more * sizeof *grown);

        if (grown == NULL) {
            return false;
        }
        if (*n > 0) {
            memcpy(grown, *items, *n * sizeof *grown);
        }
        *items = grown;
        *cap = more;
    }
    (*items)[(*n)++] = item;
    return !a->failed;
}
