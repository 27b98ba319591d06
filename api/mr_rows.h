/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests of rows, by which an agent and the servers tell whether they hold the
 * same of its node. What each store fills in for itself does not count.
 */
#ifndef MR_ROWS_H
#define MR_ROWS_H

#include <stdint.h>

#include "kv/mr_kv.h"

/* The digest of @service; 0 without memory. */
uint64_t mr_rows_service(const Mr__Service *service);

/* The digest of @check but for its status and output; 0 without memory. */
uint64_t mr_rows_check(const Mr__Check *check);

/* The digest of its status and output. */
uint64_t mr_rows_check_state(const Mr__Check *check);

#endif /* MR_ROWS_H */
