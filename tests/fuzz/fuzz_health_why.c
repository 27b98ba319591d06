/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a ring of events. When the first byte is 0 the rest is the file
 * as it is; else the rest are records, which get their positions and checksums
 * here, so that the fuzzer gets behind them.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#include "health/mr_why.h"
#include "health/why_record.h"

#define SIZE (20 * 1024)
#define HEADER 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool match(void *arg, const struct mr_kv_event *event)
{
    size_t *sum = arg;

    *sum += strlen(event->node) + strlen(event->id) + strlen(event->service) +
            strlen(event->service_id) + strlen(event->status) +
            strlen(event->by) + strlen(event->leader);
    for (size_t i = 0; i < event->n_gaps; i++) {
        *sum += event->gaps_ms[i];
    }
    return true;
}

static void count(void *arg, const struct mr_kv_event *event)
{
    (void)match(arg, event);
}

/* Write @bytes as records: two bytes of length, then so many after the
 * checksum and the position. */
static void write_records(uint8_t *area, struct mr_slice bytes)
{
    uint64_t record[WHY_RECORD_MAX / sizeof(uint64_t)];
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;
    size_t pos = 0;

    while (left >= 2) {
        size_t len = (size_t)(at[0] << 8 | at[1]) % (WHY_RECORD_MAX - 16);
        struct why_head head;

        len = len < left - 2 ? len : left - 2;
        if (len + 16 < sizeof head || pos + WHY_RECORD_MAX > SIZE - HEADER) {
            break;
        }
        memset(record, 0, sizeof record);
        memcpy((uint8_t *)record + 16, at + 2, len);
        memcpy(&head, record, sizeof head);
        head.len = (uint16_t)(len + 16);
        memcpy(record, &head, sizeof head);
        why_seal(record, pos);
        memcpy(area + pos, record, len + 16);
        pos += why_round(len + 16);
        at += 2 + len;
        left -= 2 + len;
    }
}

/* Make the file @path a ring with the input's content. */
static void make_file(const char *path, int fd, struct mr_slice input)
{
    static uint8_t file[SIZE];
    const uint8_t *data = input.data;
    struct mr_why *why;
    size_t len = input.len - 1 < SIZE ? input.len - 1 : SIZE;

    memset(file, 0, sizeof file);
    if (data[0] == 0) {
        memcpy(file, data + 1, len);
    } else {
        mr_assert(mr_why_open(path, SIZE, &why, NULL) == MR_OK);
        mr_why_close(why);
        mr_assert(pread(fd, file, HEADER, 0) == HEADER);
        write_records(file + HEADER, mr_slice(data + 1, input.len - 1));
    }
    mr_assert(pwrite(fd, file, sizeof file, 0) == (ssize_t)sizeof file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mr_kv_event event = {.node = "n",
                                             .id = "i",
                                             .service = "s",
                                             .status = "",
                                             .by = "",
                                             .leader = "",
                                             .revision = UINT64_MAX,
                                             .time_ms = UINT64_MAX};
    int fd = memfd_create("ring", 0);
    char path[32];
    struct mr_why *why;
    uint64_t since;
    size_t sum = 0;
    struct mr_why_query query = {match, count, &sum, 5};

    mr_assert(fd >= 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (size > 0) {
        make_file(path, fd, mr_slice(data, size));
    }
    mr_assert(mr_why_open(path, SIZE, &why, NULL) == MR_OK);
    mr_assert(mr_why_find(why, &query, &since) == MR_OK);
    sum = 0;
    for (int i = 0; i < 300; i++) {
        mr_why_add(why, &event);
    }
    mr_assert(mr_why_find(why, &query, &since) == MR_OK);
    mr_assert(sum > 0);
    mr_why_close(why);
    (void)close(fd);
    return 0;
}
