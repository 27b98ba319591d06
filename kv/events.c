/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events for `microreg why`. They follow from the commands and are no part of
 * the state; without a hook nothing is looked up for them.
 */
#include "kv/events.h"

#include "kv/catalog.h"

/* What a lease's end adds to @event. */
static void add_evidence(struct mr_kv_event *event,
                         const struct kv_ending *ending)
{
    event->lease_kind = ending->lease->kind;
    event->lease_id = ending->lease->id;
    event->ttl_ms = ending->lease->ttl_ms;
    event->silent_ms = ending->evidence->silent_ms;
    event->gaps_ms = ending->evidence->gaps_ms;
    event->n_gaps = ending->evidence->n_gaps_ms;
    event->leader = ending->cmd->leader;
    event->term = ending->cmd->term;
}

/* Complete @event, of which kind, subject and names are set, and tell it. */
static void tell(struct kv_batch *b, struct mr_kv_event *event)
{
    event->service = event->service == NULL ? "" : event->service;
    event->service_id = event->service_id == NULL ? "" : event->service_id;
    event->status = event->status == NULL ? "" : event->status;
    event->by = b->cmd->by;
    event->time_ms = b->cmd->time_ms;
    event->revision = kv_batch_revision(b); /* Something changed for certain. */
    event->leader = "";
    if (b->ending != NULL && (event->kind == MR_KV_EVENT_DEREGISTERED ||
                              event->kind == MR_KV_EVENT_STATUS)) {
        event->kind = MR_KV_EVENT_ENDED;
        add_evidence(event, b->ending);
    }
    b->hooks->event(b->hooks->arg, event);
}

void kv_event_node(struct kv_batch *b, enum mr_kv_event_kind kind,
                   const char *name)
{
    struct mr_kv_event event = {
        .kind = kind, .subject = MR_KV_SUBJECT_NODE, .node = name, .id = ""};

    if (b->hooks->event != NULL) {
        tell(b, &event);
    }
}

void kv_event_service(struct kv_batch *b, enum mr_kv_event_kind kind,
                      const Mr__Service *service)
{
    struct mr_kv_event event = {.kind = kind,
                                .subject = MR_KV_SUBJECT_SERVICE,
                                .node = service->node,
                                .id = service->id,
                                .service = service->name};

    if (b->hooks->event != NULL) {
        tell(b, &event);
    }
}

/* The name, as people write it, of the service @id of @node; NULL when it is
 * gone. */
static const char *name_of_service(struct kv_batch *b, const char *node,
                                   const char *id)
{
    struct kv_tally *tally;
    struct mr_slice lower;
    struct kv_row_key k;

    kv_node_part_key(&k, KV_NODE_SERVICE, node, id);
    if (id[0] == '\0' || !kv_tx_get(&b->tx, kv_key_slice(&k), &lower)) {
        return NULL;
    }
    lower = kv_arena_copy(&b->arena, lower);
    kv_key_init(&k, KV_SERVICE_NAME);
    kv_key_add(&k, lower);
    tally = kv_tally_get(&b->tallies, &b->tx, &k);
    if (tally == NULL) {
        return NULL; /* The transaction has failed. */
    }
    return kv_arena_text(&b->arena, tally->text.len > 0 ? tally->text : lower);
}

void kv_event_check(struct kv_batch *b, enum mr_kv_event_kind kind,
                    const Mr__Check *check)
{
    struct mr_kv_event event = {.kind = kind,
                                .subject = MR_KV_SUBJECT_CHECK,
                                .node = check->node,
                                .id = check->check_id,
                                .service_id = check->service_id,
                                .status = check->status};

    if (b->hooks->event != NULL) {
        event.service = name_of_service(b, check->node, check->service_id);
        tell(b, &event);
    }
}

void kv_event_session(struct kv_batch *b, enum mr_kv_event_kind kind,
                      const Mr__Session *session)
{
    struct mr_kv_event event = {.kind = kind,
                                .subject = MR_KV_SUBJECT_SESSION,
                                .node = session->node,
                                .id = session->id};

    if (b->hooks->event != NULL) {
        tell(b, &event);
    }
}
