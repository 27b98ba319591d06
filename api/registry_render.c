/* SPDX-License-Identifier: Apache-2.0 */
/* Instances of the catalog as go-micro's services. */
#include "api/registry_render.h"

#include <stdlib.h>
#include <string.h>

#include "api/registry_tags.h"
#include "base/mem.h"

/* What the tags of one list may hold in all; what is beyond is left out, so
 * that a few kilobytes in the state cannot become gigabytes of JSON. */
#define LIST_BYTES_MAX ((size_t)64 * 1024 * 1024)

struct entry {
    struct mr_kv_instance instance; /* Without its checks. */
    const char *version;            /* The list's. */
};

/* A version, once for all instances in a row that have its tag. */
struct version {
    struct version *next;
    const char *tag; /* The view's, or NULL. */
    char text[];
};

struct registry_list {
    struct mr_buf entries;
    struct version *versions;
    struct mr_buf plain; /* What a tag holds. */
    size_t bytes;        /* That all of them held. */
};

struct registry_list *registry_list_new(void)
{
    return mr_calloc(1, sizeof(struct registry_list));
}

static void forget_versions(struct registry_list *list)
{
    while (list->versions != NULL) {
        struct version *next = list->versions->next;

        mr_free(list->versions);
        list->versions = next;
    }
}

void registry_list_free(struct registry_list *list)
{
    if (list == NULL) {
        return;
    }
    forget_versions(list);
    mr_buf_deinit(&list->entries);
    mr_buf_deinit(&list->plain);
    mr_free(list);
}

/* What @tag holds, in list->plain; false: nothing that can be read. */
static bool read_tag(struct registry_list *list, const char *tag)
{
    if (list->bytes > LIST_BYTES_MAX || !registry_tag_get(tag, &list->plain)) {
        return false;
    }
    list->bytes += list->plain.len;
    return true;
}

/* ------------------------------------------------------------- versions */

/* The newest of list->versions becomes the one in list->plain. */
static bool add_version(struct registry_list *list, const char *tag)
{
    size_t len = list->plain.len;
    struct version *v = mr_malloc(sizeof *v + len + 1);

    if (v == NULL) {
        return false;
    }
    v->next = list->versions;
    v->tag = tag;
    if (len > 0) {
        memcpy(v->text, list->plain.data, len);
    }
    v->text[len] = '\0';
    list->versions = v;
    return true;
}

/* The tag that holds the version of @service, or NULL. */
static const char *version_tag(const Mr__Service *service)
{
    for (size_t i = 0; i < service->n_tags; i++) {
        if (registry_tag_form(service->tags[i], REGISTRY_TAG_VERSION)) {
            return service->tags[i];
        }
    }
    return NULL;
}

static bool same_tag(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool registry_version_differs(const Mr__Service *a, const Mr__Service *b)
{
    return !same_tag(version_tag(a), version_tag(b));
}

/* Put the version of @service first in list->versions. MR_E_NOMEM. */
static enum mr_err find_version(struct registry_list *list,
                                const Mr__Service *service)
{
    const struct version *last = list->versions;
    const char *tag = version_tag(service);

    if (last != NULL && same_tag(last->tag, tag)) {
        return MR_OK;
    }
    if (tag == NULL || !read_tag(list, tag)) {
        mr_buf_reset(&list->plain);
    }
    return add_version(list, tag) ? MR_OK : MR_E_NOMEM;
}

/* ------------------------------------------------------------- collecting */

static bool is_critical(const struct mr_kv_instance *instance)
{
    for (size_t i = 0; i < instance->n_checks; i++) {
        if (strcmp(instance->checks[i]->status, "critical") == 0) {
            return true;
        }
    }
    return false;
}

enum mr_err registry_list_add(struct registry_list *list,
                              const struct mr_kv_instance *instance)
{
    struct entry entry = {
        .instance = {.node = instance->node, .service = instance->service}};
    enum mr_err err;

    if (is_critical(instance)) {
        return MR_OK;
    }
    err = find_version(list, instance->service);
    if (err != MR_OK) {
        return err;
    }
    entry.version = list->versions->text;
    mr_buf_add(&list->entries, &entry, sizeof entry);
    return mr_buf_failed(&list->entries) ? MR_E_NOMEM : MR_OK;
}

int registry_compare_ids(const struct mr_kv_instance *a,
                         const struct mr_kv_instance *b)
{
    int order = strcmp(a->service->name, b->service->name);

    if (order == 0) {
        order = strcmp(a->service->id, b->service->id);
    }
    if (order == 0) {
        order = (a->service->create_rev < b->service->create_rev) -
                (a->service->create_rev > b->service->create_rev);
    }
    return order != 0 ? order : strcmp(a->node->name, b->node->name);
}

bool registry_same_id(const struct mr_kv_instance *a,
                      const struct mr_kv_instance *b)
{
    return strcmp(a->service->id, b->service->id) == 0 &&
           strcmp(a->service->name, b->service->name) == 0;
}

static int compare_ids(const void *a_, const void *b_)
{
    const struct entry *a = a_;
    const struct entry *b = b_;

    return registry_compare_ids(&a->instance, &b->instance);
}

/* Of those that have one ID only the latest registered stays. */
static void drop_twins(struct registry_list *list)
{
    struct entry *entries = (struct entry *)(void *)list->entries.data;
    size_t n = list->entries.len / sizeof *entries;
    size_t kept = 0;

    if (n > 1) {
        qsort(entries, n, sizeof *entries, compare_ids);
    }
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || !registry_same_id(&entries[kept - 1].instance,
                                           &entries[i].instance)) {
            entries[kept++] = entries[i];
        }
    }
    list->entries.len = kept * sizeof *entries;
}

/* By service; its nodes by ID. */
static int compare_service(const struct entry *a, const struct entry *b)
{
    int order = strcmp(a->instance.service->name, b->instance.service->name);

    return order != 0 ? order : strcmp(a->version, b->version);
}

static int compare_entries(const void *a_, const void *b_)
{
    const struct entry *a = a_;
    const struct entry *b = b_;
    int order = compare_service(a, b);

    return order != 0
               ? order
               : strcmp(a->instance.service->id, b->instance.service->id);
}

/* ------------------------------------------------------------- endpoints */

/* Write the endpoint in list->plain, unless it is none. */
static enum mr_err write_endpoint(struct registry_list *list, struct mr_json *j,
                                  size_t *n)
{
    struct registry_endpoint endpoint;
    struct decode d;
    enum mr_err err;

    decode_init(&d);
    err = registry_body_endpoint(&d, mr_buf_slice(&list->plain), &endpoint);
    if (err == MR_OK) {
        if ((*n)++ == 0) {
            mr_json_array(j);
        }
        registry_write_endpoint(j, &endpoint);
    }
    decode_deinit(&d);
    return err == MR_E_NOMEM ? err : MR_OK;
}

/* As the plugin: the form of the first tag is the form of all. */
static enum mr_err write_endpoints(struct registry_list *list,
                                   struct mr_json *j,
                                   const Mr__Service *service)
{
    enum mr_err err = MR_OK;
    char form = '\0';
    size_t n = 0;

    for (size_t i = 0; i < service->n_tags && err == MR_OK; i++) {
        const char *tag = service->tags[i];
        char own = registry_tag_form(tag, REGISTRY_TAG_ENDPOINT);

        if (own == '\0' || (form != '\0' && own != form) ||
            !read_tag(list, tag)) {
            continue;
        }
        form = own;
        err = write_endpoint(list, j, &n);
    }
    if (n > 0) {
        mr_json_array_end(j);
    } else {
        mr_json_null(j);
    }
    return err;
}

/* ------------------------------------------------------------- metadata */

/* Pairs from tags, while they are collected. */
struct pairs {
    struct decode *decodes; /* One a tag: they own the texts. */
    size_t n_decodes;
    struct mr_buf list; /* Mr__Pair * */
};

static int compare_pairs(const void *a, const void *b)
{
    return strcmp((*(Mr__Pair *const *)a)->key, (*(Mr__Pair *const *)b)->key);
}

static enum mr_err add_pairs(struct registry_list *list, struct pairs *p)
{
    struct decode *d = &p->decodes[p->n_decodes++];
    Mr__Pair **pairs = NULL;
    size_t n = 0;
    enum mr_err err;

    decode_init(d);
    err = registry_body_pairs(d, mr_buf_slice(&list->plain), &pairs, &n);
    if (err == MR_OK && n > 0) {
        mr_buf_add(&p->list, pairs, n * sizeof(Mr__Pair *));
    }
    return err == MR_E_NOMEM || mr_buf_failed(&p->list) ? MR_E_NOMEM : MR_OK;
}

/* The pairs in the tags of @service; again, the first form counts. */
static enum mr_err read_pairs(struct registry_list *list,
                              const Mr__Service *service, struct pairs *p)
{
    enum mr_err err = MR_OK;
    char form = '\0';

    p->decodes = mr_calloc(service->n_tags + 1, sizeof *p->decodes);
    if (p->decodes == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < service->n_tags && err == MR_OK; i++) {
        const char *tag = service->tags[i];
        char own = registry_tag_form(tag, REGISTRY_TAG_METADATA);

        if (own == '\0' || (form != '\0' && own != form) ||
            !read_tag(list, tag)) {
            continue;
        }
        form = own;
        err = add_pairs(list, p);
    }
    return err;
}

static void write_pairs(struct mr_json *j, struct pairs *p)
{
    Mr__Pair **pairs = (Mr__Pair **)(void *)p->list.data;
    size_t n = p->list.len / sizeof(Mr__Pair *);
    size_t kept = 0;

    if (n > 0) {
        qsort(pairs, n, sizeof(Mr__Pair *), compare_pairs);
    }
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || strcmp(pairs[kept - 1]->key, pairs[i]->key) != 0) {
            pairs[kept++] = pairs[i];
        }
    }
    registry_write_pairs(j, pairs, kept);
}

/* The metadata of a node: from its tags; from Meta where it has none, and where
 * both are known to be the same. */
static enum mr_err write_metadata(struct registry_list *list, struct mr_json *j,
                                  const Mr__Service *service)
{
    struct pairs p = {.list = MR_BUF_INIT};
    enum mr_err err = MR_OK;

    if (service->origin != MR__ORIGIN__REGISTRY) {
        err = read_pairs(list, service, &p);
    }
    if (err == MR_OK && p.list.len > 0) {
        write_pairs(j, &p);
    } else {
        registry_write_pairs(j, service->meta, service->n_meta);
    }
    for (size_t i = 0; i < p.n_decodes; i++) {
        decode_deinit(&p.decodes[i]);
    }
    mr_free(p.decodes);
    mr_buf_deinit(&p.list);
    return err;
}

/* ------------------------------------------------------------- writing */

/* "host:port"; the host alone when there is no port, as go-micro has it. */
static void write_address(struct registry_list *list, struct mr_json *j,
                          const struct entry *e)
{
    const char *host = e->instance.service->address;

    host = host[0] == '\0' ? e->instance.node->address : host;
    mr_buf_reset(&list->plain);
    if (e->instance.service->port == 0) {
        mr_buf_str(&list->plain, host);
    } else {
        mr_buf_printf(&list->plain,
                      strchr(host, ':') != NULL ? "[%s]:%lld" : "%s:%lld", host,
                      (long long)e->instance.service->port);
    }
    mr_json_strn(j, (const char *)list->plain.data, list->plain.len);
}

static enum mr_err write_node(struct registry_list *list, struct mr_json *j,
                              const struct entry *e)
{
    enum mr_err err;

    mr_json_object(j);
    mr_json_kstr(j, "id", e->instance.service->id);
    mr_json_key(j, "address");
    write_address(list, j, e);
    mr_json_key(j, "metadata");
    err = write_metadata(list, j, e->instance.service);
    mr_json_object_end(j);
    return err;
}

/* Write the service of the @n entries at @e, and all of them. */
static enum mr_err write_service(struct registry_list *list, struct mr_json *j,
                                 const struct entry *e, size_t n)
{
    enum mr_err err;

    mr_json_object(j);
    mr_json_kstr(j, "name", e->instance.service->name);
    mr_json_kstr(j, "version", e->version);
    mr_json_key(j, "metadata");
    registry_write_pairs(j, e->instance.service->registry_meta,
                         e->instance.service->n_registry_meta);
    mr_json_key(j, "endpoints");
    err = write_endpoints(list, j, e->instance.service);
    mr_json_key(j, "nodes");
    mr_json_array(j);
    for (size_t i = 0; i < n && err == MR_OK; i++) {
        err = write_node(list, j, &e[i]);
    }
    mr_json_array_end(j);
    mr_json_object_end(j);
    return err;
}

enum mr_err registry_list_write(struct registry_list *list, struct mr_buf *out)
{
    struct entry *entries;
    size_t n;
    enum mr_err err = MR_OK;
    struct mr_json j;
    size_t last;

    drop_twins(list);
    entries = (struct entry *)(void *)list->entries.data;
    n = list->entries.len / sizeof *entries;
    if (n > 0) {
        qsort(entries, n, sizeof *entries, compare_entries);
    }
    mr_json_init(&j, out);
    mr_json_array(&j);
    for (size_t first = 0; first < n && err == MR_OK; first = last) {
        last = first + 1;
        while (last < n &&
               compare_service(&entries[first], &entries[last]) == 0) {
            last++;
        }
        err = write_service(list, &j, &entries[first], last - first);
    }
    mr_json_array_end(&j);
    return err;
}

enum mr_err registry_write_instance(struct registry_list *list,
                                    const struct mr_kv_instance *instance,
                                    struct mr_buf *out)
{
    struct entry entry = {
        .instance = {.node = instance->node, .service = instance->service}};
    enum mr_err err = find_version(list, instance->service);
    struct mr_json j;

    if (err != MR_OK) {
        return err;
    }
    entry.version = list->versions->text;
    mr_json_init(&j, out);
    err = write_service(list, &j, &entry, 1);
    forget_versions(list); /* Their tags may be gone before the next call. */
    return err;
}
