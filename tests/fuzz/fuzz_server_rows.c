/* SPDX-License-Identifier: Apache-2.0 */
/* A server's list of rows, as an agent reads it. */
#include <stdint.h>

#include "base/mem.h"
#include "server/sync_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sync_rows rows = {0};
    bool is_there = false;

    if (sync_rows_parse(&rows, mr_slice(data, size), &is_there) == MR_OK) {
        for (size_t i = 0; i < rows.n; i++) {
            mr_assert(sync_rows_find(&rows, rows.items[i].is_check,
                                     rows.items[i].id) != NULL);
        }
        while (rows.n > 0) {
            sync_rows_drop(&rows, &rows.items[rows.n / 2]);
        }
    }
    sync_rows_deinit(&rows);
    return 0;
}
