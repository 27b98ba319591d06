/* SPDX-License-Identifier: Apache-2.0 */
/* What a server answered to grpc.health.v1.Health/Check. */
#ifndef HEALTH_CHECK_GRPC_H
#define HEALTH_CHECK_GRPC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"

#define CHECK_GRPC_STATUS_NONE (-1)

/* The members of the answer, as they come in: headers, body, trailers. */
struct check_grpc_answer {
    int status;        /* grpc-status, or CHECK_GRPC_STATUS_NONE. */
    char message[256]; /* grpc-message, decoded. */
};

/* Begin an answer. */
void check_grpc_answer_init(struct check_grpc_answer *answer);

/* Note the header or trailer @line ("name: value\r\n"). */
void check_grpc_header(struct check_grpc_answer *answer, struct mr_slice line);

/* Append the message of the question for @service as it is sent. */
void check_grpc_encode(const char *service, struct mr_buf *out);

/* Whether @body, the whole answer, says SERVING. Anything may stand in it. */
bool check_grpc_is_serving(struct mr_slice body);

/* gRPC's name of a status code: static. */
const char *check_grpc_code_name(int code);

#endif /* HEALTH_CHECK_GRPC_H */
