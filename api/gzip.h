/* SPDX-License-Identifier: Apache-2.0 */
/* Compressing an answer. */
#ifndef API_GZIP_H
#define API_GZIP_H

#include <stdbool.h>

#include "base/buf.h"

/* Append @plain as one gzip member to @out. The compressor's state is kept for
 * the calling thread; see api_gzip_release().
 *
 * MR_E_NOMEM: @out has failed as well then, or there is no state. */
MR_MUST_CHECK enum mr_err api_gzip(struct mr_slice plain, struct mr_buf *out);

/* Release the calling thread's compressor. */
void api_gzip_release(void);

/* Whether the header Accept-Encoding @value (may be NULL) takes gzip: named,
 * and not with q=0. "*" does not count, as in Consul. */
bool api_accepts_gzip(const char *value);

#endif /* API_GZIP_H */
