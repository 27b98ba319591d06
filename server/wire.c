/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of raft: each call is one call of kv. */
#include "server/wire.h"

#include "api/mr_api.h"
#include "base/mem.h"

static enum mr_err begin(void *arg)
{
    return mr_kv_batch_begin(arg);
}

static enum mr_err apply(void *arg, struct mr_slice cmd,
                         struct mr_raft_proposal *own)
{
    struct mr_kv_result unasked;
    struct mr_kv_result *result = &unasked;

    if (own != NULL) {
        result = &mr_container_of(own, struct mr_write, proposal)->result;
    }
    return mr_kv_apply(arg, cmd, result);
}

static enum mr_err commit(void *arg, uint64_t index, uint64_t term)
{
    return mr_kv_batch_commit(arg, index, term);
}

static uint64_t applied(void *arg, uint64_t *out_term)
{
    return mr_kv_applied(arg, out_term);
}

static enum mr_err
write_snapshot(void *arg,
               enum mr_err (*write)(void *ctx, struct mr_slice bytes),
               void *ctx, uint64_t *out_index, uint64_t *out_term)
{
    struct mr_kv_view *view;
    enum mr_err err = mr_kv_view_begin(arg, &view);

    if (err != MR_OK) {
        return err;
    }
    *out_index = mr_kv_view_applied(view, out_term);
    err = mr_kv_snapshot(view, write, ctx);
    mr_kv_view_end(view);
    return err;
}

static enum mr_err read_snapshot(void *arg,
                                 enum mr_err (*read)(void *ctx, void *out,
                                                     size_t cap,
                                                     size_t *out_len),
                                 void *ctx, struct mr_detail *detail)
{
    return mr_kv_restore(arg, read, ctx, detail);
}

struct mr_raft_fsm server_wire(struct mr_kv *kv)
{
    return (struct mr_raft_fsm){
        .arg = kv,
        .begin = begin,
        .apply = apply,
        .commit = commit,
        .applied = applied,
        .write_snapshot = write_snapshot,
        .read_snapshot = read_snapshot,
    };
}
