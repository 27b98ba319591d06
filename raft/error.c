/* SPDX-License-Identifier: Apache-2.0 */
/* The mapping of libraft's error codes. */
#include "raft/error.h"

#include <raft.h>

/* shape: table */
enum mr_err driver_error(int rv)
{
    switch (rv) {
    case 0:
        return MR_OK;
    case RAFT_NOMEM:
        return MR_E_NOMEM;
    case RAFT_BADID:
    case RAFT_NOTFOUND:
        return MR_E_NOTFOUND;
    case RAFT_DUPLICATEID:
    case RAFT_DUPLICATEADDRESS:
        return MR_E_EXISTS;
    case RAFT_BADROLE:
    case RAFT_INVALID:
    case RAFT_NAMETOOLONG:
        return MR_E_INVALID;
    case RAFT_NOTLEADER:
    case RAFT_LEADERSHIPLOST:
        return MR_E_NOTLEADER;
    case RAFT_CANTCHANGE:
    case RAFT_BUSY:
    case RAFT_TOOMANY:
        return MR_E_BUSY;
    case RAFT_TOOBIG:
        return MR_E_TOOBIG;
    case RAFT_NOSPACE:
        return MR_E_NOSPACE;
    case RAFT_IOERR:
        return MR_E_IO;
    case RAFT_CANCELED:
        return MR_E_CANCELED;
    default: /* Malformed, shutdown, corrupt and what newer ones may add. */
        return MR_E_CORRUPT;
    }
}
