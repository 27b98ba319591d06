/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reference-counted bytes and the batches that go to the apply thread. The
 * counter is the only thing threads share here.
 */
#include "raft/driver.h"

#include "base/mem.h"

struct driver_blob *driver_blob_new(size_t len)
{
    struct driver_blob *blob = mr_malloc(sizeof *blob + len);

    if (blob != NULL) {
        blob->refs = 1;
        blob->len = len;
    }
    return blob;
}

struct driver_blob *driver_blob_ref(struct driver_blob *blob)
{
    __atomic_add_fetch(&blob->refs, 1, __ATOMIC_RELAXED);
    return blob;
}

void driver_blob_unref(struct driver_blob *blob)
{
    if (blob != NULL &&
        __atomic_sub_fetch(&blob->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        mr_free(blob);
    }
}

void driver_batch_free(struct driver_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    for (size_t i = 0; i < batch->n_blobs; i++) {
        driver_blob_unref(batch->blobs[i]);
    }
    mr_free(batch);
}
