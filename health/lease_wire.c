/* SPDX-License-Identifier: Apache-2.0 */
/* Varints by hand: a message of 300 renewals is built 100 times a second. */
#include "health/lease_wire.h"

#define VERSION 1
#define VARINT_MAX 10
#define HEADER 2

/* Ages beyond are nobody's; sums of them cannot overflow. */
#define AGE_MAX (UINT64_C(1) << 53)

/* ---- varints ---- */

static size_t varint(uint8_t *out, uint64_t n)
{
    size_t len = 0;

    while (n >= 0x80) {
        out[len++] = (uint8_t)(n | 0x80);
        n >>= 7;
    }
    out[len++] = (uint8_t)n;
    return len;
}

static void put(struct mr_buf *out, uint64_t n)
{
    uint8_t bytes[VARINT_MAX];

    mr_buf_add(out, bytes, varint(bytes, n));
}

/* Take one varint from the front of @s; false: cut or too long. */
static bool get(struct mr_slice *s, uint64_t *out_n)
{
    const uint8_t *p = s->data;
    uint64_t n = 0;

    for (size_t i = 0; i < s->len && i < VARINT_MAX; i++) {
        if (i == VARINT_MAX - 1 && p[i] > 1) {
            return false; /* Beyond 64 bits. */
        }
        n |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (p[i] < 0x80) {
            *s = mr_slice(p + i + 1, s->len - i - 1);
            *out_n = n;
            return true;
        }
    }
    return false;
}

/* ---- items ---- */

void lease_wire_put_item(struct mr_buf *out, uint64_t *last_id,
                         const struct lease_item *item)
{
    uint8_t bytes[LEASE_ITEM_MAX];
    uint64_t delta = item->id - *last_id;
    uint64_t sign = (uint64_t)0 - (delta >> 63);
    size_t len = varint(bytes, (delta << 1) ^ sign);

    len += varint(bytes + len, item->age_ms << 1 | item->is_real);
    mr_buf_add(out, bytes, len);
    *last_id = item->id;
}

bool lease_wire_next(struct lease_items *items, struct lease_item *out_item)
{
    uint64_t delta, age;

    if (items->rest.len == 0 || !get(&items->rest, &delta) ||
        !get(&items->rest, &age)) {
        return false;
    }
    items->last_id += (delta >> 1) ^ ((uint64_t)0 - (delta & 1));
    *out_item = (struct lease_item){
        .id = items->last_id, .age_ms = age >> 1, .is_real = (age & 1) != 0};
    return true;
}

static bool are_items_good(struct mr_slice bytes)
{
    struct lease_items items = {.rest = bytes};
    struct lease_item item;

    while (items.rest.len > 0) {
        if (!lease_wire_next(&items, &item) || item.id == 0 ||
            item.age_ms >= AGE_MAX) {
            return false;
        }
    }
    return true;
}

static bool are_words_good(struct mr_slice bytes)
{
    const uint8_t *words = bytes.data;

    for (size_t i = 0; i < bytes.len; i++) {
        if (words[i] > LEASE_WORD_LATER) {
            return false;
        }
    }
    return true;
}

/* ---- messages ---- */

void lease_wire_put(struct mr_buf *out, const struct lease_msg *msg)
{
    mr_buf_byte(out, VERSION);
    mr_buf_byte(out, (uint8_t)msg->kind);
    put(out, msg->term);
    put(out, msg->instance);
    put(out, msg->reading);
    put(out, msg->floor);
    switch (msg->kind) {
    case LEASE_RENEW:
    case LEASE_FORWARD:
    case LEASE_ANSWER:
        put(out, msg->seq);
        break;
    case LEASE_ACK:
        put(out, msg->seq);
        put(out, msg->echo);
        break;
    case LEASE_ASK:
        put(out, msg->nonce);
        put(out, msg->cursor);
        break;
    case LEASE_AGES:
        put(out, msg->nonce);
        put(out, msg->cursor);
        put(out, msg->flags);
        put(out, msg->since);
        put(out, msg->contact);
        break;
    }
}

static bool get_fields(struct mr_slice *s, struct lease_msg *m)
{
    switch (m->kind) {
    case LEASE_RENEW:
    case LEASE_FORWARD:
        return get(s, &m->seq) && are_items_good(*s);
    case LEASE_ANSWER:
        return get(s, &m->seq) && are_words_good(*s);
    case LEASE_ACK:
        return get(s, &m->seq) && get(s, &m->echo) && s->len == 0;
    case LEASE_ASK:
        return get(s, &m->nonce) && get(s, &m->cursor) &&
               m->cursor <= UINT32_MAX && s->len == 0;
    case LEASE_AGES:
        return get(s, &m->nonce) && get(s, &m->cursor) &&
               m->cursor <= UINT32_MAX && get(s, &m->flags) &&
               get(s, &m->since) && m->since < AGE_MAX && get(s, &m->contact) &&
               m->contact < AGE_MAX && are_items_good(*s);
    }
    return false;
}

enum mr_err lease_wire_get(struct mr_slice bytes, struct lease_msg *out_msg)
{
    const uint8_t *p = bytes.data;
    struct lease_msg m = {0};
    struct mr_slice rest;

    if (bytes.len < HEADER) {
        return MR_E_INVALID;
    }
    if (p[0] != VERSION) {
        return MR_E_VERSION;
    }
    if (p[1] < LEASE_RENEW || p[1] > LEASE_ANSWER) {
        return MR_E_INVALID;
    }
    m.kind = (enum lease_kind)p[1];
    rest = mr_slice(p + HEADER, bytes.len - HEADER);
    if (!get(&rest, &m.term) || !get(&rest, &m.instance) ||
        !get(&rest, &m.reading) || m.reading >= AGE_MAX ||
        !get(&rest, &m.floor) || m.floor >= AGE_MAX || !get_fields(&rest, &m)) {
        return MR_E_INVALID;
    }
    m.items = rest;
    *out_msg = m;
    return MR_OK;
}
