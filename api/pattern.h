/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions of filters, by PCRE2, which takes what RE2's syntax (that
 * of Consul's filters) has and more. The texts are walked once, all alternatives
 * together (pcre2_dfa_match), so that no expression takes exponential time.
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
 * MR_E_INVALID: @detail has a sentence ("error parsing regexp: ..."). Also for
 * what cannot be matched in one walk: back references and recursion.
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err pattern_new(const char *text, struct pattern **out,
                                      struct mr_detail *detail);

/* Whether @text contains a match. One thread at a time. An expression that
 * needs more steps than any sensible one does not match. */
bool pattern_match(struct pattern *p, const char *text);

/* Release a pattern; NULL is a no-op. */
void pattern_free(struct pattern *p);

#endif /* API_PATTERN_H */
