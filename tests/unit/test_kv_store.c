/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing: what is trusted, what is emptied, what is refused. */
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/unit/kv_fixture.h"

static uint64_t count_keys(struct fixture *f)
{
    struct mr_kv_stats stats;

    mr_kv_stats(f->kv, &stats);
    return stats.keys;
}

static void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static enum mr_err try_open(struct fixture *f, struct mr_detail *detail)
{
    struct mr_kv_options o = {.dir = f->dir, .boot_id = "boot"};

    return mr_kv_open(&o, &f->kv, detail);
}

/* Write one key in a process that ends without closing the store. */
static void die_with_a_key(struct fixture *f)
{
    pid_t pid;
    int status;

    mr_kv_close(f->kv);
    f->kv = NULL;
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fx_open_as(f, "boot");
        (void)fx_put(f, "a", "1");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ------------------------------------------------------------ success */

/* A clean close keeps everything, whatever the boot ID. */
static void closed_store_is_trusted_after_reboot(void **state)
{
    struct fixture *f = *state;
    struct mr_hash128 digest;

    (void)fx_put(f, "a", "1");
    digest = mr_kv_digest(f->kv, NULL);
    mr_kv_close(f->kv);
    fx_open_as(f, "another boot");
    assert_int_equal(count_keys(f), 1);
    assert_int_equal(mr_kv_revision(f->kv), 2);
    assert_int_equal(mr_kv_applied(f->kv, NULL), 1);
    assert_int_equal(mr_kv_digest(f->kv, NULL).low, digest.low);
    fx_check_digest(f);
}

/* A process that died on this boot left everything that it committed. */
static void killed_store_is_trusted_on_the_same_boot(void **state)
{
    struct fixture *f = *state;

    die_with_a_key(f);
    fx_open_as(f, "boot");
    assert_int_equal(count_keys(f), 1);
    fx_check_digest(f);
}

/* After a reboot without a clean close the store starts empty. */
static void killed_store_is_emptied_after_reboot(void **state)
{
    struct fixture *f = *state;

    die_with_a_key(f);
    fx_open_as(f, "another boot");
    assert_int_equal(count_keys(f), 0);
    assert_int_equal(mr_kv_applied(f->kv, NULL), 0);
}

/* Without a boot ID only a clean close is trusted. */
static void unknown_boot_is_not_trusted(void **state)
{
    struct fixture *f = *state;

    die_with_a_key(f);
    fx_open_as(f, "");
    assert_int_equal(count_keys(f), 0);
}

/* Entries without a command move the raft position and nothing else. */
static void empty_batch_moves_position_only(void **state)
{
    struct fixture *f = *state;
    struct mr_hash128 before = mr_kv_digest(f->kv, NULL);
    uint64_t index;
    uint64_t term;

    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    assert_int_equal(mr_kv_batch_commit(f->kv, 7, 3), MR_OK);
    assert_int_equal(mr_kv_applied(f->kv, &term), 7);
    assert_int_equal(term, 3);
    assert_int_equal(mr_kv_digest(f->kv, &index).low, before.low);
    assert_int_equal(index, 7);
    assert_int_equal(mr_kv_revision(f->kv), 1);
}

/* A view shows one state, however much is committed meanwhile. */
static void view_does_not_see_later_batches(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    const Mr__Key *key;

    (void)fx_put(f, "a", "1");
    view = fx_view(f);
    (void)fx_put(f, "a", "2");
    assert_int_equal(mr_kv_key_get(view, mr_slice_str("a"), &key, NULL), MR_OK);
    assert_memory_equal(key->value.data, "1", 1);
    assert_int_equal(mr_kv_view_revision(view), 2);
    mr_kv_view_end(view);
}

/* ------------------------------------------------------------ failure */

/* A file that is no store is refused, and the message says what to do. */
static void foreign_file_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mr_detail detail = {""};
    char junk[9000];

    memset(junk, 'x', sizeof junk);
    junk[sizeof junk - 1] = '\0';
    mr_kv_close(f->kv);
    f->kv = NULL;
    write_file(f, "state.mdb", junk);
    assert_int_equal(try_open(f, &detail), MR_E_CORRUPT);
    assert_non_null(strstr(detail.text, "delete this file"));
}

/* A file that lost its end is refused instead of crashing later. */
static void truncated_file_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mr_detail detail = {""};
    char path[128];
    int i;

    for (i = 0; i < 50; i++) {
        (void)fx_put(f, i % 2 == 0 ? "a" : "b", "a value");
    }
    mr_kv_close(f->kv);
    f->kv = NULL;
    (void)snprintf(path, sizeof path, "%s/state.mdb", f->dir);
    assert_int_equal(truncate(path, 3 * 4096), 0);
    assert_int_equal(try_open(f, &detail), MR_E_CORRUPT);
}

/* Overwrite the LOCAL row by @row of @len bytes. */
static void forge_local(struct fixture *f, const void *row, size_t len)
{
    char path[128];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    uint8_t table = 1;
    MDB_val k = {1, &table};
    MDB_val v = {len, (void *)(uintptr_t)row};

    mr_kv_close(f->kv);
    f->kv = NULL;
    (void)snprintf(path, sizeof path, "%s/state.mdb", f->dir);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* A store of a newer version is refused as such. */
static void newer_version_is_refused(void **state)
{
    static const uint8_t row[8] = {0, 0, 0, 0, 0, 0, 0, 2};
    struct fixture *f = *state;
    struct mr_detail detail = {""};

    forge_local(f, row, sizeof row);
    assert_int_equal(try_open(f, &detail), MR_E_VERSION);
    assert_non_null(strstr(detail.text, "newer version"));
}

/* Counters that fail their own hash are refused. */
static void damaged_counters_are_refused(void **state)
{
    static const uint8_t row[48] = {0, 0, 0, 0, 0, 0, 0, 1, 9};
    struct fixture *f = *state;
    struct mr_detail detail = {""};

    forge_local(f, row, sizeof row);
    assert_int_equal(try_open(f, &detail), MR_E_CORRUPT);
}

/* A folder that cannot be made is an error of the system. */
static void missing_parent_is_an_io_error(void **state)
{
    struct mr_kv_options o = {.dir = "/nonexistent/a/b", .boot_id = "boot"};
    struct mr_detail detail = {""};
    struct mr_kv *kv = NULL;

    (void)state;
    assert_int_equal(mr_kv_open(&o, &kv, &detail), MR_E_IO);
    assert_null(kv);
}

/* A store that is full fails the batch, shows nothing of it, and stays
 * readable. */
static void full_store_fails_the_batch(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_options o = {
        .dir = f->dir, .boot_id = "boot", .map_size = 256 * 1024};
    enum mr_err err = MR_OK;
    struct mr_kv_result r;
    struct mr_buf b = MR_BUF_INIT;
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    uint8_t value[20000] = {0};
    char key[2] = "a";

    mr_kv_close(f->kv);
    fx_remove_dir(f->dir);
    assert_int_equal(mr_kv_open(&o, &f->kv, NULL), MR_OK);
    f->index = 0;
    (void)fx_put(f, "first", "1");
    put.value = (ProtobufCBinaryData){sizeof value, value};
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    for (; err == MR_OK; key[0]++) {
        put.key = fx_bytes(key);
        mr_buf_reset(&b);
        mr_kv_command_encode(&cmd, &b);
        err = mr_kv_apply(f->kv, mr_buf_slice(&b), &r);
    }
    assert_int_equal(err, MR_E_NOSPACE);
    assert_int_equal(mr_kv_batch_commit(f->kv, 2, 1), MR_E_NOSPACE);
    assert_int_equal(count_keys(f), 1);
    assert_int_equal(mr_kv_applied(f->kv, NULL), 1);
    fx_check_digest(f);
    mr_buf_deinit(&b);
}

/* A commit that the disk refuses is reported; what was committed before stays
 * readable, now and after it is opened again. */
static void refused_commit_is_reported(void **state)
{
    struct fixture *f = *state;
    struct mr_buf b = MR_BUF_INIT;
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    uint8_t value[100000] = {0};
    struct rlimit old;
    struct rlimit tight;
    struct mr_kv_result r;
    enum mr_err err;

    (void)fx_put(f, "first", "1");
    put.key = fx_bytes("big");
    put.value = (ProtobufCBinaryData){sizeof value, value};
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    mr_kv_command_encode(&cmd, &b);
    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    assert_int_equal(mr_kv_apply(f->kv, mr_buf_slice(&b), &r), MR_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 64 * 1024;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    err = mr_kv_batch_commit(f->kv, 2, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    /* LMDB calls a write that was cut short an I/O error. */
    assert_in_range(err, MR_E_IO, MR_E_NOSPACE);
    assert_int_equal(count_keys(f), 1);
    assert_int_equal(mr_kv_applied(f->kv, NULL), 1);
    mr_kv_close(f->kv);
    fx_open_as(f, "boot");
    assert_int_equal(count_keys(f), 1);
    fx_check_digest(f);
    mr_buf_deinit(&b);
}

/* Opening fails cleanly whichever allocation fails. */
static void open_survives_a_lack_of_memory(void **state)
{
    struct fixture *f = *state;
    uint64_t n;

    mr_kv_close(f->kv);
    f->kv = NULL;
    for (n = 0; n < 100; n++) {
        enum mr_err err;

        mr_mem_fail_after(n);
        err = try_open(f, NULL);
        mr_mem_fail_after(UINT64_MAX);
        if (err == MR_OK) {
            return;
        }
        assert_int_equal(err, MR_E_NOMEM);
    }
    fail_msg("never opened");
}

/* More views than the pool keeps are given out and taken back. */
static void many_views_at_once(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *views[200];
    size_t i;

    for (i = 0; i < MR_ARRAY_LEN(views); i++) {
        views[i] = fx_view(f);
    }
    for (i = 0; i < MR_ARRAY_LEN(views); i++) {
        mr_kv_view_end(views[i]);
    }
    mr_kv_view_end(NULL);
    mr_kv_view_end(fx_view(f));
}

/* Beyond the bound of readers a view is refused, not waited for. */
static void too_many_views_are_refused(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view **views = calloc(5000, sizeof(struct mr_kv_view *));
    enum mr_err err = MR_OK;
    size_t n = 0;

    assert_non_null(views);
    while (err == MR_OK && n < 5000) {
        err = mr_kv_view_begin(f->kv, &views[n]);
        n += err == MR_OK ? 1 : 0;
    }
    assert_int_equal(err, MR_E_BUSY);
    while (n > 0) {
        mr_kv_view_end(views[--n]);
    }
    free(views);
    mr_kv_view_end(fx_view(f));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(closed_store_is_trusted_after_reboot),
        TEST(killed_store_is_trusted_on_the_same_boot),
        TEST(killed_store_is_emptied_after_reboot),
        TEST(unknown_boot_is_not_trusted),
        TEST(empty_batch_moves_position_only),
        TEST(view_does_not_see_later_batches),
        TEST(foreign_file_is_refused),
        TEST(truncated_file_is_refused),
        TEST(newer_version_is_refused),
        TEST(damaged_counters_are_refused),
        TEST(missing_parent_is_an_io_error),
        TEST(full_store_fails_the_batch),
        TEST(refused_commit_is_reported),
        TEST(open_survives_a_lack_of_memory),
        TEST(many_views_at_once),
        TEST(too_many_views_are_refused),
    };

    return cmocka_run_group_tests_name("kv_store", tests, NULL, NULL);
}
