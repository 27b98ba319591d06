/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of watch streams (docs/watch.md): from changes and snapshots of the
 * state to bytes. Used on one thread at a time.
 */
#ifndef API_FEED_RENDER_H
#define API_FEED_RENDER_H

#include "api/watch_spec.h"
#include "base/buf.h"
#include "kv/mr_kv_history.h"

struct registry_list;

struct feed_render {
    const struct api_watch_spec *spec;
    /* Of the names only those with an index, and of these what came later. */
    bool is_resuming;
    struct mr_buf out;     /* Whole lines. */
    struct mr_buf objects; /* Those of the revision that is being collected. */
    struct mr_buf events;  /* Where in objects, and what happened to them. */
    struct registry_list *list;
};

/* Make a renderer of what @spec says, which is borrowed. @max_bytes bounds
 * what it may write. False: no memory. */
bool feed_render_init(struct feed_render *r, const struct api_watch_spec *spec,
                      size_t max_bytes);

/* Release it. */
void feed_render_deinit(struct feed_render *r);

/* Take up a change; with the last one of a revision its lines are written.
 * MR_E_NOMEM, MR_E_TOOBIG. */
MR_MUST_CHECK enum mr_err feed_render_change(struct feed_render *r,
                                             const struct mr_kv_change *change);

/* Write what @view has, of those names that have no index (of all with
 * @is_reset, after a line that says so). MR_E_NOMEM, MR_E_TOOBIG, and the
 * errors of views. */
MR_MUST_CHECK enum mr_err feed_render_snapshot(struct feed_render *r,
                                               struct mr_kv_view *view,
                                               bool is_reset);

/* Write a line without an object: "synced", "progress". */
void feed_render_mark(struct feed_render *r, const char *action,
                      uint64_t revision);

/* ------------------------------------------------ among feed_*.c only */

/* A snapshot being written. */
struct feed_snapshot {
    struct feed_render *r;
    uint64_t revision;
    bool is_reset;
    enum mr_err err;
};

/* Write a line about @object, if it has bytes. @more: others of the same
 * revision follow. */
void feed_render_line(struct feed_render *r, const char *action,
                      uint64_t revision, bool more, struct mr_slice object);

/* Write the object of @change as Consul would. */
void feed_render_object(const struct mr_kv_change *change, struct mr_buf *out);

/* What @change is for those who see only what the filter shows; false: nothing
 * at all. */
bool feed_render_shows(const struct feed_render *r,
                       const struct mr_kv_change *change,
                       enum mr_kv_action *out_action);

/* Take up what stands in r->objects from @start to @end under @action. */
void feed_render_event(struct feed_render *r, enum mr_kv_action action,
                       size_t start, size_t end);

/* MR_OK, or why a buffer of @r has failed: MR_E_NOMEM, MR_E_TOOBIG. */
MR_MUST_CHECK enum mr_err feed_render_check(const struct feed_render *r);

/* Take up what go-micro's watchers are told of @change. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
feed_registry_change(struct feed_render *r, const struct mr_kv_change *change);

/* Write what @view has for them, an ID of a service once. MR_E_NOMEM,
 * MR_E_TOOBIG, and the errors of views. */
MR_MUST_CHECK enum mr_err feed_registry_snapshot(struct feed_snapshot *s,
                                                 struct mr_kv_view *view);

#endif /* API_FEED_RENDER_H */
