/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store holds of one node, as digests; two such lists compared; and the
 * commands that make the second like the first.
 */
#ifndef MR_SERVER_SYNC_ROWS_H
#define MR_SERVER_SYNC_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/mr_api.h"
#include "base/err.h"
#include "base/slice.h"
#include "kv/mr_kv.h"

struct sync_row {
    char *id; /* Owned. */
    bool is_check;
    uint64_t row;    /* mr_rows_service(), mr_rows_check(). */
    uint64_t state;  /* mr_rows_check_state(), as the cluster has it. */
    uint64_t seen;   /* The same, as the store had it last. */
    char status[16]; /* Of a check; cut. */
    char *output;    /* Of a check, when it was asked for; owned. */
};

/* Sorted: services by ID, then checks by ID. */
struct sync_rows {
    struct sync_row *items;
    size_t n;
    size_t cap;
};

/* Release the rows and leave an empty list. */
void sync_rows_deinit(struct sync_rows *rows);

/* The row of that ID, or NULL. */
struct sync_row *sync_rows_find(const struct sync_rows *rows, bool is_check,
                                const char *id);

/* Take the row out. */
void sync_rows_drop(struct sync_rows *rows, struct sync_row *row);

/* Read the answer of GET /v1/internal/rows into the empty @rows; *@out_node:
 * whether the node is registered. MR_E_INVALID, MR_E_NOMEM: @rows is empty. */
MR_MUST_CHECK enum mr_err sync_rows_parse(struct sync_rows *rows,
                                          struct mr_slice json, bool *out_node);

/* One pass over the store, and what it found. */
struct sync_diff {
    const struct mr_api_agent *self;
    const struct sync_rows *known; /* Of the cluster. */
    bool with_output; /* A check whose output alone differs is pushed too. */
    struct mr_buf *commands; /* Encoded; owned, n_commands of them. */
    size_t n_commands;
    struct sync_rows after; /* Of the cluster when all are done. */
    char **renewals;        /* TTL checks with another output: their leases. */
    size_t n_renewals;
    bool is_more; /* There were too many differences for one pass. */
};

/* Compare what @view holds of the node with diff->known, whose inputs are set
 * and the rest zero. On failure @diff is as it was. Errors of the views. */
MR_MUST_CHECK enum mr_err sync_diff_make(struct sync_diff *diff,
                                         struct mr_kv_view *view);

/* Release what @diff owns. */
void sync_diff_deinit(struct sync_diff *diff);

#endif /* MR_SERVER_SYNC_ROWS_H */
