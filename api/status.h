/* SPDX-License-Identifier: Apache-2.0 */
/* From our errors to HTTP's. */
#ifndef API_STATUS_H
#define API_STATUS_H

#include "base/err.h"

struct api_status {
    unsigned code;
    const char *text;        /* Static. */
    const char *retry_after; /* Seconds for Retry-After, or NULL. */
};

/* What a client is told about @err. */
struct api_status api_status_of(enum mr_err err);

#endif /* API_STATUS_H */
