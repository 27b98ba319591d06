/* SPDX-License-Identifier: Apache-2.0 */
/* Flags of the client commands. */
#include "server/cli.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "server/nearest.h"

enum kind {
    KIND_BOOL,
    KIND_TEXT,
    KIND_U64,
    KIND_META,
    KIND_LIST,
    KIND_ADDRESS
};

struct cli_flag {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *help;
};

#define AT(member) offsetof(struct server_cli, member)

/* shape: table */
static const struct cli_flag flags[] = {
    {"http-addr", KIND_ADDRESS, AT(http_addr),
     "Address of the server: host:port or a URL. Also MICROREG_HTTP_ADDR or "
     "CONSUL_HTTP_ADDR. Default: http://127.0.0.1:8500."},
    {"token", KIND_TEXT, AT(token),
     "Token to send. Also MICROREG_HTTP_TOKEN or CONSUL_HTTP_TOKEN."},
    {"token-file", KIND_TEXT, AT(token_file), "File with the token."},
    {"ca-file", KIND_TEXT, AT(ca_file), "CA file to verify a TLS proxy with."},
    {"ca-path", KIND_TEXT, AT(ca_path), "Folder of CA files."},
    {"client-cert", KIND_TEXT, AT(client_cert), "Certificate to show."},
    {"client-key", KIND_TEXT, AT(client_key), "Key of the certificate."},
    {"datacenter", KIND_TEXT, AT(datacenter), "Datacenter to ask."},
    {"stale", KIND_BOOL, AT(stale), "Let any server answer by itself."},
    {"format", KIND_TEXT, AT(format), "pretty (the default) or json."},
    {"detailed", KIND_BOOL, AT(detailed), "Show everything that is known."},
    {"base64", KIND_BOOL, AT(base64), "Values are base64."},
    {"tags", KIND_BOOL, AT(tags), "Show the tags of each service."},
    {"wan", KIND_BOOL, AT(wan), "Members as other datacenters see them."},
    {"segment", KIND_TEXT, AT(segment), "Accepted; there are no segments."},
    {"status", KIND_TEXT, AT(status),
     "Only members whose status matches the regular expression."},
    {"service", KIND_TEXT, AT(service),
     "This service: its name, or for maint its ID."},
    {"enable", KIND_BOOL, AT(enable), "Turn maintenance mode on."},
    {"disable", KIND_BOOL, AT(disable), "Turn maintenance mode off."},
    {"reason", KIND_TEXT, AT(reason), "With -enable: why, for people."},
    {"node", KIND_TEXT, AT(node), "Only services of this node."},
    {"near", KIND_TEXT, AT(near), "Nodes near this one first."},
    {"filter", KIND_TEXT, AT(filter), "Expression that chooses."},
    {"node-meta", KIND_META, AT(node_meta),
     "key=value that a node must have. Can be given several times."},
    {"recurse", KIND_BOOL, AT(recurse), "KEY is a prefix."},
    {"keys", KIND_BOOL, AT(keys), "List the names of keys."},
    {"separator", KIND_TEXT, AT(separator),
     "With -keys: cut names behind it. Default: /."},
    {"id", KIND_TEXT, AT(id), "The server's ID."},
    {"address", KIND_TEXT, AT(address), "The server's host:port."},
    {"cas", KIND_BOOL, AT(cas), "Only if -modify-index still is the last."},
    {"acquire", KIND_BOOL, AT(acquire), "Lock the key for -session."},
    {"release", KIND_BOOL, AT(release), "Unlock the key of -session."},
    {"modify-index", KIND_U64, AT(modify_index), "For -cas; 0: no such key."},
    {"flags", KIND_U64, AT(flags), "Number to keep with the value."},
    {"session", KIND_TEXT, AT(session), "For -acquire and -release."},
    {"name", KIND_TEXT, AT(name), "Name of the session that holds the lock."},
    {"n", KIND_U64, AT(limit),
     "So many may hold it at a time: a semaphore. Default: 1."},
    {"timeout", KIND_TEXT, AT(timeout),
     "Give up when the lock was not free for so long (1m). Default: never."},
    {"try", KIND_TEXT, AT(try_for), "Older name of -timeout."},
    {"monitor-retry", KIND_U64, AT(monitor_retry),
     "So many failures to look at the lock, 1 s apart, are tolerated. "
     "Default: 3."},
    {"child-exit-code", KIND_BOOL, AT(child_exit_code),
     "Exit with 2 when the child failed."},
    {"pass-stdin", KIND_BOOL, AT(pass_stdin),
     "The child reads our standard input."},
    {"shell", KIND_BOOL, AT(shell),
     "Run the child by $SHELL -c. Default: true."},
    {"verbose", KIND_BOOL, AT(verbose), "Tell what happens."},
    {"type", KIND_TEXT, AT(type),
     "Consul's form: key, keyprefix, services, nodes, service or checks."},
    {"key", KIND_TEXT, AT(key), "The key. For -type=key."},
    {"prefix", KIND_TEXT, AT(prefix), "The prefix. For -type=keyprefix."},
    {"state", KIND_TEXT, AT(state), "Only checks in this state."},
    {"tag", KIND_LIST, AT(tag_list),
     "Only instances with this tag. Can be given several times. For "
     "-type=service."},
    {"passingonly", KIND_TEXT, AT(passingonly),
     "true: only instances whose checks all pass."},
    {"index", KIND_U64, AT(index),
     "Go on after this index. Default: begin with what there is."},
    {"topic", KIND_LIST, AT(topics),
     "What to follow: services, nodes, checks, registry, key:KEY, "
     "keyprefix:PREFIX, service:NAME, passing:NAME, checks:SERVICE, "
     "state:STATE, registry:NAME[,NAME...]. Can be given several times. "
     "Default: keyprefix:, services, nodes, checks, state:critical, registry."},
    {"duration", KIND_TEXT, AT(duration),
     "Stop after so long (10m). Default: run until SIGINT."},
    {"streams", KIND_U64, AT(streams),
     "So many streams, spread over topics and servers. Default: 3 a topic."},
    {"queries", KIND_U64, AT(queries),
     "So many blocking queries beside them. Default: 1 a topic."},
    {"slow", KIND_U64, AT(slow),
     "So many of the streams stop reading now and then. Default: 0."},
    {"move", KIND_TEXT, AT(move),
     "A stream stays so long at a server, on average. Default: 15s; 0: for "
     "good."},
    {"seed", KIND_U64, AT(seed),
     "Of what is random. Default: another each time."},
    {"rate", KIND_U64, AT(rate),
     "With -write: changes a second. Default: 100."},
    {"write", KIND_BOOL, AT(write),
     "Make changes too: keys below watch-verify/, services watch-verify-*."},
    {"prune", KIND_BOOL, AT(prune), "Forget the node, not only that it left."},
    {"data-dir", KIND_TEXT, AT(data_dir), "Data folder of the server."},
    {"advertise", KIND_TEXT, AT(advertise),
     "Address of the server, IP[:port], as it will run."},
    {"quiet", KIND_BOOL, AT(quiet), "Say nothing when all is well."},
};

/* Whether @name is one of the words in @allowed. */
static bool is_allowed(const char *allowed, const char *name, size_t len)
{
    while (*allowed != '\0') {
        size_t word = strcspn(allowed, " ");

        if (word == len && memcmp(allowed, name, len) == 0) {
            return true;
        }
        allowed += word + strspn(allowed + word, " ");
    }
    return false;
}

static const struct cli_flag *find(const char *allowed, const char *name,
                                   size_t len)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(flags); i++) {
        if (strlen(flags[i].name) == len &&
            memcmp(flags[i].name, name, len) == 0) {
            return is_allowed(allowed, name, len) ? &flags[i] : NULL;
        }
    }
    return NULL;
}

static enum mr_err unknown(const char *allowed, const char *name, size_t len)
{
    struct server_nearest near;
    char copy[65];

    len = len < sizeof copy - 1 ? len : sizeof copy - 1;
    memcpy(copy, name, len);
    copy[len] = '\0';
    server_nearest_init(&near, copy);
    for (size_t i = 0; i < MR_ARRAY_LEN(flags); i++) {
        if (is_allowed(allowed, flags[i].name, strlen(flags[i].name))) {
            server_nearest_try(&near, flags[i].name);
        }
    }
    if (near.name == NULL) {
        (void)server_cli_fail("flag provided but not defined: -%s", copy);
    } else {
        (void)server_cli_fail(
            "flag provided but not defined: -%s (did you mean -%s?)", copy,
            near.name);
    }
    return MR_E_INVALID;
}

static enum mr_err bad_value(const struct cli_flag *flag, const char *value,
                             const char *why)
{
    (void)server_cli_fail("invalid value \"%s\" for flag -%s: %s", value,
                          flag->name, why);
    return MR_E_INVALID;
}

static enum mr_err set_meta(struct server_list *list,
                            const struct cli_flag *flag, const char *value)
{
    const char *equals = strchr(value, '=');
    enum mr_err err;
    char *key;

    if (equals == NULL) {
        return bad_value(flag, value, "Missing \"=\" value in argument");
    }
    key = mr_memdup0(value, (size_t)(equals - value));
    if (key == NULL) {
        return MR_E_NOMEM;
    }
    err = server_list_put(list, key, equals + 1);
    mr_free(key);
    return err;
}

static enum mr_err set(struct server_cli *cli, const struct cli_flag *flag,
                       const char *value)
{
    void *at = (char *)cli + flag->offset;
    uint64_t n;

    switch (flag->kind) {
    case KIND_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
            return bad_value(flag, value, "want true or false");
        }
        *(bool *)at = value[0] == 't';
        return MR_OK;
    case KIND_U64:
        if (mr_parse_u64(value, &n) != MR_OK) {
            return bad_value(flag, value, "parse error");
        }
        *(const char **)at = value;
        return MR_OK;
    case KIND_TEXT:
        *(const char **)at = value;
        return MR_OK;
    case KIND_META:
        return set_meta(at, flag, value);
    case KIND_LIST:
        return server_list_add(at, value);
    case KIND_ADDRESS:
        *(const char **)at = value;
        return server_list_add(&cli->http_addrs, value);
    }
    return MR_OK;
}

static bool is_help(const char *word)
{
    return strcmp(word, "-h") == 0 || strcmp(word, "-help") == 0 ||
           strcmp(word, "--help") == 0;
}

/* As the environment has it, under our name or Consul's. */
static const char *from_environment(const char *ours, const char *consuls)
{
    const char *value = getenv(ours);

    if (value == NULL || value[0] == '\0') {
        value = getenv(consuls);
    }
    return value == NULL || value[0] == '\0' ? NULL : value;
}

static void read_environment(struct server_cli *cli)
{
    cli->http_addr = from_environment("MICROREG_HTTP_ADDR", "CONSUL_HTTP_ADDR");
    cli->token = from_environment("MICROREG_HTTP_TOKEN", "CONSUL_HTTP_TOKEN");
    cli->token_file =
        from_environment("MICROREG_HTTP_TOKEN_FILE", "CONSUL_HTTP_TOKEN_FILE");
    cli->ca_file = from_environment("MICROREG_CACERT", "CONSUL_CACERT");
    cli->ca_path = from_environment("MICROREG_CAPATH", "CONSUL_CAPATH");
    cli->client_cert =
        from_environment("MICROREG_CLIENT_CERT", "CONSUL_CLIENT_CERT");
    cli->client_key =
        from_environment("MICROREG_CLIENT_KEY", "CONSUL_CLIENT_KEY");
}

static enum mr_err check(const struct server_cli *cli)
{
    if (cli->format != NULL && strcmp(cli->format, "json") != 0 &&
        strcmp(cli->format, "pretty") != 0) {
        (void)server_cli_fail("Invalid format \"%s\": want pretty or json",
                              cli->format);
        return MR_E_INVALID;
    }
    return MR_OK;
}

enum mr_err server_cli_parse(struct server_cli *cli, const char *allowed,
                             int argc, char *const *argv)
{
    int at = 0;

    memset(cli, 0, sizeof *cli);
    cli->shell = true;
    read_environment(cli);
    while (at < argc && argv[at][0] == '-' && argv[at][1] != '\0') {
        const char *word = argv[at++];
        const char *name = word + (word[1] == '-' ? 2 : 1);
        size_t len = strcspn(name, "=");
        const struct cli_flag *flag;
        const char *value = name[len] == '=' ? name + len + 1 : NULL;
        enum mr_err err;

        if (strcmp(word, "--") == 0) {
            break;
        }
        if (is_help(word)) {
            return MR_E_CANCELED;
        }
        flag = find(allowed, name, len);
        if (flag == NULL) {
            return unknown(allowed, name, len);
        }
        if (value == NULL && flag->kind == KIND_BOOL) {
            value = "true";
        } else if (value == NULL && at == argc) {
            (void)server_cli_fail("flag needs an argument: -%s", flag->name);
            return MR_E_INVALID;
        } else if (value == NULL) {
            value = argv[at++];
        }
        err = set(cli, flag, value);
        if (err != MR_OK) {
            return err;
        }
    }
    cli->argc = argc - at;
    cli->argv = argv + at;
    return check(cli);
}

void server_cli_deinit(struct server_cli *cli)
{
    server_list_deinit(&cli->node_meta);
    server_list_deinit(&cli->http_addrs);
    server_list_deinit(&cli->tag_list);
    server_list_deinit(&cli->topics);
}

void server_cli_flags_help(const char *allowed, struct mr_buf *out)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(flags); i++) {
        const char *name = flags[i].name;

        if (is_allowed(allowed, name, strlen(name))) {
            mr_buf_printf(out, "  -%s%s\n     %s\n\n", name,
                          flags[i].kind == KIND_BOOL ? "" : "=<value>",
                          flags[i].help);
        }
    }
}

bool server_cli_wants_json(const struct server_cli *cli)
{
    return cli->format != NULL && strcmp(cli->format, "json") == 0;
}
