/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health: turns time and contact into commands for the state.
 *
 * Liveness of servers: the leader sets the check "serfHealth" of a server that
 * fell silent to critical, and back when it is heard again, so that what is
 * registered on a dead server leaves DNS and `?passing` everywhere.
 *
 * Pure: contact and time are arguments, what must change comes out as commands.
 * A struct mr_liveness belongs to one thread. May use: base, kv.
 */
#ifndef MR_HEALTH_H
#define MR_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "kv/mr_kv.h"

/* The check of a node that says whether it lives, and its outputs. */
#define MR_HEALTH_CHECK_ID "serfHealth"
#define MR_HEALTH_ALIVE "Agent alive and reachable"
#define MR_HEALTH_DEAD "Agent not live or unreachable"

/* A server that is silent for so long is dead. */
#define MR_HEALTH_SILENT_MS 3000

/* A new leader hears the others for so long before it judges anyone: what it
 * heard of them as a follower says little. */
#define MR_HEALTH_NEW_LEADER_MS 5000

/* When a server was heard last. */
struct mr_health_contact {
    const char *node_id; /* Borrowed; "" matches nobody. */
    uint64_t silent_ms;  /* 0 for oneself; UINT64_MAX: never heard. */
};

struct mr_liveness {
    uint64_t leader_since_ms; /* 0: not leading. */
};

/* Note whether this server leads at @now_ms; returns whether it may judge: it
 * has led without a break for MR_HEALTH_NEW_LEADER_MS. */
bool mr_liveness_may_judge(struct mr_liveness *l, bool is_leader,
                           uint64_t now_ms);

/* Told of one server whose serfHealth must change; @node is borrowed for the
 * call. */
typedef void (*mr_liveness_cb)(void *arg, const char *node, bool is_alive);

/* Compare the servers of the catalog (the nodes with the service "consul") as
 * @view shows them with the @n contacts, and tell of each one whose serfHealth
 * says the opposite. A server without contact is dead; a node that has no
 * serfHealth is left alone. A server is told by its node ID: one that was wiped
 * has a new one.
 *
 * Errors as of the views (kv/mr_kv.h). */
MR_MUST_CHECK enum mr_err
mr_liveness_judge(struct mr_kv_view *view,
                  const struct mr_health_contact *contacts, size_t n,
                  mr_liveness_cb cb, void *arg);

/* Append to @out the command that sets the serfHealth of @node. */
void mr_liveness_command(const char *node, bool is_alive, struct mr_buf *out);

#endif /* MR_HEALTH_H */
