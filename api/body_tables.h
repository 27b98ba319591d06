/* SPDX-License-Identifier: Apache-2.0 */
/* Decode tables of the small structs that several bodies share. */
#ifndef API_BODY_TABLES_H
#define API_BODY_TABLES_H

#include "api/decode.h"
#include "kv/schema.pb-c.h"

struct body_weights {
    int64_t passing;
    int64_t warning;
};

extern const struct decode_table body_pairs;     /* MAP of Mr__Pair. */
extern const struct decode_table body_headers;   /* MAP of Mr__Header. */
extern const struct decode_table body_addresses; /* MAP of Mr__TaggedAddress. */
extern const struct decode_table body_weights;   /* struct body_weights. */

#endif /* API_BODY_TABLES_H */
