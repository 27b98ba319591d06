/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent without -server may get into the state by itself. */
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include "base/err.h"
#include "base/slice.h"

/* Who sends a command. */
struct internal_sender {
    const char *node; /* Name and ID of its node; NULL: not said. */
    const char *id;
};

/* Check that the encoded command @bytes concerns the sender's own node and what
 * was registered through it: its node row and serfHealth, services and checks of
 * origin AGENT, their removal, and the leaving of the node. MR_E_INVALID with
 * @detail, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err
internal_check_command(struct mr_slice bytes,
                       const struct internal_sender *sender,
                       struct mr_detail *detail);

#endif /* API_INTERNAL_H */
