/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who this server is: its data folder, held by a lock while the process runs,
 * and the node ID kept in it.
 */
#ifndef MR_SERVER_IDENTITY_H
#define MR_SERVER_IDENTITY_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"

struct server_identity {
    char *dir;   /* The data folder. */
    int lock_fd; /* -1: not held. */
    bool is_temporary;
    char node_id[MR_UUID_LEN + 1];
    char boot_id[MR_UUID_LEN + 1]; /* Of the running kernel; "" unknown. */
};

/* Create the folder @dir if it is missing (mode 0700), lock it, and read the
 * node ID in it or make one. @dir NULL takes a new temporary folder. @wanted_id
 * (may be NULL) is the ID that a new folder gets and an old one must have.
 *
 * On success the caller releases *@out with server_identity_close(). The detail
 * is a sentence for the user.
 * MR_E_INUSE: another process holds the folder. MR_E_FOREIGN: it has another
 * node ID. MR_E_CORRUPT: its node ID is not one. MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err server_identity_open(const char *dir,
                                               const char *wanted_id,
                                               const struct mr_random *random,
                                               struct server_identity *out,
                                               struct mr_detail *detail);

/* As server_identity_open() for a folder that must hold a server's data.
 * MR_E_NOTFOUND: it does not. */
MR_MUST_CHECK enum mr_err server_identity_find(const char *dir,
                                               struct server_identity *out,
                                               struct mr_detail *detail);

/* Check that the folder was not the other role's: a server's holds a log, that
 * of an agent without -server a store of its own. MR_E_FOREIGN. */
MR_MUST_CHECK enum mr_err
server_identity_check_role(const struct server_identity *id, bool is_server,
                           struct mr_detail *detail);

/* Let go of the folder; a temporary one is removed with all it holds. */
void server_identity_close(struct server_identity *id);

/* A path in the data folder, to be released with mr_free(); NULL without
 * memory. */
char *server_identity_path(const struct server_identity *id, const char *name);

#endif /* MR_SERVER_IDENTITY_H */
