/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that need no server: version, validate, recover. */
#include "server/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "raft/mr_raft.h"
#include "server/identity.h"
#include "server/version.h"

#define SERVER_PORT 8300

int server_cli_version(struct server_cli *cli)
{
    if (server_cli_wants_json(cli)) {
        /* Consul's members, by which tools tell what they talk to. */
        (void)printf("{\n   \"Version\": \"%s\",\n   \"Revision\": \"%s\",\n"
                     "   \"Prerelease\": \"\",\n   \"RPC\": {\n"
                     "      \"Default\": 2,\n      \"Min\": 2,\n"
                     "      \"Max\": 3\n   }\n}\n",
                     server_version(), server_revision());
        return CLI_OK;
    }
    (void)printf("microreg v%s\nRevision %s\nSpeaks the API of Consul v%s\n",
                 server_version(), server_revision(), server_consul_version());
    return CLI_OK;
}

/* ---- validate ---- */

static int validate(const struct server_cli *cli, char **flags)
{
    struct server_config cfg;
    struct mr_detail detail;

    for (int i = 0; i < cli->argc; i++) {
        flags[2 * i] = (char *)"-config-file"; /* Read only. */
        flags[2 * i + 1] = cli->argv[i];
    }
    if (server_config_load(&cfg, 2 * cli->argc, flags, &detail) != MR_OK) {
        return server_cli_fail("Config validation failed: %s", detail.text);
    }
    server_config_deinit(&cfg);
    if (!cli->quiet) {
        (void)puts("Configuration is valid!");
    }
    return CLI_OK;
}

int server_cli_validate(struct server_cli *cli)
{
    char **flags;
    int status;

    if (cli->argc == 0) {
        return server_cli_fail(
            "Must specify at least one config file or directory");
    }
    flags = mr_calloc((size_t)cli->argc * 2, sizeof *flags);
    if (flags == NULL) {
        return server_cli_fail("out of memory");
    }
    status = validate(cli, flags);
    mr_free(flags);
    return status;
}

/* ---- recover ---- */

/* The address as servers keep it: an IP literal with its port. */
static enum mr_err address_of(const char *text, char *out, size_t cap,
                              struct mr_detail *detail)
{
    struct mr_hostport hp;
    enum mr_err err = mr_hostport_parse(text, SERVER_PORT, &hp, detail);
    int family;

    if (err != MR_OK) {
        return err;
    }
    family = mr_ip_family(hp.host);
    if (family == 0) {
        return mr_fail(detail, MR_E_ADDRESS,
                       "-advertise=%.200s: want an IP address, as the server "
                       "advertises it",
                       text);
    }
    (void)snprintf(out, cap, family == 6 ? "[%s]:%u" : "%s:%u", hp.host,
                   hp.port); /* Fits: a literal is short. */
    return MR_OK;
}

static int recover(const struct server_cli *cli,
                   const struct server_identity *id)
{
    char *dir = server_identity_path(id, "raft");
    char address[MR_HOST_MAX + 10];
    struct mr_detail detail;
    enum mr_err err;

    if (dir == NULL) {
        return server_cli_fail("out of memory");
    }
    err = address_of(cli->advertise, address, sizeof address, &detail);
    if (err == MR_OK) {
        err = mr_raft_recover(dir, id->node_id, address, &detail);
    }
    mr_free(dir);
    if (err != MR_OK) {
        return server_cli_fail("Error recovering: %s", detail.text);
    }
    (void)printf(
        "Recovered: the server in %s is a cluster of one now.\n"
        "Start it, then start the others with empty data folders and join "
        "them.\nWhat only the lost servers had is gone.\n",
        cli->data_dir);
    return CLI_OK;
}

int server_cli_recover(struct server_cli *cli)
{
    struct server_identity id;
    struct mr_detail detail;
    int status;

    if (cli->data_dir == NULL) {
        return server_cli_fail("Error recovering: -data-dir is required");
    }
    if (cli->advertise == NULL) {
        return server_cli_fail("Error recovering: -advertise is required: the "
                               "address under which the server will run");
    }
    if (server_identity_find(cli->data_dir, &id, &detail) != MR_OK) {
        return server_cli_fail("Error recovering: %s", detail.text);
    }
    status = recover(cli, &id);
    server_identity_close(&id);
    return status;
}
