/* SPDX-License-Identifier: Apache-2.0 */
/* The format of a raft entry that holds commands. */
#include "raft/batch.h"

#include <string.h>

#include "base/mem.h"

#define VERSION 1
#define RUN_HEADER 28
#define FIRST_CAP 512

static void put32(uint8_t *p, uint32_t n)
{
    for (int i = 3; i >= 0; i--) {
        p[i] = (uint8_t)n;
        n >>= 8;
    }
}

static void put64(uint8_t *p, uint64_t n)
{
    put32(p, (uint32_t)(n >> 32));
    put32(p + 4, (uint32_t)n);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           (uint32_t)p[3];
}

static uint64_t get64(const uint8_t *p)
{
    return (uint64_t)get32(p) << 32 | get32(p + 4);
}

/* ------------------------------------------------------------- building */

void batch_init(struct batch_builder *b)
{
    *b = (struct batch_builder){0};
}

void batch_deinit(struct batch_builder *b)
{
    driver_blob_unref(b->blob);
    batch_init(b);
}

bool batch_has_room(const struct batch_builder *b, size_t len)
{
    return b->n_commands == 0 ||
           (b->n_commands < BATCH_MAX_COMMANDS &&
            b->len + RUN_HEADER + 4 + len <= BATCH_MAX_BYTES);
}

/* Make room for @more bytes behind what is there. */
static enum mr_err reserve(struct batch_builder *b, size_t more)
{
    size_t cap = b->blob == NULL ? 0 : b->blob->len;
    struct driver_blob *blob;

    if (b->len + more <= cap) {
        return MR_OK;
    }
    cap = cap == 0 ? FIRST_CAP : cap * 2;
    if (cap < b->len + more) {
        cap = b->len + more;
    }
    blob = driver_blob_new(cap);
    if (blob == NULL) {
        return MR_E_NOMEM;
    }
    if (b->blob != NULL) {
        memcpy(blob->data, b->blob->data, b->len);
        driver_blob_unref(b->blob);
    }
    b->blob = blob;
    return MR_OK;
}

static bool continues_run(const struct batch_builder *b, struct batch_id id)
{
    return b->run_at != 0 && id.origin == b->next.origin &&
           id.incarnation == b->next.incarnation && id.seq == b->next.seq;
}

enum mr_err batch_add(struct batch_builder *b, struct batch_id id,
                      struct mr_slice cmd)
{
    enum mr_err err = reserve(b, 1 + RUN_HEADER + 4 + cmd.len);
    uint8_t *p;

    if (err != MR_OK) {
        return err;
    }
    mr_assert(b->blob != NULL); /* Reserved. */
    if (b->len == 0) {
        b->blob->data[b->len++] = VERSION;
    }
    if (!continues_run(b, id)) {
        p = b->blob->data + b->len;
        put64(p, id.origin);
        put64(p + 8, id.incarnation);
        put64(p + 16, id.seq);
        put32(p + 24, 0);
        b->run_at = b->len + 24;
        b->len += RUN_HEADER;
    }
    p = b->blob->data + b->run_at;
    put32(p, get32(p) + 1);
    p = b->blob->data + b->len;
    put32(p, (uint32_t)cmd.len);
    if (cmd.len > 0) {
        memcpy(p + 4, cmd.data, cmd.len);
    }
    b->len += 4 + cmd.len;
    b->n_commands++;
    b->next = id;
    b->next.seq++;
    return MR_OK;
}

struct driver_blob *batch_take(struct batch_builder *b, size_t *out_len)
{
    struct driver_blob *blob = b->blob;

    *out_len = b->len;
    batch_init(b);
    return blob;
}

/* ------------------------------------------------------------- walking */

static void skip(struct mr_slice *s, size_t n)
{
    s->data = (const uint8_t *)s->data + n;
    s->len -= n;
}

/* Read a run's header off @it; MR_E_CORRUPT when there is none. */
static enum mr_err open_run(struct batch_iter *it)
{
    const uint8_t *p = it->rest.data;

    if (it->rest.len < RUN_HEADER) {
        return MR_E_CORRUPT;
    }
    it->id.origin = get64(p);
    it->id.incarnation = get64(p + 8);
    it->id.seq = get64(p + 16);
    it->left = get32(p + 24);
    if (it->left == 0) {
        return MR_E_CORRUPT;
    }
    it->id.seq--; /* batch_next() steps to the first. */
    skip(&it->rest, RUN_HEADER);
    return MR_OK;
}

/* As batch_next(), for bytes that were not checked: MR_E_NOTFOUND at the
 * end. */
static enum mr_err step(struct batch_iter *it)
{
    uint32_t len;
    enum mr_err err;

    if (it->left == 0) {
        if (it->rest.len == 0) {
            return MR_E_NOTFOUND;
        }
        err = open_run(it);
        if (err != MR_OK) {
            return err;
        }
    }
    if (it->rest.len < 4) {
        return MR_E_CORRUPT;
    }
    len = get32(it->rest.data);
    skip(&it->rest, 4);
    if (len > it->rest.len || len > MR_RAFT_COMMAND_MAX) {
        return MR_E_CORRUPT;
    }
    it->cmd = mr_slice(it->rest.data, len);
    skip(&it->rest, len);
    it->left--;
    it->id.seq++;
    return MR_OK;
}

enum mr_err batch_open(struct mr_slice entry, struct batch_iter *out_iter,
                       size_t *out_n)
{
    struct batch_iter begin = {.rest = entry};
    struct batch_iter it;
    enum mr_err err;
    size_t n = 0;

    if (entry.len < 1) {
        return MR_E_CORRUPT;
    }
    if (*(const uint8_t *)entry.data != VERSION) {
        return *(const uint8_t *)entry.data > VERSION ? MR_E_VERSION
                                                      : MR_E_CORRUPT;
    }
    skip(&begin.rest, 1);
    it = begin;
    while ((err = step(&it)) == MR_OK) {
        n++;
    }
    if (err != MR_E_NOTFOUND || n == 0) {
        return MR_E_CORRUPT;
    }
    *out_iter = begin;
    if (out_n != NULL) {
        *out_n = n;
    }
    return MR_OK;
}

bool batch_next(struct batch_iter *it)
{
    return step(it) == MR_OK;
}
