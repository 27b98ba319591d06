/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands, and finding the one that is meant. */
#include "server/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

#include "base/mem.h"
#include "server/agent.h"
#include "server/nearest.h"

#define HTTP "http-addr token token-file ca-file ca-path client-cert client-key"
#define READ HTTP " datacenter stale format"

struct command {
    const char *words; /* "kv get"; a group's row comes before its commands. */
    const char *args;  /* Behind the flags, in the usage. */
    const char *flags; /* NULL: a group. */
    const char *brief;
    const char *help;
    int (*run)(struct server_cli *cli);
};

/* shape: table */
static const struct command commands[] = {
    {"agent", "", "", "Runs a server", NULL, NULL},
    {"catalog", NULL, NULL, "Shows nodes, services and datacenters", NULL,
     NULL},
    {"catalog datacenters", "", READ, "Lists the datacenters",
     "Prints one name on a line.", server_cli_catalog_datacenters},
    {"catalog nodes", "", READ " detailed service near filter node-meta",
     "Lists the nodes of the catalog",
     "All nodes, or those of one service.\n\n"
     "      $ microreg catalog nodes -service=greeter",
     server_cli_catalog_nodes},
    {"catalog services", "", READ " tags node node-meta",
     "Lists the services of the catalog",
     "All names, or those on one node, sorted.\n\n"
     "      $ microreg catalog services -tags",
     server_cli_catalog_services},
    {"force-leave", "NODE", HTTP " prune",
     "Takes a failed node out of the cluster",
     "For a node that will not come back; one that lives comes back by "
     "itself.\n"
     "  -prune also forgets that it was there.\n\n"
     "      $ microreg force-leave web-7",
     server_cli_force_leave},
    {"info", "", HTTP " format", "Shows figures of a server",
     "Groups of values: build, raft, kv and others.", server_cli_info},
    {"join", "ADDRESS...", HTTP, "Makes a server join others",
     "Tells a running server to try these addresses (host[:port]) now.",
     server_cli_join},
    {"kv", NULL, NULL, "Works with keys and values", NULL, NULL},
    {"kv delete", "KEY", HTTP " datacenter recurse cas modify-index",
     "Removes a key, or all with a prefix",
     "      $ microreg kv delete redis/config/connections\n"
     "      $ microreg kv delete -recurse redis/",
     server_cli_kv_delete},
    {"kv export", "[PREFIX]", HTTP " datacenter stale",
     "Prints keys as JSON, for kv import",
     "      $ microreg kv export vault/ > vault.json", server_cli_kv_export},
    {"kv get", "[KEY]", READ " detailed base64 recurse keys separator",
     "Prints a value, or keys",
     "      $ microreg kv get redis/config/connections\n"
     "      $ microreg kv get -recurse redis/\n"
     "      $ microreg kv get -keys redis/",
     server_cli_kv_get},
    {"kv import", "DATA", HTTP " datacenter", "Writes what kv export printed",
     "DATA is JSON, @file, or - for standard input.\n\n"
     "      $ microreg kv import @vault.json",
     server_cli_kv_import},
    {"kv put", "KEY [VALUE]",
     HTTP " datacenter base64 cas acquire release modify-index flags session",
     "Writes a value",
     "VALUE is text, @file, or - for standard input; none is empty.\n\n"
     "      $ microreg kv put redis/config/connections 5\n"
     "      $ microreg kv put -cas -modify-index=844 config/a new",
     server_cli_kv_put},
    {"leave", "", HTTP, "Makes a server leave the cluster and end",
     "The server hands over, is removed from the cluster, and its process\n"
     "  ends.",
     server_cli_leave},
    {"lock", "PREFIX CHILD...",
     HTTP " datacenter child-exit-code monitor-retry n name pass-stdin shell "
          "timeout try verbose",
     "Runs a command while it holds a lock",
     "Takes the lock PREFIX/.lock, or with -n one of so many places, runs "
     "CHILD\n"
     "  and gives it back. When the lock is lost, CHILD is ended: SIGTERM, "
     "and\n"
     "  after 5 s SIGKILL. It finds in its environment CONSUL_LOCK_HELD=true,\n"
     "  MICROREG_LOCK_FENCE and MICROREG_LOCK_KEY: writes with\n"
     "  ?fence=NUMBER&fence-key=KEY are refused when the lock is not held any\n"
     "  more.\n\n"
     "      $ microreg lock jobs/backup ./backup.sh",
     server_cli_lock},
    {"maint", "", HTTP " enable disable reason service",
     "Shows, enables or disables maintenance mode",
     "A node in maintenance, or a service with -service=ID, counts as\n"
     "  critical. Without flags lists what is in maintenance on the agent.\n\n"
     "      $ microreg maint -enable -service=web1 -reason=\"new disk\"",
     server_cli_maint},
    {"members", "", HTTP " format detailed wan segment status",
     "Lists the servers of the cluster",
     "Exit status 2 when none matches -status.", server_cli_members},
    {"operator", NULL, NULL, "Tools for operators", NULL, NULL},
    {"operator raft", NULL, NULL, "Shows and changes the set of servers", NULL,
     NULL},
    {"operator raft list-peers", "", HTTP " datacenter stale format",
     "Lists the servers and who leads",
     "Asks the leader; -stale asks the server itself.", server_cli_list_peers},
    {"operator raft remove-peer", "", HTTP " datacenter id address",
     "Removes a server that is lost",
     "For a server that will never come back; a living one should leave.\n\n"
     "      $ microreg operator raft remove-peer -address=10.0.0.3:8300",
     server_cli_remove_peer},
    {"recover", "", "data-dir advertise",
     "Makes a stopped server a cluster of one",
     "For when most servers are lost for ever. Run it on the one with the\n"
     "  newest data, while it is stopped. What only the others had is gone.\n\n"
     "      $ microreg recover -data-dir=/var/lib/microreg -advertise=10.0.0.1",
     server_cli_recover},
    {"reload", "", HTTP, "Makes a server read its configuration again",
     "Services and checks of its files are registered or taken out, and log\n"
     "  level and log file change at once; the rest at the next start.",
     server_cli_reload},
    {"validate", "PATH...", "quiet", "Checks configuration files",
     "Files, or folders with *.json files.", server_cli_validate},
    {"version", "", "format", "Prints the version", "Needs no server.",
     server_cli_version},
    {"watch", "KIND [NAME...] | -type=<type> [HANDLER...]",
     READ " index state service passingonly type key prefix tag shell",
     "Follows what changes",
     "KIND is key KEY, prefix PREFIX, services, service NAME, nodes, checks "
     "or\n"
     "  registry [NAME...]. Prints what there is and then every change, a "
     "line\n"
     "  each: index, action, object. Goes on at another -http-addr (several, "
     "or\n"
     "  a,b,c) when a server is lost; nothing is missed and nothing comes "
     "twice.\n"
     "  -format=json prints the server's lines.\n\n"
     "      $ microreg watch service greeter\n\n"
     "  With -type it is Consul's: runs HANDLER with each new answer, JSON on\n"
     "  its standard input, CONSUL_INDEX in its environment. Without a "
     "HANDLER\n"
     "  prints the answer once.\n\n"
     "      $ microreg watch -type=service -service=greeter ./reload.sh",
     server_cli_watch},
    {"watch-verify", "",
     HTTP " topic duration streams queries slow move write rate seed",
     "Proves what watch streams promise",
     "Follows many streams beside the store for as long as it runs, moving\n"
     "  them from server to server (-http-addr=a,b,c), and complains about "
     "every\n"
     "  change that is lost, repeated, torn, out of order or not what the "
     "store\n"
     "  has, and about blocking queries that wake for nothing or not at all.\n"
     "  Prints figures each 10 s; exits with 1 when a promise was broken. "
     "Reads\n"
     "  only, unless -write is given.\n\n"
     "      $ microreg watch-verify -http-addr=10.0.0.1:8500,10.0.0.2:8500 "
     "-duration=10m",
     server_cli_watch_verify},
    {"why", NULL, NULL, "Tells what became of a registration, and why", NULL,
     NULL},
    {"why check", "ID", HTTP " format", "Why a check has its status",
     "Who set it last, and the renewals of a TTL check.\n\n"
     "      $ microreg why check service:greeter-1",
     server_cli_why_check},
    {"why node", "NAME", HTTP " format", "Why a node is there, dead or gone",
     "What its agent's lease says, and what happened on it.\n\n"
     "      $ microreg why node web-7",
     server_cli_why_node},
    {"why service", "ID", HTTP " format",
     "Why a service is there, hidden or gone",
     "ID is that of an instance, or a service's name. The server that is\n"
     "  asked answers by itself, also without a leader: who registered it,\n"
     "  its last renewals, who ended it, when and on what evidence.\n\n"
     "      $ microreg why service greeter-1",
     server_cli_why_service},
    {"why session", "ID", HTTP " format", "Why a session lives or ended",
     "      $ microreg why session adf4238a-882b-9ddc-4a9d-5b6758e4159e",
     server_cli_why_session},
};

int server_cli_fail(const char *fmt, ...)
{
    va_list ap;

    (void)fflush(stdout); /* So that the two come in order. */
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return CLI_ERROR;
}

/* ---- help ---- */

/* The commands one word below @group ("" is the top). */
static void list_below(const char *group, struct mr_buf *out)
{
    size_t len = strlen(group);

    for (size_t i = 0; i < MR_ARRAY_LEN(commands); i++) {
        const char *words = commands[i].words;

        if (len > 0 && (strncmp(words, group, len) != 0 || words[len] != ' ')) {
            continue;
        }
        words += len > 0 ? len + 1 : 0;
        if (strchr(words, ' ') == NULL) {
            mr_buf_printf(out, "    %-14s %s\n", words, commands[i].brief);
        }
    }
}

static void describe(const struct command *c, struct mr_buf *out)
{
    if (c == NULL) {
        mr_buf_str(out, "Usage: microreg [-version] [-help] <command> "
                        "[<args>]\n\nAvailable commands are:\n");
        list_below("", out);
    } else if (c->flags == NULL) {
        mr_buf_printf(out,
                      "Usage: microreg %s <subcommand> [options] [args]\n\n"
                      "  %s.\n\nSubcommands:\n",
                      c->words, c->brief);
        list_below(c->words, out);
    } else if (c->run == NULL) {
        mr_buf_str(out, "Usage: microreg agent [options]\n\n"
                        "  Starts a server and runs until it is told to end. "
                        "Consul's other flags are\n  known and refused, or "
                        "ignored with a warning.\n\n");
        server_config_help(out);
    } else {
        mr_buf_printf(out,
                      "Usage: microreg %s [options] %s\n\n  %s.\n\n  %s\n"
                      "\nOptions\n\n",
                      c->words, c->args, c->brief, c->help);
        server_cli_flags_help(c->flags, out);
    }
}

static void print_help(const struct command *c, FILE *to)
{
    struct mr_buf text = MR_BUF_INIT;

    describe(c, &text);
    (void)fputs(mr_buf_cstr(&text), to);
    mr_buf_deinit(&text);
}

/* ---- finding ---- */

/* How many words of @argv spell @words; 0 when they don't. */
static int spelled(const char *words, int argc, char *const *argv)
{
    int n = 0;

    while (*words != '\0') {
        size_t len = strcspn(words, " ");

        if (n == argc || strlen(argv[n]) != len ||
            memcmp(argv[n], words, len) != 0) {
            return 0;
        }
        n++;
        words += len + strspn(words + len, " ");
    }
    return n;
}

/* The row that the most words spell. */
static const struct command *find(int argc, char *const *argv, int *out_words)
{
    const struct command *found = NULL;

    *out_words = 0;
    for (size_t i = 0; i < MR_ARRAY_LEN(commands); i++) {
        int n = spelled(commands[i].words, argc, argv);

        if (n > *out_words) {
            *out_words = n;
            found = &commands[i];
        }
    }
    return found;
}

static bool is_one_of(const char *word, const char *a, const char *b,
                      const char *c)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

static int unknown_command(int argc, char *const *argv)
{
    struct server_nearest near;

    if (argc > 0) {
        server_nearest_init(&near, argv[0]);
        for (size_t i = 0; i < MR_ARRAY_LEN(commands); i++) {
            server_nearest_try(&near, commands[i].words);
        }
        (void)server_cli_fail("Unknown command \"%s\"%s%s%s\n", argv[0],
                              near.name != NULL ? " (did you mean " : "",
                              near.name != NULL ? near.name : "",
                              near.name != NULL ? "?)" : "");
    }
    print_help(NULL, stderr);
    return CLI_UNKNOWN;
}

static int run_command(const struct command *c, int argc, char *const *argv)
{
    struct server_cli cli;
    enum mr_err err = server_cli_parse(&cli, c->flags, argc, argv);
    int status = CLI_ERROR;

    if (err == MR_E_CANCELED) {
        print_help(c, stdout);
        status = CLI_OK;
    } else if (err == MR_E_INVALID) {
        (void)server_cli_fail("See microreg %s -h", c->words);
    } else if (err != MR_OK) {
        (void)server_cli_fail("%s", mr_strerror(err));
    } else {
        (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* Or requests fail. */
        status = c->run(&cli);
        curl_global_cleanup();
    }
    server_cli_deinit(&cli);
    return status;
}

int server_cli_main(int argc, char *const *argv)
{
    static char version[] = "version";
    static char *const version_argv[] = {version};
    const struct command *c;
    int words;

    if (argc > 0 && is_one_of(argv[0], "-h", "-help", "--help")) {
        print_help(NULL, stdout);
        return CLI_OK;
    }
    if (argc > 0 && is_one_of(argv[0], "-v", "-version", "--version")) {
        argc = 1;
        argv = version_argv;
    }
    c = find(argc, argv, &words);
    if (c == NULL) {
        return unknown_command(argc, argv);
    }
    argc -= words;
    argv += words;
    if (c->flags == NULL) {
        bool wants_help =
            argc > 0 && is_one_of(argv[0], "-h", "-help", "--help");

        print_help(c, wants_help ? stdout : stderr);
        return wants_help ? CLI_OK : CLI_ERROR;
    }
    if (c->run != NULL) {
        return run_command(c, argc, argv);
    }
    if (argc > 0 && is_one_of(argv[0], "-h", "-help", "--help")) {
        print_help(c, stdout);
        return CLI_OK;
    }
    return server_agent_run(argc, argv);
}
