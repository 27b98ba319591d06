/* SPDX-License-Identifier: Apache-2.0 */
/* The native registry's input: the first byte picks a body or a tag. A service
 * that decodes must encode into a command, and that command must come back as
 * the same service. */
#include <stdint.h>
#include <string.h>

#include "api/registry_body.h"
#include "api/registry_render.h"
#include "api/registry_tags.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Render @row as GET /registry does. */
static void render(const Mr__Node *node, Mr__Service *row)
{
    struct mr_kv_instance instance = {.node = node, .service = row};
    struct registry_list *list = registry_list_new();
    struct mr_buf json = MR_BUF_INIT;
    struct registry_service again;
    struct decode d;

    mr_assert(list != NULL);
    mr_assert(registry_list_add(list, &instance) == MR_OK);
    mr_assert(registry_list_write(list, &json) == MR_OK);
    registry_list_free(list);
    /* An array of one, whose service is decodable again. */
    mr_assert(json.len > 2);
    decode_init(&d);
    mr_assert(registry_body_removal(
                  &d, mr_slice((const char *)json.data + 1, json.len - 2),
                  &again) == MR_OK ||
              row->id[0] == '\0' || row->name[0] == '\0');
    decode_deinit(&d);
    mr_buf_deinit(&json);
}

static void service(struct mr_slice body)
{
    struct registry_service s;
    struct mr_buf cmd = MR_BUF_INIT;
    Mr__Command *c;
    struct decode d;

    decode_init(&d);
    if (registry_body_service(&d, body, 1000, &s) == MR_OK &&
        registry_encode(&d, &s, "dc1", 1000, 1, &cmd) == MR_OK) {
        mr_assert(!mr_buf_failed(&cmd));
        c = mr__command__unpack(NULL, cmd.len, cmd.data);
        mr_assert(c != NULL && c->register_->n_services == s.n_nodes);
        for (size_t i = 0; i < c->register_->n_services; i++) {
            Mr__Service *row = c->register_->services[i];

            render(c->register_->node, row);
            row->origin = MR__ORIGIN__AGENT; /* Its metadata from tags. */
            render(c->register_->node, row);
        }
        mr__command__free_unpacked(c, NULL);
    }
    mr_buf_deinit(&cmd);
    decode_deinit(&d);
}

static void renewals(struct mr_slice body)
{
    struct registry_renewals r;
    struct decode d;

    decode_init(&d);
    if (registry_body_renewals(&d, body, &r) == MR_OK) {
        mr_assert(r.n_nodes > 0 && r.n_nodes <= REGISTRY_RENEW_MAX);
    }
    decode_deinit(&d);
}

/* A service that somebody else registered with these tags, one a line. */
static void tags(struct mr_slice text)
{
    char *copy = mr_memdup0(text.data, text.len);
    char *list[16];
    char *save = NULL;
    Mr__Node node = MR__NODE__INIT;
    Mr__Service row = MR__SERVICE__INIT;

    mr_assert(copy != NULL);
    row.id = (char *)"id";
    row.name = (char *)"name";
    row.tags = list;
    for (char *tag = strtok_r(copy, "\n", &save);
         tag != NULL && row.n_tags < MR_ARRAY_LEN(list);
         tag = strtok_r(NULL, "\n", &save)) {
        list[row.n_tags++] = tag;
    }
    render(&node, &row);
    mr_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_slice rest = mr_slice(data + 1, size == 0 ? 0 : size - 1);

    if (size == 0) {
        return 0;
    }
    switch (data[0] % 3) {
    case 0:
        service(rest);
        break;
    case 1:
        renewals(rest);
        break;
    default:
        tags(rest);
        break;
    }
    return 0;
}
