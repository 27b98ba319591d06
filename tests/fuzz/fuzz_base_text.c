/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, addresses and the JSON writer on any bytes. */
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mr_memdup0(data, size);
    struct mr_buf out = MR_BUF_INIT;
    struct mr_buf indented = MR_BUF_INIT;
    struct mr_hostport hostport;
    struct mr_detail detail;
    struct mr_json json;
    int64_t ns;

    mr_assert(text != NULL);
    if (mr_duration_parse(text, &ns, &detail) == MR_OK) {
        int64_t again;

        mr_duration_format(&out, ns);
        mr_assert(mr_duration_parse(mr_buf_cstr(&out), &again, NULL) == MR_OK);
        mr_assert(again == ns);
        mr_buf_reset(&out);
    }
    if (mr_hostport_parse(text, 1, &hostport, &detail) == MR_OK) {
        mr_assert(hostport.port > 0 && hostport.host[0] != '\0');
    }
    mr_json_init(&json, &out);
    mr_json_strn(&json, (const char *)data, size);
    mr_json_base64(&json, mr_slice(data, size));
    mr_json_indent(&indented, mr_buf_slice(&out), 4);
    mr_buf_deinit(&indented);
    mr_buf_deinit(&out);
    mr_free(text);
    return 0;
}
