/* SPDX-License-Identifier: Apache-2.0 */
/* server/watch_line: bytes become lines, lines become events or are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "server/watch.h"

struct seen {
    struct mr_buf text; /* Lines, each with "|" behind it. */
    unsigned n_left;    /* Stop after so many. */
};

static bool collect(void *arg, struct mr_slice line)
{
    struct seen *seen = arg;

    mr_buf_add(&seen->text, line.data, line.len);
    mr_buf_byte(&seen->text, '|');
    return --seen->n_left > 0;
}

static bool feed(struct watch_lines *lines, const char *text, struct seen *seen)
{
    return watch_lines_feed(lines, mr_slice_str(text), collect, seen);
}

static enum mr_err parse(const char *text, struct watch_line *line)
{
    struct mr_detail why = {""};

    memset(line, 0, sizeof *line);
    return watch_line_parse(mr_slice_str(text), line, &why);
}

/* ---- success ---- */

/* Wherever the network cuts, the lines are the same. */
static void lines_are_whole_whatever_the_pieces(void **state)
{
    static const char text[] = "{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}\nrest";

    (void)state;
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct watch_lines lines = {0};
        struct seen seen = {.n_left = 100};
        char head[sizeof text] = "";

        memcpy(head, text, cut);
        assert_true(feed(&lines, head, &seen));
        assert_true(feed(&lines, text + cut, &seen));
        assert_string_equal(mr_buf_cstr(&seen.text),
                            "{\"a\":1}|{\"b\":2}|{\"c\":3}|");
        mr_buf_deinit(&seen.text);
        watch_lines_deinit(&lines);
    }
}

/* An event has an object, under either name. */
static void events_and_marks_are_read(void **state)
{
    struct watch_line line;

    (void)state;
    assert_int_equal(parse("{\"index\":7,\"action\":\"create\",\"more\":true,"
                           "\"object\":{\"Key\":\"a\"}}",
                           &line),
                     MR_OK);
    assert_int_equal(line.index, 7);
    assert_int_equal(line.action, WATCH_CREATE);
    assert_true(line.more);
    assert_string_equal(server_json_text(line.object, "Key"), "a");
    watch_line_deinit(&line);
    assert_int_equal(
        parse("{\"index\":8,\"action\":\"delete\",\"service\":{}}", &line),
        MR_OK);
    assert_false(line.more);
    watch_line_deinit(&line);
    assert_int_equal(parse("{\"index\":9,\"action\":\"progress\"}", &line),
                     MR_OK);
    assert_null(line.object);
}

/* ---- failure ---- */

/* What docs/watch.md does not say is refused. */
static void other_lines_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "nothing",
        "[]",
        "{}",
        "{\"index\":1}",
        "{\"index\":-1,\"action\":\"synced\"}",
        "{\"index\":\"1\",\"action\":\"synced\"}",
        "{\"index\":1.5,\"action\":\"synced\"}",
        "{\"index\":1,\"action\":\"renamed\",\"object\":{}}",
        "{\"index\":1,\"action\":\"create\"}",
        "{\"index\":1,\"action\":\"create\",\"object\":[]}",
        "{\"index\":1,\"action\":\"synced\",\"object\":{}}",
        "{\"index\":1,\"action\":\"synced\",\"more\":1}",
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(bad); i++) {
        struct watch_line line;

        assert_int_equal(parse(bad[i], &line), MR_E_INVALID);
        assert_null(line.object);
    }
}

/* A line without an end does not take all memory. */
static void an_endless_line_is_refused(void **state)
{
    static char piece[1 << 16];
    struct watch_lines lines = {0};
    struct seen seen = {.n_left = 100};
    size_t sent = 0;

    (void)state;
    memset(piece, 'x', sizeof piece);
    while (watch_lines_feed(&lines, mr_slice(piece, sizeof piece), collect,
                            &seen)) {
        sent += sizeof piece;
        assert_true(sent <= WATCH_LINE_MAX);
    }
    assert_int_equal(seen.text.len, 0);
    watch_lines_deinit(&lines);
}

/* Who reads can stop in the middle of what came. */
static void the_reader_can_stop(void **state)
{
    struct watch_lines lines = {0};
    struct seen seen = {.n_left = 2};

    (void)state;
    assert_false(feed(&lines, "a\nb\nc\n", &seen));
    assert_string_equal(mr_buf_cstr(&seen.text), "a|b|");
    mr_buf_deinit(&seen.text);
    watch_lines_deinit(&lines);
}

/* Without memory a line is not torn but refused. */
static void no_memory_is_told(void **state)
{
    struct watch_lines lines = {0};
    struct seen seen = {.n_left = 2};

    (void)state;
    mr_mem_fail_after(0);
    assert_false(feed(&lines, "half of ", &seen));
    mr_mem_fail_after(UINT64_MAX);
    assert_false(feed(&lines, "a line\n", &seen));
    assert_int_equal(seen.text.len, 0);
    watch_lines_deinit(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_whole_whatever_the_pieces),
        cmocka_unit_test(events_and_marks_are_read),
        cmocka_unit_test(other_lines_are_refused),
        cmocka_unit_test(an_endless_line_is_refused),
        cmocka_unit_test(the_reader_can_stop),
        cmocka_unit_test(no_memory_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
