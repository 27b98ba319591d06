/* SPDX-License-Identifier: Apache-2.0 */
/* Hashing, by libxxhash. */
#include "base/hash.h"

#include <xxhash.h>

uint64_t mr_hash64(struct mr_slice s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.data, s.len, seed);
}

struct mr_hash128 mr_hash128(struct mr_slice s, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(s.data, s.len, seed);

    return (struct mr_hash128){h.high64, h.low64};
}
