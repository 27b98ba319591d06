/* SPDX-License-Identifier: Apache-2.0 */
/* From a finished reply to the HTTP library's response object. */
#ifndef API_RESPONSE_H
#define API_RESPONSE_H

#include "api/core.h"

/* A response with the reply of @x and what is rendered in api_out(): indented,
 * compressed and with the headers that its route sends. The caller releases
 * it. *@out_body (may be NULL) is the body as sent, valid as long as the
 * response. NULL: no memory. */
struct MHD_Response *api_response_make(struct api_http *x,
                                       struct mr_slice *out_body);

/* A response to every write that succeeded and says `true`; NULL: no memory. */
struct MHD_Response *api_response_make_true(void);

/* Whether api_response_make_true()'s is what api_response_make() would make. */
bool api_response_is_true(const struct api_http *x);

/* Let go of a response; one that is being sent lives on until it is. NULL is
 * a no-op. */
void api_response_release(struct MHD_Response *response);

#endif /* API_RESPONSE_H */
