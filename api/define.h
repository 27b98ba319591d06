/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions that an agent is given (services and checks, by its HTTP API or
 * its configuration): decoding, Consul's validation in Consul's order, and
 * what the catalog is to hold for them.
 */
#ifndef API_DEFINE_H
#define API_DEFINE_H

#include <stdbool.h>
#include <stddef.h>

#include "api/decode.h"
#include "base/err.h"
#include "base/slice.h"
#include "kv/mr_kv.h"

/* What a body asks for. Points into the decode it came from. */
struct define_service {
    Mr__Service service;
    Mr__Check **checks;
    size_t n_checks;
};

/* Decode and validate the body of agent/service/register.
 *
 * MR_E_INVALID: d->error is Consul's answer, status 400.
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err define_service(struct decode *d, struct mr_slice body,
                                         struct define_service *out);

/* As define_service(), for agent/check/register. */
MR_MUST_CHECK enum mr_err define_check(struct decode *d, struct mr_slice body,
                                       Mr__Check *out_check);

/* Why the agent does not take one of these checks from a client, NULL when it
 * does; Consul answers 500. Static. */
const char *define_refusal(Mr__Check *const *checks, size_t n_checks,
                           bool enable_scripts);

/* As define_service() and define_check(), of configuration files; members have
 * the names of define_file_service_table by now. d->error is the bare reason. */
MR_MUST_CHECK enum mr_err define_file_service(struct decode *d,
                                              struct mr_slice body,
                                              struct define_service *out);
/* See define_file_service(). */
MR_MUST_CHECK enum mr_err
define_file_check(struct decode *d, struct mr_slice body, Mr__Check *out_check);

/* The members of a service in a configuration file. */
extern const struct decode_table define_file_service_table;

/* Whether @status is one that an agent's check may have. */
bool define_status_valid(const char *status);

/* An output as an agent keeps it: at most 4096 bytes and a remark when it was
 * longer. Borrowed from @d or @output; NULL without memory. */
const char *define_output(struct decode *d, const char *output);

/* Decode and validate the body of agent/check/update. Errors as above. */
MR_MUST_CHECK enum mr_err define_update(struct decode *d, struct mr_slice body,
                                        Mr__CheckUpdate *out_update);

/* Put Consul's "Request decode failed: " before d->error. */
enum mr_err define_decode_failed(struct decode *d);

#endif /* API_DEFINE_H */
