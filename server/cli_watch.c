/* SPDX-License-Identifier: Apache-2.0 */
/* watch: follow a stream and print its events. The form with -type, Consul's,
 * stands in cli_watch_type.c. */
#include "server/cli_watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

/* A stream says something every 10 s. */
#define SILENT_MS 25000

struct follower {
    struct watch_loop loop;
    struct watch_topic topic;
    struct watch_stream stream;
    struct server_list addresses;
    bool wants_json;
    int status;
};

/* ------------------------------------------------------------- printing */

/* @text and a newline, at once: it may go into a pipe. */
static bool print(struct mr_buf *text)
{
    bool is_ok;

    mr_buf_byte(text, '\n');
    is_ok = !mr_buf_failed(text) &&
            fwrite(text->data, 1, text->len, stdout) == text->len &&
            fflush(stdout) == 0;
    mr_buf_deinit(text);
    return is_ok;
}

static bool on_line(struct watch_stream *stream, struct watch_line *line,
                    struct mr_slice text)
{
    struct follower *f = stream->owner;
    struct mr_buf out = MR_BUF_INIT;

    if (f->wants_json) {
        mr_buf_add(&out, text.data, text.len);
    } else {
        mr_buf_printf(&out, "%-8" PRIu64 " %-8s", line->index,
                      watch_action_name(line->action));
        if (line->object != NULL) {
            mr_buf_byte(&out, ' ');
            watch_object_describe(f->topic.kind, line->object, &out);
        }
    }
    if (!print(&out)) {
        f->loop.is_stopped = true; /* Nobody reads any more. */
    }
    return true;
}

static void on_begin(struct watch_stream *stream, const char *address)
{
    if (stream->owner != NULL && stream->why.text[0] != '\0') {
        (void)server_cli_fail("Connected to %s, going on after index %" PRIu64,
                              address, stream->index);
        stream->why.text[0] = '\0';
    }
}

static void on_end(struct watch_stream *stream, const char *why)
{
    struct follower *f = stream->owner;

    if (stream->is_refused) {
        f->status = server_cli_fail("Error watching: %s", why);
        f->loop.is_stopped = true;
    } else if (!f->loop.is_stopped) {
        (void)server_cli_fail("Lost %s: %s", stream->cli.http_addr, why);
    }
}

/* ------------------------------------------------------------- arguments */

static int bad_arguments(enum watch_kind kind, const char *what)
{
    return server_cli_fail("watch %s needs %s", watch_kind_name(kind), what);
}

/* Check that as many names were given as the kind wants. */
static int check_names(const struct watch_topic *topic)
{
    switch (topic->kind) {
    case WATCH_KEY:
        return topic->n_names == 1 ? CLI_OK
                                   : bad_arguments(topic->kind, "one KEY");
    case WATCH_KEYPREFIX:
        return topic->n_names <= 1
                   ? CLI_OK
                   : bad_arguments(topic->kind, "one PREFIX, or none");
    case WATCH_SERVICE:
        return topic->n_names == 1 ? CLI_OK
                                   : bad_arguments(topic->kind, "one NAME");
    case WATCH_SERVICES:
    case WATCH_NODES:
    case WATCH_CHECKS:
        return topic->n_names == 0 ? CLI_OK
                                   : bad_arguments(topic->kind, "no names");
    case WATCH_REGISTRY:
        break;
    }
    return CLI_OK;
}

static int parse(struct server_cli *cli, struct follower *f)
{
    struct watch_stream *s = &f->stream;
    bool passing = false;

    if (!watch_kind_find(cli->argv[0], &f->topic.kind)) {
        return server_cli_fail(
            "Unknown stream \"%s\": want key, prefix, services, service, "
            "nodes, checks or registry",
            cli->argv[0]);
    }
    f->topic.names = (const char *const *)cli->argv + 1;
    f->topic.n_names = (size_t)cli->argc - 1;
    f->topic.state = cli->state;
    f->topic.service = cli->service;
    if (cli->passingonly != NULL &&
        !cli_watch_bool(cli->passingonly, &passing)) {
        return CLI_ERROR;
    }
    f->topic.passing = passing;
    f->wants_json = server_cli_wants_json(cli);
    if (cli->index != NULL && mr_parse_u64(cli->index, &s->index) != MR_OK) {
        return server_cli_fail("Invalid index \"%s\"", cli->index);
    }
    return check_names(&f->topic);
}

bool cli_watch_addresses(const struct server_cli *cli, struct server_list *out)
{
    const char *at = cli->http_addr != NULL ? cli->http_addr : "127.0.0.1:8500";

    for (size_t i = 0; i < cli->http_addrs.n || i == 0; i++) {
        const char *text =
            cli->http_addrs.n > 0 ? cli->http_addrs.items[i] : at;

        while (*text != '\0') {
            size_t len = strcspn(text, ",");
            char *one = mr_memdup0(text, len);
            bool is_ok =
                one != NULL && (len == 0 || server_list_add(out, one) == MR_OK);

            mr_free(one);
            if (!is_ok) {
                (void)server_cli_fail("out of memory");
                return false;
            }
            text += len + (text[len] == ',');
        }
    }
    return out->n > 0 || server_cli_fail("No address is given") == CLI_OK;
}

/* ------------------------------------------------------------- following */

static void follow(struct follower *f)
{
    watch_stream_start(&f->stream, 0);
    while (!f->loop.is_stopped) {
        watch_loop_turn(&f->loop, UINT64_MAX);
        watch_stream_tick(&f->stream);
    }
    watch_stream_stop(&f->stream);
}

static int run_stream(struct server_cli *cli)
{
    struct follower f = {.status = CLI_OK};
    struct watch_stream *s = &f.stream;

    s->loop = &f.loop;
    s->cli = *cli;
    s->addresses = &f.addresses;
    s->topic = &f.topic;
    s->silent_ms = SILENT_MS;
    s->on_line = on_line;
    s->on_begin = on_begin;
    s->on_end = on_end;
    s->owner = &f;
    f.status = parse(cli, &f);
    if (f.status == CLI_OK && !cli_watch_addresses(cli, &f.addresses)) {
        f.status = CLI_ERROR;
    }
    if (f.status == CLI_OK && watch_loop_open(&f.loop) != MR_OK) {
        f.status = server_cli_fail("Error watching: no memory or no files");
    } else if (f.status == CLI_OK) {
        follow(&f);
        watch_loop_close(&f.loop);
    }
    server_list_deinit(&f.addresses);
    return f.status;
}

int server_cli_watch(struct server_cli *cli)
{
    if (cli->type != NULL || cli->argc == 0) {
        return cli_watch_type(cli);
    }
    return run_stream(cli);
}
