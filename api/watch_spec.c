/* SPDX-License-Identifier: Apache-2.0 */
/* What a watch stream is about, as the hub and the history know it. */
#include "api/watch_spec.h"

size_t api_watch_topics(const struct api_watch_spec *spec, bool is_resuming,
                        struct mr_kv_topic *out)
{
    static const enum mr_kv_topic_kind kinds[] = {
        [API_WATCH_KEY] = MR_KV_TOPIC_KEY,
        [API_WATCH_PREFIX] = MR_KV_TOPIC_PREFIX,
        [API_WATCH_SERVICES] = MR_KV_TOPIC_SERVICES,
        [API_WATCH_SERVICE] = MR_KV_TOPIC_SERVICE,
        [API_WATCH_NODES] = MR_KV_TOPIC_NODES,
        [API_WATCH_CHECKS] = MR_KV_TOPIC_CHECKS,
        [API_WATCH_REGISTRY] = MR_KV_TOPIC_SERVICE,
    };
    size_t n = 0;

    for (size_t i = 0; i < spec->n_names; i++) {
        if (!is_resuming || spec->names[i].index != 0) {
            out[n].kind = kinds[spec->kind];
            out[n++].name = spec->names[i].name;
        }
    }
    if (spec->n_names == 0) {
        out[0].kind = spec->kind == API_WATCH_REGISTRY ? MR_KV_TOPIC_CATALOG
                                                       : kinds[spec->kind];
        out[0].name = mr_slice(NULL, 0);
        n = 1;
    }
    return n;
}
