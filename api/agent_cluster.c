/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/agent: joining, leaving, reloading, the host. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "api/handlers.h"
#include "api/members.h"
#include "base/text.h"

/* ------------------------------------------------------------- join */

static void joined(struct api_request *req, enum mr_err err, const char *text)
{
    struct mr_hostport at;

    if (err == MR_OK) {
        api_reply_empty(req);
        return;
    }
    if (mr_hostport_parse(req->arg, req->options->agent.server_port, &at,
                          NULL) != MR_OK) {
        (void)api_error(req, 500,
                        "1 error occurred:\n\t* Failed to join %s: %s\n\n",
                        req->arg, text);
        return;
    }
    if (err == MR_E_UNREACHABLE) {
        text = "connect: connection refused";
    }
    (void)api_error(req, 500,
                    "1 error occurred:\n\t* Failed to join %s: dial tcp "
                    "%s:%u: %s\n\n",
                    at.host, at.host, at.port,
                    text[0] != '\0' ? text : mr_strerror(err));
}

void api_agent_join(struct api_request *req)
{
    const char *wan = api_query(req, "wan");
    struct mr_hostport at;
    struct mr_detail detail;

    if (wan != NULL && wan[0] != '\0') {
        (void)api_error(req, 500, "Joining other datacenters is not supported");
        return;
    }
    if (mr_hostport_parse(req->arg, req->options->agent.server_port, &at,
                          &detail) != MR_OK) {
        (void)api_error(req, 500,
                        "1 error occurred:\n\t* Failed to join %s: %s\n\n",
                        req->arg, detail.text);
        return;
    }
    api_async_begin(req, joined);
    if (req->options->raft == NULL && req->options->host.join != NULL) {
        req->options->host.join(req->options->host.arg, req->arg,
                                api_async_done, req);
        return;
    }
    mr_raft_join(req->options->raft, req->arg, api_async_done, req);
}

/* ------------------------------------------------------------- leaving */

void api_agent_leave(struct api_request *req)
{
    const struct mr_api_host *host = &req->options->host;

    if (host->leave == NULL) {
        (void)api_error(req, 500, "This agent cannot leave");
        return;
    }
    api_async_begin(req, api_resume_empty);
    host->leave(host->arg, api_async_done, req);
}

void api_agent_reload(struct api_request *req)
{
    const struct mr_api_host *host = &req->options->host;

    if (host->reload == NULL) {
        api_reply_empty(req);
        return;
    }
    api_async_begin(req, api_resume_empty);
    host->reload(host->arg, api_async_done, req);
}

/* After the server left raft's configuration, or when there was none: its node
 * leaves the catalog. With ?prune it is forgotten at once. */
static void forget_node(struct api_request *req, bool is_server)
{
    const char *prune = api_query(req, "prune");
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    body.node = (char *)req->arg;
    body.left = prune == NULL;
    body.is_server = is_server;
    body.left_ms = MR_API_LEFT_MS;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_kv_command_encode(&cmd, &req->cmd);
    api_submit(req, api_done_empty);
}

static void peer_removed(struct api_request *req, enum mr_err err,
                         const char *text)
{
    if (err != MR_OK && err != MR_E_NOTFOUND) {
        api_resume_empty(req, err, text);
        return;
    }
    forget_node(req, true);
}

/* Removes a member that has failed; one that lives is left alone, because it
 * would come back at once (as in Consul). */
void api_agent_force_leave(struct api_request *req)
{
    struct mr_kv_view *view = api_view(req);
    struct member_found found;
    enum mr_err err;

    if (view == NULL) {
        return;
    }
    err = members_find(req, view, req->arg, &found);
    mr_kv_view_end(view);
    if (err == MR_E_NOTFOUND) {
        (void)api_error(req, 500, "agent: No node found with name '%s'",
                        req->arg);
    } else if (err != MR_OK) {
        api_fail(req, err);
    } else if (found.status == MEMBER_ALIVE ||
               (found.status == MEMBER_LEFT &&
                api_query(req, "prune") == NULL)) {
        api_reply_empty(req); /* It stays as it is. */
    } else if (!found.is_server || found.status == MEMBER_LEFT) {
        forget_node(req, found.is_server);
    } else {
        api_async_begin(req, peer_removed);
        mr_raft_remove_peer(req->options->raft, found.raft_id, api_async_done,
                            req);
    }
}

/* ------------------------------------------------------------- monitor */

bool api_agent_monitor_prepare(struct api_request *req)
{
    static const char *const levels[] = {"trace", "debug", "info",
                                         "warn",  "err",   "error"};
    const char *level = api_query(req, "loglevel");

    if (level == NULL || level[0] == '\0') {
        level = "info";
    }
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcasecmp(level, levels[i]) == 0) {
            return true;
        }
    }
    return api_error(req, 400, "Bad request: Unknown log level: %s", level);
}

enum mr_err api_agent_monitor(struct api_request *req, struct mr_kv_view *view,
                              struct mr_buf *out)
{
    (void)view;
    (void)out;
    (void)api_error(req, 501,
                    "The log is not streamed: read it where the agent writes "
                    "it (-log-file)");
    return MR_OK;
}

/* ------------------------------------------------------------- host */

static void write_memory(struct mr_json *j, const struct sysinfo *info)
{
    uint64_t unit = info->mem_unit;
    uint64_t total = info->totalram * unit;
    uint64_t available = (info->freeram + info->bufferram) * unit;
    uint64_t used = total - available;

    mr_json_key(j, "Memory");
    mr_json_object(j);
    mr_json_ku64(j, "total", total);
    mr_json_ku64(j, "available", available);
    mr_json_ku64(j, "used", used);
    mr_json_ku64(j, "usedPercent", total == 0 ? 0 : used * 100 / total);
    mr_json_ku64(j, "free", info->freeram * unit);
    mr_json_ku64(j, "buffers", info->bufferram * unit);
    mr_json_ku64(j, "shared", info->sharedram * unit);
    mr_json_ku64(j, "swaptotal", info->totalswap * unit);
    mr_json_ku64(j, "swapfree", info->freeswap * unit);
    mr_json_object_end(j);
}

static void write_cpus(struct mr_json *j)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    mr_json_key(j, "CPU");
    mr_json_array(j);
    for (long i = 0; i < n; i++) {
        mr_json_object(j);
        mr_json_ki64(j, "cpu", i);
        mr_json_ki64(j, "cores", 1);
        mr_json_object_end(j);
    }
    mr_json_array_end(j);
}

static void write_host(struct mr_json *j, const struct sysinfo *info,
                       uint64_t wall_s)
{
    struct utsname name;

    memset(&name, 0, sizeof name);
    (void)uname(&name); /* On failure the names are empty. */
    mr_json_key(j, "Host");
    mr_json_object(j);
    mr_json_kstr(j, "hostname", name.nodename);
    mr_json_ki64(j, "uptime", info->uptime);
    mr_json_ku64(j, "bootTime", wall_s - (uint64_t)info->uptime);
    mr_json_ku64(j, "procs", info->procs);
    mr_json_kstr(j, "os", "linux");
    mr_json_kstr(j, "kernelVersion", name.release);
    mr_json_kstr(j, "kernelArch", name.machine);
    mr_json_object_end(j);
}

static void write_disk(struct mr_json *j)
{
    struct statvfs fs;

    memset(&fs, 0, sizeof fs);
    (void)statvfs("/", &fs); /* On failure the sizes are 0. */
    mr_json_key(j, "Disk");
    mr_json_object(j);
    mr_json_kstr(j, "path", "/");
    mr_json_ku64(j, "total", fs.f_blocks * fs.f_frsize);
    mr_json_ku64(j, "free", fs.f_bavail * fs.f_frsize);
    mr_json_ku64(j, "used", (fs.f_blocks - fs.f_bfree) * fs.f_frsize);
    mr_json_object_end(j);
}

enum mr_err api_agent_host(struct api_request *req, struct mr_kv_view *view,
                           struct mr_buf *out)
{
    const struct mr_clock *clock = req->options->clock;
    uint64_t wall_ms = clock->wall_ms(clock);
    struct sysinfo info;
    struct mr_json j;

    (void)view;
    memset(&info, 0, sizeof info);
    (void)sysinfo(&info); /* On failure everything is 0. */
    mr_json_init(&j, out);
    mr_json_object(&j);
    write_memory(&j, &info);
    write_cpus(&j);
    write_host(&j, &info, wall_ms / 1000);
    write_disk(&j);
    mr_json_ku64(&j, "CollectionTime", wall_ms * 1000000);
    mr_json_key(&j, "Errors");
    mr_json_null(&j);
    mr_json_object_end(&j);
    return MR_OK;
}
