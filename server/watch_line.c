/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of watch streams: from bytes that come in any pieces. */
#include "server/watch.h"

#include <string.h>

#include "base/mem.h"

static const char *const actions[] = {
    [WATCH_CREATE] = "create", [WATCH_UPDATE] = "update",
    [WATCH_DELETE] = "delete", [WATCH_RESET] = "reset",
    [WATCH_SYNCED] = "synced", [WATCH_PROGRESS] = "progress",
};

const char *watch_action_name(enum watch_action action)
{
    return actions[action];
}

static bool hand_out(struct mr_slice line, watch_lines_cb cb, void *arg)
{
    const char *text = line.data;

    if (line.len > 0 && text[line.len - 1] == '\r') {
        line.len--;
    }
    return line.len == 0 || cb(arg, line);
}

bool watch_lines_feed(struct watch_lines *lines, struct mr_slice data,
                      watch_lines_cb cb, void *arg)
{
    const char *at = data.data;
    size_t len = data.len;

    lines->rest.limit = WATCH_LINE_MAX;
    while (len > 0) {
        const char *end = memchr(at, '\n', len);
        size_t n = end == NULL ? len : (size_t)(end - at);
        bool goes_on = true;

        if (end == NULL || lines->rest.len > 0) {
            mr_buf_add(&lines->rest, at, n);
        }
        if (end == NULL) {
            break;
        }
        if (mr_buf_failed(&lines->rest)) {
            return false;
        }
        goes_on =
            lines->rest.len > 0
                ? hand_out(mr_buf_slice(&lines->rest), cb, arg)
                : n <= WATCH_LINE_MAX && hand_out(mr_slice(at, n), cb, arg);
        mr_buf_reset(&lines->rest);
        if (!goes_on) {
            return false;
        }
        at = end + 1;
        len -= n + 1;
    }
    return !mr_buf_failed(&lines->rest);
}

void watch_lines_deinit(struct watch_lines *lines)
{
    mr_buf_deinit(&lines->rest);
}

static enum mr_err find_action(const json_t *line, enum watch_action *out)
{
    const char *name = server_json_text(line, "action");

    for (size_t i = 0; i < MR_ARRAY_LEN(actions); i++) {
        if (strcmp(actions[i], name) == 0) {
            *out = (enum watch_action)i;
            return MR_OK;
        }
    }
    return MR_E_INVALID;
}

static bool has_object(enum watch_action action)
{
    return action == WATCH_CREATE || action == WATCH_UPDATE ||
           action == WATCH_DELETE;
}

/* Take over what the decoded @json says. */
static enum mr_err take(const json_t *json, struct watch_line *out,
                        struct mr_detail *why)
{
    const json_t *index = json_object_get(json, "index");
    const json_t *more = json_object_get(json, "more");
    json_t *object = json_object_get(json, "object");

    if (!json_is_integer(index) || json_integer_value(index) < 0) {
        return mr_fail(why, MR_E_INVALID, "a line without an index");
    }
    if (find_action(json, &out->action) != MR_OK) {
        return mr_fail(why, MR_E_INVALID, "a line with the action \"%.40s\"",
                       server_json_text(json, "action"));
    }
    if (more != NULL && !json_is_boolean(more)) {
        return mr_fail(why, MR_E_INVALID, "\"more\" is no boolean");
    }
    if (object == NULL) {
        object = json_object_get(json, "service");
    }
    if (has_object(out->action) != json_is_object(object)) {
        return mr_fail(why, MR_E_INVALID, "%s %s an object",
                       watch_action_name(out->action),
                       has_object(out->action) ? "without" : "with");
    }
    out->index = (uint64_t)json_integer_value(index);
    out->more = json_is_true(more);
    out->object = has_object(out->action) ? json_incref(object) : NULL;
    return MR_OK;
}

enum mr_err watch_line_parse(struct mr_slice text, struct watch_line *out,
                             struct mr_detail *why)
{
    json_error_t error;
    json_t *json = server_json_load(text, &error);
    enum mr_err err;

    if (json == NULL) {
        return mr_fail(why, MR_E_INVALID, "no JSON: %s", error.text);
    }
    err = take(json, out, why);
    json_decref(json);
    return err;
}

void watch_line_deinit(struct watch_line *line)
{
    json_decref(line->object);
    line->object = NULL;
}
