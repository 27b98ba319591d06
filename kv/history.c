/* SPDX-License-Identifier: Apache-2.0 */
/* The history. Until it keeps anything, everything is forgotten at once. */
#include "kv/mr_kv_history.h"

enum mr_err mr_kv_history_read(struct mr_kv *kv,
                               const struct mr_kv_topic *topics,
                               size_t n_topics, uint64_t after,
                               mr_kv_change_cb cb, void *arg,
                               uint64_t *out_revision)
{
    uint64_t now = mr_kv_revision(kv);

    (void)topics;
    (void)n_topics;
    (void)cb;
    (void)arg;
    *out_revision = now;
    return after == now ? MR_OK : after > now ? MR_E_INVALID : MR_E_NOTFOUND;
}
