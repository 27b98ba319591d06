/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying commands: decode, dispatch, account for revisions, commit.
 *
 * A batch is one write transaction. Each command that changes something takes
 * the next revision; the counters, the digest and the raft position are written
 * once, when the batch commits. The first failure sticks: nothing of the batch
 * becomes visible, and the caller has to stop.
 */
#include <stdarg.h>
#include <stdio.h>

#include "kv/kv.h"
#include "kv/record.h"

/* ------------------------------------------------------------ decoding */

static bool has_unknown(const ProtobufCMessage *message)
{
    return message != NULL && message->n_unknown_fields > 0;
}

static bool register_has_unknown(const Mr__Register *reg)
{
    size_t i;

    if (has_unknown(&reg->base) ||
        (reg->node != NULL && has_unknown(&reg->node->base))) {
        return true;
    }
    for (i = 0; i < reg->n_services; i++) {
        if (has_unknown(&reg->services[i]->base)) {
            return true;
        }
    }
    for (i = 0; i < reg->n_checks; i++) {
        const Mr__Check *check = reg->checks[i];

        if (has_unknown(&check->base) ||
            (check->definition != NULL &&
             has_unknown(&check->definition->base))) {
            return true;
        }
    }
    return false;
}

static bool lease_end_has_unknown(const Mr__LeaseEnd *end)
{
    size_t i;

    for (i = 0; i < end->n_leases; i++) {
        if (has_unknown(&end->leases[i]->base)) {
            return true;
        }
    }
    return has_unknown(&end->base);
}

/* Whether a newer version wrote something here that this one would lose. */
static bool command_has_unknown(const Mr__Command *cmd)
{
    if (has_unknown(&cmd->base)) {
        return true;
    }
    switch (cmd->op_case) {
    case MR__COMMAND__OP_KEY_PUT:
        return has_unknown(&cmd->key_put->base);
    case MR__COMMAND__OP_KEY_DELETE:
        return has_unknown(&cmd->key_delete->base);
    case MR__COMMAND__OP_REGISTER:
        return register_has_unknown(cmd->register_);
    case MR__COMMAND__OP_DEREGISTER:
        return has_unknown(&cmd->deregister->base);
    case MR__COMMAND__OP_CHECK_UPDATE:
        return has_unknown(&cmd->check_update->base);
    case MR__COMMAND__OP_LEASE_END:
        return lease_end_has_unknown(cmd->lease_end);
    case MR__COMMAND__OP_SESSION_CREATE:
        return has_unknown(&cmd->session_create->base) ||
               (cmd->session_create->session != NULL &&
                has_unknown(&cmd->session_create->session->base));
    case MR__COMMAND__OP_SESSION_DESTROY:
        return has_unknown(&cmd->session_destroy->base);
    case MR__COMMAND__OP__NOT_SET:
    case _MR__COMMAND__OP__CASE_IS_INT_SIZE:
        break;
    }
    return false;
}

static enum mr_err decode(struct kv_arena *arena, struct mr_slice bytes,
                          Mr__Command **out_cmd)
{
    Mr__Command *cmd = (Mr__Command *)protobuf_c_message_unpack(
        &mr__command__descriptor, &arena->pb, bytes.len, bytes.data);

    if (cmd == NULL) {
        return arena->failed ? MR_E_NOMEM : MR_E_CORRUPT;
    }
    if (cmd->version > MR_KV_COMMAND_VERSION || command_has_unknown(cmd)) {
        return MR_E_VERSION;
    }
    if (cmd->version == 0 || cmd->op_case == MR__COMMAND__OP__NOT_SET) {
        return MR_E_CORRUPT;
    }
    *out_cmd = cmd;
    return MR_OK;
}

void mr_kv_command_encode(Mr__Command *cmd, struct mr_buf *out)
{
    uint8_t *at;

    cmd->version = MR_KV_COMMAND_VERSION;
    at = mr_buf_grow(out, mr__command__get_packed_size(cmd));
    if (at != NULL) {
        (void)mr__command__pack(cmd, at); /* Returns the length asked for. */
    }
}

/* ------------------------------------------------------------ for commands */

uint64_t kv_batch_revision(struct kv_batch *b)
{
    if (!b->result->changed) {
        b->result->changed = true;
        b->meta.revision++;
    }
    return b->meta.revision;
}

void kv_batch_refuse(struct kv_batch *b, const char *fmt, ...)
{
    struct mr_kv_result *result = b->result;
    va_list ap;

    mr_assert(!result->changed);
    result->verdict = MR_KV_REFUSED;
    va_start(ap, fmt);
    (void)vsnprintf(result->text, sizeof result->text, fmt, ap);
    va_end(ap);
}

void kv_batch_write(struct kv_batch *b, struct mr_slice key,
                    const struct mr_slice *old, struct mr_slice body,
                    uint64_t create_rev)
{
    struct kv_revs revs = {create_rev, kv_batch_revision(b)};

    revs.create = revs.create == 0 ? revs.modify : revs.create;
    mr_buf_reset(&b->row);
    kv_put_revs(&b->row, revs);
    mr_buf_add(&b->row, body.data, body.len);
    if (mr_buf_failed(&b->row)) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
        return;
    }
    kv_tx_swap(&b->tx, key, old, mr_buf_slice(&b->row));
}

enum kv_found kv_batch_compare(struct kv_batch *b, struct mr_slice key,
                               struct mr_slice body, struct mr_slice *out_old,
                               struct kv_revs *out_revs)
{
    struct mr_slice rest;

    *out_revs = (struct kv_revs){0, 0};
    if (!kv_tx_get(&b->tx, key, out_old)) {
        return KV_ABSENT;
    }
    rest = *out_old;
    if (!kv_get_revs(&rest, out_revs)) {
        kv_tx_fail(&b->tx, MR_E_CORRUPT);
    }
    return mr_slice_eq(rest, body) ? KV_SAME : KV_OTHER;
}

void kv_batch_rewrite(struct kv_batch *b, struct mr_slice key,
                      struct mr_slice old, struct mr_slice body,
                      struct kv_revs revs)
{
    (void)kv_batch_revision(b); /* The row is in the digest. */
    mr_buf_reset(&b->row);
    kv_put_revs(&b->row, revs);
    mr_buf_add(&b->row, body.data, body.len);
    if (mr_buf_failed(&b->row)) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
        return;
    }
    kv_tx_swap(&b->tx, key, &old, mr_buf_slice(&b->row));
}

void kv_batch_touch(struct kv_batch *b, enum mr_kv_topic_kind kind,
                    struct mr_slice name)
{
    kv_touch(&b->touched, kind, name);
    if (kind == MR_KV_TOPIC_NODES || kind == MR_KV_TOPIC_SERVICES ||
        kind == MR_KV_TOPIC_CHECKS) {
        kv_touch(&b->touched, MR_KV_TOPIC_CATALOG, name);
    }
}

/* ------------------------------------------------------------ batches */

enum mr_err mr_kv_batch_begin(struct mr_kv *kv)
{
    struct kv_batch *b = &kv->batch;
    enum mr_err err;

    mr_assert(!b->is_open);
    err = kv_tx_begin_write(kv_current_env(kv), &b->tx);
    if (err != MR_OK) {
        return err;
    }
    b->is_open = true;
    b->meta = kv->meta; /* Only this thread writes it. */
    b->tx.digest = kv->local.digest;
    b->commands = 0;
    b->hooks = &kv->hooks;
    b->ending = NULL;
    b->check_gap.is_known = false;
    kv_tallies_reset(&b->tallies);
    kv_pending_reset(&b->pending);
    mr_buf_reset(&b->twins.gone);
    b->tx.capture = &b->capture;
    mr_buf_reset(&b->leases);
    kv_touched_reset(&b->touched);
    return MR_OK;
}

void kv_batch_abort(struct kv_batch *b)
{
    if (b->is_open) {
        kv_tx_abort(&b->tx);
        b->is_open = false;
    }
}

static void dispatch(struct kv_batch *b, const Mr__Command *cmd)
{
    switch (cmd->op_case) {
    case MR__COMMAND__OP_KEY_PUT:
        kv_keys_put(b, cmd->key_put);
        break;
    case MR__COMMAND__OP_KEY_DELETE:
        kv_keys_delete(b, cmd->key_delete);
        break;
    case MR__COMMAND__OP_REGISTER:
        kv_catalog_register(b, cmd->register_);
        break;
    case MR__COMMAND__OP_DEREGISTER:
        kv_catalog_deregister(b, cmd->deregister);
        break;
    case MR__COMMAND__OP_CHECK_UPDATE:
        kv_catalog_check_update(b, cmd->check_update);
        break;
    case MR__COMMAND__OP_LEASE_END:
        kv_lease_end(b, cmd->lease_end);
        break;
    case MR__COMMAND__OP_SESSION_CREATE:
        kv_session_create(b, cmd->session_create);
        break;
    case MR__COMMAND__OP_SESSION_DESTROY:
        kv_session_destroy(b, cmd->session_destroy);
        break;
    case MR__COMMAND__OP__NOT_SET:
    case _MR__COMMAND__OP__CASE_IS_INT_SIZE:
        break; /* decode() refuses it. */
    }
}

enum mr_err mr_kv_apply(struct mr_kv *kv, struct mr_slice cmd,
                        struct mr_kv_result *out_result)
{
    struct kv_batch *b = &kv->batch;
    struct mr_kv_result result = {.verdict = MR_KV_DONE};
    Mr__Command *decoded = NULL;
    enum mr_err err;

    mr_assert(b->is_open);
    kv_arena_reset(&b->arena);
    err = decode(&b->arena, cmd, &decoded);
    if (err == MR_OK) {
        b->result = &result;
        b->cmd = decoded;
        b->bumped = NULL;
        kv_capture_begin(&b->capture, &b->arena, b->pending.max_bytes);
        kv_tallies_begin(&b->tallies);
        dispatch(b, decoded);
        if (result.changed && b->tx.err == MR_OK && !b->arena.failed) {
            kv_record(b);
        }
        b->result = NULL;
        b->cmd = NULL;
        err = b->tx.err;
    }
    if (err == MR_OK && (b->arena.failed || mr_buf_failed(&b->body))) {
        err = MR_E_NOMEM;
    }
    if (err != MR_OK) {
        kv_tx_fail(&b->tx, err);
        return err;
    }
    b->commands++;
    result.revision = b->meta.revision;
    *out_result = result;
    return MR_OK;
}

static void tell_leases(struct mr_kv *kv)
{
    const struct mr_kv_lease_change *changes = (void *)kv->batch.leases.data;
    size_t n = kv->batch.leases.len / sizeof *changes;

    if (n > 0) {
        kv->hooks.leases(kv->hooks.arg, changes, n);
    }
}

enum mr_err mr_kv_batch_commit(struct mr_kv *kv, uint64_t index, uint64_t term)
{
    struct kv_batch *b = &kv->batch;
    struct kv_local local = {index, term, {0, 0}};
    bool is_changed = b->meta.revision != kv->meta.revision;
    enum mr_err err;

    mr_assert(b->is_open);
    if (is_changed) {
        kv_tallies_flush(&b->tallies, &b->tx);
        kv_meta_store(&b->tx, &b->meta);
    }
    local.digest = b->tx.digest;
    kv_local_store(&b->tx, &local);
    if (b->tx.err == MR_OK && is_changed) {
        kv_hub_announce(&kv->hub, &b->touched, b->meta.revision);
    }
    kv_pool_note(atomic_load(&kv->pool), kv_tx_id(&b->tx), &b->meta, &local);
    b->is_open = false;
    err = kv_tx_commit(&b->tx);
    if (err != MR_OK) {
        return err;
    }
    kv_history_publish(&kv->history, &b->pending, b->meta.revision);
    kv_publish(kv, &b->meta, &local, b->commands);
    if (is_changed) {
        kv_hub_publish(&kv->hub, b->meta.revision);
    }
    kv_twins_commit(&b->twins);
    tell_leases(kv);
    kv_arena_reset(&b->arena); /* What was captured may be large. */
    return MR_OK;
}
