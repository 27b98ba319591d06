/* SPDX-License-Identifier: Apache-2.0 */
/* error: libraft's codes stop here. */
#ifndef MR_RAFT_ERROR_H
#define MR_RAFT_ERROR_H

#include "base/err.h"

/* The code for what libraft returned; 0 is MR_OK. */
enum mr_err driver_error(int rv);

#endif /* MR_RAFT_ERROR_H */
