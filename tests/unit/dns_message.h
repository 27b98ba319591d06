/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helpers of the DNS tests: make queries, and read answers with a decoder that
 * shares nothing with the code under test.
 *
 * A decoded record is a line like dig's: "web.service.micro. 0 SRV 1 1 80 x.".
 */
#ifndef MR_TESTS_DNS_MESSAGE_H
#define MR_TESTS_DNS_MESSAGE_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MSG_LINES 6000
#define MSG_LINE 880
#define MSG_DATA 600 /* Of it, the data of the record. */

struct msg {
    uint16_t id;
    uint16_t flags;
    unsigned counts[4]; /* As in the header. */
    char question[256];
    char lines[MSG_LINES][MSG_LINE]; /* Answers, authority, additional. */
    uint8_t section[MSG_LINES];      /* 1, 2 or 3, beside lines. */
    size_t n_lines;                  /* Without the OPT record. */
    bool has_opt;
    unsigned opt_size;
    uint8_t options[64];
    size_t options_len;
};

/* What a query is to look like. Zeroes make a plain question for A. */
struct ask {
    const char *name; /* Text; labels separated by dots. */
    uint16_t type;
    uint16_t flags; /* Second word of the header. */
    uint16_t edns;  /* Size to announce; 0: no OPT record. */
    const char *options;
    size_t options_len;
};

static inline unsigned msg_get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static inline uint8_t *msg_put16(uint8_t *p, unsigned n)
{
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    return p + 2;
}

/* Write the name @text in wire form and return the place behind it. */
static inline uint8_t *msg_put_name(uint8_t *p, const char *text)
{
    while (*text != '\0' && strcmp(text, ".") != 0) {
        size_t len = strcspn(text, ".");

        *p++ = (uint8_t)len;
        memcpy(p, text, len);
        p += len;
        text += len + (text[len] == '.' ? 1 : 0);
    }
    *p++ = 0;
    return p;
}

/* Write a query with ID 0x1234 into @out and return its length. */
static inline size_t msg_query(const struct ask *a, uint8_t *out)
{
    uint8_t *p = msg_put16(out, 0x1234);

    p = msg_put16(p, a->flags);
    p = msg_put16(p, 1);
    p = msg_put16(p, 0);
    p = msg_put16(p, 0);
    p = msg_put16(p, a->edns != 0);
    p = msg_put_name(p, a->name);
    p = msg_put16(p, a->type != 0 ? a->type : 1);
    p = msg_put16(p, 1);
    if (a->edns != 0) {
        *p++ = 0;
        p = msg_put16(p, 41);
        p = msg_put16(p, a->edns);
        p = msg_put16(p, 0);
        p = msg_put16(p, 0);
        p = msg_put16(p, (unsigned)a->options_len);
        memcpy(p, a->options != NULL ? a->options : "", a->options_len);
        p += a->options_len;
    }
    return (size_t)(p - out);
}

/* Read a name at @at into @out; the place behind it, or 0 when it is bad. A
 * pointer must mean a place in front of the name it stands in. */
static inline size_t msg_read_name(const uint8_t *m, size_t len, size_t at,
                                   char *out)
{
    size_t bound = at;
    size_t end = 0;
    size_t n = 0;

    for (;;) {
        if (at >= len) {
            return 0;
        }
        if (m[at] >= 0xc0) {
            size_t to;

            if (at + 2 > len) {
                return 0;
            }
            to = msg_get16(m + at) & 0x3fff;
            if (to >= bound) {
                return 0;
            }
            end = end == 0 ? at + 2 : end;
            at = bound = to;
            continue;
        }
        if (m[at] == 0) {
            break;
        }
        if (m[at] > 63 || at + 1 + m[at] > len || n + m[at] > 253) {
            return 0;
        }
        memcpy(out + n, m + at + 1, m[at]);
        n += m[at];
        out[n++] = '.';
        at += 1u + m[at];
    }
    if (n == 0) {
        out[n++] = '.';
    }
    out[n] = '\0';
    return end == 0 ? at + 1 : end;
}

/* The data of a record as text; false when it is bad. */
static inline bool msg_read_data(const uint8_t *m, size_t len, size_t at,
                                 unsigned type, unsigned rdlen, char *out)
{
    char a[256];
    char b[256];
    size_t end;

    switch (type) {
    case 1:
        return rdlen == 4 && inet_ntop(AF_INET, m + at, out, 64) != NULL;
    case 28:
        return rdlen == 16 && inet_ntop(AF_INET6, m + at, out, 64) != NULL;
    case 2:
    case 5:
    case 12:
        return msg_read_name(m, len, at, out) == at + rdlen;
    case 33:
        sprintf(out, "%u %u %u ", msg_get16(m + at), msg_get16(m + at + 2),
                msg_get16(m + at + 4));
        return msg_read_name(m, len, at + 6, out + strlen(out)) == at + rdlen;
    case 6:
        end = msg_read_name(m, len, at, a);
        end = end == 0 ? 0 : msg_read_name(m, len, end, b);
        sprintf(out, "%s %s", a, b);
        return end != 0 && end + 20 == at + rdlen;
    case 16:
        *out++ = '"';
        for (end = at + rdlen; at < end; at += 1u + m[at]) {
            sprintf(out, "%.*s", m[at], (const char *)m + at + 1);
            out += strlen(out);
        }
        strcpy(out, "\"");
        return at == end;
    default:
        return false;
    }
}

static inline const char *msg_type_name(unsigned type)
{
    return type == 1    ? "A"
           : type == 2  ? "NS"
           : type == 5  ? "CNAME"
           : type == 6  ? "SOA"
           : type == 12 ? "PTR"
           : type == 16 ? "TXT"
           : type == 28 ? "AAAA"
           : type == 33 ? "SRV"
                        : "?";
}

/* Read one record behind the question. */
static inline size_t msg_read_record(const uint8_t *m, size_t len, size_t at,
                                     unsigned section, struct msg *out)
{
    char name[256];
    char data[MSG_DATA];
    unsigned type;
    unsigned rdlen;

    at = msg_read_name(m, len, at, name);
    if (at == 0 || at + 10 > len) {
        return 0;
    }
    type = msg_get16(m + at);
    rdlen = msg_get16(m + at + 8);
    if (at + 10 + rdlen > len) {
        return 0;
    }
    if (type == 41) {
        out->has_opt = true;
        out->opt_size = msg_get16(m + at + 2);
        out->options_len = rdlen < sizeof out->options ? rdlen : 0;
        memcpy(out->options, m + at + 10, out->options_len);
        return at + 10 + rdlen;
    }
    if (!msg_read_data(m, len, at + 10, type, rdlen, data)) {
        return 0;
    }
    snprintf(out->lines[out->n_lines], MSG_LINE, "%s %u %s %s", name,
             msg_get16(m + at + 4) << 16 | msg_get16(m + at + 6),
             msg_type_name(type), data);
    out->section[out->n_lines++] = (uint8_t)section;
    return at + 10 + rdlen;
}

/* Take @m apart. false: it is no message, or bytes are left. */
static inline bool msg_parse(const uint8_t *m, size_t len, struct msg *out)
{
    char name[256];
    size_t at = 12;

    if (len < 12) {
        return false;
    }
    out->id = (uint16_t)msg_get16(m);
    out->flags = (uint16_t)msg_get16(m + 2);
    out->n_lines = 0;
    out->has_opt = false;
    out->options_len = 0;
    out->question[0] = '\0';
    for (unsigned i = 0; i < 4; i++) {
        out->counts[i] = msg_get16(m + 4 + 2 * i);
    }
    for (unsigned i = 0; i < out->counts[0]; i++) {
        at = msg_read_name(m, len, at, name);
        if (at == 0 || at + 4 > len) {
            return false;
        }
        strcpy(out->question, name);
        at += 4;
    }
    for (unsigned s = 1; s < 4; s++) {
        for (unsigned i = 0; i < out->counts[s]; i++) {
            at = msg_read_record(m, len, at, s, out);
            if (at == 0) {
                return false;
            }
        }
    }
    return at == len;
}

/* Whether a section holds @line. */
static inline bool msg_has(const struct msg *m, unsigned section,
                           const char *line)
{
    for (size_t i = 0; i < m->n_lines; i++) {
        if (m->section[i] == section && strcmp(m->lines[i], line) == 0) {
            return true;
        }
    }
    return false;
}

#endif /* MR_TESTS_DNS_MESSAGE_H */
