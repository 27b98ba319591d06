/* SPDX-License-Identifier: Apache-2.0 */
/* What a watch stream is about. */
#ifndef API_WATCH_SPEC_H
#define API_WATCH_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "kv/mr_kv_watch.h"

#define API_WATCH_NAMES_MAX 256

enum api_watch_kind {
    API_WATCH_KEY,
    API_WATCH_PREFIX,
    API_WATCH_SERVICES,
    API_WATCH_SERVICE,
    API_WATCH_NODES,
    API_WATCH_CHECKS,
    API_WATCH_REGISTRY
};

enum api_watch_format {
    API_WATCH_LINES,    /* JSON lines. */
    API_WATCH_SSE,      /* Server-Sent Events. */
    API_WATCH_WEBSOCKET /* One message a line: {"Action","Service"}. */
};

/* A key, prefix or service, and after which index its events are wanted; 0:
 * with a snapshot. */
struct api_watch_name {
    struct mr_slice name;
    uint64_t index;
};

/* Texts are borrowed for the call they are given to. */
struct api_watch_spec {
    enum api_watch_kind kind;
    enum api_watch_format format;
    bool passing_only;   /* SERVICE: without instances that do not pass. */
    const char *state;   /* CHECKS: only in this state; NULL: in any. */
    const char *service; /* CHECKS: only of this service; NULL: all. */
    /* KEY, PREFIX, SERVICE: one. REGISTRY: any number of different ones, sorted
     * by name, none for all services. Others: none. */
    const struct api_watch_name *names;
    size_t n_names;
    uint64_t index; /* As api_watch_name.index, without names. */
};

/* The topics of @spec (of the names that have an index, when @is_resuming), into
 * @out, which has room for API_WATCH_NAMES_MAX; returns how many. */
size_t api_watch_topics(const struct api_watch_spec *spec, bool is_resuming,
                        struct mr_kv_topic *out);

#endif /* API_WATCH_SPEC_H */
