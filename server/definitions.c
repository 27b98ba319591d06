/* SPDX-License-Identifier: Apache-2.0 */
/* Services and checks that configuration files define. */
#include "server/definitions.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/mr_define.h"
#include "base/json.h"
#include "base/mem.h"
#include "health/mr_check.h"
#include "server/nearest.h"

#define NAME_CAP 64

static void *proto_alloc(void *arg, size_t size)
{
    (void)arg;
    return mr_malloc(size);
}

static void proto_free(void *arg, void *ptr)
{
    (void)arg;
    mr_free(ptr);
}

static ProtobufCAllocator allocator = {proto_alloc, proto_free, NULL};

static void release(struct server_definition *def)
{
    mr__register__free_unpacked(def->part, &allocator);
    mr_free(def->file);
}

void server_definitions_deinit(struct server_definitions *defs)
{
    for (size_t i = 0; i < defs->n; i++) {
        release(&defs->items[i]);
    }
    mr_free(defs->items);
    defs->items = NULL;
    defs->n = 0;
}

const char *server_definition_id(const struct server_definition *def)
{
    return def->is_service ? def->part->services[0]->id
                           : def->part->checks[0]->check_id;
}

/* Put @def, which is taken, into @defs. */
static enum mr_err put(struct server_definitions *defs,
                       struct server_definition *def)
{
    struct server_definition *items;

    for (size_t i = 0; i < defs->n; i++) {
        struct server_definition *old = &defs->items[i];

        if (old->is_service == def->is_service &&
            strcmp(server_definition_id(old), server_definition_id(def)) == 0) {
            release(old);
            *old = *def;
            return MR_OK;
        }
    }
    items = mr_realloc(defs->items, (defs->n + 1) * sizeof *items);
    if (items == NULL) {
        release(def);
        return MR_E_NOMEM;
    }
    defs->items = items;
    items[defs->n++] = *def;
    return MR_OK;
}

/* ------------------------------------------------------------- complaints */

/* The search for the nearest name; names live only as long as they are told. */
struct search {
    struct server_nearest near;
    char wanted[NAME_CAP];
    char best[NAME_CAP];
};

static void try_name(void *arg, const char *wanted, const char *name)
{
    struct search *s = arg;

    if (s->near.wanted == NULL) {
        (void)snprintf(s->wanted, sizeof s->wanted, "%s", wanted);
        server_nearest_init(&s->near, s->wanted);
    }
    server_nearest_try(&s->near, name);
    if (s->near.name == name) {
        (void)snprintf(s->best, sizeof s->best, "%s", name);
        s->near.name = s->best;
    }
}

/* One definition being read. */
struct reading {
    const char *file;
    const char *text;
    char place[64]; /* "services[1]" */
    unsigned line;
    struct mr_detail *detail;
};

static enum mr_err complain(const struct reading *r,
                            const struct mr_define_problem *p)
{
    const struct search *s = p->arg;
    char path[sizeof r->place + sizeof p->path];
    unsigned line;

    (void)snprintf(path, sizeof path, "%s%s%s", r->place,
                   p->path[0] == '\0' ? "" : ".", p->path);
    line = server_json_line(r->text, path);
    if (p->is_unknown && s->near.name != NULL) {
        return mr_fail(r->detail, MR_E_INVALID,
                       "failed to parse %s: line %u: invalid config key %s "
                       "(did you mean %s?)",
                       r->file, line, path, s->near.name);
    }
    return mr_fail(r->detail, MR_E_INVALID,
                   "failed to parse %s: line %u: %s%s%s", r->file, line,
                   p->is_unknown ? "invalid config key " : path,
                   p->is_unknown ? "" : ": ", p->is_unknown ? path : p->text);
}

/* ------------------------------------------------------------- reading */

static enum mr_err read_one(struct server_definitions *defs,
                            const struct reading *r, bool is_service,
                            const json_t *json)
{
    struct search search = {.near.wanted = NULL};
    struct mr_define_problem problem = {.candidate = try_name, .arg = &search};
    struct server_definition def = {.is_service = is_service};
    struct mr_buf bytes = MR_BUF_INIT;
    enum mr_err err =
        mr_define_read(is_service ? MR_DEFINE_SERVICE : MR_DEFINE_CHECK, json,
                       &bytes, &problem);

    if (err == MR_E_INVALID) {
        err = complain(r, &problem);
    }
    if (err == MR_OK) {
        def.line = r->line;
        def.file = mr_strdup(r->file);
        def.part = mr__register__unpack(&allocator, bytes.len, bytes.data);
        err = MR_E_NOMEM;
        if (def.file != NULL && def.part != NULL) {
            err = put(defs, &def);
        } else {
            release(&def);
        }
    }
    mr_buf_deinit(&bytes);
    return err;
}

static enum mr_err read_list(struct server_definitions *defs, struct reading *r,
                             const char *key, bool is_service,
                             const json_t *list)
{
    size_t n = json_array_size(list);
    unsigned *lines = mr_calloc(n + 1, sizeof *lines);
    enum mr_err err = lines == NULL ? MR_E_NOMEM : MR_OK;

    if (lines != NULL) {
        server_json_element_lines(r->text, key, n, lines);
    }
    for (size_t i = 0; i < n && err == MR_OK; i++) {
        (void)snprintf(r->place, sizeof r->place, "%s[%zu]", key, i);
        r->line = lines[i];
        err = read_one(defs, r, is_service, json_array_get(list, i));
    }
    mr_free(lines);
    return err;
}

enum mr_err server_definitions_add(struct server_definitions *defs,
                                   const char *path, const char *text,
                                   const char *key, const json_t *value,
                                   struct mr_detail *detail)
{
    struct reading r = {.file = path, .text = text, .detail = detail};
    bool is_service = strncasecmp(key, "service", 7) == 0;
    bool is_list = key[strlen(key) - 1] == 's' || key[strlen(key) - 1] == 'S';

    (void)snprintf(r.place, sizeof r.place, "%s", key);
    if (!is_list) {
        r.line = server_json_line(text, key);
        return read_one(defs, &r, is_service, value);
    }
    if (!json_is_array(value)) {
        return mr_fail(detail, MR_E_INVALID,
                       "failed to parse %s: line %u: '%s' expected type "
                       "'[]interface {}'",
                       path, server_json_line(text, key), key);
    }
    return read_list(defs, &r, key, is_service, value);
}

/* ------------------------------------------------------------- the whole */

enum mr_err server_definitions_check(const struct server_definitions *defs,
                                     bool may_run_scripts,
                                     struct mr_detail *detail)
{
    for (size_t i = 0; i < defs->n; i++) {
        const struct server_definition *def = &defs->items[i];

        for (size_t k = 0; k < def->part->n_checks; k++) {
            const char *refusal =
                mr_check_refusal(def->part->checks[k], may_run_scripts, true);

            if (refusal != NULL) {
                return mr_fail(detail, MR_E_INVALID,
                               "%s: line %u: %s \"%s\": %s", def->file,
                               def->line, def->is_service ? "service" : "check",
                               server_definition_id(def), refusal);
            }
        }
    }
    return MR_OK;
}

void server_definitions_json(const struct server_definitions *defs,
                             struct mr_buf *out)
{
    struct mr_json j;

    mr_json_init(&j, out);
    mr_json_array(&j);
    for (size_t i = 0; i < defs->n; i++) {
        mr_json_str(&j, server_definition_id(&defs->items[i]));
    }
    mr_json_array_end(&j);
}
