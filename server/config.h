/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's configuration: defaults, then files, then flags, then checks.
 *
 * One table (config_table.c) names every option: its flag, its key in the
 * files, type, default, range and help. Consul's options that this program does
 * not have are rows as well, so that nobody believes in a setting that does
 * nothing: they are refused, or ignored with a warning where that is harmless.
 */
#ifndef MR_SERVER_CONFIG_H
#define MR_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "server/definitions.h"

/* Owned texts. Of pairs: key, value, key, value ... */
struct server_list {
    char **items;
    size_t n;
};

/* More rows than the table of options may have. */
#define SERVER_OPTIONS_MAX 256

struct server_config {
    bool is_given[SERVER_OPTIONS_MAX]; /* By row: set by a file or a flag. */
    bool server;
    bool dev;
    bool bootstrap;
    bool ui;
    bool leave_on_terminate;
    bool skip_leave_on_interrupt;
    bool only_passing;
    bool enable_truncate;
    bool disable_compression;
    bool node_meta_txt;
    bool enable_scripts;
    bool enable_local_scripts;
    char *node_name;
    char *node_id;
    char *datacenter;
    char *data_dir;
    char *domain;
    char *alt_domain;
    char *bind_addr;
    char *advertise_addr;
    char *client_addr;
    char *http_addr;
    char *dns_addr;
    char *log_level;
    char *log_file;
    char *pid_file;
    int64_t bootstrap_expect;
    int64_t http_port;
    int64_t dns_port; /* -1: none. */
    int64_t server_port;
    int64_t kv_max_value_size;
    int64_t max_conns_per_client;
    int64_t udp_answer_limit;
    int64_t a_record_limit;
    int64_t soa_refresh_s;
    int64_t soa_retry_s;
    int64_t soa_expire_s;
    int64_t soa_min_ttl_s;
    int64_t retry_interval_ns;
    int64_t default_query_time_ns;
    int64_t max_query_time_ns;
    int64_t node_ttl_ns;
    int64_t node_lease_ns;
    int64_t reconnect_timeout_ns;
    int64_t check_update_interval_ns;
    int64_t check_output_max_size;
    struct server_list retry_join;
    struct server_list start_join;
    struct server_list node_meta;   /* Pairs. */
    struct server_list service_ttl; /* Pairs. */
    struct server_definitions definitions;
    struct server_list config_file;
    struct server_list config_dir;

    /* Made by server_config_resolve(): IP literals. */
    char *bind_ip;
    char *advertise_ip;
    struct server_list http_ips;
    struct server_list dns_ips;

    struct server_list warnings; /* Sentences to log once the log is set up. */
};

enum server_option_type {
    SERVER_OPTION_BOOL,
    SERVER_OPTION_TEXT,
    SERVER_OPTION_INT,
    SERVER_OPTION_DURATION,    /* Go's notation; kept in nanoseconds. */
    SERVER_OPTION_LIST,        /* Texts; each source appends. */
    SERVER_OPTION_PAIRS,       /* key=value as a flag, an object in files. */
    SERVER_OPTION_DEFINITIONS, /* Services and checks; in files only. */
    SERVER_OPTION_ANY          /* Any JSON value; never kept. */
};

enum server_option_use {
    SERVER_OPTION_LIVE,    /* Taken over by a reload. */
    SERVER_OPTION_START,   /* Read at start. */
    SERVER_OPTION_IGNORED, /* Consul's: without effect here, harmless. */
    SERVER_OPTION_REFUSED  /* Consul's: refused unless it is the default. */
};

struct server_option {
    const char *flag; /* Without dashes; NULL: in files only. */
    const char *key;  /* Path in files, "ports.http"; NULL: a flag only. */
    enum server_option_type type;
    enum server_option_use use;
    size_t offset;       /* Of the member in struct server_config. */
    const char *initial; /* Default as text; NULL: none. */
    int64_t min;         /* Range of INT and DURATION (in ns). */
    int64_t max;
    const char *help; /* Or, of IGNORED and REFUSED, why. */
};

/* The table, *@out_n rows. Static. */
const struct server_option *server_options(size_t *out_n);

/* The row of the flag @name of @len bytes, or NULL. */
const struct server_option *server_option_by_flag(const char *name, size_t len);

/* The row of the key @path (any case), or NULL. */
const struct server_option *server_option_by_key(const char *path);

/* Fill *@cfg with the defaults. On failure it is empty. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_config_init(struct server_config *cfg);

/* Release everything. An empty (zeroed) configuration is fine. */
void server_config_deinit(struct server_config *cfg);

/* Set @option from text, as flags do. Refused options and values are told in
 * @detail. MR_E_INVALID, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_config_set(struct server_config *cfg,
                                            const struct server_option *option,
                                            const char *text,
                                            struct mr_detail *detail);

/* Whether a file or a flag set the option with @key. */
bool server_config_given(const struct server_config *cfg, const char *key);

/* Append a copy of @text to @list. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_list_add(struct server_list *list,
                                          const char *text);

/* Append or, when the key is there, replace. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_list_put(struct server_list *pairs,
                                          const char *key, const char *value);

/* Release the texts and leave an empty list. */
void server_list_deinit(struct server_list *list);

/* Merge the JSON @text of the file called @path into @cfg. Unknown members,
 * wrong types and bad values are refused, naming file, line and member.
 * MR_E_INVALID, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_config_parse(struct server_config *cfg,
                                              const char *path,
                                              struct mr_slice text,
                                              struct mr_detail *detail);

/* Merge one file, or every *.json file of a folder in name order.
 * MR_E_IO: it cannot be read. Others as server_config_parse(). */
MR_MUST_CHECK enum mr_err server_config_read(struct server_config *cfg,
                                             const char *path,
                                             struct mr_detail *detail);

/* The whole way: defaults, then the files that the flags name, then the flags,
 * then the checks of single values and of what must fit together. *@cfg is
 * filled on success, else empty. MR_E_INVALID, MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_config_load(struct server_config *cfg,
                                             int argc, char *const *argv,
                                             struct mr_detail *detail);

/* Check what one option alone cannot tell, and fill in what depends on others
 * (-dev, node name, the second domain). MR_E_INVALID, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_config_check(struct server_config *cfg,
                                              struct mr_detail *detail);

/* Turn the addresses into IP literals (names are looked up; blocks) and choose
 * the one to advertise. MR_E_ADDRESS: one does not resolve, or none can be
 * chosen. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_config_resolve(struct server_config *cfg,
                                                struct mr_detail *detail);

/* Call @cb with each option whose value differs. */
void server_config_diff(
    const struct server_config *a, const struct server_config *b,
    void (*cb)(void *arg, const struct server_option *option), void *arg);

/* Append the value of @option as JSON (durations as text). */
void server_config_json(const struct server_config *cfg,
                        const struct server_option *option, struct mr_buf *out);

/* Append the help of every flag and of what only files can set. */
void server_config_help(struct mr_buf *out);

#endif /* MR_SERVER_CONFIG_H */
