/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a snapshot file: read to the end or refused. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "raft/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char dir[] = "/tmp/fuzzsnapXXXXXX";
    struct snapshot_head head;
    char path[64];
    FILE *file;

    if (snapshot_parse_head(mr_slice(data, size), &head) != MR_OK) {
        return 0;
    }
    if (mkdtemp(dir) == NULL) {
        abort();
    }
    (void)snprintf(path, sizeof path, "%s/%016x.snap", dir, 1);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size ||
        fclose(file) != 0) {
        abort();
    }
    (void)!snapshot_verify(dir, 1, NULL);
    (void)unlink(path);
    (void)rmdir(dir);
    return 0;
}
