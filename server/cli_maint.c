/* SPDX-License-Identifier: Apache-2.0 */
/* maint: maintenance mode of an agent's node and of its services. */
#include "server/cli.h"

#include <stdio.h>
#include <string.h>

#define NODE "_node_maintenance"
#define SERVICE "_service_maintenance:"

static void print_one(const json_t *check)
{
    const char *id = server_json_text(check, "CheckID");
    const char *reason = server_json_text(check, "Notes");

    if (strcmp(id, NODE) == 0) {
        (void)printf("Node:\n  Name:   %s\n  Reason: %s\n\n",
                     server_json_text(check, "Node"), reason);
    } else if (strncmp(id, SERVICE, strlen(SERVICE)) == 0) {
        (void)printf("Service:\n  ID:     %s\n  Reason: %s\n\n",
                     server_json_text(check, "ServiceID"), reason);
    }
}

static int list(struct server_cli *cli)
{
    struct server_answer answer;
    json_t *checks = server_cli_get(cli, "/v1/agent/checks", NULL, &answer);
    const char *id;
    json_t *check;
    int status = CLI_OK;

    if (checks == NULL) {
        status = server_cli_fail("Error listing checks: %s", answer.error);
    } else {
        json_object_foreach(checks, id, check)
        {
            print_one(check);
        }
    }
    json_decref(checks);
    server_answer_deinit(&answer);
    return status;
}

static int set(struct server_cli *cli, bool enable)
{
    const char *verb = enable ? "enabl" : "disabl";
    struct mr_buf path = MR_BUF_INIT;
    struct mr_buf query = MR_BUF_INIT;
    struct server_answer answer;
    int status = CLI_OK;

    mr_buf_str(&path, "/v1/agent/");
    if (cli->service != NULL) {
        mr_buf_str(&path, "service/maintenance/");
        server_cli_escape(cli->service, &path);
    } else {
        mr_buf_str(&path, "maintenance");
    }
    server_cli_param(&query, "enable", enable ? "true" : "false");
    server_cli_param(&query, "reason", cli->reason);
    if (!server_cli_request(cli, "PUT", mr_buf_cstr(&path), mr_buf_cstr(&query),
                            mr_slice(NULL, 0), &answer)) {
        status = server_cli_fail("Error %sing maintenance mode: %s", verb,
                                 answer.error);
    } else if (cli->service != NULL) {
        (void)printf("Service maintenance is now %sed for \"%s\"\n", verb,
                     cli->service);
    } else {
        (void)printf("Node maintenance is now %sed\n", verb);
    }
    server_answer_deinit(&answer);
    mr_buf_deinit(&query);
    mr_buf_deinit(&path);
    return status;
}

int server_cli_maint(struct server_cli *cli)
{
    if (cli->argc > 0) {
        return server_cli_fail("Error found unexpected args: [%s]",
                               cli->argv[0]);
    }
    if (cli->enable && cli->disable) {
        return server_cli_fail("Only one of -enable or -disable may be "
                               "provided");
    }
    if (!cli->enable && cli->reason != NULL) {
        return server_cli_fail("Reason may only be provided with -enable");
    }
    if (!cli->enable && !cli->disable && cli->service != NULL) {
        return server_cli_fail("Service requires either -enable or -disable");
    }
    return cli->enable || cli->disable ? set(cli, cli->enable) : list(cli);
}
