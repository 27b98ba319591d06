/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deriving the tables above KV_DERIVED from the others, after a restore.
 *
 * Rows are read in chunks, each under a reader of its own that is let go before
 * the chunk's transaction commits, so that pages can be reused meanwhile.
 */
#include "kv/catalog.h"
#include "kv/keys.h"
#include "kv/locks.h"
#include "kv/sessions.h"
#include "kv/snapshot.h"

#define CHUNK_ROWS 2048

struct rebuild {
    struct kv_tx reader;
    struct kv_tx writer;
    struct kv_arena arena;
    struct kv_tallies tallies;
};

static const char *text_of(struct rebuild *r, struct mr_slice s)
{
    const char *text = kv_arena_text(&r->arena, s);

    return text == NULL ? "" : text;
}

static enum mr_err derive_node(struct rebuild *r, const struct kv_row *row)
{
    Mr__Node *node;
    enum mr_err err = kv_unpack_node(&r->arena, row, &node);

    if (err == MR_OK) {
        kv_index_node(&r->writer, node, true);
    }
    return err;
}

static enum mr_err derive_service(struct rebuild *r, const struct kv_row *row)
{
    struct mr_slice parts[3]; /* Service, node, ID. */
    Mr__Service *service;
    enum mr_err err;

    if (!kv_key_split(row->key, parts, 3)) {
        return MR_E_CORRUPT;
    }
    err = kv_unpack_service(&r->arena, row, text_of(r, parts[1]), &service);
    if (err == MR_OK) {
        kv_index_service(&r->writer, &r->tallies, service, true);
    }
    return err;
}

static enum mr_err derive_check(struct rebuild *r, const struct kv_row *row)
{
    struct mr_slice parts[3]; /* Node, service ID, ID. */
    Mr__Check *check;
    enum mr_err err;

    if (!kv_key_split(row->key, parts, 3)) {
        return MR_E_CORRUPT;
    }
    err = kv_unpack_check(&r->arena, row, text_of(r, parts[0]), NULL, &check);
    if (err == MR_OK) {
        kv_index_check(&r->writer, check, true);
    }
    return err;
}

static enum mr_err derive_grave(struct rebuild *r, const struct kv_row *row)
{
    struct mr_slice value = row->value;
    struct kv_row_key k;
    uint64_t rev;

    if (!kv_get_varint(&value, &rev)) {
        return MR_E_CORRUPT;
    }
    kv_key_init(&k, KV_GRAVE_REV);
    kv_key_u64(&k, rev);
    kv_tx_put(&r->writer, kv_key_slice(&k), row->key);
    return MR_OK;
}

static enum mr_err derive_lease(struct rebuild *r, const struct kv_row *row)
{
    Mr__Lease *lease;
    enum mr_err err = kv_unpack_lease(&r->arena, row, &lease);

    if (err == MR_OK && lease->kind == MR__LEASE_KIND__LEASE_LOCK_DELAY) {
        kv_index_lock_delay(&r->writer,
                            mr_slice(lease->key.data, lease->key.len),
                            lease->id, true);
    }
    return err;
}

static enum mr_err derive_key(struct rebuild *r, const struct kv_row *row)
{
    struct kv_key_row key;

    if (!kv_key_unpack(row, &key)) {
        return MR_E_CORRUPT;
    }
    if (key.session.len > 0) {
        kv_index_lock(&r->writer, key.session, key.key, true);
    }
    return MR_OK;
}

static enum mr_err derive_left(struct rebuild *r, const struct kv_row *row)
{
    Mr__Left *left;

    return kv_unpack_left(&r->arena, row, &left); /* Only a look. */
}

static enum mr_err derive_session(struct rebuild *r, const struct kv_row *row)
{
    Mr__Session *session;
    enum mr_err err = kv_unpack_session(&r->arena, row, &session);

    if (err == MR_OK) {
        kv_index_session(&r->writer, session, true);
    }
    return err;
}

static enum mr_err derive(struct rebuild *r, const struct kv_row *row)
{
    switch (*(const uint8_t *)row->key.data) {
    case KV_KEY:
        return derive_key(r, row);
    case KV_GRAVE:
        return derive_grave(r, row);
    case KV_NODE:
        return derive_node(r, row);
    case KV_SERVICE:
        return derive_service(r, row);
    case KV_CHECK:
        return derive_check(r, row);
    case KV_LEASE:
        return derive_lease(r, row);
    case KV_SESSION:
        return derive_session(r, row);
    case KV_LEFT:
        return derive_left(r, row);
    default:
        return MR_OK; /* Nothing follows from it. */
    }
}

/* Derive what follows from up to CHUNK_ROWS rows from @from on, and move @from
 * behind them; *@out_done when there are no more. */
static enum mr_err derive_chunk(struct rebuild *r, struct kv_row_key *from,
                                bool *out_done)
{
    struct kv_scan scan;
    struct kv_row row;
    enum mr_err err = MR_OK;
    size_t n;

    kv_arena_reset(&r->arena);
    kv_scan_open_from(&scan, &r->reader, kv_key_slice(from));
    for (n = 0; err == MR_OK; n++) {
        if (!kv_scan_next(&scan, &row) ||
            *(const uint8_t *)row.key.data >= KV_DERIVED) {
            *out_done = true;
            break;
        }
        if (n == CHUNK_ROWS) {
            from->len = row.key.len;
            memcpy(from->bytes, row.key.data, row.key.len);
            break;
        }
        err = derive(r, &row);
    }
    kv_scan_close(&scan);
    return err == MR_OK ? r->reader.err : err;
}

static enum mr_err run_chunk(struct kv_env *env, struct rebuild *r,
                             struct kv_row_key *from, bool *out_done)
{
    enum mr_err err = kv_tx_begin_read(env, &r->reader);

    if (err != MR_OK) {
        return err;
    }
    err = kv_tx_begin_write(env, &r->writer);
    if (err != MR_OK) {
        kv_tx_end_read(&r->reader);
        return err;
    }
    err = derive_chunk(r, from, out_done);
    kv_tx_end_read(&r->reader);
    if (err != MR_OK) {
        kv_tx_fail(&r->writer, err);
    }
    kv_tallies_flush(&r->tallies, &r->writer);
    return kv_tx_commit(&r->writer);
}

enum mr_err kv_rebuild_derived(struct kv_env *env)
{
    struct rebuild r;
    struct kv_row_key from;
    enum mr_err err = MR_OK;
    bool is_done = false;

    kv_arena_init(&r.arena);
    kv_tallies_init(&r.tallies);
    kv_key_init(&from, KV_KEY);
    while (err == MR_OK && !is_done) {
        err = run_chunk(env, &r, &from, &is_done);
    }
    kv_tallies_deinit(&r.tallies);
    kv_arena_deinit(&r.arena);
    return err;
}
