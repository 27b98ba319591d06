/* SPDX-License-Identifier: Apache-2.0 */
/* members, operator raft, join, leave, reload, info. */
#include "server/cli.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- members ---- */

static const char *status_text(const json_t *member)
{
    static const char *const texts[] = {"none", "alive", "leaving", "left",
                                        "failed"};
    json_int_t status = json_integer_value(json_object_get(member, "Status"));

    return status < 0 || status >= (json_int_t)MR_ARRAY_LEN(texts)
               ? "unknown"
               : texts[status];
}

static bool is_server(const json_t *member)
{
    const json_t *tags = json_object_get(member, "Tags");

    return strcmp(server_json_text(tags, "role"), "consul") == 0;
}

static const char *segment_of(const json_t *member)
{
    const char *segment =
        server_json_text(json_object_get(member, "Tags"), "segment");

    if (is_server(member)) {
        return "<all>";
    }
    return segment[0] == '\0' ? "<default>" : segment;
}

static int by_segment_and_name(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a;
    const json_t *y = *(json_t *const *)b;
    int order = strcmp(segment_of(x), segment_of(y));

    return order != 0 ? order
                      : strcmp(server_json_text(x, "Name"),
                               server_json_text(y, "Name"));
}

/* Append "k=v,k=v", sorted. */
static void add_tags(struct server_table *table, json_t *tags)
{
    struct mr_buf text = MR_BUF_INIT;
    char *sorted = json_dumps(tags, JSON_SORT_KEYS);
    json_t *copy = sorted == NULL ? NULL : json_loads(sorted, 0, NULL);
    const char *key;
    json_t *value;

    /* jansson keeps the order in which members were read. */
    json_object_foreach(copy, key, value)
    {
        mr_buf_printf(&text, "%s%s=%s", text.len > 0 ? "," : "", key,
                      json_string_value(value));
    }
    server_table_add(table, mr_buf_cstr(&text));
    mr_buf_deinit(&text);
    json_decref(copy);
    free(sorted); /* jansson's own memory. */
}

static void add_address(struct server_table *table, const json_t *member)
{
    const char *addr = server_json_text(member, "Addr");
    bool is_v6 = strchr(addr, ':') != NULL;
    struct mr_buf text = MR_BUF_INIT;

    mr_buf_printf(&text, "%s%s%s:%d", is_v6 ? "[" : "", addr, is_v6 ? "]" : "",
                  (int)json_integer_value(json_object_get(member, "Port")));
    server_table_add(table, mr_buf_cstr(&text));
    mr_buf_deinit(&text);
}

static void add_member(const struct server_cli *cli, struct server_table *table,
                       const json_t *member)
{
    json_t *tags = json_object_get(member, "Tags");
    char build[64];

    server_table_add(table, server_json_text(member, "Name"));
    add_address(table, member);
    server_table_add(table, status_text(member));
    if (cli->detailed) {
        /* Shown as in the table; without memory it stays as it was. */
        (void)json_object_set_new(tags, "segment",
                                  json_string(segment_of(member)));
        add_tags(table, tags);
        return;
    }
    (void)snprintf(build, sizeof build, "%s", server_json_text(tags, "build"));
    build[strcspn(build, ":")] = '\0';
    server_table_add(table, is_server(member) ? "server" : "client");
    server_table_add(table, build);
    server_table_add(table, server_json_text(tags, "vsn"));
    server_table_add(table, server_json_text(tags, "dc"));
    server_table_add(table, segment_of(member));
}

static int print_members(const struct server_cli *cli, json_t *const *members,
                         size_t n)
{
    static const char *const brief[] = {"Node", "Address", "Status",
                                        "Type", "Build",   "Protocol",
                                        "DC",   "Segment"};
    static const char *const detailed[] = {"Node", "Address", "Status", "Tags"};
    size_t columns = cli->detailed ? 4 : 8;
    struct server_table table;

    if (server_table_init(&table, columns) != MR_OK) {
        return server_cli_fail("out of memory");
    }
    for (size_t i = 0; i < columns; i++) {
        server_table_add(&table, cli->detailed ? detailed[i] : brief[i]);
    }
    for (size_t i = 0; i < n; i++) {
        add_member(cli, &table, members[i]);
    }
    return server_table_print(&table);
}

/* Keep the members whose status matches, sorted; *@out_n of them. */
static json_t **choose_members(const json_t *list, const regex_t *status,
                               size_t *out_n)
{
    json_t **members = mr_calloc(json_array_size(list) + 1, sizeof *members);

    *out_n = 0;
    if (members == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *member = json_array_get(list, i);

        if (regexec(status, status_text(member), 0, NULL, 0) == 0) {
            members[(*out_n)++] = member;
        }
    }
    qsort(members, *out_n, sizeof *members, by_segment_and_name);
    return members;
}

static int show_members(const struct server_cli *cli, const json_t *list,
                        const regex_t *status)
{
    size_t n;
    json_t **members = choose_members(list, status, &n);
    int rc;

    if (members == NULL) {
        return server_cli_fail("out of memory");
    }
    if (n == 0) {
        rc = CLI_NONE;
    } else if (server_cli_wants_json(cli)) {
        json_t *chosen = json_array();

        for (size_t i = 0; i < n; i++) {
            (void)json_array_append(chosen, members[i]); /* Or no memory. */
        }
        rc = server_cli_print_json(chosen);
        json_decref(chosen);
    } else {
        rc = print_members(cli, members, n);
    }
    mr_free(members);
    return rc;
}

int server_cli_members(struct server_cli *cli)
{
    struct server_answer answer;
    struct mr_buf query = MR_BUF_INIT;
    char why[128];
    regex_t status;
    json_t *list;
    int rc = regcomp(&status, cli->status != NULL ? cli->status : ".*",
                     REG_EXTENDED | REG_NOSUB);

    if (rc != 0) {
        (void)regerror(rc, &status, why, sizeof why);
        return server_cli_fail("Failed to compile status regexp: %s", why);
    }
    server_cli_param(&query, "segment",
                     cli->segment != NULL ? cli->segment : "_all");
    server_cli_param(&query, "wan", cli->wan ? "1" : NULL);
    list =
        server_cli_get(cli, "/v1/agent/members", mr_buf_cstr(&query), &answer);
    rc = list == NULL
             ? server_cli_fail("Error retrieving members: %s", answer.error)
             : show_members(cli, list, &status);
    json_decref(list);
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    regfree(&status);
    return rc;
}

/* ---- operator raft ---- */

static int print_peers(json_t *servers)
{
    static const char *const heads[] = {"Node",  "ID",    "Address",
                                        "State", "Voter", "RaftProtocol"};
    struct server_table table;

    if (server_table_init(&table, MR_ARRAY_LEN(heads)) != MR_OK) {
        return server_cli_fail("out of memory");
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(heads); i++) {
        server_table_add(&table, heads[i]);
    }
    for (size_t i = 0; i < json_array_size(servers); i++) {
        const json_t *s = json_array_get(servers, i);
        bool leads = json_is_true(json_object_get(s, "Leader"));
        bool votes = json_is_true(json_object_get(s, "Voter"));

        server_table_add(&table, server_json_text(s, "Node"));
        server_table_add(&table, server_json_text(s, "ID"));
        server_table_add(&table, server_json_text(s, "Address"));
        server_table_add(&table, leads ? "leader" : "follower");
        server_table_add(&table, votes ? "true" : "false");
        server_table_add(&table, server_json_text(s, "ProtocolVersion"));
    }
    return server_table_print(&table);
}

int server_cli_list_peers(struct server_cli *cli)
{
    struct server_answer answer;
    json_t *root =
        server_cli_get(cli, "/v1/operator/raft/configuration", NULL, &answer);
    int status;

    if (root == NULL) {
        status = server_cli_fail("Error getting peers: Failed to retrieve raft "
                                 "configuration: %s",
                                 answer.error);
    } else if (server_cli_wants_json(cli)) {
        status = server_cli_print_json(root);
    } else {
        status = print_peers(json_object_get(root, "Servers"));
    }
    json_decref(root);
    server_answer_deinit(&answer);
    return status;
}

int server_cli_remove_peer(struct server_cli *cli)
{
    struct server_answer answer;
    struct mr_buf query = MR_BUF_INIT;
    int status = CLI_OK;

    if (cli->id == NULL && cli->address == NULL) {
        return server_cli_fail("Error removing peer: an address or id is "
                               "required for the peer to remove");
    }
    if (cli->id != NULL && cli->address != NULL) {
        return server_cli_fail(
            "Error removing peer: cannot give both an address and id");
    }
    server_cli_param(&query, "id", cli->id);
    server_cli_param(&query, "address", cli->address);
    if (!server_cli_request(cli, "DELETE", "/v1/operator/raft/peer",
                            mr_buf_cstr(&query), mr_slice(NULL, 0), &answer)) {
        status = server_cli_fail("Error removing peer: %s", answer.error);
    } else {
        (void)printf("Removed peer with %s \"%s\"\n",
                     cli->id != NULL ? "id" : "address",
                     cli->id != NULL ? cli->id : cli->address);
    }
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    return status;
}

/* ---- plain wishes ---- */

/* PUT @path and say @done, or @failed with the reason. */
static int put(const struct server_cli *cli, const char *path, const char *done,
               const char *failed)
{
    struct server_answer answer;
    int status = CLI_OK;

    if (!server_cli_request(cli, "PUT", path, NULL, mr_slice(NULL, 0),
                            &answer)) {
        status = server_cli_fail("%s: %s", failed, answer.error);
    } else if (done != NULL) {
        (void)puts(done);
    }
    server_answer_deinit(&answer);
    return status;
}

int server_cli_leave(struct server_cli *cli)
{
    if (cli->argc > 0) {
        return server_cli_fail("Error found unexpected args: [%s]",
                               cli->argv[0]);
    }
    return put(cli, "/v1/agent/leave", "Graceful leave complete",
               "Error leaving");
}

int server_cli_force_leave(struct server_cli *cli)
{
    struct mr_buf path = MR_BUF_INIT;
    int status;

    if (cli->argc != 1) {
        return server_cli_fail("A single node name must be specified");
    }
    mr_buf_str(&path, "/v1/agent/force-leave/");
    server_cli_escape(cli->argv[0], &path);
    if (cli->prune) {
        mr_buf_str(&path, "?prune=1");
    }
    status = put(cli, mr_buf_cstr(&path), NULL, "Error force leaving");
    mr_buf_deinit(&path);
    return status;
}

int server_cli_reload(struct server_cli *cli)
{
    return put(cli, "/v1/agent/reload", "Configuration reload triggered",
               "Error reloading");
}

int server_cli_join(struct server_cli *cli)
{
    int joined = 0;

    if (cli->argc == 0) {
        return server_cli_fail(
            "At least one address to join must be specified.");
    }
    for (int i = 0; i < cli->argc; i++) {
        struct mr_buf path = MR_BUF_INIT;
        struct mr_buf failed = MR_BUF_INIT;

        mr_buf_str(&path, "/v1/agent/join/");
        server_cli_escape(cli->argv[i], &path);
        mr_buf_printf(&failed, "Error joining address '%s'", cli->argv[i]);
        if (put(cli, mr_buf_cstr(&path), NULL, mr_buf_cstr(&failed)) ==
            CLI_OK) {
            joined++;
        }
        mr_buf_deinit(&failed);
        mr_buf_deinit(&path);
    }
    if (joined == 0) {
        return server_cli_fail("Failed to join any nodes.");
    }
    (void)printf("Successfully joined cluster by contacting %d nodes.\n",
                 joined);
    return CLI_OK;
}

/* ---- info ---- */

/* Consul prints groups and members sorted. */
static json_t *sorted(const json_t *value)
{
    char *text = json_dumps(value, JSON_SORT_KEYS);
    json_t *copy = text == NULL ? NULL : json_loads(text, 0, NULL);

    free(text); /* jansson's own memory. */
    return copy;
}

int server_cli_info(struct server_cli *cli)
{
    struct server_answer answer;
    json_t *root = server_cli_get(cli, "/v1/agent/self", NULL, &answer);
    json_t *stats = sorted(json_object_get(root, "Stats"));
    int status = CLI_OK;
    const char *group;
    const char *key;
    json_t *members;
    json_t *value;

    if (root == NULL) {
        status = server_cli_fail("Error querying agent: %s", answer.error);
    } else if (server_cli_wants_json(cli)) {
        status = server_cli_print_json(stats);
    } else {
        json_object_foreach(stats, group, members)
        {
            (void)printf("%s:\n", group);
            json_object_foreach(members, key, value)
            {
                (void)printf("\t%s = %s\n", key, json_string_value(value));
            }
        }
    }
    json_decref(stats);
    json_decref(root);
    server_answer_deinit(&answer);
    return status;
}
