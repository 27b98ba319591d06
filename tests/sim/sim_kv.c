/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real store beside the state machine, in some runs: fed with the same
 * commands, snapshotted, restored, lost and compared.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "kv/mr_kv.h"
#include "tests/sim/sim.h"

struct sim_kv {
    char dir[32];
    struct mr_kv *kv;
};

struct sim_kv *sim_kv_new(void)
{
    struct sim_kv *k = calloc(1, sizeof *k);
    struct mr_kv_options options = {.boot_id = "boot",
                                    .map_size = (uint64_t)1 << 28};
    struct mr_detail detail = {""};

    mr_assert(k != NULL);
    strcpy(k->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/mrsimXXXXXX"
                                                 : "/tmp/mrsimXXXXXX");
    mr_assert(mkdtemp(k->dir) != NULL);
    options.dir = k->dir;
    mr_assert(mr_kv_open(&options, &k->kv, &detail) == MR_OK);
    return k;
}

void sim_kv_free(struct sim_kv *k)
{
    static const char *const names[] = {"state.mdb",   "state.mdb-lock",
                                        "restore.mdb", "restore.mdb-lock",
                                        "base.mdb",    "open"};
    char path[64];

    if (k == NULL) {
        return;
    }
    mr_kv_close(k->kv);
    for (size_t i = 0; i < MR_ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", k->dir, names[i]);
        (void)unlink(path); /* Not all of them need exist. */
    }
    (void)rmdir(k->dir); /* What is left over is seen in /dev/shm. */
    free(k);
}

enum mr_err sim_kv_begin(struct sim_kv *k)
{
    return mr_kv_batch_begin(k->kv);
}

enum mr_err sim_kv_apply(struct sim_kv *k, struct mr_slice cmd)
{
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__KeyDelete gone = MR__KEY_DELETE__INIT;
    Mr__Command command = MR__COMMAND__INIT;
    struct mr_buf b = MR_BUF_INIT;
    struct mr_kv_result result;
    uint64_t words[2];
    char key[32];
    enum mr_err err;

    memcpy(words, cmd.data, sizeof words); /* Checked by the oracle. */
    (void)snprintf(key, sizeof key, "sim/%u/%u", (unsigned)(words[1]),
                   (unsigned)(words[0] % 7));
    if (words[0] % 5 == 0) {
        gone.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
        command.op_case = MR__COMMAND__OP_KEY_DELETE;
        command.key_delete = &gone;
    } else {
        put.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
        put.value.data = (uint8_t *)(uintptr_t)cmd.data;
        put.value.len = cmd.len;
        command.op_case = MR__COMMAND__OP_KEY_PUT;
        command.key_put = &put;
    }
    mr_kv_command_encode(&command, &b);
    err = mr_buf_failed(&b) ? MR_E_NOMEM
                            : mr_kv_apply(k->kv, mr_buf_slice(&b), &result);
    mr_buf_deinit(&b);
    return err;
}

enum mr_err sim_kv_commit(struct sim_kv *k, uint64_t index, uint64_t term)
{
    return mr_kv_batch_commit(k->kv, index, term);
}

static enum mr_err collect(void *arg, struct mr_slice bytes)
{
    mr_buf_add(arg, bytes.data, bytes.len);
    return MR_OK;
}

struct driver_blob *sim_kv_snapshot(struct sim_kv *k)
{
    struct mr_buf b = MR_BUF_INIT;
    struct mr_kv_view *view = NULL;
    struct driver_blob *blob = NULL;

    if (mr_kv_view_begin(k->kv, &view) == MR_OK &&
        mr_kv_snapshot(view, collect, &b) == MR_OK && !mr_buf_failed(&b)) {
        blob = driver_blob_new(b.len);
        mr_assert(blob != NULL);
        memcpy(blob->data, b.data, b.len);
    }
    mr_kv_view_end(view);
    mr_buf_deinit(&b);
    return blob;
}

struct source {
    const struct driver_blob *blob;
    size_t at;
};

static enum mr_err supply(void *arg, void *out, size_t cap, size_t *out_len)
{
    struct source *s = arg;
    size_t left = s->blob->len - s->at;
    size_t n = left < cap ? left : cap;

    memcpy(out, s->blob->data + s->at, n);
    s->at += n;
    *out_len = n;
    return MR_OK;
}

enum mr_err sim_kv_restore(struct sim_kv *k, const struct driver_blob *blob)
{
    struct source s = {blob, 0};
    struct mr_detail detail = {""};

    return mr_kv_restore(k->kv, supply, &s, &detail);
}

uint64_t sim_kv_index(struct sim_kv *k)
{
    return mr_kv_applied(k->kv, NULL);
}

bool sim_kv_equal(struct sim_kv *a, struct sim_kv *b)
{
    struct mr_hash128 x = mr_kv_digest(a->kv, NULL);
    struct mr_hash128 y = mr_kv_digest(b->kv, NULL);
    struct mr_hash128 real;

    return x.high == y.high && x.low == y.low &&
           mr_kv_digest_verify(a->kv, &real) == MR_OK && real.high == x.high &&
           real.low == x.low;
}
