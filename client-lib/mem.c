/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, and arenas of it. */
#include "mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE ((size_t)2048)
#define ALIGNMENT ((size_t)16)

/* Counts down to the allocation that fails; below zero: it has. */
static atomic_long countdown;
static atomic_bool counts;

void mrg_mem_fail_at(long n)
{
    atomic_store(&countdown, n);
    atomic_store(&counts, n > 0);
}

static bool must_fail(void)
{
    return atomic_load_explicit(&counts, memory_order_relaxed) &&
           atomic_fetch_sub(&countdown, 1) <= 1;
}

void *mrg_alloc(size_t size)
{
    return must_fail() ? NULL : calloc(1, size == 0 ? 1 : size);
}

void *mrg_realloc(void *ptr, size_t size)
{
    return must_fail() ? NULL : realloc(ptr, size);
}

char *mrg_dup(const char *text, size_t len)
{
    char *copy = len == SIZE_MAX || must_fail() ? NULL : malloc(len + 1);

    if (copy != NULL) {
        if (len > 0) {
            memcpy(copy, text, len);
        }
        copy[len] = '\0';
    }
    return copy;
}

void mrg_free(void *ptr)
{
    free(ptr);
}

/* ------------------------------------------------------------- arenas */

struct mrg_block {
    struct mrg_block *older;
    size_t size;
    _Alignas(16) char data[];
};

void *mrg_arena_alloc(struct mrg_arena *arena, size_t size)
{
    struct mrg_block *block = arena->blocks;
    size_t want;
    void *found;

    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (block == NULL || block->size - arena->used < size) {
        want = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block = mrg_alloc(sizeof *block + want);
        if (block == NULL) {
            return NULL;
        }
        block->size = want;
        block->older = arena->blocks;
        arena->blocks = block;
        arena->used = 0;
    }
    found = block->data + arena->used;
    arena->used += size;
    return found;
}

char *mrg_arena_dup(struct mrg_arena *arena, const char *text, size_t len)
{
    char *copy = len == SIZE_MAX ? NULL : mrg_arena_alloc(arena, len + 1);

    if (copy != NULL && len > 0) {
        memcpy(copy, text, len);
    }
    return copy;
}

void mrg_arena_deinit(struct mrg_arena *arena)
{
    while (arena->blocks != NULL) {
        struct mrg_block *older = arena->blocks->older;

        mrg_free(arena->blocks);
        arena->blocks = older;
    }
    arena->used = 0;
}
