/* SPDX-License-Identifier: Apache-2.0 */
/* The history. Until it keeps anything, everything is forgotten at once. */
#include "kv/mr_kv_history.h"

enum mr_err mr_kv_history_read(struct mr_kv *kv,
                               const struct mr_kv_history_query *query,
                               mr_kv_change_cb cb, void *arg,
                               uint64_t *out_revision)
{
    uint64_t now = mr_kv_revision(kv);

    (void)cb;
    (void)arg;
    *out_revision = now;
    return query->after == now  ? MR_OK
           : query->after > now ? MR_E_INVALID
                                : MR_E_NOTFOUND;
}
