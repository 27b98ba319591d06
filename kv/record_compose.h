/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as they were before a command, and as they are after it. */
#ifndef MR_KV_RECORD_COMPOSE_H
#define MR_KV_RECORD_COMPOSE_H

#include "kv/kv.h"

enum kv_when { KV_BEFORE, KV_AFTER };

/* Find out which of the captured rows of nodes, services and checks the command
 * changed in what answers show: they are new, or gone, or hold something else
 * besides their revision, leases and what they are compared by. */
void kv_rows_compare(struct kv_recorder *r, struct kv_capture *capture);

/* Whether the row @key is one of these. */
bool kv_row_is_changed(struct kv_recorder *r, struct mr_slice key);

/* What of an instance that was there and is has changed. */
struct kv_instance_change {
    bool has_any;
    bool has_parts;  /* Its node or its service. */
    bool has_checks; /* Its checks or its node's. */
};

/* Compare the instance of the service's row @key before and after. */
struct kv_instance_change kv_instance_compare(struct kv_recorder *r,
                                              struct mr_slice key);

/* Each appends the object of the row @key to @out, packed as kv/history.h has
 * it, without what no answer shows; nothing when it was (or is) not there. */
void kv_compose_node(struct kv_recorder *r, enum kv_when when,
                     struct mr_slice key, struct mr_buf *out);
/* As kv_compose_node(), the instance of a service's row. Returns the worst of
 * its checks' statuses; static. */
const char *kv_compose_instance(struct kv_recorder *r, enum kv_when when,
                                struct mr_slice key, struct mr_buf *out);
/* As kv_compose_node(), of a check's row. Returns its status, valid until the
 * next command, or NULL. */
const char *kv_compose_check(struct kv_recorder *r, enum kv_when when,
                             struct mr_slice key, struct mr_buf *out);

/* Append the node and the service of an instance only. */
void kv_compose_parts(struct kv_recorder *r, enum kv_when when,
                      struct mr_slice key, struct mr_buf *out);
/* The worst status of an instance's checks; static. */
const char *kv_compose_status(struct kv_recorder *r, enum kv_when when,
                              struct mr_slice key);
/* As kv_compose_check(), the status only. */
const char *kv_compose_check_status(struct kv_recorder *r, enum kv_when when,
                                    struct mr_slice key);

/* The service of the row @key then, without its node, in b->scratch; NULL when
 * there is none. */
Mr__Service *kv_service_then(struct kv_recorder *r, enum kv_when when,
                             struct mr_slice key);

/* Append @message, packed. */
void kv_pack_message(struct mr_buf *out, const ProtobufCMessage *message);

/* record_names.c. The name of the service whose captured row is the one at @at:
 * append what became of it, nothing when it is as before. Returns how many
 * captured rows are of this name. */
size_t kv_compose_name(struct kv_recorder *r, size_t at,
                       enum mr_kv_action *out_action, struct mr_buf *out);

#endif /* MR_KV_RECORD_COMPOSE_H */
