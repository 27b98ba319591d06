/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a blocking query whose index has passed has any news. */
#ifndef API_SILENCE_H
#define API_SILENCE_H

#include "api/core.h"

/* Whether the index of what has been rendered counts more than what the answer
 * shows, so that it may pass without a change of the answer. Worker. */
bool api_has_coarse_index(const struct api_http *x);

/* Whether nothing that such an answer, which depends on @topic, shows has
 * changed since the index that the client has, up to @revision at least. False
 * also when nobody knows. Worker. */
bool api_nothing_changed(const struct api_http *x,
                         const struct api_topic *topic, uint64_t revision);

#endif /* API_SILENCE_H */
