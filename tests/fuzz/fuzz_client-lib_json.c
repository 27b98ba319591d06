/* SPDX-License-Identifier: Apache-2.0 */
/* What a server answers: JSON, and the services and keys in it. */
#include <stdint.h>
#include <stdlib.h>

#include "client-lib/json.h"
#include "client-lib/key.h"
#include "client-lib/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* What was understood can be written and understood again. */
static void write_again(const struct microreg_service *service)
{
    struct mrg_text text = MRG_TEXT_INIT;
    struct mrg_arena arena = {NULL, 0};
    const struct mrg_json *json;
    struct microreg_service again;
    int err = mrg_service_write(service, &text, NULL);

    require(err == MICROREG_OK || err == MICROREG_E_INVALID);
    if (err == MICROREG_OK) {
        require(mrg_json_parse(&arena, text.data, text.len, &json, NULL) ==
                MICROREG_OK);
        require(mrg_service_read(&arena, json, &again) == MICROREG_OK);
        require(again.n_nodes == service->n_nodes);
    }
    mrg_arena_deinit(&arena);
    mrg_text_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mrg_arena arena = {NULL, 0};
    struct microreg_services *services;
    struct microreg_keys *keys;
    const struct mrg_json *json;
    size_t at = 0;

    if (mrg_json_parse(&arena, (const char *)data, size, &json, &at) !=
        MICROREG_OK) {
        require(at <= size);
        mrg_arena_deinit(&arena);
        return 0;
    }
    if (mrg_keys_read(&arena, json, 1, &keys, NULL) == MICROREG_OK) {
        microreg_keys_free(keys);
    } else if (mrg_services_read(&arena, json, 1, &services, NULL) ==
               MICROREG_OK) {
        for (size_t i = 0; i < services->n; i++) {
            write_again(&services->items[i]);
        }
        microreg_services_free(services);
    }
    mrg_arena_deinit(&arena);
    return 0;
}
