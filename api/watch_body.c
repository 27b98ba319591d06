/* SPDX-License-Identifier: Apache-2.0 */
/* What POST /registry/watch takes: {"services":[{"name","index"}...]}. */
#include "api/watch_body.h"

#include <stdlib.h>
#include <string.h>

#include "api/registry_body.h"
#include "base/mem.h"

struct service {
    char *name;
    int64_t index;
};

struct body {
    struct service **services;
    size_t n_services;
};

static const struct decode_field service_fields[] = {
    DECODE_FIELD(struct service, DECODE_TEXT, "name", name),
    DECODE_FIELD(struct service, DECODE_INT, "index", index),
};
static const struct decode_table service_table = {
    .go_name = "Service",
    .fields = service_fields,
    .n_fields = MR_ARRAY_LEN(service_fields),
    .size = sizeof(struct service),
    .skips_unknown = true,
};

static const struct decode_field body_fields[] = {
    DECODE_MANY(struct body, DECODE_OBJECTS, "services", services,
                &service_table),
};
static const struct decode_table body_table = {
    .go_name = "",
    .fields = body_fields,
    .n_fields = MR_ARRAY_LEN(body_fields),
    .size = sizeof(struct body),
    .skips_unknown = true,
};

static enum mr_err check_service(struct decode *d, size_t i,
                                 const struct service *s)
{
    size_t len = s->name == NULL ? 0 : strlen(s->name);

    if (len == 0 || len > REGISTRY_NAME_MAX) {
        return decode_fail(d, "services[%zu].name must have 1 to %d bytes", i,
                           REGISTRY_NAME_MAX);
    }
    if (s->index < 0) {
        return decode_fail(d, "services[%zu].index is negative", i);
    }
    return MR_OK;
}

static int compare_names(const void *a_, const void *b_)
{
    const struct api_watch_name *a = a_;
    const struct api_watch_name *b = b_;

    return strcmp(a->name.data, b->name.data); /* Both end with a NUL. */
}

/* Sort the names and leave out repetitions; returns how many stay. */
static size_t sort_names(struct api_watch_name *names, size_t n)
{
    size_t kept = 0;

    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || compare_names(&names[kept - 1], &names[i]) != 0) {
            names[kept++] = names[i];
        } else if (names[i].index < names[kept - 1].index) {
            names[kept - 1].index = names[i].index;
        }
    }
    return kept;
}

enum mr_err watch_body_names(struct decode *d, struct mr_slice body,
                             struct api_watch_name *out, size_t *out_n)
{
    struct body b = {NULL, 0};
    enum mr_err err = decode_body(d, body, &body_table, &b);

    if (err == MR_OK &&
        (b.n_services == 0 || b.n_services > API_WATCH_NAMES_MAX)) {
        err = decode_fail(d, "\"services\" must have 1 to %d members, has %zu",
                          API_WATCH_NAMES_MAX, b.n_services);
    }
    for (size_t i = 0; err == MR_OK && i < b.n_services; i++) {
        err = check_service(d, i, b.services[i]);
        if (err == MR_OK) {
            out[i].name = mr_slice_str(b.services[i]->name);
            out[i].index = (uint64_t)b.services[i]->index;
        }
    }
    if (err == MR_OK) {
        *out_n = sort_names(out, b.n_services);
    }
    return err;
}
