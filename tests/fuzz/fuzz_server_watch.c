/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a watch stream, in pieces of the size that the first byte says. */
#include <stdint.h>

#include "base/mem.h"
#include "server/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool on_line(void *arg, struct mr_slice text)
{
    struct watch_line line = {0};
    struct mr_buf out = MR_BUF_INIT;

    (void)arg;
    if (watch_line_parse(text, &line, NULL) == MR_OK && line.object != NULL) {
        for (int kind = WATCH_KEY; kind <= WATCH_REGISTRY; kind++) {
            watch_object_id((enum watch_kind)kind, line.object, &out);
            watch_object_describe((enum watch_kind)kind, line.object, &out);
            (void)verify_object_hash((enum watch_kind)kind, line.object);
            (void)verify_object_dated((enum watch_kind)kind, line.action,
                                      line.object, line.index);
        }
    }
    mr_buf_deinit(&out);
    watch_line_deinit(&line);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct watch_lines lines = {0};
    size_t piece = size > 0 ? (size_t)data[0] + 1 : 1;

    for (size_t at = 1; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;

        if (!watch_lines_feed(&lines, mr_slice(data + at, n), on_line, NULL)) {
            break;
        }
    }
    watch_lines_deinit(&lines);
    return 0;
}
