/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: JSON with Consul's member names. */
#include "server/config.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <jansson.h>

#include "base/mem.h"
#include "server/nearest.h"

#define FILE_MAX_BYTES (4 * 1024 * 1024)
#define PATH_LEN 256

/* One file being merged. */
struct file {
    struct server_config *cfg;
    const char *path;
    const char *text; /* NUL-terminated. */
    struct mr_detail *detail;
};

/* The line of the member @name at nesting @depth, so that a person finds it;
 * jansson does not keep positions. The text is valid JSON by now. */
static unsigned line_of(const char *text, const char *name, unsigned depth)
{
    unsigned line = 1;
    unsigned level = 0;
    size_t len = strlen(name);

    for (const char *at = text; *at != '\0'; at++) {
        const char *begin = at + 1;

        if (*at == '\n') {
            line++;
        } else if (*at == '{' || *at == '[') {
            level++;
        } else if (*at == '}' || *at == ']') {
            level--;
        }
        if (*at != '"') {
            continue;
        }
        for (at++; *at != '"'; at++) {
            at += *at == '\\' ? 1 : 0;
        }
        if (level == depth && (size_t)(at - begin) == len &&
            memcmp(begin, name, len) == 0 &&
            at[1 + strspn(at + 1, " \t\r\n")] == ':') {
            return line;
        }
    }
    return line;
}

static unsigned depth_of(const char *path)
{
    unsigned depth = 1;

    for (; *path != '\0'; path++) {
        depth += *path == '.' ? 1 : 0;
    }
    return depth;
}

static const char *leaf_of(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot == NULL ? path : dot + 1;
}

static enum mr_err complain(const struct file *f, const char *path,
                            const char *what)
{
    return mr_fail(f->detail, MR_E_INVALID, "failed to parse %s: line %u: %s",
                   f->path, line_of(f->text, leaf_of(path), depth_of(path)),
                   what);
}

static enum mr_err unknown_key(const struct file *f, const char *path)
{
    struct server_nearest near;
    struct mr_detail what;
    size_t n;
    const struct server_option *options = server_options(&n);

    server_nearest_init(&near, path);
    for (size_t i = 0; i < n; i++) {
        if (options[i].key != NULL) {
            server_nearest_try(&near, options[i].key);
        }
    }
    if (near.name == NULL) {
        (void)mr_fail(&what, MR_E_INVALID, "invalid config key %s", path);
    } else {
        (void)mr_fail(&what, MR_E_INVALID,
                      "invalid config key %s (did you mean %s?)", path,
                      near.name);
    }
    return complain(f, path, what.text);
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

static enum mr_err wrong_type(const struct file *f, const char *path,
                              const char *wanted, const json_t *value)
{
    struct mr_detail what;

    (void)mr_fail(&what, MR_E_INVALID,
                  "'%s' expected type '%s', got unconvertible type '%s'", path,
                  wanted, go_type(value));
    return complain(f, path, what.text);
}

/* Set from text; a refusal gets file and line in front. */
static enum mr_err set_text(const struct file *f, const char *path,
                            const struct server_option *o, const char *text)
{
    struct mr_detail what;
    enum mr_err err = server_config_set(f->cfg, o, text, &what);

    return err == MR_E_INVALID ? complain(f, path, what.text) : err;
}

static enum mr_err set_list(const struct file *f, const char *path,
                            const struct server_option *o, const json_t *value)
{
    size_t n = json_array_size(value);

    if (json_is_string(value)) {
        return set_text(f, path, o, json_string_value(value));
    }
    if (!json_is_array(value)) {
        return wrong_type(f, path, "[]string", value);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        enum mr_err err;

        if (!json_is_string(item)) {
            return wrong_type(f, path, "[]string", item);
        }
        err = set_text(f, path, o, json_string_value(item));
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

static enum mr_err set_pairs(const struct file *f, const char *path,
                             const struct server_option *o, json_t *value)
{
    const char *key;
    json_t *item;

    if (!json_is_object(value)) {
        return wrong_type(f, path, "map[string]string", value);
    }
    json_object_foreach(value, key, item)
    {
        enum mr_err err;

        if (!json_is_string(item)) {
            return wrong_type(f, path, "map[string]string", item);
        }
        err = server_list_put(
            (struct server_list *)(void *)((char *)f->cfg + o->offset), key,
            json_string_value(item));
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

/* A group of settings that turns itself off. */
static bool is_off(const json_t *value)
{
    const json_t *enabled = json_object_get(value, "enabled");

    return json_is_false(enabled) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static enum mr_err set_value(const struct file *f, const char *path,
                             const struct server_option *o, json_t *value)
{
    char number[32];

    switch (o->type) {
    case SERVER_OPTION_BOOL:
        if (!json_is_boolean(value)) {
            return wrong_type(f, path, "bool", value);
        }
        return set_text(f, path, o, json_is_true(value) ? "true" : "false");
    case SERVER_OPTION_INT:
        if (!json_is_integer(value)) {
            return wrong_type(f, path, "int", value);
        }
        (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT,
                       json_integer_value(value));
        return set_text(f, path, o, number);
    case SERVER_OPTION_TEXT:
    case SERVER_OPTION_DURATION:
        if (!json_is_string(value)) {
            return wrong_type(f, path, "string", value);
        }
        return set_text(f, path, o, json_string_value(value));
    case SERVER_OPTION_LIST:
        return set_list(f, path, o, value);
    case SERVER_OPTION_PAIRS:
        return set_pairs(f, path, o, value);
    case SERVER_OPTION_DEFINITIONS:
        return server_definitions_add(&f->cfg->definitions, f->path, f->text,
                                      path, value, f->detail);
    case SERVER_OPTION_ANY:
        return is_off(value) ? MR_OK : set_text(f, path, o, "");
    }
    return MR_OK;
}

/* Whether some option lies below @path. */
static bool is_group(const char *path)
{
    size_t n;
    const struct server_option *options = server_options(&n);
    size_t len = strlen(path);

    for (size_t i = 0; i < n; i++) {
        const char *key = options[i].key;

        if (key != NULL && strncasecmp(key, path, len) == 0 &&
            key[len] == '.') {
            return true;
        }
    }
    return false;
}

static enum mr_err merge_object(const struct file *f, const char *prefix,
                                json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        char path[PATH_LEN];
        const struct server_option *o;
        enum mr_err err;
        int len = snprintf(path, sizeof path, "%s%s", prefix, key);

        if (len < 0 || (size_t)len + 2 > sizeof path) {
            return mr_fail(f->detail, MR_E_INVALID,
                           "failed to parse %s: a member's name is too long",
                           f->path);
        }
        o = server_option_by_key(path);
        if (o != NULL) {
            err = set_value(f, path, o, value);
        } else if (!is_group(path)) {
            err = unknown_key(f, path);
        } else if (!json_is_object(value)) {
            err = wrong_type(f, path, "map[string]interface {}", value);
        } else {
            /* As deep as the table's keys, since unknown groups end above. */
            memcpy(path + len, ".", 2);
            err = merge_object(f, path, value);
        }
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

enum mr_err server_config_parse(struct server_config *cfg, const char *path,
                                struct mr_slice text, struct mr_detail *detail)
{
    json_error_t why;
    char *copy = mr_memdup0(text.data, text.len);
    struct file f = {cfg, path, copy, detail};
    enum mr_err err;
    json_t *root;

    if (copy == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    root = json_loadb(copy, text.len, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL) {
        err = mr_fail(detail, MR_E_INVALID, "failed to parse %s: line %d: %s",
                      path, why.line < 1 ? 1 : why.line, why.text);
    } else if (!json_is_object(root)) {
        err = mr_fail(detail, MR_E_INVALID,
                      "failed to parse %s: want a JSON object", path);
    } else {
        err = merge_object(&f, "", root);
    }
    json_decref(root);
    mr_free(copy);
    return err;
}

/* ---- reading ---- */

static enum mr_err read_file(struct server_config *cfg, const char *path,
                             struct mr_detail *detail)
{
    struct mr_buf text = MR_BUF_INIT;
    enum mr_err err = MR_OK;
    FILE *in = fopen(path, "re");
    uint8_t chunk[4096];
    size_t len;

    if (in == NULL) {
        return mr_fail(detail, MR_E_IO,
                       "config: Open failed on %s. open %s: %s", path, path,
                       strerror(errno));
    }
    mr_buf_init(&text, FILE_MAX_BYTES);
    while ((len = fread(chunk, 1, sizeof chunk, in)) > 0) {
        mr_buf_add(&text, chunk, len);
    }
    if (ferror(in)) {
        err = mr_fail(detail, MR_E_IO, "config: cannot read %s: %s", path,
                      strerror(errno));
    } else if (mr_buf_failed(&text)) {
        err =
            mr_fail(detail, MR_E_INVALID, "config: %s is larger than %d bytes",
                    path, FILE_MAX_BYTES);
    } else {
        err = server_config_parse(cfg, path, mr_buf_slice(&text), detail);
    }
    (void)fclose(in); /* Only read from. */
    mr_buf_deinit(&text);
    return err;
}

static int is_json(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0;
}

static enum mr_err read_dir(struct server_config *cfg, const char *path,
                            struct mr_detail *detail)
{
    struct dirent **entries;
    enum mr_err err = MR_OK;
    int n = scandir(path, &entries, is_json, alphasort);

    if (n < 0) {
        return mr_fail(detail, MR_E_IO, "config: cannot read folder %s: %s",
                       path, strerror(errno));
    }
    for (int i = 0; i < n; i++) {
        char name[4096];

        if (err == MR_OK) {
            (void)snprintf(name, sizeof name, "%s/%s", path,
                           entries[i]->d_name);
            err = read_file(cfg, name, detail);
        }
        free(entries[i]); /* scandir's own memory. */
    }
    free(entries);
    return err;
}

enum mr_err server_config_read(struct server_config *cfg, const char *path,
                               struct mr_detail *detail)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return read_dir(cfg, path, detail);
    }
    return read_file(cfg, path, detail);
}
