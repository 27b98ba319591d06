/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers as Consul's client hands them to handlers. It decodes them into its
 * own structures and encodes those: members come in another order than on the
 * wire, and some that the server leaves out are there with their zero value.
 */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "server/cli_watch.h"

#define DEPTH_MAX 16

/* A member in its place; without @zero it is left out when there is none. */
struct place {
    const char *name;
    const char *zero;
};

static const struct place of_key[] = {
    {"Key", "\"\""},     {"CreateIndex", "0"}, {"ModifyIndex", "0"},
    {"LockIndex", "0"},  {"Flags", "0"},       {"Value", "null"},
    {"Session", "\"\""},
};

static const struct place of_service[] = {
    {"ID", NULL},
    {"Service", NULL},
    {"Tags", NULL},
    {"Meta", NULL},
    {"Port", NULL},
    {"Address", NULL},
    {"TaggedAddresses", NULL},
    {"Weights", NULL},
    {"EnableTagOverride", NULL},
    {"CreateIndex", NULL},
    {"ModifyIndex", NULL},
    {"Proxy", NULL},
    {"Connect", NULL},
};

static const struct place of_definition[] = {
    {"Interval", "\"0s\""},
    {"Timeout", "\"0s\""},
    {"DeregisterCriticalServiceAfter", "\"0s\""},
    {"HTTP", "\"\""},
    {"Header", "null"},
    {"Method", "\"\""},
    {"Body", "\"\""},
    {"TLSSkipVerify", "false"},
    {"TCP", "\"\""},
};

static void write_value(const char *name, json_t *value, unsigned depth,
                        struct mr_json *j);

/* The members of @object in the order of @places, and no others. */
static void write_places(json_t *object, const struct place *places, size_t n,
                         unsigned depth, struct mr_json *j)
{
    mr_json_object(j);
    for (size_t i = 0; i < n; i++) {
        json_t *member = json_object_get(object, places[i].name);

        if (places == of_key && strcmp(places[i].name, "Flags") == 0) {
            /* 64 bits, which may have come as a text. */
            mr_json_ku64(j, "Flags", server_json_u64(object, "Flags"));
        } else if (member != NULL) {
            mr_json_key(j, places[i].name);
            write_value(places[i].name, member, depth, j);
        } else if (places[i].zero != NULL) {
            mr_json_key(j, places[i].name);
            mr_json_raw(j, mr_slice_str(places[i].zero));
        }
    }
    mr_json_object_end(j);
}

static void write_object(const char *name, json_t *object, unsigned depth,
                         struct mr_json *j)
{
    const char *key;
    json_t *member;

    if (strcmp(name, "Definition") == 0) {
        write_places(object, of_definition, MR_ARRAY_LEN(of_definition), depth,
                     j);
        return;
    }
    if (strcmp(name, "Service") == 0) {
        write_places(object, of_service, MR_ARRAY_LEN(of_service), depth, j);
        return;
    }
    if (json_object_get(object, "LockIndex") != NULL) {
        write_places(object, of_key, MR_ARRAY_LEN(of_key), depth, j);
        return;
    }
    mr_json_object(j);
    json_object_foreach(object, key, member)
    {
        mr_json_key(j, key);
        write_value(key, member, depth, j);
    }
    mr_json_object_end(j);
}

static void write_array(json_t *array, unsigned depth, struct mr_json *j)
{
    json_t *element;
    size_t i;

    mr_json_array(j);
    json_array_foreach(array, i, element)
    {
        write_value("", element, depth, j);
    }
    mr_json_array_end(j);
}

/* Write @value, the member called @name. */
static void write_value(const char *name, json_t *value, unsigned depth,
                        struct mr_json *j)
{
    depth++;
    if (depth > DEPTH_MAX || json_is_null(value)) {
        mr_json_null(j);
    } else if (json_is_object(value)) {
        write_object(name, value, depth, j);
    } else if (json_is_array(value)) {
        write_array(value, depth, j);
    } else if (json_is_string(value)) {
        mr_json_strn(j, json_string_value(value), json_string_length(value));
    } else if (json_is_boolean(value)) {
        mr_json_bool(j, json_is_true(value));
    } else {
        mr_json_i64(j, (int64_t)json_number_value(value));
    }
}

bool cli_watch_render(struct mr_slice answer, bool is_one, struct mr_buf *out)
{
    json_error_t why;
    json_t *value = server_json_load(answer, &why);
    json_t *whole = is_one ? json_array_get(value, 0) : value;
    struct mr_json j;

    mr_json_init(&j, out);
    if (whole != NULL) {
        write_value("", whole, 0, &j);
    }
    json_decref(value);
    return whole != NULL && !mr_buf_failed(out);
}
