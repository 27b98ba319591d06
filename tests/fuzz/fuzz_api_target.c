/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets, and what is negotiated from a header, on any bytes. */
#include <stdint.h>
#include <string.h>

#include "api/gzip.h"
#include "api/target.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A cleaned path is clean, and survives being escaped and parsed again. */
static void check_path(const struct api_target *t)
{
    struct mr_buf clean = MR_BUF_INIT;
    struct mr_buf url = MR_BUF_INIT;
    struct api_target again;

    api_path_clean(t->path, t->path_len, &clean);
    mr_assert(api_path_is_clean((const char *)clean.data, clean.len));
    if (api_path_is_clean(t->path, t->path_len)) {
        mr_assert(clean.len == t->path_len &&
                  memcmp(clean.data, t->path, clean.len) == 0);
    }
    (void)api_path_printable(t->path, t->path_len);
    api_path_escape((const char *)clean.data, clean.len, &url);
    void *memory = mr_malloc(api_target_size((char *)url.data, url.len));

    mr_assert(memory != NULL);
    mr_assert(api_target_parse((char *)url.data, url.len, memory, &again) ==
              MR_OK);
    mr_assert(again.path_len == clean.len &&
              memcmp(again.path, clean.data, clean.len) == 0);
    mr_free(memory);
    mr_buf_deinit(&url);
    mr_buf_deinit(&clean);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mr_memdup0(data, size);

    mr_assert(text != NULL);
    void *memory = mr_malloc(api_target_size(text, size));
    struct api_target t;

    mr_assert(memory != NULL);
    if (api_target_parse(text, size, memory, &t) == MR_OK) {
        struct mr_buf query = MR_BUF_INIT;

        check_path(&t);
        api_query_encode(t.params, t.n_params, &query);
        mr_buf_deinit(&query);
    }
    (void)api_accepts_gzip(text);
    mr_free(memory);
    mr_free(text);
    return 0;
}
