/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of any bytes from an agent. */
#include <stdint.h>

#include "api/internal.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct internal_sender sender = {"a1", "id"};
    const struct internal_sender other = {"a2", "id"};
    struct mr_detail detail;

    if (internal_check_command(mr_slice(data, size), &sender, &detail) ==
        MR_OK) {
        /* It is one agent's alone. */
        mr_assert(internal_check_command(mr_slice(data, size), &other,
                                         &detail) == MR_E_INVALID);
    }
    return 0;
}
