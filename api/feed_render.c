/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of watch streams.
 *
 * The events of one revision are collected before they are written, because all
 * but the last say "more", and a filter may take away the last.
 */
#include "api/feed_render.h"

#include <string.h>
#include <strings.h>

#include "api/listing.h"
#include "api/registry_render.h"
#include "api/shapes.h"
#include "base/json.h"

/* The service that is the servers themselves, which nobody calls. */
#define SERVERS "consul"

struct event {
    enum mr_kv_action action;
    size_t at; /* In objects. */
    size_t len;
};

bool feed_render_init(struct feed_render *r, const struct api_watch_spec *spec,
                      size_t max_bytes)
{
    memset(r, 0, sizeof *r);
    r->spec = spec;
    mr_buf_init(&r->out, max_bytes);
    mr_buf_init(&r->objects, max_bytes);
    mr_buf_init(&r->events, max_bytes);
    if (spec->kind == API_WATCH_REGISTRY) {
        r->list = registry_list_new();
        return r->list != NULL;
    }
    return true;
}

void feed_render_deinit(struct feed_render *r)
{
    mr_buf_deinit(&r->out);
    mr_buf_deinit(&r->objects);
    mr_buf_deinit(&r->events);
    registry_list_free(r->list);
}

/* ------------------------------------------------------------- lines */

static const char *action_text(enum mr_kv_action action)
{
    static const char *const texts[] = {"create", "update", "delete"};

    return texts[action];
}

/* {"index":N,"action":"...","more":true,"object":{...}} */
static void write_json(struct feed_render *r, const char *action,
                       uint64_t revision, bool more, struct mr_slice object)
{
    struct mr_json j;

    mr_json_init(&j, &r->out);
    mr_json_object(&j);
    mr_json_ku64(&j, "index", revision);
    mr_json_kstr(&j, "action", action);
    if (more) {
        mr_json_kbool(&j, "more", true);
    }
    if (object.len > 0) {
        mr_json_key(&j, r->list != NULL ? "service" : "object");
        mr_json_raw(&j, object);
    }
    mr_json_object_end(&j);
}

/* go-micro's registry.Result, whose members have no JSON names. */
static void write_result(struct feed_render *r, const char *action,
                         struct mr_slice object)
{
    struct mr_json j;

    mr_json_init(&j, &r->out);
    mr_json_object(&j);
    mr_json_kstr(&j, "Action", action);
    mr_json_key(&j, "Service");
    mr_json_raw(&j, object);
    mr_json_object_end(&j);
    mr_buf_byte(&r->out, '\n');
}

static void write_line(struct feed_render *r, const char *action,
                       uint64_t revision, bool more, struct mr_slice object)
{
    switch (r->spec->format) {
    case API_WATCH_WEBSOCKET:
        if (object.len > 0) {
            write_result(r, action, object);
        }
        break;
    case API_WATCH_SSE:
        mr_buf_printf(&r->out, "event: %s\n", action);
        if (!more) {
            mr_buf_printf(&r->out, "id: %llu\n", (unsigned long long)revision);
        }
        mr_buf_str(&r->out, "data: ");
        write_json(r, action, revision, more, object);
        mr_buf_str(&r->out, "\n\n");
        break;
    case API_WATCH_LINES:
        write_json(r, action, revision, more, object);
        mr_buf_byte(&r->out, '\n');
        break;
    }
}

void feed_render_mark(struct feed_render *r, const char *action,
                      uint64_t revision)
{
    write_line(r, action, revision, false, mr_slice(NULL, 0));
}

/* The code of a failed buffer. */
static enum mr_err check_buffers(const struct feed_render *r)
{
    if (!mr_buf_failed(&r->out) && !mr_buf_failed(&r->objects) &&
        !mr_buf_failed(&r->events)) {
        return MR_OK;
    }
    return r->out.len + r->objects.len > r->out.limit / 2 ? MR_E_TOOBIG
                                                          : MR_E_NOMEM;
}

/* ------------------------------------------------------------- objects */

static void write_name(struct mr_json *j, const struct mr_kv_service_name *name)
{
    mr_json_object(j);
    mr_json_kstr(j, "Name", name->name);
    mr_json_key(j, "Tags");
    shape_texts(j, name->tags, name->n_tags);
    mr_json_object_end(j);
}

static enum mr_err write_object(struct feed_render *r,
                                const struct mr_kv_change *change,
                                struct mr_buf *out)
{
    struct mr_json j;

    mr_json_init(&j, out);
    switch (change->object) {
    case MR_KV_OBJECT_KEY:
        shape_key(&j, change->u.key);
        break;
    case MR_KV_OBJECT_NODE:
        shape_node(&j, change->u.node);
        break;
    case MR_KV_OBJECT_CHECK:
        shape_check(&j, change->u.check, SHAPE_CHECK_CATALOG);
        break;
    case MR_KV_OBJECT_NAME:
        write_name(&j, change->u.name);
        break;
    case MR_KV_OBJECT_INSTANCE:
        if (r->list != NULL) {
            return registry_write_instance(r->list, change->u.instance, out);
        }
        shape_instance(&j, change->u.instance);
        break;
    }
    return MR_OK;
}

/* ------------------------------------------------------------- filters */

/* The name of @spec that is exactly @text, or NULL. */
static const struct api_watch_name *find_name(const struct api_watch_spec *spec,
                                              const char *text)
{
    size_t low = 0;
    size_t high = spec->n_names;
    size_t len = strlen(text);

    while (low < high) {
        size_t at = low + (high - low) / 2;
        const struct mr_slice name = spec->names[at].name;
        int order = memcmp(name.data, text, name.len < len ? name.len : len);

        if (order == 0 && name.len == len) {
            return &spec->names[at];
        }
        if (order < 0 || (order == 0 && name.len < len)) {
            low = at + 1;
        } else {
            high = at;
        }
    }
    return NULL;
}

/* Whether an object that has (or had) @status is shown. */
static bool shows_status(const struct api_watch_spec *spec, const char *status)
{
    switch (spec->kind) {
    case API_WATCH_REGISTRY:
        return strcmp(status, "critical") != 0;
    case API_WATCH_SERVICE:
        return !spec->passing_only || strcmp(status, "passing") == 0;
    case API_WATCH_CHECKS:
        return spec->state == NULL || strcmp(status, spec->state) == 0;
    case API_WATCH_KEY:
    case API_WATCH_PREFIX:
    case API_WATCH_SERVICES:
    case API_WATCH_NODES:
        break;
    }
    return true;
}

/* Whether the object is one of those that were asked for at all. */
static bool is_wanted(const struct feed_render *r,
                      const struct mr_kv_change *change)
{
    const struct api_watch_spec *spec = r->spec;
    const struct api_watch_name *name;

    if (spec->kind == API_WATCH_CHECKS) {
        return spec->service == NULL ||
               strcasecmp(change->u.check->service_name, spec->service) == 0;
    }
    if (spec->kind != API_WATCH_REGISTRY) {
        return true;
    }
    if (spec->n_names == 0) {
        return strcmp(change->u.instance->service->name, SERVERS) != 0;
    }
    name = find_name(spec, change->u.instance->service->name);
    return name != NULL &&
           (!r->is_resuming ||
            (name->index != 0 && change->revision > name->index));
}

/* What @change is for those who see only what the filter shows; false: nothing
 * at all. */
static bool filter(const struct feed_render *r,
                   const struct mr_kv_change *change,
                   enum mr_kv_action *out_action)
{
    const char *status = change->object == MR_KV_OBJECT_CHECK
                             ? change->u.check->status
                         : change->object == MR_KV_OBJECT_INSTANCE
                             ? listing_status(change->u.instance)
                             : "";
    bool was_shown;
    bool is_shown;

    if (!is_wanted(r, change)) {
        return false;
    }
    was_shown = change->action != MR_KV_ACTION_CREATE &&
                shows_status(r->spec, change->was_status);
    is_shown =
        change->action != MR_KV_ACTION_DELETE && shows_status(r->spec, status);
    *out_action = !was_shown ? MR_KV_ACTION_CREATE
                  : is_shown ? MR_KV_ACTION_UPDATE
                             : MR_KV_ACTION_DELETE;
    return was_shown || is_shown;
}

/* ------------------------------------------------------------- changes */

/* Write the collected events. */
static void flush(struct feed_render *r, uint64_t revision)
{
    const struct event *events =
        (const struct event *)(const void *)r->events.data;
    size_t n = r->events.len / sizeof *events;

    for (size_t i = 0; i < n; i++) {
        write_line(r, action_text(events[i].action), revision, i + 1 < n,
                   mr_slice(r->objects.data + events[i].at, events[i].len));
    }
    mr_buf_reset(&r->objects);
    mr_buf_reset(&r->events);
}

/* Take up the object of @change under @action. */
static enum mr_err collect(struct feed_render *r, enum mr_kv_action action,
                           const struct mr_kv_change *change)
{
    struct event event = {.action = action, .at = r->objects.len};
    enum mr_err err = write_object(r, change, &r->objects);

    event.len = r->objects.len - event.at;
    mr_buf_add(&r->events, &event, sizeof event);
    return err;
}

/* What @change says of the instance before; only with change->was_service. */
static struct mr_kv_instance before(const struct mr_kv_change *change)
{
    struct mr_kv_instance instance = *change->u.instance;

    instance.node = change->was_node;
    instance.service = change->was_service;
    return instance;
}

/* An update of what go-micro sees; nothing when it sees the very same. It keeps
 * nodes by version: one that gets another version leaves the old one and joins
 * the new one. */
static enum mr_err collect_update(struct feed_render *r,
                                  const struct mr_kv_change *change)
{
    struct mr_kv_instance was_instance = before(change);
    struct mr_kv_change was = *change;
    size_t events = r->events.len;
    size_t start = r->objects.len;
    size_t middle;
    enum mr_err err;

    was.u.instance = &was_instance;
    err = collect(r, MR_KV_ACTION_DELETE, &was);
    middle = r->objects.len;
    if (err == MR_OK) {
        err = collect(r, MR_KV_ACTION_CREATE, change);
    }
    if (err != MR_OK || mr_buf_failed(&r->objects) ||
        registry_version_differs(change->was_service,
                                 change->u.instance->service)) {
        return err;
    }
    struct mr_slice old = mr_slice(r->objects.data + start, middle - start);
    struct mr_slice new =
        mr_slice(r->objects.data + middle, r->objects.len - middle);
    struct event event = {MR_KV_ACTION_UPDATE, middle, new.len};

    r->events.len = events;
    if (mr_slice_eq(old, new)) {
        r->objects.len = start;
    } else {
        mr_buf_add(&r->events, &event, sizeof event);
    }
    return MR_OK;
}

/* Take up the object of @change, which to the readers is @action. */
static enum mr_err collect_shown(struct feed_render *r,
                                 enum mr_kv_action action,
                                 const struct mr_kv_change *change)
{
    if (r->list == NULL || action != MR_KV_ACTION_UPDATE) {
        return collect(r, action, change);
    }
    /* go-micro sees no checks. */
    return change->was_service == NULL ? MR_OK : collect_update(r, change);
}

/* As collect_shown(); go-micro's nodes leave the version that they had. */
static enum mr_err collect_hidden(struct feed_render *r,
                                  const struct mr_kv_change *change)
{
    struct mr_kv_instance was_instance;
    struct mr_kv_change was = *change;

    if (r->list != NULL && change->was_service != NULL) {
        was_instance = before(change);
        was.u.instance = &was_instance;
    }
    return collect(r, MR_KV_ACTION_DELETE, &was);
}

enum mr_err feed_render_change(struct feed_render *r,
                               const struct mr_kv_change *change)
{
    enum mr_kv_action action;
    enum mr_err err = MR_OK;

    if (filter(r, change, &action)) {
        err = action == MR_KV_ACTION_DELETE ? collect_hidden(r, change)
                                            : collect_shown(r, action, change);
    }
    if (err == MR_OK) {
        err = check_buffers(r);
    }
    if (err == MR_OK && change->is_last) {
        flush(r, change->revision);
        err = check_buffers(r);
    }
    return err;
}

/* ------------------------------------------------------------- snapshots */

struct snapshot {
    struct feed_render *r;
    uint64_t revision;
    bool is_reset;
    enum mr_err err;
};

/* Write the object of @change, which is one of the state. */
static bool add(struct snapshot *s, struct mr_kv_change *change)
{
    struct feed_render *r = s->r;
    /* go-micro's watchers know no reset: what they had already is updated. */
    const char *action = s->is_reset && r->spec->format == API_WATCH_WEBSOCKET
                             ? "update"
                             : "create";
    enum mr_kv_action shown;

    change->action = MR_KV_ACTION_CREATE;
    change->was_status = "";
    change->revision = UINT64_MAX;
    if (!filter(r, change, &shown)) {
        return true;
    }
    mr_buf_reset(&r->objects);
    s->err = write_object(r, change, &r->objects);
    if (s->err == MR_OK && !mr_buf_failed(&r->objects)) {
        write_line(r, action, s->revision, true, mr_buf_slice(&r->objects));
    }
    if (s->err == MR_OK) {
        s->err = check_buffers(r);
    }
    return s->err == MR_OK;
}

static bool add_key(void *arg, const Mr__Key *key)
{
    struct mr_kv_change change = {.object = MR_KV_OBJECT_KEY, .u.key = key};

    return add(arg, &change);
}

static bool add_node(void *arg, const Mr__Node *node)
{
    struct mr_kv_change change = {.object = MR_KV_OBJECT_NODE, .u.node = node};

    return add(arg, &change);
}

static bool add_check(void *arg, const Mr__Check *check)
{
    struct mr_kv_change change = {.object = MR_KV_OBJECT_CHECK,
                                  .u.check = check};

    return add(arg, &change);
}

static bool add_name(void *arg, const struct mr_kv_service_name *name)
{
    struct mr_kv_change change = {.object = MR_KV_OBJECT_NAME, .u.name = name};

    return add(arg, &change);
}

static bool add_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct mr_kv_change change = {.object = MR_KV_OBJECT_INSTANCE,
                                  .u.instance = instance};

    return add(arg, &change);
}

static bool collect_name(void *arg, const struct mr_kv_service_name *name)
{
    struct mr_buf *names = arg;

    mr_buf_add(names, name->name, strlen(name->name) + 1);
    return !mr_buf_failed(names);
}

static enum mr_err add_all_instances(struct snapshot *s,
                                     struct mr_kv_view *view)
{
    struct mr_buf names = MR_BUF_INIT;
    enum mr_err err = mr_kv_service_names(view, collect_name, &names, NULL);
    size_t at = 0;

    if (err == MR_OK && mr_buf_failed(&names)) {
        err = MR_E_NOMEM;
    }
    while (err == MR_OK && s->err == MR_OK && at < names.len) {
        const char *name = (const char *)names.data + at;

        err = mr_kv_service_instances(view, name, add_instance, s, NULL);
        at += strlen(name) + 1;
    }
    mr_buf_deinit(&names);
    return err;
}

/* The instances of the names that have no index (of all after a reset). */
static enum mr_err add_named_instances(struct snapshot *s,
                                       struct mr_kv_view *view)
{
    const struct api_watch_spec *spec = s->r->spec;
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < spec->n_names && err == MR_OK && s->err == MR_OK;
         i++) {
        /* Decoded from a target: there is a NUL behind it. */
        const char *name = spec->names[i].name.data;

        if (s->is_reset || spec->names[i].index == 0) {
            err = mr_kv_service_instances(view, name, add_instance, s, NULL);
        }
    }
    return err;
}

static enum mr_err add_one_key(struct snapshot *s, struct mr_kv_view *view)
{
    const Mr__Key *key;
    enum mr_err err =
        mr_kv_key_get(view, s->r->spec->names[0].name, &key, NULL);

    if (err == MR_OK && key != NULL) {
        (void)add_key(s, key); /* s->err says it. */
    }
    return err;
}

static enum mr_err add_objects(struct snapshot *s, struct mr_kv_view *view)
{
    const struct api_watch_spec *spec = s->r->spec;

    switch (spec->kind) {
    case API_WATCH_KEY:
        return add_one_key(s, view);
    case API_WATCH_PREFIX:
        return mr_kv_key_list(view, spec->names[0].name, add_key, s, NULL);
    case API_WATCH_SERVICES:
        return mr_kv_service_names(view, add_name, s, NULL);
    case API_WATCH_NODES:
        return mr_kv_node_list(view, add_node, s, NULL);
    case API_WATCH_CHECKS:
        return mr_kv_state_checks(view, NULL, add_check, s, NULL);
    case API_WATCH_SERVICE:
    case API_WATCH_REGISTRY:
        break;
    }
    return spec->n_names == 0 ? add_all_instances(s, view)
                              : add_named_instances(s, view);
}

enum mr_err feed_render_snapshot(struct feed_render *r, struct mr_kv_view *view,
                                 bool is_reset)
{
    struct snapshot s = {r, mr_kv_view_revision(view), is_reset, MR_OK};
    enum mr_err err;

    r->is_resuming = false;
    if (is_reset) {
        write_line(r, "reset", s.revision, true, mr_slice(NULL, 0));
    }
    err = add_objects(&s, view);
    mr_buf_reset(&r->objects);
    return err != MR_OK ? err : s.err != MR_OK ? s.err : check_buffers(r);
}
