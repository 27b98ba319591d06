/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at the log's LMDB file before LMDB maps it and believes it.
 */
#ifndef RAFT_LOGCHECK_H
#define RAFT_LOGCHECK_H

#include "base/err.h"

/* Check the structure of the LMDB file in the folder @dir, which nobody may
 * write meanwhile. A folder without the file is fine.
 *
 * MR_E_CORRUPT: damaged. MR_E_IO: it cannot be read. */
MR_MUST_CHECK enum mr_err logcheck(const char *dir, struct mr_detail *detail);

#endif /* RAFT_LOGCHECK_H */
