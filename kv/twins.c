/* SPDX-License-Identifier: Apache-2.0 */
/* A counting filter of service names and IDs. */
#include "kv/twins.h"

#include <string.h>

#include "base/mem.h"

#define N_COUNTERS ((size_t)1 << 18)
#define N_HASHES 2

enum mr_err kv_twins_init(struct kv_twins *t)
{
    mr_buf_init(&t->gone, 0);
    t->counters = mr_calloc(N_COUNTERS, 1);
    return t->counters == NULL ? MR_E_NOMEM : MR_OK;
}

void kv_twins_deinit(struct kv_twins *t)
{
    mr_buf_deinit(&t->gone);
    mr_free(t->counters);
    t->counters = NULL;
}

/* The hash of the name and the ID in a service's row's key. */
static uint64_t hash_of(struct mr_slice key)
{
    struct mr_slice parts[3]; /* Service, node, ID. */

    return kv_key_split(key, parts, 3)
               ? mr_hash64(parts[2], mr_hash64(parts[0], 0))
               : 0;
}

static uint8_t *counter_at(const struct kv_twins *t, uint64_t hash, int i)
{
    return &t->counters[(hash >> (32 * i)) & (N_COUNTERS - 1)];
}

static void add(struct kv_twins *t, uint64_t hash)
{
    for (int i = 0; i < N_HASHES; i++) {
        uint8_t *counter = counter_at(t, hash, i);

        if (*counter < UINT8_MAX) {
            ++*counter;
        }
    }
}

/* A full counter does not know any more how many there are, and stays. */
static void take_away(struct kv_twins *t, uint64_t hash)
{
    for (int i = 0; i < N_HASHES; i++) {
        uint8_t *counter = counter_at(t, hash, i);

        if (*counter > 0 && *counter < UINT8_MAX) {
            --*counter;
        }
    }
}

void kv_twins_fill(struct kv_twins *t, struct kv_tx *tx)
{
    static const uint8_t table = KV_SERVICE;
    struct kv_scan scan;
    struct kv_row row;

    memset(t->counters, 0, N_COUNTERS);
    mr_buf_reset(&t->gone);
    kv_scan_open(&scan, tx, mr_slice(&table, 1));
    while (kv_scan_next(&scan, &row)) {
        add(t, hash_of(row.key));
    }
    kv_scan_close(&scan);
}

void kv_twins_add(struct kv_twins *t, struct mr_slice key)
{
    add(t, hash_of(key));
}

void kv_twins_remove(struct kv_twins *t, struct mr_slice key)
{
    uint64_t hash = hash_of(key);

    mr_buf_add(&t->gone, &hash, sizeof hash); /* Or it stays: too high. */
}

void kv_twins_commit(struct kv_twins *t)
{
    for (size_t at = 0; at < t->gone.len; at += sizeof(uint64_t)) {
        uint64_t hash;

        memcpy(&hash, t->gone.data + at, sizeof hash);
        take_away(t, hash);
    }
    mr_buf_reset(&t->gone);
}

bool kv_twins_may_be(const struct kv_twins *t, struct mr_slice key)
{
    uint64_t hash = hash_of(key);

    for (int i = 0; i < N_HASHES; i++) {
        if (*counter_at(t, hash, i) < 2) {
            return false;
        }
    }
    return true;
}
