/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances of the catalog as go-micro's services: one per name and version,
 * sorted, with the nodes that have no critical check. What the native API
 * registered and what go-micro's consul plugin did look the same.
 */
#ifndef API_REGISTRY_RENDER_H
#define API_REGISTRY_RENDER_H

#include "api/http.h"
#include "api/registry_body.h"

struct registry_list; /* Instances being collected. */

/* Make an empty list; NULL without memory. The caller owns it and releases it
 * with registry_list_free(). What it points to is the view's. */
struct registry_list *registry_list_new(void);

/* Release it. NULL is a no-op. */
void registry_list_free(struct registry_list *list);

/* Take up @instance, whose parts (but for the struct) live until the list is
 * written, unless a check of it is critical. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
registry_list_add(struct registry_list *list,
                  const struct mr_kv_instance *instance);

/* Write the services, an array; an ID of a service once, as the latest
 * registered of the list. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err registry_list_write(struct registry_list *list,
                                              struct mr_buf *out);

/* Write the one service that @instance is, with it as the only node, whatever
 * its checks say. @list (nothing is taken up into it) lends its memory.
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
registry_write_instance(struct registry_list *list,
                        const struct mr_kv_instance *instance,
                        struct mr_buf *out);

/* Whether @a and @b are of different versions. */
bool registry_version_differs(const Mr__Service *a, const Mr__Service *b);

/* Order by service, ID, and of one ID on several nodes of the catalog the latest
 * registered first: that one is shown. For qsort(). */
int registry_compare_ids(const struct mr_kv_instance *a,
                         const struct mr_kv_instance *b);

/* Whether go-micro takes @a and @b for one node. */
bool registry_same_id(const struct mr_kv_instance *a,
                      const struct mr_kv_instance *b);

#endif /* API_REGISTRY_RENDER_H */
