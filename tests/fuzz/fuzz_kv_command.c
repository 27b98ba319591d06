/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as commands: length (2 bytes, little-endian), then that many bytes,
 * again and again. Whatever applies must leave a state whose digest is right and
 * whose tables agree.
 */
#include <stdint.h>

#include "tests/fuzz/kv_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Apply one command in a batch of its own. */
static void apply(struct mr_kv *kv, struct mr_slice cmd, uint64_t index)
{
    struct mr_kv_result r;
    uint64_t before = mr_kv_revision(kv);
    enum mr_err err;

    mr_assert(mr_kv_batch_begin(kv) == MR_OK);
    err = mr_kv_apply(kv, cmd, &r);
    if (err != MR_OK) {
        mr_assert(err == MR_E_CORRUPT || err == MR_E_VERSION);
        mr_assert(mr_kv_batch_commit(kv, index, 1) == err);
        mr_assert(mr_kv_revision(kv) == before);
        return;
    }
    mr_assert(mr_kv_batch_commit(kv, index, 1) == MR_OK);
    mr_assert(r.revision == mr_kv_revision(kv));
    mr_assert(r.revision == before + (r.changed ? 1 : 0));
    mr_assert(r.verdict == MR_KV_DONE || !r.changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_store s;
    struct mr_hash128 digest;
    uint64_t index = 0;

    fuzz_open(&s);
    while (size >= 2) {
        size_t len = data[0] | (size_t)data[1] << 8;

        data += 2;
        size -= 2;
        len = len < size ? len : size;
        apply(s.kv, mr_slice(data, len), ++index);
        data += len;
        size -= len;
    }
    mr_assert(mr_kv_digest_verify(s.kv, &digest) == MR_OK);
    mr_assert(digest.low == mr_kv_digest(s.kv, NULL).low);
    mr_assert(digest.high == mr_kv_digest(s.kv, NULL).high);
    fuzz_look_at_all(s.kv, true);
    fuzz_close(&s);
    return 0;
}
