/* SPDX-License-Identifier: Apache-2.0 */
/* What the catalog's queries share: walking rows with their node and service. */
#ifndef MR_KV_WALK_H
#define MR_KV_WALK_H

#include "kv/catalog.h"

/* Rows of one node or instance follow each other, so the last ones that were
 * decoded are kept. Failures go to the view's transaction. */
struct kv_walk {
    struct mr_kv_view *view;
    struct kv_tx *tx;
    struct kv_arena *arena;
    const Mr__Node *node;       /* The last one, or NULL. */
    struct mr_slice node_key;   /* Its lower name. */
    const Mr__Service *service; /* The last one, of node, or NULL. */
    const Mr__Check **checks;   /* A list being gathered. */
    size_t n_checks;
    size_t cap_checks;
};

/* Report @index, at least 1, unless nobody asked. */
void kv_set_index(uint64_t *out_index, uint64_t index);

/* Begin a walk in @view. */
void kv_walk_init(struct kv_walk *w, struct mr_kv_view *view);

/* Make the node of the lower name @key the current one. True if it was not. */
bool kv_walk_to_node(struct kv_walk *w, struct mr_slice key);

/* Make the service @id of the current node the current one. */
void kv_walk_to_service(struct kv_walk *w, const char *id);

/* Add the checks of the current node's @service (NULL: of the node itself) to
 * the list. */
void kv_walk_gather_checks(struct kv_walk *w, const Mr__Service *service);

/* Begin the keys of the instances of the service @name. */
void kv_service_prefix(struct kv_row_key *k, const char *name);

/* Decode the next row of a scan over instances and make its node the current
 * one. NULL at the end and after a failure. */
const Mr__Service *kv_walk_next_instance(struct kv_walk *w,
                                         struct kv_scan *scan,
                                         bool *out_is_new_node);

/* Looks at a row whose key ends in @part; false stops. */
typedef bool (*kv_part_cb)(struct kv_walk *w, struct kv_row *row,
                           const char *part, void *arg);

/* Visit the rows of the current node in @table, one of those that are keyed by
 * node and one more name. */
void kv_walk_parts(struct kv_walk *w, enum kv_table table, kv_part_cb visit,
                   void *arg);

#endif /* MR_KV_WALK_H */
