/* SPDX-License-Identifier: Apache-2.0 */
/* A server's answer at an agent: it means the same in whatever pieces it comes,
 * and never more than its bytes. */
#include <stdint.h>
#include <string.h>

#include "api/relay_answer.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum mr_err feed(const uint8_t *data, size_t size, size_t piece,
                        struct relay_answer *answer, struct mr_buf *out)
{
    enum mr_err err = MR_OK;

    relay_answer_init(answer);
    for (size_t at = 0; err == MR_OK && at < size; at += piece) {
        size_t left = size - at;

        err = relay_answer_feed(
            answer, mr_slice(data + at, left < piece ? left : piece), out);
    }
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct relay_answer whole;
    struct relay_answer pieces;
    struct mr_buf body = MR_BUF_INIT;
    struct mr_buf other = MR_BUF_INIT;
    enum mr_err err = feed(data, size, size, &whole, &body);

    mr_assert(feed(data, size, 3, &pieces, &other) == err || size > 8192);
    mr_assert(body.len <= size);
    if (err == MR_OK && size <= 8192) {
        mr_assert(whole.part == pieces.part && whole.status == pieces.status);
        mr_assert(body.len == other.len);
        mr_assert(body.len == 0 ||
                  memcmp(body.data, other.data, body.len) == 0);
    }
    relay_answer_deinit(&whole);
    relay_answer_deinit(&pieces);
    mr_buf_deinit(&body);
    mr_buf_deinit(&other);
    return 0;
}
