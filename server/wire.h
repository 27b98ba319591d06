/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: joins raft/ and kv/, which do not know each other.
 */
#ifndef MR_SERVER_WIRE_H
#define MR_SERVER_WIRE_H

#include "kv/mr_kv.h"
#include "raft/mr_raft.h"

/* The state machine that raft drives, standing on @kv, which is borrowed and
 * must outlive raft. Proposals on that raft must be embedded in a struct
 * mr_write (api/mr_api.h): the result of a command is left there. */
struct mr_raft_fsm server_wire(struct mr_kv *kv);

#endif /* MR_SERVER_WIRE_H */
