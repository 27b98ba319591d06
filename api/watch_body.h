/* SPDX-License-Identifier: Apache-2.0 */
/* What POST /registry/watch takes: the services of one stream. */
#ifndef API_WATCH_BODY_H
#define API_WATCH_BODY_H

#include "api/decode.h"
#include "api/watch_spec.h"

/* Decode and check @body into @out, which has room for API_WATCH_NAMES_MAX: the
 * names sorted, each once (the least index counts). What they point to is @d's.
 *
 * MR_E_INVALID: d->error says why. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err watch_body_names(struct decode *d,
                                           struct mr_slice body,
                                           struct api_watch_name *out,
                                           size_t *out_n);

#endif /* API_WATCH_BODY_H */
