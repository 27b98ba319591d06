/* SPDX-License-Identifier: Apache-2.0 */
/* The body of POST /registry/watch: names come out sorted, each once. */
#include <stdint.h>
#include <string.h>

#include "api/registry_body.h"
#include "api/watch_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_watch_name names[API_WATCH_NAMES_MAX];
    struct decode d;
    size_t n = 0;

    decode_init(&d);
    if (watch_body_names(&d, mr_slice(data, size), names, &n) == MR_OK) {
        mr_assert(n > 0 && n <= API_WATCH_NAMES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        mr_assert(names[i].name.len > 0);
        mr_assert(names[i].name.len <= REGISTRY_NAME_MAX);
        mr_assert(strlen(names[i].name.data) == names[i].name.len);
        mr_assert(i == 0 ||
                  strcmp(names[i - 1].name.data, names[i].name.data) < 0);
    }
    decode_deinit(&d);
    return 0;
}
