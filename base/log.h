/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's log: one line an event, `time [LEVEL] module: text key=value`.
 *
 * The function that decides what happens next logs a failure, once. A quiet
 * healthy cluster logs nothing. Values of keys never appear in the log.
 * Any thread; a line is written with one write().
 */
#ifndef MR_BASE_LOG_H
#define MR_BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum mr_log_level {
    MR_LOG_TRACE,
    MR_LOG_DEBUG,
    MR_LOG_INFO,
    MR_LOG_WARN,
    MR_LOG_ERROR
};

/* Parse a level's name (trace debug info warn err error, any case).
 * MR_E_INVALID otherwise. */
MR_MUST_CHECK enum mr_err mr_log_parse_level(const char *name,
                                             enum mr_log_level *out_level);

/* Log lines of @level and above from now on. The start value is INFO. */
void mr_log_set_level(enum mr_log_level level);

/* Whether lines of @level are written. */
bool mr_log_enabled(enum mr_log_level level);

/* Write to the file @path (append) in addition to standard error; opening it
 * again under the same name is how a rotated file is followed. NULL closes it.
 *
 * MR_E_IO: it cannot be opened; the log goes on as before. */
MR_MUST_CHECK enum mr_err mr_log_set_file(const char *path,
                                          struct mr_detail *detail);

/* Receives every line that is written, without its newline. Called under the
 * log's lock: it must not log and must not block. */
typedef void (*mr_log_tap_cb)(void *arg, enum mr_log_level level,
                              const char *line);

/* Send lines to @tap as well (one tap at a time; NULL removes it). */
void mr_log_set_tap(mr_log_tap_cb tap, void *arg);

/* Write a line. Use the macros. */
void mr_log(enum mr_log_level level, const char *module, const char *fmt, ...)
    MR_PRINTF(3, 4);

#define mr_log_debug(module, ...)                                              \
    (mr_log_enabled(MR_LOG_DEBUG) ? mr_log(MR_LOG_DEBUG, module, __VA_ARGS__)  \
                                  : (void)0)
#define mr_log_info(module, ...) mr_log(MR_LOG_INFO, module, __VA_ARGS__)
#define mr_log_warn(module, ...) mr_log(MR_LOG_WARN, module, __VA_ARGS__)
#define mr_log_error(module, ...) mr_log(MR_LOG_ERROR, module, __VA_ARGS__)

#endif /* MR_BASE_LOG_H */
