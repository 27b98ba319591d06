/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshots with which watch streams begin. */
#include "api/feed_render.h"

/* Write the object of @change, which is one of the state. */
static bool add(struct feed_snapshot *s, struct mr_kv_change *change)
{
    struct feed_render *r = s->r;
    enum mr_kv_action shown;

    change->action = MR_KV_ACTION_CREATE;
    change->was_status = "";
    change->revision = UINT64_MAX;
    if (!feed_render_shows(r, change, &shown)) {
        return true;
    }
    mr_buf_reset(&r->objects);
    feed_render_object(change, &r->objects);
    feed_render_line(r, "create", s->revision, true, mr_buf_slice(&r->objects));
    s->err = feed_render_check(r);
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

static enum mr_err add_one_key(struct feed_snapshot *s, struct mr_kv_view *view)
{
    const Mr__Key *key;
    enum mr_err err =
        mr_kv_key_get(view, s->r->spec->names[0].name, &key, NULL);

    if (err == MR_OK && key != NULL) {
        (void)add_key(s, key); /* s->err says it. */
    }
    return err;
}

static enum mr_err add_objects(struct feed_snapshot *s, struct mr_kv_view *view)
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
        /* Decoded from a target: there is a NUL behind it. */
        return mr_kv_service_instances(view, spec->names[0].name.data,
                                       add_instance, s, NULL);
    case API_WATCH_REGISTRY:
        break;
    }
    return feed_registry_snapshot(s, view);
}

enum mr_err feed_render_snapshot(struct feed_render *r, struct mr_kv_view *view,
                                 bool is_reset)
{
    struct feed_snapshot s = {r, mr_kv_view_revision(view), is_reset, MR_OK};
    enum mr_err err;

    r->is_resuming = false;
    if (is_reset) {
        feed_render_line(r, "reset", s.revision, true, mr_slice(NULL, 0));
    }
    err = add_objects(&s, view);
    mr_buf_reset(&r->objects);
    return err != MR_OK ? err : s.err != MR_OK ? s.err : feed_render_check(r);
}
