/* SPDX-License-Identifier: Apache-2.0 */
/* raft/snapshot: a file is read back whole or refused. */
#include "raft/snapshot.h"

#include "raft_fixture.h"

#define STATE_BYTES (3 * SNAPSHOT_BLOCK_MAX + 1000)

struct fixture {
    char dir[64];
    char path[128];
    uint8_t state[STATE_BYTES];
};

static int setup(void **state)
{
    struct fixture *f = mr_calloc(1, sizeof *f);

    fx_temp_dir(f->dir);
    (void)snprintf(f->path, sizeof f->path, "%s/%016x.snap", f->dir, 1);
    for (size_t i = 0; i < STATE_BYTES; i++) {
        f->state[i] = (uint8_t)(i * 31 + i / 251);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fx_remove_dir(f->dir);
    mr_free(f);
    return 0;
}

static void write_snapshot(struct fixture *f, uint64_t file, size_t len)
{
    struct snapshot_head head = {1000 + file, 7};
    struct snapshot_writer *w;
    size_t at = 0;

    assert_int_equal(snapshot_writer_open(f->dir, file, &w), MR_OK);
    assert_int_equal(snapshot_write_head(w, head), MR_OK);
    while (at < len) {
        size_t n = len - at < 70001 ? len - at : 70001;

        assert_int_equal(snapshot_write(w, mr_slice(f->state + at, n)), MR_OK);
        at += n;
    }
    assert_int_equal(snapshot_writer_finish(w), MR_OK);
}

/* Read @file in pieces and compare with the first @len bytes of the state. */
static void expect_snapshot(struct fixture *f, uint64_t file, size_t len)
{
    struct snapshot_reader *r;
    uint8_t piece[3001];
    size_t total = 0;
    size_t n = 1;

    assert_int_equal(snapshot_reader_open(f->dir, file, &r, NULL), MR_OK);
    assert_int_equal(snapshot_reader_head(r).index, 1000 + file);
    assert_int_equal(snapshot_reader_head(r).term, 7);
    while (n != 0) {
        assert_int_equal(snapshot_read(r, piece, sizeof piece, &n), MR_OK);
        assert_true(total + n <= len);
        assert_memory_equal(piece, f->state + total, n);
        total += n;
    }
    assert_int_equal(total, len);
    assert_int_equal(snapshot_read(r, piece, sizeof piece, &n), MR_OK);
    assert_int_equal(n, 0);
    snapshot_reader_close(r);
}

/* ------------------------------------------------------------- success */

/* What was written is read, in whatever pieces, empty as well. */
static void written_state_is_read_back(void **state)
{
    struct fixture *f = *state;
    const size_t lens[] = {0, 1, SNAPSHOT_BLOCK_MAX, SNAPSHOT_BLOCK_MAX + 1,
                           STATE_BYTES};

    for (size_t i = 0; i < MR_ARRAY_LEN(lens); i++) {
        write_snapshot(f, i + 1, lens[i]);
        expect_snapshot(f, i + 1, lens[i]);
        assert_int_equal(snapshot_verify(f->dir, i + 1, NULL), MR_OK);
    }
}

/* A file that is copied raw is the same file. */
static void raw_copy_is_the_same(void **state)
{
    struct fixture *f = *state;
    struct snapshot_reader *r;
    struct snapshot_writer *w;
    uint8_t piece[5000];
    size_t n = 1;

    write_snapshot(f, 1, STATE_BYTES);
    assert_int_equal(snapshot_reader_open(f->dir, 1, &r, NULL), MR_OK);
    assert_int_equal(snapshot_writer_open(f->dir, 2, &w), MR_OK);
    while (n != 0) {
        assert_int_equal(snapshot_read_raw(r, piece, sizeof piece, &n), MR_OK);
        assert_int_equal(snapshot_write_raw(w, mr_slice(piece, n)), MR_OK);
    }
    snapshot_reader_close(r);
    assert_int_equal(snapshot_writer_finish(w), MR_OK);
    assert_int_equal(snapshot_verify(f->dir, 2, NULL), MR_OK);
}

/* A start removes what is unfinished and what is not in force. */
static void opening_the_folder_cleans_up(void **state)
{
    struct fixture *f = *state;
    struct snapshot_writer *w;
    uint64_t highest;

    write_snapshot(f, 1, 10);
    write_snapshot(f, 2, 20);
    write_snapshot(f, 9, 30);
    assert_int_equal(snapshot_writer_open(f->dir, 10, &w), MR_OK);
    assert_int_equal(snapshot_dir_open(f->dir, 2, &highest, NULL), MR_OK);
    assert_int_equal(highest, 9);
    snapshot_writer_abort(w);
    expect_snapshot(f, 2, 20);
    assert_int_equal(snapshot_verify(f->dir, 1, NULL), MR_E_NOTFOUND);
    assert_int_equal(snapshot_verify(f->dir, 9, NULL), MR_E_NOTFOUND);
}

/* ------------------------------------------------------------- failure */

/* A bit that flips anywhere is found: by the reader at the latest at the end,
 * and before any wrong byte has been given out. */
static void damage_is_found_everywhere(void **state)
{
    struct fixture *f = *state;
    uint8_t *good;
    size_t len;

    write_snapshot(f, 1, STATE_BYTES);
    good = fx_read_file(f->path, &len);
    for (size_t at = 0; at < len; at += at < 200 || at > len - 100 ? 1 : 3001) {
        enum mr_err err;

        good[at] ^= (uint8_t)(1u << (at % 8));
        fx_write_file(f->path, good, len);
        good[at] ^= (uint8_t)(1u << (at % 8));
        err = snapshot_verify(f->dir, 1, NULL);
        assert_true(err == MR_E_CORRUPT || err == MR_E_VERSION);
    }
    mr_free(good);
}

/* So is a file that ends early, or late. */
static void wrong_length_is_found(void **state)
{
    struct fixture *f = *state;
    uint8_t *good;
    size_t len;

    write_snapshot(f, 1, STATE_BYTES);
    good = fx_read_file(f->path, &len);
    for (size_t cut = 0; cut < len; cut += cut < 200 ? 7 : 4099) {
        fx_write_file(f->path, good, cut);
        assert_int_equal(snapshot_verify(f->dir, 1, NULL), MR_E_CORRUPT);
    }
    good[len] = 0;
    fx_write_file(f->path, good, len + 1);
    assert_int_equal(snapshot_verify(f->dir, 1, NULL), MR_E_CORRUPT);
    mr_free(good);
}

/* Two whole blocks that changed places. */
static void swapped_blocks_are_found(void **state)
{
    struct fixture *f = *state;
    size_t block = 16 + SNAPSHOT_BLOCK_MAX;
    uint8_t *good;
    uint8_t *bad;
    size_t len;

    write_snapshot(f, 1, STATE_BYTES);
    good = fx_read_file(f->path, &len);
    bad = fx_read_file(f->path, &len);
    memcpy(bad + SNAPSHOT_HEAD_BYTES, good + SNAPSHOT_HEAD_BYTES + block,
           block);
    memcpy(bad + SNAPSHOT_HEAD_BYTES + block, good + SNAPSHOT_HEAD_BYTES,
           block);
    fx_write_file(f->path, bad, len);
    assert_int_equal(snapshot_verify(f->dir, 1, NULL), MR_E_CORRUPT);
    mr_free(good);
    mr_free(bad);
}

/* A received file that is damaged gets no name. */
static void damaged_transfer_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct snapshot_writer *w;
    uint8_t *good;
    size_t len;

    write_snapshot(f, 1, STATE_BYTES);
    good = fx_read_file(f->path, &len);
    good[len / 2] ^= 1;
    assert_int_equal(snapshot_writer_open(f->dir, 2, &w), MR_OK);
    assert_int_equal(snapshot_write_raw(w, mr_slice(good, len)), MR_OK);
    assert_int_equal(snapshot_writer_finish(w), MR_E_CORRUPT);
    assert_int_equal(snapshot_verify(f->dir, 2, NULL), MR_E_NOTFOUND);
    mr_free(good);
}

/* A newer format is told apart from damage. */
static void newer_version_is_named(void **state)
{
    struct fixture *f = *state;
    struct snapshot_head head;
    uint8_t *good;
    size_t len;

    write_snapshot(f, 1, 10);
    good = fx_read_file(f->path, &len);
    good[8] = 2;
    assert_int_equal(snapshot_parse_head(mr_slice(good, len), &head),
                     MR_E_VERSION);
    mr_free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_state_is_read_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(raw_copy_is_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(opening_the_folder_cleans_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(damage_is_found_everywhere, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(wrong_length_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(swapped_blocks_are_found, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(damaged_transfer_leaves_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(newer_version_is_named, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
