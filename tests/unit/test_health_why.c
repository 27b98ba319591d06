/* SPDX-License-Identifier: Apache-2.0 */
/* health/why: the ring of events on disk. */
#include "health/mr_why.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

#define SMALL (20 * 1024)  /* The least size: 16 KiB for records. */
#define FIRST_RECORD 4096L /* Where the first record lies. */
#define TEXT_MAX 255

struct fixture {
    char dir[32];
    char path[64];
    struct mr_why *why;
    struct mr_detail detail;
};

static void open_ring(struct fixture *f, size_t size)
{
    if (mr_why_open(f->path, size, &f->why, &f->detail) != MR_OK) {
        fail_msg("%s", f->detail.text);
    }
}

static void reopen(struct fixture *f, size_t size)
{
    mr_why_close(f->why);
    open_ring(f, size);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/mr-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/why", f->dir);
    open_ring(f, SMALL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    mr_why_close(f->why);
    (void)unlink(f->path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

/* ------------------------------------------------------------- helpers */

static struct mr_kv_event event_of(uint64_t revision)
{
    return (struct mr_kv_event){
        .kind = MR_KV_EVENT_REGISTERED,
        .subject = MR_KV_SUBJECT_SERVICE,
        .node = "n1",
        .id = "web-1",
        .service = "web",
        .service_id = "",
        .status = "",
        .by = "n1 for 127.0.0.1",
        .time_ms = 1000 + revision,
        .revision = revision,
        .leader = "",
    };
}

static void add(struct fixture *f, uint64_t revision)
{
    struct mr_kv_event event = event_of(revision);

    mr_why_add(f->why, &event);
}

#define FOUND_MAX 4096

/* What a search found. */
struct found {
    uint64_t wanted; /* Revision; 0: all. */
    uint64_t revisions[FOUND_MAX];
    size_t n;
    uint64_t since_ms;
};

static bool match(void *arg, const struct mr_kv_event *event)
{
    const struct found *found = arg;

    return found->wanted == 0 || event->revision == found->wanted;
}

static void note(void *arg, const struct mr_kv_event *event)
{
    struct found *found = arg;

    assert_true(found->n < FOUND_MAX);
    found->revisions[found->n++] = event->revision;
    assert_string_equal(event->id, "web-1");
}

static struct found find(struct fixture *f, size_t max)
{
    struct found found = {0};
    struct mr_why_query query = {match, note, &found, max};

    assert_int_equal(mr_why_find(f->why, &query, &found.since_ms), MR_OK);
    return found;
}

/* Everything found is @first, @first + 1 ... @last. */
static void expect_run(const struct found *found, uint64_t first, uint64_t last)
{
    assert_int_equal(found->n, last - first + 1);
    for (size_t i = 0; i < found->n; i++) {
        assert_int_equal(found->revisions[i], first + i);
    }
}

/* Overwrite bytes of the file. */
static void poke(struct fixture *f, long offset, const void *bytes, size_t len)
{
    int fd = open(f->path, O_RDWR);

    assert_int_equal(pwrite(fd, bytes, len, offset), len);
    close(fd);
}

/* ------------------------------------------------------------- success */

/* A ring that nobody wrote to says so. */
static void an_empty_ring_has_no_events(void **state)
{
    struct found found = find(*state, 10);

    assert_int_equal(found.n, 0);
    assert_int_equal(found.since_ms, 0);
}

/* Events come back in the order in which they happened. */
static void events_are_found_oldest_first(void **state)
{
    for (uint64_t i = 1; i <= 5; i++) {
        add(*state, i);
    }
    struct found found = find(*state, 10);

    expect_run(&found, 1, 5);
    assert_int_equal(found.since_ms, 1001);
}

/* With too many matches the newest are told. */
static void the_newest_are_kept_when_there_are_too_many(void **state)
{
    for (uint64_t i = 1; i <= 50; i++) {
        add(*state, i);
    }
    struct found found = find(*state, 3);

    expect_run(&found, 48, 50);
    assert_int_equal(found.since_ms, 1001);
}

/* What does not match is not told. */
static void only_what_matches_is_found(void **state)
{
    struct found found = {.wanted = 3};
    struct mr_why_query query = {match, note, &found, 10};
    struct fixture *f = *state;

    for (uint64_t i = 1; i <= 5; i++) {
        add(f, i);
    }
    assert_int_equal(mr_why_find(f->why, &query, &found.since_ms), MR_OK);
    expect_run(&found, 3, 3);
}

static void keep_whole(void *arg, const struct mr_kv_event *event)
{
    assert_int_equal(*(int *)arg, 0);
    *(int *)arg = 1;
    assert_int_equal(event->kind, MR_KV_EVENT_ENDED);
    assert_int_equal(event->subject, MR_KV_SUBJECT_CHECK);
    assert_string_equal(event->node, "n1");
    assert_string_equal(event->id, "service:web-1");
    assert_string_equal(event->service, "web");
    assert_string_equal(event->service_id, "web-1");
    assert_string_equal(event->status, "critical");
    assert_string_equal(event->by, "leader n2");
    assert_string_equal(event->leader, "n2");
    assert_int_equal(event->time_ms, 1234567890123);
    assert_int_equal(event->revision, 77);
    assert_int_equal(event->lease_kind, MR__LEASE_KIND__LEASE_SESSION);
    assert_int_equal(event->lease_id, 9);
    assert_int_equal(event->ttl_ms, 10000);
    assert_int_equal(event->silent_ms, 10200);
    assert_int_equal(event->term, 4);
    assert_int_equal(event->n_gaps, 3);
    assert_int_equal(event->gaps_ms[0], 3000);
    assert_int_equal(event->gaps_ms[2], 3002);
}

static bool match_all(void *arg, const struct mr_kv_event *event)
{
    (void)arg;
    (void)event;
    return true;
}

/* Every field of an event survives. */
static void an_event_comes_back_whole(void **state)
{
    static const uint32_t gaps[] = {3000, 3001, 3002};
    struct fixture *f = *state;
    struct mr_kv_event event = {
        .kind = MR_KV_EVENT_ENDED,
        .subject = MR_KV_SUBJECT_CHECK,
        .node = "n1",
        .id = "service:web-1",
        .service = "web",
        .service_id = "web-1",
        .status = "critical",
        .by = "leader n2",
        .time_ms = 1234567890123,
        .revision = 77,
        .lease_kind = MR__LEASE_KIND__LEASE_SESSION,
        .lease_id = 9,
        .ttl_ms = 10000,
        .silent_ms = 10200,
        .gaps_ms = gaps,
        .n_gaps = 3,
        .leader = "n2",
        .term = 4,
    };
    int seen = 0;
    uint64_t since;
    struct mr_why_query query = {match_all, keep_whole, &seen, 10};

    mr_why_add(f->why, &event);
    assert_int_equal(mr_why_find(f->why, &query, &since), MR_OK);
    assert_int_equal(seen, 1);
}

static void expect_cut(void *arg, const struct mr_kv_event *event)
{
    *(size_t *)arg = strlen(event->by);
}

/* A text that is too long loses its end, between two characters. */
static void long_texts_are_cut_at_a_character(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_event event = event_of(1);
    char by[400];
    size_t len = 0;
    uint64_t since;
    struct mr_why_query query = {match_all, expect_cut, &len, 1};

    memset(by, 'x', sizeof by);
    by[sizeof by - 1] = '\0';
    memcpy(by + TEXT_MAX - 1, "\xC3\xA4", 2); /* Would be cut in two. */
    event.by = by;
    mr_why_add(f->why, &event);
    assert_int_equal(mr_why_find(f->why, &query, &since), MR_OK);
    assert_int_equal(len, TEXT_MAX - 1);
}

/* More than four gaps, or no service ID, are no trouble. */
static void odd_events_are_written_down(void **state)
{
    static const uint32_t gaps[] = {1, 2, 3, 4, 5, 6};
    struct fixture *f = *state;
    struct mr_kv_event event = event_of(1);

    event.service_id = NULL;
    event.lease_id = 3;
    event.gaps_ms = gaps;
    event.n_gaps = MR_ARRAY_LEN(gaps);
    mr_why_add(f->why, &event);
    struct found found = find(f, 10);

    expect_run(&found, 1, 1);
}

/* A full ring forgets its oldest events, and no others. */
static void a_full_ring_forgets_the_oldest(void **state)
{
    for (uint64_t i = 1; i <= 1000; i++) {
        add(*state, i);
        struct found found = find(*state, FOUND_MAX);

        expect_run(&found, i - found.n + 1, i);
        assert_true(found.n == i || found.n > 100);
        assert_int_equal(found.since_ms, 1000 + found.revisions[0]);
    }
}

/* A ring that is opened again goes on where it ended, at any place. */
static void a_reopened_ring_goes_on(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 1; i <= 300; i++) {
        add(f, i);
        reopen(f, SMALL);
    }
    struct found found = find(f, FOUND_MAX);

    assert_true(found.n > 100);
    expect_run(&found, 300 - found.n + 1, 300);
}

/* What was added before kill -9 is there. */
static void a_killed_writer_loses_nothing(void **state)
{
    struct fixture *f = *state;
    int status;
    pid_t child = fork();

    if (child == 0) {
        for (uint64_t i = 1; i <= 50; i++) {
            add(f, i);
        }
        (void)raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    reopen(f, SMALL);
    struct found found = find(f, FOUND_MAX);

    expect_run(&found, 1, 50);
}

/* Commands that a restart applies again are not told twice. */
static void a_replay_is_not_written_twice(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 1; i <= 5; i++) {
        add(f, i);
    }
    reopen(f, SMALL);
    for (uint64_t i = 2; i <= 8; i++) {
        add(f, i);
    }
    struct found found = find(f, 10);

    expect_run(&found, 1, 8);
}

static void add_two(struct fixture *f, uint64_t revision)
{
    struct mr_kv_event event = event_of(revision);

    mr_why_add(f->why, &event);
    event.service = "other";
    mr_why_add(f->why, &event);
}

/* The events of the newest command may be incomplete, so they are written
 * again, and told once. */
static void the_newest_command_is_told_once(void **state)
{
    struct fixture *f = *state;

    add_two(f, 7);
    reopen(f, SMALL);
    add_two(f, 7);
    struct found found = find(f, 10);

    assert_int_equal(found.n, 2);
}

/* A state that began anew counts from 1 again, and is written down. */
static void a_younger_event_of_a_small_revision_is_written(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_event event = event_of(1);

    add(f, 500);
    reopen(f, SMALL);
    event.time_ms = 100000;
    mr_why_add(f->why, &event);
    struct found found = find(f, 10);

    assert_int_equal(found.n, 2);
    assert_int_equal(found.revisions[1], 1);
}

/* The whole ring, as large as it is in a server. */
static void a_large_ring_holds_many_events(void **state)
{
    struct fixture *f = *state;
    struct found found = {.wanted = 200000};
    struct mr_why_query query = {match, note, &found, 10};

    reopen(f, 0);
    for (uint64_t i = 1; i <= 200000; i++) {
        add(f, i);
    }
    assert_int_equal(mr_why_find(f->why, &query, &found.since_ms), MR_OK);
    expect_run(&found, 200000, 200000);
    assert_in_range(found.since_ms, 1000 + 90000, 1000 + 110000);
}

/* ------------------------------------------------------------- failure */

/* A damaged record is skipped, the others stay. */
static void a_torn_record_is_skipped(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 1; i <= 3; i++) {
        add(f, i);
    }
    poke(f, FIRST_RECORD + 20, "torn", 4);
    struct found found = find(f, 10);

    expect_run(&found, 2, 3);
    reopen(f, SMALL);
    found = find(f, 10);
    expect_run(&found, 2, 3);
}

/* The newest record torn: the next takes its place. */
static void writing_goes_on_behind_the_last_whole_record(void **state)
{
    struct fixture *f = *state;
    long length;

    add(f, 1);
    add(f, 2);
    length = 40 + 3 + 6 + 4 + 1 + 1 + 17 + 1; /* Head and texts. */
    length = (length + 7) / 8 * 8;
    poke(f, FIRST_RECORD + length + 45, "?", 1);
    reopen(f, SMALL);
    add(f, 3);
    struct found found = find(f, 10);

    assert_int_equal(found.n, 2);
    assert_int_equal(found.revisions[0], 1);
    assert_int_equal(found.revisions[1], 3);
}

/* A whole record at another place is not one. */
static void a_record_at_a_wrong_place_is_skipped(void **state)
{
    struct fixture *f = *state;
    char bytes[512];
    int fd = open(f->path, O_RDONLY);

    add(f, 1);
    assert_int_equal(pread(fd, bytes, sizeof bytes, FIRST_RECORD),
                     sizeof bytes);
    close(fd);
    poke(f, FIRST_RECORD + 1024, bytes, sizeof bytes);
    reopen(f, SMALL);
    struct found found = find(f, 10);

    expect_run(&found, 1, 1);
}

/* A file full of noise is a ring without events. */
static void a_noisy_file_has_no_events(void **state)
{
    struct fixture *f = *state;
    unsigned char noise[SMALL - FIRST_RECORD];
    uint32_t x = 12345;

    for (size_t i = 0; i < sizeof noise; i++) {
        x = x * 1664525 + 1013904223;
        noise[i] = (unsigned char)(x >> 24);
    }
    poke(f, FIRST_RECORD, noise, sizeof noise);
    reopen(f, SMALL);
    assert_int_equal(find(f, 10).n, 0);
    add(f, 1);
    struct found found = find(f, 10);

    expect_run(&found, 1, 1);
}

/* Another version, another size or another file: begun anew. */
static void a_foreign_file_is_begun_anew(void **state)
{
    struct fixture *f = *state;
    uint32_t version = 99;

    add(f, 1);
    reopen(f, 2 * SMALL);
    assert_int_equal(find(f, 10).n, 0);
    add(f, 2);
    poke(f, 8, &version, sizeof version);
    reopen(f, 2 * SMALL);
    assert_int_equal(find(f, 10).n, 0);
    add(f, 3);
    assert_int_equal(truncate(f->path, 7), 0);
    reopen(f, 2 * SMALL);
    assert_int_equal(find(f, 10).n, 0);
}

/* A folder that is not there. */
static void a_path_that_cannot_be_opened_is_named(void **state)
{
    struct fixture *f = *state;
    struct mr_why *why = NULL;

    assert_int_equal(mr_why_open("/nowhere/at/all", 0, &why, &f->detail),
                     MR_E_IO);
    assert_null(why);
    assert_non_null(strstr(f->detail.text, "/nowhere/at/all"));
}

/* Every allocation of an opening and a search may fail. */
static void lack_of_memory_is_reported(void **state)
{
    struct fixture *f = *state;
    struct found found = {0};
    struct mr_why_query query = {match, note, &found, 10};
    enum mr_err err = MR_E_NOMEM;

    for (uint64_t i = 1; i <= 3; i++) {
        add(f, i);
    }
    for (uint64_t n = 0; err != MR_OK; n++) {
        mr_mem_fail_after(n);
        err = mr_why_find(f->why, &query, &found.since_ms);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        assert_true(n < 20);
    }
    mr_mem_fail_after(UINT64_MAX);
    expect_run(&found, 1, 3);
    mr_why_close(f->why);
    f->why = NULL;
    err = MR_E_NOMEM;
    for (uint64_t n = 0; err != MR_OK; n++) {
        mr_mem_fail_after(n);
        err = mr_why_open(f->path, SMALL, &f->why, NULL);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        assert_true(n < 20);
    }
    mr_mem_fail_after(UINT64_MAX);
}

/* ------------------------------------------------------------- threads */

static void *write_many(void *arg)
{
    for (uint64_t i = 1; i <= 20000; i++) {
        add(arg, i);
    }
    return NULL;
}

/* A reader against the writer sees whole events, ascending. */
static void reading_beside_the_writer_sees_whole_events(void **state)
{
    struct fixture *f = *state;
    uint64_t last = 0;
    pthread_t writer;

    assert_int_equal(pthread_create(&writer, NULL, write_many, f), 0);
    while (last < 20000) {
        struct found found = find(f, FOUND_MAX);

        for (size_t i = 1; i < found.n; i++) {
            assert_true(found.revisions[i] > found.revisions[i - 1]);
        }
        last = found.n > 0 ? found.revisions[found.n - 1] : 0;
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
}

#define with_ring(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_ring(an_empty_ring_has_no_events),
        with_ring(events_are_found_oldest_first),
        with_ring(the_newest_are_kept_when_there_are_too_many),
        with_ring(only_what_matches_is_found),
        with_ring(an_event_comes_back_whole),
        with_ring(long_texts_are_cut_at_a_character),
        with_ring(odd_events_are_written_down),
        with_ring(a_full_ring_forgets_the_oldest),
        with_ring(a_reopened_ring_goes_on),
        with_ring(a_killed_writer_loses_nothing),
        with_ring(a_replay_is_not_written_twice),
        with_ring(the_newest_command_is_told_once),
        with_ring(a_younger_event_of_a_small_revision_is_written),
        with_ring(a_large_ring_holds_many_events),
        with_ring(a_torn_record_is_skipped),
        with_ring(writing_goes_on_behind_the_last_whole_record),
        with_ring(a_record_at_a_wrong_place_is_skipped),
        with_ring(a_noisy_file_has_no_events),
        with_ring(a_foreign_file_is_begun_anew),
        with_ring(a_path_that_cannot_be_opened_is_named),
        with_ring(lack_of_memory_is_reported),
        with_ring(reading_beside_the_writer_sees_whole_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
