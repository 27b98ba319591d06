/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event as bytes in the ring of health/why.c.
 *
 * A record is a fixed head, the evidence when a lease ended, and the texts,
 * each with its NUL. Numbers are in the machine's own byte order: the file
 * never leaves its machine, and its header notices when it did.
 *
 * The position is part of the record and of its checksum, so a record is whole
 * at exactly one place of the endless stream: what an earlier lap of the ring
 * left behind, or a torn write, is never taken for one.
 */
#ifndef HEALTH_WHY_RECORD_H
#define HEALTH_WHY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "kv/mr_kv_hooks.h"

#define WHY_ALIGN 8          /* Records begin at multiples of it. */
#define WHY_TEXT_MAX 255     /* Bytes; longer texts are cut. */
#define WHY_RECORD_MAX 2048u /* Bytes, as rounded by why_round(). */
#define WHY_GAPS_MAX 4

struct why_head {
    uint64_t checksum; /* Of all that follows. */
    uint64_t pos;      /* In the stream. */
    uint64_t time_ms;
    uint64_t revision;
    uint16_t len; /* Of the record, not rounded. */
    uint8_t kind;
    uint8_t subject;
    uint8_t lease_kind;
    uint8_t n_gaps;
    uint8_t has_evidence;
    uint8_t unused; /* 0. */
};

struct why_evidence {
    uint64_t lease_id;
    uint64_t ttl_ms;
    uint64_t silent_ms;
    uint64_t term;
    uint32_t gaps_ms[WHY_GAPS_MAX];
};

/* The bytes that a record of @len takes in the ring. */
static inline size_t why_round(size_t len)
{
    return (len + WHY_ALIGN - 1) / WHY_ALIGN * WHY_ALIGN;
}

/* Write @event into @out, which has WHY_RECORD_MAX bytes; returns the record's
 * length. It is whole after why_seal(). */
size_t why_encode(const struct mr_kv_event *event, void *out);

/* Make a record of why_encode() the one at @pos: its position and checksum. */
void why_seal(void *record, uint64_t pos);

/* The position that the record at the start of @bytes (at least a head) claims
 * to have. */
uint64_t why_pos(struct mr_slice bytes);

/* The length of the record that @bytes (aligned as uint64_t) begin with, if it
 * is whole and belongs at @pos; else 0. */
size_t why_check(struct mr_slice bytes, uint64_t pos);

/* Read a record that passed why_check(): @out_event borrows from it. False:
 * another version wrote it. */
bool why_decode(struct mr_slice record, struct mr_kv_event *out_event);

#endif /* HEALTH_WHY_RECORD_H */
