/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files of any bytes, and what they set. */
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct server_config cfg;
    struct mr_detail detail;
    struct mr_buf out = MR_BUF_INIT;
    size_t n;
    const struct server_option *options = server_options(&n);

    mr_assert(server_config_init(&cfg) == MR_OK);
    if (server_config_parse(&cfg, "fuzz.json", mr_slice(data, size), &detail) ==
        MR_OK) {
        for (size_t i = 0; i < n; i++) {
            if (options[i].use == SERVER_OPTION_LIVE ||
                options[i].use == SERVER_OPTION_START) {
                server_config_json(&cfg, &options[i], &out);
            }
        }
        if (server_config_check(&cfg, &detail) == MR_OK) {
            mr_assert(cfg.http_port >= 1 && cfg.http_port <= 65535);
            mr_assert(cfg.node_name[0] != '\0');
        }
    }
    mr_buf_deinit(&out);
    server_config_deinit(&cfg);
    return 0;
}
