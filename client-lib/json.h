/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON (RFC 8259), strictly: one value, UTF-8, nothing behind it, nested
 * at most MRG_JSON_DEPTH deep.
 */
#ifndef MICROREG_JSON_H
#define MICROREG_JSON_H

#include <stdint.h>

#include "mem.h"

#define MRG_JSON_DEPTH 64

enum mrg_json_type {
    MRG_JSON_NULL,
    MRG_JSON_FALSE,
    MRG_JSON_TRUE,
    MRG_JSON_NUMBER,
    MRG_JSON_STRING,
    MRG_JSON_ARRAY,
    MRG_JSON_OBJECT,
};

/* A value. `raw` is borrowed from the text that was parsed, all else lives in
 * the arena. */
struct mrg_json {
    enum mrg_json_type type;
    const char *key; /* In an object, with a NUL behind it. */
    const char *raw; /* The value as it is written. */
    size_t raw_len;
    const char *text; /* Of a string, unescaped, with a NUL behind it. */
    size_t text_len;
    const struct mrg_json *child; /* The first of an array or object. */
    const struct mrg_json *next;
    size_t n; /* Children. */
};

/* Parse a text. MICROREG_E_PROTOCOL: it is not JSON, at offset *@out_at (which
 * may be NULL). MICROREG_E_NOMEM. */
int mrg_json_parse(struct mrg_arena *arena, const char *text, size_t len,
                   const struct mrg_json **out_value, size_t *out_at);

/* The member @key of an object, or NULL; the last one if there are several.
 * @object may be NULL or no object. */
const struct mrg_json *mrg_json_get(const struct mrg_json *object,
                                    const char *key);

/* The string @value is, or "" if it is none. */
const char *mrg_json_str(const struct mrg_json *value);

/* The unsigned number @value is, or 0 if it is none. */
uint64_t mrg_json_u64(const struct mrg_json *value);

#endif /* MICROREG_JSON_H */
