/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a server's HTTP answer piece by piece. */
#include "api/relay_answer.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/text.h"

#define CHUNK_DIGITS_MAX 15

void relay_answer_init(struct relay_answer *answer)
{
    memset(answer, 0, sizeof *answer);
    mr_buf_init(&answer->headers, RELAY_HEAD_MAX);
    mr_buf_init(&answer->line, RELAY_HEAD_MAX);
}

void relay_answer_deinit(struct relay_answer *answer)
{
    mr_buf_deinit(&answer->headers);
    mr_buf_deinit(&answer->line);
}

bool relay_answer_has_head(const struct relay_answer *answer)
{
    return answer->part != RELAY_HEAD;
}

bool relay_answer_is_whole(const struct relay_answer *answer)
{
    return answer->part == RELAY_DONE || answer->part == RELAY_UNTIL_CLOSE;
}

/* ------------------------------------------------------------- the head */

/* "HTTP/1.1 200 OK" */
static enum mr_err read_status(struct relay_answer *a, const char *line)
{
    static const char version[] = "HTTP/1.1 ";
    const char *at = line + sizeof version - 1;

    if (strncmp(line, version, sizeof version - 1) != 0 || at[0] < '1' ||
        at[0] > '5' || strspn(at, "0123456789") != 3) {
        return MR_E_INVALID;
    }
    a->status = (at[0] - '0') * 100 + (at[1] - '0') * 10 + (at[2] - '0');
    return MR_OK;
}

/* Of the connection and not of the answer (RFC 9110 §7.6.1), or made here. */
static bool is_ours(const char *name)
{
    static const char *const names[] = {
        "Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length",
        "Date",       "Trailer",    "Upgrade",
    };

    for (size_t i = 0; i < MR_ARRAY_LEN(names); i++) {
        if (strcasecmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* "Name: value"; changes @line. */
static enum mr_err read_header(struct relay_answer *a, char *line)
{
    char *value = strchr(line, ':');

    if (value == NULL || value == line) {
        return MR_E_INVALID;
    }
    *value++ = '\0';
    value += strspn(value, " \t");
    if (strcasecmp(line, "Transfer-Encoding") == 0) {
        a->is_chunked = strcasecmp(value, "chunked") == 0;
        return a->is_chunked ? MR_OK : MR_E_INVALID;
    }
    if (strcasecmp(line, "Content-Length") == 0) {
        a->has_length = true;
        return mr_parse_u64(value, &a->left);
    }
    if (!is_ours(line)) {
        mr_buf_printf(&a->headers, "%s: %s\n", line, value);
    }
    return MR_OK;
}

/* The empty line came. */
static void end_head(struct relay_answer *a)
{
    if (a->status < 200) { /* Interim: the answer is still to come. */
        a->status = 0;
        mr_buf_reset(&a->headers);
    } else if (a->status == 204 || a->status == 304) {
        a->part = RELAY_DONE;
    } else if (a->is_chunked) {
        a->part = RELAY_CHUNK_SIZE;
    } else if (a->has_length) {
        a->part = a->left > 0 ? RELAY_BODY : RELAY_DONE;
    } else {
        a->part = RELAY_UNTIL_CLOSE;
    }
}

static enum mr_err take_head_line(struct relay_answer *a, char *line)
{
    if (a->status == 0) {
        return read_status(a, line);
    }
    if (line[0] == '\0') {
        end_head(a);
        return MR_OK;
    }
    return read_header(a, line);
}

/* ------------------------------------------------------------- chunks */

/* Hexadecimal digits; extensions are ignored. */
static enum mr_err take_size_line(struct relay_answer *a, const char *line)
{
    size_t n = strspn(line, "0123456789abcdefABCDEF");

    if (n == 0 || n > CHUNK_DIGITS_MAX ||
        (line[n] != '\0' && line[n] != ';' && line[n] != ' ')) {
        return MR_E_INVALID;
    }
    a->left = 0;
    for (size_t i = 0; i < n; i++) {
        char c = line[i];
        unsigned digit =
            c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);

        a->left = a->left << 4 | digit;
    }
    a->part = a->left > 0 ? RELAY_CHUNK : RELAY_TRAILER;
    return MR_OK;
}

static enum mr_err take_line(struct relay_answer *a, char *line)
{
    switch (a->part) {
    case RELAY_HEAD:
        return take_head_line(a, line);
    case RELAY_CHUNK_SIZE:
        return take_size_line(a, line);
    case RELAY_CHUNK_END:
        a->part = RELAY_CHUNK_SIZE;
        return line[0] == '\0' ? MR_OK : MR_E_INVALID;
    case RELAY_TRAILER:
        a->part = line[0] == '\0' ? RELAY_DONE : RELAY_TRAILER;
        return MR_OK;
    case RELAY_BODY:
    case RELAY_CHUNK:
    case RELAY_UNTIL_CLOSE:
    case RELAY_DONE:
        break;
    }
    return MR_E_INVALID;
}

/* ------------------------------------------------------------- feeding */

/* Take the rest of a line from @bytes; *@out_n: so many of them. */
static enum mr_err feed_line(struct relay_answer *a, struct mr_slice bytes,
                             size_t *out_n)
{
    const char *data = bytes.data;
    const char *end = memchr(data, '\n', bytes.len);
    size_t n = end == NULL ? bytes.len : (size_t)(end - data) + 1;
    enum mr_err err = MR_OK;

    *out_n = n;
    if (a->line.len + n > RELAY_HEAD_MAX ||
        a->headers.len + n > RELAY_HEAD_MAX) {
        return MR_E_TOOBIG;
    }
    mr_buf_add(&a->line, data, n);
    if (mr_buf_failed(&a->line)) {
        return MR_E_NOMEM;
    }
    if (end != NULL) {
        size_t len = a->line.len - 1;
        char *line = (char *)a->line.data;

        len -= len > 0 && line[len - 1] == '\r' ? 1 : 0;
        line[len] = '\0';
        err = strlen(line) == len ? take_line(a, line) : MR_E_INVALID;
        mr_buf_reset(&a->line);
    }
    return err == MR_OK && mr_buf_failed(&a->headers) ? MR_E_NOMEM : err;
}

/* Take what @bytes has of the body. */
static size_t feed_body(struct relay_answer *a, struct mr_slice bytes,
                        struct mr_buf *out)
{
    size_t n = bytes.len;

    if (a->part != RELAY_UNTIL_CLOSE) {
        n = a->left < n ? (size_t)a->left : n;
        a->left -= n;
    }
    mr_buf_add(out, bytes.data, n);
    if (a->part == RELAY_BODY && a->left == 0) {
        a->part = RELAY_DONE;
    } else if (a->part == RELAY_CHUNK && a->left == 0) {
        a->part = RELAY_CHUNK_END;
    }
    return n;
}

enum mr_err relay_answer_feed(struct relay_answer *answer,
                              struct mr_slice bytes, struct mr_buf *out)
{
    size_t at = 0;
    size_t n = 0;

    while (at < bytes.len) {
        struct mr_slice rest =
            mr_slice((const char *)bytes.data + at, bytes.len - at);
        enum relay_part part = answer->part;
        enum mr_err err = MR_OK;

        if (part == RELAY_DONE) {
            return MR_E_INVALID; /* Nothing was asked for. */
        }
        if (part == RELAY_BODY || part == RELAY_CHUNK ||
            part == RELAY_UNTIL_CLOSE) {
            n = feed_body(answer, rest, out);
        } else {
            err = feed_line(answer, rest, &n);
        }
        if (err != MR_OK) {
            return err;
        }
        at += n;
    }
    return mr_buf_failed(out) ? MR_E_NOMEM : MR_OK;
}
