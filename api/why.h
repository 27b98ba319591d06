/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question of /v1/agent/why while it is answered: first the events of the
 * ring (why_events.c), then the rows of the local state (why_state.c), which
 * name the events they follow from.
 */
#ifndef API_WHY_H
#define API_WHY_H

#include "api/http.h"

#define WHY_NODES_MAX 16
#define WHY_MARKS_MAX 64
#define WHY_INSTANCES_MAX 50 /* Shown of a service; the others are counted. */

/* Where and when something ended: what else happened there then belongs to
 * it. */
struct why_ending {
    const char *node;
    uint64_t revision;
};

/* Why a check has the status it has. */
struct why_mark {
    const char *node;
    const char *check_id;
    const char *service_id;
    const char *sentence; /* With the time. */
    const char *critical; /* The one that made it critical; NULL: it isn't. */
    unsigned turn;        /* Greater for what became critical later. */
};

struct why {
    struct api_request *req; /* All texts lie in its memory. */
    struct mr_kv_view *view;
    enum mr_kv_subject subject;
    const char *id;
    bool failed; /* Out of memory. */

    /* What why_events() found. */
    const char *nodes[WHY_NODES_MAX]; /* Where it lived. */
    size_t n_nodes;
    struct why_ending endings[WHY_MARKS_MAX]; /* The newest. */
    size_t n_endings;
    struct why_mark marks[WHY_MARKS_MAX];
    size_t n_marks;
    struct mr_buf events; /* JSON: the members of an array. */
    const char *last;     /* Sentence of the newest event of its own. */
    const char *cause;    /* Of that end: what had turned critical before. */
    unsigned n_turns;
    bool last_is_an_end; /* Of a registration. */
    uint64_t since_ms;

    /* What why_state() found. */
    struct mr_buf state; /* JSON: the members of an array. */
    struct mr_buf text;  /* What there is to say of it. */
    size_t n_rows;
};

/* ---- why_events.c */

/* Search the ring. MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err why_events(struct why *w, size_t max);

/* Why the check @check_id of @node has its status, as the ring knows it; NULL:
 * it doesn't. */
const char *why_mark(struct why *w, const char *node, const char *check_id);

/* Remember @node as one where it lives. */
void why_note_node(struct why *w, const char *node);

/* ---- why_state.c */

/* Look for the nodes where it is registered now, before why_events(). Errors
 * are kv's. */
MR_MUST_CHECK enum mr_err why_find_nodes(struct why *w);

/* Render what is registered now. Errors are kv's. */
MR_MUST_CHECK enum mr_err why_state(struct why *w);

#endif /* API_WHY_H */
