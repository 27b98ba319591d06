/* SPDX-License-Identifier: Apache-2.0 */
/* kv get, put, delete, export, import. */
#include "server/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#define ASK_FAILED "Error querying microreg agent: %s"
#define INPUT_MAX_BYTES ((size_t)64 * 1024 * 1024)

/* /v1/kv/KEY; a leading slash of the key is dropped, as Consul does. */
static void key_path(const char *key, struct mr_buf *out)
{
    mr_buf_str(out, "/v1/kv/");
    server_cli_escape(key[0] == '/' ? key + 1 : key, out);
}

/* ---- base64 ---- */

static int sextet(char c)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)(at - digits);
}

bool server_cli_base64(const char *text, struct mr_buf *out, size_t *out_bad)
{
    uint32_t bits = 0;
    size_t n = 0;
    size_t len = strlen(text);

    while (len > 0 && text[len - 1] == '=') {
        len--;
    }
    for (; n < len; n++) {
        int value = sextet(text[n]);

        if (value < 0) {
            *out_bad = n;
            return false;
        }
        bits = bits << 6 | (uint32_t)value;
        if (n % 4 > 0) {
            mr_buf_byte(out, (uint8_t)(bits >> (6 - 2 * (n % 4))));
        }
    }
    *out_bad = n;
    return n % 4 != 1;
}

/* Print the value of an entry of the API: bytes, or base64 as it came. */
static void print_value(const json_t *entry, bool as_base64)
{
    const char *text = server_json_text(entry, "Value");
    struct mr_buf bytes = MR_BUF_INIT;
    size_t bad;

    if (as_base64) {
        (void)fputs(text, stdout);
    } else if (server_cli_base64(text, &bytes, &bad) && bytes.len > 0) {
        (void)fwrite(bytes.data, 1, bytes.len, stdout);
    }
    mr_buf_deinit(&bytes);
}

/* ---- get ---- */

static void print_number(const json_t *entry, const char *key)
{
    (void)printf("%-17s%llu\n", key,
                 (unsigned long long)server_json_u64(entry, key));
}

static void print_detailed(const json_t *entry, bool as_base64)
{
    const char *session = server_json_text(entry, "Session");

    print_number(entry, "CreateIndex");
    print_number(entry, "Flags");
    (void)printf("%-17s%s\n", "Key", server_json_text(entry, "Key"));
    print_number(entry, "LockIndex");
    print_number(entry, "ModifyIndex");
    (void)printf("%-17s%s\n", "Session", session[0] != '\0' ? session : "-");
    (void)printf("%-17s", "Value");
    print_value(entry, as_base64);
    (void)putchar('\n');
}

static void print_entries(const struct server_cli *cli, const json_t *list)
{
    size_t n = json_array_size(list);

    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);

        if (cli->detailed) {
            (void)fputs(i > 0 ? "\n" : "", stdout);
            print_detailed(entry, cli->base64);
            continue;
        }
        if (cli->recurse) {
            (void)printf("%s:", server_json_text(entry, "Key"));
        }
        print_value(entry, cli->base64);
        (void)putchar('\n');
    }
}

static void print_names(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        (void)printf("%s\n", json_string_value(json_array_get(list, i)));
    }
}

int server_cli_kv_get(struct server_cli *cli)
{
    const char *key = cli->argc > 0 ? cli->argv[0] : "";
    struct server_answer answer;
    struct mr_buf path = MR_BUF_INIT;
    struct mr_buf query = MR_BUF_INIT;
    int status = CLI_OK;
    json_t *list;

    if (cli->argc > 1) {
        return server_cli_fail("Too many arguments (expected 1, got %d)",
                               cli->argc);
    }
    if (key[0] == '\0' && !cli->recurse && !cli->keys) {
        return server_cli_fail("Error! Missing KEY argument");
    }
    key_path(key, &path);
    if (cli->keys) {
        mr_buf_str(&query, "keys");
        server_cli_param(&query, "separator",
                         cli->separator != NULL ? cli->separator : "/");
    } else if (cli->recurse) {
        mr_buf_str(&query, "recurse");
    }
    list =
        server_cli_get(cli, mr_buf_cstr(&path), mr_buf_cstr(&query), &answer);
    if (list == NULL && answer.status == 404) {
        status = cli->keys || cli->recurse
                     ? CLI_OK
                     : server_cli_fail("Error! No key exists at: %s",
                                       key[0] == '/' ? key + 1 : key);
    } else if (list == NULL) {
        status = server_cli_fail(ASK_FAILED, answer.error);
    } else if (server_cli_wants_json(cli)) {
        status = server_cli_print_json(list);
    } else if (cli->keys) {
        print_names(list);
    } else {
        print_entries(cli, list);
    }
    json_decref(list);
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    mr_buf_deinit(&path);
    return status;
}

/* ---- put ---- */

static bool read_stream(FILE *in, struct mr_buf *out)
{
    uint8_t chunk[4096];
    size_t len;

    while ((len = fread(chunk, 1, sizeof chunk, in)) > 0) {
        mr_buf_add(out, chunk, len);
    }
    return !ferror(in);
}

/* An argument as Consul reads it: text, @file, or - for standard input. */
static int read_argument(const char *arg, struct mr_buf *out)
{
    bool is_read;
    FILE *in;

    mr_buf_init(out, INPUT_MAX_BYTES);
    if (strcmp(arg, "-") == 0) {
        return read_stream(stdin, out)
                   ? CLI_OK
                   : server_cli_fail("Error! Failed to read stdin: %s",
                                     strerror(errno));
    }
    if (arg[0] != '@') {
        mr_buf_str(out, arg);
        return CLI_OK;
    }
    in = fopen(arg + 1, "re");
    if (in == NULL) {
        return server_cli_fail("Error! Failed to read file: open %s: %s",
                               arg + 1, strerror(errno));
    }
    is_read = read_stream(in, out);
    (void)fclose(in); /* Only read from. */
    return is_read ? CLI_OK
                   : server_cli_fail("Error! Failed to read file: %s: %s",
                                     arg + 1, strerror(errno));
}

static int put_value(struct server_cli *cli, const char *key,
                     struct mr_slice value)
{
    struct mr_buf path = MR_BUF_INIT;
    struct mr_buf query = MR_BUF_INIT;
    struct server_answer answer;
    int status = CLI_OK;

    key_path(key, &path);
    server_cli_param(&query, "flags", cli->flags);
    server_cli_param(&query, "cas", cli->cas ? cli->modify_index : NULL);
    server_cli_param(&query, "acquire", cli->acquire ? cli->session : NULL);
    server_cli_param(&query, "release", cli->release ? cli->session : NULL);
    if (!server_cli_request(cli, "PUT", mr_buf_cstr(&path), mr_buf_cstr(&query),
                            value, &answer)) {
        status =
            server_cli_fail("Error! Failed writing data: %s", answer.error);
    } else if (strncmp(mr_buf_cstr(&answer.body), "true", 4) != 0) {
        status = server_cli_fail("Error! Did not write to %s: %s", key,
                                 cli->cas ? "CAS failed"
                                          : "Lock was not acquired or held");
    }
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    mr_buf_deinit(&path);
    return status;
}

static int check_put(const struct server_cli *cli)
{
    if (cli->argc == 0) {
        return server_cli_fail("Error! Missing KEY argument");
    }
    if (cli->argc > 2) {
        return server_cli_fail("Error! Too many arguments (expected 1 or 2, "
                               "got %d)",
                               cli->argc);
    }
    if (cli->argv[0][0] == '/') {
        return server_cli_fail("Error! Failed writing data: Invalid key. Key "
                               "must not begin with a '/': %s",
                               cli->argv[0]);
    }
    if (cli->cas && cli->modify_index == NULL) {
        return server_cli_fail("Must specify -modify-index with -cas!");
    }
    if ((cli->acquire || cli->release) && cli->session == NULL) {
        return server_cli_fail("Error! Missing -session (required with "
                               "-acquire and -release)");
    }
    return CLI_OK;
}

int server_cli_kv_put(struct server_cli *cli)
{
    struct mr_buf value = MR_BUF_INIT;
    struct mr_buf bytes = MR_BUF_INIT;
    int status = check_put(cli);
    size_t bad;

    if (status != CLI_OK) {
        return status;
    }
    if (cli->argc > 1) {
        status = read_argument(cli->argv[1], &value);
    }
    if (status == CLI_OK && cli->base64 &&
        !server_cli_base64(mr_buf_cstr(&value), &bytes, &bad)) {
        status = server_cli_fail("Error! Cannot base 64 decode data: illegal "
                                 "base64 data at input byte %zu",
                                 bad);
    }
    if (status == CLI_OK && mr_buf_failed(&value)) {
        status = server_cli_fail("Error! The value is too large");
    }
    if (status == CLI_OK) {
        status = put_value(cli, cli->argv[0],
                           mr_buf_slice(cli->base64 ? &bytes : &value));
    }
    if (status == CLI_OK) {
        (void)printf("Success! Data written to: %s\n", cli->argv[0]);
    }
    mr_buf_deinit(&bytes);
    mr_buf_deinit(&value);
    return status;
}

/* ---- delete ---- */

static int check_delete(const struct server_cli *cli)
{
    if (cli->argc == 0 && !cli->recurse) {
        return server_cli_fail("Error! Missing KEY argument");
    }
    if (cli->argc > 1) {
        return server_cli_fail("Too many arguments (expected 1, got %d)",
                               cli->argc);
    }
    if (cli->recurse && cli->cas) {
        return server_cli_fail("Cannot specify both -cas and -recurse!");
    }
    if (cli->cas && cli->modify_index == NULL) {
        return server_cli_fail("Must specify -modify-index with -cas!");
    }
    return CLI_OK;
}

int server_cli_kv_delete(struct server_cli *cli)
{
    struct mr_buf path = MR_BUF_INIT;
    struct mr_buf query = MR_BUF_INIT;
    struct server_answer answer;
    const char *key = cli->argc > 0 ? cli->argv[0] : "";
    int status = check_delete(cli);

    if (status != CLI_OK) {
        return status;
    }
    key += key[0] == '/' ? 1 : 0;
    key_path(key, &path);
    if (cli->recurse) {
        mr_buf_str(&query, "recurse");
    }
    server_cli_param(&query, "cas", cli->cas ? cli->modify_index : NULL);
    if (!server_cli_request(cli, "DELETE", mr_buf_cstr(&path),
                            mr_buf_cstr(&query), mr_slice(NULL, 0), &answer)) {
        status = server_cli_fail("Error! Failed deleting key %s: %s", key,
                                 answer.error);
    } else if (strncmp(mr_buf_cstr(&answer.body), "true", 4) != 0) {
        status =
            server_cli_fail("Error! Did not delete key %s: CAS failed", key);
    } else if (cli->recurse) {
        (void)printf("Success! Deleted keys with prefix: %s\n", key);
    } else {
        (void)printf("Success! Deleted key: %s\n", key);
    }
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    mr_buf_deinit(&path);
    return status;
}

/* ---- export and import ---- */

static void export_entry(const json_t *entry, struct mr_buf *out)
{
    struct mr_json j;

    mr_json_init(&j, out);
    mr_buf_str(out, "\t{\n\t\t\"key\": ");
    mr_json_str(&j, server_json_text(entry, "Key"));
    mr_buf_printf(out, ",\n\t\t\"flags\": %llu,\n\t\t\"value\": ",
                  (unsigned long long)server_json_u64(entry, "Flags"));
    j.need_comma = false;
    mr_json_str(&j, server_json_text(entry, "Value"));
    mr_buf_str(out, "\n\t}");
}

int server_cli_kv_export(struct server_cli *cli)
{
    struct mr_buf path = MR_BUF_INIT;
    struct mr_buf out = MR_BUF_INIT;
    struct server_answer answer;
    int status = CLI_OK;
    json_t *list;

    if (cli->argc > 1) {
        return server_cli_fail("Too many arguments (expected 1, got %d)",
                               cli->argc);
    }
    key_path(cli->argc > 0 ? cli->argv[0] : "", &path);
    list = server_cli_get(cli, mr_buf_cstr(&path), "recurse", &answer);
    if (list == NULL && answer.status != 404) {
        status = server_cli_fail(ASK_FAILED, answer.error);
    } else if (json_array_size(list) == 0) {
        (void)puts("[]");
    } else {
        for (size_t i = 0; i < json_array_size(list); i++) {
            mr_buf_str(&out, i == 0 ? "[\n" : ",\n");
            export_entry(json_array_get(list, i), &out);
        }
        (void)printf("%s\n]\n", mr_buf_cstr(&out));
    }
    json_decref(list);
    server_answer_deinit(&answer);
    mr_buf_deinit(&out);
    mr_buf_deinit(&path);
    return status;
}

static int import_entry(struct server_cli *cli, const json_t *entry)
{
    const char *key = json_string_value(json_object_get(entry, "key"));
    struct mr_buf bytes = MR_BUF_INIT;
    char flags[24];
    size_t bad;
    int status;

    if (key == NULL) {
        return server_cli_fail("Cannot unmarshal data: an entry has no key");
    }
    if (!server_cli_base64(server_json_text(entry, "value"), &bytes, &bad)) {
        status = server_cli_fail("Error base 64 decoding value for key: %s, "
                                 "illegal base64 data at input byte %zu",
                                 key, bad);
    } else {
        (void)snprintf(flags, sizeof flags, "%llu",
                       (unsigned long long)server_json_u64(entry, "flags"));
        cli->flags = flags;
        status = put_value(cli, key, mr_buf_slice(&bytes));
        cli->flags = NULL;
    }
    if (status == CLI_OK) {
        (void)printf("Imported: %s\n", key);
    }
    mr_buf_deinit(&bytes);
    return status;
}

int server_cli_kv_import(struct server_cli *cli)
{
    struct mr_buf text = MR_BUF_INIT;
    json_error_t why;
    json_t *list = NULL;
    int status;

    if (cli->argc != 1) {
        return server_cli_fail(cli->argc == 0
                                   ? "Error! Missing DATA argument"
                                   : "Too many arguments (expected 1, got %d)",
                               cli->argc);
    }
    status = read_argument(cli->argv[0], &text);
    if (status == CLI_OK) {
        list = server_json_load(
            text.data != NULL ? mr_buf_slice(&text) : mr_slice("", 0), &why);
        if (!json_is_array(list)) {
            status = server_cli_fail("Cannot unmarshal data: %s",
                                     list == NULL ? why.text
                                                  : "want a list of keys");
        }
    }
    for (size_t i = 0; status == CLI_OK && i < json_array_size(list); i++) {
        status = import_entry(cli, json_array_get(list, i));
    }
    json_decref(list);
    mr_buf_deinit(&text);
    return status;
}
