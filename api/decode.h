/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request bodies: JSON into structs, driven by a table per struct.
 *
 * The rules are Go's encoding/json with unknown fields refused, as Consul's:
 * names match without regard to case, null is the same as leaving a field out,
 * what follows the first value is not read, and errors have Go's words.
 *
 * Texts are borrowed from the parsed tree and everything else lies in an arena,
 * so one decode_deinit() releases all that a body became.
 */
#ifndef MR_API_DECODE_H
#define MR_API_DECODE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define DECODE_DEPTH_MAX 64 /* Nested objects and arrays of a body. */

struct decode_table;

/* What a field's JSON must be and what stands at its offset. */
enum decode_kind {
    DECODE_TEXT,      /* string:           char * */
    DECODE_INT,       /* integer:          int64_t */
    DECODE_BOOL,      /* true, false:      int */
    DECODE_DURATION,  /* string or number: int64_t, nanoseconds */
    DECODE_DELAY,     /* the same, but numbers below 1000 are seconds */
    DECODE_TEXTS,     /* array of strings: char **, and the count */
    DECODE_CHECK_IDS, /* the same, called otherwise in error texts */
    DECODE_OBJECT, /* object:           pointer to the table's struct or NULL */
    DECODE_OBJECTS, /* array of objects: array of pointers, and the count */
    DECODE_MAP,     /* object:           as OBJECTS, one struct a member, each
                                          with its name, sorted by name */
    DECODE_EMPTY,   /* accepted when it says nothing: {} or [] */
    DECODE_IGNORED  /* accepted, whatever it is */
};

struct decode_field {
    const char *name; /* As in Consul's documentation. */
    enum decode_kind kind;
    size_t offset;
    size_t n_offset;                /* Where the size_t count goes. */
    const struct decode_table *sub; /* OBJECT, OBJECTS, MAP. */
};

struct decode_table {
    const char *go_name; /* The struct's name in Go's error texts, or "". */
    const struct decode_field *fields;
    size_t n_fields;
    size_t size;                      /* Of the struct. */
    void (*init)(void *object);       /* NULL: zeroed. */
    size_t key_offset;                /* In a MAP: where the name goes. */
    const struct decode_field *value; /* In a MAP: its values are no objects
                                         but this. */
    const char *go_type; /* The whole type in Go's words; NULL: "struct". */
    bool skips_unknown;  /* Names that are not in fields are no error. */
};

#define DECODE_FIELD(type, kind, name, member)                                 \
    {                                                                          \
        name, kind, offsetof(type, member), 0, NULL                            \
    }
#define DECODE_MANY(type, kind, name, member, table)                           \
    {                                                                          \
        name, kind, offsetof(type, member), offsetof(type, n_##member), table  \
    }

/* As DECODE_MANY(), for a member of the struct @in within @type. */
#define DECODE_MANY_IN(type, kind, name, in, member, table)                    \
    {                                                                          \
        name, kind, offsetof(type, in.member), offsetof(type, in.n_##member),  \
            table                                                              \
    }
/* A name that is accepted and has no effect. */
#define DECODE_SKIP(name)                                                      \
    {                                                                          \
        name, DECODE_IGNORED, 0, 0, NULL                                       \
    }

struct decode_block;

/* One body. Embedded by the caller, who may read error. */
struct decode {
    json_t *root;
    struct decode_block *blocks;
    char *at; /* Free bytes of the newest block. */
    size_t left;
    bool is_out_of_memory;
    char error[1536]; /* The first thing wrong, "" so far. */
};

/* Give the parser our allocator; once, before any body is decoded. */
void decode_setup(void);

/* Make an empty @d; nothing is allocated. */
void decode_init(struct decode *d);

/* Release the tree and everything decoded from it. */
void decode_deinit(struct decode *d);

/* Parse @body and fill @object, a struct of @table that its init (or zeroes)
 * prepared. What it then points to lives until decode_deinit().
 *
 * MR_E_INVALID: d->error says why, without Consul's "Request decode failed: ".
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err decode_body(struct decode *d, struct mr_slice body,
                                      const struct decode_table *table,
                                      void *object);

/* Zeroed memory that lives as long as the body; NULL when there is none (and
 * decode_body() or the caller reports MR_E_NOMEM). */
void *decode_alloc(struct decode *d, size_t size);

/* As decode_alloc(), a formatted text. */
char *decode_printf(struct decode *d, const char *fmt, ...) MR_PRINTF(2, 3);

/* Keep the first error of a body, cut to fit, and return MR_E_INVALID. */
enum mr_err decode_fail(struct decode *d, const char *fmt, ...) MR_PRINTF(2, 3);

/* Write what Go's scanner says about @text, which is not JSON: "EOF",
 * "unexpected EOF", "invalid character ...". false: it finds nothing wrong. */
bool decode_syntax(struct mr_slice text, char *out, size_t cap);

#endif /* MR_API_DECODE_H */
