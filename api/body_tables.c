/* SPDX-License-Identifier: Apache-2.0 */
/* Decode tables of the small structs that several bodies share. */
#include "api/body_tables.h"

#include "base/mem.h"

static void init_pair(void *pair)
{
    mr__pair__init(pair);
}

static void init_header(void *header)
{
    mr__header__init(header);
}

static void init_address(void *address)
{
    mr__tagged_address__init(address);
}

static const struct decode_field pair_value =
    DECODE_FIELD(Mr__Pair, DECODE_TEXT, "", value);
const struct decode_table body_pairs = {
    .go_name = "map[string]string",
    .size = sizeof(Mr__Pair),
    .init = init_pair,
    .key_offset = offsetof(Mr__Pair, key),
    .value = &pair_value,
};

static const struct decode_field header_values =
    DECODE_MANY(Mr__Header, DECODE_TEXTS, "", values, NULL);
const struct decode_table body_headers = {
    .go_name = "map[string][]string",
    .size = sizeof(Mr__Header),
    .init = init_header,
    .key_offset = offsetof(Mr__Header, name),
    .value = &header_values,
};

static const struct decode_field address_fields[] = {
    DECODE_FIELD(Mr__TaggedAddress, DECODE_TEXT, "Address", address),
    DECODE_FIELD(Mr__TaggedAddress, DECODE_INT, "Port", port),
};
const struct decode_table body_addresses = {
    .go_name = "map[string]structs.ServiceAddress",
    .fields = address_fields,
    .n_fields = MR_ARRAY_LEN(address_fields),
    .size = sizeof(Mr__TaggedAddress),
    .init = init_address,
    .key_offset = offsetof(Mr__TaggedAddress, tag),
};

static const struct decode_field weight_fields[] = {
    DECODE_FIELD(struct body_weights, DECODE_INT, "Passing", passing),
    DECODE_FIELD(struct body_weights, DECODE_INT, "Warning", warning),
};
const struct decode_table body_weights = {
    .go_name = "Weights",
    .fields = weight_fields,
    .n_fields = MR_ARRAY_LEN(weight_fields),
    .size = sizeof(struct body_weights),
};
