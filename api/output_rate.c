/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often the output of a TTL check may be written when its status stays: ten
 * times at once, and once a second in the long run.
 *
 * A slot holds the time up to which the writes so far are paid for (GCRA), so
 * that one atomic word a slot is all. Checks whose IDs fall on one slot share
 * its rate.
 */
#include <string.h>

#include "api/core.h"
#include "base/hash.h"

#define INTERVAL_MS UINT64_C(1000)
#define BURST UINT64_C(10)

bool api_may_write_output(struct api_request *req, const char *check_id)
{
    uint64_t now = mr_now_ms(req->options->clock);
    uint64_t hash = mr_hash64(mr_slice_str(check_id), 0);
    atomic_uint_fast64_t *slot =
        &req->api->output_slots[hash % API_OUTPUT_SLOTS];
    uint64_t paid = atomic_load_explicit(slot, memory_order_relaxed);
    uint64_t next;

    do {
        next = (paid > now ? paid : now) + INTERVAL_MS;
        if (next - now > BURST * INTERVAL_MS) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(slot, &paid, next));
    return true;
}
