/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of a size that go-micro's clients read. */
#ifndef API_WEBSOCKET_MESSAGE_H
#define API_WEBSOCKET_MESSAGE_H

#include "base/buf.h"
#include "base/err.h"

/* The plugin's reader ends, for ever, at a message that is longer. */
#define WEBSOCKET_MESSAGE_MAX ((size_t)16384)

/* @message as it may be sent: itself; or, when it is too long, without what is
 * needed least, and written to @shortened. First the endpoints of the service
 * go, then its metadata, then the longest pairs of the nodes' metadata. What
 * go-micro selects and calls a node by is short and stays; of a node that is
 * deleted, its ID is all that counts.
 *
 * MR_E_TOOBIG: the names alone are too long. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err websocket_message_fit(struct mr_slice message,
                                                struct mr_buf *shortened,
                                                struct mr_slice *out_message);

#endif /* API_WEBSOCKET_MESSAGE_H */
