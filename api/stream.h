/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that do not end: a watch stream as the body of an HTTP answer.
 *
 * The library asks for bytes; when there are none the connection is suspended
 * and the park resumes it: when the feed has news, when a progress mark is due,
 * when the client went away, and when the service ends.
 */
#ifndef API_STREAM_H
#define API_STREAM_H

#include "api/core.h"
#include "api/watch_spec.h"

struct api_stream;

/* Make the answer of @req a stream of what @spec says, from @view on, with a
 * progress mark after so many milliseconds of silence. Errors as
 * api_reader_open(). Worker. */
MR_MUST_CHECK enum mr_err api_stream_begin(struct api_request *req,
                                           const struct api_watch_spec *spec,
                                           struct mr_kv_view *view,
                                           uint64_t progress_ms);

/* The library's response for x->stream, without headers; NULL: no memory. */
struct MHD_Response *api_stream_response(struct api_http *x);

/* End x->stream; a no-op without one. Nobody may read from it any more. */
void api_stream_end(struct api_http *x);

#endif /* API_STREAM_H */
