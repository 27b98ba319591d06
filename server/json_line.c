/* SPDX-License-Identifier: Apache-2.0 */
/* Where in a JSON text a member stands; jansson does not keep positions. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/definitions.h"

#define BLANK " \t\r\n"

static const char *skip_blank(const char *at)
{
    return at + strspn(at, BLANK);
}

/* Behind the string that begins at @at. */
static const char *skip_string(const char *at)
{
    for (at++; *at != '"' && *at != '\0'; at++) {
        at += at[0] == '\\' && at[1] != '\0';
    }
    return *at == '\0' ? at : at + 1;
}

/* Behind the value that begins at @at. */
static const char *skip_value(const char *at)
{
    unsigned depth = 0;

    do {
        if (*at == '"') {
            at = skip_string(at);
        } else {
            if (*at == '{' || *at == '[') {
                depth++;
            } else if (*at == '}' || *at == ']') {
                depth--;
            } else if (*at == '\0') {
                return at;
            }
            at++;
        }
    } while (depth > 0 || (*at != ',' && *at != '}' && *at != ']' &&
                           *at != '\0' && *at != '"'));
    return at;
}

/* The member of the object at @at whose name is the first @len bytes of @name:
 * where its name begins, or NULL. */
static const char *find_member(const char *at, const char *name, size_t len)
{
    const char *found = NULL;

    for (at = skip_blank(at + 1); *at == '"'; at = skip_blank(at)) {
        const char *key = at;
        const char *end = skip_string(at);

        if ((size_t)(end - key) == len + 2 &&
            strncasecmp(key + 1, name, len) == 0) {
            found = key; /* The last of several is the one that counts. */
        }
        at = skip_blank(end);
        at = skip_blank(skip_value(skip_blank(at + (*at == ':'))));
        at += *at == ',';
    }
    return found;
}

/* The element @n of the array at @at, or NULL. */
static const char *find_element(const char *at, unsigned long n)
{
    for (at = skip_blank(at + 1); *at != ']' && *at != '\0';
         at = skip_blank(at)) {
        if (n-- == 0) {
            return at;
        }
        at = skip_blank(skip_value(at));
        at += *at == ',';
    }
    return NULL;
}

static unsigned line_at(const char *text, const char *at)
{
    unsigned line = 1;

    for (; text < at; text++) {
        line += *text == '\n';
    }
    return line;
}

unsigned server_json_line(const char *text, const char *path)
{
    const char *at = skip_blank(text);
    const char *found = at;

    while (*path != '\0') {
        if (*path == '[' && *at == '[') {
            char *end;

            found = find_element(at, strtoul(path + 1, &end, 10));
            path = end + (*end == ']');
            at = found;
        } else if (*path != '[' && *at == '{') {
            size_t len = strcspn(path, ".[");

            found = find_member(at, path, len);
            path += len;
            at = found == NULL ? NULL : skip_blank(skip_string(found));
            at = at == NULL ? NULL : skip_blank(at + (*at == ':'));
        } else {
            break;
        }
        if (at == NULL) {
            return 1;
        }
        path += *path == '.';
    }
    return line_at(text, found);
}

void server_json_element_lines(const char *text, const char *key, size_t n,
                               unsigned *out_lines)
{
    const char *at = find_member(skip_blank(text), key, strlen(key));
    const char *counted = text;
    unsigned line = 1;

    if (at != NULL) {
        at = skip_blank(skip_string(at));
        at = skip_blank(at + (*at == ':'));
        at = *at == '[' ? skip_blank(at + 1) : NULL;
    }
    for (size_t i = 0; i < n; i++) {
        bool is_there = at != NULL && *at != ']' && *at != '\0';

        out_lines[i] = 1;
        if (is_there) {
            line += line_at(counted, at) - 1;
            counted = at;
            out_lines[i] = line;
            at = skip_blank(skip_value(at));
            at = skip_blank(at + (*at == ','));
        }
    }
}
