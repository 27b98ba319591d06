/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values. */
#include "kv.h"

#include <string.h>

#include "key.h"

/* Whether each part between slashes can stand in a path: servers take "//" and
 * dots for another way to write a path, and answer with a redirection. */
static bool has_plain_parts(const char *key)
{
    size_t len = strcspn(key, "/");

    for (;;) {
        bool is_last = key[len] == '\0';

        if ((len == 0 && !is_last) || (len == 1 && key[0] == '.') ||
            (len == 2 && key[0] == '.' && key[1] == '.')) {
            return false;
        }
        if (is_last) {
            return true;
        }
        key += len + 1;
        len = strcspn(key, "/");
    }
}

int mrg_key_check(const char *key, struct microreg_error *out_error)
{
    if (!mrg_is_utf8(key, strlen(key))) {
        return mrg_fail(out_error, MICROREG_E_INVALID, "the key is not UTF-8");
    }
    if (!has_plain_parts(key)) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "key \"%.200s\": between slashes there must be "
                        "something other than \".\" and \"..\"",
                        key);
    }
    return MICROREG_OK;
}

int mrg_key_path(struct mrg_text *path, const char *key,
                 struct microreg_error *out_error)
{
    int err = mrg_key_check(key, out_error);

    if (err != MICROREG_OK) {
        return err;
    }
    mrg_text_str(path, "/v1/kv/");
    mrg_text_url(path, key, true);
    return MICROREG_OK;
}

static int check_key(const char *key, struct microreg_error *out_error)
{
    return key[0] != '\0'
               ? MICROREG_OK
               : mrg_fail(out_error, MICROREG_E_INVALID, "the key is missing");
}

/* ------------------------------------------------------------- reading */

static bool is_keys(int status, const struct mrg_json *json)
{
    return status == 404 ||
           (status == 200 && json != NULL && json->type == MRG_JSON_ARRAY);
}

/* Read a key, or with @recurse all that begin with it; the answer is in @call. */
static int read_keys(struct microreg *client, const char *key, bool recurse,
                     unsigned flags, struct mrg_call *call,
                     struct microreg_error *out_error)
{
    struct mrg_text path = MRG_TEXT_INIT;
    int err = mrg_key_path(&path, key, out_error);

    mrg_text_str(&path, recurse ? "?recurse" : "?");
    if ((flags & MICROREG_STALE) != 0) {
        mrg_text_str(&path, "&stale");
    } else if ((flags & MICROREG_CONSISTENT) != 0) {
        mrg_text_str(&path, "&consistent");
    }
    if (err == MICROREG_OK && path.failed) {
        err = mrg_nomem(out_error);
    }
    if (err == MICROREG_OK) {
        call->method = "GET";
        call->path = path.data;
        call->is_answer = is_keys;
        err = mrg_call_run(client, call, out_error);
    }
    if (err == MICROREG_OK && call->status == 404) {
        err = mrg_fail(out_error, MICROREG_E_NOTFOUND, "no key \"%.200s\"%s",
                       key, recurse ? " nor any behind it" : "");
    }
    mrg_text_deinit(&path);
    return err;
}

int microreg_kv_get(struct microreg *client, const char *key, unsigned flags,
                    struct microreg_keys **out_keys,
                    struct microreg_error *out_error)
{
    struct mrg_call call = {0};
    int err = check_key(key, out_error);

    if (err == MICROREG_OK) {
        err = read_keys(client, key, false, flags, &call, out_error);
    }
    if (err == MICROREG_OK && (call.json == NULL || call.json->n != 1)) {
        err = mrg_fail(out_error, MICROREG_E_PROTOCOL,
                       "the answer is not one key");
    }
    if (err == MICROREG_OK) {
        err = mrg_keys_read(&call.arena, call.json, call.index, out_keys,
                            out_error);
    }
    mrg_call_deinit(&call);
    return err;
}

int microreg_kv_list(struct microreg *client, const char *prefix,
                     unsigned flags, struct microreg_keys **out_keys,
                     struct microreg_error *out_error)
{
    struct mrg_call call = {0};
    int err = read_keys(client, prefix, true, flags, &call, out_error);

    if (err == MICROREG_OK || err == MICROREG_E_NOTFOUND) {
        err = mrg_keys_read(&call.arena, err == MICROREG_OK ? call.json : NULL,
                            call.index, out_keys, out_error);
    }
    mrg_call_deinit(&call);
    return err;
}

int microreg_kv_list_json(struct microreg *client, const char *prefix,
                          bool recurse, char **out_json, size_t *out_len,
                          struct microreg_error *out_error)
{
    struct mrg_call call = {0};
    char *json;
    int err = recurse ? MICROREG_OK : check_key(prefix, out_error);

    if (err == MICROREG_OK) {
        err = read_keys(client, prefix, recurse, 0, &call, out_error);
    }
    if (err == MICROREG_OK) {
        json = mrg_text_take(&call.answer, out_len);
        err = json == NULL ? mrg_nomem(out_error) : MICROREG_OK;
        *out_json = err == MICROREG_OK ? json : *out_json;
    }
    mrg_call_deinit(&call);
    return err;
}

/* ------------------------------------------------------------- writing */

static bool is_verdict(int status, const struct mrg_json *json)
{
    return status == 200 && json != NULL &&
           (json->type == MRG_JSON_TRUE || json->type == MRG_JSON_FALSE);
}

int mrg_kv_write(struct microreg *client, struct mrg_call *call,
                 struct microreg_error *out_error)
{
    int err;

    call->repeat = MRG_ONCE;
    call->is_answer = is_verdict;
    err = mrg_call_run(client, call, out_error);
    if (err == MICROREG_OK && call->json->type == MRG_JSON_FALSE) {
        err = mrg_fail(out_error, MICROREG_E_REFUSED,
                       "%s %.*s: the condition was not met", call->method,
                       (int)strcspn(call->path, "?"), call->path);
    }
    return err;
}

static void write_conditions(struct mrg_text *path,
                             const struct microreg_kv_options *o)
{
    mrg_text_byte(path, '?');
    if (o == NULL) {
        return;
    }
    if (o->flags != 0) {
        mrg_text_printf(path, "&flags=%llu", (unsigned long long)o->flags);
    }
    if (o->has_cas) {
        mrg_text_printf(path, "&cas=%llu", (unsigned long long)o->cas);
    }
    if (o->fence_key != NULL) {
        mrg_text_printf(path,
                        "&fence=%llu&fence-key=", (unsigned long long)o->fence);
        mrg_text_url(path, o->fence_key, true);
    }
}

/* A write with conditions. */
static int write_key(struct microreg *client, const char *method,
                     const char *key, struct mrg_call *call,
                     const struct microreg_kv_options *options,
                     struct microreg_error *out_error)
{
    struct mrg_text path = MRG_TEXT_INIT;
    int err = check_key(key, out_error);

    if (err == MICROREG_OK) {
        err = mrg_key_path(&path, key, out_error);
    }
    write_conditions(&path, options);
    if (err == MICROREG_OK && path.failed) {
        err = mrg_nomem(out_error);
    }
    if (err == MICROREG_OK) {
        call->method = method;
        call->path = path.data;
        err = mrg_kv_write(client, call, out_error);
    }
    mrg_call_deinit(call);
    mrg_text_deinit(&path);
    return err;
}

int microreg_kv_put(struct microreg *client, const char *key, const void *value,
                    size_t len, const struct microreg_kv_options *options,
                    struct microreg_error *out_error)
{
    struct mrg_call call = {.body = value, .body_len = len};

    return write_key(client, "PUT", key, &call, options, out_error);
}

int microreg_kv_cas(struct microreg *client, const char *key, const void *value,
                    size_t len, uint64_t modify_index,
                    struct microreg_error *out_error)
{
    const struct microreg_kv_options options = {.has_cas = true,
                                                .cas = modify_index};

    return microreg_kv_put(client, key, value, len, &options, out_error);
}

int microreg_kv_delete(struct microreg *client, const char *key,
                       const struct microreg_kv_options *options,
                       struct microreg_error *out_error)
{
    struct mrg_call call = {0};

    return write_key(client, "DELETE", key, &call, options, out_error);
}

int microreg_kv_delete_tree(struct microreg *client, const char *prefix,
                            struct microreg_error *out_error)
{
    struct mrg_text path = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "DELETE"};
    int err = mrg_key_path(&path, prefix, out_error);

    mrg_text_str(&path, "?recurse");
    if (err == MICROREG_OK && path.failed) {
        err = mrg_nomem(out_error);
    }
    if (err == MICROREG_OK) {
        call.path = path.data;
        err = mrg_kv_write(client, &call, out_error);
    }
    mrg_call_deinit(&call);
    mrg_text_deinit(&path);
    return err;
}
