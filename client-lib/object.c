/* SPDX-License-Identifier: Apache-2.0 */
/* Objects and views. */
#include "object.h"

#include <string.h>

/* Copy @text with its NUL to @at; returns where the next one goes. */
static uint32_t append(struct mrg_object *object, uint32_t at, const char *text,
                       size_t len)
{
    memcpy(object->data + at, text, len);
    object->data[at + len] = '\0';
    return at + (uint32_t)len + 1;
}

struct mrg_object *mrg_object_new(const struct mrg_stream_line *line)
{
    size_t name_len = strlen(line->name);
    size_t id_len = strlen(line->id);
    size_t version_len = strlen(line->version);
    struct mrg_object *object =
        mrg_alloc(sizeof *object + name_len + id_len + version_len +
                  line->object_len + 4); /* A line has at most 16 MiB. */

    if (object == NULL) {
        return NULL;
    }
    object->refs = 1;
    object->key_len = (uint32_t)(name_len + 1 + id_len);
    object->json_len = (uint32_t)line->object_len;
    object->id_at = append(object, 0, line->name, name_len);
    object->version_at = append(object, object->id_at, line->id, id_len);
    object->json_at =
        append(object, object->version_at, line->version, version_len);
    (void)append(object, object->json_at, line->object, line->object_len);
    return object;
}

struct mrg_object *mrg_object_ref(struct mrg_object *object)
{
    object->refs++;
    return object;
}

void mrg_object_unref(struct mrg_object *object)
{
    if (object != NULL && --object->refs == 0) {
        mrg_free(object);
    }
}

const char *mrg_object_name(const struct mrg_object *object)
{
    return object->data;
}

const char *mrg_object_id(const struct mrg_object *object)
{
    return object->data + object->id_at;
}

const char *mrg_object_version(const struct mrg_object *object)
{
    return object->data + object->version_at;
}

const char *mrg_object_json(const struct mrg_object *object)
{
    return object->data + object->json_at;
}

bool mrg_object_equal(const struct mrg_object *a, const struct mrg_object *b)
{
    return a == b ||
           (a->json_len == b->json_len &&
            memcmp(mrg_object_json(a), mrg_object_json(b), a->json_len) == 0);
}

bool mrg_object_same_version(const struct mrg_object *a,
                             const struct mrg_object *b)
{
    return strcmp(mrg_object_version(a), mrg_object_version(b)) == 0;
}

/* ------------------------------------------------------------- views */

struct mrg_object *mrg_view_find(const struct mrg_map *view,
                                 const struct mrg_object *object)
{
    return mrg_map_get(view, object->data, object->key_len);
}

void mrg_view_put(struct mrg_map *view, struct mrg_object *object)
{
    (void)mrg_object_ref(object);
    mrg_object_unref(mrg_map_put(view, object->data, object->key_len, object));
}

void mrg_view_remove(struct mrg_map *view, const struct mrg_object *object)
{
    mrg_object_unref(mrg_map_remove(view, object->data, object->key_len));
}

void mrg_view_deinit(struct mrg_map *view)
{
    struct mrg_object *object;
    size_t at = 0;

    while ((object = mrg_map_next(view, &at)) != NULL) {
        mrg_object_unref(object);
    }
    mrg_map_deinit(view);
}

void mrg_view_diff(const struct mrg_map *before, const struct mrg_map *after,
                   mrg_view_diff_cb cb, void *arg)
{
    struct mrg_object *object;
    size_t at = 0;

    while ((object = mrg_map_next(before, &at)) != NULL) {
        if (mrg_view_find(after, object) == NULL) {
            cb(arg, object, NULL);
        }
    }
    at = 0;
    while ((object = mrg_map_next(after, &at)) != NULL) {
        struct mrg_object *old = mrg_view_find(before, object);

        if (old == NULL || !mrg_object_equal(old, object)) {
            cb(arg, old, object);
        }
    }
}
