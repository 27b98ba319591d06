/* SPDX-License-Identifier: Apache-2.0 */
/* why: what became of a service, node, check or session. */
#include "server/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 79

/* Print @text from column @column on, broken between words; further lines
 * begin at @indent. */
static void print_wrapped(const char *text, size_t column, size_t indent)
{
    bool is_first = true;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        if (!is_first && column + 1 + len > WIDTH) {
            (void)printf("\n%*s", (int)indent, "");
            column = indent;
            is_first = true;
        }
        (void)printf("%s%.*s", is_first ? "" : " ", (int)len, text);
        column += len + (is_first ? 0 : 1);
        is_first = false;
        text += len + strspn(text + len, " ");
    }
    (void)putchar('\n');
}

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* "3 min ago" for people; the exact time stands beside it. */
static void print_ago(uint64_t then_ms, uint64_t now_ms)
{
    uint64_t s = then_ms < now_ms ? (now_ms - then_ms) / 1000 : 0;
    char text[32];

    if (then_ms == 0) {
        (void)snprintf(text, sizeof text, "-");
    } else if (s < 120) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " s ago", s);
    } else if (s < 7200) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " min ago", s / 60);
    } else if (s < 172800) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " h ago", s / 3600);
    } else {
        (void)snprintf(text, sizeof text, "%" PRIu64 " d ago", s / 86400);
    }
    (void)printf("%-11s ", text);
}

static void print_event(const json_t *event, uint64_t now_ms)
{
    (void)printf("%-27s ", server_json_text(event, "Time"));
    print_ago(number(event, "TimeMs"), now_ms);
    (void)printf("revision %" PRIu64 "\n    ", number(event, "Revision"));
    print_wrapped(server_json_text(event, "Why"), 4, 4);
}

static void print_answer(const json_t *answer)
{
    const json_t *events = json_object_get(answer, "Events");
    size_t n = json_array_size(events);

    print_wrapped(server_json_text(answer, "Why"), 0, 0);
    (void)printf("\nAs %s knows it at %s; %s.\n",
                 server_json_text(answer, "Server"),
                 server_json_text(answer, "Time"),
                 json_is_true(json_object_get(answer, "KnownLeader"))
                     ? "it hears a leader"
                     : "it hears NO leader, so this may be old");
    if (number(answer, "EventsSinceMs") > 0) {
        (void)printf("Its events reach back to %s.\n",
                     server_json_text(answer, "EventsSince"));
    }
    if (n > 0) {
        (void)putchar('\n');
    }
    for (size_t i = 0; i < n; i++) {
        print_event(json_array_get(events, i), number(answer, "TimeMs"));
    }
}

static int ask(struct server_cli *cli, const char *subject)
{
    struct mr_buf path = MR_BUF_INIT;
    struct server_answer http;
    json_t *answer;
    int status = CLI_OK;

    if (cli->argc != 1) {
        return server_cli_fail("This command needs the %s as its one argument "
                               "(got %d)",
                               subject, cli->argc);
    }
    mr_buf_printf(&path, "/v1/agent/why/%s/", subject);
    server_cli_escape(cli->argv[0], &path);
    answer = server_cli_get(cli, mr_buf_cstr(&path), NULL, &http);
    if (answer == NULL && http.status >= 500) {
        /* An agent that reaches no server still knows its own part. */
        server_answer_deinit(&http);
        answer = server_cli_get(cli, mr_buf_cstr(&path), "local", &http);
    }
    if (answer == NULL) {
        status = server_cli_fail("Error asking why: %s", http.error);
    } else if (server_cli_wants_json(cli)) {
        status = server_cli_print_json(answer);
    } else {
        print_answer(answer);
    }
    json_decref(answer);
    server_answer_deinit(&http);
    mr_buf_deinit(&path);
    return status;
}

int server_cli_why_service(struct server_cli *cli)
{
    return ask(cli, "service");
}

int server_cli_why_node(struct server_cli *cli)
{
    return ask(cli, "node");
}

int server_cli_why_check(struct server_cli *cli)
{
    return ask(cli, "check");
}

int server_cli_why_session(struct server_cli *cli)
{
    return ask(cli, "session");
}
