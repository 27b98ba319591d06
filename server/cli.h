/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client commands: Consul's words, output and exit codes.
 *
 * A command is a row (cli.c): its words, its flags, its help and a function.
 * It talks to a server over HTTP and prints: results on standard output,
 * errors on standard error.
 */
#ifndef MR_SERVER_CLI_H
#define MR_SERVER_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include <curl/curl.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "server/config.h"

#define CLI_OK 0
#define CLI_ERROR 1
#define CLI_NONE 2      /* members: nothing matches. */
#define CLI_UNKNOWN 127 /* No such command. */

/* Every flag that some command has. Texts are borrowed from argv. */
struct server_cli {
    /* Talking to the server. */
    const char *http_addr;
    const char *token;
    const char *token_file;
    const char *ca_file;
    const char *ca_path;
    const char *client_cert;
    const char *client_key;
    const char *datacenter;
    bool stale;
    /* Printing. */
    const char *format;
    bool detailed;
    bool base64;
    bool tags;
    /* Choosing. */
    bool wan;
    const char *segment;
    const char *status;
    const char *service;
    const char *node;
    const char *near;
    const char *filter;
    struct server_list node_meta;
    bool recurse;
    bool keys;
    const char *separator;
    const char *id;
    const char *address;
    /* Writing. */
    bool cas;
    bool acquire;
    bool release;
    const char *modify_index;
    const char *flags;
    const char *session;
    /* Maintenance. */
    bool enable;
    bool disable;
    const char *reason;
    /* Locks. */
    const char *name;
    const char *limit;
    const char *timeout;
    const char *try_for; /* The older name of timeout. */
    const char *monitor_retry;
    bool child_exit_code;
    bool pass_stdin;
    bool shell; /* True unless told otherwise. */
    bool verbose;
    /* Watching. */
    struct server_list http_addrs; /* Every -http-addr. */
    const char *type;
    const char *key;
    const char *prefix;
    const char *state;
    const char *passingonly;
    const char *index;
    struct server_list tag_list; /* Every -tag. */
    struct server_list topics;   /* Every -topic. */
    const char *duration;
    const char *streams;
    const char *queries;
    const char *slow;
    const char *move;
    const char *seed;
    const char *rate;
    bool write;
    /* Leaving. */
    bool prune;
    /* Working on a folder. */
    const char *data_dir;
    const char *advertise;
    bool quiet;

    int argc; /* What follows the flags. */
    char *const *argv;
};

/* Run the command that @argv (without the program's name) begins with; returns
 * the exit status: 0, 1 after an error, 127 for an unknown command. */
int server_cli_main(int argc, char *const *argv);

/* Print "text\n" to standard error; returns CLI_ERROR. */
int server_cli_fail(const char *fmt, ...) MR_PRINTF(1, 2);

/* ---- cli_args.c ---- */

/* Parse the flags among @argv into *@cli; only those named in @allowed (words
 * separated by spaces) exist. As Go does, parsing ends at the first word that
 * is no flag. The caller releases *@cli with server_cli_deinit(), whatever is
 * returned. Says what is wrong on standard error. MR_E_INVALID; MR_E_CANCELED:
 * -h was given. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_cli_parse(struct server_cli *cli,
                                           const char *allowed, int argc,
                                           char *const *argv);

/* Release the lists. */
void server_cli_deinit(struct server_cli *cli);

/* Append the help of the flags named in @allowed. */
void server_cli_flags_help(const char *allowed, struct mr_buf *out);

/* Whether -format json was given. */
bool server_cli_wants_json(const struct server_cli *cli);

/* ---- cli_http.c ---- */

/* One answer. */
struct server_answer {
    long status;    /* 0: none came; error says why. */
    uint64_t index; /* X-Consul-Index, or 0. */
    uint64_t fence; /* X-Microreg-Fence, or 0. */
    struct mr_buf body;
    char error[768];
};

/* Send a request and wait for the answer. @path begins with /v1/ and is
 * escaped; @query (may be NULL) holds parameters without "?"; datacenter and
 * stale are added to it. @body may have no data. Release *@out with
 * server_answer_deinit() whatever happened.
 *
 * Returns whether a 2xx status came; else out->error says why not, as Consul's
 * client does ("Unexpected response code: 500 (text)"). */
bool server_cli_request(const struct server_cli *cli, const char *method,
                        const char *path, const char *query,
                        struct mr_slice body, struct server_answer *out);

/* A request that others can go on beside, in a multi handle of libcurl's. */
struct server_request {
    const char *method;        /* Set by the caller, as out. */
    struct server_answer *out; /* To be released as above. */
    CURL *curl;
    struct curl_slist *headers;
    struct mr_buf url;
};

/* Prepare r->curl; the rest as server_cli_request(). @body must live until the
 * end. False: there is nothing to perform. Call server_request_end() in any
 * case. */
bool server_request_begin(struct server_request *r,
                          const struct server_cli *cli, const char *path,
                          const char *query, struct mr_slice body);

/* Release @r, which ended with @code; returns as server_cli_request(). */
bool server_request_end(struct server_request *r, CURLcode code);

/* GET and decode JSON: a value to json_decref(), or NULL and out->error. */
json_t *server_cli_get(const struct server_cli *cli, const char *path,
                       const char *query, struct server_answer *out);

/* Release the body. */
void server_answer_deinit(struct server_answer *answer);

/* Append @text percent-encoded; slashes stay. */
void server_cli_escape(const char *text, struct mr_buf *out);

/* Append "&name=value" (the "&" only behind something), escaped. A NULL or
 * empty value appends nothing. */
void server_cli_param(struct mr_buf *query, const char *name,
                      const char *value);

/* Append what the base64 @text decodes to; false with the place of the first
 * bad byte. */
bool server_cli_base64(const char *text, struct mr_buf *out, size_t *out_bad);

/* Print @value as indented JSON; returns CLI_OK. */
int server_cli_print_json(const json_t *value);

/* Decode JSON. Whole numbers of 64 bits, which jansson does not read, become
 * texts, see server_json_u64(). NULL: @why. */
json_t *server_json_load(struct mr_slice text, json_error_t *why);

/* Member @key of @object as a number of 64 bits; 0 when there is none. */
uint64_t server_json_u64(const json_t *object, const char *key);

/* Member @key of @object as text: "" when missing or of another type. */
const char *server_json_text(const json_t *object, const char *key);

/* ---- cli_table.c ---- */

/* Rows of cells, printed as aligned columns two spaces apart. */
struct server_table {
    struct mr_buf cells; /* Texts, each with a NUL behind it. */
    size_t *widths;
    size_t n_columns;
    size_t n_cells;
};

/* Make an empty table. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_table_init(struct server_table *t,
                                            size_t n_columns);

/* Add the next cell, row by row. */
void server_table_add(struct server_table *t, const char *text);

/* Append the table: cells padded, the last column not. */
void server_table_format(const struct server_table *t, struct mr_buf *out);

/* Print the table and release it; returns CLI_OK or CLI_ERROR. */
int server_table_print(struct server_table *t);

/* Release the table. */
void server_table_deinit(struct server_table *t);

/* ---- the commands ---- */

/* One command each; @cli holds its flags. They return the exit status. */
int server_cli_catalog_datacenters(struct server_cli *cli);
/* catalog nodes */
int server_cli_catalog_nodes(struct server_cli *cli);
/* catalog services */
int server_cli_catalog_services(struct server_cli *cli);
/* info */
int server_cli_info(struct server_cli *cli);
/* join ADDRESS... */
int server_cli_join(struct server_cli *cli);
/* kv delete KEY */
int server_cli_kv_delete(struct server_cli *cli);
/* kv export [PREFIX] */
int server_cli_kv_export(struct server_cli *cli);
/* kv get [KEY] */
int server_cli_kv_get(struct server_cli *cli);
/* kv import DATA */
int server_cli_kv_import(struct server_cli *cli);
/* kv put KEY [VALUE] */
int server_cli_kv_put(struct server_cli *cli);
/* leave */
int server_cli_leave(struct server_cli *cli);
/* lock PREFIX CHILD... */
int server_cli_lock(struct server_cli *cli);
/* force-leave NODE */
int server_cli_force_leave(struct server_cli *cli);
/* maint */
int server_cli_maint(struct server_cli *cli);
/* members */
int server_cli_members(struct server_cli *cli);
/* operator raft list-peers */
int server_cli_list_peers(struct server_cli *cli);
/* operator raft remove-peer */
int server_cli_remove_peer(struct server_cli *cli);
/* recover */
int server_cli_recover(struct server_cli *cli);
/* reload */
int server_cli_reload(struct server_cli *cli);
/* validate PATH... */
int server_cli_validate(struct server_cli *cli);
/* version */
int server_cli_version(struct server_cli *cli);
/* watch KIND [NAME...] | -type=... [HANDLER...] */
int server_cli_watch(struct server_cli *cli);
/* watch-verify */
int server_cli_watch_verify(struct server_cli *cli);
/* why service ID */
int server_cli_why_service(struct server_cli *cli);
/* why node NAME */
int server_cli_why_node(struct server_cli *cli);
/* why check ID */
int server_cli_why_check(struct server_cli *cli);
/* why session ID */
int server_cli_why_session(struct server_cli *cli);

#endif /* MR_SERVER_CLI_H */
