/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the known name closest to a mistyped one. */
#ifndef MR_SERVER_NEAREST_H
#define MR_SERVER_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

/* Edits (insert, remove, replace, swap neighbours; case is free) that make @b
 * of @a. Names beyond 64 bytes are far from everything. */
size_t server_edit_distance(const char *a, const char *b);

/* A running search for the name nearest to @wanted. */
struct server_nearest {
    const char *wanted; /* Borrowed. */
    const char *name;   /* The best so far, borrowed; NULL: none is near. */
    size_t distance;
};

/* Begin a search. Names that differ in more than a third of @wanted (and more
 * than two characters) are not near. */
void server_nearest_init(struct server_nearest *n, const char *wanted);

/* Look at one more name, which must outlive the search. */
void server_nearest_try(struct server_nearest *n, const char *name);

#endif /* MR_SERVER_NEAREST_H */
