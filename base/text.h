/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small texts with a fixed grammar: durations, UUIDs, addresses, numbers.
 */
#ifndef MR_BASE_TEXT_H
#define MR_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

/* Parse a duration in Go's notation ("1h2m3.5s", "-10ms", "0") into
 * nanoseconds. @detail gets Go's own text (`time: invalid duration "x"`,
 * `time: missing unit in duration "10"`).
 *
 * MR_E_INVALID: not a duration, or beyond 64 bits. */
MR_MUST_CHECK enum mr_err mr_duration_parse(const char *text, int64_t *out_ns,
                                            struct mr_detail *detail);

/* Append @ns in Go's notation ("1m30s", "1.5s", "0s", "1µs"). */
void mr_duration_format(struct mr_buf *out, int64_t ns);

/* Parse an unsigned decimal number that fills the whole text. MR_E_INVALID,
 * also when it does not fit. */
MR_MUST_CHECK enum mr_err mr_parse_u64(const char *text, uint64_t *out_n);

#define MR_UUID_LEN 36

/* Write a random (version 4) UUID as text. */
void mr_uuid_new(const struct mr_random *random, char out[MR_UUID_LEN + 1]);

/* Whether @text is a UUID in its usual 36-character form. */
bool mr_uuid_valid(const char *text);

#define MR_HOST_MAX 255

struct mr_hostport {
    char host[MR_HOST_MAX + 1]; /* A name or an IP literal, no brackets. */
    uint16_t port;
};

/* Parse "host", "host:port", "[v6]", "[v6]:port" or a bare IPv6 literal; a
 * missing port becomes @default_port. @detail says what is wrong.
 *
 * MR_E_INVALID: no host, too long, or a port that is not 1 to 65535. */
MR_MUST_CHECK enum mr_err mr_hostport_parse(const char *text,
                                            uint16_t default_port,
                                            struct mr_hostport *out,
                                            struct mr_detail *detail);

/* Whether @text is an IPv4 (4), IPv6 (6) literal or neither (0). */
int mr_ip_family(const char *text);

#endif /* MR_BASE_TEXT_H */
