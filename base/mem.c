/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation with a counter that lets a test fail the n-th call. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Allocations left until one fails; UINT64_MAX is off. Relaxed everywhere: a
 * test that arms it drives the allocating thread itself. */
static atomic_uint_fast64_t fail_after = UINT64_MAX;

void mr_mem_fail_after(uint64_t n)
{
    atomic_store_explicit(&fail_after, n, memory_order_relaxed);
}

static bool must_fail(void)
{
    uint64_t left = atomic_load_explicit(&fail_after, memory_order_relaxed);

    if (left == UINT64_MAX) {
        return false;
    }
    if (left == 0) {
        mr_mem_fail_after(UINT64_MAX);
        return true;
    }
    atomic_store_explicit(&fail_after, left - 1, memory_order_relaxed);
    return false;
}

void *mr_calloc(size_t n, size_t size)
{
    return must_fail() ? NULL : calloc(n, size);
}

void *mr_malloc(size_t size)
{
    return must_fail() ? NULL : malloc(size);
}

void *mr_realloc(void *ptr, size_t size)
{
    return must_fail() ? NULL : realloc(ptr, size);
}

char *mr_memdup0(const void *data, size_t len)
{
    char *copy = mr_malloc(len + 1);

    if (copy == NULL) {
        return NULL;
    }
    if (len > 0) {
        memcpy(copy, data, len);
    }
    copy[len] = '\0';
    return copy;
}

char *mr_strdup(const char *s)
{
    return mr_memdup0(s, strlen(s));
}

void mr_free(void *ptr)
{
    free(ptr);
}
