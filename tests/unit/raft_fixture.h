/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of its own for a test, and its files. */
#ifndef MR_TEST_RAFT_FIXTURE_H
#define MR_TEST_RAFT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"

#define FIXTURE __attribute__((unused)) static

#define FX_UUID "11111111-2222-4333-8444-555555555555"

FIXTURE void fx_temp_dir(char out[64])
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(out, 64, "%s/mrraftXXXXXX",
                   tmp == NULL || strlen(tmp) > 40 ? "/tmp" : tmp);
    assert_non_null(mkdtemp(out));
}

/* Remove @dir and what is in it. */
FIXTURE void fx_remove_dir(const char *dir)
{
    struct dirent *entry;
    DIR *d = opendir(dir);

    while (d != NULL && (entry = readdir(d)) != NULL) {
        char path[512];
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            fx_remove_dir(path);
        } else {
            (void)unlink(path);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    (void)rmdir(dir);
}

/* The whole file, to be released with mr_free(). */
FIXTURE uint8_t *fx_read_file(const char *path, size_t *out_len)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    uint8_t *data;

    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    data = mr_malloc((size_t)st.st_size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)st.st_size, f), (size_t)st.st_size);
    (void)fclose(f);
    *out_len = (size_t)st.st_size;
    return data;
}

FIXTURE void fx_write_file(const char *path, const uint8_t *data, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

#endif /* MR_TEST_RAFT_FIXTURE_H */
