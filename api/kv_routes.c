/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/kv/: keys and values (consul-parity 8). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/core.h"
#include "api/handlers.h"
#include "api/session_body.h"
#include "api/shapes.h"
#include "api/target.h"

#define KEY_MAX_LEN 8192 /* As kv/mr_kv.h has it. */

/* ------------------------------------------------------------- reading */

bool api_kv_get_prepare(struct api_request *req)
{
    if (req->arg[0] == '\0' && !api_query_has(req, "keys") &&
        !api_query_has(req, "recurse")) {
        return api_error(req, 400, "Missing key name");
    }
    return true;
}

struct list {
    struct mr_json json;
    size_t n;
};

static bool add_listed(void *arg, const Mr__Key *key)
{
    struct list *list = arg;

    shape_key(&list->json, key);
    list->n++;
    return !mr_buf_failed(list->json.out);
}

static bool add_name(void *arg, const Mr__Key *key)
{
    struct list *list = arg;

    mr_json_strn(&list->json, (const char *)key->key.data, key->key.len);
    list->n++;
    return !mr_buf_failed(list->json.out);
}

/* ?recurse and ?keys. Nothing found is a 404, but for the names of all keys. */
static enum mr_err get_list(struct api_request *req, struct mr_kv_view *view,
                            struct mr_buf *out, bool names)
{
    const char *separator = api_query(req, "separator");
    struct mr_slice prefix = mr_slice_str(req->arg);
    struct list list = {.n = 0};
    enum mr_err err;

    api_depends(req, MR_KV_TOPIC_PREFIX, req->arg);
    mr_json_init(&list.json, out);
    mr_json_array(&list.json);
    if (names) {
        err = mr_kv_key_names(view, prefix, mr_slice_str(separator), add_name,
                              &list, &req->reply.index);
    } else {
        err =
            mr_kv_key_list(view, prefix, add_listed, &list, &req->reply.index);
    }
    mr_json_array_end(&list.json);
    if (err == MR_OK && list.n == 0 && !(names && prefix.len == 0)) {
        mr_buf_reset(out);
        req->reply.status = 404;
    }
    return err;
}

/* ?raw: the value as it is, in a way that no browser runs it. */
static void add_raw(struct api_request *req, const Mr__Key *key,
                    struct mr_buf *out)
{
    req->reply.type = "text/plain";
    req->reply.is_bytes = true;
    api_reply_header(req, "Content-Security-Policy", "sandbox");
    api_reply_header(req, "X-Content-Type-Options", "nosniff");
    mr_buf_add(out, key->value.data, key->value.len);
}

/* Tell the number with which the asker holds the lock, or somebody does. */
static void add_fence(struct api_request *req, uint64_t fence)
{
    char text[24];

    if (fence == 0) {
        return;
    }
    int len = snprintf(text, sizeof text, "%" PRIu64, fence);
    const char *value = api_dup(req, text, (size_t)len);

    if (value != NULL) {
        api_reply_header(req, "X-Microreg-Fence", value);
    }
}

enum mr_err api_kv_get(struct api_request *req, struct mr_kv_view *view,
                       struct mr_buf *out)
{
    const Mr__Key *key;
    struct mr_json j;

    if (api_query_has(req, "keys")) {
        return get_list(req, view, out, true);
    }
    if (api_query_has(req, "recurse")) {
        return get_list(req, view, out, false);
    }
    api_depends(req, MR_KV_TOPIC_KEY, req->arg);
    enum mr_err err =
        mr_kv_key_get(view, mr_slice_str(req->arg), &key, &req->reply.index);

    if (err != MR_OK) {
        return err;
    }
    if (key != NULL) {
        add_fence(req, key->fence);
    }
    if (key == NULL) {
        req->reply.status = 404;
    } else if (api_query_has(req, "raw")) {
        add_raw(req, key, out);
    } else {
        mr_json_init(&j, out);
        mr_json_array(&j);
        shape_key(&j, key);
        mr_json_array_end(&j);
    }
    return MR_OK;
}

/* ------------------------------------------------------------- writing */

/* Refuse those of ?cas, ?acquire, ?release (and ?recurse with ?cas) that
 * exclude each other. The text names the whole query. */
static bool refuse_conflict(struct api_request *req, const char *const *names,
                            size_t n_names)
{
    struct mr_buf query = MR_BUF_INIT;
    size_t n = 0;

    for (size_t i = 0; i < n_names; i++) {
        n += api_query_has(req, names[i]);
    }
    if (n < 2) {
        return false;
    }
    api_query_encode(req->params, req->n_params, &query);
    api_error(req, 400, "Conflicting flags: %s", mr_buf_cstr(&query));
    mr_buf_deinit(&query);
    return true;
}

/* Parse ?@name when it is there. False: answered with Go's sentence. */
static bool parse_number(struct api_request *req, const char *name,
                         bool *out_has, uint64_t *out_n)
{
    const char *text = api_query(req, name);
    struct mr_detail detail;

    *out_has = text != NULL;
    if (text != NULL && api_parse_uint(text, out_n, &detail) != MR_OK) {
        return api_error(req, 500, "%s", detail.text);
    }
    return true;
}

/* ?@name of a lock names a session, with *@out_refusal as of
 * session_id_refusal(); false: answered that none is named. */
static bool parse_session(struct api_request *req, const char *name,
                          char **out_session, const char **out_refusal)
{
    const char *session = api_query(req, name);

    if (session == NULL) {
        return true;
    }
    if (session[0] == '\0') {
        return api_error(req, 500, "missing session");
    }
    *out_refusal = session_id_refusal(session);
    *out_session = (char *)session;
    return true;
}

/* The condition that a lock is still held with a fencing number. */
struct fence {
    uint64_t number; /* 0: no condition. */
    ProtobufCBinaryData key;
};

static const struct api_param *find_param(const struct api_request *req,
                                          const char *name)
{
    for (size_t i = 0; i < req->n_params; i++) {
        if (strcmp(req->params[i].name, name) == 0) {
            return &req->params[i];
        }
    }
    return NULL;
}

/* Parse ?fence and ?fence-key. False: answered what is wrong. */
static bool parse_fence(struct api_request *req, struct fence *out)
{
    const struct api_param *number = find_param(req, "fence");
    const struct api_param *key = find_param(req, "fence-key");
    struct mr_detail detail;

    if (number == NULL && key == NULL) {
        return true;
    }
    if (number == NULL || key == NULL || key->value_len == 0) {
        return api_error(req, 400,
                         "Missing %s: a fenced write needs ?fence=NUMBER and "
                         "?fence-key=KEY",
                         number == NULL ? "fence" : "fence-key");
    }
    if (api_parse_uint(number->value, &out->number, &detail) != MR_OK) {
        return api_error(req, 400, "Invalid fence: %s", detail.text);
    }
    if (out->number == 0) {
        return api_error(req, 400, "Invalid fence: no lock has the number 0");
    }
    if (key->value_len > KEY_MAX_LEN) {
        return api_error(req, 400, "Invalid fence-key: longer than %d bytes",
                         KEY_MAX_LEN);
    }
    out->key.data = (uint8_t *)(uintptr_t)key->value; /* Not written to. */
    out->key.len = key->value_len;
    return true;
}

static void put_done(struct api_request *req, const struct mr_kv_result *result)
{
    api_done_bool(req, result); /* First: it begins the answer anew. */
    if (result->verdict == MR_KV_DONE) {
        add_fence(req, result->fence);
    }
}

/* The command of a PUT. */
static void encode_put(struct api_request *req, Mr__KeyPut *put)
{
    Mr__Command cmd = MR__COMMAND__INIT;

    put->key.data = (uint8_t *)(uintptr_t)req->arg; /* Not written to. */
    put->key.len = strlen(req->arg);
    put->value.data = req->body.data;
    put->value.len = req->body.len;
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = put;
    mr_kv_command_encode(&cmd, &req->cmd);
}

/* ?acquire and ?release. False: answered. */
static bool parse_lock(struct api_request *req, Mr__KeyPut *put)
{
    const char *refusal = NULL;

    if (!parse_session(req, "acquire", &put->acquire, &refusal)) {
        return false;
    }
    if (refusal != NULL) {
        return api_error(req, 500, "%s", refusal);
    }
    if (!parse_session(req, "release", &put->release, &refusal)) {
        return false;
    }
    if (refusal != NULL) {
        api_reply_false(req); /* It holds nothing. */
    }
    return refusal == NULL;
}

void api_kv_put(struct api_request *req)
{
    static const char *const exclusive[] = {"cas", "acquire", "release"};
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    struct fence fence = {.number = 0};
    bool has_flags;
    bool has_cas;

    if (refuse_conflict(req, exclusive, 3)) {
        return;
    }
    if (req->arg[0] == '\0') {
        api_error(req, 400, "Missing key name");
        return;
    }
    if (!parse_number(req, "flags", &has_flags, &put.flags) ||
        !parse_number(req, "cas", &has_cas, &put.cas) ||
        !parse_lock(req, &put) || !parse_fence(req, &fence)) {
        return;
    }
    put.has_cas = has_cas;
    put.fence = fence.number;
    put.fence_key = fence.key;
    encode_put(req, &put);
    api_submit(req, put_done);
}

void api_kv_delete(struct api_request *req)
{
    static const char *const exclusive[] = {"recurse", "cas"};
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__KeyDelete del = MR__KEY_DELETE__INIT;
    struct fence fence = {.number = 0};
    bool has_cas;

    if (refuse_conflict(req, exclusive, 2)) {
        return;
    }
    del.recurse = api_query_has(req, "recurse");
    if (req->arg[0] == '\0' && !del.recurse) {
        api_error(req, 400, "Missing key name");
        return;
    }
    if (!parse_number(req, "cas", &has_cas, &del.cas) ||
        !parse_fence(req, &fence)) {
        return;
    }
    del.has_cas = has_cas;
    del.fence = fence.number;
    del.fence_key = fence.key;
    del.key.data = (uint8_t *)(uintptr_t)req->arg; /* Not written to. */
    del.key.len = strlen(req->arg);
    cmd.op_case = MR__COMMAND__OP_KEY_DELETE;
    cmd.key_delete = &del;
    mr_kv_command_encode(&cmd, &req->cmd);
    api_submit(req, api_done_bool);
}
