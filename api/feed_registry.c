/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What go-micro's watchers are told of the catalog.
 *
 * They know a node by its service's name and its ID, and see no checks and no
 * nodes of the catalog. Where several of those have an instance with one ID - a
 * service that went to another server when its own died - they see the one that
 * was registered last of those without a critical check, so that the end of the
 * one that was left behind takes nothing away. A change is what becomes of that.
 */
#include <stdlib.h>
#include <string.h>

#include "api/feed_render.h"
#include "api/listing.h"
#include "api/registry_render.h"

/* The service that is the servers themselves, which nobody calls. */
#define SERVERS "consul"

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

/* Whether it is asked for what became of @name in @revision. */
static bool is_wanted(const struct feed_render *r, const char *name,
                      uint64_t revision)
{
    const struct api_watch_name *wanted;

    if (r->spec->n_names == 0) {
        return strcmp(name, SERVERS) != 0;
    }
    wanted = find_name(r->spec, name);
    return wanted != NULL && (!r->is_resuming ||
                              (wanted->index != 0 && revision > wanted->index));
}

static bool is_shown(const struct mr_kv_instance *instance)
{
    return strcmp(listing_status(instance), "critical") != 0;
}

/* ------------------------------------------------------------- changes */

/* The instance of @change as it was, but for its checks. */
static struct mr_kv_instance before(const struct mr_kv_change *change)
{
    struct mr_kv_instance instance = *change->u.instance;

    if (change->was_service != NULL) {
        instance.node = change->was_node;
        instance.service = change->was_service;
    }
    return instance;
}

/* The one with the ID of @change's on another node that is shown when that one
 * is not, or NULL. */
static const struct mr_kv_instance *
shown_twin(const struct mr_kv_change *change)
{
    const char *name = change->u.instance->service->name;

    for (size_t i = 0; i < change->n_twins; i++) {
        const struct mr_kv_instance *twin = change->twins[i];

        if (is_shown(twin) && strcmp(twin->service->name, name) == 0) {
            return twin;
        }
    }
    return NULL;
}

/* Which of two that have one ID is shown; either may be NULL. */
static const struct mr_kv_instance *latest(const struct mr_kv_instance *a,
                                           const struct mr_kv_instance *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    return registry_compare_ids(a, b) <= 0 ? a : b;
}

static enum mr_err collect(struct feed_render *r, enum mr_kv_action action,
                           const struct mr_kv_instance *instance)
{
    size_t at = r->objects.len;
    enum mr_err err = registry_write_instance(r->list, instance, &r->objects);

    feed_render_event(r, action, at, r->objects.len);
    return err;
}

/* Nothing when go-micro sees the very same. It keeps nodes by version: one that
 * gets another version leaves the old one and joins the new one. */
static enum mr_err collect_update(struct feed_render *r,
                                  const struct mr_kv_instance *was,
                                  const struct mr_kv_instance *now)
{
    size_t start = r->objects.len;
    size_t middle;
    enum mr_err err = registry_write_instance(r->list, was, &r->objects);

    middle = r->objects.len;
    if (err == MR_OK) {
        err = registry_write_instance(r->list, now, &r->objects);
    }
    if (err != MR_OK || mr_buf_failed(&r->objects)) {
        return err;
    }
    struct mr_slice old = mr_slice(r->objects.data + start, middle - start);
    struct mr_slice new =
        mr_slice(r->objects.data + middle, r->objects.len - middle);

    if (registry_version_differs(was->service, now->service)) {
        feed_render_event(r, MR_KV_ACTION_DELETE, start, middle);
        feed_render_event(r, MR_KV_ACTION_CREATE, middle, r->objects.len);
    } else if (mr_slice_eq(old, new)) {
        r->objects.len = start;
    } else {
        feed_render_event(r, MR_KV_ACTION_UPDATE, middle, r->objects.len);
    }
    return MR_OK;
}

enum mr_err feed_registry_change(struct feed_render *r,
                                 const struct mr_kv_change *change)
{
    const struct mr_kv_instance *instance = change->u.instance;
    const struct mr_kv_instance *twin = shown_twin(change);
    struct mr_kv_instance own = before(change);
    const struct mr_kv_instance *was = NULL;
    const struct mr_kv_instance *now = NULL;

    if (!is_wanted(r, instance->service->name, change->revision)) {
        return MR_OK;
    }
    if (change->action != MR_KV_ACTION_CREATE &&
        strcmp(change->was_status, "critical") != 0) {
        was = &own;
    }
    if (change->action != MR_KV_ACTION_DELETE && is_shown(instance)) {
        now = instance;
    }
    was = latest(was, twin);
    now = latest(now, twin);
    if (was == NULL && now == NULL) {
        return MR_OK;
    }
    if (was == NULL) {
        return collect(r, MR_KV_ACTION_CREATE, now);
    }
    if (now == NULL) {
        return collect(r, MR_KV_ACTION_DELETE, was);
    }
    /* Else only checks are new, or the twin is seen before and after. */
    return was->service != now->service || was->node != now->node
               ? collect_update(r, was, now)
               : MR_OK;
}

/* ------------------------------------------------------------- snapshots */

/* The instances of one service: struct mr_kv_instance, without the checks. */
struct gathering {
    struct feed_render *r;
    struct mr_buf instances;
};

static bool gather(void *arg, const struct mr_kv_instance *instance)
{
    struct gathering *g = arg;
    struct mr_kv_instance kept = {.node = instance->node,
                                  .service = instance->service};

    if (is_shown(instance) && is_wanted(g->r, kept.service->name, UINT64_MAX)) {
        mr_buf_add(&g->instances, &kept, sizeof kept);
    }
    return !mr_buf_failed(&g->instances);
}

static int compare_ids(const void *a, const void *b)
{
    return registry_compare_ids(a, b);
}

/* Write a line for each ID of what was gathered. */
static enum mr_err write_gathered(struct feed_snapshot *s,
                                  struct mr_buf *gathered)
{
    struct feed_render *r = s->r;
    /* go-micro's watchers know no reset: what they had already is updated. */
    const char *action = s->is_reset && r->spec->format == API_WATCH_WEBSOCKET
                             ? "update"
                             : "create";
    struct mr_kv_instance *instances =
        (struct mr_kv_instance *)(void *)gathered->data;
    size_t n = gathered->len / sizeof *instances;
    enum mr_err err = MR_OK;

    if (n > 1) {
        qsort(instances, n, sizeof *instances, compare_ids);
    }
    for (size_t i = 0; i < n && err == MR_OK; i++) {
        if (i > 0 && registry_same_id(&instances[i - 1], &instances[i])) {
            continue;
        }
        mr_buf_reset(&r->objects);
        err = registry_write_instance(r->list, &instances[i], &r->objects);
        if (err == MR_OK && !mr_buf_failed(&r->objects)) {
            feed_render_line(r, action, s->revision, true,
                             mr_buf_slice(&r->objects));
        }
        err = err == MR_OK ? feed_render_check(r) : err;
    }
    return err;
}

static enum mr_err add_service(struct feed_snapshot *s, struct mr_kv_view *view,
                               const char *name)
{
    struct gathering g = {s->r, MR_BUF_INIT};
    enum mr_err err = mr_kv_service_instances(view, name, gather, &g, NULL);

    if (err == MR_OK && mr_buf_failed(&g.instances)) {
        err = MR_E_NOMEM;
    }
    if (err == MR_OK) {
        err = write_gathered(s, &g.instances);
    }
    mr_buf_deinit(&g.instances);
    return err;
}

static bool collect_name(void *arg, const struct mr_kv_service_name *name)
{
    struct mr_buf *names = arg;

    mr_buf_add(names, name->name, strlen(name->name) + 1);
    return !mr_buf_failed(names);
}

static enum mr_err add_all(struct feed_snapshot *s, struct mr_kv_view *view)
{
    struct mr_buf names = MR_BUF_INIT;
    enum mr_err err = mr_kv_service_names(view, collect_name, &names, NULL);
    size_t at = 0;

    if (err == MR_OK && mr_buf_failed(&names)) {
        err = MR_E_NOMEM;
    }
    while (err == MR_OK && at < names.len) {
        const char *name = (const char *)names.data + at;

        err = add_service(s, view, name);
        at += strlen(name) + 1;
    }
    mr_buf_deinit(&names);
    return err;
}

enum mr_err feed_registry_snapshot(struct feed_snapshot *s,
                                   struct mr_kv_view *view)
{
    const struct api_watch_spec *spec = s->r->spec;
    enum mr_err err = MR_OK;

    if (spec->n_names == 0) {
        return add_all(s, view);
    }
    for (size_t i = 0; i < spec->n_names && err == MR_OK; i++) {
        if (s->is_reset || spec->names[i].index == 0) {
            /* Decoded from a target: there is a NUL behind it. */
            err = add_service(s, view, spec->names[i].name.data);
        }
    }
    return err;
}
