/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions of filters, in RE2's syntax: literals, `.`, classes,
 * groups, `|`, `* + ? {n,m}` (also lazy: that changes no yes or no), `^ $ \b`,
 * `\d \w \s` and their opposites, `(?i)` at the start. A match takes time
 * linear in the text for every pattern; the C library's expressions take
 * exponential memory for some, which is why they are not used here.
 */
#ifndef API_PATTERN_H
#define API_PATTERN_H

#include <stdbool.h>

#include "base/err.h"

#define PATTERN_LENGTH_MAX 256 /* Bytes of an expression. */

struct pattern; /* A compiled expression. */

/* Compile @text. On success the caller owns *@out and releases it with
 * pattern_free().
 *
 * MR_E_INVALID: @detail has RE2's sentence ("error parsing regexp: ...").
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err pattern_new(const char *text, struct pattern **out,
                                      struct mr_detail *detail);

/* Whether @text contains a match. One thread at a time. */
bool pattern_match(struct pattern *p, const char *text);

/* Release a pattern; NULL is a no-op. */
void pattern_free(struct pattern *p);

#endif /* API_PATTERN_H */
