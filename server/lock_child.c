/* SPDX-License-Identifier: Apache-2.0 */
/* The child of the command lock. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "server/lock.h"

/* Tell the child what it holds: fence and key are what a fenced write names. */
static void set_environment(struct lock *lock)
{
    char fence[24];

    (void)snprintf(fence, sizeof fence, "%" PRIu64, lock->fence);
    (void)setenv("CONSUL_LOCK_HELD", "true", 1);
    (void)setenv("MICROREG_LOCK_HELD", "true", 1);
    (void)setenv("MICROREG_LOCK_FENCE", fence, 1);
    (void)setenv("MICROREG_LOCK_KEY", mr_buf_cstr(&lock->key), 1);
    (void)setenv("MICROREG_LOCK_SESSION", lock->session, 1);
}

static void exec_child(struct lock *lock, const char *shell)
{
    const char *argv[] = {shell, "-c", mr_buf_cstr(&lock->command), NULL};

    if (lock->cli->shell) {
        (void)execv(shell, (char *const *)argv);
    } else {
        (void)execvp(lock->cli->argv[1], lock->cli->argv + 1);
    }
}

/* In the child: become the command. What fails is told to @report. */
static void become(struct lock *lock, pid_t parent, int report)
{
    const char *shell = getenv("SHELL");
    int in = lock->cli->pass_stdin ? -1 : open("/dev/null", O_RDONLY);

    /* A holder that is killed must not leave its child behind. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        _exit(CLI_ERROR);
    }
    if (lock->has_group) {
        (void)setpgid(0, 0);
    }
    if (in >= 0) {
        (void)dup2(in, STDIN_FILENO);
        (void)close(in);
    }
    (void)sigprocmask(SIG_SETMASK, &lock->old_mask, NULL);
    set_environment(lock);
    exec_child(lock, shell != NULL && shell[0] != '\0' ? shell : "/bin/sh");
    int why = errno;

    (void)!write(report, &why, sizeof why); /* Else it just ended. */
    _exit(CLI_UNKNOWN);
}

/* Whether the child runs what it should: the pipe closes without a word. */
static bool runs(int report)
{
    int why;
    ssize_t n;

    do {
        n = read(report, &why, sizeof why);
    } while (n < 0 && errno == EINTR);
    errno = n == (ssize_t)sizeof why ? why : 0;
    return errno == 0;
}

bool lock_child_start(struct lock *lock)
{
    pid_t parent = getpid();
    int report[2];
    bool is_running;
    pid_t pid;

    if (pipe2(report, O_CLOEXEC) != 0) {
        (void)server_cli_fail("Error starting handler: %s", strerror(errno));
        return false;
    }
    /* One that reads the terminal has to stay in its foreground group. */
    lock->has_group = !lock->cli->pass_stdin;
    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        become(lock, parent, report[1]);
    }
    if (lock->has_group && pid > 0) {
        (void)setpgid(pid, pid); /* Whoever comes first; or it is exec'd. */
    }
    (void)close(report[1]);
    is_running = pid > 0 && runs(report[0]);
    if (!is_running) {
        (void)server_cli_fail("Error starting handler: fork/exec %s: %s",
                              lock->cli->argv[1], strerror(errno));
    }
    (void)close(report[0]);
    lock->has_child = true;
    lock->child = is_running ? pid : 0;
    lock->child_status = is_running ? 0 : CLI_UNKNOWN << 8;
    if (pid > 0 && !is_running) {
        (void)waitpid(pid, NULL, 0); /* It is ending. */
    }
    return is_running;
}

static void tell(const struct lock *lock, int signal)
{
    /* It was not waited for, so the number is still its own. */
    (void)kill(lock->has_group ? -lock->child : lock->child, signal);
}

void lock_child_end(struct lock *lock)
{
    lock->is_last = true;
    if (lock->child == 0) {
        return;
    }
    tell(lock, SIGTERM);
    lock_sleep(lock, LOCK_GRACE_MS);
    if (lock->child != 0) {
        if (lock->cli->verbose) {
            (void)printf("Child did not end within %d s, killing it\n",
                         LOCK_GRACE_MS / 1000);
        }
        tell(lock, SIGKILL);
        (void)waitpid(lock->child, &lock->child_status, 0);
        lock->child = 0;
    }
}
