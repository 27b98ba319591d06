/* SPDX-License-Identifier: Apache-2.0 */
/* What a target of a gRPC check may send: a header line, or the body. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "health/check_grpc.h"
#include "health/check_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct check_grpc_answer answer;
    struct mr_buf out = MR_BUF_INIT;

    check_grpc_answer_init(&answer);
    check_grpc_header(&answer, mr_slice(data, size));
    mr_assert(strlen(answer.message) < sizeof answer.message);
    mr_assert(check_grpc_code_name(answer.status) != NULL);
    (void)check_grpc_is_serving(mr_slice(data, size));
    check_text_add(&out, data, size);
    mr_assert(strlen(mr_buf_cstr(&out)) == out.len);
    mr_buf_deinit(&out);
    return 0;
}
