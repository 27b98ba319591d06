/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of services and checks: hashes of their encoding. */
#include "api/mr_rows.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define SEED 0x726f7773 /* Any number; agents and servers must agree on it. */

uint64_t mr_rows_service(const Mr__Service *service)
{
    Mr__Service row = *service;
    size_t len;
    uint8_t *bytes;
    uint64_t digest = 0;

    row.node = (char *)"";
    row.create_rev = 0;
    row.modify_rev = 0;
    row.lease_id = 0;
    len = mr__service__get_packed_size(&row);
    bytes = mr_malloc(len + 1);
    if (bytes != NULL) {
        (void)mr__service__pack(&row, bytes);
        digest = mr_hash64(mr_slice(bytes, len), SEED);
    }
    mr_free(bytes);
    return digest;
}

uint64_t mr_rows_check(const Mr__Check *check)
{
    Mr__Check row = *check;
    size_t len;
    uint8_t *bytes;
    uint64_t digest = 0;

    row.node = (char *)"";
    row.status = (char *)"";
    row.output = (char *)"";
    row.service_name = (char *)"";
    row.service_tags = NULL;
    row.n_service_tags = 0;
    row.create_rev = 0;
    row.modify_rev = 0;
    row.lease_id = 0;
    len = mr__check__get_packed_size(&row);
    bytes = mr_malloc(len + 1);
    if (bytes != NULL) {
        (void)mr__check__pack(&row, bytes);
        digest = mr_hash64(mr_slice(bytes, len), SEED);
    }
    mr_free(bytes);
    return digest;
}

uint64_t mr_rows_check_state(const Mr__Check *check)
{
    return mr_hash64(mr_slice_str(check->output),
                     mr_hash64(mr_slice_str(check->status), SEED));
}
