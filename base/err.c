/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of the error codes, details and assertions. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *mr_strerror(enum mr_err err)
{
    switch (err) {
#define X(name, text)                                                          \
    case MR_##name:                                                            \
        return text;
        MR_ERR_MAP(X)
#undef X
    }
    return "unknown error";
}

const char *mr_err_name(enum mr_err err)
{
    switch (err) {
#define X(name, text)                                                          \
    case MR_##name:                                                            \
        return "MR_" #name;
        MR_ERR_MAP(X)
#undef X
    }
    return "MR_?";
}

enum mr_err mr_fail(struct mr_detail *detail, enum mr_err err, const char *fmt,
                    ...)
{
    va_list ap;

    if (detail == NULL) {
        return err;
    }
    va_start(ap, fmt);
    (void)vsnprintf(detail->text, sizeof detail->text, fmt, ap);
    va_end(ap);
    return err;
}

void mr_assert_failed(const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "microreg: %s:%d: assertion failed: %s\n", file, line,
                  cond);
    abort();
}
