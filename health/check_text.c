/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign bytes as text: what goes into the state is UTF-8 without NUL. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "health/check_impl.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* The length of the character at @s, of which @left bytes are there; 0: it is
 * none. RFC 3629 §4. */
static size_t character(const unsigned char *s, size_t left)
{
    size_t len = s[0] < 0x80   ? 1
                 : s[0] < 0xc2 ? 0
                 : s[0] < 0xe0 ? 2
                 : s[0] < 0xf0 ? 3
                 : s[0] < 0xf5 ? 4
                               : 0;

    if (len > left || s[0] == '\0') {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
        return 0;
    }
    return len;
}

void check_text_add(struct mr_buf *out, const void *data, size_t len)
{
    const unsigned char *s = data;

    for (size_t i = 0; i < len;) {
        size_t n = character(s + i, len - i);

        if (n == 0) {
            mr_buf_str(out, REPLACEMENT);
            i++;
        } else {
            mr_buf_add(out, s + i, n);
            i += n;
        }
    }
}

void check_text_errno(struct mr_buf *out, int code)
{
    char text[128];
    const char *said = strerror_r(code, text, sizeof text);

    mr_buf_byte(out, (uint8_t)tolower((unsigned char)said[0]));
    mr_buf_str(out, said[0] == '\0' ? "" : said + 1);
}
