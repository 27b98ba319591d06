/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of the catalog's tables, and the derived tables. */
#include <arpa/inet.h>

#include "kv/catalog.h"

/* Longer tags are listed under their beginning and a hash. */
#define TAG_CUT 300

/* ------------------------------------------------------------ keys */

void kv_node_key(struct kv_row_key *k, const char *node)
{
    kv_key_init(k, KV_NODE);
    kv_key_lower(k, node);
}

void kv_service_key(struct kv_row_key *k, const char *name, const char *node,
                    const char *id)
{
    kv_key_init(k, KV_SERVICE);
    kv_key_lower(k, name);
    kv_key_byte(k, 0);
    kv_key_lower(k, node);
    kv_key_byte(k, 0);
    kv_key_text(k, id);
}

void kv_check_key(struct kv_row_key *k, const char *node,
                  const char *service_id, const char *check_id)
{
    kv_key_init(k, KV_CHECK);
    kv_key_lower(k, node);
    kv_key_byte(k, 0);
    kv_key_text(k, service_id);
    kv_key_byte(k, 0);
    kv_key_text(k, check_id);
}

void kv_node_part_key(struct kv_row_key *k, enum kv_table table,
                      const char *node, const char *part)
{
    kv_key_init(k, table);
    kv_key_lower(k, node);
    kv_key_byte(k, 0);
    kv_key_text(k, part);
}

/* The key of @tag of the service of the row @name. */
static void tag_key(struct kv_row_key *k, struct mr_slice name, const char *tag)
{
    size_t len = strlen(tag);
    bool is_cut = len > TAG_CUT;

    kv_key_init(k, KV_TAG);
    kv_key_add(k, mr_slice((const uint8_t *)name.data + 1, name.len - 1));
    kv_key_byte(k, 0);
    kv_key_add(k, mr_slice(tag, is_cut ? TAG_CUT : len));
    if (is_cut) {
        struct mr_hash128 h = mr_hash128(mr_slice(tag, len), 0);

        kv_key_u64(k, h.high);
        kv_key_u64(k, h.low);
    }
}

bool kv_state_key(struct kv_row_key *k, const char *status)
{
    uint8_t state = 'o';

    if (strcmp(status, "passing") == 0) {
        return false;
    }
    if (strcmp(status, "critical") == 0 || strcmp(status, "warning") == 0) {
        state = (uint8_t)status[0];
    }
    kv_key_init(k, KV_STATE);
    kv_key_byte(k, state);
    return true;
}

bool kv_address_key(struct kv_row_key *k, const char *text)
{
    uint8_t ip[16];
    size_t len = 0;

    if (inet_pton(AF_INET, text, ip) == 1) {
        len = 4;
    } else if (inet_pton(AF_INET6, text, ip) == 1) {
        len = 16;
    }
    kv_key_init(k, KV_ADDRESS);
    kv_key_byte(k, (uint8_t)len);
    kv_key_add(k, mr_slice(ip, len));
    return len > 0;
}

/* ------------------------------------------------------------ look-ups */

bool kv_service_find(struct kv_tx *tx, const char *node, const char *id,
                     struct kv_row_key *out_key, struct mr_slice *out_value)
{
    struct kv_row_key k;
    struct mr_slice name;

    kv_node_part_key(&k, KV_NODE_SERVICE, node, id);
    if (!kv_tx_get(tx, kv_key_slice(&k), &name)) {
        return false;
    }
    kv_key_init(out_key, KV_SERVICE);
    kv_key_add(out_key, name);
    kv_key_byte(out_key, 0);
    kv_key_lower(out_key, node);
    kv_key_byte(out_key, 0);
    kv_key_text(out_key, id);
    if (!kv_tx_get(tx, kv_key_slice(out_key), out_value)) {
        kv_tx_fail(tx, MR_E_CORRUPT);
        return false;
    }
    return true;
}

bool kv_check_find(struct kv_tx *tx, const char *node, const char *check_id,
                   struct kv_row_key *out_key, struct mr_slice *out_value)
{
    struct kv_row_key k;
    struct mr_slice service_id;

    kv_node_part_key(&k, KV_NODE_CHECK, node, check_id);
    if (!kv_tx_get(tx, kv_key_slice(&k), &service_id)) {
        return false;
    }
    kv_key_init(out_key, KV_CHECK);
    kv_key_lower(out_key, node);
    kv_key_byte(out_key, 0);
    kv_key_add(out_key, service_id);
    kv_key_byte(out_key, 0);
    kv_key_text(out_key, check_id);
    if (!kv_tx_get(tx, kv_key_slice(out_key), out_value)) {
        kv_tx_fail(tx, MR_E_CORRUPT);
        return false;
    }
    return true;
}

Mr__Node *kv_node_find(struct kv_tx *tx, struct kv_arena *arena,
                       const char *name)
{
    struct kv_row_key k;
    struct kv_row row;
    Mr__Node *node;
    enum mr_err err;

    kv_node_key(&k, name);
    row.key = kv_key_slice(&k);
    if (!kv_tx_get(tx, row.key, &row.value)) {
        return NULL;
    }
    err = kv_unpack_node(arena, &row, &node);
    if (err != MR_OK) {
        kv_tx_fail(tx, err);
        return NULL;
    }
    return node;
}

bool kv_service_name_unpack(struct mr_slice value,
                            struct kv_service_name_row *out)
{
    if (!kv_get_varint(&value, &out->index) ||
        !kv_get_varint(&value, &out->instances)) {
        return false;
    }
    out->name = value;
    return true;
}

/* ------------------------------------------------------------ derived rows */

static void put_or_del(struct kv_tx *tx, const struct kv_row_key *k,
                       struct mr_slice value, bool is_added)
{
    if (is_added) {
        kv_tx_put(tx, kv_key_slice(k), value);
    } else {
        (void)kv_tx_del(tx, kv_key_slice(k)); /* Its row says it was there. */
    }
}

static struct mr_slice without_table(const struct kv_row_key *k)
{
    return mr_slice(k->bytes + 1, k->len - 1);
}

void kv_index_node(struct kv_tx *tx, const Mr__Node *node, bool is_added)
{
    struct kv_row_key name;
    struct kv_row_key k;

    kv_node_key(&name, node->name);
    if (node->id[0] != '\0') {
        kv_key_init(&k, KV_NODE_ID);
        kv_key_lower(&k, node->id);
        put_or_del(tx, &k, without_table(&name), is_added);
    }
    if (kv_address_key(&k, node->address)) {
        kv_key_byte(&k, KV_ADDRESS_NODE);
        kv_key_add(&k, without_table(&name));
        put_or_del(tx, &k, mr_slice(NULL, 0), is_added);
    }
}

/* Count @tag of the service that @name counts up or down. */
static void count_tag(struct kv_tx *tx, struct kv_tallies *tallies,
                      struct kv_tally *name, const char *tag, bool is_added)
{
    struct kv_tally *tally;
    struct kv_row_key k;

    tag_key(&k, name->key, tag);
    tally = kv_tally_get(tallies, tx, &k);
    if (tally == NULL) {
        return; /* The transaction has failed. */
    }
    kv_tally_link(name, tally);
    kv_tally_note(tallies, tally);
    if (strlen(tag) > TAG_CUT && tally->count == 0) {
        kv_tally_set_text(tallies, tally, mr_slice_str(tag));
    }
    tally->count = is_added ? tally->count + 1 : tally->count - 1;
    tally->is_dirty = true;
}

void kv_index_service(struct kv_tx *tx, struct kv_tallies *tallies,
                      const Mr__Service *service, bool is_added)
{
    struct kv_tally *tally = NULL;
    struct kv_row_key name;
    struct kv_row_key k;
    size_t i;

    kv_key_init(&name, KV_SERVICE_NAME);
    kv_key_lower(&name, service->name);
    kv_node_part_key(&k, KV_NODE_SERVICE, service->node, service->id);
    put_or_del(tx, &k, without_table(&name), is_added);
    if (kv_address_key(&k, service->address)) {
        kv_key_byte(&k, KV_ADDRESS_SERVICE);
        kv_key_lower(&k, service->node);
        kv_key_byte(&k, 0);
        kv_key_text(&k, service->id);
        put_or_del(tx, &k, without_table(&name), is_added);
    }
    if (service->n_tags > 0) {
        tally = kv_tally_get(tallies, tx, &name);
    }
    for (i = 0; i < service->n_tags && tally != NULL; i++) {
        count_tag(tx, tallies, tally, service->tags[i], is_added);
    }
}

void kv_index_check_state(struct kv_tx *tx, const Mr__Check *check,
                          bool is_added)
{
    struct kv_row_key k;

    if (kv_state_key(&k, check->status)) {
        kv_key_lower(&k, check->node);
        kv_key_byte(&k, 0);
        kv_key_text(&k, check->check_id);
        put_or_del(tx, &k, mr_slice_str(check->service_id), is_added);
    }
}

void kv_index_check(struct kv_tx *tx, const Mr__Check *check, bool is_added)
{
    struct kv_row_key k;

    kv_node_part_key(&k, KV_NODE_CHECK, check->node, check->check_id);
    put_or_del(tx, &k, mr_slice_str(check->service_id), is_added);
    kv_index_check_state(tx, check, is_added);
}
