/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions of configuration files.
 *
 * One walk over the JSON beside the tables of the API's bodies checks names and
 * types, so that what is wrong is told with its place, and gives every member
 * the name that the tables have. What comes out is decoded and validated as if
 * the API had got it.
 */
#include "api/mr_define.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/define_check.h"
#include "api/self.h"
#include "base/mem.h"
#include "base/text.h"

#define NAME_MAX_LEN 64

/* Where the walk is. */
struct walk {
    struct mr_define_problem *problem;
    char path[sizeof((struct mr_define_problem *)0)->path];
    size_t len;
};

static enum mr_err translate(struct walk *w, const json_t *value,
                             const struct decode_table *table, json_t **out);

/* ------------------------------------------------------------- names */

/* Whether both are the same but for case and underscores. */
static bool same_name(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += strspn(a, "_");
        b += strspn(b, "_");
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
            return false;
        }
        if (*a == '\0') {
            return true;
        }
    }
}

/* "TLSSkipVerify" as the files have it: "tls_skip_verify". */
static void snake(const char *name, char out[NAME_MAX_LEN])
{
    size_t len = 0;

    for (size_t i = 0; name[i] != '\0' && len + 2 < NAME_MAX_LEN; i++) {
        bool is_upper = isupper((unsigned char)name[i]) != 0;
        bool begins = i > 0 && is_upper &&
                      (islower((unsigned char)name[i - 1]) ||
                       islower((unsigned char)name[i + 1]));

        if (begins) {
            out[len++] = '_';
        }
        out[len++] = (char)tolower((unsigned char)name[i]);
    }
    out[len] = '\0';
}

static const struct decode_field *find_field(const struct decode_table *table,
                                             const char *name)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        if (same_name(table->fields[i].name, name)) {
            return &table->fields[i];
        }
    }
    return NULL;
}

/* ------------------------------------------------------------- places */

/* Go down to what @fmt names; the result brings back up. */
static MR_PRINTF(2, 3) size_t enter(struct walk *w, const char *fmt, ...)
{
    size_t before = w->len;
    size_t left = sizeof w->path - w->len;
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(w->path + w->len, left, fmt, args);
    va_end(args);
    w->len += len < 0 ? 0 : (size_t)len < left ? (size_t)len : left - 1;
    return before;
}

static void leave(struct walk *w, size_t before)
{
    w->len = before;
    w->path[before] = '\0';
}

static MR_PRINTF(2, 3) enum mr_err
    complain(struct walk *w, const char *fmt, ...)
{
    struct mr_define_problem *p = w->problem;
    va_list args;

    memcpy(p->path, w->path, sizeof p->path);
    va_start(args, fmt);
    (void)vsnprintf(p->text, sizeof p->text, fmt, args);
    va_end(args);
    return MR_E_INVALID;
}

static const char *go_type(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "map[string]interface {}";
    case JSON_ARRAY:
        return "[]interface {}";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "float64";
    case JSON_TRUE:
    case JSON_FALSE:
        return "bool";
    case JSON_NULL:
        break;
    }
    return "nil";
}

static enum mr_err wrong_type(struct walk *w, const char *wanted,
                              const json_t *value)
{
    return complain(w, "expected type '%s', got unconvertible type '%s'",
                    wanted, go_type(value));
}

static enum mr_err unknown(struct walk *w, const struct decode_table *table,
                           const char *key)
{
    struct mr_define_problem *p = w->problem;
    char name[NAME_MAX_LEN];

    for (size_t i = 0; i < table->n_fields && p->candidate != NULL; i++) {
        snake(table->fields[i].name, name);
        p->candidate(p->arg, key, name);
    }
    p->is_unknown = true;
    return complain(w, "invalid config key %.100s", key);
}

/* ------------------------------------------------------------- values */

static enum mr_err check_duration(struct walk *w, const json_t *value)
{
    struct mr_detail why;
    int64_t ns;

    if (!json_is_string(value)) {
        return wrong_type(w, "string", value);
    }
    if (mr_duration_parse(json_string_value(value), &ns, &why) != MR_OK) {
        return complain(w, "invalid duration: \"%.80s\": %.200s",
                        json_string_value(value), why.text);
    }
    return MR_OK;
}

static enum mr_err check_texts(struct walk *w, const json_t *value)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        size_t before = enter(w, "[%zu]", i);

        if (!json_is_string(item)) {
            return wrong_type(w, "string", item);
        }
        leave(w, before);
    }
    return json_is_array(value) ? MR_OK : wrong_type(w, "[]string", value);
}

static enum mr_err translate_list(struct walk *w, const json_t *value,
                                  const struct decode_table *table,
                                  json_t **out)
{
    json_t *list;
    enum mr_err err = MR_OK;

    if (!json_is_array(value)) {
        return wrong_type(w, "[]interface {}", value);
    }
    list = json_array();
    for (size_t i = 0; i < json_array_size(value) && err == MR_OK; i++) {
        size_t before = enter(w, "[%zu]", i);
        json_t *item = NULL;

        err = translate(w, json_array_get(value, i), table, &item);
        if (err == MR_OK && json_array_append_new(list, item) != 0) {
            err = MR_E_NOMEM;
        }
        leave(w, before);
    }
    if (err != MR_OK || list == NULL) {
        json_decref(list);
        return err != MR_OK ? err : MR_E_NOMEM;
    }
    *out = list;
    return MR_OK;
}

static enum mr_err translate_value(struct walk *w, const json_t *value,
                                   const struct decode_field *field,
                                   json_t **out);

/* A map keeps its keys: they are the user's. */
static enum mr_err translate_map(struct walk *w, json_t *value,
                                 const struct decode_table *table, json_t **out)
{
    json_t *map;
    const char *key;
    json_t *item;
    enum mr_err err = MR_OK;

    if (!json_is_object(value)) {
        return wrong_type(w, "map[string]interface {}", value);
    }
    map = json_object();
    json_object_foreach(value, key, item)
    {
        size_t before = enter(w, "%s%.100s", w->len > 0 ? "." : "", key);
        json_t *made = NULL;

        err = table->value != NULL
                  ? translate_value(w, item, table->value, &made)
                  : translate(w, item, table, &made);
        if (err == MR_OK && json_object_set_new(map, key, made) != 0) {
            err = MR_E_NOMEM;
        }
        leave(w, before);
        if (err != MR_OK) {
            break;
        }
    }
    if (err != MR_OK || map == NULL) {
        json_decref(map);
        return err != MR_OK ? err : MR_E_NOMEM;
    }
    *out = map;
    return MR_OK;
}

/* Check the type of @value and give what the tables decode: a new reference.
 * shape: table */
static enum mr_err translate_value(struct walk *w, const json_t *value,
                                   const struct decode_field *field,
                                   json_t **out)
{
    enum mr_err err = MR_OK;

    switch (field->kind) {
    case DECODE_TEXT:
        err = json_is_string(value) ? MR_OK : wrong_type(w, "string", value);
        break;
    case DECODE_INT:
        err = json_is_integer(value) ? MR_OK : wrong_type(w, "int", value);
        break;
    case DECODE_BOOL:
        err = json_is_boolean(value) ? MR_OK : wrong_type(w, "bool", value);
        break;
    case DECODE_DURATION:
        err = check_duration(w, value);
        break;
    case DECODE_TEXTS:
        err = check_texts(w, value);
        break;
    case DECODE_OBJECT:
        return translate(w, value, field->sub, out);
    case DECODE_OBJECTS:
        return translate_list(w, value, field->sub, out);
    case DECODE_MAP:
        /* jansson's iterators want it writable; nothing is written. */
        return translate_map(w, (json_t *)value, field->sub, out);
    case DECODE_EMPTY:
        if (json_object_size(value) > 0 || json_array_size(value) > 0) {
            err = complain(w, "is not supported by this agent");
        }
        break;
    case DECODE_DELAY: /* Of sessions; no definition has them. */
    case DECODE_CHECK_IDS:
    case DECODE_IGNORED:
        break;
    }
    if (err == MR_OK) {
        *out = json_incref((json_t *)value); /* Only counted. */
    }
    return err;
}

/* The object @value with the names of @table: a new reference. */
static enum mr_err translate(struct walk *w, const json_t *value,
                             const struct decode_table *table, json_t **out)
{
    json_t *object;
    const char *key;
    json_t *item;
    enum mr_err err = MR_OK;

    if (!json_is_object(value)) {
        return wrong_type(w, "map[string]interface {}", value);
    }
    object = json_object();
    json_object_foreach((json_t *)value, key, item) /* As above. */
    {
        const struct decode_field *field = find_field(table, key);
        size_t before = enter(w, "%s%.100s", w->len > 0 ? "." : "", key);
        json_t *made = NULL;

        if (field == NULL) {
            err = unknown(w, table, key);
        } else if (!json_is_null(item)) {
            err = translate_value(w, item, field, &made);
            if (err == MR_OK &&
                json_object_set_new(object, field->name, made) != 0) {
                err = MR_E_NOMEM;
            }
        }
        leave(w, before);
        if (err != MR_OK) {
            break;
        }
    }
    if (err != MR_OK || object == NULL) {
        json_decref(object);
        return err != MR_OK ? err : MR_E_NOMEM;
    }
    *out = object;
    return MR_OK;
}

/* ------------------------------------------------------------- the whole */

static void pack(const Mr__Register *part, struct mr_buf *out)
{
    uint8_t *at = mr_buf_grow(out, mr__register__get_packed_size(part));

    if (at != NULL) {
        (void)mr__register__pack(part, at);
    }
}

static enum mr_err read_service(struct decode *d, struct mr_slice body,
                                struct mr_buf *out)
{
    Mr__Register part = MR__REGISTER__INIT;
    struct define_service def;
    Mr__Service *services[] = {&def.service};
    enum mr_err err = define_file_service(d, body, &def);

    if (err == MR_OK) {
        part.services = services;
        part.n_services = 1;
        part.checks = def.checks;
        part.n_checks = def.n_checks;
        pack(&part, out);
    }
    return err;
}

static enum mr_err read_check(struct decode *d, struct mr_slice body,
                              struct mr_buf *out)
{
    Mr__Register part = MR__REGISTER__INIT;
    Mr__Check check;
    Mr__Check *checks[] = {&check};
    enum mr_err err = define_file_check(d, body, &check);

    if (err == MR_OK) {
        part.checks = checks;
        part.n_checks = 1;
        pack(&part, out);
    }
    return err;
}

static int add_text(const char *text, size_t len, void *arg)
{
    mr_buf_add(arg, text, len);
    return 0;
}

static enum mr_err read_translated(enum mr_define_kind kind, const json_t *json,
                                   struct mr_buf *out,
                                   struct mr_define_problem *out_problem)
{
    struct mr_buf text = MR_BUF_INIT;
    struct decode d;
    enum mr_err err = MR_E_NOMEM;

    decode_init(&d);
    if (json_dump_callback(json, add_text, &text, JSON_COMPACT) == 0 &&
        !mr_buf_failed(&text)) {
        err = kind == MR_DEFINE_SERVICE
                  ? read_service(&d, mr_buf_slice(&text), out)
                  : read_check(&d, mr_buf_slice(&text), out);
    }
    if (err == MR_E_INVALID) {
        out_problem->path[0] = '\0';
        (void)snprintf(out_problem->text, sizeof out_problem->text, "%.500s",
                       d.error);
    }
    decode_deinit(&d);
    mr_buf_deinit(&text);
    return mr_buf_failed(out) ? MR_E_NOMEM : err;
}

enum mr_err mr_define_read(enum mr_define_kind kind, const json_t *json,
                           struct mr_buf *out,
                           struct mr_define_problem *out_problem)
{
    struct walk w = {.problem = out_problem};
    json_t *translated = NULL;
    enum mr_err err;

    out_problem->is_unknown = false;
    err = translate(&w, json,
                    kind == MR_DEFINE_SERVICE ? &define_file_service_table
                                              : &define_file_check_table,
                    &translated);
    if (err == MR_OK) {
        err = read_translated(kind, translated, out, out_problem);
    }
    json_decref(translated);
    return err;
}

void mr_define_command(const struct mr_api_agent *agent, Mr__Register *part,
                       struct mr_buf *out)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register *base;
    struct decode d;

    decode_init(&d);
    base = self_register(agent, &d);
    if (base == NULL) {
        out->failed = true;
    } else {
        base->services = part->services;
        base->n_services = part->n_services;
        base->checks = part->checks;
        base->n_checks = part->n_checks;
        base->keep_check_state = true;
        cmd.op_case = MR__COMMAND__OP_REGISTER;
        cmd.register_ = base;
        mr_kv_command_encode(&cmd, out);
    }
    decode_deinit(&d);
}
