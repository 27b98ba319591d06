/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/stream_lines, topic: lines become views, also without memory. */
#include "client-lib/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NODE(index, action, more, name, id, n)                                 \
    "{\"index\":" #index ",\"action\":\"" action "\"" more                     \
    ",\"service\":{\"name\":\"" name "\",\"version\":\"1\",\"nodes\":"         \
    "[{\"id\":\"" id "\",\"metadata\":{\"n\":\"" n "\"}}]}}\n"
#define MORE ",\"more\":true"
#define MARK(index, action) "{\"index\":" #index ",\"action\":\"" action "\"}\n"

struct fixture {
    struct microreg client;
    struct mrg_server server;
    struct mrg_stream *stream;
    struct mrg_topic *topic;
};

static struct mrg_topic *add_topic(struct fixture *f, const char *name)
{
    struct mrg_topic *topic = mrg_topic_new(f->stream, name);

    assert_non_null(topic);
    assert_true(mrg_map_reserve(&f->stream->topics, 1));
    (void)mrg_map_put(&f->stream->topics, topic->name, topic->name_len, topic);
    return topic;
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->stream = mrg_stream_new(&f->client, NULL, false);
    assert_non_null(f->stream);
    f->stream->t.server = &f->server;
    f->topic = add_topic(f, "a");
}

static void end(struct fixture *f)
{
    mrg_stream_free(f->stream);
}

/* What a new connection does: ask with the index, or for a snapshot. */
static void connect_again(struct fixture *f)
{
    struct mrg_topic *topic;
    size_t at = 0;

    mrg_stream_drop_pending(f->stream);
    mrg_text_clear(&f->stream->buffer);
    while ((topic = mrg_map_next(&f->stream->topics, &at)) != NULL) {
        mrg_topic_cut(topic);
        topic->is_asked = true;
        if (topic->index == 0) {
            mrg_topic_reset(topic);
        }
    }
}

static bool tell(struct fixture *f, const char *lines)
{
    return mrg_stream_read(f->stream, lines, strlen(lines));
}

/* The "n" of a node in the view, or "". */
static const char *look(const struct mrg_topic *topic, const char *id)
{
    static char n[8];
    struct mrg_object *object;
    size_t at = 0;

    while ((object = mrg_map_next(&topic->view, &at)) != NULL) {
        if (strcmp(mrg_object_id(object), id) == 0) {
            const char *found = strstr(mrg_object_json(object), "\"n\":\"");

            n[0] = found[5];
            return n;
        }
    }
    return "";
}

/* ------------------------------------------------------------- success */

/* Nothing of a revision is seen before all of it is there. */
static void a_revision_is_applied_whole(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    connect_again(&f);
    assert_true(tell(&f, MARK(5, "synced")));
    assert_true(f.topic->is_synced);
    assert_true(tell(&f, NODE(6, "create", MORE, "a", "x", "1")));
    assert_string_equal(look(f.topic, "x"), "");
    assert_int_equal(f.topic->index, 5);
    assert_true(tell(&f, NODE(6, "create", "", "a", "y", "1")));
    assert_string_equal(look(f.topic, "x"), "1");
    assert_int_equal(f.topic->index, 6);
    assert_true(tell(&f, MARK(9, "progress")));
    assert_int_equal(f.topic->index, 9);
    end(&f);
}

/* What nobody asked for, and what was there already, changes nothing. */
static void others_and_old_ones_are_ignored(void **state)
{
    struct fixture f;
    struct mrg_topic *late;

    (void)state;
    begin(&f);
    connect_again(&f);
    late = add_topic(&f, "late");
    assert_true(
        tell(&f, NODE(5, "create", MORE, "a", "x", "5") MARK(5, "synced")));
    assert_true(tell(&f, NODE(4, "update", "", "a", "x", "4")
                             NODE(6, "create", "", "b", "x", "6")
                                 NODE(6, "create", "", "late", "x", "6")));
    assert_string_equal(look(f.topic, "x"), "5");
    assert_int_equal(f.topic->view.n, 1);
    assert_int_equal(late->view.n, 0);
    assert_false(late->is_synced);
    end(&f);
}

/* ------------------------------------------------------------- failure */

static void lines_that_are_none_end_the_stream(void **state)
{
    static const char *const cases[] = {
        "x\n",
        "{}\n",
        "{\"index\":1}\n",
        "{\"action\":\"create\"}\n",
        "{\"index\":1,\"action\":\"create\"}\n",
        "{\"index\":1,\"action\":\"create\",\"service\":{\"name\":\"a\"}}\n",
        "{\"index\":1,\"action\":\"create\",\"service\":{\"name\":\"a\","
        "\"nodes\":[]}}\n",
        "{\"index\":1,\"action\":\"create\",\"service\":{\"name\":\"a\","
        "\"nodes\":[{\"id\":\"\"}]}}\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;

        begin(&f);
        connect_again(&f);
        if (tell(&f, cases[i])) {
            fail_msg("case %zu was taken", i);
        }
        assert_string_equal(f.stream->why.data,
                            "sent something that is no stream");
        end(&f);
    }
}

/* Whichever allocation fails: after the next connection the view is right. */
static void a_lack_of_memory_loses_nothing(void **state)
{
    bool is_done = false;

    (void)state;
    for (long n = 1; !is_done; n++) {
        struct fixture f;

        begin(&f);
        connect_again(&f);
        assert_true(
            tell(&f, NODE(5, "create", MORE, "a", "x", "1") MARK(5, "synced")));
        mrg_mem_fail_at(n);
        is_done = tell(&f, NODE(6, "update", MORE, "a", "x", "2")
                               NODE(6, "create", "", "a", "y", "1")
                                   NODE(7, "create", "", "a", "z", "1")
                                       NODE(8, "create", "", "a", "q", "1"));
        mrg_mem_fail_at(0);
        connect_again(&f);
        if (f.topic->has_snapshot) {
            assert_true(
                tell(&f, NODE(8, "create", MORE, "a", "x", "2")
                             NODE(8, "create", MORE, "a", "y", "1")
                                 NODE(8, "create", MORE, "a", "z", "1")
                                     NODE(8, "create", MORE, "a", "q", "1")));
        } else {
            assert_true(tell(&f, NODE(6, "update", MORE, "a", "x",
                                      "2") NODE(6, "create", "", "a", "y", "1")
                                     NODE(7, "create", "", "a", "z", "1")
                                         NODE(8, "create", "", "a", "q", "1")));
        }
        assert_true(tell(&f, MARK(8, "synced")));
        assert_int_equal(f.topic->view.n, 4);
        assert_string_equal(look(f.topic, "x"), "2");
        end(&f);
        assert_true(n < 500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_revision_is_applied_whole),
        cmocka_unit_test(others_and_old_ones_are_ignored),
        cmocka_unit_test(lines_that_are_none_end_the_stream),
        cmocka_unit_test(a_lack_of_memory_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
