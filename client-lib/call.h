/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request and its answer, from whichever server gives one.
 *
 * - The servers are asked in the order of address.h. Who fails is followed by the
 *   next at once.
 * - Who is silent for MRG_HEDGE_MS is joined by the next; the first good answer
 *   counts, the others are dropped. A request that must not be done twice is
 *   never sent to a second server: there, only servers that were not reached
 *   are followed by others.
 * - When all have failed, they are asked again after a moment, until the deadline:
 *   an election takes about a second.
 */
#ifndef MICROREG_CALL_H
#define MICROREG_CALL_H

#include "client.h"
#include "json.h"

#define MRG_HEDGE_MS UINT64_C(250)

/* What a request does when it is done twice. */
enum mrg_repeat {
    MRG_REPEATABLE, /* The same as once. */
    MRG_ONCE,       /* Harm. */
};

/* Whether an answer with this status and this JSON (NULL: none) can be one of a
 * microreg server to the call. Else the next server is asked. */
typedef bool (*mrg_is_answer_cb)(int status, const struct mrg_json *json);

struct mrg_call {
    const char *method;
    const char *path; /* With the query; begins with '/'. */
    const char *body; /* Or NULL. */
    size_t body_len;
    enum mrg_repeat repeat;
    int timeout_ms;             /* 0: the client's. */
    bool is_patient;            /* A blocking query: silence is no failure. */
    mrg_is_answer_cb is_answer; /* Or NULL. */
    const atomic_bool *cancel;  /* Or NULL: end soon when it turns true. */

    /* The answer. */
    int status;
    uint64_t index;
    uint64_t fence;
    struct mrg_text answer;
    struct mrg_arena arena;
    const struct mrg_json *json; /* NULL for an empty answer. */
};

/* Run it. MICROREG_OK: a server answered 2xx, 404 or 409; the caller looks at
 * status. The caller frees the answer with mrg_call_deinit() whatever is
 * returned. */
int mrg_call_run(struct microreg *client, struct mrg_call *call,
                 struct microreg_error *out_error);

/* Free the answer. */
void mrg_call_deinit(struct mrg_call *call);

/* Free the connections of lines that nobody uses. */
void mrg_lines_free(struct mrg_line *lines);

#endif /* MICROREG_CALL_H */
