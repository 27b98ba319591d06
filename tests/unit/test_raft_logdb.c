/* SPDX-License-Identifier: Apache-2.0 */
/* raft/logdb: what was committed is there, after a crash at any point; what is
 * damaged is refused; a full disk changes nothing. */
#include "raft/logdb.h"

#include "raft_fixture.h"

#define PAGE 4096

struct fixture {
    char dir[64];
    char file[80];
    struct logdb *db;
};

static enum mr_err try_open(struct fixture *f, const char *node_id, size_t map,
                            struct mr_detail *detail)
{
    struct logdb_options o = {f->dir, node_id, 42, map, false};

    return logdb_open(&o, &f->db, detail);
}

static void open_db(struct fixture *f)
{
    struct mr_detail detail = {""};

    if (try_open(f, FX_UUID, 0, &detail) != MR_OK) {
        fail_msg("open: %s", detail.text);
    }
}

static void close_db(struct fixture *f)
{
    logdb_close(f->db);
    f->db = NULL;
}

static void reopen(struct fixture *f)
{
    close_db(f);
    open_db(f);
}

static int setup(void **state)
{
    struct fixture *f = mr_calloc(1, sizeof *f);

    fx_temp_dir(f->dir);
    (void)snprintf(f->file, sizeof f->file, "%s/data.mdb", f->dir);
    open_db(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_db(f);
    fx_remove_dir(f->dir);
    mr_free(f);
    return 0;
}

static void append(struct fixture *f, uint64_t index, uint64_t term,
                   const char *text)
{
    struct logdb_entry e = {index, term, 1, mr_slice_str(text)};

    assert_int_equal(logdb_begin(f->db), MR_OK);
    logdb_append(f->db, &e);
    assert_int_equal(logdb_commit(f->db), MR_OK);
}

static void append_many(struct fixture *f, uint64_t first, uint64_t last,
                        uint64_t term)
{
    char text[64];

    for (uint64_t i = first; i <= last; i++) {
        (void)snprintf(text, sizeof text, "entry %llu of %llu",
                       (unsigned long long)i, (unsigned long long)term);
        append(f, i, term, text);
    }
}

static void expect_entry(struct fixture *f, uint64_t index, uint64_t term,
                         const char *text)
{
    struct logdb_batch b;

    assert_int_equal(logdb_read(f->db, index, index, 1, &b), MR_OK);
    assert_int_equal(b.n, 1);
    assert_int_equal(b.entries[0].index, index);
    assert_int_equal(b.entries[0].term, term);
    assert_true(mr_slice_eq(b.entries[0].data, mr_slice_str(text)));
    logdb_batch_free(&b);
}

/* ------------------------------------------------------------- success */

/* A new log holds nothing and begins at 1. */
static void fresh_log_is_empty(void **state)
{
    struct fixture *f = *state;
    const struct logdb_state *st = logdb_state(f->db);

    assert_int_equal(st->first, 1);
    assert_int_equal(st->last, 0);
    assert_int_equal(st->term, 0);
    assert_int_equal(st->cluster_id, 0);
    assert_int_equal(st->raft_id, 42);
    assert_int_equal(st->snapshot.index, 0);
}

/* The server's number stays what it was when the folder was made. */
static void identity_is_born_with_the_folder(void **state)
{
    struct fixture *f = *state;
    struct logdb_options o = {f->dir, FX_UUID, 43, 0, false};

    close_db(f);
    assert_int_equal(logdb_open(&o, &f->db, NULL), MR_OK);
    assert_int_equal(logdb_state(f->db)->raft_id, 42);
    assert_int_equal(logdb_state(f->db)->starts, 2);
}

/* Entries, vote and cluster are there after a restart. */
static void commits_survive_a_restart(void **state)
{
    struct fixture *f = *state;

    append(f, 1, 1, "one");
    append(f, 2, 3, "");
    assert_int_equal(logdb_begin(f->db), MR_OK);
    logdb_set_vote(f->db, 7, 99);
    logdb_set_cluster(f->db, 0xabc);
    assert_int_equal(logdb_commit(f->db), MR_OK);
    reopen(f);
    assert_int_equal(logdb_state(f->db)->term, 7);
    assert_int_equal(logdb_state(f->db)->voted_for, 99);
    assert_int_equal(logdb_state(f->db)->cluster_id, 0xabc);
    assert_int_equal(logdb_state(f->db)->last, 2);
    assert_int_equal(logdb_state(f->db)->bytes, 3);
    expect_entry(f, 1, 1, "one");
    expect_entry(f, 2, 3, "");
}

/* An entry at an index that exists replaces it and all that follow. */
static void append_truncates_what_it_overwrites(void **state)
{
    struct fixture *f = *state;

    append_many(f, 1, 10, 1);
    append(f, 4, 2, "other");
    reopen(f);
    assert_int_equal(logdb_state(f->db)->last, 4);
    expect_entry(f, 4, 2, "other");
    expect_entry(f, 3, 1, "entry 3 of 1");
}

/* Large entries are stored and read whole. */
static void large_entries_are_read_back(void **state)
{
    struct fixture *f = *state;
    size_t len = 3 << 20;
    char *text = mr_malloc(len + 1);

    memset(text, 'x', len);
    text[len] = '\0';
    append(f, 1, 1, text);
    append(f, 2, 1, text);
    reopen(f);
    expect_entry(f, 1, 1, text);
    expect_entry(f, 2, 1, text);
    mr_free(text);
}

/* Reading stops at the byte limit, but gives one entry at least. */
static void reading_is_bounded_by_bytes(void **state)
{
    struct fixture *f = *state;
    struct logdb_batch b;

    append_many(f, 1, 10, 1);
    assert_int_equal(logdb_read(f->db, 2, 10, 1, &b), MR_OK);
    assert_int_equal(b.n, 1);
    logdb_batch_free(&b);
    assert_int_equal(logdb_read(f->db, 2, 5, 1 << 20, &b), MR_OK);
    assert_int_equal(b.n, 4);
    logdb_batch_free(&b);
    assert_int_equal(logdb_read(f->db, 11, 12, 1, &b), MR_E_NOTFOUND);
}

/* Compaction drops from the front, as much as it was told in one go. */
static void compaction_goes_in_steps(void **state)
{
    struct fixture *f = *state;
    struct logdb_snapshot s = {8, 1, 1, 5, mr_slice_str("conf")};

    append_many(f, 1, 10, 1);
    assert_int_equal(logdb_begin(f->db), MR_OK);
    logdb_set_snapshot(f->db, &s);
    assert_true(logdb_compact(f->db, 8, 5));
    assert_int_equal(logdb_commit(f->db), MR_OK);
    assert_int_equal(logdb_state(f->db)->first, 6);
    assert_int_equal(logdb_begin(f->db), MR_OK);
    assert_false(logdb_compact(f->db, 8, 5));
    assert_int_equal(logdb_commit(f->db), MR_OK);
    reopen(f);
    assert_int_equal(logdb_state(f->db)->first, 9);
    assert_int_equal(logdb_state(f->db)->last, 10);
    assert_int_equal(logdb_state(f->db)->snapshot.index, 8);
    assert_int_equal(logdb_state(f->db)->snapshot.file, 5);
    assert_true(
        mr_slice_eq(logdb_state(f->db)->snapshot.conf, mr_slice_str("conf")));
}

/* An installed snapshot replaces the log, which goes on behind it. */
static void reset_goes_on_behind_the_snapshot(void **state)
{
    struct fixture *f = *state;
    struct logdb_snapshot s = {100, 4, 90, 1, mr_slice_str("c")};

    append_many(f, 1, 10, 1);
    assert_int_equal(logdb_begin(f->db), MR_OK);
    logdb_set_snapshot(f->db, &s);
    logdb_reset(f->db, 101);
    assert_int_equal(logdb_commit(f->db), MR_OK);
    reopen(f);
    assert_int_equal(logdb_state(f->db)->first, 101);
    assert_int_equal(logdb_state(f->db)->last, 100);
    append(f, 101, 5, "next");
    reopen(f);
    expect_entry(f, 101, 5, "next");
}

/* The file does not grow when as much is dropped as is appended. */
static void dropped_space_is_used_again(void **state)
{
    struct fixture *f = *state;
    struct stat before;
    struct stat after;

    append_many(f, 1, 500, 1);
    assert_int_equal(stat(f->file, &before), 0);
    for (uint64_t i = 501; i <= 3000; i++) {
        append_many(f, i, i, 1);
        assert_int_equal(logdb_begin(f->db), MR_OK);
        (void)logdb_compact(f->db, i - 500, 10);
        assert_int_equal(logdb_commit(f->db), MR_OK);
    }
    assert_int_equal(stat(f->file, &after), 0);
    assert_true(after.st_size < 3 * before.st_size);
}

/* Others' records come back as they were. */
static void records_are_kept(void **state)
{
    struct fixture *f = *state;
    struct mr_slice bytes;

    assert_int_equal(logdb_get_record(f->db, LOGDB_PEERS, &bytes),
                     MR_E_NOTFOUND);
    assert_int_equal(logdb_begin(f->db), MR_OK);
    logdb_set_record(f->db, LOGDB_PEERS, mr_slice_str("somebody"));
    assert_int_equal(logdb_commit(f->db), MR_OK);
    reopen(f);
    assert_int_equal(logdb_get_record(f->db, LOGDB_PEERS, &bytes), MR_OK);
    assert_true(mr_slice_eq(bytes, mr_slice_str("somebody")));
    mr_free((void *)(uintptr_t)bytes.data);
}

/* ------------------------------------------------------------- crashes */

/* The file as it is between LMDB's writes: new pages everywhere, but the meta
 * page of the commit not yet. It must read as the state before. */
static void crash_before_the_meta_page_keeps_the_old_state(void **state)
{
    struct fixture *f = *state;
    uint8_t *before;
    uint8_t *after;
    size_t before_len;
    size_t after_len;

    append_many(f, 1, 20, 1);
    for (uint64_t i = 21; i < 60; i++) {
        before = fx_read_file(f->file, &before_len);
        append_many(f, i, i, 1 + i / 7);
        after = fx_read_file(f->file, &after_len);
        memcpy(after, before, 2 * PAGE);
        close_db(f);
        fx_write_file(f->file, after, after_len);
        open_db(f);
        assert_int_equal(logdb_state(f->db)->last, i - 1);
        append_many(f, i, i, 1 + i / 7);
        mr_free(before);
        mr_free(after);
    }
}

/* After any sequence of operations a restart finds what a model says. */
static void restarts_find_what_was_committed(void **state)
{
    struct fixture *f = *state;
    uint64_t terms[512] = {0};
    uint64_t first = 1;
    uint64_t last = 0;
    uint64_t term = 1;
    unsigned seed = 7;

    for (unsigned round = 0; round < 400; round++) {
        unsigned what = (unsigned)rand_r(&seed) % 10;

        term += what == 0;
        if (what < 7 && last < 500) {
            last++;
            terms[last] = term;
            append_many(f, last, last, term);
        } else if (what < 9 && last > first) {
            last -= (unsigned)rand_r(&seed) % (last - first);
            assert_int_equal(logdb_begin(f->db), MR_OK);
            logdb_truncate(f->db, last + 1);
            assert_int_equal(logdb_commit(f->db), MR_OK);
        } else if (last > first + 4) {
            struct logdb_snapshot s = {first + 2, terms[first + 2], 1, 1,
                                       mr_slice_str("c")};
            assert_int_equal(logdb_begin(f->db), MR_OK);
            logdb_set_snapshot(f->db, &s);
            (void)logdb_compact(f->db, first + 1, 100);
            assert_int_equal(logdb_commit(f->db), MR_OK);
            first += 2;
        }
        reopen(f);
        assert_int_equal(logdb_state(f->db)->last, last);
        assert_int_equal(logdb_state(f->db)->first, first);
    }
    for (uint64_t i = first; i <= last; i++) {
        char text[64];

        (void)snprintf(text, sizeof text, "entry %llu of %llu",
                       (unsigned long long)i, (unsigned long long)terms[i]);
        expect_entry(f, i, terms[i], text);
    }
}

/* ------------------------------------------------------------- failure */

/* Wherever a bit flips, the log opens as the whole of what it was, or not. */
static void damage_never_shortens_the_history(void **state)
{
    struct fixture *f = *state;
    uint8_t *good;
    size_t len;
    size_t n_refused = 0;

    for (unsigned i = 0; i < 30; i++) {
        append_many(f, 10 * i + 1, 10 * i + 10, i + 1);
    }
    close_db(f);
    good = fx_read_file(f->file, &len);
    for (size_t at = 0; at < len; at += at < 2 * PAGE ? 3 : 97) {
        good[at] ^= (uint8_t)(1u << (at % 8));
        fx_write_file(f->file, good, len);
        good[at] ^= (uint8_t)(1u << (at % 8));
        if (try_open(f, FX_UUID, 0, NULL) != MR_OK) {
            n_refused++;
            continue;
        }
        assert_int_equal(logdb_state(f->db)->last, 300);
        assert_int_equal(logdb_state(f->db)->first, 1);
        close_db(f);
    }
    assert_true(n_refused > 50);
    mr_free(good);
    fx_remove_dir(f->dir);
    open_db(f);
}

/* A file that was cut is refused, wherever. */
static void cut_file_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mr_detail detail = {""};
    uint8_t *good;
    size_t len;

    append_many(f, 1, 200, 1);
    close_db(f);
    good = fx_read_file(f->file, &len);
    for (size_t cut = len - PAGE; cut > 2 * PAGE; cut -= PAGE) {
        enum mr_err err;

        fx_write_file(f->file, good, cut);
        err = try_open(f, FX_UUID, 0, &detail);
        if (err == MR_OK) {
            assert_int_equal(logdb_state(f->db)->last, 200);
            close_db(f);
        } else {
            assert_int_equal(err, MR_E_CORRUPT);
            assert_non_null(strstr(detail.text, "move the data folder away"));
        }
    }
    mr_free(good);
    fx_remove_dir(f->dir);
    open_db(f);
}

/* The meta page of the last commit is lost: LMDB alone would show the state
 * before. */
static void lost_meta_page_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t *older;
    uint8_t *data;
    size_t len;
    size_t older_len;

    append_many(f, 1, 5, 1);
    older = fx_read_file(f->file, &older_len);
    append_many(f, 6, 8, 1);
    close_db(f);
    data = fx_read_file(f->file, &len);
    memcpy(data, older, 2 * PAGE);
    memcpy(data + PAGE, data, PAGE);
    fx_write_file(f->file, data, len);
    assert_int_equal(try_open(f, FX_UUID, 0, NULL), MR_E_CORRUPT);
    mr_free(older);
    mr_free(data);
    fx_remove_dir(f->dir);
    open_db(f);
}

/* The folder of another server is not taken. */
static void foreign_folder_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mr_detail detail = {""};

    close_db(f);
    assert_int_equal(
        try_open(f, "99999999-2222-4333-8444-555555555555", 0, &detail),
        MR_E_FOREIGN);
    assert_non_null(strstr(detail.text, FX_UUID));
    open_db(f);
}

/* A gap is our own mistake, and changes nothing. */
static void gap_is_refused(void **state)
{
    struct fixture *f = *state;
    struct logdb_entry e = {5, 1, 1, mr_slice_str("x")};

    append_many(f, 1, 3, 1);
    assert_int_equal(logdb_begin(f->db), MR_OK);
    logdb_append(f->db, &e);
    assert_int_equal(logdb_commit(f->db), MR_E_INVALID);
    assert_int_equal(logdb_state(f->db)->last, 3);
}

/* Full: the transaction has not happened, and space that is freed is used. */
static void full_map_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct logdb_entry e = {1, 1, 1, {NULL, 0}};
    enum mr_err err = MR_OK;
    static char text[2000];
    uint64_t last;

    close_db(f);
    assert_int_equal(try_open(f, FX_UUID, 64 * PAGE, NULL), MR_OK);
    e.data = mr_slice(text, sizeof text);
    while (err == MR_OK) {
        last = e.index - 1;
        assert_int_equal(logdb_begin(f->db), MR_OK);
        logdb_set_vote(f->db, e.index, 1);
        logdb_append(f->db, &e);
        err = logdb_commit(f->db);
        e.index++;
    }
    assert_int_equal(err, MR_E_NOSPACE);
    assert_int_equal(logdb_state(f->db)->last, last);
    assert_int_equal(logdb_state(f->db)->term, last);
    assert_int_equal(logdb_begin(f->db), MR_OK);
    (void)logdb_compact(f->db, 20, 20);
    assert_int_equal(logdb_commit(f->db), MR_OK);
    assert_int_equal(logdb_touch(f->db), MR_OK);
    for (unsigned i = 0; i < 3; i++) {
        e.index = logdb_state(f->db)->last + 1;
        assert_int_equal(logdb_begin(f->db), MR_OK);
        logdb_append(f->db, &e);
        assert_int_equal(logdb_commit(f->db), MR_OK);
    }
}

/* No memory while opening: an error, and nothing leaks. */
static void open_fails_cleanly_without_memory(void **state)
{
    struct fixture *f = *state;
    struct logdb_snapshot s = {3, 1, 1, 1, mr_slice_str("conf")};
    enum mr_err err = MR_E_NOMEM;

    append_many(f, 1, 3, 1);
    assert_int_equal(logdb_begin(f->db), MR_OK);
    logdb_set_snapshot(f->db, &s);
    assert_int_equal(logdb_commit(f->db), MR_OK);
    close_db(f);
    for (uint64_t n = 0; err != MR_OK; n++) {
        mr_mem_fail_after(n);
        err = try_open(f, FX_UUID, 0, NULL);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        assert_true(n < 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fresh_log_is_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(identity_is_born_with_the_folder, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(commits_survive_a_restart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(append_truncates_what_it_overwrites,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(large_entries_are_read_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(reading_is_bounded_by_bytes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(compaction_goes_in_steps, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(reset_goes_on_behind_the_snapshot,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(dropped_space_is_used_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(records_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(
            crash_before_the_meta_page_keeps_the_old_state, setup, teardown),
        cmocka_unit_test_setup_teardown(restarts_find_what_was_committed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(damage_never_shortens_the_history,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(cut_file_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_meta_page_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(foreign_folder_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(gap_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(full_map_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(open_fails_cleanly_without_memory,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
