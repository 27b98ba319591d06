/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over its stored inputs, without libFuzzer.
 *
 * Takes files and folders; a folder stands for the files in it. Every fuzz
 * target must also live with no input at all, so that one is always run.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Give the file's content to the target, in a block of exactly its size, so
 * that AddressSanitizer sees a read past the end. Returns 0, or -1. */
static int run_file(const char *path)
{
    struct stat st;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &st) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        if (file != NULL) {
            fclose(file);
        }
        return -1;
    }
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size > 0 ? size : 1);
    if (data == NULL || fread(data, 1, size, file) != size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        free(data);
        fclose(file);
        return -1;
    }
    fclose(file);
    /* Printed first: the last line of a crashed run names the input. */
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
}

/* Run every file of the folder, in the order of their names. */
static int run_folder(const char *path)
{
    struct dirent **entries;
    int rv = 0;
    int n_entries = scandir(path, &entries, NULL, alphasort);
    if (n_entries < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    for (int i = 0; i < n_entries; i++) {
        char file[4096];
        int len =
            snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            if (len < 0 || (size_t)len >= sizeof(file) || run_file(file) != 0) {
                rv = -1;
            }
        }
        free(entries[i]);
    }
    free(entries);
    return rv;
}

int main(int argc, char **argv)
{
    static const uint8_t nothing[1];
    int rv = 0;
    LLVMFuzzerTestOneInput(nothing, 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
            rv = -1;
        } else if (S_ISDIR(st.st_mode)) {
            rv |= run_folder(argv[i]);
        } else {
            rv |= run_file(argv[i]);
        }
    }
    return rv == 0 ? 0 : 1;
}
