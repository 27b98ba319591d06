/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the command watch have in common. */
#ifndef MR_SERVER_CLI_WATCH_H
#define MR_SERVER_CLI_WATCH_H

#include "server/watch.h"

/* Consul's form: -type, and a handler that is run with each new answer. Returns
 * the exit status. */
int cli_watch_type(struct server_cli *cli);

/* Append @answer, JSON, as Consul's client encodes it; with @is_one the only
 * element of it. False: it is no JSON, or no memory. */
bool cli_watch_render(struct mr_slice answer, bool is_one, struct mr_buf *out);

/* Parse a boolean as Go does; false: said that it is none. */
bool cli_watch_bool(const char *text, bool *out);

/* The addresses to ask, of all -http-addr; lists with commas are taken apart.
 * The caller releases *@out. False: said why. */
bool cli_watch_addresses(const struct server_cli *cli, struct server_list *out);

#endif /* MR_SERVER_CLI_WATCH_H */
