/* SPDX-License-Identifier: Apache-2.0 */
/* The note of what configuration files put into the state. */
#ifndef MR_SERVER_NOTE_H
#define MR_SERVER_NOTE_H

#include <stdbool.h>

#include "base/buf.h"
#include "server/config.h"
#include "server/definitions.h"

struct server_note {
    struct server_list services; /* IDs, sorted, each once. */
    struct server_list checks;   /* Likewise, those of services too. */
};

/* Release the texts and leave it empty. */
void server_note_deinit(struct server_note *note);

/* Whether @list, one of a note's, holds @id. */
bool server_note_has(const struct server_list *list, const char *id);

/* Add what @defs have to @note. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
server_note_add(struct server_note *note,
                const struct server_definitions *defs);

/* Add what @other has to @note. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_note_merge(struct server_note *note,
                                            const struct server_note *other);

/* Whether both hold the same IDs. */
bool server_note_same(const struct server_note *a, const struct server_note *b);

/* Append the note as it is stored. */
void server_note_encode(const struct server_note *note, struct mr_buf *out);

/* Read the note @path into the empty @note; none is fine. MR_E_IO, MR_E_CORRUPT
 * with @detail, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_note_read(struct server_note *note,
                                           const char *path,
                                           struct mr_detail *detail);

/* Write @text to the file @path, whole or not at all, and to the disk. Blocks.
 * MR_E_IO, MR_E_NOSPACE. */
MR_MUST_CHECK enum mr_err server_note_write(const char *path,
                                            struct mr_slice text);

#endif /* MR_SERVER_NOTE_H */
