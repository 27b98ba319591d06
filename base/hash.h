/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashing (XXH3 of libxxhash). Not cryptographic: for tables, checksums of our
 * own files and the state's digest.
 */
#ifndef MR_BASE_HASH_H
#define MR_BASE_HASH_H

#include <stdint.h>

#include "base/slice.h"

struct mr_hash128 {
    uint64_t high;
    uint64_t low;
};

/* A 64-bit hash of @s under @seed; the same on every machine. */
uint64_t mr_hash64(struct mr_slice s, uint64_t seed);

/* A 128-bit hash of @s under @seed; the same on every machine. */
struct mr_hash128 mr_hash128(struct mr_slice s, uint64_t seed);

#endif /* MR_BASE_HASH_H */
