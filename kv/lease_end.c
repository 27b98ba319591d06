/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of leases: what each kind does when nobody renewed it in time. The
 * leader says which; one that is gone by then has been renewed by a change or
 * removed, and is skipped.
 */
#include <stdio.h>

#include "kv/catalog.h"
#include "kv/leases.h"
#include "kv/lefts.h"
#include "kv/locks.h"
#include "kv/sessions.h"

#define EXPIRED "TTL expired"
#define EXPIRED_AFTER "TTL expired (last output before timeout follows): "

/* What Consul's agent says of a check that was not renewed. */
static const char *expired_output(struct kv_batch *b, const char *last)
{
    size_t len = strlen(EXPIRED_AFTER) + strlen(last) + 1;
    char *text;

    if (last[0] == '\0') {
        return EXPIRED;
    }
    text = kv_arena_alloc(&b->arena, len);
    if (text == NULL) {
        return EXPIRED; /* The command fails. */
    }
    (void)snprintf(text, len, "%s%s", EXPIRED_AFTER, last); /* It fits. */
    return text;
}

static void end_check(struct kv_batch *b, const Mr__Lease *lease)
{
    Mr__Check *check =
        kv_check_get_of(b, lease->node, lease->service_id, lease->name);

    if (check != NULL) {
        kv_check_fail(b, check, expired_output(b, check->output));
    }
}

static void end_service(struct kv_batch *b, const char *node, const char *id)
{
    if (kv_service_remove(b, node, id, KV_SCOPE_ALL)) {
        kv_node_prune(b, node);
    }
}

static void reap_node(struct kv_batch *b, const Mr__Lease *lease)
{
    Mr__Node *node = kv_node_find(&b->tx, &b->arena, lease->node);

    if (node != NULL) {
        kv_node_remove(b, node);
    }
}

static void end_session(struct kv_batch *b, const Mr__Lease *lease)
{
    Mr__Session *session = kv_session_find(&b->tx, &b->arena, lease->name);

    if (session != NULL) {
        kv_session_end(b, session);
    }
}

/* Do what the end of @lease, whose row is gone, brings. */
static void take_effect(struct kv_batch *b, const Mr__Lease *lease)
{
    switch (lease->kind) {
    case MR__LEASE_KIND__LEASE_CHECK:
        end_check(b, lease);
        break;
    case MR__LEASE_KIND__LEASE_CRITICAL:
        end_service(b, lease->node, lease->service_id);
        break;
    case MR__LEASE_KIND__LEASE_REGISTRATION:
        end_service(b, lease->node, lease->name);
        break;
    case MR__LEASE_KIND__LEASE_NODE:
        kv_node_end(b, lease->node);
        break;
    case MR__LEASE_KIND__LEASE_NODE_REAP:
        reap_node(b, lease);
        break;
    case MR__LEASE_KIND__LEASE_SESSION:
        end_session(b, lease);
        break;
    case MR__LEASE_KIND__LEASE_LOCK_DELAY:
        kv_index_lock_delay(&b->tx, mr_slice(lease->key.data, lease->key.len),
                            lease->id, false);
        break;
    case MR__LEASE_KIND__LEASE_LEFT:
        kv_left_drop(b, lease->node);
        break;
    case _MR__LEASE_KIND_IS_INT_SIZE:
        break;
    }
}

void kv_lease_end(struct kv_batch *b, const Mr__LeaseEnd *cmd)
{
    size_t i;

    for (i = 0; i < cmd->n_leases && b->tx.err == MR_OK; i++) {
        const Mr__LeaseEnd__Ended *evidence = cmd->leases[i];
        const Mr__Lease *lease = kv_lease_find(&b->tx, &b->arena, evidence->id);
        struct kv_ending ending = {lease, evidence, cmd};

        if (lease == NULL) {
            continue;
        }
        kv_lease_drop(b, lease->id);
        b->ending = &ending;
        take_effect(b, lease);
        b->ending = NULL;
    }
}
