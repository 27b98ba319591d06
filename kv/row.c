/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and rows as bytes. Nothing here depends on pointers or locales. */
#include "kv/row.h"

#define EMPTY ((char *)protobuf_c_empty_string)

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

bool kv_same_name(const char *a, const char *b)
{
    while (*a != '\0' && lower((uint8_t)*a) == lower((uint8_t)*b)) {
        a++;
        b++;
    }
    return lower((uint8_t)*a) == lower((uint8_t)*b);
}

void kv_key_init(struct kv_row_key *k, enum kv_table table)
{
    k->len = 1;
    k->overflow = false;
    k->bytes[0] = (uint8_t)table;
}

/* Room for @len more bytes, or NULL and the overflow mark. */
static uint8_t *room(struct kv_row_key *k, size_t len)
{
    uint8_t *at = k->bytes + k->len;

    if (k->overflow || len > KV_ROW_KEY_MAX - k->len) {
        k->overflow = true;
        return NULL;
    }
    k->len += len;
    return at;
}

void kv_key_add(struct kv_row_key *k, struct mr_slice part)
{
    uint8_t *at = room(k, part.len);

    if (at != NULL && part.len > 0) {
        memcpy(at, part.data, part.len);
    }
}

void kv_key_text(struct kv_row_key *k, const char *text)
{
    kv_key_add(k, mr_slice_str(text));
}

void kv_key_lower_slice(struct kv_row_key *k, struct mr_slice text)
{
    uint8_t *at = room(k, text.len);
    size_t i;

    for (i = 0; at != NULL && i < text.len; i++) {
        at[i] = lower(((const uint8_t *)text.data)[i]);
    }
}

void kv_key_lower(struct kv_row_key *k, const char *text)
{
    kv_key_lower_slice(k, mr_slice_str(text));
}

void kv_key_byte(struct kv_row_key *k, uint8_t byte)
{
    kv_key_add(k, mr_slice(&byte, 1));
}

void kv_key_u64(struct kv_row_key *k, uint64_t n)
{
    uint8_t bytes[8];
    int i;

    for (i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(n >> (56 - 8 * i));
    }
    kv_key_add(k, mr_slice(bytes, sizeof bytes));
}

uint64_t kv_key_number(struct mr_slice key)
{
    const uint8_t *at = key.data;
    uint64_t n = 0;
    size_t i;

    for (i = 1; i < key.len; i++) {
        n = n << 8 | at[i];
    }
    return n;
}

int kv_key_compare(struct mr_slice a, struct mr_slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.data, b.data, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

bool kv_key_split(struct mr_slice key, struct mr_slice *parts, size_t n)
{
    const uint8_t *at = key.data;
    const uint8_t *end = at + key.len;
    size_t i;

    if (key.len < 1) {
        return false;
    }
    at++;
    for (i = 0; i + 1 < n; i++) {
        const uint8_t *stop = memchr(at, 0, (size_t)(end - at));

        if (stop == NULL) {
            return false;
        }
        parts[i] = mr_slice(at, (size_t)(stop - at));
        at = stop + 1;
    }
    parts[i] = mr_slice(at, (size_t)(end - at));
    return true;
}

uint8_t *kv_write_varint(uint8_t *at, uint64_t n)
{
    while (n >= 0x80) {
        *at++ = (uint8_t)(n | 0x80);
        n >>= 7;
    }
    *at++ = (uint8_t)n;
    return at;
}

void kv_put_varint(struct mr_buf *b, uint64_t n)
{
    uint8_t bytes[KV_VARINT_MAX];

    mr_buf_add(b, bytes, (size_t)(kv_write_varint(bytes, n) - bytes));
}

bool kv_get_varint(struct mr_slice *s, uint64_t *out_n)
{
    const uint8_t *bytes = s->data;
    uint64_t n = 0;
    size_t i;

    for (i = 0; i < s->len && i < 10; i++) {
        n |= (uint64_t)(bytes[i] & 0x7f) << (7 * i);
        if ((bytes[i] & 0x80) == 0) {
            *s = mr_slice(bytes + i + 1, s->len - i - 1);
            *out_n = n;
            return true;
        }
    }
    return false;
}

uint8_t *kv_write_revs(uint8_t *at, struct kv_revs revs)
{
    at = kv_write_varint(at, revs.create);
    return kv_write_varint(at, revs.modify - revs.create);
}

void kv_put_revs(struct mr_buf *b, struct kv_revs revs)
{
    uint8_t bytes[2 * KV_VARINT_MAX];

    mr_buf_add(b, bytes, (size_t)(kv_write_revs(bytes, revs) - bytes));
}

bool kv_get_revs(struct mr_slice *row, struct kv_revs *out_revs)
{
    struct kv_revs revs;

    if (!kv_get_varint(row, &revs.create) ||
        !kv_get_varint(row, &revs.modify)) {
        return false;
    }
    revs.modify += revs.create;
    *out_revs = revs;
    return true;
}

static void pack(struct mr_buf *b, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *at = len == 0 ? NULL : mr_buf_grow(b, len);

    if (at != NULL) {
        (void)protobuf_c_message_pack(message, at); /* Returns @len. */
    }
}

/* @name, or "" when it is its own lower form, which the key holds. */
static char *unless_lower(char *name)
{
    const char *c;

    for (c = name; *c != '\0'; c++) {
        if (lower((uint8_t)*c) != (uint8_t)*c) {
            return name;
        }
    }
    return EMPTY;
}

void kv_pack_node(struct mr_buf *b, const Mr__Node *message)
{
    Mr__Node row = *message;

    row.name = unless_lower(message->name);
    row.create_rev = 0;
    row.modify_rev = 0;
    pack(b, &row.base);
}

void kv_pack_service(struct mr_buf *b, const Mr__Service *message)
{
    Mr__Service row = *message;

    row.node = EMPTY;
    row.id = EMPTY;
    row.name = unless_lower(message->name);
    row.create_rev = 0;
    row.modify_rev = 0;
    pack(b, &row.base);
}

void kv_pack_check(struct mr_buf *b, const Mr__Check *message)
{
    Mr__Check row = *message;

    row.node = EMPTY;
    row.check_id = EMPTY;
    row.service_id = EMPTY;
    row.service_name = EMPTY;
    row.service_tags = NULL;
    row.n_service_tags = 0;
    row.create_rev = 0;
    row.modify_rev = 0;
    pack(b, &row.base);
}

void kv_pack_session(struct mr_buf *b, const Mr__Session *message)
{
    Mr__Session row = *message;

    row.create_rev = 0;
    row.modify_rev = 0;
    pack(b, &row.base);
}

/* ------------------------------------------------------------ members */

/* Take @n bytes off the front of @s. */
static bool skip(struct mr_slice *s, uint64_t n)
{
    if (n > s->len) {
        return false;
    }
    *s = mr_slice((const uint8_t *)s->data + n, s->len - (size_t)n);
    return true;
}

/* Take a member's value off the front of @s; @out_n is that of a number. */
static bool take_member(struct mr_slice *s, unsigned wire_type, uint64_t *out_n)
{
    uint64_t len;

    switch (wire_type) {
    case 0:
        return kv_get_varint(s, out_n);
    case 1:
        return skip(s, 8);
    case 2:
        return kv_get_varint(s, &len) && skip(s, len);
    case 5:
        return skip(s, 4);
    default:
        return false;
    }
}

uint64_t kv_body_u64(struct mr_slice body, enum kv_member member)
{
    uint64_t tag;
    uint64_t n = 0;

    while (kv_get_varint(&body, &tag) &&
           take_member(&body, (unsigned)(tag & 7), &n)) {
        if (tag == (uint64_t)member << 3) {
            return n;
        }
    }
    return 0;
}

struct mr_slice kv_body_bytes(struct mr_slice body, enum kv_member member)
{
    uint64_t tag;
    uint64_t n;

    while (kv_get_varint(&body, &tag)) {
        struct mr_slice value = body;

        if (!take_member(&body, (unsigned)(tag & 7), &n)) {
            break;
        }
        if (tag == ((uint64_t)member << 3 | 2) && kv_get_varint(&value, &n)) {
            return mr_slice(value.data, (size_t)n); /* So much is there. */
        }
    }
    return mr_slice(NULL, 0);
}

/* Take the next of @members, with its number in front, off @body; empty at the
 * end. */
static struct mr_slice next_member(struct mr_slice *body, uint64_t members)
{
    uint64_t tag;
    uint64_t n;

    while (body->len > 0) {
        const uint8_t *start = body->data;

        if (!kv_get_varint(body, &tag) ||
            !take_member(body, (unsigned)(tag & 7), &n)) {
            break;
        }
        if (tag >> 3 < 64 && (members >> (tag >> 3) & 1) != 0) {
            const uint8_t *end = body->data;

            return mr_slice(start, (size_t)(end - start));
        }
    }
    return mr_slice(NULL, 0);
}

bool kv_body_differs(struct mr_slice a, struct mr_slice b, uint64_t members)
{
    struct mr_slice x;
    struct mr_slice y;

    if (mr_slice_eq(a, b)) {
        return false;
    }
    do {
        x = next_member(&a, members);
        y = next_member(&b, members);
        if (!mr_slice_eq(x, y)) {
            return true;
        }
    } while (x.len > 0);
    return false;
}

/* ------------------------------------------------------------ decoding */

/* Decode the body of @row after its revisions; NULL on failure. */
static ProtobufCMessage *unpack(struct kv_arena *a,
                                const ProtobufCMessageDescriptor *type,
                                const struct kv_row *row,
                                struct kv_revs *out_revs)
{
    struct mr_slice body = row->value;

    if (!kv_get_revs(&body, out_revs)) {
        return NULL;
    }
    return protobuf_c_message_unpack(type, &a->pb, body.len, body.data);
}

static enum mr_err unpack_error(const struct kv_arena *a)
{
    return a->failed ? MR_E_NOMEM : MR_E_CORRUPT;
}

enum mr_err kv_unpack_node(struct kv_arena *a, const struct kv_row *row,
                           Mr__Node **out_node)
{
    struct kv_revs revs;
    struct mr_slice name;
    Mr__Node *node = (Mr__Node *)unpack(a, &mr__node__descriptor, row, &revs);

    if (node == NULL || !kv_key_split(row->key, &name, 1)) {
        return unpack_error(a);
    }
    if (node->name[0] == '\0') {
        node->name = kv_arena_text(a, name);
    }
    node->create_rev = revs.create;
    node->modify_rev = revs.modify;
    if (a->failed) {
        return MR_E_NOMEM;
    }
    *out_node = node;
    return MR_OK;
}

enum mr_err kv_unpack_service(struct kv_arena *a, const struct kv_row *row,
                              const char *node, Mr__Service **out_service)
{
    struct kv_revs revs;
    struct mr_slice parts[3]; /* Service, node, ID. */
    Mr__Service *service =
        (Mr__Service *)unpack(a, &mr__service__descriptor, row, &revs);

    if (service == NULL || !kv_key_split(row->key, parts, 3)) {
        return unpack_error(a);
    }
    service->node = (char *)(uintptr_t)node;
    service->id = kv_arena_text(a, parts[2]);
    if (service->name[0] == '\0') {
        service->name = kv_arena_text(a, parts[0]);
    }
    service->create_rev = revs.create;
    service->modify_rev = revs.modify;
    if (a->failed) {
        return MR_E_NOMEM;
    }
    *out_service = service;
    return MR_OK;
}

enum mr_err kv_unpack_check(struct kv_arena *a, const struct kv_row *row,
                            const char *node, const Mr__Service *service,
                            Mr__Check **out_check)
{
    struct kv_revs revs;
    struct mr_slice parts[3]; /* Node, service ID, check ID. */
    Mr__Check *check =
        (Mr__Check *)unpack(a, &mr__check__descriptor, row, &revs);

    if (check == NULL || !kv_key_split(row->key, parts, 3)) {
        return unpack_error(a);
    }
    check->node = (char *)(uintptr_t)node;
    check->check_id = kv_arena_text(a, parts[2]);
    check->service_id = kv_arena_text(a, parts[1]);
    if (service != NULL) {
        check->service_name = service->name;
        check->service_tags = service->tags;
        check->n_service_tags = service->n_tags;
    }
    check->create_rev = revs.create;
    check->modify_rev = revs.modify;
    if (a->failed) {
        return MR_E_NOMEM;
    }
    *out_check = check;
    return MR_OK;
}

enum mr_err kv_unpack_lease(struct kv_arena *a, const struct kv_row *row,
                            Mr__Lease **out_lease)
{
    Mr__Lease *lease =
        mr__lease__unpack(&a->pb, row->value.len, row->value.data);

    if (lease == NULL) {
        return unpack_error(a);
    }
    lease->id = kv_key_number(row->key);
    *out_lease = lease;
    return MR_OK;
}

enum mr_err kv_unpack_session(struct kv_arena *a, const struct kv_row *row,
                              Mr__Session **out_session)
{
    struct kv_revs revs;
    Mr__Session *session =
        (Mr__Session *)unpack(a, &mr__session__descriptor, row, &revs);

    if (session == NULL) {
        return unpack_error(a);
    }
    session->create_rev = revs.create;
    session->modify_rev = revs.modify;
    *out_session = session;
    return MR_OK;
}

enum mr_err kv_unpack_left(struct kv_arena *a, const struct kv_row *row,
                           Mr__Left **out_left)
{
    Mr__Left *left = mr__left__unpack(&a->pb, row->value.len, row->value.data);

    if (left == NULL || left->node == NULL) {
        return unpack_error(a);
    }
    *out_left = left;
    return MR_OK;
}
