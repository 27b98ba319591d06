/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bodies of catalog/register and catalog/deregister. Consul validates
 * almost nothing here; what it refuses for what it already holds is decided
 * where the command is applied, and so is how long names may be.
 */
#ifndef API_CATALOG_BODY_H
#define API_CATALOG_BODY_H

#include "api/decode.h"
#include "kv/mr_kv.h"

/* Decode the body of catalog/register into @out, which points into @d then.
 * *@out_status is the status that goes with d->error: 400 for what does not
 * decode, 500 for what Consul's servers refuse. A datacenter other than
 * @datacenter is refused.
 *
 * MR_E_INVALID, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
catalog_register(struct decode *d, struct mr_slice body, const char *datacenter,
                 Mr__Register *out, unsigned *out_status);

/* As catalog_register(), for catalog/deregister. */
MR_MUST_CHECK enum mr_err catalog_deregister(struct decode *d,
                                             struct mr_slice body,
                                             const char *datacenter,
                                             Mr__Deregister *out,
                                             unsigned *out_status);

#endif /* API_CATALOG_BODY_H */
