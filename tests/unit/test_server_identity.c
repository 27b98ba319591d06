/* SPDX-License-Identifier: Apache-2.0 */
/* server/identity: the data folder, its lock and the node ID in it. */
#include "server/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

#define ID_A "11111111-2222-3333-4444-555555555555"
#define ID_B "99999999-2222-3333-4444-555555555555"

struct fixture {
    char parent[32];
    char dir[64];
    struct server_identity id;
    struct mr_detail detail;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return -1;
    }
    (void)snprintf(f->parent, sizeof f->parent, "/tmp/mr-test-XXXXXX");
    if (mkdtemp(f->parent) == NULL) {
        free(f);
        return -1;
    }
    (void)snprintf(f->dir, sizeof f->dir, "%s/a/b", f->parent);
    f->id.lock_fd = -1;
    *state = f;
    return 0;
}

static void remove_in(const struct fixture *f, const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", f->parent, name);
    (void)remove(path); /* It need not be there. */
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    server_identity_close(&f->id);
    remove_in(f, "a/b/lock");
    remove_in(f, "a/b/node-id");
    remove_in(f, "a/b");
    remove_in(f, "a");
    remove_in(f, "");
    free(f);
    return 0;
}

static enum mr_err reopen(struct fixture *f, const char *wanted)
{
    server_identity_close(&f->id);
    return server_identity_open(f->dir, wanted, mr_random_system(), &f->id,
                                &f->detail);
}

static void write_id(const struct fixture *f, const char *text)
{
    char path[128];
    FILE *out;

    (void)snprintf(path, sizeof path, "%s/node-id", f->dir);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* ---- success ---- */

/* A new folder is private and gets an ID that stays. */
static void id_is_made_once_and_kept(void **state)
{
    struct fixture *f = *state;
    char first[MR_UUID_LEN + 1];
    struct stat st;

    assert_int_equal(reopen(f, NULL), MR_OK);
    assert_true(mr_uuid_valid(f->id.node_id));
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    memcpy(first, f->id.node_id, sizeof first);
    assert_int_equal(reopen(f, NULL), MR_OK);
    assert_string_equal(f->id.node_id, first);
}

/* A wanted ID is given to a new folder, and accepted by the same one. */
static void wanted_id_is_taken_by_a_new_folder(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(reopen(f, ID_A), MR_OK);
    assert_string_equal(f->id.node_id, ID_A);
    assert_int_equal(reopen(f, ID_A), MR_OK);
}

/* A temporary folder is gone with its contents when it is closed. */
static void temporary_folder_is_removed(void **state)
{
    struct fixture *f = *state;
    char dir[128];

    assert_int_equal(server_identity_open(NULL, NULL, mr_random_system(),
                                          &f->id, &f->detail),
                     MR_OK);
    (void)snprintf(dir, sizeof dir, "%s", f->id.dir);
    assert_int_equal(access(dir, F_OK), 0);
    server_identity_close(&f->id);
    assert_int_equal(access(dir, F_OK), -1);
}

/* ---- failure ---- */

/* Two processes can't have one folder; the message names folder and pid. */
static void folder_in_use_is_refused(void **state)
{
    struct fixture *f = *state;
    struct server_identity other;
    char pid[32];

    assert_int_equal(reopen(f, NULL), MR_OK);
    assert_int_equal(server_identity_open(f->dir, NULL, mr_random_system(),
                                          &other, &f->detail),
                     MR_E_INUSE);
    (void)snprintf(pid, sizeof pid, "(pid %ld)", (long)getpid());
    assert_non_null(strstr(f->detail.text, f->dir));
    assert_non_null(strstr(f->detail.text, pid));
}

/* A folder does not change hands. */
static void folder_of_another_server_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(reopen(f, ID_A), MR_OK);
    assert_int_equal(reopen(f, ID_B), MR_E_FOREIGN);
    assert_non_null(strstr(f->detail.text, ID_A));
    assert_int_equal(reopen(f, NULL), MR_OK);
    assert_string_equal(f->id.node_id, ID_A);
}

/* A damaged ID is not replaced by a new one. */
static void damaged_id_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(reopen(f, NULL), MR_OK);
    write_id(f, "not a uuid\n");
    assert_int_equal(reopen(f, NULL), MR_E_CORRUPT);
    write_id(f, "");
    assert_int_equal(reopen(f, NULL), MR_E_CORRUPT);
}

/* A file in place of the folder is named. */
static void file_in_place_of_the_folder_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(reopen(f, NULL), MR_OK);
    (void)snprintf(f->dir, sizeof f->dir, "%s/a/b/node-id", f->parent);
    assert_int_equal(reopen(f, NULL), MR_E_IO);
    assert_non_null(strstr(f->detail.text, "is not a directory"));
}

/* Only a folder with a node ID is found. */
static void folder_without_a_server_is_not_found(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(server_identity_find(f->dir, &f->id, &f->detail),
                     MR_E_NOTFOUND);
    assert_int_equal(reopen(f, ID_A), MR_OK);
    server_identity_close(&f->id);
    assert_int_equal(server_identity_find(f->dir, &f->id, &f->detail), MR_OK);
    assert_string_equal(f->id.node_id, ID_A);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(id_is_made_once_and_kept),
        TEST(wanted_id_is_taken_by_a_new_folder),
        TEST(temporary_folder_is_removed),
        TEST(folder_in_use_is_refused),
        TEST(folder_of_another_server_is_refused),
        TEST(damaged_id_is_refused),
        TEST(file_in_place_of_the_folder_is_refused),
        TEST(folder_without_a_server_is_not_found),
    };

    return cmocka_run_group_tests_name("server_identity", tests, NULL, NULL);
}
