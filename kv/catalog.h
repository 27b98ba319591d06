/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the catalog's commands, shared by the files that hold them. */
#ifndef MR_KV_CATALOG_H
#define MR_KV_CATALOG_H

#include "kv/kv.h"

/* The keys of rows, from names as people write them. */
void kv_node_key(struct kv_row_key *k, const char *node);
/* As kv_node_key(). */
void kv_service_key(struct kv_row_key *k, const char *name, const char *node,
                    const char *id);
/* As kv_node_key(). */
void kv_check_key(struct kv_row_key *k, const char *node,
                  const char *service_id, const char *check_id);
/* As kv_node_key(): of one of the tables keyed by node and one more name. */
void kv_node_part_key(struct kv_row_key *k, enum kv_table table,
                      const char *node, const char *part);

/* Find the row of the service @id of @node: its key and value. */
bool kv_service_find(struct kv_tx *tx, const char *node, const char *id,
                     struct kv_row_key *out_key, struct mr_slice *out_value);

/* Find the row of the check @check_id of @node. */
bool kv_check_find(struct kv_tx *tx, const char *node, const char *check_id,
                   struct kv_row_key *out_key, struct mr_slice *out_value);

/* Find and decode the node @name; NULL when there is none or @tx failed. */
Mr__Node *kv_node_find(struct kv_tx *tx, struct kv_arena *arena,
                       const char *name);

/* ------------------------------------------------------------ indexes */

/* Add (@is_added) or remove the rows of the derived tables that follow from a
 * row. */
void kv_index_node(struct kv_tx *tx, const Mr__Node *node, bool is_added);
/* As kv_index_node(). @service->node is set. */
void kv_index_service(struct kv_tx *tx, const Mr__Service *service,
                      bool is_added);
/* As kv_index_node(). @check->node and service_id are set. */
void kv_index_check(struct kv_tx *tx, const Mr__Check *check, bool is_added);

/* Begin the key under which checks in @status are listed; false for passing
 * ones, which are not: they are nearly all. */
bool kv_state_key(struct kv_row_key *k, const char *status);

/* Begin the key of what has the IP address @text; false when it is none. */
bool kv_address_key(struct kv_row_key *k, const char *text);

enum kv_address_kind { KV_ADDRESS_NODE, KV_ADDRESS_SERVICE };

/* The row of one service name. */
struct kv_service_name_row {
    uint64_t index; /* When what is asked about the service changed. */
    uint64_t instances;
    struct mr_slice name; /* As written at first; empty: as in the key. */
};

/* Decode a stored row. False: damaged. */
bool kv_service_name_unpack(struct mr_slice value,
                            struct kv_service_name_row *out);

/* ------------------------------------------------------------ changes */

/* The node that has the ID @id, or NULL. */
Mr__Node *kv_node_by_id(struct kv_batch *b, const char *id);

/* Refuse the command with Consul's text unless @node can be written as it is.
 * Writes nothing. */
bool kv_node_allowed(struct kv_batch *b, const Mr__Node *node);

/* As kv_node_allowed(), the services and checks of @cmd. */
bool kv_parts_allowed(struct kv_batch *b, const Mr__Register *cmd);

/* The answers about every service of @node changed. */
void kv_node_bump_services(struct kv_batch *b, const char *node);

/* The answers about the service named @name (any case) changed, and it gained
 * @delta instances. */
void kv_service_bump(struct kv_batch *b, struct mr_slice name, int delta);

/* Create or change an instance on @node. */
void kv_service_ensure(struct kv_batch *b, const char *node,
                       const Mr__Service *service);

/* Remove an instance with its checks; nothing when there is none. With
 * @agent_only only if an agent registered it. */
void kv_service_remove(struct kv_batch *b, const char *node, const char *id,
                       bool agent_only);

/* The check @check_id of @node, decoded without its service's name and tags;
 * NULL when there is none or the transaction failed. */
Mr__Check *kv_check_get(struct kv_batch *b, const char *node,
                        const char *check_id);

/* Create or change a check on @node. */
void kv_check_ensure(struct kv_batch *b, const char *node,
                     const Mr__Check *check);

/* Remove a check; nothing when there is none. */
void kv_check_remove(struct kv_batch *b, const char *node, const char *check_id,
                     bool agent_only);

/* Remove the checks of a service but those named in @kept. */
void kv_service_checks_remove(struct kv_batch *b, const char *node,
                              const char *service_id, const Mr__Register *kept);

#endif /* MR_KV_CATALOG_H */
