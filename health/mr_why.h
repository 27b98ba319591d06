/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why: what happened to a registration, kept in a bounded ring on disk.
 *
 * Every server writes down what the commands it applied did to nodes, services,
 * checks and sessions (mr_kv_hooks.event), with the evidence the leader gave
 * for an end. The ring is one file of fixed size, mapped shared: it survives
 * kill -9 without a sync, is read without a quorum, and forgets the oldest. A
 * record that a power cut tore fails its checksum and is skipped.
 *
 * Threads: one writer (the apply thread), readers on any thread.
 * May use: base, kv's headers.
 */
#ifndef MR_WHY_H
#define MR_WHY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "kv/mr_kv.h"

struct mr_why; /* The ring. */

#define MR_WHY_SIZE (8u * 1024 * 1024)

/* Open or create the ring @path of @size bytes (0: MR_WHY_SIZE). A file of
 * another version or size is begun anew: the ring is no promise. On success
 * the caller owns *@out_why and releases it with mr_why_close().
 * MR_E_IO, MR_E_NOSPACE, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err mr_why_open(const char *path, size_t size,
                                      struct mr_why **out_why,
                                      struct mr_detail *detail);

/* NULL is a no-op. No reader may be left. */
void mr_why_close(struct mr_why *why);

/* Write @event down; its texts are cut to what a record holds. Writer. */
void mr_why_add(struct mr_why *why, const struct mr_kv_event *event);

/* What to look for. The events are borrowed for the calls. */
struct mr_why_query {
    /* Whether @event is wanted. */
    bool (*match)(void *arg, const struct mr_kv_event *event);
    /* One of the newest @max events that are, oldest first. */
    void (*found)(void *arg, const struct mr_kv_event *event);
    void *arg;
    size_t max; /* At least 1. */
};

/* Search the ring: match is asked of every event it holds, oldest first, then
 * found is told. *@out_since_ms is the time of the oldest event in the ring, 0
 * when it is empty. Reads the whole file, some milliseconds. Any thread.
 * MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err mr_why_find(struct mr_why *why,
                                      const struct mr_why_query *query,
                                      uint64_t *out_since_ms);

#endif /* MR_WHY_H */
