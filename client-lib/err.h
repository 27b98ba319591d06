/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: a code and a sentence for people. */
#ifndef MICROREG_ERR_H
#define MICROREG_ERR_H

#include "microreg.h"

/* Say what failed, and return @code. @error may be NULL. */
__attribute__((format(printf, 3, 4))) int
mrg_fail(struct microreg_error *error, int code, const char *format, ...);

/* Say that there is no memory. */
int mrg_nomem(struct microreg_error *error);

#endif /* MICROREG_ERR_H */
