/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC over HTTP/2, as much of it as a health check needs: one message with
 * five bytes before it, and the status in the trailers. */
#include "health/check_grpc.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "health/grpc_health.pb-c.h"

#define PREFIX_LEN 5 /* Compressed or not, and the length. */
#define SERVING 1
#define UNKNOWN_CODE 2

static const char *const code_names[] = {
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
};

const char *check_grpc_code_name(int code)
{
    return code >= 0 && code < (int)MR_ARRAY_LEN(code_names)
               ? code_names[code]
               : code_names[UNKNOWN_CODE];
}

void check_grpc_answer_init(struct check_grpc_answer *answer)
{
    answer->status = CHECK_GRPC_STATUS_NONE;
    answer->message[0] = '\0';
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *at = memchr(digits, c, sizeof digits - 1);
    int n = at == NULL ? -1 : (int)(at - digits);

    return n < 16 ? n : n - 6;
}

/* Copy the percent-encoded text @from. */
static void decode_message(char *out, size_t cap, const char *from, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len && n + 1 < cap; i++) {
        int high = i + 2 < len ? hex_digit(from[i + 1]) : -1;
        int low = i + 2 < len ? hex_digit(from[i + 2]) : -1;

        if (from[i] == '%' && high >= 0 && low >= 0) {
            out[n++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[n++] = from[i];
        }
    }
    out[n] = '\0';
}

/* Digits only; anything else is "Unknown". */
static int parse_code(const char *text, size_t len)
{
    int code = 0;

    if (len == 0 || len > 3) {
        return UNKNOWN_CODE;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return UNKNOWN_CODE;
        }
        code = code * 10 + (text[i] - '0');
    }
    return code;
}

static bool has_name(struct mr_slice line, const char *name, size_t *out_at)
{
    size_t len = strlen(name);

    *out_at = len;
    return line.len > len && strncasecmp(line.data, name, len) == 0;
}

void check_grpc_header(struct check_grpc_answer *answer, struct mr_slice line)
{
    const char *text = line.data;
    size_t len = line.len;
    bool is_status;
    size_t at;

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' ||
                       text[len - 1] == ' ')) {
        len--;
    }
    line.len = len;
    is_status = has_name(line, "grpc-status:", &at);
    if (!is_status && !has_name(line, "grpc-message:", &at)) {
        return;
    }
    while (at < len && text[at] == ' ') {
        at++;
    }
    if (is_status) {
        answer->status = parse_code(text + at, len - at);
    } else {
        decode_message(answer->message, sizeof answer->message, text + at,
                       len - at);
    }
}

void check_grpc_encode(const char *service, struct mr_buf *out)
{
    Mr__GrpcHealthRequest request = MR__GRPC_HEALTH_REQUEST__INIT;
    size_t len;
    uint8_t *at;

    request.service = (char *)service; /* Encoding only reads it. */
    len = mr__grpc_health_request__get_packed_size(&request);
    mr_buf_byte(out, 0); /* Not compressed. */
    mr_buf_be32(out, (uint32_t)len);
    at = mr_buf_grow(out, len);
    if (at != NULL) {
        (void)mr__grpc_health_request__pack(&request, at);
    }
}

bool check_grpc_is_serving(struct mr_slice body)
{
    const uint8_t *bytes = body.data;
    Mr__GrpcHealthResponse *response;
    bool is_serving;
    size_t len;

    if (body.len < PREFIX_LEN || bytes[0] != 0) {
        return false; /* We asked for no compression. */
    }
    len = (size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 |
          (size_t)bytes[3] << 8 | bytes[4];
    if (len != body.len - PREFIX_LEN) {
        return false;
    }
    response = mr__grpc_health_response__unpack(NULL, len, bytes + PREFIX_LEN);
    is_serving = response != NULL && response->status == SERVING;
    mr__grpc_health_response__free_unpacked(response, NULL);
    return is_serving;
}
