/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": optimal string alignment distance over short names. */
#include "server/nearest.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#define NAME_MAX_LEN 64

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

size_t server_edit_distance(const char *a, const char *b)
{
    /* rows[i % 3][j]: edits between the first i of a and the first j of b. */
    size_t rows[3][NAME_MAX_LEN + 1];
    size_t la = strlen(a);
    size_t lb = strlen(b);

    if (la > NAME_MAX_LEN || lb > NAME_MAX_LEN) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= lb; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= la; i++) {
        size_t *now = rows[i % 3];
        const size_t *last = rows[(i - 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t cost = same_letter(a[i - 1], b[j - 1]) ? 0 : 1;

            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + cost);
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1])) {
                now[j] = least(now[j], rows[(i - 2) % 3][j - 2] + 1);
            }
        }
    }
    return rows[la % 3][lb];
}

void server_nearest_init(struct server_nearest *n, const char *wanted)
{
    size_t third = strlen(wanted) / 3;

    n->wanted = wanted;
    n->name = NULL;
    n->distance = (third > 2 ? third : 2) + 1;
}

void server_nearest_try(struct server_nearest *n, const char *name)
{
    size_t distance = server_edit_distance(n->wanted, name);

    if (distance < n->distance) {
        n->distance = distance;
        n->name = name;
    }
}
