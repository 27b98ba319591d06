/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a snapshot. When the first byte is 0 the rest is restored as it
 * is; else the rest are rows, for which a header with the right count and digest
 * is made, so that the fuzzer gets behind the checksums.
 */
#include <stdint.h>

#include "base/buf.h"
#include "kv/snapshot.h"
#include "tests/fuzz/kv_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum mr_err read_slice(void *arg, void *out, size_t cap, size_t *out_len)
{
    struct mr_slice *s = arg;
    size_t n = s->len < cap ? s->len : cap;

    if (n > 0) {
        memcpy(out, s->data, n);
        *s = mr_slice((const uint8_t *)s->data + n, s->len - n);
    }
    *out_len = n;
    return MR_OK;
}

/* Count and hash @rows as far as they parse. */
static void sum_rows(struct mr_slice rows, Mr__SnapshotHeader *header)
{
    struct mr_hash128 digest = {0, 0};
    uint64_t key_len;
    uint64_t value_len;

    while (kv_get_varint(&rows, &key_len) && kv_get_varint(&rows, &value_len) &&
           key_len > 0 && key_len <= rows.len &&
           value_len <= rows.len - key_len) {
        struct mr_slice key = mr_slice(rows.data, (size_t)key_len);
        struct mr_slice value =
            mr_slice((const uint8_t *)rows.data + key_len, (size_t)value_len);

        kv_digest_add(&digest, kv_row_hash(key, value));
        header->rows++;
        rows = mr_slice((const uint8_t *)value.data + value_len,
                        rows.len - (size_t)(key_len + value_len));
    }
    header->digest_high = digest.high;
    header->digest_low = digest.low;
}

static void add_header(struct mr_buf *out, struct mr_slice rows)
{
    Mr__SnapshotHeader header = MR__SNAPSHOT_HEADER__INIT;
    uint8_t packed[128];
    size_t len;

    header.version = KV_SNAPSHOT_VERSION;
    sum_rows(rows, &header);
    len = mr__snapshot_header__pack(&header, packed);
    mr_buf_str(out, KV_SNAPSHOT_MAGIC);
    kv_put_varint(out, len);
    mr_buf_add(out, packed, len);
    mr_buf_be64(out, mr_hash64(mr_slice(packed, len), 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_buf stream = MR_BUF_INIT;
    struct mr_slice rest;
    struct fuzz_store s;
    struct mr_hash128 before;
    enum mr_err err;

    if (size > 0 && data[0] != 0) {
        add_header(&stream, mr_slice(data + 1, size - 1));
    }
    if (size > 0) {
        mr_buf_add(&stream, data + 1, size - 1);
    }
    fuzz_open(&s);
    before = mr_kv_digest(s.kv, NULL);
    rest = mr_buf_slice(&stream);
    err = mr_kv_restore(s.kv, read_slice, &rest, NULL);
    mr_assert(err == MR_OK || err == MR_E_CORRUPT || err == MR_E_VERSION);
    mr_assert(err == MR_OK || before.low == mr_kv_digest(s.kv, NULL).low);
    fuzz_look_at_all(s.kv, err != MR_OK);
    fuzz_close(&s);
    mr_buf_deinit(&stream);
    return 0;
}
