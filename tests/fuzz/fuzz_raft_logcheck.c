/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the log's file: the check before LMDB neither reads outside of
 * it nor loops. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/logcheck.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char dir[] = "/tmp/fuzzlogXXXXXX";
    char path[64];
    FILE *file;

    if (mkdtemp(dir) == NULL) {
        abort();
    }
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size ||
        fclose(file) != 0) {
        abort();
    }
    (void)!logcheck(dir, NULL);
    (void)unlink(path);
    (void)rmdir(dir);
    return 0;
}
