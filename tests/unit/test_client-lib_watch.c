/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/watch: what a watch tells, whatever becomes of its connection. */
#include "client-lib/microreg.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client-lib/mem.h"
#include "tests/unit/client_server.h"

#define WAIT_MS 5000
#define N_OF(array) ((int)(sizeof(array) / sizeof *(array)))

/* The event of a node of service "a". */
#define NODE(index, action, more, id, n)                                       \
    "{\"index\":" #index ",\"action\":\"" action "\"" more                     \
    ",\"service\":{\"name\":\"a\",\"version\":\"1\",\"metadata\":null,"        \
    "\"endpoints\":null,\"nodes\":[{\"id\":\"" id                              \
    "\",\"address\":\"h:1\",\"metadata\":{\"n\":\"" n "\"}}]}}\n"
#define MORE ",\"more\":true"
#define MARK(index, action) "{\"index\":" #index ",\"action\":\"" action "\"}\n"

struct fixture {
    struct fake_server fake;
    struct microreg *client;
    struct microreg_watch *watch;
};

static void begin_watch(struct fixture *f, const char *name,
                        const char *const *answers, int n)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg_error error;

    fake_start(&f->fake, answers, n, true);
    options.addresses = f->fake.address;
    options.progress_ms = 1000;
    assert_int_equal(microreg_open(&options, &f->client, &error), MICROREG_OK);
    assert_int_equal(
        microreg_watch_open(f->client, name, MICROREG_MARKS, &f->watch, &error),
        MICROREG_OK);
}

static void begin(struct fixture *f, const char *const *answers, int n)
{
    begin_watch(f, "a", answers, n);
}

static void end(struct fixture *f)
{
    microreg_watch_close(f->watch);
    microreg_close(f->client);
    fake_stop(&f->fake);
}

/* The next event must be this one; "" is the mark. */
static void expect(struct fixture *f, enum microreg_action action,
                   uint64_t index, const char *id, const char *n)
{
    const struct microreg_event *event;
    struct microreg_error error = {0, ""};
    int err = microreg_watch_next(f->watch, WAIT_MS, &event, &error);

    assert_string_equal(error.text, "");
    assert_int_equal(err, MICROREG_OK);
    assert_int_equal(event->action, action);
    assert_int_equal(event->index, index);
    if (id[0] == '\0') {
        assert_null(event->service);
        return;
    }
    assert_string_equal(event->service->nodes[0].id, id);
    assert_string_equal(event->service->nodes[0].metadata[0].value, n);
}

/* Read until "x" and "y" are told with these numbers. */
static void expect_view(struct fixture *f, const char *x, const char *y)
{
    const struct microreg_event *event;
    char seen_x[8] = "";
    char seen_y[8] = "";

    while (strcmp(seen_x, x) != 0 || strcmp(seen_y, y) != 0) {
        const struct microreg_node *node;

        assert_int_equal(microreg_watch_next(f->watch, WAIT_MS, &event, NULL),
                         MICROREG_OK);
        node = &event->service->nodes[0];
        snprintf(node->id[0] == 'x' ? seen_x : seen_y, sizeof seen_x, "%s",
                 node->metadata[0].value);
    }
}

static void expect_nothing(struct fixture *f)
{
    const struct microreg_event *event;

    assert_int_equal(microreg_watch_next(f->watch, 0, &event, NULL),
                     MICROREG_E_AGAIN);
}

/* ------------------------------------------------------------- success */

/* What was there comes first, then the mark, then what changes. */
static void a_snapshot_comes_first(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1")
            NODE(5, "create", MORE, "y", "1") MARK(5, "synced")};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    expect(&f, MICROREG_CREATE, 5, "y", "1");
    expect(&f, MICROREG_SYNCED, 5, "", "");
    fake_send(&f.fake, 1, NODE(6, "update", "", "x", "2"));
    expect(&f, MICROREG_UPDATE, 6, "x", "2");
    fake_send(&f.fake, 1, NODE(7, "delete", "", "y", "1"));
    expect(&f, MICROREG_DELETE, 7, "y", "1");
    expect_nothing(&f);
    assert_non_null(strstr(fake_request(&f.fake, 1), "POST /registry/watch?"));
    assert_non_null(
        strstr(fake_request(&f.fake, 1), "{\"services\":[{\"name\":\"a\"}]}"));
    end(&f);
}

/* A broken connection is resumed behind the last complete revision: half of one
 * is not told, and what comes again is not told again. */
static void a_broken_connection_loses_and_repeats_nothing(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced"),
        FAKE_STREAM NODE(5, "create", "", "x", "1")
            NODE(6, "update", MORE, "x", "2") NODE(6, "create", "", "y", "1")
                MARK(6, "synced")};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    expect(&f, MICROREG_SYNCED, 5, "", "");
    fake_send(&f.fake, 1, NODE(6, "update", MORE, "x", "2"));
    fake_send(&f.fake, 1, NULL);
    assert_non_null(
        strstr(fake_request(&f.fake, 2), "[{\"name\":\"a\",\"index\":5}]"));
    expect(&f, MICROREG_UPDATE, 6, "x", "2");
    expect(&f, MICROREG_CREATE, 6, "y", "1");
    expect_nothing(&f);
    end(&f);
}

/* After a reset the difference is told, and nothing that is as it was. */
static void a_reset_tells_the_difference(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "same", "1")
            NODE(5, "create", MORE, "gone", "1")
                NODE(5, "create", MORE, "new", "1") MARK(5, "synced"),
        FAKE_STREAM MARK(9, "reset") NODE(9, "create", MORE, "same", "1")
            NODE(9, "create", MORE, "new", "2")
                NODE(9, "create", MORE, "more", "1") MARK(9, "synced")};
    const struct microreg_event *event;
    struct fixture f;
    char seen[4] = "";

    (void)state;
    begin(&f, answers, N_OF(answers));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(microreg_watch_next(f.watch, WAIT_MS, &event, NULL),
                         MICROREG_OK);
    }
    fake_send(&f.fake, 1, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(microreg_watch_next(f.watch, WAIT_MS, &event, NULL),
                         MICROREG_OK);
        assert_int_equal(event->index, 9);
        seen[i] = "CDUS"[event->action];
        assert_string_equal(event->service->nodes[0].id,
                            event->action == MICROREG_DELETE   ? "gone"
                            : event->action == MICROREG_UPDATE ? "new"
                                                               : "more");
    }
    assert_int_equal(seen[0], 'D');
    assert_true(strchr(seen, 'U') != NULL && strchr(seen, 'C') != NULL);
    expect_nothing(&f);
    end(&f);
}

/* A connection that breaks within a snapshot tells nothing of it. */
static void half_a_snapshot_is_not_told(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1"),
        FAKE_STREAM NODE(6, "create", MORE, "y", "1") MARK(6, "synced")};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    fake_send(&f.fake, 1, NULL);
    expect(&f, MICROREG_CREATE, 6, "y", "1");
    expect(&f, MICROREG_SYNCED, 6, "", "");
    expect_nothing(&f);
    end(&f);
}

/* A second watch of the same service needs no second stream. */
static void watches_share_one_stream(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced")};
    struct microreg_watch *second;
    struct microreg_watch *first;
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    expect(&f, MICROREG_SYNCED, 5, "", "");
    assert_int_equal(microreg_watch_open(f.client, "a", 0, &second, NULL),
                     MICROREG_OK);
    first = f.watch;
    f.watch = second;
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    f.watch = first;
    fake_send(&f.fake, 1, NODE(6, "delete", "", "x", "1"));
    expect(&f, MICROREG_DELETE, 6, "x", "1");
    f.watch = second;
    expect(&f, MICROREG_DELETE, 6, "x", "1");
    assert_int_equal(fake_count(&f.fake), 1);
    microreg_watch_close(first);
    end(&f);
}

/* The answer from memory is the one of the server, versions apart. */
static void a_view_is_rendered_like_an_answer(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "y", "2")
            NODE(5, "create", MORE, "x", "1") MARK(5, "synced")};
    struct fixture f;
    char *json;
    size_t len;

    (void)state;
    begin(&f, answers, N_OF(answers));
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    assert_int_equal(microreg_get_service_json(f.client, "a", MICROREG_WATCHED,
                                               &json, &len, NULL),
                     MICROREG_OK);
    assert_string_equal(
        json, "[{\"name\":\"a\",\"version\":\"1\",\"metadata\":null,"
              "\"endpoints\":null,\"nodes\":[{\"id\":\"x\",\"address\":\"h:1\","
              "\"metadata\":{\"n\":\"1\"}},{\"id\":\"y\",\"address\":\"h:1\","
              "\"metadata\":{\"n\":\"2\"}}]}]");
    assert_int_equal(len, strlen(json));
    microreg_free(json);
    end(&f);
}

/* A watch that begins in the middle of a revision misses nothing of it. */
static void a_watch_can_begin_within_a_revision(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced"),
        FAKE_STREAM NODE(7, "create", MORE, "x", "3")
            NODE(7, "create", MORE, "y", "1") MARK(7, "synced")};
    struct microreg_error error;
    struct fixture f;
    struct fixture one;

    (void)state;
    begin_watch(&f, NULL, answers, N_OF(answers));
    one.client = f.client;
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    expect(&f, MICROREG_SYNCED, 5, "", "");
    fake_send(&f.fake, 1,
              NODE(6, "update", "", "x", "2")
                  NODE(7, "update", MORE, "x", "3"));
    expect(&f, MICROREG_UPDATE, 6, "x", "2");
    assert_int_equal(microreg_watch_open(f.client, "a", 0, &one.watch, &error),
                     MICROREG_OK);
    fake_send(&f.fake, 1, NODE(7, "create", "", "y", "1"));
    expect_view(&one, "3", "1");
    microreg_watch_close(one.watch);
    end(&f);
}

/* The descriptor is readable as long as something is to be read. */
static void the_descriptor_tells_what_next_would_do(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced")};
    struct pollfd poller = {.events = POLLIN};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    poller.fd = microreg_watch_fd(f.watch);
    assert_int_equal(poll(&poller, 1, 0), 1);
    expect(&f, MICROREG_SYNCED, 5, "", "");
    assert_int_equal(poll(&poller, 1, 0), 0);
    fake_send(&f.fake, 1, NODE(6, "update", "", "x", "2"));
    assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
    expect(&f, MICROREG_UPDATE, 6, "x", "2");
    assert_int_equal(poll(&poller, 1, 0), 0);
    microreg_watch_stop(f.watch);
    assert_int_equal(poll(&poller, 1, 0), 1);
    end(&f);
}

/* ------------------------------------------------------------- failure */

/* Who is silent for twice the progress time is left. */
static void silence_ends_a_connection(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced"),
        FAKE_STREAM NODE(6, "update", "", "x", "2") MARK(6, "synced")};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    expect(&f, MICROREG_SYNCED, 5, "", "");
    expect(&f, MICROREG_UPDATE, 6, "x", "2");
    assert_int_equal(fake_count(&f.fake), 2);
    end(&f);
}

/* Garbage, errors and nothing at all: the next try may be better. */
static void garbage_is_survived(void **state)
{
    static const char *const answers[] = {
        NULL,
        "SSH-2.0-x\r\n",
        "HTTP/1.1 500 Internal\r\nConnection: close\r\n"
        "Content-Length: 17\r\n\r\nNo cluster leader",
        FAKE_STREAM "<html>\n",
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") "{\"index\":5}\n",
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced")};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    /* Those that answer and say no more are not waited for. */
    for (int i = 1; i <= 3; i++) {
        (void)fake_request(&f.fake, i);
        if (f.fake.connections[i - 1] >= 0) {
            fake_send(&f.fake, i, NULL);
        }
    }
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    expect(&f, MICROREG_SYNCED, 5, "", "");
    expect_nothing(&f);
    end(&f);
}

/* Bytes that never become a line are no sign of life. */
static void who_sends_no_line_is_left(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM "{\"index\":",
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced")};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    for (int i = 0; i < 40 && fake_count(&f.fake) < 2; i++) {
        fake_send(&f.fake, 1, " ");
        (void)poll(NULL, 0, 100);
    }
    assert_int_equal(fake_count(&f.fake), 2);
    expect(&f, MICROREG_CREATE, 5, "x", "1");
    end(&f);
}

/* An update of "x" to @n in revision 5 + @n. */
static void send_update(struct fixture *f, int n)
{
    char line[256];

    snprintf(line, sizeof line,
             "{\"index\":%d,\"action\":\"update\",\"service\":{\"name\":\"a\","
             "\"version\":\"1\","
             "\"nodes\":[{\"id\":\"x\",\"metadata\":{\"n\":\"%d\"}}]}}\n",
             5 + n, n);
    fake_send(&f->fake, 1, line);
}

/* Whichever allocation fails: the event is told by the next call. */
static void a_lack_of_memory_loses_no_event(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "0") MARK(5, "synced")};
    struct pollfd poller = {.events = POLLIN};
    struct fixture f;
    int n_told = 0;

    (void)state;
    begin(&f, answers, N_OF(answers));
    poller.fd = microreg_watch_fd(f.watch);
    expect(&f, MICROREG_CREATE, 5, "x", "0");
    expect(&f, MICROREG_SYNCED, 5, "", "");
    for (int n = 1; n_told < 2; n++) {
        const struct microreg_event *event;
        char text[16];
        char *json;
        size_t len;
        int err;

        send_update(&f, n);
        assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
        mrg_mem_fail_at((n + 1) / 2);
        err = n % 2 == 0
                  ? microreg_watch_next(f.watch, 0, &event, NULL)
                  : microreg_watch_next_json(f.watch, 0, &json, &len, NULL);
        mrg_mem_fail_at(0);
        snprintf(text, sizeof text, "%d", n);
        if (err != MICROREG_OK) {
            assert_int_equal(err, MICROREG_E_NOMEM);
            assert_int_equal(poll(&poller, 1, 0), 1);
            expect(&f, MICROREG_UPDATE, (uint64_t)n + 5, "x", text);
            n_told = 0;
        } else if (n % 2 != 0) {
            assert_non_null(strstr(json, text));
            microreg_free(json);
            n_told++;
        } else {
            n_told++;
        }
        expect_nothing(&f);
        assert_true(n < 200);
    }
    end(&f);
}

/* A name that servers refuse would end the stream of all watches. */
static void a_name_that_is_too_long_is_refused(void **state)
{
    static const char *const answers[] = {
        FAKE_STREAM NODE(5, "create", MORE, "x", "1") MARK(5, "synced")};
    char name[162];
    struct microreg_error error;
    struct microreg_watch *other;
    struct fixture f;

    (void)state;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    begin(&f, answers, N_OF(answers));
    assert_int_equal(microreg_watch_open(f.client, name, 0, &other, &error),
                     MICROREG_E_INVALID);
    assert_non_null(strstr(error.text, "160"));
    name[160] = '\0';
    assert_int_equal(microreg_watch_open(f.client, name, 0, &other, &error),
                     MICROREG_OK);
    microreg_watch_close(other);
    end(&f);
}

/* Nobody there: a watch opens, says nothing, and ends when its client does. */
static void a_watch_without_servers_can_be_closed(void **state)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    const struct microreg_event *event;
    struct microreg_watch *watch;
    struct microreg *client;

    (void)state;
    options.addresses = "127.0.0.1:1";
    assert_int_equal(microreg_open(&options, &client, NULL), MICROREG_OK);
    assert_int_equal(microreg_watch_open(client, NULL, 0, &watch, NULL),
                     MICROREG_OK);
    assert_int_equal(microreg_watch_next(watch, 20, &event, NULL),
                     MICROREG_E_AGAIN);
    microreg_close(client);
    assert_int_equal(microreg_watch_next(watch, -1, &event, NULL),
                     MICROREG_E_STOPPED);
    microreg_watch_close(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_comes_first),
        cmocka_unit_test(a_broken_connection_loses_and_repeats_nothing),
        cmocka_unit_test(a_reset_tells_the_difference),
        cmocka_unit_test(half_a_snapshot_is_not_told),
        cmocka_unit_test(watches_share_one_stream),
        cmocka_unit_test(a_view_is_rendered_like_an_answer),
        cmocka_unit_test(a_watch_can_begin_within_a_revision),
        cmocka_unit_test(the_descriptor_tells_what_next_would_do),
        cmocka_unit_test(silence_ends_a_connection),
        cmocka_unit_test(garbage_is_survived),
        cmocka_unit_test(who_sends_no_line_is_left),
        cmocka_unit_test(a_lack_of_memory_loses_no_event),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
        cmocka_unit_test(a_watch_without_servers_can_be_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
