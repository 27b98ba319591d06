/* SPDX-License-Identifier: Apache-2.0 */
/* catalog nodes, services, datacenters. */
#include "server/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define NO_MATCH "No %s match the given query - try expanding your search."
#define SHORT_ID_LEN 8

static int too_many(const struct server_cli *cli)
{
    return server_cli_fail("Too many arguments (expected 0, got %d)",
                           cli->argc);
}

static void add_meta(const struct server_cli *cli, struct mr_buf *query)
{
    const struct server_list *meta = &cli->node_meta;

    for (size_t i = 0; i + 1 < meta->n; i += 2) {
        struct mr_buf pair = MR_BUF_INIT;

        mr_buf_printf(&pair, "%s:%s", meta->items[i], meta->items[i + 1]);
        server_cli_param(query, "node-meta", mr_buf_cstr(&pair));
        mr_buf_deinit(&pair);
    }
}

/* ---- nodes ---- */

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Append "k=v, k=v", sorted by key. */
static void format_map(json_t *map, const char *between, struct mr_buf *out)
{
    size_t n = json_object_size(map);
    const char **keys = mr_calloc(n + 1, sizeof *keys);
    size_t i = 0;
    const char *key;
    json_t *value;

    if (keys == NULL) {
        out->failed = true;
        return;
    }
    json_object_foreach(map, key, value)
    {
        keys[i++] = key;
    }
    qsort(keys, n, sizeof *keys, by_key);
    for (i = 0; i < n; i++) {
        mr_buf_printf(out, "%s%s=%s", i > 0 ? between : "", keys[i],
                      server_json_text(map, keys[i]));
    }
    mr_free(keys);
}

static void add_map(struct server_table *table, json_t *map)
{
    struct mr_buf text = MR_BUF_INIT;

    format_map(map, ", ", &text);
    server_table_add(table, mr_buf_cstr(&text));
    mr_buf_deinit(&text);
}

static void add_node(const struct server_cli *cli, struct server_table *table,
                     const json_t *node)
{
    const char *id = server_json_text(node, "ID");
    char brief[SHORT_ID_LEN + 1];

    (void)snprintf(brief, sizeof brief, "%s", id);
    server_table_add(table, server_json_text(node, "Node"));
    server_table_add(table, cli->detailed ? id : brief);
    server_table_add(table, server_json_text(node, "Address"));
    server_table_add(table, server_json_text(node, "Datacenter"));
    if (cli->detailed) {
        const char *meta =
            json_object_get(node, "NodeMeta") != NULL ? "NodeMeta" : "Meta";

        add_map(table, json_object_get(node, "TaggedAddresses"));
        add_map(table, json_object_get(node, meta));
    }
}

/* Whether an earlier instance was on the same node. */
static bool is_repeated(const json_t *list, size_t at)
{
    const char *name = server_json_text(json_array_get(list, at), "Node");

    for (size_t i = 0; i < at; i++) {
        if (strcmp(server_json_text(json_array_get(list, i), "Node"), name) ==
            0) {
            return true;
        }
    }
    return false;
}

static int print_nodes(const struct server_cli *cli, const json_t *list)
{
    static const char *const heads[] = {
        "Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"};
    size_t columns = cli->detailed ? 6 : 4;
    struct server_table table;

    if (server_table_init(&table, columns) != MR_OK) {
        return server_cli_fail("out of memory");
    }
    for (size_t i = 0; i < columns; i++) {
        server_table_add(&table, heads[i]);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (cli->service == NULL || !is_repeated(list, i)) {
            add_node(cli, &table, json_array_get(list, i));
        }
    }
    return server_table_print(&table);
}

int server_cli_catalog_nodes(struct server_cli *cli)
{
    struct mr_buf path = MR_BUF_INIT;
    struct mr_buf query = MR_BUF_INIT;
    struct server_answer answer;
    json_t *list;
    int status;

    if (cli->argc > 0) {
        return too_many(cli);
    }
    if (cli->service != NULL) {
        mr_buf_str(&path, "/v1/catalog/service/");
        server_cli_escape(cli->service, &path);
    } else {
        mr_buf_str(&path, "/v1/catalog/nodes");
    }
    server_cli_param(&query, "near", cli->near);
    server_cli_param(&query, "filter", cli->filter);
    add_meta(cli, &query);
    list =
        server_cli_get(cli, mr_buf_cstr(&path), mr_buf_cstr(&query), &answer);
    if (list == NULL) {
        status = server_cli_fail("Error listing nodes: %s", answer.error);
    } else if (server_cli_wants_json(cli)) {
        status = server_cli_print_json(list);
    } else if (json_array_size(list) == 0) {
        (void)server_cli_fail(NO_MATCH, "nodes");
        status = CLI_OK; /* As Consul: nothing found is no error. */
    } else {
        status = print_nodes(cli, list);
    }
    json_decref(list);
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    mr_buf_deinit(&path);
    return status;
}

/* ---- services ---- */

/* Of the catalog: name -> tags. Of a node: {"Services": {id: service}}, made
 * into the same. A new reference. */
static json_t *services_of(const struct server_cli *cli, json_t *answer)
{
    json_t *services = json_object_get(answer, "Services");
    json_t *all;
    const char *id;
    json_t *service;

    if (cli->node == NULL) {
        return json_incref(answer);
    }
    all = json_object();
    json_object_foreach(services, id, service)
    {
        const char *name = server_json_text(service, "Service");
        json_t *tags = json_object_get(all, name);

        if (tags == NULL) {
            tags = json_array();
            (void)json_object_set_new(all, name, tags); /* Or no memory. */
        }
        (void)json_array_extend(tags, json_object_get(service, "Tags"));
    }
    return all;
}

static void join_tags(const json_t *tags, struct mr_buf *out)
{
    size_t n = json_array_size(tags);
    const char **sorted = mr_calloc(n + 1, sizeof *sorted);

    if (sorted == NULL) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *tag = json_string_value(json_array_get(tags, i));

        sorted[i] = tag != NULL ? tag : "";
    }
    qsort(sorted, n, sizeof *sorted, by_key);
    for (size_t i = 0; i < n; i++) {
        mr_buf_printf(out, "%s%s", i > 0 ? "," : "", sorted[i]);
    }
    mr_free(sorted);
}

static int print_services(const struct server_cli *cli, json_t *services)
{
    size_t n = json_object_size(services);
    const char **names = mr_calloc(n + 1, sizeof *names);
    struct server_table table;
    const char *name;
    json_t *tags;
    size_t i = 0;

    if (names == NULL ||
        server_table_init(&table, cli->tags ? 2 : 1) != MR_OK) {
        mr_free(names);
        return server_cli_fail("out of memory");
    }
    json_object_foreach(services, name, tags)
    {
        names[i++] = name;
    }
    qsort(names, n, sizeof *names, by_key);
    for (i = 0; i < n; i++) {
        struct mr_buf text = MR_BUF_INIT;

        server_table_add(&table, names[i]);
        if (cli->tags) {
            join_tags(json_object_get(services, names[i]), &text);
            server_table_add(&table, mr_buf_cstr(&text));
        }
        mr_buf_deinit(&text);
    }
    mr_free(names);
    return server_table_print(&table);
}

int server_cli_catalog_services(struct server_cli *cli)
{
    struct mr_buf path = MR_BUF_INIT;
    struct mr_buf query = MR_BUF_INIT;
    struct server_answer answer;
    json_t *services = NULL;
    json_t *root;
    int status;

    if (cli->argc > 0) {
        return too_many(cli);
    }
    if (cli->node != NULL) {
        mr_buf_str(&path, "/v1/catalog/node/");
        server_cli_escape(cli->node, &path);
    } else {
        mr_buf_str(&path, "/v1/catalog/services");
    }
    add_meta(cli, &query);
    root =
        server_cli_get(cli, mr_buf_cstr(&path), mr_buf_cstr(&query), &answer);
    if (root != NULL) {
        services = services_of(cli, root);
    }
    if (root == NULL) {
        status = server_cli_fail("Error listing services: %s", answer.error);
    } else if (server_cli_wants_json(cli)) {
        status = server_cli_print_json(services);
    } else if (json_object_size(services) == 0) {
        (void)server_cli_fail(NO_MATCH, "services");
        status = CLI_OK; /* As Consul: nothing found is no error. */
    } else {
        status = print_services(cli, services);
    }
    json_decref(services);
    json_decref(root);
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    mr_buf_deinit(&path);
    return status;
}

/* ---- datacenters ---- */

int server_cli_catalog_datacenters(struct server_cli *cli)
{
    struct server_answer answer;
    json_t *list;
    int status = CLI_OK;

    if (cli->argc > 0) {
        return too_many(cli);
    }
    list = server_cli_get(cli, "/v1/catalog/datacenters", NULL, &answer);
    if (list == NULL) {
        status = server_cli_fail("Error listing datacenters: %s", answer.error);
    } else if (server_cli_wants_json(cli)) {
        status = server_cli_print_json(list);
    } else {
        for (size_t i = 0; i < json_array_size(list); i++) {
            (void)printf("%s\n", json_string_value(json_array_get(list, i)));
        }
    }
    json_decref(list);
    server_answer_deinit(&answer);
    return status;
}
