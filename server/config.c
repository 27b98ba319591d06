/* SPDX-License-Identifier: Apache-2.0 */
/* Values of options: defaults, setting from text, comparing, printing. */
#include "server/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

static bool *as_bool(struct server_config *cfg, const struct server_option *o)
{
    return (bool *)(void *)((char *)cfg + o->offset);
}

static int64_t *as_int(struct server_config *cfg, const struct server_option *o)
{
    return (int64_t *)(void *)((char *)cfg + o->offset);
}

static char **as_text(struct server_config *cfg, const struct server_option *o)
{
    return (char **)(void *)((char *)cfg + o->offset);
}

static struct server_list *as_list(struct server_config *cfg,
                                   const struct server_option *o)
{
    return (struct server_list *)(void *)((char *)cfg + o->offset);
}

static struct server_definitions *as_definitions(struct server_config *cfg,
                                                 const struct server_option *o)
{
    return (struct server_definitions *)(void *)((char *)cfg + o->offset);
}

static bool is_kept(const struct server_option *o)
{
    return o->use == SERVER_OPTION_LIVE || o->use == SERVER_OPTION_START;
}

/* The name under which the user knows an option. */
static const char *name_of(const struct server_option *o)
{
    return o->key != NULL ? o->key : o->flag;
}

/* ---- lists ---- */

enum mr_err server_list_add(struct server_list *list, const char *text)
{
    char **items = mr_realloc(list->items, (list->n + 1) * sizeof *items);

    if (items == NULL) {
        return MR_E_NOMEM;
    }
    list->items = items;
    items[list->n] = mr_strdup(text);
    if (items[list->n] == NULL) {
        return MR_E_NOMEM;
    }
    list->n++;
    return MR_OK;
}

enum mr_err server_list_put(struct server_list *pairs, const char *key,
                            const char *value)
{
    enum mr_err err;

    for (size_t i = 0; i + 1 < pairs->n; i += 2) {
        if (strcmp(pairs->items[i], key) == 0) {
            char *copy = mr_strdup(value);

            if (copy == NULL) {
                return MR_E_NOMEM;
            }
            mr_free(pairs->items[i + 1]);
            pairs->items[i + 1] = copy;
            return MR_OK;
        }
    }
    err = server_list_add(pairs, key);
    if (err == MR_OK && server_list_add(pairs, value) != MR_OK) {
        mr_free(pairs->items[--pairs->n]);
        err = MR_E_NOMEM;
    }
    return err;
}

void server_list_deinit(struct server_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        mr_free(list->items[i]);
    }
    mr_free(list->items);
    list->items = NULL;
    list->n = 0;
}

/* ---- setting ---- */

static enum mr_err set_bool(bool *out, const struct server_option *o,
                            const char *text, struct mr_detail *detail)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

    for (size_t i = 0; i < MR_ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return MR_OK;
        }
    }
    return mr_fail(detail, MR_E_INVALID,
                   "%s: invalid value \"%s\": want true or false", name_of(o),
                   text);
}

static enum mr_err set_int(int64_t *out, const struct server_option *o,
                           const char *text, struct mr_detail *detail)
{
    char *end;
    long long n;
    bool is_port = o->key != NULL && strncmp(o->key, "ports.", 6) == 0;

    errno = 0;
    n = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) {
        return mr_fail(detail, MR_E_INVALID,
                       "%s: invalid value \"%s\": want a number", name_of(o),
                       text);
    }
    if (n < o->min || n > o->max || (is_port && n == 0)) {
        return mr_fail(detail, MR_E_INVALID,
                       "%s: invalid %s: %lld (want %lld to %lld)", name_of(o),
                       is_port ? "port" : "value", n,
                       is_port ? 1LL : (long long)o->min, (long long)o->max);
    }
    *out = n;
    return MR_OK;
}

static enum mr_err set_duration(int64_t *out, const struct server_option *o,
                                const char *text, struct mr_detail *detail)
{
    struct mr_detail why;
    struct mr_buf range = MR_BUF_INIT;
    int64_t ns;
    enum mr_err err;

    if (mr_duration_parse(text, &ns, &why) != MR_OK) {
        return mr_fail(detail, MR_E_INVALID,
                       "%s: invalid duration: \"%.80s\": %.300s", name_of(o),
                       text, why.text);
    }
    if (ns >= o->min && ns <= o->max) {
        *out = ns;
        return MR_OK;
    }
    mr_duration_format(&range, o->min);
    mr_buf_str(&range, " to ");
    mr_duration_format(&range, o->max);
    err =
        mr_fail(detail, MR_E_INVALID, "%s: invalid duration: \"%s\" (want %s)",
                name_of(o), text, mr_buf_cstr(&range));
    mr_buf_deinit(&range);
    return err;
}

static enum mr_err set_text(char **out, const char *text)
{
    char *copy = mr_strdup(text);

    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    mr_free(*out);
    *out = copy;
    return MR_OK;
}

static enum mr_err set_pair(struct server_list *out,
                            const struct server_option *o, const char *text,
                            struct mr_detail *detail)
{
    const char *equals = strchr(text, '=');
    char *key;
    enum mr_err err;

    if (equals == NULL || equals == text) {
        return mr_fail(detail, MR_E_INVALID,
                       "%s: invalid value \"%s\": want key=value", name_of(o),
                       text);
    }
    key = mr_memdup0(text, (size_t)(equals - text));
    if (key == NULL) {
        return MR_E_NOMEM;
    }
    err = server_list_put(out, key, equals + 1);
    mr_free(key);
    return err;
}

/* A Consul option that this program does not have. */
static enum mr_err set_foreign(struct server_config *cfg,
                               const struct server_option *o, const char *text,
                               struct mr_detail *detail)
{
    struct mr_detail warning;

    if (o->initial != NULL && strcmp(o->initial, text) == 0) {
        return MR_OK; /* Asks for what is the case anyway. */
    }
    if (o->use == SERVER_OPTION_REFUSED) {
        return mr_fail(detail, MR_E_INVALID, "%s is not supported: %s",
                       name_of(o), o->help);
    }
    (void)mr_fail(&warning, MR_E_INVALID, "ignoring %s: %s", name_of(o),
                  o->help);
    return server_list_add(&cfg->warnings, warning.text);
}

static enum mr_err set_kept(struct server_config *cfg,
                            const struct server_option *option,
                            const char *text, struct mr_detail *detail)
{
    switch (option->type) {
    case SERVER_OPTION_BOOL:
        return set_bool(as_bool(cfg, option), option, text, detail);
    case SERVER_OPTION_INT:
        return set_int(as_int(cfg, option), option, text, detail);
    case SERVER_OPTION_DURATION:
        return set_duration(as_int(cfg, option), option, text, detail);
    case SERVER_OPTION_TEXT:
        return set_text(as_text(cfg, option), text);
    case SERVER_OPTION_LIST:
        return server_list_add(as_list(cfg, option), text);
    case SERVER_OPTION_PAIRS:
        return set_pair(as_list(cfg, option), option, text, detail);
    case SERVER_OPTION_DEFINITIONS: /* They are no text. */
    case SERVER_OPTION_ANY:
        break;
    }
    return MR_OK;
}

enum mr_err server_config_set(struct server_config *cfg,
                              const struct server_option *option,
                              const char *text, struct mr_detail *detail)
{
    size_t n;
    const struct server_option *options = server_options(&n);
    enum mr_err err;

    if (!is_kept(option)) {
        return set_foreign(cfg, option, text, detail);
    }
    err = set_kept(cfg, option, text, detail);
    mr_assert(n <= SERVER_OPTIONS_MAX);
    if (err == MR_OK && option >= options && option < options + n) {
        cfg->is_given[option - options] = true;
    }
    return err;
}

/* ---- the whole ---- */

enum mr_err server_config_init(struct server_config *cfg)
{
    size_t n;
    const struct server_option *options = server_options(&n);

    memset(cfg, 0, sizeof *cfg);
    for (size_t i = 0; i < n; i++) {
        struct mr_detail detail;
        enum mr_err err;

        if (!is_kept(&options[i]) || options[i].initial == NULL) {
            continue;
        }
        err = server_config_set(cfg, &options[i], options[i].initial, &detail);
        mr_assert(err == MR_OK || err == MR_E_NOMEM);
        if (err != MR_OK) {
            server_config_deinit(cfg);
            return err;
        }
    }
    memset(cfg->is_given, 0, sizeof cfg->is_given);
    return MR_OK;
}

bool server_config_given(const struct server_config *cfg, const char *key)
{
    size_t n;
    const struct server_option *option = server_option_by_key(key);

    mr_assert(option != NULL);
    return cfg->is_given[option - server_options(&n)];
}

static void forget(struct server_config *cfg, const struct server_option *o)
{
    switch (o->type) {
    case SERVER_OPTION_TEXT:
        mr_free(*as_text(cfg, o));
        break;
    case SERVER_OPTION_LIST:
    case SERVER_OPTION_PAIRS:
        server_list_deinit(as_list(cfg, o));
        break;
    case SERVER_OPTION_DEFINITIONS:
        server_definitions_deinit(as_definitions(cfg, o));
        break;
    case SERVER_OPTION_BOOL:
    case SERVER_OPTION_INT:
    case SERVER_OPTION_DURATION:
    case SERVER_OPTION_ANY:
        break;
    }
}

void server_config_deinit(struct server_config *cfg)
{
    size_t n;
    const struct server_option *options = server_options(&n);

    for (size_t i = 0; i < n; i++) {
        if (is_kept(&options[i])) {
            forget(cfg, &options[i]);
        }
    }
    mr_free(cfg->bind_ip);
    mr_free(cfg->advertise_ip);
    server_list_deinit(&cfg->http_ips);
    server_list_deinit(&cfg->dns_ips);
    server_list_deinit(&cfg->warnings);
    memset(cfg, 0, sizeof *cfg);
}

void server_config_json(const struct server_config *cfg,
                        const struct server_option *option, struct mr_buf *out)
{
    struct server_config *c = (struct server_config *)cfg; /* Read only. */
    struct mr_json j;
    struct mr_buf text = MR_BUF_INIT;

    mr_json_init(&j, out);
    switch (option->type) {
    case SERVER_OPTION_BOOL:
        mr_json_bool(&j, *as_bool(c, option));
        break;
    case SERVER_OPTION_INT:
        mr_json_i64(&j, *as_int(c, option));
        break;
    case SERVER_OPTION_DURATION:
        mr_duration_format(&text, *as_int(c, option));
        mr_json_str(&j, mr_buf_cstr(&text));
        mr_buf_deinit(&text);
        break;
    case SERVER_OPTION_TEXT:
        mr_json_str(&j, *as_text(c, option));
        break;
    case SERVER_OPTION_LIST:
    case SERVER_OPTION_PAIRS: {
        const struct server_list *list = as_list(c, option);
        bool is_list = option->type == SERVER_OPTION_LIST;

        is_list ? mr_json_array(&j) : mr_json_object(&j);
        for (size_t i = 0; i < list->n; i++) {
            if (!is_list && i % 2 == 0) {
                mr_json_key(&j, list->items[i]);
            } else {
                mr_json_str(&j, list->items[i]);
            }
        }
        is_list ? mr_json_array_end(&j) : mr_json_object_end(&j);
        break;
    }
    case SERVER_OPTION_DEFINITIONS:
        server_definitions_json(as_definitions(c, option), out);
        break;
    case SERVER_OPTION_ANY:
        mr_json_null(&j);
        break;
    }
}

void server_config_diff(
    const struct server_config *a, const struct server_config *b,
    void (*cb)(void *arg, const struct server_option *option), void *arg)
{
    struct mr_buf ja = MR_BUF_INIT;
    struct mr_buf jb = MR_BUF_INIT;
    size_t n;
    const struct server_option *options = server_options(&n);

    for (size_t i = 0; i < n; i++) {
        if (!is_kept(&options[i])) {
            continue;
        }
        mr_buf_reset(&ja);
        mr_buf_reset(&jb);
        server_config_json(a, &options[i], &ja);
        server_config_json(b, &options[i], &jb);
        if (!mr_slice_eq(mr_buf_slice(&ja), mr_buf_slice(&jb))) {
            cb(arg, &options[i]);
        }
    }
    mr_buf_deinit(&ja);
    mr_buf_deinit(&jb);
}
