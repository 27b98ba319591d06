/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions as the keeper and the locks see them. */
#ifndef MICROREG_SESSION_H
#define MICROREG_SESSION_H

#include "client.h"

#define SESSION_ID_SIZE 64

struct microreg_session {
    struct microreg *client; /* A reference. */
    char id[SESSION_ID_SIZE];
    int64_t ttl_ms;
    atomic_bool is_closing; /* A renewal on its way is not waited for. */

    /* The client's lock. */
    struct microreg_session *next; /* In the keeper's list. */
    /* When the last renewal that was answered was sent; on mrg_boot_ms(), since
     * servers count the TTL while this machine sleeps. */
    uint64_t sent_boot_ms;
    uint64_t due_ms;
    bool is_lost;
    bool is_busy; /* Being renewed: it must not be freed. */
};

/* When the first of a list is to be renewed; UINT64_MAX: never. With the lock. */
uint64_t mrg_sessions_due(const struct microreg_session *list);

/* Renew those that are due. With the lock, and without it meanwhile. */
void mrg_sessions_renew(struct microreg *client);

/* The client goes: nobody renews them any more. With the lock. */
void mrg_sessions_orphan(struct microreg_session *list);

#endif /* MICROREG_SESSION_H */
