/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: from Consul's JSON to the structs of microreg.h. */
#ifndef MICROREG_KEY_H
#define MICROREG_KEY_H

#include "err.h"
#include "json.h"

/* What the JSON of one key says, in @arena, where @json lives.
 * MICROREG_E_PROTOCOL: it is no key. */
int mrg_key_read(struct mrg_arena *arena, const struct mrg_json *json,
                 struct microreg_key *out_key);

/* What the JSON of an array of keys says. On success *@arena, where @array lives,
 * has moved into *@out_keys. */
int mrg_keys_read(struct mrg_arena *arena, const struct mrg_json *array,
                  uint64_t index, struct microreg_keys **out_keys,
                  struct microreg_error *out_error);

#endif /* MICROREG_KEY_H */
