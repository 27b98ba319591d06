/* SPDX-License-Identifier: Apache-2.0 */
/* The process's log. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define LINE_MAX_LEN 2048

static const char *const level_names[] = {"TRACE", "DEBUG", "INFO", "WARN",
                                          "ERROR"};

static atomic_int min_level = MR_LOG_INFO;

/* Guarded by log_lock. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static mr_log_tap_cb log_tap;
static void *log_tap_arg;

enum mr_err mr_log_parse_level(const char *name, enum mr_log_level *out_level)
{
    if (strcasecmp(name, "err") == 0) {
        *out_level = MR_LOG_ERROR;
        return MR_OK;
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(level_names); i++) {
        if (strcasecmp(name, level_names[i]) == 0) {
            *out_level = (enum mr_log_level)i;
            return MR_OK;
        }
    }
    return MR_E_INVALID;
}

void mr_log_set_level(enum mr_log_level level)
{
    atomic_store_explicit(&min_level, (int)level, memory_order_relaxed);
}

bool mr_log_enabled(enum mr_log_level level)
{
    return (int)level >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

enum mr_err mr_log_set_file(const char *path, struct mr_detail *detail)
{
    int fd = -1;

    if (path != NULL) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0) {
            return mr_fail(detail, MR_E_IO, "cannot open the log file %s: %s",
                           path, strerror(errno));
        }
    }
    mr_assert(pthread_mutex_lock(&log_lock) == 0);
    if (log_fd >= 0) {
        (void)close(log_fd); /* Every line was written by its own write(). */
    }
    log_fd = fd;
    mr_assert(pthread_mutex_unlock(&log_lock) == 0);
    return MR_OK;
}

void mr_log_set_tap(mr_log_tap_cb tap, void *arg)
{
    mr_assert(pthread_mutex_lock(&log_lock) == 0);
    log_tap = tap;
    log_tap_arg = arg;
    mr_assert(pthread_mutex_unlock(&log_lock) == 0);
}

static size_t format_time(char *out, size_t cap)
{
    const struct mr_clock *clock = mr_clock_system();
    uint64_t ms = clock->wall_ms(clock);
    time_t secs = (time_t)(ms / 1000);
    struct tm tm;
    size_t n;
    int more;

    (void)gmtime_r(&secs, &tm); /* Cannot fail for a date of this age. */
    n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    more = snprintf(out + n, cap - n, ".%03uZ", (unsigned)(ms % 1000));
    return n + (size_t)more;
}

/* A log that cannot be written has nobody to tell, so results are dropped. */
static void write_all(int fd, const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, line, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        line += n;
        len -= (size_t)n;
    }
}

void mr_log(enum mr_log_level level, const char *module, const char *fmt, ...)
{
    char line[LINE_MAX_LEN];
    size_t len;
    va_list ap;
    int n;

    if (!mr_log_enabled(level)) {
        return;
    }
    len = format_time(line, sizeof line);
    n = snprintf(line + len, sizeof line - len,
                 " [%s] %s: ", level_names[level], module);
    len += (size_t)n;
    va_start(ap, fmt);
    n = vsnprintf(line + len, sizeof line - len - 1, fmt, ap);
    va_end(ap);
    if (n > 0) {
        size_t room = sizeof line - len - 2;

        len += (size_t)n < room ? (size_t)n : room;
    }
    mr_assert(pthread_mutex_lock(&log_lock) == 0);
    if (log_tap != NULL) {
        line[len] = '\0';
        log_tap(log_tap_arg, level, line);
    }
    line[len++] = '\n';
    write_all(STDERR_FILENO, line, len);
    if (log_fd >= 0) {
        write_all(log_fd, line, len);
    }
    mr_assert(pthread_mutex_unlock(&log_lock) == 0);
}
