/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How keys and rows of the state are written as bytes.
 *
 * All tables lie in one tree; the first byte of a row's key is its table. Rows
 * of the tables below KV_DERIVED are the state: they are in the digest and in
 * snapshots. The tables above follow from them and are rebuilt by a restore.
 *
 *   table          key                                  value
 *   LOCAL          -                                    applied, digest
 *   META           -                                    struct kv_meta
 *   KEY            key (cut and hashed beyond KV_KEY_CUT)   key row, keys.h
 *   GRAVE          deleted key or prefix, cut           revision
 *   NODE           lower(name)                          revs, Node
 *   SERVICE        lower(name) 0 lower(node) 0 id       revs, Service
 *   CHECK          lower(node) 0 service id 0 id        revs, Check
 *   SERVICE_NAME   lower(name)                          index, instances, name
 *   LEASE          ID                                   Lease
 *   SESSION        lower(id)                            revs, Session
 *   LEFT           lower(node)                          Left
 *   GRAVE_REV      revision                             GRAVE key
 *   NODE_ID        lower(id)                            lower(node)
 *   NODE_SERVICE   lower(node) 0 id                     lower(service name)
 *   NODE_CHECK     lower(node) 0 check id               service id
 *   TAG            lower(service name) 0 tag            instances[, tag]
 *   STATE          state, lower(node) 0 check id        service id
 *   ADDRESS        IP, kind, lower(node) 0 id           service name
 *   SESSION_KEY    lower(session) 0 hash of the key     key
 *   NODE_SESSION   lower(node) 0 lower(session)         -
 *   CHECK_SESSION  lower(node) 0 check id 0 lower(session)  -
 *   LOCK_DELAY     hash of the key                      lease ID
 *
 * A row leaves out what its key says.
 */
#ifndef MR_KV_ROW_H
#define MR_KV_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "kv/arena.h"
#include "kv/schema.pb-c.h"

enum kv_table {
    KV_LOCAL = 0x01,
    KV_META = 0x02,
    KV_KEY = 0x10,
    KV_GRAVE = 0x11,
    KV_NODE = 0x20,
    KV_SERVICE = 0x21,
    KV_CHECK = 0x22,
    KV_SERVICE_NAME = 0x23,
    KV_LEASE = 0x30,
    KV_SESSION = 0x31,
    KV_LEFT = 0x32,
    KV_DERIVED = 0x80,
    KV_GRAVE_REV = 0x80,
    KV_NODE_ID = 0x81,
    KV_NODE_SERVICE = 0x82,
    KV_NODE_CHECK = 0x83,
    KV_TAG = 0x84,
    KV_STATE = 0x85,
    KV_ADDRESS = 0x86,
    KV_SESSION_KEY = 0x87,
    KV_NODE_SESSION = 0x88,
    KV_CHECK_SESSION = 0x89,
    KV_LOCK_DELAY = 0x8a
};

/* What LMDB takes as a key. */
#define KV_ROW_KEY_MAX 511

/* Longest names that fit every key they are part of. */
#define KV_NODE_NAME_MAX 180
#define KV_SERVICE_NAME_MAX 160
#define KV_SERVICE_ID_MAX 150
#define KV_CHECK_ID_MAX 178
#define KV_NODE_ID_MAX 64
#define KV_SESSION_ID_MAX 64

/* The key of a row, being built. Parts that do not fit make it overflow; such a
 * key finds nothing, and nothing is ever stored under it. */
struct kv_row_key {
    size_t len;
    bool overflow;
    uint8_t bytes[KV_ROW_KEY_MAX];
};

/* Begin a key of @table. */
void kv_key_init(struct kv_row_key *k, enum kv_table table);
/* Append bytes as they are. */
void kv_key_add(struct kv_row_key *k, struct mr_slice part);
/* Append a text as it is. */
void kv_key_text(struct kv_row_key *k, const char *text);
/* Append a text in lower case (ASCII). */
void kv_key_lower(struct kv_row_key *k, const char *text);
/* As kv_key_lower(). */
void kv_key_lower_slice(struct kv_row_key *k, struct mr_slice text);
/* Append one byte; 0 separates parts, which themselves hold no 0. */
void kv_key_byte(struct kv_row_key *k, uint8_t byte);
/* Append a number so that order is numeric. */
void kv_key_u64(struct kv_row_key *k, uint64_t n);
/* The number behind the table byte of the stored key @key. */
uint64_t kv_key_number(struct mr_slice key);

/* Whether two texts are one name: equal but for case (ASCII). */
bool kv_same_name(const char *a, const char *b);

/* The key's bytes, borrowed; none of a key that overflowed. */
static inline struct mr_slice kv_key_slice(const struct kv_row_key *k)
{
    return mr_slice(k->bytes, k->overflow ? 0 : k->len);
}

/* The order of two stored keys: less than, equal to or greater than 0. */
int kv_key_compare(struct mr_slice a, struct mr_slice b);

/* The parts of the stored key @key behind its table byte, split at 0 bytes. The
 * last part may be anything. False when there are not exactly @n parts. */
bool kv_key_split(struct mr_slice key, struct mr_slice *parts, size_t n);

/* The longest number, as kv_put_varint() writes it. */
#define KV_VARINT_MAX 10

/* Append @n in 1 to KV_VARINT_MAX bytes. */
void kv_put_varint(struct mr_buf *b, uint64_t n);
/* Write @n to @at as kv_put_varint() does; returns where it ends. */
uint8_t *kv_write_varint(uint8_t *at, uint64_t n);
/* Take a number off the front of @s; false when it is cut or too long. */
bool kv_get_varint(struct mr_slice *s, uint64_t *out_n);

/* The revisions at the front of a row. */
struct kv_revs {
    uint64_t create;
    uint64_t modify;
};

/* Append @revs. */
void kv_put_revs(struct mr_buf *b, struct kv_revs revs);
/* Write @revs to @at as kv_put_revs() does; returns where they end. */
uint8_t *kv_write_revs(uint8_t *at, struct kv_revs revs);
/* Take revisions off the front of @row, leaving the body. */
bool kv_get_revs(struct mr_slice *row, struct kv_revs *out_revs);

/* Append the body of a row: @message without what the key says. */
void kv_pack_node(struct mr_buf *b, const Mr__Node *message);
/* As kv_pack_node(). */
void kv_pack_service(struct mr_buf *b, const Mr__Service *message);
/* As kv_pack_node(). */
void kv_pack_check(struct mr_buf *b, const Mr__Check *message);

/* As kv_pack_node(). */
void kv_pack_session(struct mr_buf *b, const Mr__Session *message);

/* Numbers of members that are looked up in a packed body; see schema.proto. */
enum kv_member {
    KV_NODE_SPELLING = 1, /* The name, unless it is as in the key. */
    KV_NODE_TTL = 11,
    KV_NODE_REAP = 12,
    KV_NODE_LEASE = 13,
    KV_SERVICE_SPELLING = 3, /* As KV_NODE_SPELLING. */
    KV_SERVICE_TAGS = 4,
    KV_SERVICE_ORIGIN = 13,
    KV_SERVICE_TTL = 16,
    KV_SERVICE_DIGEST = 17,
    KV_SERVICE_INCARNATION = 18,
    KV_SERVICE_LEASE = 20,
    KV_CHECK_STATUS = 4,
    KV_CHECK_DEFINITION = 11,
    KV_CHECK_ORIGIN = 12,
    KV_CHECK_LEASE = 15,
    KV_DEFINITION_HTTP = 1,
    KV_DEFINITION_METHOD = 2,
    KV_DEFINITION_HEADER = 3,
    KV_DEFINITION_BODY = 4,
    KV_DEFINITION_TLS_SKIP_VERIFY = 5,
    KV_DEFINITION_TCP = 6,
    KV_DEFINITION_INTERVAL = 15,
    KV_DEFINITION_TIMEOUT = 16,
    KV_DEFINITION_DEREGISTER_AFTER = 17,
    KV_LEASE_TTL = 2,
    KV_LEASE_KIND = 3,
    KV_SESSION_LEASE = 11
};

/* The number @member of the packed message @body, 0 when it is absent: without
 * decoding the rest. */
uint64_t kv_body_u64(struct mr_slice body, enum kv_member member);

/* The text or message @member, as kv_body_u64(); empty when it is absent. */
struct mr_slice kv_body_bytes(struct mr_slice body, enum kv_member member);

/* Whether @a and @b, packed messages of one type, differ in any member whose
 * number is a bit of @members. */
bool kv_body_differs(struct mr_slice a, struct mr_slice b, uint64_t members);

/* A stored row, borrowed. */
struct kv_row {
    struct mr_slice key;
    struct mr_slice value;
};

/* Decode a stored row into @a. MR_E_NOMEM, MR_E_CORRUPT. */
MR_MUST_CHECK enum mr_err kv_unpack_node(struct kv_arena *a,
                                         const struct kv_row *row,
                                         Mr__Node **out_node);
/* As kv_unpack_node(). @node (borrowed) is the node's name as people write
 * it. */
MR_MUST_CHECK enum mr_err kv_unpack_service(struct kv_arena *a,
                                            const struct kv_row *row,
                                            const char *node,
                                            Mr__Service **out_service);
/* As kv_unpack_service(). @service, NULL for a check of the node, supplies the
 * service's name and tags. */
MR_MUST_CHECK enum mr_err
kv_unpack_check(struct kv_arena *a, const struct kv_row *row, const char *node,
                const Mr__Service *service, Mr__Check **out_check);
/* As kv_unpack_node(). */
MR_MUST_CHECK enum mr_err kv_unpack_lease(struct kv_arena *a,
                                          const struct kv_row *row,
                                          Mr__Lease **out_lease);
/* As kv_unpack_node(). */
MR_MUST_CHECK enum mr_err kv_unpack_session(struct kv_arena *a,
                                            const struct kv_row *row,
                                            Mr__Session **out_session);
/* As kv_unpack_node(). */
MR_MUST_CHECK enum mr_err kv_unpack_left(struct kv_arena *a,
                                         const struct kv_row *row,
                                         Mr__Left **out_left);

#endif /* MR_KV_ROW_H */
