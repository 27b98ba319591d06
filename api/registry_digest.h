/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a renewal keeps alive, in 64 bits: a hash over everything that was
 * registered, whatever the order of JSON's members and of tags. Clients get it
 * with a registration and name it in their renewals.
 */
#ifndef API_REGISTRY_DIGEST_H
#define API_REGISTRY_DIGEST_H

#include <stdint.h>

#include "api/registry_body.h"

#define REGISTRY_DIGEST_LEN 16 /* Hexadecimal digits. */

/* Set the digest of each node of @service, registered with @ttl_ms.
 * MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err registry_digest(struct registry_service *service,
                                          uint64_t ttl_ms);

/* Write @digest as text. */
void registry_digest_format(uint64_t digest, char out[REGISTRY_DIGEST_LEN + 1]);

/* Parse what registry_digest_format() wrote. MR_E_INVALID. */
MR_MUST_CHECK enum mr_err registry_digest_parse(const char *text,
                                                uint64_t *out_digest);

#endif /* API_REGISTRY_DIGEST_H */
