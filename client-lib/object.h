/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that streams tell of, and views: sets of them by key. */
#ifndef MICROREG_OBJECT_H
#define MICROREG_OBJECT_H

#include "line.h"
#include "map.h"

/* A node of a service, or a key, in one of its states. Never changed; shared by
 * views and queues. The references are protected by the client's lock. */
struct mrg_object {
    size_t refs;
    uint32_t key_len; /* "name NUL id". */
    uint32_t json_len;
    uint32_t version_at; /* In data. */
    uint32_t id_at;
    uint32_t json_at;
    char data[]; /* Key, version and JSON, each with a NUL behind it. */
};

/* What @line tells of, with one reference. NULL: no memory. */
struct mrg_object *mrg_object_new(const struct mrg_stream_line *line);

/* Take another reference, and return @object. */
struct mrg_object *mrg_object_ref(struct mrg_object *object);

/* Give a reference back. NULL is a no-op. */
void mrg_object_unref(struct mrg_object *object);

/* Its parts, borrowed. */
const char *mrg_object_name(const struct mrg_object *object);
const char *mrg_object_id(const struct mrg_object *object);
const char *mrg_object_version(const struct mrg_object *object);
const char *mrg_object_json(const struct mrg_object *object);

/* Whether both say the same. */
bool mrg_object_equal(const struct mrg_object *a, const struct mrg_object *b);

/* Whether both are of one version of the service. */
bool mrg_object_same_version(const struct mrg_object *a,
                             const struct mrg_object *b);

/* ---- views ---- */

/* The object of @view with the key of @object, or NULL. */
struct mrg_object *mrg_view_find(const struct mrg_map *view,
                                 const struct mrg_object *object);

/* Put @object into a view that has room for it (mrg_map_reserve()), in the place
 * of the one with its key. Takes a reference of its own. */
void mrg_view_put(struct mrg_map *view, struct mrg_object *object);

/* Remove the object with the key of @object. */
void mrg_view_remove(struct mrg_map *view, const struct mrg_object *object);

/* Empty it and free its memory. */
void mrg_view_deinit(struct mrg_map *view);

/* Called for each difference: @before or @after is NULL where there is none. */
typedef void (*mrg_view_diff_cb)(void *arg, struct mrg_object *before,
                                 struct mrg_object *after);

/* Tell what makes @after of @before: first what goes, then what comes. */
void mrg_view_diff(const struct mrg_map *before, const struct mrg_map *after,
                   mrg_view_diff_cb cb, void *arg);

#endif /* MICROREG_OBJECT_H */
