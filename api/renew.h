/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewing leases from a write handler, and the fresh look at the state that
 * has to come before "unknown": the local state may be behind the server that
 * made the registration.
 */
#ifndef API_RENEW_H
#define API_RENEW_H

#include "api/http.h"
#include "health/mr_lease.h"

/* Ask until when the local state has to be applied for a default read, wait for
 * that, and then call @resume, with the read's error. Ends the handler. */
void api_refresh(struct api_request *req, api_resume_fn resume);

/* Whether a view begun now is as fresh as api_refresh() would make it. */
bool api_is_fresh(const struct api_request *req);

/* A renewal of a request; lives as long as that. */
struct api_renewal {
    struct mr_lease_renewal renewal;
    struct api_request *req;
};

/* Room for the renewal of @n_items leases, whose IDs the caller sets; NULL
 * without memory. */
struct api_renewal *api_renewal_new(struct api_request *req, size_t n_items);

/* Renew. @resume is called with renewal->err; with MR_OK each item has its
 * answer. Ends the handler. */
void api_renew(struct api_renewal *renewal, api_resume_fn resume);

#endif /* API_RENEW_H */
