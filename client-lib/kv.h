/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to /v1/kv, for keys and for locks. */
#ifndef MICROREG_KV_H
#define MICROREG_KV_H

#include "call.h"

/* Whether a key, or the beginning of one, can be asked for. MICROREG_E_INVALID:
 * it is not UTF-8, or has parts that a path cannot have. */
int mrg_key_check(const char *key, struct microreg_error *out_error);

/* Write the path of a key. MICROREG_E_INVALID: it is not UTF-8. */
int mrg_key_path(struct mrg_text *path, const char *key,
                 struct microreg_error *out_error);

/* Run a write, once. MICROREG_E_REFUSED: a condition was not met. */
int mrg_kv_write(struct microreg *client, struct mrg_call *call,
                 struct microreg_error *out_error);

#endif /* MICROREG_KV_H */
