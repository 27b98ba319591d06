/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as watch-verify compares them. */
#include "server/verify.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define DEPTH_MAX 4

/* Take every ModifyIndex out of @value. */
static void strip(json_t *value, unsigned depth)
{
    const char *key;
    json_t *member;
    size_t i;

    if (depth == DEPTH_MAX) {
        return;
    }
    if (json_is_object(value)) {
        (void)json_object_del(value, "ModifyIndex"); /* Or it has none. */
        json_object_foreach(value, key, member)
        {
            strip(member, depth + 1);
        }
    } else {
        json_array_foreach(value, i, member)
        {
            strip(member, depth + 1);
        }
    }
}

static bool is_key(enum watch_kind kind)
{
    return kind == WATCH_KEY || kind == WATCH_KEYPREFIX;
}

uint64_t verify_object_hash(enum watch_kind kind, const json_t *object)
{
    /* A key is not changed here, and its value may be long. */
    json_t *copy = is_key(kind) ? json_incref((json_t *)(uintptr_t)object)
                                : json_deep_copy(object);
    uint64_t hash = 0;
    char *text;

    if (copy == NULL) {
        return 0;
    }
    if (!is_key(kind)) {
        strip(copy, 0);
    }
    if (kind == WATCH_REGISTRY) {
        /* In a list they are those of the version's first node. */
        (void)json_object_del(copy, "metadata");
        (void)json_object_del(copy, "endpoints");
    }
    text = json_dumps(copy, JSON_SORT_KEYS | JSON_COMPACT);
    if (text != NULL) {
        hash = mr_hash64(mr_slice_str(text), 1) | 1;
    }
    free(text); /* jansson's own memory. */
    json_decref(copy);
    return hash;
}

bool verify_object_same(enum watch_kind kind, const json_t *a, const json_t *b)
{
    return kind == WATCH_REGISTRY || is_key(kind)
               ? json_equal(a, b) == 1
               : verify_object_hash(kind, a) == verify_object_hash(kind, b);
}

/* The greatest ModifyIndex in @value. */
static uint64_t last_change(const json_t *value, unsigned depth)
{
    uint64_t last = server_json_u64(value, "ModifyIndex");
    const char *key;
    json_t *member;
    size_t i;

    if (depth == DEPTH_MAX) {
        return last;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        uint64_t n = last_change(member, depth + 1);

        last = n > last ? n : last;
    }
    json_array_foreach(value, i, member)
    {
        uint64_t n = last_change(member, depth + 1);

        last = n > last ? n : last;
    }
    return last;
}

bool verify_object_dated(enum watch_kind kind, enum watch_action action,
                         const json_t *object, uint64_t index)
{
    uint64_t modified = last_change(object, 0);
    uint64_t created = server_json_u64(object, "CreateIndex");

    if (action == WATCH_DELETE || !is_key(kind)) {
        return modified <= index;
    }
    return modified == index &&
           (action == WATCH_CREATE ? created == index : created <= index);
}

struct sum {
    enum watch_kind kind;
    uint64_t state;
};

static void add(void *arg, json_t *object)
{
    struct sum *sum = arg;

    sum->state += verify_object_hash(sum->kind, object);
}

uint64_t verify_answer_state(enum watch_kind kind, struct mr_slice body,
                             bool *out_ok)
{
    struct sum sum = {.kind = kind};
    json_error_t why;
    json_t *answer = server_json_load(body, &why);

    *out_ok = answer != NULL;
    watch_read_objects(kind, answer, add, &sum);
    json_decref(answer);
    return sum.state;
}
