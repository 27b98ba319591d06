/* SPDX-License-Identifier: Apache-2.0 */
/* api: the answers of servers that an agent passes on, piece by piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/relay_answer.h"
#include "base/mem.h"

#define OK                                                                     \
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"                \
    "X-Consul-Index: 7\r\nTransfer-Encoding: chunked\r\n\r\n"

/* Feed @text in pieces of @size; the body. */
static enum mr_err feed(const char *text, size_t size, struct mr_buf *out,
                        struct relay_answer *answer)
{
    enum mr_err err = MR_OK;

    relay_answer_init(answer);
    for (size_t at = 0; err == MR_OK && at < strlen(text); at += size) {
        size_t left = strlen(text) - at;

        err = relay_answer_feed(
            answer, mr_slice(text + at, left < size ? left : size), out);
    }
    return err;
}

static void answers_may_come_in_any_pieces(void **state)
{
    static const char text[] =
        "HTTP/1.1 100 Continue\r\n\r\n" OK
        "a;ext=1\r\n0123456789\r\n1\r\nX\r\n0\r\nTrailer: t\r\n\r\n";

    (void)state;
    for (size_t size = 1; size < sizeof text; size++) {
        struct mr_buf out = MR_BUF_INIT;
        struct relay_answer answer;

        assert_int_equal(feed(text, size, &out, &answer), MR_OK);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.part, RELAY_DONE);
        mr_buf_byte(&out, 0);
        assert_string_equal(out.data, "0123456789X");
        assert_string_equal(mr_buf_cstr(&answer.headers),
                            "Content-Type: application/x-ndjson\n"
                            "X-Consul-Index: 7\n");
        mr_buf_deinit(&out);
        relay_answer_deinit(&answer);
    }
}

/* ------------------------------------------------------------- failure */

static void wrong_answers_are_refused(void **state)
{
    static const char *const texts[] = {
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 999 No\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
        OK "\r\n",
        OK "x\r\n",
        OK "1000000000000000\r\n",
        OK "1\r\nab\r\n",
        "HTTP/1.1 204 No\r\n\r\nmore",
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        struct mr_buf out = MR_BUF_INIT;
        struct relay_answer answer;

        if (feed(texts[i], 7, &out, &answer) != MR_E_INVALID) {
            fail_msg("accepted: %s", texts[i]);
        }
        mr_buf_deinit(&out);
        relay_answer_deinit(&answer);
    }
}

static void a_head_without_an_end_is_refused(void **state)
{
    static char text[3 * RELAY_HEAD_MAX];
    struct mr_buf out = MR_BUF_INIT;
    struct relay_answer answer;

    (void)state;
    memset(text, 'h', sizeof text - 1);
    memcpy(text, "HTTP/1.1 200 OK\r\nX: ", 20);
    assert_int_equal(feed(text, 1000, &out, &answer), MR_E_TOOBIG);
    mr_buf_deinit(&out);
    relay_answer_deinit(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_may_come_in_any_pieces),
        cmocka_unit_test(wrong_answers_are_refused),
        cmocka_unit_test(a_head_without_an_end_is_refused),
    };

    return cmocka_run_group_tests_name("api_relay_answer", tests, NULL, NULL);
}
