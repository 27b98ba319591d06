/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer: from a question and a view of the state to the set of records that
 * answers it. Pure: the state, the options and nothing else decide.
 */
#ifndef MR_DNS_ANSWER_H
#define MR_DNS_ANSWER_H

#include "dns/config.h"
#include "dns/name.h"
#include "dns/set.h"
#include "dns/wire.h"
#include "kv/mr_kv.h"
#include "kv/mr_kv_watch.h"

/* What the answer depends on: it holds until one of the topics changes. */
struct dns_depends {
    struct dns_ask ask; /* Holds the names. */
    size_t n;           /* 0: it depends on more; do not keep it. */
    struct mr_kv_topic topics[DNS_CANDIDATES_MAX];
};

/* Build the answer to @query in *@out_set (initialised by the call; the caller
 * deinits it, also after a failure) and say in *@out_depends on what it rests.
 *
 * MR_E_NOMEM, MR_E_IO, MR_E_CORRUPT: it cannot be known; SERVFAIL. */
MR_MUST_CHECK enum mr_err dns_answer_build(const struct dns_config *config,
                                           struct mr_kv_view *view,
                                           const struct dns_query *query,
                                           struct dns_set *out_set,
                                           struct dns_depends *out_depends);

#endif /* MR_DNS_ANSWER_H */
