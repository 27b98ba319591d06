/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch -type=...: Consul's form, on blocking queries. Each answer that differs
 * from the one before is given to a handler; without one, the first is printed.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "server/cli_watch.h"

#define RETRY_MS 5000
#define RETRY_MAX_MS 180000
#define EXEC_FAILED 127

/* One run of the command. */
struct handled {
    struct server_cli *cli;
    struct watch_loop loop;
    struct watch_call call;
    bool is_done; /* The call. */
    bool is_ok;
    long status;
    uint64_t index; /* Of the last answer. */
    struct mr_buf body;
    char error[768];
    struct mr_buf last; /* What the handler was given. */
    bool has_last;
    struct mr_buf command;
};

/* ------------------------------------------------------------- arguments */

bool cli_watch_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};

    for (size_t i = 0; i < MR_ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    (void)server_cli_fail(
        "Failed to parse passingonly flag: strconv.ParseBool: "
        "parsing \"%s\": invalid syntax",
        text);
    return false;
}

static bool has_text(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* Which flags a type takes, and what it says without the one it needs. */
struct type {
    const char *name;
    const char *takes;
    const char *missing;
};

static const struct type types[] = {
    {"key", "key", "Must specify a single key to watch"},
    {"keyprefix", "prefix", "Must specify a single prefix to watch"},
    {"services", "", NULL},
    {"nodes", "", NULL},
    {"service", "service tag passingonly",
     "Must specify a single service to watch"},
    {"checks", "service state", NULL},
};

/* Whether @word is among the words of @list. */
static bool is_among(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = strstr(list, word); at != NULL;
         at = strstr(at + 1, word)) {
        if ((at == list || at[-1] == ' ') &&
            (at[len] == '\0' || at[len] == ' ')) {
            return true;
        }
    }
    return false;
}

static int check_flags(const struct server_cli *cli, const struct type *type)
{
    const struct {
        const char *name;
        bool is_given;
    } flags[] = {
        {"key", has_text(cli->key)},
        {"prefix", has_text(cli->prefix)},
        {"service", has_text(cli->service)},
        {"tag", cli->tag_list.n > 0},
        {"passingonly", cli->passingonly != NULL},
        {"state", has_text(cli->state)},
    };
    struct mr_buf surplus = MR_BUF_INIT;
    int status = CLI_OK;
    bool has_main = type->missing == NULL;

    for (size_t i = 0; i < MR_ARRAY_LEN(flags); i++) {
        if (flags[i].is_given && is_among(type->takes, flags[i].name)) {
            /* The one it needs is the first of those it takes. */
            has_main |=
                strncmp(type->takes, flags[i].name, strlen(flags[i].name)) == 0;
        } else if (flags[i].is_given) {
            mr_buf_printf(&surplus, "%s%s", surplus.len > 0 ? " " : "",
                          flags[i].name);
        }
    }
    if (!has_main) {
        status = server_cli_fail("%s", type->missing);
    } else if (strcmp(type->name, "checks") == 0 && has_text(cli->service) &&
               has_text(cli->state)) {
        status = server_cli_fail("Cannot specify service and state");
    } else if (surplus.len > 0) {
        status =
            server_cli_fail("Invalid parameters: [%s]", mr_buf_cstr(&surplus));
    }
    mr_buf_deinit(&surplus);
    return status;
}

static int check_arguments(const struct server_cli *cli)
{
    bool passing;

    if (!has_text(cli->type)) {
        return server_cli_fail("Watch type must be specified\n\n"
                               "See microreg watch -h");
    }
    if (cli->passingonly != NULL &&
        !cli_watch_bool(cli->passingonly, &passing)) {
        return CLI_ERROR;
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, cli->type) == 0) {
            return check_flags(cli, &types[i]);
        }
    }
    return server_cli_fail("Unsupported watch type: %s", cli->type);
}

/* ------------------------------------------------------------- asking */

static void on_done(struct watch_call *call, bool is_ok,
                    struct server_answer *answer)
{
    struct handled *h = mr_container_of(call, struct handled, call);

    h->is_done = true;
    h->is_ok = is_ok;
    h->status = answer->status;
    h->index = answer->index;
    (void)snprintf(h->error, sizeof h->error, "%s", answer->error);
    mr_buf_deinit(&h->body);
    h->body = answer->body;
    answer->body = (struct mr_buf)MR_BUF_INIT;
}

/* Ask and wait for the answer; false: there is none, or a signal came. */
static bool ask(struct handled *h, struct watch_request *request)
{
    h->is_done = false;
    h->call.on_done = on_done;
    watch_call_start(&h->call, &h->loop, h->cli, "GET", request);
    watch_request_deinit(request);
    while (!h->is_done && !h->loop.is_stopped) {
        watch_loop_turn(&h->loop, UINT64_MAX);
    }
    return h->is_done && h->is_ok;
}

static void make_request(const struct server_cli *cli, uint64_t index,
                         struct watch_request *out)
{
    const char *name = has_text(cli->key)      ? cli->key
                       : has_text(cli->prefix) ? cli->prefix
                                               : cli->service;
    struct watch_topic topic = {.names = &name,
                                .n_names = name != NULL,
                                .state = cli->state,
                                .service = cli->service};

    if (cli->passingonly != NULL) {
        (void)cli_watch_bool(cli->passingonly, &topic.passing); /* Checked. */
    }
    (void)watch_kind_find(cli->type, &topic.kind); /* Checked. */
    watch_topic_read(&topic, out);
    for (size_t i = 0; i < cli->tag_list.n; i++) {
        server_cli_param(&out->query, "tag", cli->tag_list.items[i]);
    }
    if (index > 0) {
        mr_buf_printf(&out->query, "%sindex=%" PRIu64,
                      out->query.len > 0 ? "&" : "", index);
    }
}

/* The answer as Consul's client would give it to a handler. */
static bool render(struct handled *h, struct mr_buf *out)
{
    if (h->status == 404) {
        mr_buf_str(out, "null");
        return true;
    }
    return cli_watch_render(mr_buf_slice(&h->body),
                            strcmp(h->cli->type, "key") == 0, out);
}

/* ------------------------------------------------------------- the handler */

/* In the child: become the handler, which reads @in. What fails is told to
 * @report. */
static void become(struct handled *h, int in, int report)
{
    const char *shell = getenv("SHELL");
    char index[24];
    int error;

    (void)snprintf(index, sizeof index, "%" PRIu64, h->index);
    (void)setenv("CONSUL_INDEX", index, 1);
    (void)dup2(in, STDIN_FILENO);
    (void)sigprocmask(SIG_SETMASK, &h->loop.old_mask, NULL);
    if (h->cli->shell) {
        const char *argv[] = {has_text(shell) ? shell : "/bin/sh", "-c",
                              mr_buf_cstr(&h->command), NULL};

        (void)execv(argv[0], (char *const *)argv);
    } else {
        (void)execvp(h->cli->argv[0], h->cli->argv);
    }
    error = errno;
    (void)!write(report, &error, sizeof error); /* Else it just ended. */
    _exit(EXEC_FAILED);
}

/* Why the handler did not even start, in Go's words; false: it did. */
static bool read_report(const struct handled *h, int report)
{
    const char *name = h->cli->shell ? "the shell" : h->cli->argv[0];
    int error = 0;
    char text[128];
    ssize_t n;

    do {
        n = read(report, &error, sizeof error);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof error) {
        return false;
    }
    if (error == ENOENT && strchr(name, '/') == NULL) {
        (void)server_cli_fail("Error starting handler: exec: \"%s\": "
                              "executable file not found in $PATH",
                              name);
        return true;
    }
    (void)snprintf(text, sizeof text, "%s", strerror(error));
    text[0] = (char)tolower((unsigned char)text[0]);
    (void)server_cli_fail("Error starting handler: fork/exec %s: %s", name,
                          text);
    return true;
}

/* A file without a name that holds @text and is read from its begin. */
static int make_input(const struct mr_buf *text)
{
    FILE *file = tmpfile();
    int fd = -1;

    if (file != NULL) {
        if (fwrite(text->data, 1, text->len, file) == text->len &&
            fputc('\n', file) != EOF && fflush(file) == 0) {
            fd = dup(fileno(file));
        }
        (void)fclose(file); /* Flushed. */
    }
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* Wait for @child, passing on the signals that come. */
static int wait_for(struct handled *h, pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, WNOHANG) == 0) {
        watch_loop_turn(&h->loop, UINT64_MAX);
        if (h->loop.is_stopped) {
            (void)kill(child, SIGTERM);
            return 0;
        }
    }
    return status;
}

/* Start the handler, which reads @in; 0: said why not. */
static pid_t start_handler(struct handled *h, int in)
{
    int report[2];
    pid_t child;

    if (pipe2(report, O_CLOEXEC) != 0) {
        (void)server_cli_fail("Error starting handler: %s", strerror(errno));
        return 0;
    }
    child = fork();
    if (child == 0) {
        become(h, in, report[1]);
    }
    (void)close(report[1]);
    if (child < 0) {
        (void)server_cli_fail("Error starting handler: %s", strerror(errno));
    } else if (read_report(h, report[0])) {
        (void)waitpid(child, NULL, 0); /* It is ending. */
        child = 0;
    }
    (void)close(report[0]);
    return child < 0 ? 0 : child;
}

static int run_handler(struct handled *h, const struct mr_buf *text)
{
    int in = make_input(text);
    pid_t child;
    int status;

    if (in < 0) {
        return server_cli_fail("Error executing handler: %s", strerror(errno));
    }
    child = start_handler(h, in);
    (void)close(in);
    if (child == 0) {
        return CLI_ERROR;
    }
    status = wait_for(h, child);
    if (WIFSIGNALED(status)) {
        char name[64];

        (void)snprintf(name, sizeof name, "%s", strsignal(WTERMSIG(status)));
        name[0] = (char)tolower((unsigned char)name[0]);
        return server_cli_fail("Error executing handler: signal: %s", name);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        return server_cli_fail("Error executing handler: exit status %d",
                               WEXITSTATUS(status));
    }
    return CLI_OK;
}

/* ------------------------------------------------------------- the loop */

static int print_once(const struct mr_buf *text)
{
    struct mr_buf out = MR_BUF_INIT;

    mr_json_indent(&out, mr_buf_slice(text), 4);
    (void)fputs(mr_buf_cstr(&out), stdout); /* Nobody to tell when it fails. */
    mr_buf_deinit(&out);
    return CLI_OK;
}

/* Hand on an answer, unless it is the same as the last. */
static int take_answer(struct handled *h)
{
    struct mr_buf text = MR_BUF_INIT;
    int status = CLI_OK;

    if (!render(h, &text)) {
        status = server_cli_fail("Error encoding output: it is no JSON");
    } else if (h->cli->argc == 0) {
        status = print_once(&text);
    } else if (!h->has_last ||
               !mr_slice_eq(mr_buf_slice(&h->last), mr_buf_slice(&text))) {
        status = run_handler(h, &text);
    }
    mr_buf_deinit(&h->last);
    h->last = text;
    h->has_last = true;
    return status;
}

/* Say it as Consul does, and wait longer each time. */
static void complain(struct handled *h, uint64_t n_failed)
{
    uint64_t ms = RETRY_MS * n_failed * n_failed;
    uint64_t until;
    time_t at = (time_t)(mr_clock_system()->wall_ms(mr_clock_system()) / 1000);
    struct tm utc;
    char text[32];

    ms = n_failed > 6 || ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
    (void)gmtime_r(&at, &utc);
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    (void)server_cli_fail("%s [ERROR] watch.watch: Watch errored: type=%s "
                          "error=\"%s\" retry=%" PRIu64 "s",
                          text, h->cli->type, h->error, ms / 1000);
    until = mr_now_ms(mr_clock_system()) + ms;
    while (!h->loop.is_stopped && mr_now_ms(mr_clock_system()) < until) {
        watch_loop_turn(&h->loop, until);
    }
}

static int watch(struct handled *h)
{
    struct watch_request request = {.path = MR_BUF_INIT};
    uint64_t n_failed = 0;
    uint64_t index = 0;
    int status = CLI_OK;

    mr_buf_str(&request.path, "/v1/agent/self");
    if (!ask(h, &request)) {
        return h->loop.is_stopped
                   ? CLI_OK
                   : server_cli_fail("Error querying Consul agent: %s",
                                     h->error);
    }
    while (status == CLI_OK && !h->loop.is_stopped) {
        bool is_answer;

        make_request(h->cli, index, &request);
        is_answer = ask(h, &request) ||
                    (h->is_done && h->status == 404 && h->index != 0);
        if (h->loop.is_stopped) {
            break;
        }
        if (!is_answer) {
            index = 0;
            complain(h, ++n_failed);
            continue;
        }
        n_failed = 0;
        index = h->index < index ? 0 : h->index;
        status = take_answer(h);
        if (h->cli->argc == 0) {
            break;
        }
    }
    return status;
}

int cli_watch_type(struct server_cli *cli)
{
    struct handled h = {.cli = cli};
    int status = check_arguments(cli);

    if (status != CLI_OK) {
        return status;
    }
    for (int i = 0; i < cli->argc; i++) {
        mr_buf_printf(&h.command, "%s%s", i > 0 ? " " : "", cli->argv[i]);
    }
    if (watch_loop_open(&h.loop) != MR_OK) {
        status = server_cli_fail("Error watching: no memory or no files");
    } else {
        status = watch(&h);
        watch_loop_close(&h.loop);
    }
    mr_buf_deinit(&h.body);
    mr_buf_deinit(&h.last);
    mr_buf_deinit(&h.command);
    return status;
}
