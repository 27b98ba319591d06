/* SPDX-License-Identifier: Apache-2.0 */
/* What frame.c, frame_put.c and frame_get.c share and nobody else needs. */
#ifndef RAFT_FRAME_CODEC_H
#define RAFT_FRAME_CODEC_H

#include <stdint.h>

#include "base/err.h"

/* The number under which @err travels; it does not change with enum mr_err. */
uint32_t frame_err_to_wire(enum mr_err err);

/* The error of a number; MR_E_UNKNOWN for one that we do not know. */
enum mr_err frame_err_from_wire(uint32_t n);

#endif /* RAFT_FRAME_CODEC_H */
