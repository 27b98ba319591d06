/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewing registrations: from a node's ID and digest to its lease, and from
 * the lease's answer to what the client is told.
 *
 *   look up in a view --> renew what is there --> all renewed: done
 *        ^                        |
 *        +---- a fresh view <-----+ some are not there, or are no more
 *
 * A renewal that succeeds proves that the view was right, because a changed
 * registration has another lease; so only a failure needs the fresh view.
 */
#ifndef API_REGISTRY_RENEW_H
#define API_REGISTRY_RENEW_H

#include "api/http.h"

enum registry_fate {
    REGISTRY_UNKNOWN, /* Not there, or not the same. */
    REGISTRY_FENCED,  /* A newer incarnation is there. */
    REGISTRY_RENEWED  /* Lives, for its TTL from now on or without one. */
};

struct registry_subject {
    const char *name; /* Of the service. */
    const char *id;
    uint64_t digest;
    uint64_t incarnation; /* 0: whichever is there. */
    enum registry_fate fate;
    uint64_t lease_id; /* Of what was renewed; 0: it has none. */
};

/* Renewals of one request, in its memory; the first member of req->state. */
struct registry_keep {
    struct registry_subject *subjects;
    size_t n;
    uint64_t revision; /* Of the newest view. */
    size_t n_renewed;
    void (*done)(struct api_request *req, enum mr_err err);
    bool is_fresh; /* The rest is the renewal's. */
    unsigned n_rounds;
    struct api_renewal *renewal;
    size_t *asked; /* Which subject each item of the renewal is. */
};

/* Prepare @keep with @n subjects, zeroed. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err registry_keep_init(struct api_request *req,
                                             struct registry_keep *keep,
                                             size_t n);

/* Renew all subjects that are not REGISTRY_RENEWED yet. keep->done is called
 * when each has its fate; it ends the handler. On an error the fates are not
 * known. */
void registry_keep_alive(struct api_request *req);

#endif /* API_REGISTRY_RENEW_H */
