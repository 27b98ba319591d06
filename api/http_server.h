/* SPDX-License-Identifier: Apache-2.0 */
/* The listeners and their workers. */
#ifndef API_HTTP_SERVER_H
#define API_HTTP_SERVER_H

#include "api/core.h"

/* Listen on every address of api->options and start the workers. On failure
 * what was started is api_http_stop()'s. Errors as mr_api_start(). */
MR_MUST_CHECK enum mr_err api_http_start(struct mr_api *api,
                                         struct mr_detail *detail);

/* Stop the workers and close the connections, none of which may be suspended.
 */
void api_http_stop(struct mr_api *api);

#endif /* API_HTTP_SERVER_H */
