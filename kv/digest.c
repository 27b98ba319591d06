/* SPDX-License-Identifier: Apache-2.0 */
/* Counting the digest again from the rows. */
#include "kv/kv.h"

enum mr_err mr_kv_digest_verify(struct mr_kv *kv, struct mr_hash128 *out_digest)
{
    static const uint8_t first = KV_META;
    struct mr_hash128 digest = {0, 0};
    struct mr_kv_view *view;
    struct kv_scan scan;
    struct kv_row row;
    enum mr_err err = mr_kv_view_begin(kv, &view);

    if (err != MR_OK) {
        return err;
    }
    kv_scan_open_from(&scan, kv_view_tx(view), mr_slice(&first, 1));
    while (kv_scan_next(&scan, &row) &&
           *(const uint8_t *)row.key.data < KV_DERIVED) {
        kv_digest_add(&digest, kv_row_hash(row.key, row.value));
    }
    kv_scan_close(&scan);
    err = kv_view_error(view);
    mr_kv_view_end(view);
    if (err == MR_OK) {
        *out_digest = digest;
    }
    return err;
}
