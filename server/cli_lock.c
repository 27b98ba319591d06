/* SPDX-License-Identifier: Apache-2.0 */
/* lock: run a command while a lock is held. Words and exit codes are Consul's. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/lock.h"

#define CHILD_FAILED 2
#define RETRIES 3
#define NS_PER_MS 1000000

static void tell(const struct lock *lock, const char *text)
{
    if (lock->cli->verbose) {
        (void)puts(text); /* Nobody to tell when it fails. */
        (void)fflush(stdout);
    }
}

/* ------------------------------------------------------------- arguments */

static int parse_wait(const struct server_cli *cli, struct lock *lock)
{
    const char *text = cli->timeout != NULL ? cli->timeout : cli->try_for;
    struct mr_detail detail;
    int64_t ns = 0;

    if (text == NULL) {
        return CLI_OK;
    }
    if (mr_duration_parse(text, &ns, &detail) != MR_OK) {
        return server_cli_fail("Error parsing -timeout: %s", detail.text);
    }
    if (ns < 0 || (ns == 0 && cli->timeout == NULL)) {
        return server_cli_fail("Timeout must be positive");
    }
    if (ns > 0) {
        lock->deadline_ms = mr_now_ms(mr_clock_system()) +
                            (uint64_t)(ns + NS_PER_MS - 1) / NS_PER_MS;
    }
    return CLI_OK;
}

static int parse(struct server_cli *cli, struct lock *lock)
{
    lock->cli = cli;
    lock->limit = 1;
    lock->retries = RETRIES;
    if (cli->argc < 2) {
        return server_cli_fail(
            "Key prefix and child command must be specified");
    }
    if (cli->limit != NULL &&
        (mr_parse_u64(cli->limit, &lock->limit) != MR_OK || lock->limit == 0)) {
        return server_cli_fail("Lock holder limit must be positive");
    }
    if (cli->monitor_retry != NULL &&
        mr_parse_u64(cli->monitor_retry, &lock->retries) != MR_OK) {
        return server_cli_fail("Number for 'monitor-retry' must be >= 0");
    }
    lock->prefix = cli->argv[0][0] == '/' ? cli->argv[0] + 1 : cli->argv[0];
    if (lock->prefix[0] == '\0') {
        return server_cli_fail(
            "Key prefix and child command must be specified");
    }
    for (int i = 1; i < cli->argc; i++) {
        mr_buf_printf(&lock->command, "%s%s", i > 1 ? " " : "", cli->argv[i]);
    }
    return parse_wait(cli, lock);
}

/* ------------------------------------------------------------- session */

static json_t *session_body(struct lock *lock)
{
    struct mr_buf name = MR_BUF_INIT;
    json_t *body;

    if (lock->cli->name != NULL) {
        mr_buf_str(&name, lock->cli->name);
    } else {
        mr_buf_printf(&name, "Lock for '%.200s' at '%.200s'",
                      mr_buf_cstr(&lock->command), lock->prefix);
    }
    body = json_pack("{s:s, s:s, s:s}", "Name", mr_buf_cstr(&name), "TTL",
                     "15s", "Behavior", lock->limit > 1 ? "delete" : "release");
    mr_buf_deinit(&name);
    return body;
}

static enum mr_err make_session(struct lock *lock, struct mr_detail *why)
{
    uint64_t now = mr_now_ms(mr_clock_system());
    json_t *body = session_body(lock);
    char *text = json_dumps(body, JSON_COMPACT);
    struct server_answer answer = {.status = 0};
    json_t *reply = NULL;
    const char *id;
    enum mr_err err = MR_OK;

    if (text != NULL && lock_ask(lock, "PUT", "/v1/session/create", NULL,
                                 mr_slice(text, strlen(text)), &answer)) {
        reply = json_loadb((const char *)answer.body.data, answer.body.len, 0,
                           NULL);
    }
    id = server_json_text(reply, "ID");
    if (strlen(id) == LOCK_SESSION_LEN) {
        memcpy(lock->session, id, LOCK_SESSION_LEN + 1);
        lock_renew_from(lock, now);
    } else if (lock_is_over(lock)) {
        err = MR_E_CANCELED;
    } else {
        err = mr_fail(why, MR_E_IO, "failed to create session: %s",
                      answer.error[0] != '\0' ? answer.error : "out of memory");
    }
    json_decref(reply);
    json_decref(body);
    free(text); /* jansson's own memory. */
    server_answer_deinit(&answer);
    return err;
}

static void destroy_session(struct lock *lock)
{
    struct mr_buf path = MR_BUF_INIT;
    struct server_answer answer;

    if (lock->session[0] == '\0') {
        return;
    }
    lock->is_last = true;
    mr_buf_printf(&path, "/v1/session/destroy/%s", lock->session);
    /* If it fails, the session ends by itself. */
    (void)lock_ask(lock, "PUT", mr_buf_cstr(&path), NULL, mr_slice(NULL, 0),
                   &answer);
    server_answer_deinit(&answer);
    mr_buf_deinit(&path);
}

/* ------------------------------------------------------------- phases */

static enum mr_err take(struct lock *lock, struct mr_detail *why)
{
    enum mr_err err = make_session(lock, why);

    if (err != MR_OK) {
        return err;
    }
    if (lock->limit > 1) {
        mr_buf_printf(&lock->key, "%s/%s", lock->prefix, lock->session);
        return lock_semaphore_take(lock, why);
    }
    mr_buf_printf(&lock->key, "%s/.lock", lock->prefix);
    return lock_key_take(lock, why);
}

/* How the child ended: its part of our exit status. */
static int judge_child(const struct lock *lock)
{
    int status = lock->child_status;

    if (WIFSIGNALED(status)) {
        (void)server_cli_fail("Error running handler: signal: %s",
                              strsignal(WTERMSIG(status)));
        return CHILD_FAILED;
    }
    if (WEXITSTATUS(status) != 0) {
        (void)server_cli_fail("Error running handler: exit status %d",
                              WEXITSTATUS(status));
        return CHILD_FAILED;
    }
    return CLI_OK;
}

/* Run the child as long as the lock is held. Returns its part of the status. */
static int hold(struct lock *lock)
{
    int status = CLI_OK;

    lock->deadline_ms = 0;
    tell(lock, "Starting handler");
    if (!lock_child_start(lock)) {
        return CHILD_FAILED;
    }
    if (lock->limit > 1) {
        lock_semaphore_watch(lock);
    } else {
        lock_key_watch(lock);
    }
    if (lock->child == 0) {
        status = judge_child(lock);
        tell(lock, "Child terminated, releasing lock");
    } else {
        tell(lock, lock->is_stopped ? "Shutdown triggered, killing child"
                                    : "Lock lost, killing child");
    }
    lock_child_end(lock);
    return status;
}

/* Give the lock back and clean up. */
static int release(struct lock *lock)
{
    struct mr_detail why = {""};
    enum mr_err err;

    lock->is_last = true;
    err = lock->limit > 1 ? lock_semaphore_give(lock, &why)
                          : lock_key_give(lock, &why);
    destroy_session(lock);
    if (err != MR_OK) {
        return server_cli_fail("Lock release failed: %s", why.text);
    }
    err = lock->limit > 1 ? lock_semaphore_clean(lock, &why)
                          : lock_key_clean(lock, &why);
    if (err != MR_OK && err != MR_E_BUSY) {
        return server_cli_fail("Lock cleanup failed: %s", why.text);
    }
    tell(lock,
         err == MR_OK ? "Cleanup succeeded" : "Cleanup aborted, lock in use");
    return CLI_OK;
}

static void tell_setup(const struct lock *lock)
{
    if (!lock->cli->verbose) {
        return;
    }
    if (lock->limit > 1) {
        (void)printf("Setting up semaphore (limit %llu) at prefix: %s\n",
                     (unsigned long long)lock->limit, lock->prefix);
    } else {
        (void)printf("Setting up lock at path: %s/.lock\n", lock->prefix);
    }
}

static int run(struct lock *lock)
{
    struct mr_detail why = {""};
    enum mr_err err;
    int child;
    int status;

    tell_setup(lock);
    tell(lock, "Attempting lock acquisition");
    err = take(lock, &why);
    if (err != MR_OK) {
        if (err == MR_E_CANCELED) {
            status = server_cli_fail("Shutdown triggered or timeout during "
                                     "lock acquisition");
        } else {
            status = server_cli_fail("Lock acquisition failed: %s", why.text);
        }
        destroy_session(lock);
        return status;
    }
    child = hold(lock);
    status = release(lock);
    return status != CLI_OK || !lock->cli->child_exit_code ? status : child;
}

int server_cli_lock(struct server_cli *cli)
{
    struct lock lock = {.signals = -1};
    int status = parse(cli, &lock);
    enum mr_err err;

    if (status == CLI_OK) {
        err = lock_loop_open(&lock);
        status = err == MR_OK ? run(&lock)
                              : server_cli_fail("Lock setup failed: %s",
                                                mr_strerror(err));
        lock_loop_close(&lock);
    }
    mr_buf_deinit(&lock.key);
    mr_buf_deinit(&lock.command);
    return status;
}
