/* SPDX-License-Identifier: Apache-2.0 */
/* Durations in Go's notation, UUIDs, addresses, numbers. */
#include "base/text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define NS_PER_S INT64_C(1000000000)

static const struct {
    const char *name;
    int64_t ns;
} units[] = {
    /* Longest name first where one begins another. */
    {"ns", 1},
    {"us", 1000},
    {"\xc2\xb5s", 1000}, /* U+00B5, the micro sign */
    {"\xce\xbcs", 1000}, /* U+03BC, the Greek letter */
    {"ms", 1000000},
    {"s", NS_PER_S},
    {"m", 60 * NS_PER_S},
    {"h", 3600 * NS_PER_S},
};

/* One "12.5ms" at *@at, which moves behind it, added to *@sum. */
enum piece { PIECE_OK, PIECE_BAD, PIECE_NO_UNIT, PIECE_UNKNOWN_UNIT };

static size_t unit_len(const char *s)
{
    size_t n = 0;

    while (s[n] != '\0' && s[n] != '.' && !isdigit((unsigned char)s[n])) {
        n++;
    }
    return n;
}

static enum piece parse_piece(const char **at, uint64_t *sum)
{
    const char *s = *at;
    uint64_t whole = 0;
    uint64_t fraction = 0;
    uint64_t scale = 1;
    size_t digits = 0;
    size_t len;

    for (; isdigit((unsigned char)*s); s++, digits++) {
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*s - '0'), &whole)) {
            return PIECE_BAD;
        }
    }
    if (*s == '.') {
        for (s++; isdigit((unsigned char)*s); s++, digits++) {
            if (scale < UINT64_C(1000000000000)) { /* Finer is below 1 ns. */
                fraction = fraction * 10 + (uint64_t)(*s - '0');
                scale *= 10;
            }
        }
    }
    if (digits == 0) {
        return PIECE_BAD;
    }
    len = unit_len(s);
    if (len == 0) {
        return PIECE_NO_UNIT;
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(units); i++) {
        uint64_t unit = (uint64_t)units[i].ns;
        uint64_t ns;

        if (strlen(units[i].name) != len ||
            memcmp(units[i].name, s, len) != 0) {
            continue;
        }
        if (__builtin_mul_overflow(whole, unit, &ns) ||
            __builtin_add_overflow(*sum, ns, sum)) {
            return PIECE_BAD;
        }
        /* At most 2^40 * 3.6e12 / 1e12: a double carries what Go's does. */
        ns = (uint64_t)((double)fraction * ((double)unit / (double)scale));
        *at = s + len;
        return __builtin_add_overflow(*sum, ns, sum) ? PIECE_BAD : PIECE_OK;
    }
    return PIECE_UNKNOWN_UNIT;
}

enum mr_err mr_duration_parse(const char *text, int64_t *out_ns,
                              struct mr_detail *detail)
{
    const char *at = text;
    bool is_negative = *at == '-';
    uint64_t sum = 0;

    if (*at == '-' || *at == '+') {
        at++;
    }
    if (strcmp(at, "0") == 0) {
        *out_ns = 0;
        return MR_OK;
    }
    if (*at == '\0') {
        goto invalid;
    }
    while (*at != '\0') {
        const char *piece = at;

        switch (parse_piece(&at, &sum)) {
        case PIECE_OK:
            break;
        case PIECE_NO_UNIT:
            return mr_fail(detail, MR_E_INVALID,
                           "time: missing unit in duration \"%s\"", text);
        case PIECE_UNKNOWN_UNIT:
            piece += strspn(piece, "0123456789.");
            return mr_fail(detail, MR_E_INVALID,
                           "time: unknown unit \"%.*s\" in duration \"%s\"",
                           (int)unit_len(piece), piece, text);
        case PIECE_BAD:
            goto invalid;
        }
    }
    if (sum > INT64_MAX) {
        goto invalid;
    }
    *out_ns = is_negative ? -(int64_t)sum : (int64_t)sum;
    return MR_OK;
invalid:
    return mr_fail(detail, MR_E_INVALID, "time: invalid duration \"%s\"", text);
}

/* @n units of which @per make one, with the fraction's zeros cut. */
static void format_fraction(struct mr_buf *out, uint64_t n, uint64_t per)
{
    char digits[24];
    int width = 0;
    int len;

    mr_buf_u64(out, n / per);
    n %= per;
    if (n == 0) {
        return;
    }
    for (uint64_t p = per; p > 1; p /= 10) {
        width++;
    }
    len = snprintf(digits, sizeof digits, "%0*" PRIu64, width, n);
    while (len > 0 && digits[len - 1] == '0') {
        len--;
    }
    mr_buf_byte(out, '.');
    mr_buf_add(out, digits, (size_t)len);
}

void mr_duration_format(struct mr_buf *out, int64_t ns)
{
    uint64_t n = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
    const uint64_t minute = 60 * (uint64_t)NS_PER_S;
    uint64_t minutes = n / minute;

    if (ns < 0) {
        mr_buf_byte(out, '-');
    }
    if (n == 0) {
        mr_buf_str(out, "0s");
        return;
    }
    if (n < (uint64_t)NS_PER_S) {
        uint64_t per = n < 1000 ? 1 : n < 1000000 ? 1000 : 1000000;

        format_fraction(out, n, per);
        mr_buf_str(out, per == 1 ? "ns" : per == 1000 ? "\xc2\xb5s" : "ms");
        return;
    }
    if (minutes >= 60) {
        mr_buf_u64(out, minutes / 60);
        mr_buf_byte(out, 'h');
    }
    if (minutes > 0) {
        mr_buf_u64(out, minutes % 60);
        mr_buf_byte(out, 'm');
    }
    format_fraction(out, n % minute, (uint64_t)NS_PER_S);
    mr_buf_byte(out, 's');
}

enum mr_err mr_parse_u64(const char *text, uint64_t *out_n)
{
    uint64_t n = 0;

    if (*text == '\0') {
        return MR_E_INVALID;
    }
    for (; *text != '\0'; text++) {
        if (!isdigit((unsigned char)*text) ||
            __builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n)) {
            return MR_E_INVALID;
        }
    }
    *out_n = n;
    return MR_OK;
}

void mr_uuid_new(const struct mr_random *random, char out[MR_UUID_LEN + 1])
{
    uint8_t b[16];

    random->fill(random, b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 4122 §4.4: version 4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* and variant 10. */
    (void)snprintf(out, MR_UUID_LEN + 1,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                   "%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9],
                   b[10], b[11], b[12], b[13], b[14], b[15]);
}

bool mr_uuid_valid(const char *text)
{
    for (size_t i = 0; i < MR_UUID_LEN; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (is_dash ? text[i] != '-' : !isxdigit((unsigned char)text[i])) {
            return false;
        }
    }
    return text[MR_UUID_LEN] == '\0';
}

int mr_ip_family(const char *text)
{
    struct in6_addr addr;

    if (inet_pton(AF_INET, text, &addr) == 1) {
        return 4;
    }
    return inet_pton(AF_INET6, text, &addr) == 1 ? 6 : 0;
}

static enum mr_err parse_port(const char *text, uint16_t *out_port)
{
    uint64_t n;

    if (mr_parse_u64(text, &n) != MR_OK || n == 0 || n > UINT16_MAX) {
        return MR_E_INVALID;
    }
    *out_port = (uint16_t)n;
    return MR_OK;
}

enum mr_err mr_hostport_parse(const char *text, uint16_t default_port,
                              struct mr_hostport *out, struct mr_detail *detail)
{
    const char *host = text;
    const char *port = NULL;
    size_t len = strlen(text);
    struct mr_hostport found = {{0}, default_port};

    if (*text == '[') {
        const char *end = strchr(text, ']');

        if (end == NULL || (end[1] != '\0' && end[1] != ':')) {
            return mr_fail(detail, MR_E_INVALID,
                           "bad address \"%s\": want [IPv6] or [IPv6]:port",
                           text);
        }
        host = text + 1;
        len = (size_t)(end - host);
        port = end[1] == ':' ? end + 2 : NULL;
    } else if (mr_ip_family(text) != 6) {
        const char *colon = strchr(text, ':');

        if (colon != NULL) {
            len = (size_t)(colon - text);
            port = colon + 1;
        }
    }
    if (len == 0 || len > MR_HOST_MAX) {
        return mr_fail(detail, MR_E_INVALID,
                       "bad address \"%.300s\": the host must have 1 to %d "
                       "characters",
                       text, MR_HOST_MAX);
    }
    if (port != NULL && parse_port(port, &found.port) != MR_OK) {
        return mr_fail(detail, MR_E_INVALID,
                       "bad address \"%.300s\": the port must be 1 to 65535",
                       text);
    }
    memcpy(found.host, host, len);
    *out = found;
    return MR_OK;
}
