/* SPDX-License-Identifier: Apache-2.0 */
/* Finding services. */
#include <string.h>

#include "call.h"
#include "service.h"
#include "stream.h"

static bool is_list(int status, const struct mrg_json *json)
{
    return status == 200 && json != NULL && json->type == MRG_JSON_ARRAY;
}

/* Ask for one service, or for all (@name NULL); the answer is in @call. */
static int ask(struct microreg *client, const char *name, unsigned flags,
               struct mrg_call *call, struct microreg_error *out_error)
{
    struct mrg_text path = MRG_TEXT_INIT;
    int err;

    mrg_text_str(&path, "/registry");
    if (name != NULL) {
        mrg_text_str(&path, "?service=");
        mrg_text_url(&path, name, false);
    }
    if ((flags & (MICROREG_STALE | MICROREG_CONSISTENT)) != 0) {
        mrg_text_byte(&path, name != NULL ? '&' : '?');
        mrg_text_str(&path,
                     (flags & MICROREG_STALE) != 0 ? "stale" : "consistent");
    }
    if (path.failed) {
        return mrg_nomem(out_error);
    }
    call->method = "GET";
    call->path = path.data;
    call->is_answer = is_list;
    err = mrg_call_run(client, call, out_error);
    mrg_text_deinit(&path);
    return err;
}

/* The answer from what is watched. False: a server must be asked. */
static bool recall(struct microreg *client, const char *name, unsigned flags,
                   struct mrg_call *call)
{
    if ((flags & MICROREG_WATCHED) == 0 || strlen(name) > MRG_NAME_MAX) {
        return false;
    }
    call->answer.limit = MRG_TEXT_LIMIT;
    if (mrg_streams_answer(client, name, &call->answer, &call->index)) {
        return true;
    }
    mrg_text_clear(&call->answer);
    return false;
}

static int not_found(const char *name, struct microreg_error *out_error)
{
    return mrg_fail(out_error, MICROREG_E_NOTFOUND,
                    "service \"%.160s\" is not registered", name);
}

/* Whether an answer is a list without services. */
static bool has_none(const struct mrg_call *call)
{
    return call->json == NULL || call->json->n == 0;
}

static int check_name(const char *name, struct microreg_error *out_error)
{
    if (name == NULL || name[0] == '\0') {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "the name of the service is missing");
    }
    if (!mrg_is_utf8(name, strlen(name))) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "the name of the service is not UTF-8");
    }
    return MICROREG_OK;
}

/* Hand out the answer as it is. */
static int give_json(struct mrg_call *call, char **out_json, size_t *out_len,
                     struct microreg_error *out_error)
{
    size_t len;
    char *json = mrg_text_take(&call->answer, &len);

    if (json == NULL) {
        return mrg_nomem(out_error);
    }
    while (len > 0 && json[len - 1] == '\n') {
        json[--len] = '\0';
    }
    *out_json = json;
    *out_len = len;
    return MICROREG_OK;
}

int microreg_get_service_json(struct microreg *client, const char *name,
                              unsigned flags, char **out_json, size_t *out_len,
                              struct microreg_error *out_error)
{
    struct mrg_call call = {0};
    int err = check_name(name, out_error);
    bool is_empty;

    if (err == MICROREG_OK && recall(client, name, flags, &call)) {
        is_empty = call.answer.len == 2;
    } else if (err == MICROREG_OK) {
        err = ask(client, name, flags, &call, out_error);
        is_empty = err == MICROREG_OK && has_none(&call);
    }
    if (err == MICROREG_OK) {
        err = is_empty ? not_found(name, out_error)
                       : give_json(&call, out_json, out_len, out_error);
    }
    mrg_call_deinit(&call);
    return err;
}

int microreg_get_service(struct microreg *client, const char *name,
                         unsigned flags,
                         struct microreg_services **out_services,
                         struct microreg_error *out_error)
{
    struct mrg_call call = {0};
    int err = check_name(name, out_error);

    if (err == MICROREG_OK && recall(client, name, flags, &call)) {
        err = mrg_json_parse(&call.arena, call.answer.data, call.answer.len,
                             &call.json, NULL);
        err = err == MICROREG_OK ? err : mrg_nomem(out_error);
    } else if (err == MICROREG_OK) {
        err = ask(client, name, flags, &call, out_error);
    }
    if (err == MICROREG_OK) {
        err = has_none(&call)
                  ? not_found(name, out_error)
                  : mrg_services_read(&call.arena, call.json, call.index,
                                      out_services, out_error);
    }
    mrg_call_deinit(&call);
    return err;
}

int microreg_list_services_json(struct microreg *client, unsigned flags,
                                char **out_json, size_t *out_len,
                                struct microreg_error *out_error)
{
    struct mrg_call call = {0};
    int err = ask(client, NULL, flags, &call, out_error);

    if (err == MICROREG_OK) {
        err = give_json(&call, out_json, out_len, out_error);
    }
    mrg_call_deinit(&call);
    return err;
}

int microreg_list_services(struct microreg *client, unsigned flags,
                           struct microreg_services **out_services,
                           struct microreg_error *out_error)
{
    struct mrg_call call = {0};
    int err = ask(client, NULL, flags, &call, out_error);

    if (err == MICROREG_OK) {
        err = mrg_services_read(&call.arena, call.json, call.index,
                                out_services, out_error);
    }
    mrg_call_deinit(&call);
    return err;
}
