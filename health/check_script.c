/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Script checks: a command with its arguments, no shell. Exit status 0 is
 * passing, 1 warning, anything else critical.
 *
 * - The command gets a process group of its own and one pipe for standard output
 *   and error; what it writes last is kept.
 * - It is over when the command has exited: what is in the pipe by then is
 *   read, and children that stay behind are not waited for.
 * - At its time limit, or when the check is dropped, the whole group is killed.
 *
 * The probe is freed when its handles are closed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "health/check_impl.h"

#define CHUNK 4096
#define DRAIN_MAX 64 /* Chunks read after the end: somebody may still write. */

struct script {
    struct check_probe probe; /* First. */
    uv_process_t process;
    uv_pipe_t pipe;
    uv_timer_t timer;
    unsigned n_open; /* Handles that are not closed yet. */
    char **args;     /* Of the definition, with a NULL behind them. */
    bool is_timed_out;
    size_t cap;
    size_t len;     /* Bytes in tail. */
    uint64_t total; /* Bytes written by the command. */
    char chunk[CHUNK];
    char tail[]; /* The last @cap bytes. */
};

/* ------------------------------------------------------------- output */

/* Keep the last bytes of what was there and @data. */
static void keep(struct script *s, const char *data, size_t len)
{
    size_t stay;

    s->total += len;
    if (len >= s->cap) {
        memcpy(s->tail, data + len - s->cap, s->cap);
        s->len = s->cap;
        return;
    }
    stay = s->len < s->cap - len ? s->len : s->cap - len;
    memmove(s->tail, s->tail + s->len - stay, stay);
    memcpy(s->tail + stay, data, len);
    s->len = stay + len;
}

static void add_output(const struct script *s, struct mr_buf *out)
{
    if (s->total > s->len) {
        mr_buf_printf(out, "Captured %zu of %llu bytes\n...\n", s->len,
                      (unsigned long long)s->total);
    }
    check_text_add(out, s->tail, s->len);
}

/* ------------------------------------------------------------- end */

static void on_closed(uv_handle_t *handle)
{
    struct script *s = handle->data;

    if (--s->n_open == 0) {
        mr_free(s->args);
        mr_free(s);
    }
}

static void close_all(struct script *s)
{
    uv_close((uv_handle_t *)&s->process, on_closed);
    uv_close((uv_handle_t *)&s->pipe, on_closed);
    uv_close((uv_handle_t *)&s->timer, on_closed);
}

static void kill_group(const struct script *s)
{
    (void)kill(-s->process.pid, SIGKILL); /* It may be gone already. */
}

/* Read what the command left in the pipe. */
static void drain(struct script *s)
{
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)&s->pipe, &fd) != 0) {
        return;
    }
    for (unsigned i = 0; i < DRAIN_MAX; i++) {
        ssize_t n = read(fd, s->chunk, sizeof s->chunk);

        if (n <= 0) {
            return;
        }
        keep(s, s->chunk, (size_t)n);
    }
}

static void tell(struct script *s, enum check_status status)
{
    struct mr_buf out = MR_BUF_INIT;

    if (s->is_timed_out) {
        mr_buf_str(&out, "Timed out (");
        mr_duration_format(&out, (int64_t)s->probe.run->timeout_ms * 1000000);
        mr_buf_str(&out, ") running check");
    } else {
        add_output(s, &out);
    }
    check_probe_end(&s->probe, status, mr_buf_cstr(&out));
    mr_buf_deinit(&out);
}

/* shape: callback */
static void on_exit_status(uv_process_t *process, int64_t exit_status,
                           int signal_number)
{
    struct script *s = process->data;
    enum check_status status = CHECK_CRITICAL;

    drain(s);
    if (signal_number == 0 && exit_status == 0) {
        status = CHECK_PASSING;
    } else if (signal_number == 0 && exit_status == 1) {
        status = CHECK_WARNING;
    }
    if (s->probe.run == NULL) {
        check_probe_end(&s->probe, CHECK_CRITICAL, "");
    } else if (s->is_timed_out && check_probe_is_stale(&s->probe)) {
        check_probe_give_up(&s->probe);
    } else {
        tell(s, s->is_timed_out ? CHECK_CRITICAL : status);
    }
    close_all(s);
}

static void on_time(uv_timer_t *timer)
{
    struct script *s = timer->data;

    check_runner_note_time(s->probe.runner);
    s->is_timed_out = true;
    atomic_fetch_add(&s->probe.runner->stat_timeouts, 1);
    kill_group(s); /* on_exit_status() follows. */
}

static void cancel(struct check_probe *probe)
{
    struct script *s = mr_container_of(probe, struct script, probe);

    kill_group(s);
}

void check_script_abandon(struct check_probe *probe)
{
    struct script *s = mr_container_of(probe, struct script, probe);

    check_probe_end(probe, CHECK_CRITICAL, "");
    close_all(s);
}

/* ------------------------------------------------------------- start */

/* shape: callback */
static void on_room(uv_handle_t *handle, size_t wanted, uv_buf_t *out)
{
    struct script *s = handle->data;

    (void)wanted;
    *out = uv_buf_init(s->chunk, sizeof s->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct script *s = stream->data;

    if (n > 0) {
        keep(s, buf->base, (size_t)n);
    } else if (n < 0) {
        (void)uv_read_stop(stream); /* Closed; the exit is what counts. */
    }
}

/* Why the command did not start, as Go says it. */
static void refuse(struct check_run *run, int code)
{
    const char *command = run->check->definition->args[0];
    struct mr_buf out = MR_BUF_INIT;

    if (code == UV_ENOENT && strchr(command, '/') == NULL) {
        mr_buf_printf(&out, "exec: \"%s\": executable file not found in $PATH",
                      command);
    } else {
        mr_buf_printf(&out, "fork/exec %s: ", command);
        check_text_errno(&out, -code);
    }
    check_run_result(run, CHECK_CRITICAL, mr_buf_cstr(&out));
    mr_buf_deinit(&out);
}

/* Let no descriptor of ours reach the command: libraries open some without
 * O_CLOEXEC, and a command that outlives us would keep our ports and files. */
static void keep_descriptors(void)
{
    struct dirent *entry;
    DIR *dir;

    if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0) {
        return;
    }
    dir = opendir("/proc/self/fd"); /* Linux before 5.11. */
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);

        if (fd > STDERR_FILENO) {
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* It may be closed by now. */
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

/* Start the command with the writing end @fd of the pipe. */
static int spawn(struct script *s, int fd)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = fd},
        {.flags = UV_INHERIT_FD, .data.fd = fd},
    };
    uv_process_options_t options = {
        .exit_cb = on_exit_status,
        .file = s->args[0],
        .args = s->args,
        .flags = UV_PROCESS_DETACHED, /* A process group of its own. */
        .stdio_count = 3,
        .stdio = stdio,
    };
    int rc = uv_spawn(&s->probe.runner->loop, &s->process, &options);

    s->process.data = s;
    return rc;
}

static struct script *script_new(struct check_run *run)
{
    struct script *s = mr_calloc(1, sizeof *s + run->output_max);
    const Mr__CheckDefinition *def = run->check->definition;
    uv_loop_t *loop = &run->runner->loop;

    if (s == NULL) {
        return NULL;
    }
    s->args = mr_calloc(def->n_args + 1, sizeof *s->args);
    if (s->args == NULL) {
        mr_free(s);
        return NULL;
    }
    memcpy(s->args, def->args, def->n_args * sizeof *s->args);
    s->cap = run->output_max;
    s->probe.runner = run->runner;
    s->n_open = 3;
    (void)uv_pipe_init(loop, &s->pipe, 0); /* Never fails, like the next. */
    (void)uv_timer_init(loop, &s->timer);
    s->pipe.data = s;
    s->timer.data = s;
    return s;
}

enum mr_err check_script_start(struct check_run *run)
{
    int ends[2];
    struct script *s;
    int rc;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return MR_E_IO;
    }
    s = script_new(run);
    if (s == NULL) {
        (void)close(ends[0]); /* Nothing was written. */
        (void)close(ends[1]);
        return MR_E_NOMEM;
    }
    rc = uv_pipe_open(&s->pipe, ends[0]);
    mr_assert(rc == 0); /* A pipe of ours. */
    keep_descriptors();
    rc = spawn(s, ends[1]);
    (void)close(ends[1]); /* The child has it. */
    if (rc != 0) {
        close_all(s);
        refuse(run, rc);
        return MR_OK;
    }
    check_probe_begin(&s->probe, run, cancel);
    (void)uv_timer_start(&s->timer, on_time, run->timeout_ms, 0);
    (void)uv_read_start((uv_stream_t *)&s->pipe, on_room, on_read);
    return MR_OK;
}
