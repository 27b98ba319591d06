/* SPDX-License-Identifier: Apache-2.0 */
/* Renewing leases, and looking again at a state that is fresh. */
#include "api/renew.h"

#include <string.h>

/* ------------------------------------------------------------- looking */

struct refresh {
    struct mr_raft_read read;
    struct api_request *req;
};

static void on_read(struct mr_raft_read *read, enum mr_err err)
{
    struct refresh *r = mr_container_of(read, struct refresh, read);

    api_async_done(r->req, err, NULL);
}

void api_refresh(struct api_request *req, api_resume_fn resume)
{
    struct refresh *r = api_alloc(req, sizeof *r);
    enum mr_err err;

    if (r == NULL) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    memset(r, 0, sizeof *r);
    r->req = req;
    r->read.mode = MR_RAFT_READ_DEFAULT;
    r->read.done = on_read;
    api_async_begin(req, resume);
    if (req->options->raft == NULL) {
        api_async_done(req, MR_OK, NULL); /* The agent's own store. */
        return;
    }
    err = mr_raft_read(req->options->raft, &r->read);
    if (err != MR_OK) {
        api_async_done(req, err, NULL);
    }
}

bool api_is_fresh(const struct api_request *req)
{
    const struct mr_raft *raft = req->options->raft;

    return raft == NULL || mr_raft_may_read_local(raft);
}

/* ------------------------------------------------------------- renewing */

static void on_renewed(struct mr_lease_renewal *renewal, enum mr_err err)
{
    struct api_renewal *r =
        mr_container_of(renewal, struct api_renewal, renewal);

    api_async_done(r->req, err, NULL);
}

struct api_renewal *api_renewal_new(struct api_request *req, size_t n_items)
{
    struct api_renewal *r = api_alloc(req, sizeof *r);
    size_t size = n_items * sizeof *r->renewal.items;

    if (r == NULL) {
        return NULL;
    }
    memset(r, 0, sizeof *r);
    r->req = req;
    r->renewal.n_items = n_items;
    r->renewal.done = on_renewed;
    r->renewal.items = api_alloc(req, size);
    if (r->renewal.items == NULL) {
        return NULL;
    }
    memset(r->renewal.items, 0, size);
    return r;
}

void api_renew(struct api_renewal *renewal, api_resume_fn resume)
{
    struct api_request *req = renewal->req;
    const struct mr_api_host *host = &req->options->host;
    enum mr_err err = MR_E_CLOSED;

    api_async_begin(req, resume);
    if (host->renew != NULL) {
        err = host->renew(host->arg, &renewal->renewal);
    }
    if (err != MR_OK) {
        api_async_done(req, err, NULL);
    }
}
