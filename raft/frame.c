/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: finding them in a stream, and the handshake's rules. */
#include "raft/frame.h"

#include <stdio.h>

#include "base/mem.h"
#include "raft/frame_codec.h"

/* Position is the number on the wire: only ever add at the end. */
static const enum mr_err wire_errs[] = {
    MR_OK,         MR_E_UNKNOWN, MR_E_NOTLEADER, MR_E_BUSY,
    MR_E_NOLEADER, MR_E_TIMEOUT, MR_E_NOTFOUND,  MR_E_INVALID,
    MR_E_EXISTS,   MR_E_NOSPACE, MR_E_IO,        MR_E_CORRUPT,
    MR_E_NOMEM,    MR_E_CLOSED,  MR_E_CANCELED,  MR_E_VERSION,
};

uint32_t frame_err_to_wire(enum mr_err err)
{
    for (uint32_t i = 0; i < MR_ARRAY_LEN(wire_errs); i++) {
        if (wire_errs[i] == err) {
            return i;
        }
    }
    return 1;
}

enum mr_err frame_err_from_wire(uint32_t n)
{
    return n < MR_ARRAY_LEN(wire_errs) ? wire_errs[n] : MR_E_UNKNOWN;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

enum mr_err frame_parse(struct mr_slice bytes, size_t max, struct frame *out,
                        size_t *out_len)
{
    const uint8_t *p = bytes.data;
    uint32_t head;
    size_t len;

    *out_len = 0;
    if (bytes.len < FRAME_HEAD_LEN) {
        return MR_OK;
    }
    len = (size_t)get32(p) + 4;
    head = get32(p + 8);
    if (len > max) {
        return MR_E_TOOBIG;
    }
    if (len < FRAME_HEAD_LEN || head > len - FRAME_HEAD_LEN || p[6] != 0 ||
        p[7] != 0) {
        return MR_E_CORRUPT;
    }
    if (bytes.len < len) {
        return MR_OK;
    }
    out->type = (uint16_t)(p[4] << 8 | p[5]);
    out->head = mr_slice(p + FRAME_HEAD_LEN, head);
    out->bulk =
        mr_slice(p + FRAME_HEAD_LEN + head, len - FRAME_HEAD_LEN - head);
    *out_len = len;
    return MR_OK;
}

enum frame_refusal frame_check_hello(const struct frame_hello *self,
                                     const struct frame_hello *hello,
                                     char reason[FRAME_REASON_MAX + 1])
{
    size_t cap = FRAME_REASON_MAX + 1;

    if (hello->min_version > self->version ||
        hello->version < self->min_version) {
        (void)snprintf(reason, cap,
                       "protocol version %u to %u is spoken here, not %u to %u",
                       self->min_version, self->version, hello->min_version,
                       hello->version);
        return FRAME_BAD_VERSION;
    }
    if (strcmp(hello->datacenter, self->datacenter) != 0) {
        (void)snprintf(reason, cap, "this is datacenter \"%.100s\"",
                       self->datacenter);
        return FRAME_OTHER_DATACENTER;
    }
    if (hello->self.id == self->self.id) {
        (void)snprintf(reason, cap, "you have called yourself");
        return FRAME_IS_SELF;
    }
    if (hello->to_id != 0 && hello->to_id != self->self.id) {
        (void)snprintf(reason, cap, "another server answers here");
        return FRAME_NOT_HIM;
    }
    if (hello->cluster_id != 0 && self->cluster_id != 0 &&
        hello->cluster_id != self->cluster_id) {
        (void)snprintf(reason, cap, "this is the cluster %016llx, not %016llx",
                       (unsigned long long)self->cluster_id,
                       (unsigned long long)hello->cluster_id);
        return FRAME_OTHER_CLUSTER;
    }
    return FRAME_WELCOMED;
}
