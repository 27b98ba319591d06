/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation. Every allocation of ours goes through here, so that a test can
 * make the n-th one fail.
 */
#ifndef MR_BASE_MEM_H
#define MR_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* Memory of @size bytes, zeroed; NULL when there is none. Release it with
 * mr_free(). */
void *mr_calloc(size_t n, size_t size);

/* Memory of @size bytes, not initialised; NULL when there is none. */
void *mr_malloc(size_t size);

/* Like realloc(): on failure NULL, and @ptr is still valid. */
void *mr_realloc(void *ptr, size_t size);

/* A copy of the text @s, or NULL. */
char *mr_strdup(const char *s);

/* A copy of @len bytes with a NUL behind them, or NULL. */
char *mr_memdup0(const void *data, size_t len);

/* Release @ptr; NULL is a no-op. */
void mr_free(void *ptr);

/* Tests only: fail the allocation after @n more have succeeded, once.
 * UINT64_MAX turns it off. Any thread; counts over all of them. */
void mr_mem_fail_after(uint64_t n);

/* The struct of @type that holds @ptr as its @member. */
#define mr_container_of(ptr, type, member)                                     \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define MR_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif /* MR_BASE_MEM_H */
