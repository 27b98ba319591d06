/* SPDX-License-Identifier: Apache-2.0 */
/* Topics. */
#include "topic.h"

#include <stdlib.h>
#include <string.h>

#include "watch.h"

struct mrg_topic *mrg_topic_new(struct mrg_stream *stream, const char *name)
{
    struct mrg_topic *topic = mrg_alloc(sizeof *topic);

    if (topic == NULL) {
        return NULL;
    }
    topic->stream = stream;
    topic->name_len = strlen(name);
    topic->name = mrg_dup(name, topic->name_len);
    topic->rendered.limit = MRG_TEXT_LIMIT;
    if (topic->name == NULL) {
        mrg_free(topic);
        return NULL;
    }
    return topic;
}

void mrg_topic_free(struct mrg_topic *topic)
{
    mrg_view_deinit(&topic->view);
    mrg_view_deinit(&topic->snapshot);
    mrg_text_deinit(&topic->rendered);
    mrg_free(topic->name);
    mrg_free(topic);
}

void mrg_topic_reset(struct mrg_topic *topic)
{
    mrg_view_deinit(&topic->snapshot);
    topic->has_snapshot = true;
}

void mrg_topic_cut(struct mrg_topic *topic)
{
    mrg_view_deinit(&topic->snapshot);
    topic->has_snapshot = false;
    topic->is_asked = false;
}

/* ------------------------------------------------------------- changes */

static void notify(struct mrg_topic *topic, enum microreg_action action,
                   struct mrg_object *object, uint64_t index)
{
    mrg_text_deinit(&topic->rendered);
    for (struct microreg_watch *w = topic->watches; w != NULL; w = w->next) {
        mrg_watch_tell(w, action, object, index);
    }
}

/* Tell that @old has become @object. Who groups nodes by version sees one that
 * got another version go and come. */
static void notify_change(struct mrg_topic *topic, struct mrg_object *old,
                          struct mrg_object *object, uint64_t index)
{
    if (old == NULL) {
        notify(topic, MICROREG_CREATE, object, index);
    } else if (mrg_object_same_version(old, object)) {
        notify(topic, MICROREG_UPDATE, object, index);
    } else {
        notify(topic, MICROREG_DELETE, old, index);
        notify(topic, MICROREG_CREATE, object, index);
    }
}

static bool apply_to_snapshot(struct mrg_topic *topic,
                              const struct mrg_pending *change)
{
    if (change->action == MRG_LINE_DELETE) {
        mrg_view_remove(&topic->snapshot, change->object);
        return true;
    }
    if (!mrg_map_reserve(&topic->snapshot, 1)) {
        return false;
    }
    mrg_view_put(&topic->snapshot, change->object);
    return true;
}

static bool apply_to_view(struct mrg_topic *topic,
                          const struct mrg_pending *change)
{
    struct mrg_object *object = change->object;
    struct mrg_object *old = mrg_view_find(&topic->view, object);

    if (change->action == MRG_LINE_DELETE) {
        if (old != NULL) {
            mrg_view_remove(&topic->view, object);
            notify(topic, MICROREG_DELETE, object, change->index);
        }
        return true;
    }
    if (old != NULL && mrg_object_equal(old, object)) {
        return true;
    }
    if (!mrg_map_reserve(&topic->view, 1)) {
        return false;
    }
    if (old != NULL) {
        (void)mrg_object_ref(old);
    }
    mrg_view_put(&topic->view, object);
    notify_change(topic, old, object, change->index);
    mrg_object_unref(old);
    return true;
}

bool mrg_topic_apply(struct mrg_topic *topic, const struct mrg_pending *change)
{
    bool is_done = true;

    if (topic->has_snapshot) {
        is_done = apply_to_snapshot(topic, change);
    } else if (topic->is_synced && change->index > topic->index) {
        is_done = apply_to_view(topic, change);
    }
    if (!is_done) {
        topic->index = 0; /* The next connection asks for a snapshot. */
    }
    return is_done;
}

/* ------------------------------------------------------------- snapshots */

struct finishing {
    struct mrg_topic *topic;
    uint64_t index;
};

static void on_difference(void *arg, struct mrg_object *before,
                          struct mrg_object *after)
{
    struct finishing *f = arg;

    if (after == NULL) {
        notify(f->topic, MICROREG_DELETE, before, f->index);
    } else {
        notify_change(f->topic, before, after, f->index);
    }
}

void mrg_topic_finish(struct mrg_topic *topic, uint64_t index)
{
    struct finishing f = {topic, index};
    struct mrg_map old = topic->view;

    topic->view = topic->snapshot;
    memset(&topic->snapshot, 0, sizeof topic->snapshot);
    topic->has_snapshot = false;
    topic->is_synced = true;
    topic->index = index;
    mrg_view_diff(&old, &topic->view, on_difference, &f);
    mrg_view_deinit(&old);
    for (struct microreg_watch *w = topic->watches; w != NULL; w = w->next) {
        mrg_watch_wake(w); /* Those that were told nothing yet can begin. */
    }
}

/* ------------------------------------------------------------- rendering */

static int compare_objects(const void *a_, const void *b_)
{
    const struct mrg_object *a = *(struct mrg_object *const *)a_;
    const struct mrg_object *b = *(struct mrg_object *const *)b_;
    int order = strcmp(mrg_object_version(a), mrg_object_version(b));

    return order != 0 ? order : strcmp(mrg_object_id(a), mrg_object_id(b));
}

/* The objects of the view by version and ID; in @arena. */
static struct mrg_object **sort_view(struct mrg_topic *topic,
                                     struct mrg_arena *arena)
{
    struct mrg_object **sorted =
        mrg_arena_alloc(arena, (topic->view.n + 1) * sizeof *sorted);
    size_t at = 0;

    if (sorted != NULL) {
        for (size_t i = 0; i < topic->view.n; i++) {
            sorted[i] = mrg_map_next(&topic->view, &at);
        }
        qsort(sorted, topic->view.n, sizeof *sorted, compare_objects);
    }
    return sorted;
}

/* The members of a version, but for its nodes, are those of its first node. */
static void render_head(struct mrg_text *out, const struct mrg_json *service)
{
    mrg_text_byte(out, '{');
    for (const struct mrg_json *v = service->child; v != NULL; v = v->next) {
        if (strcmp(v->key, "nodes") != 0) {
            mrg_text_json(out, v->key, strlen(v->key));
            mrg_text_byte(out, ':');
            mrg_text_add(out, v->raw, v->raw_len);
            mrg_text_byte(out, ',');
        }
    }
    mrg_text_str(out, "\"nodes\":[");
}

static bool render_objects(struct mrg_text *out, struct mrg_arena *arena,
                           struct mrg_object *const *sorted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct mrg_json *service;
        const struct mrg_json *node;
        bool is_first = i == 0 || strcmp(mrg_object_version(sorted[i - 1]),
                                         mrg_object_version(sorted[i])) != 0;

        if (mrg_json_parse(arena, mrg_object_json(sorted[i]),
                           sorted[i]->json_len, &service,
                           NULL) != MICROREG_OK) {
            return false; /* It was parsed before: no memory. */
        }
        if (is_first) {
            mrg_text_str(out, i == 0 ? "" : "]},");
            render_head(out, service);
        } else {
            mrg_text_byte(out, ',');
        }
        node = mrg_json_get(service, "nodes")->child;
        mrg_text_add(out, node->raw, node->raw_len);
    }
    mrg_text_str(out, n == 0 ? "" : "]}");
    return true;
}

const struct mrg_text *mrg_topic_render(struct mrg_topic *topic)
{
    struct mrg_text *out = &topic->rendered;
    struct mrg_arena arena = {NULL, 0};
    struct mrg_object **sorted;
    bool is_done = true;

    if (out->len > 0) {
        return out;
    }
    sorted = sort_view(topic, &arena);
    mrg_text_byte(out, '[');
    is_done =
        sorted != NULL && render_objects(out, &arena, sorted, topic->view.n);
    mrg_text_byte(out, ']');
    mrg_arena_deinit(&arena);
    if (!is_done || out->failed) {
        mrg_text_deinit(out);
        out->failed = false;
        return NULL;
    }
    return out;
}
