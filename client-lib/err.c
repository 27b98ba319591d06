/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, and what the library says about itself. */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>

#include "mem.h"

/* Take away the half of a character at the end of a text that was cut. */
static void cut_character(char *text)
{
    size_t len = MICROREG_ERROR_TEXT - 1;

    for (int i = 0; i < 3 && !mrg_is_utf8(text, len); i++) {
        text[--len] = '\0';
    }
}

int mrg_fail(struct microreg_error *error, int code, const char *format, ...)
{
    va_list args;
    int len;

    if (error != NULL) {
        error->code = code;
        va_start(args, format);
        len = vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
        if (len >= (int)sizeof error->text) {
            cut_character(error->text);
        }
    }
    return code;
}

int mrg_nomem(struct microreg_error *error)
{
    return mrg_fail(error, MICROREG_E_NOMEM, "out of memory");
}

/* shape: table */
const char *microreg_strerror(int code)
{
    switch ((enum microreg_err)code) {
    case MICROREG_OK:
        return "ok";
    case MICROREG_E_NOTFOUND:
        return "not found";
    case MICROREG_E_STOPPED:
        return "stopped";
    case MICROREG_E_TIMEOUT:
        return "timed out";
    case MICROREG_E_INVALID:
        return "invalid";
    case MICROREG_E_UNAVAILABLE:
        return "unavailable";
    case MICROREG_E_CONNECT:
        return "cannot connect";
    case MICROREG_E_PROTOCOL:
        return "answer not understood";
    case MICROREG_E_DENIED:
        return "denied";
    case MICROREG_E_NOMEM:
        return "out of memory";
    case MICROREG_E_AGAIN:
        return "nothing yet";
    case MICROREG_E_REFUSED:
        return "condition not met";
    case MICROREG_E_FENCED:
        return "fenced by a newer incarnation";
    }
    return "unknown error";
}

const char *microreg_version(void)
{
    return MICROREG_VERSION;
}

void microreg_free(void *text)
{
    mrg_free(text);
}
