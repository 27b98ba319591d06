/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer of a server to a request that an agent passes on, as it arrives:
 * HTTP/1.1 (RFC 9112), head and body. The body may be of a known length, in
 * chunks, or end with the connection.
 */
#ifndef API_RELAY_ANSWER_H
#define API_RELAY_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define RELAY_HEAD_MAX ((size_t)16 * 1024)

enum relay_part {
    RELAY_HEAD,
    RELAY_BODY,        /* answer->left more bytes. */
    RELAY_CHUNK_SIZE,  /* A line in hexadecimal. */
    RELAY_CHUNK,       /* answer->left more bytes of it. */
    RELAY_CHUNK_END,   /* An empty line. */
    RELAY_TRAILER,     /* Lines, until an empty one. */
    RELAY_UNTIL_CLOSE, /* Everything that comes. */
    RELAY_DONE
};

struct relay_answer {
    enum relay_part part;
    int status;            /* Known after the head. */
    struct mr_buf headers; /* "Name: value\n" lines of the end-to-end headers,
                              likewise. */
    struct mr_buf line;    /* Of the head, or of the chunks. */
    uint64_t left;
    bool is_chunked;
    bool has_length;
};

/* Begin. The caller calls relay_answer_deinit(). */
void relay_answer_init(struct relay_answer *answer);

/* Release. */
void relay_answer_deinit(struct relay_answer *answer);

/* Whether status and headers are known. */
bool relay_answer_has_head(const struct relay_answer *answer);

/* Take @bytes, all of them, and append what they say of the body to @out.
 * MR_E_INVALID: this is no HTTP answer. MR_E_TOOBIG: its head is too long.
 * MR_E_NOMEM, also when @out failed. */
MR_MUST_CHECK enum mr_err relay_answer_feed(struct relay_answer *answer,
                                            struct mr_slice bytes,
                                            struct mr_buf *out);

/* Whether the answer is complete when the connection ends now. */
bool relay_answer_is_whole(const struct relay_answer *answer);

#endif /* API_RELAY_ANSWER_H */
