/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory, arenas and growing texts.
 *
 * Everything that the library allocates goes through here, so that a test can
 * let the n-th allocation fail.
 */
#ifndef MICROREG_MEM_H
#define MICROREG_MEM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Zeroed memory, or NULL. Freed with mrg_free(). */
void *mrg_alloc(size_t size);

/* Change the size of what mrg_alloc() gave; NULL leaves it as it was. */
void *mrg_realloc(void *ptr, size_t size);

/* A copy with a NUL behind it, or NULL. */
char *mrg_dup(const char *text, size_t len);

/* Free it. NULL is a no-op. */
void mrg_free(void *ptr);

/* For tests: let the n-th allocation from now on and all after it fail; 0: let
 * none fail. */
void mrg_mem_fail_at(long n);

/* ---- arenas: many small things that go together ---- */

struct mrg_block;
struct mrg_arena {
    struct mrg_block *blocks;
    size_t used; /* Of the newest block. */
};

/* Zeroed and aligned memory that lives as long as the arena, or NULL. */
void *mrg_arena_alloc(struct mrg_arena *arena, size_t size);

/* A copy with a NUL behind it, or NULL. */
char *mrg_arena_dup(struct mrg_arena *arena, const char *text, size_t len);

/* Free all of it. The arena is empty then. */
void mrg_arena_deinit(struct mrg_arena *arena);

/* ---- texts: bytes that grow; an error sticks and is asked for once ---- */

struct mrg_text {
    char *data; /* With a NUL behind it, or NULL while it is empty. */
    size_t len;
    size_t size;
    bool failed; /* No memory, or longer than limit: nothing is added. */
    size_t limit;
};

#define MRG_TEXT_LIMIT ((size_t)256 << 20)
#define MRG_TEXT_INIT                                                          \
    {                                                                          \
        NULL, 0, 0, false, MRG_TEXT_LIMIT                                      \
    }

/* Add bytes. */
void mrg_text_add(struct mrg_text *text, const char *bytes, size_t len);
void mrg_text_str(struct mrg_text *text, const char *string);
void mrg_text_byte(struct mrg_text *text, char byte);

/* Add what a format says. */
__attribute__((format(printf, 2, 3))) void
mrg_text_printf(struct mrg_text *text, const char *format, ...);
__attribute__((format(printf, 2, 0))) void
mrg_text_vprintf(struct mrg_text *text, const char *format, va_list args);

/* Add a string with everything escaped that is not plain in a URL's path or
 * query; with @keep_slashes a '/' stays. */
void mrg_text_url(struct mrg_text *text, const char *string, bool keep_slashes);

/* Add a JSON string with its quotes. It must be UTF-8. */
void mrg_text_json(struct mrg_text *text, const char *string, size_t len);

/* Remove the first @len bytes. */
void mrg_text_cut(struct mrg_text *text, size_t len);

/* Empty it and keep its memory. */
void mrg_text_clear(struct mrg_text *text);

/* Hand out the bytes, to be freed with mrg_free(); the text is empty then.
 * NULL: it has failed. Never NULL otherwise. */
char *mrg_text_take(struct mrg_text *text, size_t *out_len);

/* Free it. */
void mrg_text_deinit(struct mrg_text *text);

/* Whether the bytes are UTF-8 (RFC 3629). */
bool mrg_is_utf8(const char *bytes, size_t len);

#endif /* MICROREG_MEM_H */
