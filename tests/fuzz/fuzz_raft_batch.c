/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of a raft entry, on any bytes; what opens is built again. */
#include <stdint.h>
#include <string.h>

#include "raft/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Build @again from what @it walks over. */
static size_t rebuild(struct batch_iter *it, struct batch_builder *again)
{
    size_t n = 0;

    while (batch_next(it)) {
        mr_assert(batch_add(again, it->id, it->cmd) == MR_OK);
        n++;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_builder again;
    struct batch_iter it;
    struct batch_iter copy;
    size_t n = 0;

    batch_init(&again);
    if (batch_open(mr_slice(data, size), &it, &n) == MR_OK) {
        copy = it;
        mr_assert(rebuild(&it, &again) == n && n > 0);
        mr_assert(batch_open(mr_slice(again.blob->data, again.len), &it, &n) ==
                  MR_OK);
        while (batch_next(&copy)) {
            mr_assert(batch_next(&it));
            mr_assert(copy.id.origin == it.id.origin &&
                      copy.id.incarnation == it.id.incarnation &&
                      copy.id.seq == it.id.seq &&
                      mr_slice_eq(copy.cmd, it.cmd));
        }
        mr_assert(!batch_next(&it));
    }
    batch_deinit(&again);
    return 0;
}
