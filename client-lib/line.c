/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of streams. */
#include "line.h"

#include <string.h>

#include "microreg.h"

static const char *const action_names[] = {
    [MRG_LINE_CREATE] = "create", [MRG_LINE_UPDATE] = "update",
    [MRG_LINE_DELETE] = "delete", [MRG_LINE_RESET] = "reset",
    [MRG_LINE_SYNCED] = "synced", [MRG_LINE_PROGRESS] = "progress",
};

#define N_ACTIONS (sizeof action_names / sizeof *action_names)

static enum mrg_line_action find_action(const char *name)
{
    for (size_t i = 0; i < N_ACTIONS; i++) {
        if (strcmp(action_names[i], name) == 0) {
            return (enum mrg_line_action)i;
        }
    }
    return MRG_LINE_PROGRESS;
}

/* What names the object: a service with one node, or a key. */
static bool read_identity(const struct mrg_json *service,
                          const struct mrg_json *key,
                          struct mrg_stream_line *line)
{
    const struct mrg_json *object = service != NULL ? service : key;
    const struct mrg_json *nodes = mrg_json_get(service, "nodes");

    if (object == NULL || object->type != MRG_JSON_OBJECT) {
        return false;
    }
    line->object = object->raw;
    line->object_len = object->raw_len;
    if (service == NULL) {
        line->name = mrg_json_str(mrg_json_get(key, "Key"));
        return line->name[0] != '\0';
    }
    if (nodes == NULL || nodes->type != MRG_JSON_ARRAY || nodes->n != 1) {
        return false;
    }
    line->name = mrg_json_str(mrg_json_get(service, "name"));
    line->version = mrg_json_str(mrg_json_get(service, "version"));
    line->id = mrg_json_str(mrg_json_get(nodes->child, "id"));
    return line->name[0] != '\0' && line->id[0] != '\0';
}

int mrg_line_parse(struct mrg_arena *arena, const char *text, size_t len,
                   struct mrg_stream_line *out_line)
{
    struct mrg_stream_line line = {.name = "", .id = "", .version = ""};
    const struct mrg_json *json;
    const struct mrg_json *action;
    const struct mrg_json *more;
    int err = mrg_json_parse(arena, text, len, &json, NULL);

    if (err != MICROREG_OK) {
        return err;
    }
    action = mrg_json_get(json, "action");
    more = mrg_json_get(json, "more");
    line.index = mrg_json_u64(mrg_json_get(json, "index"));
    if (action == NULL || action->type != MRG_JSON_STRING || line.index == 0) {
        return MICROREG_E_PROTOCOL;
    }
    line.action = find_action(action->text);
    line.more = more != NULL && more->type == MRG_JSON_TRUE;
    if (line.action == MRG_LINE_RESET) {
        line.name = mrg_json_str(mrg_json_get(json, "name"));
    }
    if (line.action <= MRG_LINE_DELETE &&
        !read_identity(mrg_json_get(json, "service"),
                       mrg_json_get(json, "object"), &line)) {
        return MICROREG_E_PROTOCOL;
    }
    *out_line = line;
    return MICROREG_OK;
}
