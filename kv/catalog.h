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
/* The distinct tags of the service with the lower name @name, sorted, each with
 * a NUL behind it, in @arena. Not within a batch, whose tallies know better. */
void kv_tags_gather(struct kv_tx *tx, struct kv_arena *arena,
                    struct mr_slice name, struct mr_slice **out_tags,
                    size_t *out_n);

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
/* As kv_index_node(). @service->node is set; tags are counted in @tallies. */
void kv_index_service(struct kv_tx *tx, struct kv_tallies *tallies,
                      const Mr__Service *service, bool is_added);
/* As kv_index_node(). @check->node and service_id are set. */
void kv_index_check(struct kv_tx *tx, const Mr__Check *check, bool is_added);
/* As kv_index_check(), only the row that follows from the status. */
void kv_index_check_state(struct kv_tx *tx, const Mr__Check *check,
                          bool is_added);

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

/* Refuse the command, which speaks for @incarnation (0: nobody's), when the
 * instance @id of @node was registered by a greater one. True when refused. */
bool kv_service_fenced(struct kv_batch *b, const char *node, const char *id,
                       uint64_t incarnation);

/* The answers about every service of @node changed. */
void kv_node_bump_services(struct kv_batch *b, const char *node);

/* The answers about the service named @name (any case) changed, and it gained
 * @delta instances. */
void kv_service_bump(struct kv_batch *b, struct mr_slice name, int delta);

/* Create or change an instance on @node. */
void kv_service_ensure(struct kv_batch *b, const char *node,
                       const Mr__Service *service);

/* What a removal may take: anything, or what came from one side only. */
enum kv_scope { KV_SCOPE_ALL, KV_SCOPE_AGENT, KV_SCOPE_REGISTRY };

/* Whether something of @origin is in @scope. */
bool kv_in_scope(enum kv_scope scope, Mr__Origin origin);

/* Remove an instance with its checks; nothing when there is none, or none in
 * @scope. True when it was one of the native registry: then the node may have
 * to go, see kv_node_prune(). */
bool kv_service_remove(struct kv_batch *b, const char *node, const char *id,
                       enum kv_scope scope);

/* As kv_check_get(), when the service's ID ("": of the node) is known. */
Mr__Check *kv_check_get_of(struct kv_batch *b, const char *node,
                           const char *service_id, const char *check_id);

/* The check @check_id of @node, decoded without its service's name and tags;
 * NULL when there is none or the transaction failed. */
Mr__Check *kv_check_get(struct kv_batch *b, const char *node,
                        const char *check_id);

/* Create or change a check on @node. */
void kv_check_ensure(struct kv_batch *b, const char *node,
                     const Mr__Check *check);

/* Turn @check, as kv_check_get() gave it, critical with @output. */
void kv_check_fail(struct kv_batch *b, const Mr__Check *check,
                   const char *output);

/* Remove a check; nothing when there is none, or none in @scope. */
void kv_check_remove(struct kv_batch *b, const char *node, const char *check_id,
                     enum kv_scope scope);

/* The lease of @node began or ended: see to it that its checks have the leases
 * that follow from that. */
void kv_node_checks_settle(struct kv_batch *b, const char *node);

/* The names, each with a NUL behind it, in the second part of the rows of @node
 * in @table. */
size_t kv_node_parts(struct kv_batch *b, enum kv_table table, const char *node,
                     struct mr_slice **out_names);

/* Create, change or rename a node. A rename leaves nothing of what was on it. */
void kv_node_change(struct kv_batch *b, const Mr__Node *node);

/* Whether @cmd leaves its node as it is: nearly always. Then its name and ID
 * need no check either. */
bool kv_node_kept(struct kv_batch *b, const Mr__Register *cmd);

/* Remove @node with all it has. */
void kv_node_remove(struct kv_batch *b, const Mr__Node *node);

/* Remove the services and checks of @node that are in @scope. */
void kv_node_parts_remove(struct kv_batch *b, const char *node,
                          enum kv_scope scope);

/* Remove @node if it is one that the native registry made for its instances and
 * nothing is left on it. */
void kv_node_prune(struct kv_batch *b, const char *node);

/* The agent of @node fell silent: the lease that @node names is ending. */
void kv_node_end(struct kv_batch *b, const char *node);

/* Whether @node has an agent that fell silent. */
bool kv_node_is_dead(struct kv_batch *b, const char *node);

/* Note that the answers that hold @node changed. */
void kv_node_touch(struct kv_batch *b, const char *node);

/* Remove the checks of a service but those named in @kept. */
void kv_service_checks_remove(struct kv_batch *b, const char *node,
                              const char *service_id, const Mr__Register *kept);

#endif /* MR_KV_CATALOG_H */
