/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history: what changed lately, object by object, for watch streams.
 *
 * Every server keeps the latest changes in memory, bounded in bytes, in the
 * order of their revisions; all servers have the same ones, so a reader goes on
 * at any of them where it stopped at another. What is older is forgotten, and so
 * is everything at a restart and when a snapshot is installed: the reader is told
 * (MR_E_NOTFOUND) and begins again with the state. Keys, the catalog and services'
 * names have a history each, so that many writes of the one do not shorten the
 * other's.
 *
 * A revision is recorded whole or not at all, is readable once its batch is
 * committed, and before the hub wakes anybody for it.
 */
#ifndef MR_KV_HISTORY_H
#define MR_KV_HISTORY_H

#include "kv/mr_kv.h"
#include "kv/mr_kv_watch.h"

/* What a topic's changes are about:
 *   KEY, PREFIX -> KEY            NODES, NODE -> NODE       CHECKS -> CHECK
 *   SERVICES -> NAME              SERVICE, CATALOG -> INSTANCE
 * SESSIONS have no history. */
enum mr_kv_object {
    MR_KV_OBJECT_KEY,
    MR_KV_OBJECT_NODE,
    MR_KV_OBJECT_CHECK,
    /* A service's name and the union of its tags. A change of one that has more
     * than 256 is forgotten at once. */
    MR_KV_OBJECT_NAME,
    MR_KV_OBJECT_INSTANCE /* With its node and all checks that count for it. */
};

enum mr_kv_action {
    MR_KV_ACTION_CREATE,
    MR_KV_ACTION_UPDATE,
    MR_KV_ACTION_DELETE
};

/* One object after one revision; after a delete, as it was before. An instance
 * that gets another name, if only spelled otherwise, is deleted under the old one
 * and created under the new one, and so are its checks. Of one revision the
 * deletions are told first. A command that changes an object twice is one change
 * of it, and one that makes and removes it is none. An update whose object
 * answers (without ModifyIndex) exactly as before is not recorded. Valid for the
 * call. */
struct mr_kv_change {
    uint64_t revision;
    enum mr_kv_action action;
    enum mr_kv_object object;
    bool is_last; /* Of this revision among the topics asked for. */
    /* CHECK: its status before; INSTANCE: the worst of its checks' statuses
     * before (critical, warning, passing). "" for a create and others. */
    const char *was_status;
    /* INSTANCE: an update of more than checks: as they were before. Else
     * NULL. */
    const Mr__Node *was_node;
    const Mr__Service *was_service;
    /* INSTANCE: those with this name (in any case) and ID on other nodes, as they
     * are after the revision, the latest registered (the greatest create_rev)
     * first; the first 8 that there are by their nodes. */
    const struct mr_kv_instance *const *twins;
    size_t n_twins;
    union {
        const Mr__Key *key;
        const Mr__Node *node;
        const Mr__Check *check;
        const struct mr_kv_service_name *name;
        const struct mr_kv_instance *instance;
    } u;
};

/* Return false to stop; looked at only when change->is_last. */
typedef bool (*mr_kv_change_cb)(void *arg, const struct mr_kv_change *change);

struct mr_kv_history_query {
    const struct mr_kv_topic *topics; /* 1 to 256 of them. */
    size_t n_topics;
    uint64_t after; /* A revision. */
};

/* Tell the changes of any of the topics after query->after, in order, each
 * once. *@out_revision: up to where that was (the last committed revision, or
 * the one at which @cb stopped); the next call continues there, and so does
 * mr_kv_wait(). Any thread; @cb runs without a lock held. What mr_kv_revision()
 * has returned can be read.
 *
 * MR_E_NOTFOUND: forgotten: take a view and begin again from its revision.
 * MR_E_INVALID: query->after is not reached yet. MR_E_NOMEM. After a failure the
 * revision that was told last may be incomplete. */
MR_MUST_CHECK enum mr_err
mr_kv_history_read(struct mr_kv *kv, const struct mr_kv_history_query *query,
                   mr_kv_change_cb cb, void *arg, uint64_t *out_revision);

#endif /* MR_KV_HISTORY_H */
