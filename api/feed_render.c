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

void feed_render_line(struct feed_render *r, const char *action,
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
    feed_render_line(r, action, revision, false, mr_slice(NULL, 0));
}

enum mr_err feed_render_check(const struct feed_render *r)
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

void feed_render_object(const struct mr_kv_change *change, struct mr_buf *out)
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
        shape_instance(&j, change->u.instance);
        break;
    }
}

/* ------------------------------------------------------------- filters */

/* Whether an object that has (or had) @status is shown. */
static bool shows_status(const struct api_watch_spec *spec, const char *status)
{
    switch (spec->kind) {
    case API_WATCH_SERVICE:
        return !spec->passing_only || strcmp(status, "passing") == 0;
    case API_WATCH_CHECKS:
        return spec->state == NULL || strcmp(status, spec->state) == 0;
    case API_WATCH_KEY:
    case API_WATCH_PREFIX:
    case API_WATCH_SERVICES:
    case API_WATCH_NODES:
    case API_WATCH_REGISTRY: /* Has rules of its own: feed_registry.c. */
        break;
    }
    return true;
}

/* Whether the object is one of those that were asked for at all. */
static bool is_wanted(const struct api_watch_spec *spec,
                      const struct mr_kv_change *change)
{
    return spec->kind != API_WATCH_CHECKS || spec->service == NULL ||
           strcasecmp(change->u.check->service_name, spec->service) == 0;
}

bool feed_render_shows(const struct feed_render *r,
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

    if (!is_wanted(r->spec, change)) {
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
        feed_render_line(
            r, action_text(events[i].action), revision, i + 1 < n,
            mr_slice(r->objects.data + events[i].at, events[i].len));
    }
    mr_buf_reset(&r->objects);
    mr_buf_reset(&r->events);
}

void feed_render_event(struct feed_render *r, enum mr_kv_action action,
                       size_t start, size_t end)
{
    struct event event = {action, start, end - start};

    mr_buf_add(&r->events, &event, sizeof event);
}

/* Take up @change as Consul's users see it. */
static void collect(struct feed_render *r, const struct mr_kv_change *change)
{
    enum mr_kv_action action;
    size_t start = r->objects.len;

    if (feed_render_shows(r, change, &action)) {
        feed_render_object(change, &r->objects);
        feed_render_event(r, action, start, r->objects.len);
    }
}

enum mr_err feed_render_change(struct feed_render *r,
                               const struct mr_kv_change *change)
{
    enum mr_err err = MR_OK;

    if (r->list != NULL) {
        err = feed_registry_change(r, change);
    } else {
        collect(r, change);
    }
    if (err == MR_OK) {
        err = feed_render_check(r);
    }
    if (err == MR_OK && change->is_last) {
        flush(r, change->revision);
        err = feed_render_check(r);
    }
    return err;
}
