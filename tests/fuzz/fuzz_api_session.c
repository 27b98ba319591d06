/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of sessions: what is taken keeps within its bounds. */
#include <stdint.h>

#include "api/session_body.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Mr__Session session;
    unsigned status = 0;
    struct decode d;
    enum mr_err err;

    decode_init(&d);
    err = session_body(&d, mr_slice(data, size), "n1", &session, &status);
    if (err == MR_OK) {
        size_t len = mr__session__get_packed_size(&session);

        mr_assert(len > 0);
        mr_assert(session.ttl_ms == 0 ||
                  (session.ttl_ms >= SESSION_TTL_MIN_MS &&
                   session.ttl_ms <= SESSION_TTL_MAX_MS));
        mr_assert(session.lock_delay_ms <= INT64_MAX / 1000000);
    } else if (err == MR_E_INVALID) {
        mr_assert(d.error[0] != '\0');
        mr_assert(status == 400 || status == 500);
    }
    decode_deinit(&d);
    return 0;
}
