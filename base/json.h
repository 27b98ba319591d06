/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing JSON the way Go's encoder does (Consul's answers): compact, `<`, `>`,
 * `&`, U+2028 and U+2029 escaped, invalid UTF-8 as \ufffd. Commas are put by
 * the writer. Parsing is jansson's.
 */
#ifndef MR_BASE_JSON_H
#define MR_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct mr_json {
    struct mr_buf *out; /* Borrowed; its sticky failure is the writer's. */
    bool need_comma;    /* The next value is not the first of its level. */
};

/* Write to the end of @out, which must outlive the writer. */
void mr_json_init(struct mr_json *j, struct mr_buf *out);

/* Open and close objects and arrays. */
void mr_json_object(struct mr_json *j);
/* Close the object opened last. */
void mr_json_object_end(struct mr_json *j);
/* Open an array. */
void mr_json_array(struct mr_json *j);
/* Close the array opened last. */
void mr_json_array_end(struct mr_json *j);

/* A member's name (text); its value must follow. */
void mr_json_key(struct mr_json *j, const char *key);

/* A string of @len bytes. */
void mr_json_strn(struct mr_json *j, const char *s, size_t len);
/* A string; NULL is written as "". */
void mr_json_str(struct mr_json *j, const char *s);
/* An unsigned number. */
void mr_json_u64(struct mr_json *j, uint64_t n);
/* A signed number. */
void mr_json_i64(struct mr_json *j, int64_t n);
/* true or false. */
void mr_json_bool(struct mr_json *j, bool value);
/* null. */
void mr_json_null(struct mr_json *j);
/* A string holding the base64 of @bytes. */
void mr_json_base64(struct mr_json *j, struct mr_slice bytes);
/* A value that is JSON already. */
void mr_json_raw(struct mr_json *j, struct mr_slice json);

/* Member helpers: key and value in one call. */
void mr_json_kstr(struct mr_json *j, const char *key, const char *s);
/* As mr_json_kstr(), unsigned number. */
void mr_json_ku64(struct mr_json *j, const char *key, uint64_t n);
/* As mr_json_kstr(), signed number. */
void mr_json_ki64(struct mr_json *j, const char *key, int64_t n);
/* As mr_json_kstr(), boolean. */
void mr_json_kbool(struct mr_json *j, const char *key, bool value);

/* Append @json, compact and valid, to @out indented by @indent spaces a level,
 * with one newline at the end: Go's MarshalIndent. */
void mr_json_indent(struct mr_buf *out, struct mr_slice json, unsigned indent);

#endif /* MR_BASE_JSON_H */
