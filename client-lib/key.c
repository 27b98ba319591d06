/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and JSON. */
#include "key.h"

#include <string.h>

struct held_keys {
    struct microreg_keys keys; /* First: it is what is handed out. */
    struct mrg_arena arena;
};

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Decode @text (RFC 4648, 4) into @out, which has room for three quarters of it.
 * False: it is no base64. */
static bool decode_base64(const char *text, size_t len, char *out,
                          size_t *out_len)
{
    unsigned bits = 0;
    size_t n = 0;

    if (len % 4 != 0) {
        return false;
    }
    while (len > 0 && text[len - 1] == '=' && len % 4 != 2) {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text[i]);

        if (digit < 0) {
            return false;
        }
        bits = (bits << 6 | (unsigned)digit) & 0xffffff;
        if (i % 4 != 0) {
            out[n++] = (char)(bits >> (6 - 2 * (i % 4)));
        }
    }
    *out_len = n;
    return true;
}

int mrg_key_read(struct mrg_arena *arena, const struct mrg_json *json,
                 struct microreg_key *out_key)
{
    const struct mrg_json *key = mrg_json_get(json, "Key");
    const struct mrg_json *value = mrg_json_get(json, "Value");
    struct microreg_key k = {0};
    const char *text = mrg_json_str(value);
    size_t len = value != NULL && value->type == MRG_JSON_STRING
                     ? value->text_len
                     : 0; /* An empty value is null. */
    char *bytes;

    if (key == NULL || key->type != MRG_JSON_STRING) {
        return MICROREG_E_PROTOCOL;
    }
    bytes = mrg_arena_alloc(arena, len / 4 * 3 + 1);
    if (bytes == NULL) {
        return MICROREG_E_NOMEM;
    }
    if (!decode_base64(text, len, bytes, &k.len)) {
        return MICROREG_E_PROTOCOL;
    }
    bytes[k.len] = '\0';
    k.key = key->text;
    k.value = bytes;
    k.flags = mrg_json_u64(mrg_json_get(json, "Flags"));
    k.create_index = mrg_json_u64(mrg_json_get(json, "CreateIndex"));
    k.modify_index = mrg_json_u64(mrg_json_get(json, "ModifyIndex"));
    k.lock_index = mrg_json_u64(mrg_json_get(json, "LockIndex"));
    k.session = mrg_json_str(mrg_json_get(json, "Session"));
    *out_key = k;
    return MICROREG_OK;
}

int mrg_keys_read(struct mrg_arena *arena, const struct mrg_json *array,
                  uint64_t index, struct microreg_keys **out_keys,
                  struct microreg_error *out_error)
{
    bool is_array = array != NULL && array->type == MRG_JSON_ARRAY;
    size_t n = is_array ? array->n : 0;
    struct microreg_key *items =
        mrg_arena_alloc(arena, (n + 1) * sizeof *items);
    struct held_keys *held;
    int err = items != NULL ? MICROREG_OK : MICROREG_E_NOMEM;
    size_t i = 0;

    for (const struct mrg_json *v = is_array ? array->child : NULL;
         err == MICROREG_OK && v != NULL; v = v->next) {
        err = mrg_key_read(arena, v, &items[i++]);
    }
    if (err == MICROREG_E_PROTOCOL) {
        return mrg_fail(out_error, err,
                        "the answer holds something that is no key");
    }
    held = err == MICROREG_OK ? mrg_alloc(sizeof *held) : NULL;
    if (held == NULL) {
        return mrg_nomem(out_error);
    }
    held->keys = (struct microreg_keys){items, n, index};
    held->arena = *arena;
    *arena = (struct mrg_arena){NULL, 0};
    *out_keys = &held->keys;
    return MICROREG_OK;
}

void microreg_keys_free(struct microreg_keys *keys)
{
    struct held_keys *held = (struct held_keys *)keys;

    if (held != NULL) {
        mrg_arena_deinit(&held->arena);
        mrg_free(held);
    }
}
