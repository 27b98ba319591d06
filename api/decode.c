/* SPDX-License-Identifier: Apache-2.0 */
/* Table-driven decoding of JSON bodies. */
#include "api/decode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/text.h"

#define BLOCK_SIZE 2000 /* Holds a usual registration. */
#define ALIGNMENT sizeof(void *)
#define DELAY_SECONDS_BELOW 1000

struct decode_block {
    struct decode_block *next;
    max_align_t bytes[];
};

void decode_setup(void)
{
    json_set_alloc_funcs(mr_malloc, mr_free);
}

void decode_init(struct decode *d)
{
    d->root = NULL;
    d->blocks = NULL;
    d->at = NULL;
    d->left = 0;
    d->is_out_of_memory = false;
    d->error[0] = '\0';
}

void decode_deinit(struct decode *d)
{
    json_decref(d->root);
    while (d->blocks != NULL) {
        struct decode_block *block = d->blocks;

        d->blocks = block->next;
        mr_free(block);
    }
    decode_init(d);
}

void *decode_alloc(struct decode *d, size_t size)
{
    char *found;

    size = (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT; /* And never none. */
    if (size > d->left) {
        size_t cap = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        struct decode_block *block = mr_calloc(1, sizeof *block + cap);

        if (block == NULL) {
            d->is_out_of_memory = true;
            return NULL;
        }
        block->next = d->blocks;
        d->blocks = block;
        d->at = (char *)block->bytes;
        d->left = cap;
    }
    found = d->at;
    d->at += size;
    d->left -= size;
    return found;
}

char *decode_printf(struct decode *d, const char *fmt, ...)
{
    va_list args;
    int len;
    char *text;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    text = decode_alloc(d, (size_t)len + 1);
    if (text != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(text, (size_t)len + 1, fmt, args);
        va_end(args);
    }
    return text;
}

enum mr_err decode_fail(struct decode *d, const char *fmt, ...)
{
    va_list args;

    if (d->error[0] == '\0') {
        va_start(args, fmt);
        (void)vsnprintf(d->error, sizeof d->error, fmt, args);
        va_end(args);
    }
    return MR_E_INVALID;
}

/* ------------------------------------------------------------- values */

/* Where a value stands, for the error text. */
struct place {
    const struct decode_table *table; /* NULL: the body itself. */
    const char *name;
};

static const char *json_kind(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "bool";
    case JSON_NULL:
        break;
    }
    return "null";
}

static enum mr_err wrong_type(struct decode *d, const struct place *place,
                              const json_t *value, const char *go_type)
{
    char number[32] = "";

    if (place->table == NULL) {
        return decode_fail(d,
                           "json: cannot unmarshal %s into Go value of "
                           "type %s",
                           json_kind(value), go_type);
    }
    if (json_is_real(value)) {
        (void)snprintf(number, sizeof number, " %g", json_real_value(value));
    }
    return decode_fail(d,
                       "json: cannot unmarshal %s%s into Go struct field "
                       "%s.%s of type %s",
                       json_kind(value), number, place->table->go_name,
                       place->name, go_type);
}

static enum mr_err decode_object(struct decode *d, const struct place *place,
                                 const json_t *value,
                                 const struct decode_table *table,
                                 void *object);

static enum mr_err decode_text(struct decode *d, const struct place *place,
                               const json_t *value, char **out_text)
{
    if (!json_is_string(value)) {
        return wrong_type(d, place, value, "string");
    }
    *out_text = (char *)json_string_value(value);
    return MR_OK;
}

static enum mr_err decode_duration(struct decode *d, const struct place *place,
                                   const json_t *value, int64_t *out_ns)
{
    struct mr_detail detail;
    double ns;

    if (json_is_integer(value)) {
        *out_ns = json_integer_value(value);
        return MR_OK;
    }
    if (json_is_string(value)) {
        enum mr_err err =
            mr_duration_parse(json_string_value(value), out_ns, &detail);

        return err == MR_OK ? MR_OK : decode_fail(d, "%s", detail.text);
    }
    ns = json_real_value(value);
    if (!json_is_real(value) || ns < -9e18 || ns > 9e18) {
        return wrong_type(d, place, value, "time.Duration");
    }
    *out_ns = (int64_t)ns;
    return MR_OK;
}

/* Consul's rule for a lock-delay: no number that small means nanoseconds. */
static enum mr_err decode_delay(struct decode *d, const struct place *place,
                                const json_t *value, int64_t *out_ns)
{
    enum mr_err err = decode_duration(d, place, value, out_ns);

    if (err == MR_OK && json_is_number(value) && *out_ns > 0 &&
        *out_ns < DELAY_SECONDS_BELOW) {
        *out_ns *= INT64_C(1000000000);
    }
    return err;
}

static enum mr_err decode_texts(struct decode *d, const struct place *place,
                                const json_t *value, const char *go_type,
                                char ***out_texts, size_t *out_n)
{
    size_t n = json_array_size(value);
    char **texts;

    if (!json_is_array(value)) {
        return wrong_type(d, place, value, go_type);
    }
    texts = decode_alloc(d, n * sizeof *texts);
    if (texts == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        enum mr_err err = MR_OK;

        texts[i] = (char *)""; /* What Go makes of null. */
        if (!json_is_null(item)) {
            err = decode_text(d, place, item, &texts[i]);
        }
        if (err != MR_OK) {
            return err;
        }
    }
    *out_texts = texts;
    *out_n = n;
    return MR_OK;
}

/* A new struct of @table, or NULL. */
static void *new_object(struct decode *d, const struct decode_table *table)
{
    void *object = decode_alloc(d, table->size);

    if (object != NULL && table->init != NULL) {
        table->init(object);
    }
    return object;
}

static enum mr_err decode_objects(struct decode *d, const struct place *place,
                                  const json_t *value,
                                  const struct decode_table *table,
                                  void ***out_objects, size_t *out_n)
{
    size_t n = json_array_size(value);
    size_t kept = 0;
    void **objects;

    if (!json_is_array(value)) {
        return wrong_type(d, place, value, "[]struct");
    }
    objects = decode_alloc(d, n * sizeof *objects);
    if (objects == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        enum mr_err err;

        if (json_is_null(item)) {
            continue;
        }
        objects[kept] = new_object(d, table);
        if (objects[kept] == NULL) {
            return MR_E_NOMEM;
        }
        err = decode_object(d, place, item, table, objects[kept++]);
        if (err != MR_OK) {
            return err;
        }
    }
    *out_objects = objects;
    *out_n = kept;
    return MR_OK;
}

/* ------------------------------------------------------------- fields */

static void *at_offset(void *object, size_t offset)
{
    return (char *)object + offset;
}

struct by_key {
    const char *key;
    void *object;
};

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct by_key *)a)->key,
                  ((const struct by_key *)b)->key);
}

static enum mr_err decode_value(struct decode *d, const struct place *place,
                                const json_t *value,
                                const struct decode_field *field, void *object);

/* Fill @entries, one a member of @value. */
static enum mr_err decode_members(struct decode *d, const struct place *place,
                                  json_t *value,
                                  const struct decode_table *table,
                                  struct by_key *entries)
{
    const char *key;
    json_t *item;
    size_t n = 0;

    json_object_foreach(value, key, item)
    {
        void *object = new_object(d, table);
        enum mr_err err = MR_OK;

        if (object == NULL) {
            return MR_E_NOMEM;
        }
        if (!json_is_null(item)) {
            err = table->value != NULL
                      ? decode_value(d, place, item, table->value, object)
                      : decode_object(d, place, item, table, object);
        }
        if (err != MR_OK) {
            return err;
        }
        *(char **)at_offset(object, table->key_offset) = (char *)key;
        entries[n].key = key;
        entries[n++].object = object;
    }
    return MR_OK;
}

static enum mr_err decode_map(struct decode *d, const struct place *place,
                              const json_t *value,
                              const struct decode_table *table,
                              void ***out_objects, size_t *out_n)
{
    size_t n = json_object_size(value);
    struct by_key *entries;
    void **objects;
    enum mr_err err;

    if (!json_is_object(value)) {
        return wrong_type(d, place, value, table->go_name);
    }
    entries = decode_alloc(d, n * sizeof *entries);
    objects = decode_alloc(d, n * sizeof *objects);
    if (entries == NULL || objects == NULL) {
        return MR_E_NOMEM;
    }
    /* The walk changes nothing; jansson's iterators want it writable. */
    err = decode_members(d, place, (json_t *)value, table, entries);
    if (err != MR_OK) {
        return err;
    }
    if (n > 1) {
        qsort(entries, n, sizeof *entries, compare_keys);
    }
    for (size_t i = 0; i < n; i++) {
        objects[i] = entries[i].object;
    }
    *out_objects = objects;
    *out_n = n;
    return MR_OK;
}

static enum mr_err decode_empty(struct decode *d, const struct place *place,
                                const json_t *value)
{
    if (json_object_size(value) > 0 || json_array_size(value) > 0) {
        return decode_fail(d, "field \"%s\" is not supported by this server",
                           place->name);
    }
    return MR_OK;
}

/* @value, which is not null, into the field of @object. */
static enum mr_err decode_value(struct decode *d, const struct place *place,
                                const json_t *value,
                                const struct decode_field *field, void *object)
{
    void *to = at_offset(object, field->offset);
    void *n = at_offset(object, field->n_offset);

    switch (field->kind) {
    case DECODE_TEXT:
        return decode_text(d, place, value, to);
    case DECODE_INT:
        if (!json_is_integer(value)) {
            return wrong_type(d, place, value, "int");
        }
        *(int64_t *)to = json_integer_value(value);
        return MR_OK;
    case DECODE_BOOL:
        if (!json_is_boolean(value)) {
            return wrong_type(d, place, value, "bool");
        }
        *(int *)to = json_boolean_value(value);
        return MR_OK;
    case DECODE_DURATION:
        return decode_duration(d, place, value, to);
    case DECODE_DELAY:
        return decode_delay(d, place, value, to);
    case DECODE_TEXTS:
        return decode_texts(d, place, value, "[]string", to, n);
    case DECODE_CHECK_IDS:
        return decode_texts(d, place, value, "[]types.CheckID", to, n);
    case DECODE_OBJECT:
        *(void **)to = new_object(d, field->sub);
        return *(void **)to == NULL
                   ? MR_E_NOMEM
                   : decode_object(d, place, value, field->sub, *(void **)to);
    case DECODE_OBJECTS:
        return decode_objects(d, place, value, field->sub, to, n);
    case DECODE_MAP:
        return decode_map(d, place, value, field->sub, to, n);
    case DECODE_EMPTY:
        return decode_empty(d, place, value);
    case DECODE_IGNORED:
        break;
    }
    return MR_OK;
}

static bool is_duration(const struct decode_field *field)
{
    return field->kind == DECODE_DURATION || field->kind == DECODE_DELAY;
}

static const struct decode_field *find_field(const struct decode_table *table,
                                             const char *name)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        if (strcasecmp(table->fields[i].name, name) == 0) {
            return &table->fields[i];
        }
    }
    return NULL;
}

/* One pass over the members of @value: the durations, or all the others.
 * Consul parses the durations of an object after the rest of it. */
static enum mr_err decode_pass(struct decode *d, json_t *value,
                               const struct decode_table *table,
                               bool want_durations, void *object)
{
    struct place here = {table, NULL};
    const char *key;
    json_t *item;

    json_object_foreach(value, key, item)
    {
        const struct decode_field *field = find_field(table, key);
        enum mr_err err;

        if (field == NULL && table->skips_unknown) {
            continue;
        }
        if (field == NULL) {
            return decode_fail(d, "json: unknown field \"%s\"", key);
        }
        if (json_is_null(item) || is_duration(field) != want_durations) {
            continue;
        }
        here.name = field->name;
        err = decode_value(d, &here, item, field, object);
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

static enum mr_err decode_object(struct decode *d, const struct place *place,
                                 const json_t *value,
                                 const struct decode_table *table, void *object)
{
    enum mr_err err;

    if (!json_is_object(value)) {
        return wrong_type(d, place, value,
                          table->go_type != NULL ? table->go_type : "struct");
    }
    /* As in decode_map(). */
    err = decode_pass(d, (json_t *)value, table, false, object);
    return err != MR_OK ? err
                        : decode_pass(d, (json_t *)value, table, true, object);
}

/* ------------------------------------------------------------- bodies */

/* Whether @body nests deeper than the parser's stack should have to bear. */
static bool is_too_deep(struct mr_slice body)
{
    const char *s = body.data;
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < body.len; i++) {
        if (in_string) {
            in_string = s[i] != '"';
            i += s[i] == '\\'; /* What it escapes ends nothing. */
        } else if (s[i] == '"') {
            in_string = true;
        } else if (s[i] == '{' || s[i] == '[') {
            if (++depth > DECODE_DEPTH_MAX) {
                return true;
            }
        } else if ((s[i] == '}' || s[i] == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

/* jansson says "out of memory" at some places only; at the others it calls a
 * text invalid in which there is nothing wrong. */
static bool is_out_of_memory(const json_error_t *error)
{
    static const char surrogate[] = "invalid Unicode";
    enum json_error_code code = json_error_code(error);

    return code == json_error_out_of_memory || error->text[0] == '\0' ||
           (code == json_error_invalid_syntax &&
            strncmp(error->text, surrogate, sizeof surrogate - 1) != 0);
}

static enum mr_err parse_body(struct decode *d, struct mr_slice body)
{
    json_error_t error;
    char why[128];

    if (is_too_deep(body)) {
        return decode_fail(d, "exceeded max depth");
    }
    d->root = json_loadb(body.data == NULL ? "" : body.data, body.len,
                         JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &error);
    if (d->root != NULL) {
        return MR_OK;
    }
    if (decode_syntax(body, why, sizeof why)) {
        return decode_fail(d, "%s", why);
    }
    if (is_out_of_memory(&error)) {
        return MR_E_NOMEM;
    }
    return decode_fail(d, "invalid JSON: %s", error.text);
}

enum mr_err decode_body(struct decode *d, struct mr_slice body,
                        const struct decode_table *table, void *object)
{
    static const struct place top = {NULL, NULL};
    enum mr_err err = parse_body(d, body);

    if (err == MR_OK && !json_is_null(d->root)) {
        err = decode_object(d, &top, d->root, table, object);
    }
    return d->is_out_of_memory ? MR_E_NOMEM : err;
}
